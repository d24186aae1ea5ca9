//! One writer at a time, and the others are told who.

use std::{
    fs::{File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::PathBuf,
};

use super::{Error, files};

/// A held lock: given back when dropped, or when the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(path: PathBuf) -> Result<Self, Error> {
        let mut file = files::open_lock(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Not yet written is possible, and then nobody can be named.
                let _ = (&mut file).take(300).read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another run of meshlink".into(),
                    known => known.to_owned(),
                };
                return Err(Error::Busy { path, holder });
            }
            Err(TryLockError::Error(source)) => return Err(Error::Write { path, source }),
        }
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        let text = format!("process {} on {host}\n", std::process::id());
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(text.as_bytes()));
        written.map_err(|source| files::write_error(&path, source))?;
        Ok(Self { _file: file })
    }
}
