//! The folder the keys of one mesh rest in.
//!
//! ```text
//! <data>/<mesh>/           0700, as every folder below it
//!   lock                   held by who writes; says who that is
//!   roots/1/               cert.pem, key.pem (0600)
//!   roots/2/               the same, and spare.pem: a throw-away root, by which proxies are made to ask for certificates
//!   clusters/east/1/       cert.pem, key.pem
//! ```
//!
//! The highest number counts. Where the members say that they are bound to an earlier root ([`Vault::follow`]), as long as
//! one takes the place of another, that is the root of the mesh, and of intermediates the highest under it counts.
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

use super::{Cert, Intermediate, NewIntermediate, NewRoot, Root, renewal::outdated, throw_away};
use crate::{hint::Hint, mutex, name::ClusterName};

const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";
const SPARE: &str = "spare.pem";

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
    /// The root that the members are bound to, by its public key.
    followed: Mutex<Option<String>>,
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
            followed: Mutex::default(),
        })
    }

    /// Takes the root of this public key for that of the mesh, if it is here: the members say that they are bound to it.
    pub(crate) fn follow(&self, key: &str) {
        let mut followed = mutex::lock(&self.followed);
        *followed = Some(key.to_owned());
    }

    /// The root of the mesh, if it is here.
    pub(crate) fn root(&self) -> Result<Option<Root>, Error> {
        if let Some(root) = self.followed()? {
            return Ok(Some(root));
        }
        let newest = self.newest(&self.dir.join("roots"))?;
        newest.map(|dir| root_in(&dir)).transpose()
    }

    fn followed(&self) -> Result<Option<Root>, Error> {
        let followed = mutex::lock(&self.followed).clone();
        let root = followed.map(|key| self.root_of(&key)).transpose()?;
        Ok(root.flatten())
    }

    /// The root of this public key, if it is here.
    pub(crate) fn root_of(&self, key: &str) -> Result<Option<Root>, Error> {
        let number = self.number_of(key)?;
        number
            .map(|number| root_in(&self.root_dir(number)))
            .transpose()
    }

    /// The newest root, if it is another than the mesh's and can take its place.
    pub(crate) fn next_root(&self) -> Result<Option<Root>, Error> {
        let mesh = self.root()?.map(|root| root.facts().spki_sha256.clone());
        let Some((_, newest)) = self.roots()?.pop() else {
            return Ok(None);
        };
        let key = &newest.facts().spki_sha256;
        match mesh.as_ref() == Some(key) || self.spare(key)?.is_none() {
            true => Ok(None),
            false => self.root_of(key),
        }
    }

    /// The root without a key that was made together with the root of this public key.
    pub(crate) fn spare(&self, key: &str) -> Result<Option<Cert>, Error> {
        let Some(number) = self.number_of(key)? else {
            return Ok(None);
        };
        let path = self.root_dir(number).join(SPARE);
        match files::need(&path) {
            Ok(pem) => only(&path, &pem).map(Some),
            Err(Error::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn root_dir(&self, number: u32) -> PathBuf {
        self.dir.join("roots").join(number.to_string())
    }

    fn number_of(&self, key: &str) -> Result<Option<u32>, Error> {
        let mut roots = self.roots()?.into_iter();
        let found = roots.rfind(|(_, cert)| cert.facts().spki_sha256 == key);
        Ok(found.map(|(number, _)| number))
    }

    /// The certificates of all roots there have been, by number, oldest first.
    pub(crate) fn roots(&self) -> Result<Vec<(u32, Cert)>, Error> {
        let read = |number: u32| {
            let path = self.root_dir(number).join(CERT);
            Ok((number, only(&path, &files::need(&path)?)?))
        };
        let numbers = self.checked(&self.dir.join("roots"))?;
        numbers.into_iter().map(read).collect()
    }

    /// Makes the root of the mesh. If there is one, it stays, and that is an error.
    pub(crate) fn create_root(&self, new: &NewRoot<'_>) -> Result<Root, Error> {
        self.write_lock()?;
        if let Some(path) = self.newest(&self.dir.join("roots"))? {
            return Err(Error::RootExists { path });
        }
        let root = Root::create(new).map_err(|source| self.unmade(source))?;
        self.put_root(&root, None)?;
        Ok(root)
    }

    /// Makes a further root, to take the place of the mesh's, or takes up one that somebody else has made. Those before
    /// it stay.
    pub(crate) fn add_root(&self, new: &NewRoot<'_>, given: Option<&Root>) -> Result<Root, Error> {
        self.write_lock()?;
        let unmade = |source| self.unmade(source);
        let spare = throw_away(new.mesh, new.embedded, new.now).map_err(unmade)?;
        let root = match given {
            Some(given) => given.copy().map_err(unmade)?,
            None => Root::create(new).map_err(unmade)?,
        };
        self.put_root(&root, Some(&spare))?;
        Ok(root)
    }

    fn put_root(&self, root: &Root, spare: Option<&Cert>) -> Result<(), Error> {
        let key = root.key().to_pem().map_err(|source| self.unmade(source))?;
        let spare = spare.map(Cert::to_pem);
        let more = spare.iter().map(|pem| (SPARE, pem.as_bytes())).collect();
        self.put(&self.dir.join("roots"), root.cert(), key.as_bytes(), more)
    }

    fn unmade(&self, source: super::Error) -> Error {
        let path = self.dir.join("roots");
        Error::Make { path, source }
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

    /// What a cluster signs with, if that is here: where the members say which root they are bound to, under that one.
    pub(crate) fn intermediate(
        &self,
        cluster: &ClusterName,
    ) -> Result<Option<Intermediate>, Error> {
        let root = self.followed()?;
        self.intermediate_under(cluster, root.as_ref().map(Root::cert))
    }

    /// The newest intermediate of a cluster under a root.
    fn intermediate_under(
        &self,
        cluster: &ClusterName,
        root: Option<&Cert>,
    ) -> Result<Option<Intermediate>, Error> {
        let folder = self.cluster_dir(cluster);
        let roots: Vec<_> = self.roots()?.into_iter().map(|(_, root)| root).collect();
        for number in self.checked(&folder)?.into_iter().rev() {
            let dir = folder.join(number.to_string());
            let (cert, key) = (files::need(&dir.join(CERT))?, files::need(&dir.join(KEY))?);
            let held = Intermediate::from_pem(&cert, &key, &roots)
                .map_err(|source| Error::Damaged { path: dir, source })?;
            if root.is_none_or(|root| held.root() == root) {
                return Ok(Some(held));
            }
        }
        Ok(None)
    }

    /// The same, where one that is damaged counts as none: it can be made again, unlike the root.
    pub(crate) fn usable_intermediate(
        &self,
        cluster: &ClusterName,
    ) -> Result<Option<Intermediate>, Error> {
        self.usable(cluster, self.intermediate(cluster))
    }

    fn usable(
        &self,
        cluster: &ClusterName,
        found: Result<Option<Intermediate>, Error>,
    ) -> Result<Option<Intermediate>, Error> {
        let folder = self.cluster_dir(cluster);
        match found {
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
        self.issue_under(new, &root)
    }

    /// The same under another root.
    pub(crate) fn issue_under(
        &self,
        new: &NewIntermediate<'_>,
        root: &Root,
    ) -> Result<Intermediate, Error> {
        self.write_lock()?;
        let held = self.intermediate_under(new.cluster, Some(root.cert()));
        if let Some(found) = self.usable(new.cluster, held)?
            && serves(&found, root, new)
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
        self.put(&dir, made.cert(), key.as_bytes(), vec![])?;
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

    fn put(
        &self,
        dir: &Path,
        cert: &Cert,
        key: &[u8],
        more: Vec<(&str, &[u8])>,
    ) -> Result<(), Error> {
        files::make_folder(dir, &self.dir)?;
        let number = self.checked(dir)?.last().map_or(1, |last| last + 1);
        let cert = cert.to_pem();
        // The key first: a certificate without its key would be worth nothing.
        let mut all = vec![(KEY, key), (CERT, cert.as_bytes())];
        all.extend(more);
        files::put(dir, &number.to_string(), &all)
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

fn root_in(dir: &Path) -> Result<Root, Error> {
    let (cert, key) = (files::need(&dir.join(CERT))?, files::need(&dir.join(KEY))?);
    let damaged = |source| Error::Damaged {
        path: dir.to_owned(),
        source,
    };
    Root::from_pem(&cert, &key).map_err(damaged)
}

/// The first certificate of a file.
fn only(path: &Path, pem: &[u8]) -> Result<Cert, Error> {
    let damaged = |source| Error::Damaged {
        path: path.to_owned(),
        source,
    };
    let certs = Cert::from_pem(pem).map_err(damaged)?;
    let missing = || Error::Missing {
        path: path.to_owned(),
    };
    certs.into_iter().next().ok_or_else(missing)
}

/// Whether an intermediate is still what would be asked for now.
fn serves(found: &Intermediate, root: &Root, new: &NewIntermediate<'_>) -> bool {
    found.root() == root.cert() && outdated(found.facts(), root.facts(), new).is_none()
}

#[cfg(test)]
mod tests;
