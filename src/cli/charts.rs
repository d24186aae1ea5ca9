//! How charts are fetched on this machine, which of them are pinned, and what to do when one is refused.

use std::path::{Path, PathBuf};

use super::{
    Frame,
    args::Environment,
    error::{Exit, Failure},
};
use crate::{
    chart::{
        self, Credential, Error, FetchOptions, Proxy, Source,
        lock::{Entry, Lock},
    },
    plan::{Desired, desire::Release},
};

/// The lock's name, beside a mesh file.
pub(crate) const LOCK: &str = "meshlink.lock";

/// How charts are fetched: through the machine's proxies, with the logins that Docker and Helm use.
pub(crate) fn options(
    frame: &Frame,
    source: &Source,
    cache: Option<&Path>,
    offline: bool,
) -> Result<FetchOptions, Failure> {
    let environment = &frame.environment;
    let proxies = environment.proxies();
    let remote = matches!(source, Source::Repository(_) | Source::Oci(_));
    let credentials = match remote && !offline {
        true => credentials(environment)?,
        false => vec![],
    };
    Ok(FetchOptions {
        cache: cache.map(|cache| cache.join("charts")),
        offline,
        proxy: Proxy {
            http: proxies.http,
            https: proxies.https,
            exceptions: proxies.none.unwrap_or_default(),
        },
        credentials,
        ..FetchOptions::default()
    })
}

/// The logins of this machine's user. A file that is there and cannot be used is said, not passed over.
fn credentials(environment: &Environment) -> Result<Vec<Credential>, Failure> {
    let (docker, registries, repositories) = environment.logins();
    let mut all = vec![];
    for path in [registries, docker]
        .into_iter()
        .flatten()
        .filter(|p| p.is_file())
    {
        all.extend(Credential::from_docker(&path).map_err(|e| failure(&e))?);
    }
    for path in repositories.into_iter().filter(|p| p.is_file()) {
        all.extend(Credential::from_helm(&path).map_err(|e| failure(&e))?);
    }
    Ok(all)
}

/// Where the lock of a mesh lies: beside its file, else beside the mesh as it was written down.
pub(crate) fn lock_path(mesh_file: Option<&Path>, state: &Path) -> PathBuf {
    match mesh_file {
        Some(file) => file.with_file_name(LOCK),
        None => state.join(LOCK),
    }
}

/// Writes down the charts a mesh is made of, with the images they run there. What was written before stays.
pub(crate) fn pin(frame: &Frame, before: Option<&Lock>, desired: &Desired) {
    let Some(before) = before else {
        return;
    };
    let mut lock = before.clone();
    let releases = desired
        .clusters
        .values()
        .flat_map(|wanted| [&wanted.base, &wanted.istiod, &wanted.gateway]);
    for release in releases {
        add(&mut lock, release);
    }
    if lock == *before {
        return;
    }
    // A checkout that cannot be written to is no reason not to go on, but one to say so.
    if let Err(error) = lock.write(&before.path) {
        let text = format!("note: the charts are not pinned: {error}");
        frame.screen.complain(&text);
    }
}

fn add(lock: &mut Lock, release: &Release) {
    let fetched = &release.chart;
    let (name, version) = (fetched.chart.name(), &fetched.chart.metadata.version);
    let known = lock.find(name, version);
    let mut images = chart::images(&release.rendered);
    images.extend(known.iter().flat_map(|entry| entry.images.clone()));
    images.sort();
    images.dedup();
    let source = known.map_or(&fetched.origin, |entry| &entry.source).clone();
    lock.put(Entry {
        chart: name.to_owned(),
        version: version.clone(),
        sha256: fetched.sha256.clone(),
        source,
        images,
    });
}

/// An error of a chart as the end of a command, with what to do about it.
pub(crate) fn failure(error: &Error) -> Failure {
    let kind = match error {
        Error::Locked { .. } | Error::Digest { .. } | Error::Unpack { .. } => Exit::Refused,
        Error::Source { .. } => Exit::Usage,
        _ => Exit::Failed,
    };
    let failure = Failure::new(kind, error);
    hints(error).into_iter().fold(failure, Failure::hint)
}

/// What a member should hold could not be worked out: mostly a chart and its values.
pub(crate) fn undesired(error: &(dyn std::error::Error + 'static)) -> Failure {
    let failure = Failure::failed(error);
    let chart = std::iter::successors(Some(error), |e| e.source())
        .find_map(|e| e.downcast_ref::<Box<Error>>());
    let hints = chart.map(|e| hints(e)).unwrap_or_default();
    hints.into_iter().fold(failure, Failure::hint)
}

/// What to do about an error of a chart.
pub(crate) fn hints(error: &Error) -> Vec<String> {
    match error {
        Error::Locked {
            name,
            version,
            origin,
            path,
            ..
        } => vec![
            "a published version does not change: ask its publisher, or take the chart from where it came before".into(),
            format!(
                "meshlink chart lock {name} --version {version} --repo {origin} --lock {} --update   # only if the change is meant",
                path.display()
            ),
        ],
        Error::Digest { .. } => vec![
            "the archive was changed on its way, or its index is of another hand: run it again, and do not use it if that does not help".into(),
        ],
        Error::Unpack { .. } => {
            vec!["do not unpack it with other tools either; take the chart from its publisher".into()]
        }
        Error::Offline {
            name,
            version,
            origin,
        } => vec![
            format!("meshlink chart pull {name} --version {version} --repo {origin} -d charts   # where there is a network"),
            "then give that folder with --charts or --repo".into(),
        ],
        Error::Status { status: 401 | 403, .. } => {
            vec!["helm registry login HOST, or helm repo add NAME URL --username NAME   # meshlink reads what they write".into()]
        }
        Error::Template(fault) => fault
            .value
            .iter()
            .map(|value| format!("look at {value} among the values given to chart {}", fault.chart))
            .collect(),
        _ => vec![],
    }
}
