//! How charts are fetched on this machine, which of them are pinned, and what to do when one is refused.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use serde_json::Value;
use tower::service_fn;

use super::{
    environment::{ChartSource, Environment, Logins},
    failure::{Failure, Kind},
};
use crate::{
    chart::{
        self, Credential, Error, FetchOptions, Fetched, Source, Transport,
        lock::{Entry, Lock},
    },
    hint::Hint,
    name::ClusterName,
    net::Network,
    observe::Observed,
    plan::{
        self, Desired,
        desire::{Charts, Release, Renders},
        join::is_loopback,
        upgrade::Upgrade,
    },
    spec::{Mesh, Values},
};

/// The lock's name, beside a mesh file.
pub(crate) const LOCK: &str = "meshlink.lock";

/// How charts are fetched: by the given way out, with the logins that Docker and Helm use.
pub(crate) fn options(
    source: &Source,
    charts: &ChartSource,
    cache: Option<&Path>,
    network: &Network,
) -> Result<FetchOptions, Failure> {
    let remote = matches!(source, Source::Repository(_) | Source::Oci(_));
    let credentials = match remote && !charts.offline {
        true => credentials(&charts.logins)?,
        false => vec![],
    };
    Ok(FetchOptions {
        cache: cache.map(|cache| cache.join("charts")),
        offline: charts.offline,
        transport: Some(transport(network)),
        credentials,
        ..FetchOptions::default()
    })
}

fn transport(network: &Network) -> Transport {
    let network = network.clone();
    Transport::new(service_fn(move |request| {
        let network = network.clone();
        async move { Ok(network.send(request).await?) }
    }))
}

/// The logins of this machine's user. A file that is there and cannot be used is said, not passed over.
fn credentials(logins: &Logins) -> Result<Vec<Credential>, Failure> {
    let mut all = vec![];
    for path in logins.registries.iter().filter(|p| p.is_file()) {
        all.extend(Credential::from_docker(path).map_err(|e| failure(&e))?);
    }
    for path in logins.repositories.iter().filter(|p| p.is_file()) {
        all.extend(Credential::from_helm(path).map_err(|e| failure(&e))?);
    }
    Ok(all)
}

/// Where the charts of a mesh come from, and how they are fetched.
pub(crate) fn source(
    environment: &Environment,
    mesh: &Mesh,
    state: &Path,
) -> Result<(Source, FetchOptions), Failure> {
    let charts = &environment.charts;
    let text = charts.from.as_deref().unwrap_or(&mesh.istio.charts);
    let source = text.parse().map_err(|e| failure(&e))?;
    if let (Source::Repository(url), false) = (&source, charts.offline)
        && url.starts_with("http://")
        && !is_loopback(url)
    {
        let text = format!(
            "warning: charts come from {url} in clear text: whoever is on the way can change those that are not locked yet"
        );
        environment.say(&text);
    }
    let (cache, network) = (&environment.folders.cache, &environment.connect.network);
    let mut fetch = options(&source, charts, Some(cache), network)?;
    if !charts.unpinned {
        let folder = charts.lock_folder.as_deref().unwrap_or(state);
        let lock = Lock::read(&folder.join(LOCK));
        fetch.lock = Some(lock.map_err(|e| failure(&e))?);
    }
    Ok((source, fetch))
}

/// Charts that were fetched, by version.
pub(crate) type Fetches = BTreeMap<String, Charts>;

/// The charts of each member that was read, in the version that it is given; what is not there yet is fetched.
pub(crate) async fn of_members(
    mesh: &Mesh,
    observed: &Observed,
    (source, fetch): (&Source, &FetchOptions),
    upgrade: Option<&Upgrade>,
    known: &mut Fetches,
) -> Result<BTreeMap<ClusterName, Charts>, Failure> {
    let locked = fetch.lock.as_ref().and_then(|lock| lock.newest("istiod"));
    let versions = plan::version::versions(mesh, observed, locked, upgrade);
    let mut all = BTreeMap::new();
    for (name, given) in versions {
        for version in [&given.istio, &given.crds] {
            if !known.contains_key(version) {
                known.insert(version.clone(), fetched(source, version, fetch).await?);
            }
        }
        if let (Some(istio), Some(crds)) = (known.get(&given.istio), known.get(&given.crds)) {
            let base = crds.base.clone();
            all.insert(
                name,
                Charts {
                    base,
                    ..istio.clone()
                },
            );
        }
    }
    Ok(all)
}

/// The charts of a join, side by side.
async fn fetched(source: &Source, version: &str, fetch: &FetchOptions) -> Result<Charts, Failure> {
    let one = async |name| {
        let fetched = fetch_one(source, name, version, fetch).await;
        fetched.map(Arc::new)
    };
    let (base, istiod, gateway) =
        tokio::try_join!(one("base"), one("istiod"), one("gateway")).map_err(|e| failure(&e))?;
    Ok(Charts {
        base,
        istiod,
        gateway,
        rendered: Renders::default(),
    })
}

