//! From objects to facts. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use semver::Version;
use serde_json::Value;

use super::{
    AuthoritySeen, CacertsSeen, Claim, GatewaySeen, Held, IstiodSeen, Keeper, Made, ReaderSeen,
    Record, ReleaseSeen, RemoteSecretSeen, RenewerSeen, Succession, TokenSeen, istios,
};
use crate::{
    chart,
    cluster::{
        Ref,
        access::{self, Problem},
        object,
        wait::{deployment_available, service_has_address},
    },
    digest::sha256_hex,
    owner::{Owner, RENDERED, maker, tool},
    pki::{self, Cert, Severity},
    spec,
    wait::Progress,
};

/// ConfigMap that binds a cluster to a root.
pub(crate) const CLAIM: &str = "meshlink-root";
/// ConfigMap that names the root which takes the place of the one a cluster is bound to; there only as long as it does.
pub(crate) const NEXT: &str = "meshlink-root-next";
/// How long kubelets take at most to bring a changed ConfigMap into a pod, in seconds, in that ConfigMap.
pub(crate) const PROJECTED: &str = "projected-within";
/// What the renewer and everything of it is called.
pub(crate) const RENEWER: &str = "meshlink-renewer";
/// ConfigMap that says what was proved.
pub(crate) const RECORD: &str = "meshlink";
/// Label on release records whose values are all meshlink's: digest of chart and values.
pub(crate) const DIGEST_LABEL: &str = "meshlink/digest";
/// Label on release records meshlink wrote: the chart's version.
pub(crate) const VERSION_LABEL: &str = "meshlink/chart-version";
/// Label on the records of a release that meshlink made, and did not take over from somebody: the mesh.
pub(crate) const MADE_LABEL: &str = "meshlink/made-for";
/// Label on release records meshlink wrote: their revision. Helm hands labels on to the revisions it makes itself; this
/// one then is not theirs.
pub(crate) const REVISION_LABEL: &str = "meshlink/revision";

/// What a digest looks like as a label, whose values may be 63 characters long.
pub(crate) fn label_digest(digest: &str) -> String {
    digest.chars().take(40).collect()
}

pub(super) fn named<'v>(list: &'v [Value], name: &str) -> Option<&'v Value> {
    list.iter().find(|o| o["metadata"]["name"] == name)
}

pub(crate) fn claim(map: &Value) -> Claim {
    let text = |key: &str| map["data"][key].as_str().unwrap_or_default().to_owned();
    Claim {
        mesh: text("mesh"),
        root: text("root"),
    }
}

/// The key of a claim that says which root its own has taken the place of.
pub(crate) const REPLACES: &str = "replaces";

/// When a claim to a root was made that has taken another's place.
pub(super) fn rotated(map: &Value) -> Option<Timestamp> {
    map["data"][REPLACES].as_str()?;
    time(&map["metadata"]["creationTimestamp"])
}

/// The claim, unless it is none: somebody else's ConfigMap of that name, or a copy of another cluster's claim.
pub(super) fn bound(map: &Value, owner: &Owner) -> Option<Claim> {
    let claim = claim(map);
    let is_ours = claim.mesh == owner.mesh.as_str();
    (claim.binds() && (!is_ours || owner.whose(map).is_none())).then_some(claim)
}

/// The change of root that a ConfigMap tells of.
pub(crate) fn succession(map: &Value) -> Option<Succession> {
    let text = |key: &str| Some(map["data"][key].as_str()?.to_owned());
    Some(Succession {
        mesh: text("mesh")?,
        from: text("from")?,
        to: text("to")?,
        spare: text("spare")?,
    })
}

