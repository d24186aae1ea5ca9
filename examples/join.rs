//! Joins two clusters through the library, as `meshlink join` does: look, plan, do, look again.
//!
//! The clusters are embedded ones, so this runs anywhere: `cargo run --example join`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    sync::Arc,
    time::Duration,
};

use meshlink::{
    chart::{self, FetchOptions, Source},
    cluster::{Cluster, ConnectOptions, connect, wait::Deadline},
    engine::{self, Clock, Readings, Recorder, Shop, Sink, Stop, crashpoint::Crash, event},
    manifest::Texts,
    name::ClusterName,
    observe::{Layout, Lens},
    pki::Vault,
    plan::{
        self,
        desire::{Additions, Charts},
        leave::Leave,
    },
    report::{Report, RunOutcome},
    resolve::Resolver,
    sandbox::{Options, Sandbox},
    spec::Mesh,
    verify::Depth,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Prints what is done, as it is done.
struct Print;

impl Sink for Print {
    fn event(&self, event: &event::Event) {
        if let event::Kind::StepFinished { step, evidence, .. } = &event.kind {
            println!("{step}: {}", evidence.join("; "));
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    // One TLS stack for everything; a second call would only say that there is one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir()?;
    let sandbox = Sandbox::start(Options::count(2, folder.path().join("sandbox"))).await?;

    // What is wanted, and where it is to be.
    let mesh = Mesh::named(&["eks-1".into(), "eks-2".into()])?;
    let connect = ConnectOptions {
        kubeconfig: vec![sandbox.endpoints().kubeconfig.clone()],
        ..ConnectOptions::default()
    };
    let mut clusters: BTreeMap<ClusterName, Cluster> = BTreeMap::new();
    for member in &mesh.clusters {
        let cluster = connect::connect(&member.name, member.name.as_str(), &connect).await?;
        clusters.insert(member.name.clone(), cluster);
    }
    let vault = Arc::new(Vault::open(folder.path().join("vault"))?);
    let charts = charts(&sandbox.endpoints().charts.parse()?, &mesh).await?;
    let (additions, texts) = (Additions::default(), Texts::default());
    let clock: Clock = Arc::new(jiff::Timestamp::now);

    // What is missing: read and planned without any effect.
    let look = async || {
        let lens = Lens::new(&mesh, &vault, &clusters, true, clock());
        let (observed, desired) = engine::survey(&lens, &charts, &additions, &texts).await?;
        let plan = plan::join::join(&mesh, &desired, &observed)
            .map_err(|refusals| refusals.iter().map(ToString::to_string).collect::<String>())?;
        Result::Ok((observed, desired, plan))
    };
    let (observed, desired, todo) = look().await?;
    println!("{} steps to do", todo.steps.len());

    // Done under a Lease of every member, so that two runs cannot meet.
    let stop = Stop::default();
    let lock = engine::lock(
        &clusters,
        &observed,
        "istio-system",
        "an example",
        &clock,
        &stop,
    );
    let lock = lock.await?;
    let recorder = Recorder::new("example".into(), clock.clone(), None, vec![Arc::new(Print)]);
    let recorder = Arc::new(recorder);
    let shop = Shop {
        reaches: clusters
            .keys()
            .map(|n| (n.clone(), n.to_string()))
            .collect(),
        mesh: mesh.clone(),
        clusters: clusters.clone(),
        desired,
        resolver: Resolver::with_servers(vec![sandbox.endpoints().dns])?,
        vault: vault.clone(),
        texts: texts.clone(),
        layout: Layout::for_size(2),
        aws: None,
        connect,
        embedded: true,
        leave: Leave::default(),
        left: BTreeSet::new(),
        depth: Depth::Traffic,
        readings: Readings::default(),
        deadline: Deadline::after(Duration::from_secs(120)),
        clock: clock.clone(),
        crash: Crash::default(),
    };
    engine::run("join", &todo, &Arc::new(shop), &recorder, &stop).await?;
    lock.release(false).await;

    // The report is folded from the same events that were printed.
    let report = Report::fold(&recorder.events());
    if report.outcome != RunOutcome::Done {
        return Err(format!("not done: {:?}", report.failed().collect::<Vec<_>>()).into());
    }
    let (_, _, left) = look().await?;
    match left.steps.as_slice() {
        [] => println!("joined, and nothing is left to do"),
        [first, ..] => return Err(format!("{} is left to do", first.step).into()),
    }
    Ok(())
}

async fn charts(source: &Source, mesh: &Mesh) -> Result<Charts> {
    let (version, options) = (mesh.istio.version.as_str(), FetchOptions::default());
    let one = async |name| {
        chart::fetch(source, name, version, &options)
            .await
            .map(Arc::new)
    };
    Ok(Charts {
        base: one("base").await?,
        istiod: one("istiod").await?,
        gateway: one("gateway").await?,
    })
}
