//! The folder the keys of one mesh rest in.
//!
//! ```text
//! <data>/<mesh>/           0700, as every folder below it
//!   lock                   held by who writes; says who that is
//!   roots/1/               cert.pem, key.pem (0600); the highest number is the root of the mesh
//!   clusters/east/1/       cert.pem, key.pem; the highest number is what the cluster signs with
//! ```
//!
//! A number is never written twice and nothing is ever replaced: certificate and key go into a
//! folder of another name, are synced, and that folder is renamed to the next number. Killed at
//! any point, a writer leaves either the old state with a scrap that the next writer sweeps up,
//! or the new state. What others could read or write, or own, or have linked here, is refused.

mod files;
mod lock;

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

use super::{Cert, Intermediate, NewIntermediate, NewRoot, Root, renewal::outdated};
use crate::{hint::Hint, name::ClusterName};

const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";

/// What went wrong with the vault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Reading failed.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Writing failed.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No room is left.
    #[error("no room left on the disk for {}; nothing was changed", path.display())]
    Full {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Others may read or write it.
    #[error("{} is open to others (mode {mode:04o}): run `chmod go= {}` if nobody has read it", path.display(), path.display())]
    Exposed {
        /// The file or folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Others may put something else in the vault's place.
    #[error("{} can be written to by others (mode {mode:04o}), who could put another vault in the place of this one", path.display())]
    Movable {
        /// The folder the vault is in.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Somebody else owns it.
    #[error("{} belongs to user {owner}, not to the one meshlink runs as ({me})", path.display())]
    Foreign {
        /// The file or folder.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who we are.
        me: u32,
    },
    /// It is a link, a pipe or another thing that is not what should be there.
    #[error("{} is not a plain {expected}: links and devices are refused here", path.display())]
    NotPlain {
        /// What lies there.
        path: PathBuf,
        /// What should.
        expected: &'static str,
    },
    /// Another run writes to this vault.
    #[error("{} is in use by {holder}", path.display())]
    Busy {
        /// The lock.
        path: PathBuf,
        /// Who holds it.
        holder: String,
    },
    /// A root is there already, and is never overwritten.
    #[error("there is a root already: {}", path.display())]
    RootExists {
        /// Where.
        path: PathBuf,
    },
    /// Nothing can be issued without a root.
    #[error("there is no root in {}", path.display())]
    NoRoot {
        /// The vault.
        path: PathBuf,
    },
    /// What lies there is damaged.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// How.
        source: super::Error,
    },
    /// A file that must be there is not.
    #[error("{} is missing", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate for {}", path.display())]
    Make {
        /// Where it was to rest.
        path: PathBuf,
        /// Why.
        source: super::Error,
    },
}

impl Error {
    /// A command that shows or mends it.
    pub(crate) fn hint(&self) -> Option<Hint> {
        let on = |words: &[&'static str], path: &Path| {
            let path = path.display().to_string();
            Some(Hint::command(words.iter().copied().chain([path.as_str()])))
        };
        match self {
            Self::Full { path: p, .. } => {
                let folder = p.ancestors().find(|p| p.is_dir());
                on(&["df", "-h"], folder.unwrap_or(p))
            }
            Self::Exposed { path: p, .. } => on(&["chmod", "go="], p),
            Self::Movable { path: p, .. } => on(&["chmod", "go-w"], p),
            Self::Read { path: p, .. }
            | Self::Write { path: p, .. }
            | Self::Foreign { path: p, .. }
            | Self::NotPlain { path: p, .. } => on(&["ls", "-ld"], p),
            Self::Damaged { path: p, .. } | Self::Missing { path: p } => Some(Hint::note(format!(
                "restore {} from your backup of the vault",
                p.display()
            ))),
            _ => None,
        }
    }
}

/// The keys of one mesh on this machine. Reading takes no lock; the first write takes the one
/// lock of the vault and keeps it until the vault is dropped.
#[derive(Debug)]
pub(crate) struct Vault {
    dir: PathBuf,
    lock: Mutex<Option<lock::Lock>>,
}

impl Vault {
    /// Opens the vault in this folder, which need not exist yet.
    pub(crate) fn open(dir: impl Into<PathBuf>) -> Result<Self, Error> {
        let dir = dir.into();
        files::folder(&dir)?;
        files::kept(&dir)?;
        Ok(Self {
            dir,
            lock: Mutex::default(),
        })
    }

    /// The root of the mesh, if it is here.
    pub(crate) fn root(&self) -> Result<Option<Root>, Error> {
        let Some(dir) = self.newest(&self.dir.join("roots"))? else {
            return Ok(None);
        };
        let (cert, key) = (files::need(&dir.join(CERT))?, files::need(&dir.join(KEY))?);
        Root::from_pem(&cert, &key)
            .map(Some)
            .map_err(|source| Error::Damaged { path: dir, source })
    }

    /// The certificates of all roots there have been, by number, oldest first.
    pub(crate) fn roots(&self) -> Result<Vec<(u32, Cert)>, Error> {
        let dir = self.dir.join("roots");
        let read = |number: u32| {
            let path = dir.join(number.to_string()).join(CERT);
            let certs = Cert::from_pem(&files::need(&path)?);
            let first = certs.map(|certs| certs.into_iter().next());
            match first.map_err(|source| Error::Damaged {
                path: path.clone(),
                source,
            })? {
                Some(cert) => Ok((number, cert)),
                None => Err(Error::Missing { path }),
            }
        };
        self.checked(&dir)?.into_iter().map(read).collect()
    }

    /// Makes the root of the mesh. If there is one, it stays, and that is an error.
    pub(crate) fn create_root(&self, new: &NewRoot<'_>) -> Result<Root, Error> {
        self.write_lock()?;
        if let Some(path) = self.newest(&self.dir.join("roots"))? {
            return Err(Error::RootExists { path });
        }
        self.add_root(new)
    }

    /// Makes a further root, which is the root of the mesh from then on. Those before it stay.
    pub(crate) fn add_root(&self, new: &NewRoot<'_>) -> Result<Root, Error> {
        self.write_lock()?;
        let dir = self.dir.join("roots");
        let fail = |source| Error::Make {
            path: dir.clone(),
            source,
        };
        let root = Root::create(new).map_err(fail)?;
        let key = root.key().to_pem().map_err(fail)?;
        self.put(&dir, root.cert(), key.as_bytes())?;
        Ok(root)
    }

    /// The clusters that have an intermediate here, by name.
    pub(crate) fn clusters(&self) -> Result<Vec<ClusterName>, Error> {
        let dir = self.dir.join("clusters");
        if !(files::folder(&self.dir)? && files::folder(&dir)?) {
            return Ok(Vec::new());
        }
        let mut names: Vec<ClusterName> = files::names(&dir)?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// What a cluster signs with, if that is here.
    pub(crate) fn intermediate(
        &self,
        cluster: &ClusterName,
    ) -> Result<Option<Intermediate>, Error> {
        let Some(dir) = self.newest(&self.cluster_dir(cluster))? else {
            return Ok(None);
        };
        let (cert, key) = (files::need(&dir.join(CERT))?, files::need(&dir.join(KEY))?);
        let roots: Vec<_> = self.roots()?.into_iter().map(|(_, root)| root).collect();
        Intermediate::from_pem(&cert, &key, &roots)
            .map(Some)
            .map_err(|source| Error::Damaged { path: dir, source })
    }

    /// The same, where one that is damaged counts as none: it can be made again, unlike the root.
    pub(crate) fn usable_intermediate(
        &self,
        cluster: &ClusterName,
    ) -> Result<Option<Intermediate>, Error> {
        let folder = self.cluster_dir(cluster);
        match self.intermediate(cluster) {
            Err(Error::Damaged { path, .. } | Error::Missing { path })
                if path.starts_with(&folder) =>
            {
                tracing::debug!("{} is damaged, and is made again", path.display());
                Ok(None)
            }
            other => other,
        }
    }

    /// What a cluster shall sign with: the one that is here if it still serves, else a new one
    /// under the root of the mesh. Those before it stay.
    pub(crate) fn issue_intermediate(
        &self,
        new: &NewIntermediate<'_>,
    ) -> Result<Intermediate, Error> {
        self.write_lock()?;
        let Some(root) = self.root()? else {
            return Err(Error::NoRoot {
                path: self.dir.clone(),
            });
        };
        if let Some(found) = self.usable_intermediate(new.cluster)?
            && serves(&found, &root, new)
        {
            return Ok(found);
        }
        let dir = self.cluster_dir(new.cluster);
        let fail = |source| Error::Make {
            path: dir.clone(),
            source,
        };
        let made = root.issue(new).map_err(fail)?;
        let key = made.key().to_pem().map_err(fail)?;
        self.put(&dir, made.cert(), key.as_bytes())?;
        Ok(made)
    }

    fn cluster_dir(&self, cluster: &ClusterName) -> PathBuf {
        self.dir.join("clusters").join(cluster.as_str())
    }

    /// The numbers in a folder of the vault, after a look at every folder on the way.
    fn checked(&self, dir: &Path) -> Result<Vec<u32>, Error> {
        let below: Vec<_> = dir
            .ancestors()
            .take_while(|path| path.starts_with(&self.dir))
            .collect();
        for path in below.into_iter().rev() {
            if !files::folder(path)? {
                return Ok(Vec::new());
            }
        }
        let names = files::names(dir)?;
        let mut numbers: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        for number in &numbers {
            files::folder(&dir.join(number.to_string()))?;
        }
        Ok(numbers)
    }

    fn newest(&self, dir: &Path) -> Result<Option<PathBuf>, Error> {
        Ok(self
            .checked(dir)?
            .last()
            .map(|number| dir.join(number.to_string())))
    }

    fn put(&self, dir: &Path, cert: &Cert, key: &[u8]) -> Result<(), Error> {
        files::make_folder(dir, &self.dir)?;
        let number = self.checked(dir)?.last().map_or(1, |last| last + 1);
        let cert = cert.to_pem();
        // The key first: a certificate without its key would be worth nothing.
        files::put(
            dir,
            &number.to_string(),
            &[(KEY, key), (CERT, cert.as_bytes())],
        )
    }

    /// Takes the lock, once per vault, and sweeps up what killed writers left.
    fn write_lock(&self) -> Result<(), Error> {
        let mut held = self
            .lock
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if held.is_none() {
            files::make_folder(&self.dir, &self.dir)?;
            *held = Some(lock::Lock::take(self.dir.join("lock"))?);
            files::sweep(&self.dir.join("roots"))?;
            for cluster in self.clusters()? {
                files::sweep(&self.cluster_dir(&cluster))?;
            }
        }
        Ok(())
    }
}

/// Whether an intermediate is still what would be asked for now.
fn serves(found: &Intermediate, root: &Root, new: &NewIntermediate<'_>) -> bool {
    found.root() == root.cert() && outdated(found.facts(), root.facts(), new).is_none()
}

#[cfg(test)]
mod tests;
