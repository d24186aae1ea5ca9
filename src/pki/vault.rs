//! The folder the keys of one mesh rest in.
//!
//! ```text
//! <data>/<mesh>/           0700, as every folder below it
//!   requests/east/1/       key.pem, csr.pem: what was asked of an authority out of reach
//!   lock                   held by who writes; says who that is
//!   roots/1/               cert.pem, key.pem (0600)
//!   roots/2/               the same (or signed-by in the place of key.pem), and spare.pem: a throw-away root, by which proxies are made to ask for certificates
//!   clusters/east/1/       cert.pem (and after it the certificates between it and the root), key.pem
//! ```
//!
//! Where the mesh file names somebody else who signs, `roots` holds no key of that root, and `clusters` what was signed.
//!
//! The highest number counts. Where the members say that they are bound to an earlier root ([`Vault::follow`]), as long as
//! one takes the place of another, that is the root of the mesh, and of intermediates the highest under it counts.
//!
//! A number is never written twice and nothing is ever replaced: certificate and key go into a
//! folder of another name, are synced, and that folder is renamed to the next number. Killed at
//! any point, a writer leaves either the old state with a scrap that the next writer sweeps up,
//! or the new state. What others could read or write, or own, or have linked here, is refused.

mod files;
mod issue;
mod lock;
mod requests;
mod secret;

pub(crate) use secret::Passphrase;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use super::{
    Cert, NewRoot, Root,
    signer::{self, Authority},
    throw_away,
};
use crate::{hint::Hint, mutex, name::ClusterName};

