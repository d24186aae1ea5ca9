//! The folder: ours if we wrote it before, and then only what we wrote.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::files::Files;
use crate::{
    cli::error::{Failure, Kind},
    digest::sha256_hex,
    file::write_whole,
    hint::Hint,
};

/// What tells a folder of ours from others, and which files in it are ours.
const LIST: &str = "meshlink-render.json";

/// The contents of [`LIST`].
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct List {
    mesh: String,
    files: BTreeMap<String, String>,
}

/// A file that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Change {
    /// The file.
    path: String,
    /// What is to become of it.
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum What {
    Missing,
    Differs,
    NoLongerRendered,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            What::Missing => "new",
            What::Differs => "changed",
            What::NoLongerRendered => "gone",
        };
        write!(f, "{what:8} {}", self.path)
    }
}

/// A folder and what it should hold.
pub(super) struct Folder<'a> {
    path: &'a Path,
    files: &'a Files,
    before: List,
    list: String,
}

impl<'a> Folder<'a> {
    /// Refuses a folder that holds something else.
    pub(super) fn open(path: &'a Path, mesh: &str, files: &'a Files) -> Result<Self, Failure> {
        let before = match fs::read(path.join(LIST)) {
            Ok(bytes) => read(path, mesh, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => empty(path)?,
            Err(error) => return Err(unreadable(&path.join(LIST), &error)),
        };
        let list = List {
            mesh: mesh.to_owned(),
            files: files
                .iter()
                .map(|(name, text)| (name.clone(), sha256_hex(text.as_bytes())))
                .collect(),
        };
        let list = serde_json::to_string_pretty(&list).map_err(|e| Failure::failed(&e))? + "\n";
        let folder = Self {
            path,
            files,
            before,
            list,
        };
        folder.check_ways()?;
        Ok(folder)
    }

    /// Nothing is written through a link, nor over a file that is not ours.
    fn check_ways(&self) -> Result<(), Failure> {
        for name in self.files.keys().chain(self.before.files.keys()) {
            let mut at = self.path.to_owned();
            for part in Path::new(name).components() {
                at.push(part);
                if at.is_symlink() {
                    return Err(refused(
                        &at,
                        "is a symbolic link, which may lead outside the folder",
                    ));
                }
            }
            if at.exists() && !self.before.files.contains_key(name) {
                return Err(refused(
                    &at,
                    "is there already, and meshlink did not write it",
                ));
            }
        }
        Ok(())
    }

    /// What differs from what should be there.
    pub(super) fn changes(&self) -> Result<Vec<Change>, Failure> {
        let mut changes = vec![];
        let wanted = self.files.iter().map(|(name, text)| (name.as_str(), text));
        for (name, text) in wanted.chain([(LIST, &self.list)]) {
            let path = self.path.join(name);
            let what = match fs::read(&path) {
                Ok(bytes) if bytes == text.as_bytes() => continue,
                Ok(_) => What::Differs,
                Err(error) if error.kind() == io::ErrorKind::NotFound => What::Missing,
                Err(error) => return Err(unreadable(&path, &error)),
            };
            changes.push(Change {
                path: name.to_owned(),
                what,
            });
        }
        let gone = self
            .before
            .files
            .keys()
            .filter(|name| !self.files.contains_key(*name) && self.path.join(name).exists());
        changes.extend(gone.map(|name| Change {
            path: name.clone(),
            what: What::NoLongerRendered,
        }));
        Ok(changes)
    }

    /// Makes it so; the list first, so that a folder half written is known to be ours.
    pub(super) fn write(&self, changes: &[Change]) -> Result<(), Failure> {
        let put = |path: &Path, text: &str| {
            write_whole(path, text.as_bytes()).map_err(|e| unreadable(path, &e))
        };
        if changes.is_empty() {
            return Ok(());
        }
        put(&self.path.join(LIST), &self.list)?;
        for change in changes {
            let path = self.path.join(&change.path);
            match (change.what, self.files.get(&change.path)) {
                (_, Some(text)) => put(&path, text)?,
                (What::NoLongerRendered, None) => {
                    fs::remove_file(&path).map_err(|e| unreadable(&path, &e))?;
                    // Only folders that are empty now go too.
                    let above = path.ancestors().skip(1);
                    for folder in above.take_while(|folder| *folder != self.path) {
                        if fs::remove_dir(folder).is_err() {
                            break;
                        }
                    }
                }
                (_, None) => {}
            }
        }
        Ok(())
    }
}

fn read(path: &Path, mesh: &str, bytes: &[u8]) -> Result<List, Failure> {
    let at = path.join(LIST);
    let Ok(list) = serde_json::from_slice::<List>(bytes) else {
        return Err(refused(&at, "cannot be understood"));
    };
    if list.mesh != mesh {
        return Err(refused(
            path,
            &format!("holds mesh {}, not {mesh}", list.mesh),
        ));
    }
    // The list is a file like any other: what it names must lie in the folder.
    let inside = |name: &String| {
        let mut parts = Path::new(name).components();
        parts.all(|part| matches!(part, std::path::Component::Normal(_)))
    };
    match list.files.keys().all(inside) {
        true => Ok(list),
        false => Err(refused(&at, "names files outside its folder")),
    }
}

/// A folder that is not there, or has nothing in it.
fn empty(path: &Path) -> Result<List, Failure> {
    match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(List::default()),
        Ok(false) => Err(
            refused(path, "holds files, and meshlink did not write them").hint(Hint::note(
                "choose an empty folder, or one that is not there yet",
            )),
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(List::default()),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn refused(path: &Path, why: &str) -> Failure {
    let text = format!("{} {why}", path.display());
    Failure::from_causes(Kind::Refused, vec![text])
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let text = format!("cannot use {}", PathBuf::from(path).display());
    Failure::from_causes(Kind::Failed, vec![text, error.to_string()])
}
