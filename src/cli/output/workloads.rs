//! What runs in the members, for people: problems first, and many pods of one cause on one line.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use super::{Style, plain::count, table::Table};
use crate::{
    cli::error::{hinted, labelled, unread},
    hint::Hint,
    workloads::{Endpoint, Gateway, Member, Pod, State, Workloads},
};

/// So many namespaces or pods are named.
const NAMED: usize = 3;

/// How much is shown.
pub(crate) struct Shown<'a> {
    /// Each pod.
    pub(crate) all: bool,
    /// With images and serial numbers.
    pub(crate) verbose: bool,
    /// Makes a hint one that can be pasted.
    pub(crate) settle: &'a dyn Fn(Hint) -> Hint,
}

/// Everything, the worst on top.
pub(crate) fn render(seen: &Workloads, shown: &Shown<'_>, style: Style) -> String {
    let mut text = match shown.all {
        true => each(seen, shown, style),
        false => groups(seen, shown, style),
    };
    gateways(seen, style, &mut text);
    if let Some(service) = &seen.service {
        let _ = writeln!(
            text,
            "\n{}",
            style.bold(&format!("{service}, as proxies hold it"))
        );
        text += &holdings(seen, style);
    }
    not_read(seen, style, &mut text);
    unread(&mut text, style, &seen.unreachable);
    for missing in &seen.missing {
        let line = format!("no member has {missing}");
        let _ = writeln!(text, "{}", style.red(&line));
    }
    text + "\n" + &conclusion(seen, style)
}

fn painted(state: State, style: Style) -> String {
    let word = state.as_str();
    match state {
        state if state.is_bad() => style.red(word),
        State::ShouldRestart => style.yellow(word),
        State::InMesh => style.green(word),
        _ => style.dim(word),
    }
}

/// What pods of one row have in common.
type Alike<'a> = (State, &'a str, String);

fn why(pod: &Pod) -> String {
    let causes: Vec<_> = pod.why.iter().map(|c| c.text.as_str()).collect();
    match (&pod.proxy, causes.as_slice()) {
        (Some(proxy), []) => {
            let version = proxy.version.as_deref().unwrap_or("an unknown version");
            let revision = proxy.revision.as_deref().unwrap_or("unknown");
            format!("{version} ({}), revision {revision}", proxy.kind.as_str())
        }
        _ => causes.join("; "),
    }
}