const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";
const SPARE: &str = "spare.pem";
/// In the place of the key, for a root whose key somebody else has: who, by the name in the mesh file.
const ELSEWHERE: &str = "signed-by";

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
    /// The key is under a passphrase, and none was given.
    #[error("{} is under a passphrase, which was not given", path.display())]
    Locked {
        /// The key.
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
    /// Who signs has not signed.
    #[error(transparent)]
    Signer(#[from] signer::Error),
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
            Self::Signer(error) => error.hint(),
            Self::Locked { .. } => Some(Hint::note(
                "run it on a terminal, where you are asked, or name a file with the passphrase in MESHLINK_PASSPHRASE_FILE",
            )),
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
    /// Held by who looks for the next number and writes it: members are served abreast.
    numbering: Mutex<()>,
    /// Held by who looks whether a root is remembered and remembers it.
    remembering: Mutex<()>,
    /// The root that the members are bound to, by its public key.
    followed: Mutex<Option<String>>,
    /// Who signs in the place of the roots whose keys are here.
    named: Option<Arc<dyn Authority>>,
    /// What opens the keys of roots that are under a passphrase, and what new ones are put under.
    passphrase: Mutex<Option<Passphrase>>,
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
            numbering: Mutex::default(),
            remembering: Mutex::default(),
            followed: Mutex::default(),
            named: None,
            passphrase: Mutex::default(),
        })
    }

    /// The same, where the mesh file names somebody else who signs.
    pub(crate) fn signed_by(self, named: Option<Arc<dyn Authority>>) -> Self {
        Self { named, ..self }
    }

    /// Who signs in the place of the roots whose keys are here.
    pub(crate) fn named(&self) -> Option<&dyn Authority> {
        self.named.as_deref()
    }

    /// The same, if all that it signs leads to the root of this public key.
    pub(super) fn named_under(&self, key: &str) -> Option<&dyn Authority> {
        let named = self.named();
        named.filter(|named| named.root().facts().spki_sha256 == key)
    }

    /// Takes the root of this public key for that of the mesh, if it is here: the members say that they are bound to it.
    pub(crate) fn follow(&self, key: &str) {
        let mut followed = mutex::lock(&self.followed);
        *followed = Some(key.to_owned());
    }

    /// The root of the mesh, if it is known here.
    pub(crate) fn root(&self) -> Result<Option<Cert>, Error> {
        if let Some(root) = self.followed()? {
            return Ok(Some(root));
        }
        if let Some(named) = self.named() {
            return Ok(Some(named.root().clone()));
        }
        let newest = self.newest(&self.dir.join("roots"))?;
        newest.map(|dir| cert_in(&dir)).transpose()
    }

    fn followed(&self) -> Result<Option<Cert>, Error> {
        let followed = mutex::lock(&self.followed).clone();
        let root = followed.map(|key| self.cert_of(&key)).transpose()?;
        Ok(root.flatten())
    }

    /// The certificate of the root of this public key, if it is known here.
    pub(crate) fn cert_of(&self, key: &str) -> Result<Option<Cert>, Error> {
        if let Some(named) = self.named_under(key) {
            return Ok(Some(named.root().clone()));
        }
        let number = self.number_of(key)?;
        number
            .map(|number| cert_in(&self.root_dir(number)))
            .transpose()
    }

    /// The root of this public key with its key, if both are here.
    pub(crate) fn root_of(&self, key: &str) -> Result<Option<Root>, Error> {
        let dir = self.number_of(key)?.map(|number| self.root_dir(number));
        dir.filter(|dir| !is_elsewhere(dir))
            .map(|dir| self.root_in(&dir))
            .transpose()
    }

    /// Whether something can be signed under the root of this public key.
    pub(crate) fn can_sign(&self, key: &str) -> Result<bool, Error> {
        let dir = self.number_of(key)?.map(|number| self.root_dir(number));
        Ok(self.named_under(key).is_some() || dir.is_some_and(|dir| !is_elsewhere(&dir)))
    }

    /// The root that can take the place of the mesh's: that of who is named, else the newest.
    pub(crate) fn next_root(&self) -> Result<Option<Cert>, Error> {
        let mesh = self.root()?.map(|root| root.facts().spki_sha256.clone());
        let next = match self.named() {
            Some(named) => Some(named.root().clone()),
            None => self.roots()?.pop().map(|(_, newest)| newest),
        };
        let Some(next) = next else {
            return Ok(None);
        };
        let key = &next.facts().spki_sha256;
        let serves =
            mesh.as_ref() != Some(key) && self.spare(key)?.is_some() && self.can_sign(key)?;
        Ok(serves.then_some(next))
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

    /// Takes up the root of who is named, which has its key elsewhere, to take the place of the mesh's.
    pub(crate) fn add_named(&self, new: &NewRoot<'_>, named: &dyn Authority) -> Result<(), Error> {
        let spare = throw_away(new.mesh, new.embedded, new.now);
        let spare = spare.map_err(|source| self.unmade(source))?;
        self.put_named(named, Some(&spare))
    }

    /// Remembers the root of who is named, so that what was signed under it is known when another is named.
    fn remember(&self, named: &dyn Authority) -> Result<(), Error> {
        let _alone = mutex::lock(&self.remembering);
        match self.number_of(&named.root().facts().spki_sha256)? {
            Some(_) => Ok(()),
            None => self.put_named(named, None),
        }
    }

    fn put_named(&self, named: &dyn Authority, spare: Option<&Cert>) -> Result<(), Error> {
        self.write_lock()?;
        let (cert, spare) = (named.root().to_pem(), spare.map(Cert::to_pem));
        let mut files = vec![
            (ELSEWHERE, named.kind().as_bytes()),
            (CERT, cert.as_bytes()),
        ];
        files.extend(spare.iter().map(|pem| (SPARE, pem.as_bytes())));
        self.put(&self.dir.join("roots"), &files)
    }

    fn put_root(&self, root: &Root, spare: Option<&Cert>) -> Result<(), Error> {
        let key = self.sealed(root.key())?;
        let (cert, spare) = (root.cert().to_pem(), spare.map(Cert::to_pem));
        // The key first: a certificate without its key would be worth nothing.
        let mut files = vec![(KEY, key.as_bytes()), (CERT, cert.as_bytes())];
        files.extend(spare.iter().map(|pem| (SPARE, pem.as_bytes())));
        self.put(&self.dir.join("roots"), &files)
    }

    fn unmade(&self, source: super::Error) -> Error {
        let path = self.dir.join("roots");
        Error::Make { path, source }
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

    fn put(&self, dir: &Path, all: &[(&str, &[u8])]) -> Result<(), Error> {
        let _alone = mutex::lock(&self.numbering);
        files::make_folder(dir, &self.dir)?;
        let number = self.checked(dir)?.last().map_or(1, |last| last + 1);
        files::put(dir, &number.to_string(), all)
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
            let requests = self.dir.join("requests");
            if files::folder(&requests)? {
                for cluster in files::names(&requests)? {
                    files::sweep(&requests.join(cluster))?;
                }
            }
            for cluster in self.clusters()? {
                files::sweep(&self.cluster_dir(&cluster))?;
            }
        }
        Ok(())
    }
}

fn is_elsewhere(dir: &Path) -> bool {
    dir.join(ELSEWHERE).symlink_metadata().is_ok()
}

/// The certificate of a root, whose key has to be beside it unless somebody else has it.
fn cert_in(dir: &Path) -> Result<Cert, Error> {
    let cert = files::need(&dir.join(CERT))?;
    match is_elsewhere(dir) || secret::is_sealed(&files::need(&dir.join(KEY))?) {
        true => only(&dir.join(CERT), &cert),
        false => Ok(secret::root(dir, None)?.cert().clone()),
    }
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

#[cfg(test)]
mod tests;
