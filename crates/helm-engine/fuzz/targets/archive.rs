//! Archives: bytes as they come, and tar behind a proper gzip with its checksums mended, so that more than the first check is met.

#![no_main]

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use helm_engine::Chart;
use helm_engine_fuzz::begin;

/// The size of a tar header, and of what everything is padded to.
const BLOCK: usize = 512;

libfuzzer_sys::fuzz_target!(
    init: begin("archive", |seeds| {
        let inner = gzipped(&packed(&[("sub/Chart.yaml", b"name: sub\nversion: 1.0.0\n")]));
        for files in [
            vec![("app/Chart.yaml", b"name: app\nversion: 1.0.0\n".as_slice())],
            vec![("app/Chart.yaml", b"name: app\nversion: 1.0.0\n".as_slice()), ("app/templates/a.yaml", b"a: 1"), ("app/charts/sub.tgz", &inner)],
            vec![("app/../x", b"".as_slice())],
            vec![("/app/x", b"".as_slice())],
        ] {
            let tar = packed(&files);
            seeds.add([b"t".as_slice(), &tar].concat());
            seeds.add([b"g".as_slice(), &gzipped(&tar)].concat());
        }
        let mut long = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        let name = format!("app/{}", "long/".repeat(60));
        long.append_data(&mut header, name, b"xy".as_slice()).expect("a tar");
        seeds.add([b"t".as_slice(), &long.into_inner().expect("a tar")].concat());
    }),
    |data: &[u8]| {
        let Some((kind, rest)) = data.split_first() else {
            return;
        };
        let _ = match kind {
            b'g' => Chart::from_archive(rest),
            _ => Chart::from_archive(&gzipped(&mended(rest))),
        };
    }
);

fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, *data).expect("a tar");
    }
    builder.into_inner().expect("a tar")
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(bytes).expect("a gzip");
    encoder.finish().expect("a gzip")
}

/// The same tar with the checksum right wherever a header stands.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut tar = bytes.to_vec();
    let mut at = 0_usize;
    while let Some(block) = at.checked_add(BLOCK).and_then(|end| tar.get_mut(at..end)) {
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        let size = header.entry_size().unwrap_or_default();
        let Some(next) = usize::try_from(size).ok().and_then(|size| {
            size.checked_next_multiple_of(BLOCK)?
                .checked_add(at + BLOCK)
        }) else {
            break;
        };
        at = next;
    }
    tar
}
