//! Keys of roots under a passphrase.

use std::path::Path;

use zeroize::Zeroizing;

use super::{CERT, ELSEWHERE, Error, KEY, Vault, files};
use crate::{
    mutex,
    pki::{Error as PkiError, Key, Root, pem, protect},
};

/// What opens a key. It is shown to nobody.
#[derive(PartialEq, Eq)]
pub(crate) struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// From what was typed, or stands in a file: the end of the line is no part of it.
    pub(crate) fn new(text: &Zeroizing<Vec<u8>>) -> Option<Self> {
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        (!line.is_empty()).then(|| Self(Zeroizing::new(line.to_vec())))
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// Whether a key, as PEM, is under a passphrase.
pub(super) fn is_sealed(pem: &[u8]) -> bool {
    let blocks = pem::blocks(pem).unwrap_or_default();
    blocks
        .first()
        .is_some_and(|first| first.label == protect::LABEL)
}

/// The root in a folder, with its key.
pub(super) fn root(dir: &Path, passphrase: Option<&Passphrase>) -> Result<Root, Error> {
    let (cert, key) = (files::need(&dir.join(CERT))?, files::need(&dir.join(KEY))?);
    let damaged = |source| Error::Damaged {
        path: dir.to_owned(),
        source,
    };
    if !is_sealed(&key) {
        return Root::from_pem(&cert, &key).map_err(damaged);
    }
    let path = dir.join(KEY);
    let Some(Passphrase(passphrase)) = passphrase else {
        return Err(Error::Locked { path });
    };
    let wrong = |source| Error::Make {
        path: path.clone(),
        source,
    };
    let blocks = pem::blocks(&key).unwrap_or_default();
    let sealed = blocks.first().map(|first| first.der.as_slice());
    let opened = protect::open(sealed.unwrap_or_default(), passphrase).map_err(wrong)?;
    let opened = pem::encode("PRIVATE KEY", &opened);
    // Of a wrong passphrase now and then something comes out that is no key.
    let wrong_key = |_| {
        wrong(PkiError::ReadKey {
            reason: "is not opened by this passphrase".into(),
        })
    };
    Key::from_pem(opened.as_bytes()).map_err(wrong_key)?;
    Root::from_pem(&cert, opened.as_bytes()).map_err(damaged)
}

impl Vault {
    /// Gives the passphrase of the keys of roots; new ones are put under it.
    pub(crate) fn unlock(&self, passphrase: Option<Passphrase>) {
        *mutex::lock(&self.passphrase) = passphrase;
    }

    pub(super) fn root_in(&self, dir: &Path) -> Result<Root, Error> {
        root(dir, mutex::lock(&self.passphrase).as_ref())
    }

    /// Whether the key of the root of the mesh is under a passphrase that was not given.
    pub(crate) fn is_locked(&self) -> Result<bool, Error> {
        if mutex::lock(&self.passphrase).is_some() || self.named().is_some() {
            return Ok(false);
        }
        self.is_protected()
    }

    /// Whether the key of any root here is under a passphrase.
    pub(crate) fn is_protected(&self) -> Result<bool, Error> {
        for dir in self.keys()? {
            if is_sealed(&files::need(&dir.join(KEY))?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The folders of the roots whose keys are here.
    fn keys(&self) -> Result<Vec<std::path::PathBuf>, Error> {
        let numbers = self.checked(&self.dir.join("roots"))?.into_iter();
        let dirs = numbers.map(|number| self.root_dir(number));
        Ok(dirs.filter(|dir| !dir.join(ELSEWHERE).exists()).collect())
    }

    /// A key of a root as it is to rest here.
    pub(super) fn sealed(&self, key: &Key) -> Result<Zeroizing<String>, Error> {
        let unmade = |source| self.unmade(source);
        let plain = key.to_pem().map_err(unmade)?;
        let passphrase = mutex::lock(&self.passphrase);
        match passphrase.as_ref() {
            Some(passphrase) => seal(&plain, passphrase).map_err(unmade),
            // One beside others that are protected is not left open.
            None if self.is_protected()? => Err(Error::Locked {
                path: self.dir.join("roots"),
            }),
            None => Ok(plain),
        }
    }

    /// Puts the keys of all roots here under another passphrase, or under none; how many there are.
    pub(crate) fn protect(&self, new: Option<Passphrase>) -> Result<usize, Error> {
        self.write_lock()?;
        let dirs = self.keys()?;
        // All are opened before any is changed.
        let roots: Result<Vec<_>, _> = dirs.iter().map(|dir| self.root_in(dir)).collect();
        for (dir, root) in dirs.iter().zip(roots?) {
            let unmade = |source| self.unmade(source);
            let plain = root.key().to_pem().map_err(unmade)?;
            let text = match &new {
                Some(passphrase) => seal(&plain, passphrase).map_err(unmade)?,
                None => plain,
            };
            files::replace(dir, KEY, text.as_bytes())?;
        }
        self.unlock(new);
        Ok(dirs.len())
    }
}

fn seal(plain: &str, passphrase: &Passphrase) -> Result<Zeroizing<String>, PkiError> {
    let blocks = pem::blocks(plain.as_bytes()).unwrap_or_default();
    let key = blocks.first().map(|first| first.der.as_slice());
    let sealed = protect::seal(key.unwrap_or_default(), &passphrase.0)?;
    Ok(pem::encode(protect::LABEL, &sealed))
}
