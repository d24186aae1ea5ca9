//! Where a running set of embedded clusters is found, for other processes on this machine.

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpStream},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// The file in the state folder that says so.
const FILE: &str = "sandbox.json";
/// How long a server may take to accept a connection before it counts as gone.
const PATIENCE: Duration = Duration::from_secs(1);

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
}

impl Endpoints {
    /// Whether that is where their AWS answers.
    pub fn is_aws(&self, url: &str) -> bool {
        let text = fs::read_to_string(&self.aws).unwrap_or_default();
        text.lines()
            .any(|line| line.strip_prefix("AWS_ENDPOINT_URL=") == Some(url))
    }
}

/// The embedded clusters another process runs with this state folder, if it still does.
pub fn attach(state_dir: &Path) -> Option<Endpoints> {
    let text = fs::read(state_dir.join(FILE)).ok()?;
    let found: Endpoints = serde_json::from_slice(&text).ok()?;
    let answers = |at: &SocketAddr| TcpStream::connect_timeout(at, PATIENCE).is_ok();
    let alive =
        !found.servers.is_empty() && found.servers.iter().all(answers) && found.kubeconfig.exists();
    alive.then_some(found)
}

/// Says where the clusters are.
pub(crate) fn announce(endpoints: &Endpoints) -> std::io::Result<()> {
    let text = serde_json::to_vec_pretty(endpoints)?;
    write(&endpoints.state_dir.join(FILE), &text)
}

/// Takes that back.
pub(crate) fn retract(endpoints: &Endpoints) {
    let files = [
        endpoints.state_dir.join(FILE),
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
    use std::{net::TcpListener, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn only_a_living_set_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(attach(folder.path()), None);
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        write(&kubeconfig, b"{}").unwrap();
        let endpoints = Endpoints {
            kubeconfig,
            charts: "http://127.0.0.1:1".into(),
            dns: ([127, 0, 0, 1], 53).into(),
            state_dir: folder.path().into(),
            clusters: vec!["eks-1".into()],
            servers: vec![server.local_addr().unwrap()],
            aws: folder.path().join("aws.env"),
            pid: std::process::id(),
        };
        announce(&endpoints).unwrap();
        let mode = fs::metadata(folder.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(attach(folder.path()), Some(endpoints.clone()));
        drop(server);
        assert_eq!(attach(folder.path()), None);
        retract(&endpoints);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
