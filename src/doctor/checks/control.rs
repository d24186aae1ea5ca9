//! The control plane: istiod, its webhooks, and the versions that run.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;
use serde_json::Value;

use super::{
    super::{
        Found, Level, Source,
        view::{At, View, lives, path, text},
    },
    some,
};
use crate::{hint::Hint, observe::proxies, versions::Effect};

/// No istiod that is available.
pub(in super::super) fn down(view: &View<'_>) -> Vec<Found> {
    let istio = view.mesh().istio.namespace.as_str();
    let mut found = vec![];
    for (at, seen) in view.members().filter_map(|at| Some((at, at.seen()?))) {
        let istiod = &seen.istiod;
        if istiod.available && !istiod.pods.is_empty() {
            continue;
        }
        let (evidence, fix) = match istiod.present {
            false => (
                format!("{} has no Deployment {istio}/istiod", at.name),
                Hint::join_again([at.name]),
            ),
            true => (
                format!(
                    "Deployment {istio}/istiod of {} does not have every replica available; {} run",
                    at.name,
                    istiod.pods.len()
                ),
                Hint::kubectl(
                    at.name,
                    [
                        "-n",
                        istio,
                        "describe",
                        "deploy,rs,pods",
                        "-l",
                        "app=istiod",
                    ],
                ),
            ),
        };
        found.push(Found::of(at.name, evidence, fix));
    }
    found
}

/// The webhooks of a configuration that are istiod's.
fn hooks<'v>(config: &'v Value, istio: &str) -> Vec<&'v Value> {
    let all = config["webhooks"].as_array().into_iter().flatten();
    let ours = all.filter(|hook| {
        let service = &hook["clientConfig"]["service"];
        let name = service["name"].as_str().unwrap_or_default();
        service["namespace"] == istio && name.starts_with("istiod")
    });
    ours.collect()
}

/// Nothing injects sidecars, although somebody wants them.
pub(in super::super) fn no_injector(view: &View<'_>) -> Vec<Found> {
    let istio = view.mesh().istio.namespace.as_str();
    let injects = |at: &At<'_>| {
        let all = at.list(Source::MutatingWebhooks).iter();
        let mut all = all.flat_map(|config| hooks(config, istio));
        all.any(|hook| {
            text(hook, "/clientConfig/service/path").is_some_and(|p| p.starts_with("/inject"))
        })
    };
    let without = view.members().filter(|at| !injects(at));
    let without = without.filter(|at| at.seen().is_some_and(|s| s.istiod.present));
    without
        .map(|at| {
            let evidence = format!(
                "no MutatingWebhookConfiguration of {} calls istiod at /inject",
                at.name
            );
            Found::of(at.name, evidence, Hint::join_again([at.name]))
        })
        .collect()
}

/// A webhook whose Service is not there, or sends its port elsewhere.
pub(in super::super) fn unreachable(view: &View<'_>) -> Vec<Found> {
    let istio = view.mesh().istio.namespace.as_str();
    let mut found = vec![];
    for at in view.members() {
        let sources = [Source::MutatingWebhooks, Source::ValidatingWebhooks];
        let configs = sources.into_iter().flat_map(|source| at.list(source));
        let mut broken: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for (config, hook) in configs.flat_map(|c| hooks(c, istio).into_iter().map(move |h| (c, h)))
        {
            let name = text(hook, "/clientConfig/service/name").unwrap_or_default();
            let port = hook["clientConfig"]["service"]["port"]
                .as_u64()
                .unwrap_or(443);
            let service = at.one(Source::Services, istio, name);
            let why = match service {
                None => format!("there is no Service {istio}/{name}"),
                Some(service) => {
                    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
                    let mut ports = ports.filter(|p| p["port"].as_u64() == Some(port));
                    match ports.next() {
                        None => format!("Service {istio}/{name} has no port {port}"),
                        Some(p) if p["targetPort"].as_u64().is_some_and(|t| t != 15017) => {
                            format!(
                                "Service {istio}/{name} sends {port} to {}, not to 15017",
                                p["targetPort"]
                            )
                        }
                        Some(_) => continue,
                    }
                }
            };
            let of = config["metadata"]["name"].as_str().unwrap_or_default();
            broken.entry(why).or_default().insert(of);
        }
        for (why, webhooks) in broken {
            let webhooks: Vec<_> = webhooks.into_iter().collect();
            let evidence = format!(
                "{why} of {}, which is called for {}",
                at.name,
                some(&webhooks)
            );
            found.push(Found::of(at.name, evidence, Hint::join_again([at.name])));
        }
    }
    found
}

