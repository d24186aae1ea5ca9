//! Mesh files: whatever is taken can be written, and what was written says the same.

#![no_main]

use kit::begin;
use meshlink::spec::Mesh;

libfuzzer_sys::fuzz_target!(
    init: begin("spec", |seeds| {
        seeds.quoted("src/spec", |text| text.contains(':').then(|| text.into()));
        seeds.quoted("src/spec.rs", |text| text.contains(':').then(|| text.into()));
        if let Ok(text) = Mesh::named(&["east=eks-1".to_owned(), "west".to_owned()]).map(|mesh| mesh.to_yaml()) {
            seeds.add(text.expect("a mesh file"));
        }
    }),
    |data: &[u8]| {
        let Ok(text) = std::str::from_utf8(data) else {
            return;
        };
        let names: Vec<String> = text.lines().take(8).map(str::to_owned).collect();
        if let Ok(mesh) = Mesh::named(&names) {
            assert_eq!(again(&mesh), mesh);
        }
        match Mesh::read(text, "mesh.yaml".as_ref()) {
            Ok(mesh) => assert_eq!(again(&mesh), mesh),
            Err(problems) => assert!(!problems.to_string().is_empty()),
        }
    }
);

fn again(mesh: &Mesh) -> Mesh {
    let text = mesh.to_yaml().expect("a mesh can be written");
    Mesh::read(&text, "mesh.yaml".as_ref()).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}
