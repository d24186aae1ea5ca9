//! From the tree to a checked mesh.

use std::{path::Path, time::Duration};

use super::{
    Exposure, Gateway, Istio, KeyType, Mesh, OLDEST_ISTIO, Problem, Problems, Readers, Renewer,
    Trust, Values, authority, check,
    fields::{At, Fields, Sink},
    lifetime, members,
    named::{ID, TRUST_DOMAIN},
    tree,
};
use crate::versions::Versions;

/// Nobody writes a mesh file of this size.
const MAX_BYTES: usize = 1024 * 1024;

pub(super) fn mesh(text: &str, file: &Path) -> Result<Mesh, Problems> {
    let problems = |list| Problems {
        file: file.into(),
        list,
    };
    let alone = |(place, text): (tree::Place, String)| {
        let tree::Place { line, column } = place;
        problems(vec![Problem {
            line,
            column,
            path: String::new(),
            text,
        }])
    };
    let start = tree::Place { line: 1, column: 1 };
    if text.len() > MAX_BYTES {
        return Err(alone((
            start,
            "is larger than 1 MiB, too large for a mesh file".into(),
        )));
    }
    let tree = tree::parse(text).map_err(alone)?;
    if matches!(tree.value, tree::Value::Null) {
        return Err(alone((
            start,
            "the mesh file is empty; it needs at least \"clusters:\"".into(),
        )));
    }
    let sink = Sink::default();
    let folder = file.parent().unwrap_or(Path::new(""));
    let top = At::top(&tree, &sink);
    let found = top.fields(|fields| document(fields, folder)).flatten();
    let mut list = sink.into_inner();
    list.sort();
    match found {
        Some(mesh) if list.is_empty() => Ok(mesh),
        // Nothing found and nothing noted would be a mistake of ours; say at least which file it is.
        None if list.is_empty() => Err(alone((start, "is not a mesh file".into()))),
        _ => Err(problems(list)),
    }
}

fn document(f: &mut Fields<'_>, folder: &Path) -> Option<Mesh> {
    let id = or(f.get("mesh").map(|at| at.read(str::parse)), ID.parse());
    let trust_domain = or(
        f.get("trustDomain").map(|at| at.read(str::parse)),
        TRUST_DOMAIN.parse(),
    );
    let istio = f
        .get("istio")
        .and_then(|at| at.fields(|f| istio(f, folder)));
    let gateway = f
        .get("gateway")
        .and_then(|at| at.fields(|f| gateway(f, folder)));
    let trust = f
        .get("trust")
        .and_then(|at| at.fields(|f| trust(f, folder)));
    let readers = f.get("readers").and_then(|at| at.fields(readers));
    let renewer = f.get("renewer").and_then(|at| at.fields(renewer).flatten());
    let peers = f.get("peers");
    let clusters = f.get("clusters").map(|at| members::list(&at));
    let peers = peers.and_then(|at| at.fields(|f| members::peers(f, clusters.as_deref())));
    if clusters.is_none() {
        f.at.wrong("has no clusters: write \"clusters:\" with one \"- name: …\" for each");
    }
    Some(Mesh {
        id: id?,
        trust_domain: trust_domain?,
        istio: istio.unwrap_or_default(),
        gateway: gateway.unwrap_or_default(),
        trust: trust.unwrap_or_default(),
        readers: readers.unwrap_or_default(),
        renewer,
        peers,
        clusters: clusters?,
    })
}

fn readers(f: &mut Fields<'_>) -> Readers {
    let mut readers = Readers::default();
    let age = f.get("maxAge").and_then(|at| at.read(lifetime::read));
    set(&mut readers.max_age, age);
    readers
}

fn renewer(f: &mut Fields<'_>) -> Option<Renewer> {
    let image = f.get("image");
    if image.is_none() {
        f.at.wrong(
            "has no image: write \"image:\" with the name of one that your clusters can pull",
        );
    }
    image?.read(str::parse)
}

/// What was written, or else the default; none if what was written is wrong.
fn or<T, E>(written: Option<Option<T>>, default: Result<T, E>) -> Option<T> {
    written.unwrap_or_else(|| default.ok())
}

/// Replaces a default by what was written, if that is right; what is wrong has been noted.
fn set<T>(place: &mut T, written: Option<T>) {
    if let Some(value) = written {
        *place = value;
    }
}

fn istio(f: &mut Fields<'_>, folder: &Path) -> Istio {
    let mut istio = Istio::default();
    let asked = f.get("version").and_then(|at| at.read(version));
    set(&mut istio.version, asked);
    let charts = f
        .get("charts")
        .and_then(|at| at.read(|text| check::charts(text, folder)));
    set(&mut istio.charts, charts);
    let versions = f
        .get("versions")
        .and_then(|at| at.read(|text| check::file(text, folder)));
    istio.versions = versions;
    set(
        &mut istio.namespace,
        f.get("namespace").and_then(|at| at.read(istio_namespace)),
    );
    istio.values = values(f, folder);
    istio
}

