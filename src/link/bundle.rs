//! One archive over all members: what the doctor's findings rest on, and what a person would ask for next.
//!
//! Nothing that opens anything is in it. Objects are written so far as they are named in `doctor/allow.rs` and here, never
//! whole; of Secrets there are names and labels alone, for their data is not even read; logs go through `redact`. Each
//! member has so many bytes and so much time, what matters most first, and what was left out is listed.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    sync::Arc,
};

use futures::future;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Meshlink,
    diagnosis::{Examination, PATIENCE},
    failure::Failure,
};
use crate::{
    digest::sha256_hex,
    doctor::{Reading, Record, Source},
};

mod archive;
mod gather;
mod redact;

pub(crate) use archive::Error;

/// The form of an archive. What is added does not change it.
const FORMAT: u64 = 1;
/// Bytes of a member, and of what is not of a member, before they are packed: two members are at most 20 MB.
const MEMBER: usize = 9 << 20;
const SHARED: usize = 2 << 20;

/// Something that is not in the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct LeftOut {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// Files of an archive, and what is not among them.
#[derive(Debug)]
pub(crate) struct Files {
    files: BTreeMap<String, Vec<u8>>,
    left_out: Vec<LeftOut>,
    room: usize,
}

impl Files {
    fn new(room: usize) -> Self {
        Self {
            files: BTreeMap::new(),
            left_out: vec![],
            room,
        }
    }

    /// Adds a file if there is room for it; true if there was.
    pub(crate) fn put(&mut self, path: impl Into<String>, bytes: Vec<u8>) -> bool {
        let path = path.into();
        match self.room.checked_sub(bytes.len()) {
            Some(room) => {
                self.room = room;
                self.files.insert(path, bytes);
                true
            }
            None => {
                let why = format!(
                    "it has {} bytes, and there is room for {}",
                    bytes.len(),
                    self.room
                );
                self.leave_out(path, why);
                false
            }
        }
    }

    fn put_json<T: Serialize>(&mut self, path: impl Into<String>, value: &T) -> bool {
        let path = path.into();
        match serde_json::to_vec_pretty(value) {
            Ok(bytes) => self.put(path, bytes),
            Err(error) => {
                self.leave_out(path, error.to_string());
                false
            }
        }
    }

    fn leave_out(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.left_out.push(LeftOut {
            what: what.into(),
            why: why.into(),
        });
    }

    fn extend(&mut self, other: Self) {
        self.files.extend(other.files);
        self.left_out.extend(other.left_out);
    }

    /// What is not in it.
    pub(crate) fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }
}

/// What is on top of an archive.
#[derive(Serialize, Deserialize)]
struct Manifest {
    format: u64,
    meshlink: String,
    mesh: String,
    made_at: jiff::Timestamp,
    members: Vec<String>,
    #[serde(default)]
    left_out: Vec<Value>,
    #[serde(default)]
    files: Vec<Value>,
}

impl Meshlink {
    /// Reads everything that goes into an archive. Nothing is changed.
    ///
    /// # Errors
    ///
    /// That no member can be read at all. What of one could not be is listed.
    pub(crate) async fn gather(&self) -> Result<(Examination, Files), Failure> {
        let mut examination = self.examine().await?;
        let limit = self.environment.timeout.min(PATIENCE);
        let mut files = Files::new(SHARED);
        let members = self.mesh.clusters.iter().map(|member| {
            let name = &member.name;
            let found = examination.reading.members.get(name);
            let cluster = self.clusters.get(name).zip(found);
            let seen = examination.reading.observed.clusters.get(name);
            async move {
                let mut mine = Files::new(MEMBER);
                match (cluster, seen) {
                    (Some((cluster, found)), Some(seen)) => {
                        let of = gather::Of {
                            mesh: &self.mesh,
                            cluster,
                            found,
                            seen,
                            limit,
                        };
                        of.gather(&mut mine).await;
                    }
                    _ => mine.leave_out(format!("members/{name}"), "it could not be read"),
                }
                (name.clone(), mine)
            }
        });
        for (name, mine) in future::join_all(members).await {
            // What is not in the archive was not looked at, as far as the archive says.
            if let Some(member) = examination.reading.members.get_mut(&name) {
                let is_out =
                    |source: &Source| !mine.files.contains_key(&gather::objects(&name, *source));
                let out: Vec<_> = member.lists.keys().filter(|s| is_out(s)).copied().collect();
                for source in out {
                    member.lists.remove(&source);
                    member
                        .unread
                        .insert(source, "it was too large for the bundle".into());
                }
            }
            files.extend(mine);
        }
        match Record::of(&examination.reading) {
            Ok(record) => _ = files.put_json("reading.json", &record),
            Err(why) => files.leave_out("reading.json", why),
        }
        files.put_json("verdict.json", &examination.verdict);
        files.put_json("ends.json", &examination.reading.ends);
        self.journals(&mut files);
        Ok((examination, files))
    }