/// How long kubelets take at most, by who began a change of root.
pub(super) fn projected(map: &Value) -> Option<Duration> {
    let seconds = map["data"][PROJECTED].as_str()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

pub(crate) fn record(map: &Value) -> Option<Record> {
    serde_json::from_str(map["data"]["record"].as_str()?).ok()
}

/// The ConfigMap by which istiod hands its roots to every namespace.
pub(crate) const ROOTS: &str = "istio-ca-root-cert";

/// The roots istiod hands to every namespace, by their public keys.
pub(crate) fn published_roots(map: &Value) -> Vec<String> {
    let pem = map["data"]["root-cert.pem"].as_str().unwrap_or_default();
    pki::roots(pem.as_bytes())
}

/// Those of them that sign nothing and are to be gone again.
pub(crate) fn throw_aways(map: &Value) -> Vec<String> {
    let pem = map["data"]["root-cert.pem"].as_str().unwrap_or_default();
    let certs = Cert::from_pem(pem.as_bytes()).unwrap_or_default();
    let found = certs
        .iter()
        .map(Cert::facts)
        .filter(|c| pki::is_throw_away(c));
    found.map(|c| c.spki_sha256.clone()).collect()
}

pub(crate) fn cacerts(secret: &Value, now: Timestamp, owner: &Owner) -> CacertsSeen {
    let ours = owner.whose(secret).is_none();
    let files = match pki::secret_files(&secret["data"]) {
        Ok(files) => files,
        Err(error) => {
            return CacertsSeen {
                problems: vec![error.to_string()],
                ours,
                ..Default::default()
            };
        }
    };
    let first = |name: &str| {
        let pem = files.get(name)?;
        Cert::from_pem(pem.as_ref()).ok()?.into_iter().next()
    };
    let signer = first("ca-cert.pem").or_else(|| first("tls.crt"));
    let roots = ["root-cert.pem", "ca.crt"].into_iter();
    let roots = roots.filter_map(|name| files.get(name)).next();
    let bundle = roots.and_then(|pem| Cert::from_pem(pem).ok());
    let bundle = bundle.unwrap_or_default();
    let between = files.get("cert-chain.pem").or_else(|| files.get("tls.crt"));
    let between = between.and_then(|pem| Cert::from_pem(pem).ok());
    let between = between.unwrap_or_default();
    let under = signer.as_ref().and_then(|signer| {
        let mut all = bundle.iter();
        all.find(|root| pki::leads(signer, &between, root))
    });
    let refused = pki::check_cacerts(&files, now)
        .into_iter()
        .filter(|p| p.severity != Severity::Warning)
        .map(|p| p.text);
    CacertsSeen {
        problems: refused.collect(),
        roots: roots.map(|pem| pki::roots(pem)).unwrap_or_default(),
        bundle: bundle.iter().map(|c| c.facts().clone()).collect(),
        under: under.map(|root| root.facts().spki_sha256.clone()),
        signer: signer.map(|c| c.facts().clone()),
        ours,
        uid: secret["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        keeper: istios::keeper(secret),
    }
}

pub(super) fn istiod(deployment: Option<&Value>, pods: &[Value], released: bool) -> IstiodSeen {
    let Some(deployment) = deployment else {
        return IstiodSeen::default();
    };
    let live = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    let mut versions: BTreeSet<_> = pods.iter().filter(live).filter_map(istio_version).collect();
    if versions.is_empty() {
        versions.extend(istio_version(&deployment["spec"]["template"]));
    }
    let started = pods
        .iter()
        .filter(live)
        .filter_map(|p| time(&p["status"]["startTime"]));
    IstiodSeen {
        started: started.min(),
        versions,
        present: true,
        available: matches!(deployment_available(Some(deployment)), Progress::Done(())),
        foreign: if released { None } else { manager(deployment) },
        values: None,
        pods: object::running(pods),
    }
}

/// The Istio version a pod or a pod template runs: the image's tag, which a variant may follow
/// (`1.31.0-distroless`), else what Istio's charts write on it.
pub(crate) fn istio_version(pod: &Value) -> Option<Version> {
    let image = pod["spec"]["containers"][0]["image"].as_str();
    let labels = &pod["metadata"]["labels"];
    let label = labels["app.kubernetes.io/version"].as_str();
    let chart = labels["helm.sh/chart"].as_str();
    let chart = chart.and_then(|c| c.strip_prefix("istiod-"));
    let written = || [label, chart].into_iter().flatten().find_map(read_version);
    image.and_then(version_of).or_else(written)
}

/// The version that an image's tag names.
pub(super) fn version_of(image: &str) -> Option<Version> {
    let (_, tag) = image.split('@').next()?.rsplit_once(':')?;
    read_version(tag)
}

fn read_version(text: &str) -> Option<Version> {
    let mut version = Version::parse(text).ok()?;
    let early = ["alpha", "beta", "rc"]
        .iter()
        .any(|p| version.pre.starts_with(p));
    if !early {
        version.pre = semver::Prerelease::EMPTY;
    }
    Some(version)
}

pub(super) fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// When an object was last written, by what its field managers say, or made.
pub(super) fn written(object: &Value) -> Option<Timestamp> {
    let metadata = &object["metadata"];
    let entries = metadata["managedFields"].as_array().into_iter().flatten();
    let last = entries.filter_map(|f| time(&f["time"])).max();
    last.max(time(&metadata["creationTimestamp"]))
}

/// A member's renewer, by its CronJob.
pub(super) fn renewer(job: &Value) -> RenewerSeen {
    let spec = &job["spec"];
    let pod = &spec["jobTemplate"]["spec"]["template"]["spec"];
    let mut told = job.clone();
    if let Some(fields) = told["metadata"]["managedFields"].as_array_mut() {
        // What its controller says of its Jobs does not change what it runs.
        fields.retain(|f| f["subresource"].as_str().is_none_or(str::is_empty));
    }
    RenewerSeen {
        image: pod["containers"][0]["image"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        written: written(&told),
        succeeded: time(&job["status"]["lastSuccessfulTime"]),
        suspended: spec["suspend"] == true,
    }
}

/// When an object was last changed; none if never since it was made.
fn changed(object: &Value) -> Option<Timestamp> {
    let made = time(&object["metadata"]["creationTimestamp"]);
    written(object).filter(|last| made.is_some_and(|made| *last > made))
}

/// The value of a variable that a pod sets: in the named container, or in any.
pub(crate) fn variable<'v>(pod: &'v Value, container: Option<&str>, name: &str) -> Option<&'v str> {
    let of = |key: &str| pod["spec"][key].as_array().into_iter().flatten();
    let all = of("containers").chain(of("initContainers"));
    let all = all.filter(|c| container.is_none_or(|container| c["name"] == container));
    let mut set = all.flat_map(|c| c["env"].as_array().into_iter().flatten());
    // Of one that is set twice, the last counts.
    let mut set: Vec<_> = set.by_ref().filter(|e| e["name"] == name).collect();
    set.pop()?["value"].as_str()
}

/// Who else manages an object, by the marks they leave.
fn manager(deployment: &Value) -> Option<String> {
    let metadata = &deployment["metadata"];
    // Whoever applied it: it is what we rendered, and what a join would make.
    if metadata["annotations"][RENDERED].is_string() {
        return None;
    }
    match tool(deployment) {
        Some(who) => Some(who.into()),
        // Ours before its record was written: the objects carry the release's name already.
        None if metadata["annotations"]["meta.helm.sh/release-name"].is_string() => None,
        None => Some("an unknown owner (no Helm release, no known label)".into()),
    }
}

pub(super) fn gateway(
    service: Option<&Value>,
    deployment: Option<&Value>,
    release: &spec::Gateway,
) -> GatewaySeen {
    let addresses = match service_has_address(service) {
        Progress::Done(addresses) => addresses.iter().map(|a| a.as_str().to_owned()).collect(),
        _ => vec![],
    };
    GatewaySeen {
        present: service.is_some(),
        addresses,
        available: matches!(deployment_available(deployment), Progress::Done(())),
        opened: false,
        keepers: service.map(keepers).unwrap_or_default(),
        service: service.and_then(|service| held(service, &release.name, &release.namespace)),
    }
}

/// An object that a release may hold, as it is there; foreign where it does not belong to the release by Helm's rule.
pub(crate) fn held(live: &Value, release: &str, namespace: &str) -> Option<Held> {
    let is_owned = chart::apply::is_owned(live, release, namespace);
    Some(Held {
        reference: Ref::of(live)?,
        uid: live["metadata"]["uid"].as_str()?.to_owned(),
        foreign: (!is_owned).then(|| maker(live)),
        kept: chart::apply::is_kept(live),
    })
}

/// The names of Istio's CRDs.
pub(crate) fn istio_crds(crds: &[Value]) -> Vec<String> {
    let names = crds.iter().filter_map(|c| c["metadata"]["name"].as_str());
    let istio = names.filter(|n| n.ends_with(".istio.io"));
    istio.map(str::to_owned).collect()
}

/// The finalizer of the AWS Load Balancer Controller, the one keeper that runs in the cluster.
pub(super) const LBC: &str = "service.k8s.aws/resources";

/// Who holds a Service, by its finalizers.
pub(crate) fn keepers(service: &Value) -> Vec<Keeper> {
    let finalizers = service["metadata"]["finalizers"].as_array();
    let names = finalizers.into_iter().flatten().filter_map(Value::as_str);
    let keeper = |finalizer: &str| Keeper {
        finalizer: finalizer.to_owned(),
        who: match finalizer {
            LBC => "the AWS Load Balancer Controller",
            "service.eks.amazonaws.com/resources" => "EKS Auto Mode",
            "service.kubernetes.io/load-balancer-cleanup" => "the cloud controller manager",
            _ => "somebody",
        },
        runs: None,
    };
    names.map(keeper).collect()
}

/// Whether a `Gateway` object lets other networks in.
pub(super) fn opens(gateway: &Value) -> bool {
    let servers = gateway["spec"]["servers"].as_array();
    servers.into_iter().flatten().any(|server| {
        server["port"]["number"] == spec::GATEWAY_PORT
            && server["tls"]["mode"] == "AUTO_PASSTHROUGH"
    })
}

/// Reader accounts by what their tokens come from.
pub(super) fn readers(
    secrets: &[Value],
    owner: &Owner,
    most: std::time::Duration,
) -> BTreeMap<String, ReaderSeen> {
    let mut all = BTreeMap::<String, ReaderSeen>::new();
    for secret in secrets.iter().filter(|s| owner.whose(s).is_none()) {
        let metadata = &secret["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let Some(peer) = metadata["labels"][access::PEER_LABEL].as_str() else {
            continue;
        };
        let made = Made {
            name: text(&metadata["name"]),
            uid: text(&metadata["uid"]),
        };
        if secret["type"] != access::TOKEN_SECRET {
            all.entry(peer.to_owned()).or_default().anchor = Some(made);
        } else if let Some(number) = access::token_number(peer, &made.name) {
            let token = secret["data"]["token"].as_str();
            let token = token.and_then(|token| STANDARD.decode(token).ok());
            let born = time(&metadata["creationTimestamp"]);
            let seen = TokenSeen {
                number,
                secret: made,
                made: born,
                until: born.and_then(|born| born.checked_add(most).ok()),
                token: token.filter(|t| !t.is_empty()).map(|t| sha256_hex(&t)),
            };
            all.entry(peer.to_owned()).or_default().tokens.push(seen);
        }
    }
    for reader in all.values_mut() {
        reader.tokens.sort_by_key(|token| token.number);
    }
    all
}

/// The authorities an API server is known by: what its cluster hands to everybody in it, and what it was reached with from
/// here, which says more where a vendor or a proxy stands before it.
pub(crate) fn authorities<'b>(
    bundles: impl IntoIterator<Item = &'b [u8]>,
    now: Timestamp,
) -> Vec<AuthoritySeen> {
    let anchors = pki::anchors(bundles, now).into_iter();
    let seen = anchors.map(|anchor| AuthoritySeen {
        sha256: anchor.sha256,
        certificate: anchor.facts,
    });
    seen.collect()
}

