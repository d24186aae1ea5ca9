//! Archives and folders, read without trusting them.

use std::{
    fs,
    io::Read,
    path::{Component, Path},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use sha2::{Digest, Sha256};

use super::{Error, File};

/// The most bytes a chart may unpack to.
const TOTAL: u64 = 100 << 20;
/// The most bytes one of its files may have.
const EACH: u64 = 16 << 20;
/// The most files it may have.
const COUNT: usize = 10_000;

/// The SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

/// Lower-case hexadecimal.
pub(crate) use hex::encode as hex;

/// A digest over names and contents, for charts that are folders.
pub(crate) fn fingerprint(files: &[File]) -> Vec<u8> {
    let mut sorted: Vec<&File> = files.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut digest = Sha256::new();
    for file in sorted {
        digest.update(format!("{}\0{}\0", file.name, file.data.len()));
        digest.update(&file.data);
    }
    digest.finalize().to_vec()
}

/// What may still be unpacked: one archive and those inside it share it.
#[derive(Debug)]
pub(crate) struct Room {
    bytes: u64,
    files: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            bytes: TOTAL,
            files: COUNT,
        }
    }
}

/// The files of a gzipped tar archive, named without its top folder.
pub(crate) fn unpack(bytes: &[u8], origin: &str, room: &mut Room) -> Result<Vec<File>, Error> {
    let refused = |reason: String| Error::Unpack {
        origin: origin.to_owned(),
        reason,
    };
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(refused("it is not a gzipped archive".to_owned()));
    }
    let mut archive =
        tar::Archive::new(GzDecoder::new(bytes).take(room.bytes + COUNT as u64 * 1024));
    let mut files = Vec::new();
    for entry in archive
        .entries()
        .map_err(|error| refused(error.to_string()))?
    {
        let mut entry = entry.map_err(|error| refused(error.to_string()))?;
        let name = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|_| refused("a file name is not valid UTF-8".to_owned()))?;
        let kind = entry.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() || kind.is_pax_local_extensions() {
            continue;
        }
        if !kind.is_file() {
            return Err(refused(format!("{name} is a link or a special file")));
        }
        let name = inside(&name).map_err(refused)?;
        let size = entry.size();
        if size > EACH.min(room.bytes) || room.files == 0 {
            return Err(refused(format!(
                "{name} exceeds the limits ({COUNT} files, {EACH} bytes each, {TOTAL} in all)"
            )));
        }
        room.bytes -= size;
        room.files -= 1;
        let mut data = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        entry
            .read_to_end(&mut data)
            .map_err(|error| refused(format!("{name}: {error}")))?;
        files.push(File {
            name,
            data: without_mark(data),
        });
    }
    if files.is_empty() {
        Err(refused("it holds no files".to_owned()))
    } else {
        Ok(files)
    }
}

/// The name below the archive's one top folder, refused if it could lead anywhere else.
fn inside(name: &str) -> Result<String, String> {
    let unified = name.replace('\\', "/");
    let trimmed = unified.strip_prefix("./").unwrap_or(&unified);
    if trimmed.starts_with('/') || trimmed.as_bytes().get(1) == Some(&b':') {
        return Err(format!("{name:?} is an absolute path"));
    }
    let Some((_, rest)) = trimmed.split_once('/') else {
        return Err(format!("{name:?} lies outside the chart's folder"));
    };
    let mut parts = Vec::new();
    for part in rest.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(format!("{name:?} leads out of the chart")),
            part if part.contains(['\0', ':']) && part.as_bytes().get(1) == Some(&b':') => {
                return Err(format!("{name:?} names a drive"));
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() || trimmed.starts_with("../") {
        Err(format!("{name:?} leads out of the chart"))
    } else {
        Ok(parts.join("/"))
    }
}

fn without_mark(mut data: Vec<u8>) -> Vec<u8> {
    if data.starts_with(b"\xEF\xBB\xBF") {
        data.drain(..3);
    }
    data
}

/// A gzipped tar archive of a chart's files. The same files give the same bytes.
pub(crate) fn pack(name: &str, files: &[File]) -> std::io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(file.data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(
            &mut header,
            format!("{name}/{}", file.name),
            file.data.as_slice(),
        )?;
    }
    builder.into_inner()?.finish()
}