/// One chart, and where it came from in the log.
pub(crate) async fn fetch_one(
    source: &Source,
    name: &str,
    version: &str,
    fetch: &FetchOptions,
) -> Result<Fetched, Error> {
    let fetched = chart::fetch(source, name, version, fetch).await;
    if let Ok(Fetched { origin, sha256, .. }) = &fetched {
        tracing::debug!("chart {name} {version}: {origin}, sha256 {sha256}");
    }
    fetched
}

/// The owner's values for istiod. A revision would give istiod, its configuration and its webhooks other names, and what
/// makes an istiod a member is for the mesh to say: such a value would be replaced, and who wrote it believes otherwise.
pub(crate) fn istiod_values(mesh: &Mesh) -> Result<Value, Failure> {
    let all = owner_values(&mesh.istio.values)?;
    let id = mesh.id.as_str();
    let ours = [
        ("/revision", "", "which is not supported"),
        ("/global/meshID", id, "which the mesh sets"),
        ("/global/network", "", "which the mesh sets for each member"),
        (
            "/global/multiCluster/clusterName",
            "",
            "which the mesh sets for each member",
        ),
    ];
    let mut texts = vec![];
    for (pointer, same, why) in ours {
        let value = all.pointer(pointer).and_then(Value::as_str);
        if let Some(value) = value.filter(|v| !v.is_empty() && *v != same) {
            let key = pointer.trim_start_matches('/').replace('/', ".");
            texts.push(format!(
                "the values for istiod set {key} to {value:?}, {why}: leave it out"
            ));
        }
    }
    let failures = texts.into_iter();
    let failures = failures.map(|text| Failure::from_causes(Kind::InvalidMesh, vec![text]));
    failures.reduce(Failure::and).map_or(Ok(all), Err)
}

/// The owner's values, as Helm reads and layers them.
pub(crate) fn owner_values(values: &Values) -> Result<Value, Failure> {
    let failed = |e: chart::Error| Failure::new(Kind::InvalidMesh, &e);
    let mut all = chart::values::merge_files(&values.files).map_err(failed)?;
    chart::values::overlay(&mut all, values.inline.clone());
    Ok(Value::Object(all))
}

/// Writes down the charts a mesh is made of, with the images they run there. What was written before stays.
pub(crate) fn pin(before: Option<&Lock>, desired: &Desired, say: &dyn Fn(&str)) {
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
        say(&format!("note: the charts are not pinned: {error}"));
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
        Error::Locked { .. } | Error::Digest { .. } | Error::Unpack { .. } => Kind::Refused,
        Error::Source { .. } => Kind::Usage,
        _ => Kind::Failed,
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
pub(crate) fn hints(error: &Error) -> Vec<Hint> {
    match error {
        Error::Locked {
            name,
            version,
            origin,
            path,
            ..
        } => vec![
            Hint::note(
                "a published version does not change: ask its publisher, or take the chart from where it came before",
            ),
            Hint::command([
                "meshlink",
                "chart",
                "lock",
                name,
                "--version",
                version,
                "--repo",
                origin,
                "--lock",
                &path.display().to_string(),
                "--update",
            ])
            .remark("only if the change is meant"),
        ],
        Error::Digest { .. } => vec![Hint::note(
            "the archive changed in transit, or its index comes from somebody else: run the command again, and do not use the chart if it is refused again",
        )],
        Error::Unpack { .. } => {
            vec![Hint::note(
                "do not unpack it with other tools either; take the chart from its publisher",
            )]
        }
        Error::Offline {
            name,
            version,
            origin,
        } => vec![
            Hint::command([
                "meshlink",
                "chart",
                "pull",
                name,
                "--version",
                version,
                "--repo",
                origin,
                "-d",
                "charts",
            ])
            .remark("where there is a network"),
            Hint::note("then give that folder with --charts or --repo"),
        ],
        Error::Request { .. } | Error::Slow { .. } => vec![
            Hint::note(
                "give them from elsewhere: --charts with a repository, oci://…, folder or archive",
            ),
            Hint::note(
                "or fetch them where there is a network, with meshlink chart pull, and take that folder",
            ),
            Hint::note("what was fetched here before is used with --offline"),
        ],
        Error::Status {
            status: 401 | 403, ..
        } => {
            vec![Hint::note(
                "helm registry login HOST, or helm repo add NAME URL --username NAME: meshlink reads what they write",
            )]
        }
        Error::Template(fault) => fault
            .value
            .iter()
            .map(|value| {
                let chart = &fault.chart;
                Hint::note(format!(
                    "look at {value} among the values given to chart {chart}"
                ))
            })
            .collect(),
        _ => vec![],
    }
}
