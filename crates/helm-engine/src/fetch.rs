//! Charts from where they are published, checked before anyone uses them.

use std::{
    fs::Permissions,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Chart, Error, Source, archive, lock::Lock, package};

mod cache;
mod credentials;
mod http;
mod oci;
mod repository;

use cache::Cache;
pub use credentials::Credential;
pub use http::Transport;

/// How charts are fetched. The default uses the network and remembers nothing.
///
/// Nothing is read from the environment: logins are what is written here, and proxies are the affair of the transport.
///
/// ```
/// use helm_engine::{Credential, FetchOptions};
/// let options = FetchOptions {
///     cache: Some("/var/cache/charts".into()),
///     credentials: vec![Credential::new("registry.example", "jo", "a password")],
///     ..FetchOptions::default()
/// };
/// assert!(!format!("{options:?}").contains("a password"));
/// ```
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Folder for what was fetched; without one everything is fetched every time.
    pub cache: Option<PathBuf>,
    /// Never use the network: only the cache, folders and archives.
    pub offline: bool,
    /// How requests are sent; without one, straight to the server, trusting the authorities of the system.
    pub transport: Option<Transport>,
    /// Logins for private repositories and registries, by host.
    pub credentials: Vec<Credential>,
    /// Charts that were used before; what differs is refused.
    pub lock: Option<Lock>,
    /// How long one request may take.
    pub timeout: Duration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            cache: None,
            offline: false,
            transport: None,
            credentials: Vec::new(),
            lock: None,
            timeout: Duration::from_secs(60),
        }
    }
}

/// A chart and where it came from.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The chart.
    pub chart: Chart,
    /// The digest of its archive, in hexadecimal; for a folder a digest over its files.
    pub sha256: String,
    /// Where it came from.
    pub origin: String,
    /// The archive; empty for a folder.
    pub archive: Vec<u8>,
}

/// Fetches a chart. `name` picks the chart out of a repository, registry path or folder; an empty version means the
/// newest, pre-releases apart, anything else that very version (ranges are not understood).
///
/// What arrives must be what the repository's index or the registry's manifest promised by digest, and the chart inside
/// must have the name and version that were asked for. Signatures (`.prov`) are not checked: pin charts with a
/// [lock](crate::lock). Must be called on a Tokio runtime.
///
/// # Errors
/// [`Error::NotFound`] with the versions there are; [`Error::Request`], [`Error::Slow`], [`Error::Status`],
/// [`Error::TooLarge`] and [`Error::Index`] where a server is at fault; [`Error::Digest`] and [`Error::Locked`] for bytes
/// that are not the right ones; [`Error::Offline`]; and what [`Chart::from_path`] says of a broken chart.
///
/// ```
/// use helm_engine::{FetchOptions, Source, fetch};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join("Chart.yaml"), "name: shop\nversion: 1.2.3\n")?;
/// let source = Source::Folder(folder.path().into()); // or "https://charts.example".parse()?
/// let fetched = fetch(&source, "shop", "", &FetchOptions::default()).await?;
/// println!("{} {} {}", fetched.chart.name(), fetched.chart.metadata.version, fetched.sha256);
/// # Ok(())
/// # }
/// ```
pub async fn fetch(
    source: &Source,
    name: &str,
    version: &str,
    options: &FetchOptions,
) -> Result<Fetched, Error> {
    if !archive::is_plain(name) {
        return Err(Error::Source {
            text: name.to_owned(),
            reason: "it is not a valid chart name".to_owned(),
        });
    }
    let fetched = match source {
        Source::Folder(folder) => from_folder(folder, name, version)?,
        Source::Archive(path) => from_disk(path)?,
        Source::Repository(_) | Source::Oci(_) => {
            from_network(source, name, version, options).await?
        }
    };
    expect(&fetched.chart, name, version, &fetched.origin)?;
    if let Some(lock) = &options.lock {
        lock.check(
            name,
            &fetched.chart.metadata.version,
            &fetched.origin,
            &fetched.sha256,
        )?;
    }
    Ok(fetched)
}