/// The files of a chart's folder, without those its `.helmignore` names.
pub(crate) fn walk(folder: &Path) -> Result<Vec<File>, Error> {
    let root = folder.canonicalize().map_err(|source| Error::Read {
        path: folder.to_owned(),
        source,
    })?;
    let ignore = match fs::read_to_string(root.join(".helmignore")) {
        Ok(text) => Ignore::parse(&text),
        Err(_) => Ignore::parse(""),
    };
    let mut walk = Walk {
        root: &root,
        ignore,
        files: Vec::new(),
        left: TOTAL,
    };
    walk.folder(&root, "", 0)?;
    Ok(walk.files)
}

struct Walk<'r> {
    root: &'r Path,
    ignore: Ignore,
    files: Vec<File>,
    left: u64,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, prefix: &str, depth: usize) -> Result<(), Error> {
        let unreadable = |source| Error::Read {
            path: folder.to_owned(),
            source,
        };
        let mut entries = fs::read_dir(folder)
            .map_err(unreadable)?
            .collect::<Result<Vec<_>, _>>()
            .map_err(unreadable)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type().map_err(unreadable)?;
            let mut is_folder = kind.is_dir();
            let mut real = path.clone();
            if kind.is_symlink() {
                real = path.canonicalize().map_err(|source| Error::Read {
                    path: path.clone(),
                    source,
                })?;
                is_folder = real.is_dir();
            }
            if !real.starts_with(self.root) || depth > 32 {
                return Err(self.refused(format!("{name} leads out of the chart")));
            }
            if self.ignore.matches(&name, is_folder) {
                continue;
            }
            if is_folder {
                self.folder(&real, &format!("{name}/"), depth + 1)?;
            } else {
                self.file(&real, name)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, name: String) -> Result<(), Error> {
        let unreadable = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let about = fs::metadata(path).map_err(unreadable)?;
        if !about.is_file() || about.len() > EACH.min(self.left) || self.files.len() >= COUNT {
            return Err(self.refused(format!("{name} is not a plain file, or exceeds the limits ({COUNT} files, {EACH} bytes each, {TOTAL} in all)")));
        }
        self.left -= about.len();
        self.files.push(File {
            name,
            data: without_mark(fs::read(path).map_err(unreadable)?),
        });
        Ok(())
    }

    fn refused(&self, reason: String) -> Error {
        Error::Unpack {
            origin: self.root.display().to_string(),
            reason,
        }
    }
}

/// The patterns of a `.helmignore`.
struct Ignore(Vec<Pattern>);

struct Pattern {
    text: String,
    negated: bool,
    folders_only: bool,
    anywhere: bool,
}

impl Ignore {
    fn parse(text: &str) -> Self {
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
        let own =
            lines.filter(|line| !line.is_empty() && !line.starts_with('#') && !line.contains("**"));
        Self(own.chain(["templates/.?*"]).map(Pattern::parse).collect())
    }

    fn matches(&self, name: &str, folder: bool) -> bool {
        for pattern in &self.0 {
            let hit = pattern.matches(name);
            if pattern.negated {
                if pattern.folders_only && !folder || !hit {
                    return true;
                }
            } else if hit && (folder || !pattern.folders_only) {
                return true;
            }
        }
        false
    }
}

impl Pattern {
    fn parse(line: &str) -> Self {
        let (negated, line) = line
            .strip_prefix('!')
            .map_or((false, line), |rest| (true, rest));
        let (folders_only, line) = line
            .strip_suffix('/')
            .map_or((false, line), |rest| (true, rest));
        let anywhere = !line.contains('/');
        Self {
            text: line.strip_prefix('/').unwrap_or(line).to_owned(),
            negated,
            folders_only,
            anywhere,
        }
    }

    fn matches(&self, name: &str) -> bool {
        let name = if self.anywhere {
            name.rsplit('/').next().unwrap_or(name)
        } else {
            name
        };
        super::template::glob::shell(&self.text, name)
    }
}