/// Every cluster of a mesh must agree on it, and reader accounts and Leases are kept there.
fn istio_namespace(text: &str) -> Result<String, String> {
    match text == super::ISTIO_NAMESPACE {
        true => Ok(text.into()),
        false => Err(format!(
            "{text:?} is not supported: write {}, or leave the key out",
            super::ISTIO_NAMESPACE
        )),
    }
}

/// A version of Istio that can be installed.
pub(crate) fn version(text: &str) -> Result<String, String> {
    let parsed = semver::Version::parse(text).map_err(|_| {
        format!(
            "{text:?} is not a version: write three numbers, as {}",
            Versions::known().default()
        )
    })?;
    let oldest = semver::Version::parse(OLDEST_ISTIO).map_err(|error| error.to_string())?;
    if parsed < oldest {
        return Err(format!(
            "Istio {text} is not supported: write {OLDEST_ISTIO} or newer"
        ));
    }
    Ok(text.into())
}

fn values(f: &mut Fields<'_>, folder: &Path) -> Values {
    let file = |text: &str| check::file(text, folder);
    let inline = f.get("values").map(|at| at.object()).unwrap_or_default();
    Values {
        inline,
        files: f
            .get("valuesFiles")
            .map(|at| at.each(file))
            .unwrap_or_default(),
    }
}

fn gateway(f: &mut Fields<'_>, folder: &Path) -> Gateway {
    let mut gateway = Gateway::default();
    set(
        &mut gateway.namespace,
        f.get("namespace").and_then(|at| at.read(check::label)),
    );
    set(
        &mut gateway.name,
        f.get("name").and_then(|at| at.read(check::label)),
    );
    let exposure = [
        ("auto", Exposure::Auto),
        ("internal", Exposure::Internal),
        ("internet-facing", Exposure::InternetFacing),
    ];
    set(
        &mut gateway.exposure,
        f.get("exposure").and_then(|at| at.one_of(&exposure)),
    );
    if let Some(at) = f.get("hosts") {
        gateway.hosts = at.each(check::host);
        if at.list().is_empty() {
            at.wrong("is an empty list: leave the key out, or write \"*.local\" for every service");
        }
    }
    if let Some(at) = f.get("sourceRanges") {
        gateway.source_ranges = at.each(check::cidr);
        if gateway.exposure == Exposure::Internal && !at.list().is_empty() {
            at.wrong("says from where the internet may reach an internal gateway: leave it out, or write exposure: internet-facing");
        }
    }
    let annotations = f
        .get("annotations")
        .map(|at| at.texts())
        .unwrap_or_default();
    gateway.annotations = annotations.into_iter().collect();
    gateway.values = values(f, folder);
    gateway
}

fn trust(f: &mut Fields<'_>, folder: &Path) -> Trust {
    let mut trust = Trust::default();
    let named = f.get("authority");
    let named = named.and_then(|at| authority::read(&at, folder));
    set(&mut trust.authority, named);
    let keys = [
        ("P-256", KeyType::P256),
        ("P-384", KeyType::P384),
        ("RSA-4096", KeyType::Rsa4096),
    ];
    set(&mut trust.key, f.get("key").and_then(|at| at.one_of(&keys)));
    let (root, intermediate) = (f.get("rootLifetime"), f.get("intermediateLifetime"));
    set(
        &mut trust.root_lifetime,
        root.as_ref().and_then(|at| lasting(at, 30 * lifetime::DAY)),
    );
    // Leaves live for a day; what signs them must not end before they do.
    let longest = intermediate
        .as_ref()
        .and_then(|at| lasting(at, 2 * lifetime::DAY));
    set(&mut trust.intermediate_lifetime, longest);
    if let Some(at) = intermediate.or(root) {
        outlives(&at, &trust);
    }
    trust.dns_names = f
        .get("dnsNames")
        .map(|at| at.each(check::domain))
        .unwrap_or_default();
    trust
}

fn lasting(at: &At<'_>, least: Duration) -> Option<Duration> {
    let length = at.read(lifetime::read)?;
    if length < least {
        at.wrong(format!(
            "is too short: write {} or longer",
            lifetime::write(least)
        ));
    }
    Some(length)
}

fn outlives(at: &At<'_>, trust: &Trust) {
    let (root, intermediate) = (trust.root_lifetime, trust.intermediate_lifetime);
    if intermediate > root {
        let (long, short) = (lifetime::write(intermediate), lifetime::write(root));
        at.wrong(format!(
            "an intermediate of {long} would outlive its root of {short}: write an intermediateLifetime of at most {short}"
        ));
    }
}
