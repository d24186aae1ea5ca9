//! Where a running set of embedded clusters is found, for other processes on this machine.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{Error, WorldClock};

/// The file in the state folder that says so.
const FILE: &str = "sandbox.json";
/// The file that is locked by the process that runs the clusters, for as long as it lives: whether clusters run is told by
/// this lock alone, not by what a file says or by how soon a server answers.
const LOCK: &str = "sandbox.lock";
/// The file that says by how many seconds their clock was moved on, once it was.
const CLOCK: &str = "clock";
/// How long clusters may take to be raised, and how often it is looked meanwhile.
const RAISING: Duration = Duration::from_secs(20);
const PACE: Duration = Duration::from_millis(20);
/// How long somebody who only looks may hold the lock.
const GLANCE: Duration = Duration::from_millis(200);

/// Everything a process needs to work with a running set of embedded clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// A kubeconfig with one context for each cluster.
    pub kubeconfig: PathBuf,
    /// URL of the chart repository.
    pub charts: String,
    /// The name server, UDP and TCP.
    pub dns: SocketAddr,
    /// The folder of this set; meshlink's vault and journal for embedded runs live below it.
    pub state_dir: PathBuf,
    /// The clusters' names, which are also the contexts.
    pub clusters: Vec<String>,
    /// The clusters' API servers, in the same order.
    pub servers: Vec<SocketAddr>,
    /// A file with the environment to use their AWS with: endpoint, region, access key.
    pub aws: PathBuf,
    /// The process that runs them.
    pub pid: u32,
    /// How many seconds their clock is ahead of this machine's.
    #[serde(skip)]
    pub ahead: i64,
}

impl Endpoints {
    /// Whether that is where their AWS answers.
    pub fn is_aws(&self, url: &str) -> bool {
        let text = fs::read_to_string(&self.aws).unwrap_or_default();
        text.lines()
            .any(|line| line.strip_prefix("AWS_ENDPOINT_URL=") == Some(url))
    }
}

/// The embedded clusters another process runs with this state folder, if it does.
pub fn attach(state_dir: &Path) -> Result<Option<Endpoints>, Error> {
    let until = Instant::now() + RAISING;
    loop {
        if !is_owned(state_dir)? {
            return Ok(None);
        }
        match read(state_dir) {
            Ok(found) => {
                let ahead = ahead(state_dir);
                return Ok(Some(Endpoints { ahead, ..found }));
            }
            // They are being raised.
            Err(error) if error.kind() == io::ErrorKind::NotFound && Instant::now() < until => {
                thread::sleep(PACE);
            }
            Err(source) => {
                let path = state_dir.join(FILE);
                return Err(Error::Whereabouts { path, source });
            }
        }
    }
}

/// How far their clock was moved on.
fn ahead(state_dir: &Path) -> i64 {
    let text = fs::read_to_string(state_dir.join(CLOCK)).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

fn read(state_dir: &Path) -> io::Result<Endpoints> {
    Ok(serde_json::from_slice(&fs::read(state_dir.join(FILE))?)?)
}

fn is_owned(state_dir: &Path) -> Result<bool, Error> {
    let path = state_dir.join(LOCK);
    let failed = |source| Error::Lock {
        path: path.clone(),
        source,
    };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Makes the state folder this process's own, for as long as the answer is kept; what a process that died has left there
/// goes.
pub(crate) fn own(state_dir: &Path) -> Result<File, Error> {
    let write = |source| Error::Write {
        path: state_dir.to_owned(),
        source,
    };
    make(state_dir).map_err(write)?;
    let path = state_dir.join(LOCK);
    let failed = |source| Error::Lock {
        path: path.clone(),
        source,
    };
    let mut options = File::options();
    options.read(true).write(true).create(true).mode(0o600);
    let file = options.open(&path).map_err(failed)?;
    let until = Instant::now() + GLANCE;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(PACE),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Running {
                    folder: state_dir.to_owned(),
                    pid: read(state_dir).ok().map(|found| found.pid),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
    // What is not there need not go.
    let _ = fs::remove_file(state_dir.join(CLOCK));
    match fs::remove_file(state_dir.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(write(error)),
        _ => Ok(file),
    }
}

/// Says where the clusters are.
pub(crate) fn announce(endpoints: &Endpoints) -> std::io::Result<()> {
    let text = serde_json::to_vec_pretty(endpoints)?;
    write(&endpoints.state_dir.join(FILE), &text)
}

/// Says how far the clock was moved on.
pub(crate) fn announce_clock(state_dir: &Path, clock: &WorldClock) -> io::Result<()> {
    write(&state_dir.join(CLOCK), clock.ahead().to_string().as_bytes())
}

/// Takes that back. What another process has put there in the meantime stays.
pub(crate) fn retract(endpoints: &Endpoints) {
    if read(&endpoints.state_dir).ok().as_ref() != Some(endpoints) {
        return;
    }
    let files = [
        endpoints.state_dir.join(FILE),
        endpoints.state_dir.join(CLOCK),
        endpoints.kubeconfig.clone(),
        endpoints.aws.clone(),
    ];
    for gone in files {
        // What is not there need not go.
        let _ = fs::remove_file(gone);
    }
}

/// The state folder, for nobody else to read.
pub(crate) fn make(folder: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

/// Writes a file that only its owner can read, whole or not at all.
pub(crate) fn write(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn found(folder: &Path) -> Option<Endpoints> {
        attach(folder).unwrap()
    }

    #[test]
    fn only_a_living_set_is_found_and_only_its_owner_takes_it_away() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(found(folder.path()), None);
        let lock = own(folder.path()).unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        write(&kubeconfig, b"{}").unwrap();
        let endpoints = Endpoints {
            kubeconfig,
            charts: "http://127.0.0.1:1".into(),
            dns: ([127, 0, 0, 1], 53).into(),
            state_dir: folder.path().into(),
            clusters: vec!["eks-1".into()],
            // Nobody listens there: how soon a server answers tells nothing.
            servers: vec![([127, 0, 0, 1], 1).into()],
            aws: folder.path().join("aws.env"),
            pid: std::process::id(),
            ahead: 0,
        };
        announce(&endpoints).unwrap();
        let mode = fs::metadata(folder.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(found(folder.path()), Some(endpoints.clone()));
        let second = own(folder.path());
        assert!(
            matches!(second, Err(Error::Running { pid: Some(pid), .. }) if pid == endpoints.pid)
        );
        // What cannot be read is not taken for gone.
        write(&folder.path().join(FILE), b"{").unwrap();
        assert!(matches!(
            attach(folder.path()),
            Err(Error::Whereabouts { .. })
        ));
        // What another process has put there is not taken away.
        for others in [b"{".to_vec(), {
            let pid = endpoints.pid + 1;
            let others = Endpoints {
                pid,
                ..endpoints.clone()
            };
            serde_json::to_vec(&others).unwrap()
        }] {
            write(&folder.path().join(FILE), &others).unwrap();
            retract(&endpoints);
            assert!(endpoints.kubeconfig.exists() && folder.path().join(FILE).exists());
        }
        announce(&endpoints).unwrap();
        drop(lock);
        // A process that is being started beside this test holds it until it is another program.
        let until = Instant::now() + Duration::from_secs(5);
        while found(folder.path()).is_some() && Instant::now() < until {
            thread::sleep(PACE);
        }
        assert_eq!(found(folder.path()), None);
        retract(&endpoints);
        let names = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), [LOCK]);
    }
}