/// Whether `path` is one plain relative name, for building cache paths.
pub(crate) fn is_plain(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A gzipped archive of `entries`, names taken literally.
    pub(crate) fn pack(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, kind, text) in entries {
            let mut header = tar::Header::new_gnu();
            let bytes = name.as_bytes();
            header.as_old_mut().name[..bytes.len()].copy_from_slice(bytes);
            header.set_entry_type(*kind);
            if *kind == tar::EntryType::Symlink {
                header.set_link_name(text).unwrap();
                header.set_size(0);
                header.set_cksum();
                builder.append(&header, std::io::empty()).unwrap();
            } else {
                header.set_size(text.len() as u64);
                header.set_cksum();
                builder.append(&header, text.as_bytes()).unwrap();
            }
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn a_plain_archive_is_read() {
        let bytes = pack(&[
            (
                "app/Chart.yaml",
                tar::EntryType::Regular,
                "\u{feff}name: app",
            ),
            ("app/./templates//x", tar::EntryType::Regular, "x"),
        ]);
        let files = unpack(&bytes, "test", &mut Room::default()).unwrap();
        assert_eq!(
            files[0],
            File {
                name: "Chart.yaml".into(),
                data: b"name: app".to_vec()
            }
        );
        assert_eq!(files[1].name, "templates/x");
    }

    #[test]
    fn hostile_archives_are_refused() {
        let regular = tar::EntryType::Regular;
        for (entries, expected) in [
            (vec![("app/../../etc/passwd", regular, "x")], "leads out"),
            (vec![("/etc/passwd", regular, "x")], "absolute"),
            (vec![("../app/x", regular, "x")], "leads out"),
            (vec![("C:\\app\\x", regular, "x")], "absolute"),
            (vec![("app\\..\\x", regular, "x")], "leads out"),
            (
                vec![("Chart.yaml", regular, "x")],
                "outside the chart's folder",
            ),
            (
                vec![("app/x", tar::EntryType::Symlink, "/etc/passwd")],
                "link",
            ),
            (vec![("app/x", tar::EntryType::Fifo, "")], "special"),
        ] {
            let error = unpack(&pack(&entries), "test", &mut Room::default())
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{entries:?}: {error}");
        }
        assert!(
            unpack(b"name: x", "test", &mut Room::default())
                .unwrap_err()
                .to_string()
                .contains("not a gzipped archive")
        );
        assert!(unpack(&pack(&[]), "test", &mut Room::default()).is_err());
        let good = pack(&[("app/Chart.yaml", regular, &"x".repeat(5000))]);
        assert!(unpack(&good[..good.len() / 2], "test", &mut Room::default()).is_err());
    }

    #[test]
    fn a_bomb_is_refused_without_being_unpacked() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let mut header = tar::Header::new_gnu();
        header.set_path("app/big").unwrap();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(EACH + 1);
        header.set_cksum();
        std::io::Write::write_all(&mut encoder, header.as_bytes()).unwrap();
        assert!(
            unpack(&encoder.finish().unwrap(), "test", &mut Room::default())
                .unwrap_err()
                .to_string()
                .contains("limits")
        );
    }

    #[test]
    fn archives_inside_an_archive_share_its_room() {
        let text = "x".repeat(15 << 20);
        let head = (
            "sub/Chart.yaml",
            tar::EntryType::Regular,
            "name: sub\nversion: 1.0.0\n",
        );
        let inner = pack(&[head, ("sub/large", tar::EntryType::Regular, &text)]);
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut put = |name: String, data: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            builder.append_data(&mut header, name, data).unwrap();
        };
        put("app/Chart.yaml".to_owned(), b"name: app\nversion: 1.0.0\n");
        for at in 0..8 {
            put(format!("app/charts/sub-{at}.tgz"), &inner);
        }
        let archive = builder.into_inner().unwrap().finish().unwrap();
        let error = crate::Chart::from_archive(&archive)
            .unwrap_err()
            .to_string();
        assert!(error.contains("exceeds the limits"), "{error}");
    }

    #[test]
    fn a_folder_is_walked_within_itself() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("app");
        fs::create_dir_all(root.join("templates")).unwrap();
        for (name, text) in [
            ("Chart.yaml", "name: a"),
            ("notes.bak", "x"),
            ("templates/a.yaml", "a"),
            ("templates/.hidden", "h"),
            (".helmignore", "*.bak\n"),
        ] {
            fs::write(root.join(name), text).unwrap();
        }
        let names: Vec<_> = walk(&root)
            .unwrap()
            .into_iter()
            .map(|file| file.name)
            .collect();
        assert_eq!(names, [".helmignore", "Chart.yaml", "templates/a.yaml"]);

        fs::write(folder.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("link")).unwrap();
        assert!(
            walk(&root)
                .unwrap_err()
                .to_string()
                .contains("leads out of the chart")
        );
    }
}