/// A folder is the chart itself, or holds it as a folder or as an archive.
fn from_folder(folder: &Path, name: &str, version: &str) -> Result<Fetched, Error> {
    if folder.join("Chart.yaml").is_file() {
        return from_disk(folder);
    }
    let inner = folder.join(name);
    if inner.join("Chart.yaml").is_file() {
        return from_disk(&inner);
    }
    if !version.is_empty() {
        let archive = folder.join(format!("{name}-{version}.tgz"));
        if archive.is_file() {
            return from_disk(&archive);
        }
    }
    let available = archives(folder, name);
    match (version, available.as_slice()) {
        ("", [.., newest]) => from_disk(&folder.join(format!("{name}-{newest}.tgz"))),
        _ => Err(Error::NotFound {
            name: name.to_owned(),
            version: version.to_owned(),
            origin: folder.display().to_string(),
            available,
        }),
    }
}

/// Versions of a chart whose archives lie in a folder, oldest first.
fn archives(folder: &Path, name: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let versions = files.filter_map(|file| {
        Some(
            file.strip_prefix(name)?
                .strip_prefix('-')?
                .strip_suffix(".tgz")?
                .to_owned(),
        )
    });
    repository::sorted(versions.collect())
}

fn from_disk(path: &Path) -> Result<Fetched, Error> {
    let (chart, digest) = package::from_path(path)?;
    let archive = if path.is_dir() {
        Vec::new()
    } else {
        std::fs::read(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?
    };
    Ok(Fetched {
        chart,
        sha256: archive::hex(&digest),
        origin: path.display().to_string(),
        archive,
    })
}

async fn from_network(
    source: &Source,
    name: &str,
    version: &str,
    options: &FetchOptions,
) -> Result<Fetched, Error> {
    let cache = options.cache.as_deref().map(Cache::new);
    let locked = options
        .lock
        .as_ref()
        .and_then(|lock| lock.find(name, version))
        .map(|entry| entry.sha256.clone());
    let origin = source.to_string();
    let remembered = locked.or_else(|| {
        cache
            .as_ref()
            .filter(|_| options.offline)?
            .digest(&origin, name, version)
    });
    if let Some(archive) = remembered
        .as_deref()
        .and_then(|digest| cache.as_ref()?.archive(digest))
    {
        return unpacked(archive, origin);
    }
    if options.offline {
        return Err(Error::Offline {
            name: name.to_owned(),
            version: version.to_owned(),
            origin,
        });
    }
    let http = http::Http::new(options)?;
    let (found, archive) = match source {
        Source::Oci(base) => oci::pull(&http, base, name, version, cache.as_ref()).await?,
        _ => repository::pull(&http, &origin, name, version, cache.as_ref()).await?,
    };
    let fetched = unpacked(archive, origin)?;
    if let Some(lock) = &options.lock {
        lock.check(name, &found, &fetched.origin, &fetched.sha256)?;
    }
    if let Some(cache) = &cache {
        cache.keep(
            &fetched.origin,
            name,
            &[version, &found],
            &fetched.sha256,
            &fetched.archive,
        )?;
    }
    Ok(fetched)
}

fn unpacked(archive: Vec<u8>, origin: String) -> Result<Fetched, Error> {
    let chart = package::from_archive(&archive, &origin)?;
    Ok(Fetched {
        chart,
        sha256: archive::hex(archive::sha256(&archive)),
        origin,
        archive,
    })
}

/// The chart inside must be the one that was asked for, whatever the source called it.
fn expect(chart: &Chart, name: &str, version: &str, origin: &str) -> Result<(), Error> {
    let found = &chart.metadata;
    if found.name != name || !(version.is_empty() || same_version(&found.version, version)) {
        let available = vec![format!("{} {}", found.name, found.version)];
        return Err(Error::NotFound {
            name: name.to_owned(),
            version: version.to_owned(),
            origin: origin.to_owned(),
            available,
        });
    }
    Ok(())
}

fn same_version(a: &str, b: &str) -> bool {
    let plain = |text: &str| text.strip_prefix('v').unwrap_or(text).to_owned();
    plain(a) == plain(b)
}

impl Fetched {
    /// Writes the chart's archive; one that came from a folder is packed first.
    ///
    /// # Errors
    /// [`Error::Write`]; for a folder also [`Error::Read`] and [`Error::Unpack`].
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        if !self.archive.is_empty() {
            return write_whole(path, &self.archive);
        }
        let files = archive::walk(Path::new(&self.origin))?;
        let packed = archive::pack(self.chart.name(), &files);
        write_whole(
            path,
            &packed.map_err(|source| Error::Write {
                path: path.to_owned(),
                source,
            })?,
        )
    }
}

/// Writes a file under another name and moves it into place, so that nobody ever sees half of it.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let write = || {
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
