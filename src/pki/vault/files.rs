//! Files that only their owner has seen: made so, and refused otherwise.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::Error;
use crate::pki::pem::MAX_BYTES;

/// How names of unfinished folders begin.
const SCRAP: &str = ".new-";

fn read_error(path: &Path, source: io::Error) -> Error {
    Error::Read {
        path: path.into(),
        source,
    }
}

pub(super) fn write_error(path: &Path, source: io::Error) -> Error {
    let path = path.into();
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::Full { path, source },
        _ => Error::Write { path, source },
    }
}

/// Whether there is a folder, and that it is ours alone.
pub(super) fn folder(path: &Path) -> Result<bool, Error> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => private(path, &found).map(|()| true),
        Ok(_) => Err(Error::NotPlain {
            path: path.into(),
            expected: "folder",
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(source) => Err(read_error(path, source)),
    }
}

/// Whether nobody else can put another folder in this one's place: not where its parent is open for all to write.
pub(super) fn kept(path: &Path) -> Result<(), Error> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    let Some(Ok(found)) = parent.map(fs::metadata) else {
        return Ok(());
    };
    let mode = found.mode() & 0o7777;
    // In one that is sticky, as /tmp is, each can move only what is their own.
    let sticky = mode & 0o1000 != 0;
    match (parent, mode & 0o022 != 0 && !sticky) {
        (Some(parent), true) => Err(Error::Movable {
            path: parent.into(),
            mode,
        }),
        _ => Ok(()),
    }
}

fn private(path: &Path, found: &Metadata) -> Result<(), Error> {
    let (owner, me) = (found.uid(), rustix::process::geteuid().as_raw());
    if owner != me {
        return Err(Error::Foreign {
            path: path.into(),
            owner,
            me,
        });
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::Exposed {
            path: path.into(),
            mode,
        });
    }
    Ok(())
}

/// The names in a folder.
pub(super) fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let fail = |source| read_error(dir, source);
    let name = |entry: io::Result<fs::DirEntry>| entry.map(|e| e.file_name().into_string().ok());
    let names = fs::read_dir(dir).map_err(fail)?.map(name);
    Ok(names
        .collect::<io::Result<Vec<_>>>()
        .map_err(fail)?
        .into_iter()
        .flatten()
        .collect())
}

/// Reads a file that must be there. All checks are made on the opened file, so that nobody can swap it.
pub(super) fn need(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.cast_signed())
        .open(path);
    let file = opened.map_err(|error| open_error(path, error))?;
    let found = file.metadata().map_err(|source| read_error(path, source))?;
    plain(path, &found)?;
    // Sized once: growing would leave copies of a key behind that nobody wipes.
    let size = usize::try_from(found.len())
        .unwrap_or(usize::MAX)
        .min(MAX_BYTES);
    let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
    file.take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| read_error(path, source))?;
    Ok(bytes)
}

fn plain(path: &Path, found: &Metadata) -> Result<(), Error> {
    if !found.is_file() {
        return Err(Error::NotPlain {
            path: path.into(),
            expected: "file",
        });
    }
    private(path, found)
}

fn open_error(path: &Path, error: io::Error) -> Error {
    if is_link(&error) {
        return Error::NotPlain {
            path: path.into(),
            expected: "file",
        };
    }
    match error.kind() {
        ErrorKind::NotFound => Error::Missing { path: path.into() },
        _ => read_error(path, error),
    }
}

/// What `O_NOFOLLOW` says of a symbolic link.
fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

/// Opens the lock file, making it if need be.
pub(super) fn open_lock(path: &Path) -> Result<File, Error> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path);
    let file = opened.map_err(|error| match is_link(&error) {
        true => Error::NotPlain {
            path: path.into(),
            expected: "file",
        },
        false => write_error(path, error),
    })?;
    plain(
        path,
        &file.metadata().map_err(|source| read_error(path, source))?,
    )?;
    Ok(file)
}

/// Makes a folder and what is missing above it; everything from `top` down must be ours alone.
pub(super) fn make_folder(dir: &Path, top: &Path) -> Result<(), Error> {
    if folder(dir)? {
        return Ok(());
    }
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        if dir.starts_with(top) && dir != top {
            make_folder(parent, top)?;
        } else {
            above(parent)?;
        }
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => dir.parent().map_or(Ok(()), sync_dir),
        // Somebody was faster; what they made is looked at like any other.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => folder(dir).map(|_| ()),
        Err(source) => Err(write_error(dir, source)),
    }
}

/// Makes what is missing above a vault, each folder synced into the one above it: a key that rests on disk is of no use
/// where the way to it is lost.
fn above(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() || dir.as_os_str().is_empty() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        above(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => dir.parent().map_or(Ok(()), sync_dir),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(source) => Err(write_error(dir, source)),
    }
}

/// Puts files together into a new folder `dir/name`: all of them, synced, or none.
pub(super) fn put(dir: &Path, name: &str, files: &[(&str, &[u8])]) -> Result<(), Error> {
    let scrap = dir.join(format!("{SCRAP}{}-{name}", std::process::id()));
    let done = fill(&scrap, files).and_then(|()| {
        let target = dir.join(name);
        // A folder with something in it is never replaced by rename(2), so this is exclusive.
        fs::rename(&scrap, &target).map_err(|source| write_error(&target, source))?;
        sync_dir(dir)
    });
    if done.is_err() {
        // What went wrong before matters more than what goes wrong now; the next writer sweeps again.
        let _ = fs::remove_dir_all(&scrap);
    }
    done
}

/// Puts other bytes in the place of a file's, all of them, synced, or none.
pub(super) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let scrap = dir.join(format!("{SCRAP}{}", std::process::id()));
    // What a killed writer left is of no use to anybody.
    let _ = fs::remove_dir_all(&scrap);
    fill(&scrap, &[(name, bytes)])?;
    let target = dir.join(name);
    fs::rename(scrap.join(name), &target).map_err(|source| write_error(&target, source))?;
    let _ = fs::remove_dir_all(&scrap);
    sync_dir(dir)
}

fn fill(dir: &Path, files: &[(&str, &[u8])]) -> Result<(), Error> {
    let made = DirBuilder::new().mode(0o700).create(dir);
    made.map_err(|source| write_error(dir, source))?;
    for (name, bytes) in files {
        let path = dir.join(name);
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let written = opened.and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(|source| write_error(&path, source))?;
    }
    sync_dir(dir)
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    File::open(dir)
        .and_then(|file| file.sync_all())
        .map_err(|source| write_error(dir, source))
}

/// Removes what a killed writer left unfinished. Only who holds the lock may.
pub(super) fn sweep(dir: &Path) -> Result<(), Error> {
    if !folder(dir)? {
        return Ok(());
    }
    for name in names(dir)?.iter().filter(|name| name.starts_with(SCRAP)) {
        let path = dir.join(name);
        fs::remove_dir_all(&path).map_err(|source| write_error(&path, source))?;
    }
    Ok(())
}