/// What a cluster hands to everybody in it to know its API server by.
pub(crate) fn root_ca(map: &Value) -> &[u8] {
    map["data"]["ca.crt"]
        .as_str()
        .unwrap_or_default()
        .as_bytes()
}

pub(crate) fn remote_secrets(
    secrets: &[Value],
    embedded: bool,
    owner: &Owner,
) -> BTreeMap<String, RemoteSecretSeen> {
    let entries = secrets.iter().flat_map(|secret| {
        // Of several in one Secret, it cannot be told which was changed.
        let alone = secret["data"].as_object().is_some_and(|d| d.len() == 1);
        let changed = changed(secret).filter(|_| alone);
        let foreign = owner.whose(secret);
        let parsed = access::parse(secret).into_iter();
        let uid = secret["metadata"]["uid"].as_str().unwrap_or_default();
        let times = (changed, written(secret));
        parsed.map(move |e| (e, times, foreign.clone(), uid.to_owned()))
    });
    let mut entries: Vec<_> = entries.collect();
    // Of two for one cluster, that of somebody else is what stands in the way.
    entries.sort_by_key(|(_, _, foreign, _)| foreign.is_some());
    entries
        .into_iter()
        .map(|(e, (changed, written), foreign, uid)| {
            let subject = e.token.as_ref().and_then(|t| t.subject.as_deref());
            let parts = (&e.server, subject);
            let digest = sha256_hex(format!("{parts:?}").as_bytes());
            // In one process, loopback means the same to everybody.
            let problems = e
                .problems
                .iter()
                .filter(|p| !(embedded && **p == Problem::LoopbackServer));
            let token = e.token.clone();
            let at = |seconds: Option<i64>| seconds.and_then(|s| Timestamp::from_second(s).ok());
            let seen = RemoteSecretSeen {
                digest,
                problems: problems.map(ToString::to_string).collect(),
                secret: e.secret,
                server: e.server.unwrap_or_default(),
                // Also those that have ended: an entry without them is another entry.
                authorities: authorities([e.ca.as_slice()], Timestamp::MIN),
                token: e.token_sha256,
                issued: at(token.as_ref().and_then(|t| t.issued)),
                expires: at(token.as_ref().and_then(|t| t.expires)),
                bound: token.and_then(|t| t.bound),
                changed,
                written,
                foreign,
                uid,
            };
            (e.cluster, seen)
        })
        .collect()
}

