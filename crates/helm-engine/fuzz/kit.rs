//! What fuzz targets share: inputs of several parts, charts made of them, and what to begin with.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use helm_engine::{Capabilities, Chart, Error, File, Options, Release, Rendered, render_with};
use serde_json::{Value, json};

/// Stands on a line of its own between the parts of an input.
pub const PART: &str = "%%";

/// The parts of an input that is text, as many as were asked for; missing ones are empty.
pub fn parts<const N: usize>(data: &[u8]) -> Option<[&str; N]> {
    let text = std::str::from_utf8(data).ok()?;
    let mut parts = text.splitn(N, "\n%%\n");
    Some(std::array::from_fn(|_| parts.next().unwrap_or_default()))
}

/// An input made of parts.
pub fn joined(parts: &[&str]) -> Vec<u8> {
    parts.join(&format!("\n{PART}\n")).into_bytes()
}

/// A file of a chart.
pub fn file(name: &str, text: &str) -> File {
    File::new(name, text)
}

/// Renders with an answer to everything a template may ask, so that nothing is refused for want of one.
pub fn rendered(chart: &Chart, values: &Value) -> Result<Rendered, Error> {
    let lookup = |version: &str, kind: &str, namespace: &str, name: &str| match name {
        "none" => Err("forbidden".to_owned()),
        _ => Ok(
            json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "items": [1, -1, 1.5, null]}),
        ),
    };
    let options = Options {
        lookup: Some(&lookup),
        now: Some(1_700_000_000),
        allow_random: true,
    };
    let release = Release {
        name: "rel",
        namespace: "ns",
        revision: 2,
        is_upgrade: true,
    };
    let result = render_with(chart, values, &release, &Capabilities::default(), &options);
    // A panic while rendering comes back as an error; the hook has ended us before, unless somebody changes it.
    if let Err(error) = &result {
        let text = error.to_string();
        assert!(!text.contains("stopped unexpectedly"), "{text}");
    }
    result
}

/// Writes what a target begins with, and ends the program, where the environment names a folder for it.
pub fn begin(target: &str, make: impl Fn(&mut Seeds)) {
    let Some(folder) = std::env::var_os("FUZZ_SEEDS") else {
        return;
    };
    let mut seeds = Seeds::default();
    make(&mut seeds);
    seeds.write(&PathBuf::from(folder));
    println!("{target}: {} seeds", seeds.inputs.len());
    std::process::exit(0);
}

/// Inputs to begin with.
#[derive(Default)]
pub struct Seeds {
    inputs: BTreeSet<Vec<u8>>,
}

impl Seeds {
    /// Adds an input.
    pub fn add(&mut self, input: impl Into<Vec<u8>>) {
        self.inputs.insert(input.into());
    }

    /// Every text that stands in quotes in a Rust source, or in those below a folder: tests are full of telling ones.
    pub fn quoted(&mut self, path: impl AsRef<Path>, make: impl Fn(&str) -> Option<Vec<u8>>) {
        for source in sources(path.as_ref()) {
            let source = fs::read_to_string(source).unwrap_or_default();
            let inputs = literals(&source);
            self.inputs
                .extend(inputs.iter().filter_map(|text| make(text)));
        }
    }

    fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("a folder for seeds");
        for (at, input) in self.inputs.iter().enumerate() {
            fs::write(folder.join(format!("seed-{at:05}")), input).expect("a seed");
        }
    }
}

fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = entries.flat_map(|entry| sources(&entry.path())).collect();
    all.retain(|path| path.extension().is_some_and(|end| end == "rs"));
    all
}

/// The texts in quotes of a Rust source, escapes undone. A lone quote as a character is the only thing it stumbles over.
fn literals(source: &str) -> Vec<String> {
    let source = source.replace("'\"'", "");
    let mut found = Vec::new();
    let mut chars = source.chars();
    while let Some(c) = chars.next() {
        if c != '"' {
            continue;
        }
        let mut text = String::new();
        while let Some(c) = chars.next().filter(|c| *c != '"') {
            if c != '\\' {
                text.push(c);
                continue;
            }
            match chars.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('r') => text.push('\r'),
                Some('\n') => {}
                Some('u') => {
                    let code: String = chars.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    text.extend(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32));
                }
                Some(other) => text.push(other),
                None => {}
            }
        }
        found.push(text);
    }
    found
}