    /// The end of what this machine has written down of the mesh.
    fn journals(&self, files: &mut Files) {
        let path = self.places.journal();
        let text = std::fs::File::open(&path).and_then(|mut file| {
            use std::io::{Seek as _, SeekFrom};
            let most = 512 << 10;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
            let mut bytes = vec![];
            file.take(most).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        });
        match text {
            Ok(text) => _ = files.put("journal.jsonl", redact::ours(&text).into_bytes()),
            Err(error) => files.leave_out("journal.jsonl", error.to_string()),
        }
    }

    /// The archive of what was gathered.
    ///
    /// # Errors
    ///
    /// That it cannot be packed.
    pub(crate) fn pack(&self, files: Files) -> io::Result<Vec<u8>> {
        let now = (self.environment.clock)();
        let listed = files.files.iter();
        let listed = listed.map(|(path, bytes)| json!({"path": path, "bytes": bytes.len(), "sha256": sha256_hex(bytes)}));
        let manifest = Manifest {
            format: FORMAT,
            meshlink: env!("CARGO_PKG_VERSION").to_owned(),
            mesh: self.mesh.id.to_string(),
            made_at: now,
            members: self.mesh.members().into_iter().map(Into::into).collect(),
            left_out: files.left_out.iter().map(|l| json!(l)).collect(),
            files: listed.collect(),
        };
        let mut all = files.files;
        all.insert("bundle.json".into(), serde_json::to_vec_pretty(&manifest)?);
        // Whatever it was that let one through: a private key is in no archive.
        for (path, bytes) in &mut all {
            if !path.ends_with(".html") {
                *bytes = redact::keys(std::mem::take(bytes));
            }
        }
        archive::pack(&all, u64::try_from(now.as_second()).unwrap_or_default())
    }
}

/// What an archive says of the mesh, to be diagnosed again.
pub(crate) struct Unpacked {
    /// The reading.
    pub(crate) reading: Reading,
    /// What hints need to be commands.
    pub(crate) hints: Option<Value>,
}

/// Reads an archive, which may be anybody's.
///
/// # Errors
///
/// What is odd about it, what it lacks, and that it is of another format.
pub(crate) fn unpack(file: impl Read) -> Result<Unpacked, Error> {
    let wanted = |path: &str| {
        ["bundle.json", "reading.json", "hints.json"].contains(&path)
            || (path.starts_with("members/") && path.contains("/objects/"))
    };
    let mut files = archive::unpack(file, wanted)?;
    let manifest: Manifest = part(&files, "bundle.json")?;
    if manifest.format != FORMAT {
        return Err(Error::Format {
            found: manifest.format,
            known: FORMAT,
        });
    }
    let mut record: Record = part(&files, "reading.json")?;
    let hints = match files.contains_key("hints.json") {
        true => Some(part(&files, "hints.json")?),
        false => None,
    };
    for (name, member) in record.members() {
        for source in Source::LISTS {
            let path = gather::objects(name, source);
            let Some(bytes) = files.remove(&path) else {
                // What is neither there nor said to be missing was not looked at.
                let why = || "it is not in the bundle".to_owned();
                member.unread.entry(source).or_insert_with(why);
                continue;
            };
            let list: Vec<Value> =
                serde_json::from_slice(&bytes).map_err(|source| Error::Part { path, source })?;
            member.lists.insert(source, Arc::new(list));
        }
    }
    Ok(Unpacked {
        reading: record.into_reading().map_err(Error::Mesh)?,
        hints,
    })
}

fn part<T: serde::de::DeserializeOwned>(
    files: &BTreeMap<String, Vec<u8>>,
    path: &'static str,
) -> Result<T, Error> {
    let bytes = files.get(path).ok_or(Error::Lacks(path))?;
    serde_json::from_slice(bytes).map_err(|source| Error::Part {
        path: path.to_owned(),
        source,
    })
}
