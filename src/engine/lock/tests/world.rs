//! What runs meet in a schedule: API servers that keep objects and their versions, a network that is slow and loses
//! requests and answers, and machines that sleep. All of it follows from one seed, in virtual time.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use super::work::{cacerts, claim};
use crate::cluster::{Cluster, connect};

/// Numbers that follow from a seed.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than this.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// So many times in a hundred.
    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// At most so long.
    pub(super) fn time(&mut self, most: Duration) -> Duration {
        Duration::from_millis(self.below(u64::try_from(most.as_millis()).unwrap() + 1))
    }
}

/// When something is not to be had: a machine that sleeps, an API server that is away.
#[derive(Debug, Clone, Default)]
pub(super) struct Gaps(pub(super) Vec<(Instant, Instant)>);

impl Gaps {
    fn end(&self) -> Option<Instant> {
        let now = Instant::now();
        let within = self
            .0
            .iter()
            .filter(|(from, to)| (*from..*to).contains(&now));
        within.map(|(_, to)| *to).max()
    }

    /// Waits for the end of it.
    pub(super) async fn over(&self) {
        while let Some(end) = self.end() {
            sleep_until(end).await;
        }
    }

    /// How long it has been so in all.
    pub(super) fn so_far(&self) -> Duration {
        let now = Instant::now();
        let each = self.0.iter();
        each.map(|(from, to)| (*to).min(now).saturating_duration_since(*from))
            .sum()
    }
}

/// Somebody's machine.
#[derive(Debug)]
pub(super) struct Machine {
    /// When it sleeps.
    pub(super) sleeps: Gaps,
    /// The run that is at work on it.
    pub(super) run: AtomicU64,
}

/// An API server.
#[derive(Debug, Default)]
struct Server {
    objects: BTreeMap<String, Value>,
    away: Gaps,
}

/// All of it.
#[derive(Debug)]
pub(super) struct World {
    servers: Vec<Server>,
    dice: Dice,
    version: u64,
    /// All members hold one root, whoever makes it.
    one_root: bool,
    /// What was wrong first.
    pub(super) wrong: Option<String>,
    /// So many writes besides those to Leases.
    pub(super) effects: u64,
    /// So often somebody took another's Lease.
    pub(super) taken: u64,
    /// Everything that was written, in order, as one number.
    pub(super) trace: u64,
}

/// Shared by everybody in a schedule.
pub(super) type Shared = Arc<Mutex<World>>;

const NAMESPACE: &str = "/api/v1/namespaces/istio-system";
const CLAIMS: &str = "/api/v1/namespaces/istio-system/configmaps/meshlink-root";
const CACERTS: &str = "/api/v1/namespaces/istio-system/configmaps/cacerts";
const NEXT: &str = "/api/v1/namespaces/istio-system/configmaps/meshlink-root-next";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases/meshlink";

fn open(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap()
}

impl World {
    pub(super) fn new(away: Vec<Gaps>, dice: Dice, one_root: bool) -> Self {
        let servers = away.into_iter().map(|away| Server {
            away,
            ..Server::default()
        });
        Self {
            servers: servers.collect(),
            dice,
            version: 0,
            one_root,
            wrong: None,
            effects: 0,
            taken: 0,
            trace: 0,
        }
    }

