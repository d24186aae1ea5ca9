//! The journal: what was done, when and by which run, one JSON object per line.
//!
//! It explains and audits. Nothing is ever decided from it: a run that follows a crash looks at
//! the clusters. It holds events only, and events cannot hold a key.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::event::Event;

/// An append-only file of events, synced after each.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
}

/// The journal could not be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} the journal {path}")]
pub(crate) struct Error {
    verb: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Journal {
    /// Opens `<folder>/journal.jsonl` for appending; folder 0700, file 0600.
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("journal.jsonl");
        let open = || {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
            OpenOptions::new()
                .create(true)
                .append(true)
                .read(true)
                .mode(0o600)
                .open(&path)
        };
        let file = open().map_err(|source| Error {
            verb: "open",
            path: path.clone(),
            source,
        })?;
        let mut journal = Self { file, path };
        journal.end_torn_line()?;
        Ok(journal)
    }

    /// A crash may have cut the last line short: end it, so that it does not swallow the next.
    fn end_torn_line(&mut self) -> Result<(), Error> {
        let mend = |file: &mut File| {
            if file.metadata()?.len() == 0 {
                return Ok(());
            }
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last == *b"\n" {
                Ok(())
            } else {
                file.write_all(b"\n")
            }
        };
        mend(&mut self.file).map_err(|source| Error {
            verb: "mend",
            path: self.path.clone(),
            source,
        })
    }

    /// Appends an event and waits until it rests on the disk.
    pub(crate) fn append(&mut self, event: &Event) -> Result<(), Error> {
        let write = |file: &mut File| {
            let mut line = serde_json::to_vec(event)?;
            line.push(b'\n');
            file.write_all(&line)?;
            file.sync_data()
        };
        write(&mut self.file).map_err(|source| Error {
            verb: "write",
            path: self.path.clone(),
            source,
        })
    }

    /// Every event that can be read; a line cut short by a crash is passed over.
    #[cfg(test)]
    pub(crate) fn read(folder: &Path) -> Result<Vec<Event>, Error> {
        use std::io::{BufRead as _, BufReader};

        let path = folder.join("journal.jsonl");
        let failed = |source| Error {
            verb: "read",
            path: path.clone(),
            source,
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            Err(e) => return Err(failed(e)),
        };
        let lines = BufReader::new(file)
            .lines()
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        Ok(lines
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::Kind;

    fn event(step: &str) -> Event {
        Event {
            at: "2026-01-02T03:04:05Z".parse().unwrap(),
            run: "r1".into(),
            kind: Kind::StepStarted { step: step.into() },
        }
    }

    #[test]
    fn what_is_appended_is_read_and_a_torn_line_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("mesh");
        let mut journal = Journal::open(&dir).unwrap();
        journal.append(&event("a/x")).unwrap();
        journal.append(&event("b/x")).unwrap();
        let path = dir.join("journal.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 9]).unwrap();
        assert_eq!(Journal::read(&dir).unwrap(), [event("a/x")]);
    }

    #[test]
    fn a_torn_line_does_not_swallow_the_next_run() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("journal.jsonl"), "{\"at\":\"2026").unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        journal.append(&event("a/x")).unwrap();
        assert_eq!(Journal::read(folder.path()).unwrap(), [event("a/x")]);
    }
}