/// Keeps the record with the highest revision of each release.
pub(super) fn keep_newest(newest: &mut BTreeMap<String, ReleaseSeen>, record: &Value) {
    let metadata = &record["metadata"];
    let label = |key: &str| metadata["labels"][key].as_str().map(str::to_owned);
    let revision = label("version").and_then(|v| v.parse().ok());
    let (Some(name), Some(revision)) = (label("name"), revision) else {
        return;
    };
    if newest.get(&name).is_some_and(|r| r.revision >= revision) {
        return;
    }
    let release = ReleaseSeen {
        namespace: metadata["namespace"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        revision,
        status: label("status").unwrap_or_default(),
        version: label(VERSION_LABEL).unwrap_or_default(),
        digest: label(DIGEST_LABEL).filter(|_| label(REVISION_LABEL) == label("version")),
        config: Value::Null,
        chart: String::new(),
        made_for: label(MADE_LABEL).unwrap_or_default(),
        held: vec![],
    };
    newest.insert(name, release);
}

/// Fills in what the labels do not say.
pub(super) fn read_record(release: &mut ReleaseSeen, secret: &Value) {
    if let Ok(record) = chart::release::Record::from_secret(secret) {
        release.version = record.chart.version;
        release.chart = record.chart.name;
        release.config = Value::Object(record.config);
    }
}

/// Pods whose requests pass a sidecar; gateways and the probe are ours to take away.
pub(super) fn sidecars(pods: &[Value], gateway: &spec::Gateway) -> Vec<String> {
    let mut names: Vec<_> = pods
        .iter()
        .filter(|p| {
            let namespace = &p["metadata"]["namespace"];
            let is_gateway = *namespace == gateway.namespace.as_str()
                && p["metadata"]["labels"]["app"] == gateway.name.as_str();
            !is_gateway && *namespace != crate::probe::NAMESPACE
        })
        .map(|p| {
            let text = |key: &str| p["metadata"][key].as_str().unwrap_or_default();
            format!("{}/{}", text("namespace"), text("name"))
        })
        .collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_somebody_elses_stay_theirs_after_we_upgraded() {
        let seen = |labels: Value| {
            let mut newest = BTreeMap::new();
            let mut record = json!({"metadata": {"labels": {"name": "r", "version": "2"}}});
            for (key, value) in labels.as_object().unwrap() {
                record["metadata"]["labels"][key] = value.clone();
            }
            keep_newest(&mut newest, &record);
            newest.remove("r").unwrap()
        };
        let (digest, revision) = (DIGEST_LABEL, REVISION_LABEL);
        assert!(seen(json!({digest: "d", revision: "2"})).digest.is_some());
        let adopted = seen(json!({revision: "2"}));
        let by_helm_over_ours = seen(json!({digest: "d", revision: "1"}));
        assert!(adopted.digest.is_none() && by_helm_over_ours.digest.is_none());
    }

    #[test]
    fn the_version_istiod_runs_is_in_its_tag_or_on_its_label() {
        let pod = |image: &str, labels: Value| {
            let pod =
                json!({"metadata": {"labels": labels}, "spec": {"containers": [{"image": image}]}});
            istio_version(&pod).map(|v| v.to_string())
        };
        let none = json!({});
        let version = |text: &str| Some(text.to_owned());
        assert_eq!(
            pod("docker.io/istio/pilot:1.30.2", none.clone()),
            version("1.30.2")
        );
        assert_eq!(
            pod("r:5000/pilot:1.30.2-distroless", none.clone()),
            version("1.30.2")
        );
        assert_eq!(
            pod("pilot:1.31.0-alpha.1", none.clone()),
            version("1.31.0-alpha.1")
        );
        assert_eq!(
            pod("pilot:1.30.2@sha256:00", none.clone()),
            version("1.30.2")
        );
        let label = json!({"app.kubernetes.io/version": "1.29.1"});
        assert_eq!(pod("pilot@sha256:00", label), version("1.29.1"));
        let chart = json!({"helm.sh/chart": "istiod-1.28.3"});
        assert_eq!(pod("pilot:latest", chart), version("1.28.3"));
        assert_eq!(pod("pilot:latest", none), None);
    }

    #[test]
    fn a_secret_counts_as_changed_only_after_it_was_made() {
        let secret = |times: &[&str]| {
            let fields: Vec<_> = times.iter().map(|t| json!({"time": t})).collect();
            changed(
                &json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:05Z",
                "managedFields": fields}}),
            )
        };
        assert_eq!(secret(&["2026-01-01T00:00:05Z"]), None);
        assert_eq!(secret(&[]), None);
        let later = secret(&["2026-01-01T00:00:05Z", "2026-01-01T00:00:09Z"]);
        assert_eq!(later, Some("2026-01-01T00:00:09Z".parse().unwrap()));
    }
}
