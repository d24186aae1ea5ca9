//! The archive: files in a `.tar.gz`, bounded when it is written and when it is read. What is read may be anybody's.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::{Component, Path},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};

/// What is read of an archive at most: bytes as it is, bytes unpacked, bytes of one file, files, and folders above one.
const PACKED: u64 = 256 << 20;
const UNPACKED: u64 = 512 << 20;
const FILE: u64 = 64 << 20;
const FILES: usize = 20_000;
const DEPTH: usize = 8;

/// An archive is not one of ours, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It cannot be read.
    #[error("cannot be read as an archive")]
    Read(#[source] io::Error),
    /// It is larger than any bundle.
    #[error("{0}")]
    TooMuch(String),
    /// It has something that no bundle has.
    #[error("{path:?} in it is {what}")]
    Odd {
        /// Where.
        path: String,
        /// What is odd about it.
        what: &'static str,
    },
    /// It lacks something that every bundle has.
    #[error("{0} is not in it: it is no bundle of meshlink's")]
    Lacks(&'static str),
    /// A part is not what it should be.
    #[error("{path} in it is not what meshlink writes")]
    Part {
        /// Which.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The mesh in it is none.
    #[error("the mesh in it is not valid: {0}")]
    Mesh(String),
    /// It is of another time.
    #[error("it has format {found}, and this meshlink reads {known}")]
    Format {
        /// Its format.
        found: u64,
        /// What this program reads.
        known: u64,
    },
}

/// Packs files. They are the same bytes whenever they are packed.
pub(super) fn pack(files: &BTreeMap<String, Vec<u8>>, seconds: u64) -> io::Result<Vec<u8>> {
    let encoder = GzEncoder::new(Vec::new(), Compression::default());
    let mut builder = tar::Builder::new(encoder);
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(seconds);
        builder.append_data(&mut header, path, bytes.as_slice())?;
    }
    builder.into_inner()?.finish()
}

/// Unpacks the files of which the names are wanted, into memory.
pub(super) fn unpack(
    file: impl io::Read,
    wanted: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let unpacked = GzDecoder::new(file.take(PACKED)).take(UNPACKED + 1);
    let mut archive = tar::Archive::new(unpacked);
    let mut files = BTreeMap::new();
    let (mut seen, mut bytes) = (0, 0);
    for entry in archive.entries().map_err(Error::Read)? {
        let entry = entry.map_err(Error::Read)?;
        seen += 1;
        let size = entry.size();
        bytes += size;
        let path = name(&entry.path().map_err(Error::Read)?)?;
        let odd = |what| Error::Odd {
            path: path.clone(),
            what,
        };
        match entry.header().entry_type() {
            tar::EntryType::Regular => {}
            tar::EntryType::Directory => continue,
            _ => return Err(odd("a link or no file at all")),
        }
        match () {
            () if seen > FILES => {
                return Err(Error::TooMuch(format!("it has more than {FILES} files")));
            }
            () if size > FILE => return Err(odd("larger than 64 MiB")),
            () if bytes > UNPACKED => {
                return Err(Error::TooMuch("unpacked it is larger than 512 MiB".into()));
            }
            () if files.contains_key(&path) => return Err(odd("there twice")),
            () => {}
        }
        if wanted(&path) {
            let mut content = vec![];
            let mut entry = entry.take(FILE);
            entry.read_to_end(&mut content).map_err(Error::Read)?;
            files.insert(path, content);
        }
    }
    Ok(files)
}

/// The name of a file within it: relative, without a way out.
fn name(path: &Path) -> Result<String, Error> {
    let odd = |what| Error::Odd {
        path: path.display().to_string(),
        what,
    };
    let text = path.to_str().ok_or_else(|| odd("no text"))?;
    let plain = path.components().all(|c| matches!(c, Component::Normal(_)));
    match () {
        () if !plain || text.is_empty() => Err(odd("a path that leads out of it")),
        () if path.components().count() > DEPTH => Err(odd("below too many folders")),
        () if text.len() > 512 => Err(odd("a name that is too long")),
        () => Ok(text.trim_end_matches('/').to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, kind, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            // As somebody writes it who does not go by the rules.
            let name = &mut header.as_old_mut().name;
            name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, *bytes).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let files: BTreeMap<_, _> = [
            ("bundle.json".to_owned(), b"{}".to_vec()),
            (
                format!("members/{}/x.json", "n".repeat(120)),
                vec![7; 100_000],
            ),
        ]
        .into();
        let bytes = pack(&files, 1).unwrap();
        assert_eq!(bytes, pack(&files, 1).unwrap());
        assert_eq!(unpack(bytes.as_slice(), |_| true).unwrap(), files);
        assert_eq!(
            unpack(bytes.as_slice(), |p| p == "bundle.json")
                .unwrap()
                .len(),
            1
        );
    }

    #[test]
    fn a_hostile_archive_is_refused_with_its_cause() {
        let regular = tar::EntryType::Regular;
        let deep = "a/".repeat(20) + "x";
        for (entries, cause) in [
            (vec![("../x", regular, b"x".as_slice())], "leads out of it"),
            (vec![("/etc/x", regular, b"x")], "leads out of it"),
            (vec![("a/../../x", regular, b"x")], "leads out of it"),
            (vec![(deep.as_str(), regular, b"x")], "too many folders"),
            (vec![("x", tar::EntryType::Symlink, b"")], "a link"),
            (vec![("x", tar::EntryType::Link, b"")], "a link"),
            (vec![("x", tar::EntryType::Fifo, b"")], "a link"),
            (
                vec![("x", regular, b"1"), ("x", regular, b"2")],
                "there twice",
            ),
        ] {
            let error = unpack(packed(&entries).as_slice(), |_| true).unwrap_err();
            assert!(error.to_string().contains(cause), "{error}");
        }
        for bytes in [
            b"".as_slice(),
            b"no archive at all",
            &packed(&[("x", regular, b"1")])[..40],
        ] {
            unpack(bytes, |_| true).unwrap_err();
        }
    }

    #[test]
    fn what_unpacks_to_much_more_is_not_unpacked() {
        let mut header = tar::Header::new_gnu();
        header.set_size(FILE + 1);
        header.set_path("x").unwrap();
        header.set_cksum();
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        builder
            .append(&header, io::repeat(0).take(FILE + 1))
            .unwrap();
        let bytes = builder.into_inner().unwrap().finish().unwrap();
        assert!(bytes.len() < 1 << 20);
        let error = unpack(bytes.as_slice(), |_| true).unwrap_err();
        assert!(error.to_string().contains("larger than 64 MiB"), "{error}");
    }
}
