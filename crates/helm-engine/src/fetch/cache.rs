//! Archives by digest, and which digest a chart had when it was last fetched.

use std::path::{Path, PathBuf};

use crate::{Error, archive};

/// A folder of archives.
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.join("charts"),
        }
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.folder
            .join(format!("{}.tgz", digest.to_ascii_lowercase()))
    }

    fn reference(&self, origin: &str, name: &str, version: &str) -> PathBuf {
        let key = archive::sha256(format!("{origin}\0{name}\0{version}").as_bytes());
        self.folder.join("known").join(archive::hex(&key))
    }

    /// The archive with a digest; one that was damaged counts as missing.
    pub(super) fn archive(&self, digest: &str) -> Option<Vec<u8>> {
        let plain = digest.len() == 64 && digest.bytes().all(|c| c.is_ascii_hexdigit());
        let bytes = std::fs::read(self.blob(digest)).ok().filter(|_| plain)?;
        (archive::hex(archive::sha256(&bytes)) == digest.to_ascii_lowercase()).then_some(bytes)
    }

    /// The digest a chart had when it was last fetched.
    pub(super) fn digest(&self, origin: &str, name: &str, version: &str) -> Option<String> {
        Some(
            std::fs::read_to_string(self.reference(origin, name, version))
                .ok()?
                .trim()
                .to_owned(),
        )
    }

    /// Keeps an archive, and what it was asked for as.
    pub(super) fn keep(
        &self,
        origin: &str,
        name: &str,
        versions: &[&str],
        digest: &str,
        bytes: &[u8],
    ) -> Result<(), Error> {
        if self.archive(digest).is_none() {
            super::write_whole(&self.blob(digest), bytes)?;
        }
        for version in versions {
            super::write_whole(&self.reference(origin, name, version), digest.as_bytes())?;
        }
        Ok(())
    }
}