/// A webhook that is passed over when it does not answer.
pub(in super::super) fn ignored(view: &View<'_>) -> Vec<Found> {
    let istio = view.mesh().istio.namespace.as_str();
    let mut found = vec![];
    for at in view.members() {
        for (source, what, kind) in [
            (
                Source::MutatingWebhooks,
                "pods start without a sidecar",
                "mutatingwebhookconfiguration",
            ),
            (
                Source::ValidatingWebhooks,
                "Istio's objects are not checked",
                "validatingwebhookconfiguration",
            ),
        ] {
            for config in at.list(source) {
                let all = config["webhooks"].as_array().into_iter().flatten();
                let of_istiod = hooks(config, istio);
                let mut all = all.enumerate().filter(|(_, hook)| of_istiod.contains(hook));
                let Some((n, _)) = all.find(|(_, hook)| hook["failurePolicy"] == "Ignore") else {
                    continue;
                };
                let name = config["metadata"]["name"].as_str().unwrap_or_default();
                let evidence = format!("failurePolicy of webhook {name} of {} is Ignore", at.name);
                let patch = serde_json::json!([{"op": "replace",
                    "path": format!("/webhooks/{n}/failurePolicy"), "value": "Fail"}]);
                let words = [
                    "patch",
                    kind,
                    name,
                    "--type",
                    "json",
                    "-p",
                    &patch.to_string(),
                ];
                let fix = Hint::kubectl(at.name, words);
                let cause =
                    format!("as long as istiod does not answer, {what}, and nothing says so");
                found.push(Found::of(at.name, evidence, fix).because(cause));
            }
        }
    }
    found
}

/// The versions of istiod that run in a member.
fn versions<'a>(at: &At<'a>) -> impl Iterator<Item = &'a Version> + use<'a> {
    at.seen().into_iter().flat_map(|seen| &seen.istiod.versions)
}

/// A version that is known to be wrong.
pub(in super::super) fn faults(view: &View<'_>) -> Vec<Found> {
    let known = &view.mesh().istio.known;
    let mut found = vec![];
    for at in view.members() {
        for version in versions(&at) {
            for fault in known.faults(version) {
                let level = match fault.effect {
                    Effect::Restart => Level::Warning,
                    Effect::Gap | Effect::Say => Level::Note,
                };
                let evidence = format!("istiod of {} is {version}: {fault}", at.name);
                let fix = Hint::meshlink(["upgrade", "--to", &known.default().to_string()]);
                found.push(Found::of(at.name, evidence, fix).at(level));
            }
        }
    }
    found
}

/// Versions that should not run side by side.
pub(in super::super) fn mixed(view: &View<'_>) -> Vec<Found> {
    let all: Vec<_> = view
        .members()
        .flat_map(|at| versions(&at).map(move |v| (at, v)))
        .collect();
    let minors: BTreeMap<_, _> = all
        .iter()
        .map(|(at, v)| ((v.major, v.minor), (at, v)))
        .collect();
    let (Some((low, (old, old_version))), Some((high, (new, new_version)))) =
        (minors.first_key_value(), minors.last_key_value())
    else {
        return vec![];
    };
    let versions = all.iter().map(|(_, version)| *version);
    let fault = view.mesh().istio.known.mixed(versions).next();
    let is_far = low.0 != high.0 || high.1 - low.1 > 2;
    if fault.is_none() && !is_far {
        return vec![];
    }
    let why = fault.map(|f| format!(": {f}")).unwrap_or_default();
    let evidence = format!(
        "istiod of {} is {old_version}, that of {} is {new_version}{why}",
        old.name, new.name
    );
    let fix = Hint::meshlink(["upgrade", "--to", &new_version.to_string()]);
    vec![Found::of(old.name, evidence, fix).with(new.name)]
}

/// Sidecars and gateways that run another minor version than their istiod: newer, or two older.
pub(in super::super) fn skew(view: &View<'_>) -> Vec<Found> {
    let mut found = vec![];
    for at in view.members() {
        let Some(newest) = versions(&at).max() else {
            continue;
        };
        let proxies = at.list(Source::Pods).iter().filter(|p| lives(p));
        let far = proxies.filter_map(|pod| {
            let version = proxies::version(pod)?;
            let apart = version.major != newest.major
                || version.minor > newest.minor
                || version.minor + 2 <= newest.minor;
            apart.then(|| (path(pod), version))
        });
        let far: Vec<_> = far.collect();
        let Some((_, version)) = far.first() else {
            continue;
        };
        let pods: Vec<_> = far.iter().map(|(pod, _)| pod).collect();
        let evidence = format!(
            "istiod of {} is {newest}; {} {} a proxy of {version} or another that is as far from it: {}",
            at.name,
            pods.len(),
            if pods.len() == 1 {
                "pod has"
            } else {
                "pods have"
            },
            some(&pods)
        );
        let (space, _) = pods[0].split_once('/').unwrap_or_default();
        let fix = Hint::kubectl(at.name, ["-n", space, "rollout", "restart", "deploy"])
            .remark("each namespace in turn");
        found.push(Found::of(at.name, evidence, fix));
    }
    found
}