/// The first few of a list.
fn some<'a>(all: impl IntoIterator<Item = &'a str>) -> String {
    let all: BTreeSet<_> = all.into_iter().collect();
    let first: Vec<_> = all.iter().take(NAMED).copied().collect();
    match all.len().saturating_sub(NAMED) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

fn groups(seen: &Workloads, shown: &Shown<'_>, style: Style) -> String {
    let mut alike: BTreeMap<Alike<'_>, Vec<&Pod>> = BTreeMap::new();
    for member in &seen.clusters {
        for pod in &member.pods {
            let key = (pod.state, member.cluster.as_str(), why(pod));
            alike.entry(key).or_default().push(pod);
        }
    }
    let mut table = Table::new(["CLUSTER", "STATE", "PODS", "NAMESPACE", "WHY"]);
    let mut restarts = BTreeSet::new();
    for ((state, cluster, why), pods) in &alike {
        let spaces = some(pods.iter().map(|p| p.namespace.as_str()));
        table.row([
            (*cluster).to_owned(),
            painted(*state, style),
            pods.len().to_string(),
            spaces,
            why.clone(),
        ]);
        let better = pods.iter().filter(|p| p.restarts() && p.workload.is_some());
        restarts.extend(better.map(|p| (*cluster, p.namespace.as_str())));
    }
    let mut text = match table.is_empty() {
        true => "no pods\n".to_owned(),
        false => table.render(style),
    };
    for (cluster, namespace) in restarts.iter().take(NAMED) {
        let words = ["workloads", "restart", cluster, "-n", namespace];
        let hint = (shown.settle)(Hint::meshlink(words));
        hinted(&mut text, style, "", &hint);
    }
    text
}

/// Every pod, with what its proxy was born with.
fn each(seen: &Workloads, shown: &Shown<'_>, style: Style) -> String {
    let mut text = String::new();
    let pods = seen.clusters.iter();
    let pods = pods.flat_map(|m| m.pods.iter().map(move |pod| (m.cluster.as_str(), pod)));
    let mut pods: Vec<_> = pods.collect();
    pods.sort_by_key(|(_, pod)| pod.state);
    for (cluster, pod) in pods {
        one(cluster, pod, shown.verbose, style, &mut text);
    }
    text
}

fn one(cluster: &str, pod: &Pod, verbose: bool, style: Style, text: &mut String) {
    let state = painted(pod.state, style);
    let _ = writeln!(
        text,
        "{}: {state}",
        style.bold(&format!("{cluster} {}", pod.path()))
    );
    let mut line = |label: &str, value: &str| labelled(text, style, label, label, value);
    for cause in &pod.why {
        line("  why:  ", &cause.text);
    }
    if let Some(proxy) = &pod.proxy {
        let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
        let versions = format!(
            "{} ({}), revision {}, istiod {}",
            proxy.version.as_deref().unwrap_or("unknown version"),
            proxy.kind.as_str(),
            or_none(&proxy.revision),
            match proxy.istiod.as_slice() {
                [] => "none".to_owned(),
                all => all.join(" and "),
            }
        );
        line("  proxy:", &versions);
        let born = format!(
            "cluster {}, network {}, mesh {}, trust domain {}",
            or_none(&proxy.cluster_id),
            or_none(&proxy.network),
            or_none(&proxy.mesh_id),
            or_none(&proxy.trust_domain)
        );
        line("  born: ", &born);
        if verbose {
            line("  image:", &proxy.image);
        }
    }
    if let Some(certificate) = &pod.certificate {
        let issuer = certificate.issuer.as_deref().unwrap_or("an unknown issuer");
        let until = certificate.until.strftime("%Y-%m-%d %H:%M UTC");
        line("  cert: ", &format!("until {until}, by {issuer}"));
        if verbose {
            line("  serial:", &certificate.serial);
        }
    }
    if let Some(why) = &pod.unread {
        line("  not read:", why);
    }
}

fn gateways(seen: &Workloads, style: Style, text: &mut String) {
    let mut table = Table::new(["CLUSTER", "GATEWAY", "PODS", "LISTENS"]);
    let mut against = String::new();
    for member in &seen.clusters {
        for gateway in &member.gateways {
            let path = format!("{}/{}", gateway.namespace, gateway.name);
            table.row([
                member.cluster.clone(),
                path.clone(),
                gateway.pods.to_string(),
                listens(gateway),
            ]);
            for line in &gateway.against {
                let line = format!("{} {path}: {line}", member.cluster);
                let _ = writeln!(against, "{} {line}", style.red("!"));
            }
        }
    }
    if !table.is_empty() {
        let _ = write!(text, "\n{}{against}", table.render(style));
    }
}

/// What a gateway listens for, and where.
fn listens(gateway: &Gateway) -> String {
    let listener = |l: &crate::workloads::Listener| {
        let tls = l
            .tls
            .as_deref()
            .map(|t| format!(" {t}"))
            .unwrap_or_default();
        let hosts = some(l.hosts.iter().map(String::as_str));
        format!("{} {}{tls} for {hosts}", l.port, l.protocol)
    };
    let all: Vec<_> = gateway.listeners.iter().map(listener).collect();
    let address = |a: &crate::workloads::Address| match a.answers {
        None => format!("{}:{}", a.host, a.port),
        Some(true) => format!("{}:{} (answers)", a.host, a.port),
        Some(false) => format!("{}:{} (silent)", a.host, a.port),
    };
    let at: Vec<_> = gateway.addresses.iter().map(address).collect();
    match at.is_empty() {
        true => all.join("; "),
        false => format!("{}; at {}", all.join("; "), at.join(", ")),
    }
}

/// What proxies hold of the Service: those that hold the same are one row.
fn holdings(seen: &Workloads, style: Style) -> String {
    let mut table = Table::new([
        "FROM", "PROXIES", "PORT", "ENDPOINT", "OF", "ZONE", "WEIGHT", "HEALTH",
    ]);
    for member in &seen.clusters {
        let mut alike: BTreeMap<&[Endpoint], Vec<&Pod>> = BTreeMap::new();
        for pod in &member.pods {
            if let Some(holds) = &pod.holds {
                alike.entry(holds).or_default().push(pod);
            }
        }
        for (endpoints, pods) in alike {
            let who = match pods.as_slice() {
                [one] => one.path(),
                many => many.len().to_string(),
            };
            let mut head = [member.cluster.clone(), who];
            if endpoints.is_empty() {
                let [from, who] = head;
                let nothing = style.red("holds no endpoint");
                let none = || "-".to_owned();
                table.row([from, who, none(), none(), none(), none(), none(), nothing]);
                continue;
            }
            for endpoint in endpoints {
                let [from, who] = std::mem::take(&mut head);
                table.row([from, who].into_iter().chain(cells(endpoint, style)));
            }
        }
    }
    match table.is_empty() {
        true => "no proxy could be asked\n".into(),
        false => table.render(style),
    }
}

fn cells(endpoint: &Endpoint, style: Style) -> [String; 6] {
    let port = match &endpoint.subset {
        Some(subset) => format!("{} {subset}", endpoint.service_port),
        None => endpoint.service_port.to_string(),
    };
    let or_dash = |text: &str| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text.to_owned()
        }
    };
    let said = endpoint.against.join(", ");
    [
        port,
        format!("{}:{}", endpoint.address, endpoint.port),
        or_dash(endpoint.of.as_deref().unwrap_or_default()),
        or_dash(&endpoint.zone),
        endpoint.weight.to_string(),
        match (endpoint.healthy, said.is_empty()) {
            (true, true) => style.green("healthy"),
            (true, false) => style.yellow(&said),
            (false, _) => style.red(&said),
        },
    ]
}