    /// Somebody who is gone has left a Lease that says it was renewed in a time to come.
    pub(super) fn haunt(&mut self, server: usize) {
        let spec = json!({"holderIdentity": "ghost@nowhere (process 1)", "leaseDurationSeconds": 30,
            "renewTime": "2099-01-01T00:00:00.000000Z", "leaseTransitions": i32::MAX});
        self.store(
            server,
            NAMESPACE,
            json!({"metadata": {"name": "istio-system"}}),
        );
        let metadata = json!({"name": "meshlink", "namespace": "istio-system"});
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec});
        self.store(server, LEASE, lease);
    }

    /// All members are one mesh, before anybody comes.
    pub(super) fn is_joined(&mut self) {
        let space = json!({"metadata": {"name": "istio-system"}});
        for server in 0..self.servers.len() {
            self.store(server, NAMESPACE, space.clone());
            self.store(server, CLAIMS, claim("the first root"));
            self.store(
                server,
                CACERTS,
                cacerts("the first root", &["the first root"]),
            );
        }
    }

    fn store(&mut self, server: usize, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.servers[server]
            .objects
            .insert(path.to_owned(), object.clone());
        object
    }

    pub(super) fn violated(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    /// Does a request as an API server does it: whole, and with versions that decide who came first.
    fn serve(
        &mut self,
        server: usize,
        run: u64,
        method: &Method,
        path: &str,
        body: Value,
    ) -> (u16, Value) {
        let no = |code: u16, reason: &str| {
            (
                code,
                json!({"kind": "Status", "code": code, "reason": reason, "message": reason}),
            )
        };
        let name = body["metadata"]["name"].as_str().unwrap_or_default();
        let path = match *method {
            Method::POST => format!("{path}/{name}"),
            _ => path.to_owned(),
        };
        let objects = &self.servers[server].objects;
        let there = objects.get(&path).cloned();
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        if *method == Method::GET {
            return there.map_or_else(|| no(404, "NotFound"), |object| (200, object));
        }
        if path != NAMESPACE && !objects.contains_key(NAMESPACE) {
            return no(404, "NotFound");
        }
        let answer = match (method.as_str(), there) {
            ("POST", Some(_)) => no(409, "AlreadyExists"),
            ("POST", None) => {
                self.written(server, run, &path, &body, None);
                (201, self.store(server, &path, body))
            }
            (_, None) => no(404, "NotFound"),
            ("PUT", Some(old)) if version(&old) != version(&body) => no(409, "Conflict"),
            ("PUT", Some(old)) => {
                self.written(server, run, &path, &body, Some(&old));
                (200, self.store(server, &path, body))
            }
            ("DELETE", Some(old)) => {
                let only = &body["preconditions"]["resourceVersion"];
                if !only.is_null() && *only != version(&old) {
                    return no(409, "Conflict");
                }
                self.written(server, run, &path, &Value::Null, Some(&old));
                self.servers[server].objects.remove(&path);
                (200, json!({"kind": "Status"}))
            }
            _ => no(405, "MethodNotAllowed"),
        };
        self.trace = self.trace.rotate_left(7) ^ (self.version << 20) ^ (run << 4) ^ server as u64;
        answer
    }

    /// Something was written: only the run that holds the Lease may, and nobody makes a second root.
    fn written(&mut self, server: usize, run: u64, path: &str, new: &Value, old: Option<&Value>) {
        let holder = |lease: Option<&Value>| {
            let holder = lease.and_then(|l| l["spec"]["holderIdentity"].as_str());
            holder.unwrap_or_default().to_owned()
        };
        if path == LEASE {
            let (before, after) = (holder(old), holder(Some(new)));
            self.taken += u64::from(!before.is_empty() && !after.is_empty() && before != after);
            return;
        }
        if path == NAMESPACE {
            return;
        }
        self.effects += 1;
        let now = holder(self.servers[server].objects.get(LEASE));
        if !now.ends_with(&format!(" {run}")) {
            self.violated(format!(
                "run {run} writes {path} of server {server} while its Lease is held by {now:?}"
            ));
        }
        if path == CACERTS && self.one_root {
            self.all_trust(server, run, new);
        }
        let next = self.servers[server].objects.get(NEXT);
        let is_next = next.is_some_and(|next| next["data"]["to"] == new["data"]["root"]);
        let claims = self.servers.iter().filter_map(|s| s.objects.get(CLAIMS));
        let mut roots = claims.map(|claim| claim["data"]["root"].clone());
        let root = &new["data"]["root"];
        let is_new = path == CLAIMS && !root.is_null() && !is_next;
        if is_new && self.one_root && !roots.all(|other| other == *root) {
            self.violated(format!("run {run} makes a second root"));
        }
    }

    /// Whatever a member signs under when one of them is changed, every other trusts.
    fn all_trust(&mut self, server: usize, run: u64, new: &Value) {
        let held = self
            .servers
            .iter()
            .enumerate()
            .map(|(n, s)| match n == server {
                true => new.clone(),
                false => s.objects.get(CACERTS).cloned().unwrap_or_default(),
            });
        let held: Vec<_> = held.filter(|cacerts| !cacerts.is_null()).collect();
        for signs in held.iter().map(|cacerts| &cacerts["data"]["signs"]) {
            for other in &held {
                let trusts = other["data"]["trusts"].as_array().unwrap();
                if !trusts.contains(signs) {
                    self.violated(format!("run {run}: {signs} is not trusted by {other}"));
                }
            }
        }
    }
}

/// A member as it is reached from a machine.
pub(super) fn reached(world: &Shared, server: usize, machine: &Arc<Machine>) -> Cluster {
    let (world, machine) = (world.clone(), machine.clone());
    let service = tower::service_fn(move |request: Request<Body>| {
        let (world, machine) = (world.clone(), machine.clone());
        async move { exchange(&world, server, &machine, request).await }
    });
    let client = kube::Client::new(service, "default");
    let name = format!("eks-{server}").parse().unwrap();
    connect::from_client(&name, client, "https://example.com", None)
}

fn broken<T>() -> Result<T, io::Error> {
    Err(io::ErrorKind::ConnectionReset.into())
}

/// One request and its answer. Whoever waits no longer has closed the connection: what has not arrived is not done.
async fn exchange(
    world: &Shared,
    server: usize,
    machine: &Machine,
    request: Request<Body>,
) -> Result<Response<Full<Bytes>>, io::Error> {
    if machine.sleeps.end().is_some() {
        // Its timers are those of this simulation and go on; a machine that sleeps sends nothing all the same.
        machine.sleeps.over().await;
        return broken();
    }
    let run = machine.run.load(Relaxed);
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let (there, back, fate, away) = {
        let mut world = open(world);
        let away = world.servers[server].away.clone();
        let dice = &mut world.dice;
        // Mostly at once; sometimes nearly as late as a write may be.
        let slow = Duration::from_secs(if dice.percent(4) { 8 } else { 1 });
        (dice.time(slow), dice.time(slow / 4), dice.below(100), away)
    };
    sleep(there).await;
    if away.end().is_some() {
        return match fate % 2 {
            0 => broken(),
            _ => std::future::pending().await,
        };
    }
    match fate {
        0 | 1 => return broken(),
        2 => return std::future::pending().await,
        3 => return Ok(reply(503, &json!({"kind": "Status", "code": 503}))),
        _ => {}
    }
    let (code, answer) = open(world).serve(server, run, &parts.method, parts.uri.path(), body);
    sleep(back).await;
    machine.sleeps.over().await;
    // Done, and nobody hears of it.
    match fate {
        4 | 5 => broken(),
        6 => std::future::pending().await,
        _ => Ok(reply(code, &answer)),
    }
}

fn reply(code: u16, body: &Value) -> Response<Full<Bytes>> {
    let body = Full::new(Bytes::from(body.to_string()));
    Response::builder().status(code).body(body).unwrap()
}
