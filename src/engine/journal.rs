//! The journal: what was done, when and by which run, one JSON object per line.
//!
//! It explains and audits. Nothing is ever decided from it: a run that follows a crash looks at
//! the clusters. It holds events only, and events cannot hold a key.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::OFlags;
use tokio::time::Instant;

use super::event::Event;

/// A journal that has grown to this is put aside before the next run, and the one put aside before it is gone.
const MOST: u64 = 8 << 20;

/// What has been written is synced when this long has passed since it was last: what is lost with a machine that goes out
/// is at most that long, and nothing is lost with a process that does.
const SYNC: Duration = Duration::from_millis(100);

/// An append-only file of events.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    synced: Option<Instant>,
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
    /// Opens `<folder>/journal.jsonl` for appending; folder 0700, file 0600. A link is not followed, wherever it leads.
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        Self::open_at_most(folder, MOST)
    }

    fn open_at_most(folder: &Path, most: u64) -> Result<Self, Error> {
        let path = folder.join("journal.jsonl");
        let open = || {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
            match fs::symlink_metadata(&path) {
                Ok(there) if !there.is_file() => {
                    return Err(io::Error::other("it is a link, or no file at all"));
                }
                Ok(there) if there.len() >= most => {
                    fs::rename(&path, path.with_extension("jsonl.1"))?;
                }
                _ => {}
            }
            OpenOptions::new()
                .create(true)
                .append(true)
                .read(true)
                .mode(0o600)
                .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
                .open(&path)
        };
        let file = open().map_err(|source| Error {
            verb: "open",
            path: path.clone(),
            source,
        })?;
        let mut journal = Self {
            file,
            path,
            synced: None,
        };
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

    /// Appends an event. It rests on the disk at once if a run begins or ends with it, or something has gone wrong, else
    /// soon.
    pub(crate) fn append(&mut self, event: &Event) -> Result<(), Error> {
        let recent = self.synced.is_some_and(|at| at.elapsed() < SYNC);
        let later = recent && event.kind.is_routine();
        let write = |file: &mut File| {
            let mut line = serde_json::to_vec(event)?;
            line.push(b'\n');
            file.write_all(&line)?;
            if later { Ok(()) } else { file.sync_data() }
        };
        let written = write(&mut self.file);
        if !later {
            self.synced = Some(Instant::now());
        }
        written.map_err(|source| Error {
            verb: "write",
            path: self.path.clone(),
            source,
        })
    }

    /// Every event that can be read, of at most so much at the end of it; a line cut short by a crash is passed over.
    #[cfg(any(test, feature = "cli"))]
    pub(crate) fn read(folder: &Path) -> Result<Vec<Event>, Error> {
        let path = folder.join("journal.jsonl");
        let bytes = || {
            let mut file = File::open(&path)?;
            let most = i64::try_from(2 * MOST).unwrap_or(i64::MAX);
            if file.metadata()?.len() > 2 * MOST {
                file.seek(SeekFrom::End(-most))?;
            }
            let mut bytes = vec![];
            file.take(2 * MOST).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = match bytes() {
            Ok(bytes) => bytes,
            Err(e) if io::Error::kind(&e) == io::ErrorKind::NotFound => return Ok(vec![]),
            Err(source) => {
                return Err(Error {
                    verb: "read",
                    path,
                    source,
                });
            }
        };
        let lines = bytes.split(|byte| *byte == b'\n');
        Ok(lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        causes,
        engine::{Recorder, event::Kind},
    };

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
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let precious = folder.path().join("precious");
        fs::write(&precious, "mine").unwrap();
        for name in ["there", "nowhere"] {
            let dir = folder.path().join(name);
            fs::create_dir(&dir).unwrap();
            let to = if name == "there" {
                &precious
            } else {
                &dir.join("x")
            };
            std::os::unix::fs::symlink(to, dir.join("journal.jsonl")).unwrap();
            let error = causes::texts(&Journal::open(&dir).unwrap_err()).join(": ");
            assert!(error.contains("it is a link"), "{error}");
        }
        assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
        assert!(!folder.path().join("nowhere/x").exists());
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let runs = ["a/x", "b/x", "c/x"];
        for step in runs {
            let mut journal = Journal::open_at_most(folder.path(), 10).unwrap();
            // However long a run is, it is in one file.
            for _ in 0..9 {
                journal.append(&event(step)).unwrap();
            }
        }
        assert_eq!(Journal::read(folder.path()).unwrap(), vec![event("c/x"); 9]);
        let files = fs::read_dir(folder.path()).unwrap().count();
        let before = fs::read_to_string(folder.path().join("journal.jsonl.1")).unwrap();
        assert!(files == 2 && before.contains("b/x") && !before.contains("a/x"));
    }

    #[test]
    fn a_full_disk_ends_the_journal_and_not_the_run() {
        let path = PathBuf::from("/dev/full");
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let clock = || "2026-01-02T03:04:05Z".parse().unwrap();
        let journal = Some(Journal {
            file,
            path,
            synced: None,
        });
        let heard = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let hears = heard.clone();
        let hears = move |_: &Event| {
            let _ = hears.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        };
        let sinks: Vec<Arc<dyn crate::engine::Sink>> = vec![Arc::new(hears)];
        let recorder = Recorder::new("r1".into(), Arc::new(clock), journal, sinks);
        for step in ["a/x", "stop-probe/x"] {
            let step = step.to_owned();
            recorder.record(Kind::StepStarted { step });
        }
        assert_eq!(heard.load(std::sync::atomic::Ordering::SeqCst), 2);
        let trouble = recorder.trouble().unwrap();
        assert!(trouble.contains("No space left on device"), "{trouble}");
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