/// What could not be read of members that answered.
fn not_read(seen: &Workloads, style: Style, text: &mut String) {
    for member in &seen.clusters {
        for unread in &member.unread {
            let line = format!("{}: could not read {}", member.cluster, unread.what);
            let _ = writeln!(text, "{}", style.yellow(&line));
            labelled(text, style, "  why:", "  why:", &unread.why);
        }
        let mut silent: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for pod in &member.pods {
            if let Some(why) = &pod.unread {
                silent.entry(why).or_default().push(pod.path());
            }
        }
        for (why, pods) in silent {
            let who = some(pods.iter().map(String::as_str));
            let n = match pods.len() {
                1 => "1 proxy".to_owned(),
                n => format!("{n} proxies"),
            };
            let line = format!("{}: could not ask {n}: {who}", member.cluster);
            let _ = writeln!(text, "{}", style.yellow(&line));
            labelled(text, style, "  why:", "  why:", why);
        }
    }
}

/// The sum of it.
fn conclusion(seen: &Workloads, style: Style) -> String {
    let mut states: BTreeMap<State, usize> = BTreeMap::new();
    let pods = seen.clusters.iter().flat_map(|m: &Member| &m.pods);
    for pod in pods {
        *states.entry(pod.state).or_default() += 1;
    }
    let all = states.values().sum();
    let over = format!(
        "{} in {}",
        count(all, "pod"),
        count(seen.clusters.len(), "cluster")
    );
    let parts = states.into_iter();
    let parts = parts.map(|(state, n)| format!("{n} {}", state.as_str()));
    let parts: Vec<_> = parts.collect();
    let line = match parts.is_empty() {
        true => over,
        false => format!("{over}: {}", parts.join(", ")),
    };
    match seen.is_ill() || seen.is_partial() || !seen.missing.is_empty() {
        true => line + "\n",
        false => style.green(&line) + "\n",
    }
}
