//! `meshlink chart`: what charts hold and what they render to, without a cluster.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    chart::{
        self, Capabilities, Chart, Error, FetchOptions, Fetched, Options, Release, Rendered,
        Source,
        lock::{Entry, Lock},
        values,
    },
    cli::{
        Frame,
        args::chart::{self as args, From, Settings, Template},
        error::{Exit, Failure},
        output::json::Document,
    },
    link::{ChartSource, charts, record},
    versions::Versions,
};

/// The charts of a join.
const OURS: [&str; 3] = ["base", "istiod", "gateway"];

/// A chart, for programs.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Shown {
    /// Its name.
    chart: String,
    /// Its version.
    version: String,
    /// The digest of its archive; for a folder, of its files.
    sha256: String,
    /// Where it came from.
    source: String,
    /// The archive that was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
}

/// `meshlink chart template -o json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Templated {
    #[serde(flatten)]
    chart: Shown,
    /// What it renders to, in the order of installation.
    objects: Vec<Value>,
    /// Objects that Helm runs at certain moments.
    hooks: Vec<Value>,
    /// What its user should know.
    warnings: Vec<String>,
}

impl Document for Templated {
    const SCHEMA: &'static str = "chart-template";
}

/// `meshlink chart values -o json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Values {
    #[serde(flatten)]
    chart: Shown,
    /// What the chart takes, with its defaults.
    values: Value,
}

impl Document for Values {
    const SCHEMA: &'static str = "chart-values";
}

/// `meshlink chart images -o json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Listed {
    /// What was looked through.
    charts: Vec<Shown>,
    /// The images they run.
    images: Vec<String>,
}

impl Document for Listed {
    const SCHEMA: &'static str = "chart-images";
}

/// `meshlink chart pull` and `meshlink chart lock` `-o json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Fetches {
    /// What was fetched.
    charts: Vec<Shown>,
    /// The lock file.
    #[serde(skip_serializing_if = "Option::is_none")]
    lock: Option<PathBuf>,
}

impl Document for Fetches {
    const SCHEMA: &'static str = "chart-pull";
}

/// Runs it.
pub(crate) async fn run(args: args::Chart, frame: &Frame) -> Result<Exit, Failure> {
    match args {
        args::Chart::Template(args) => template(&args, frame).await?,
        args::Chart::Values(args) => {
            let fetched = fetch(&args.chart, &args.from, None, frame).await?;
            let values = Values {
                chart: shown(&fetched, None),
                values: fetched.chart.values.clone().into(),
            };
            let text = || fetched.chart.values_text.clone();
            frame.screen.hand_over(&values, text)?;
        }
        args::Chart::Images(args) => images(&args, frame).await?,
        args::Chart::Pull(args) => pull(&args, frame).await?,
        args::Chart::Lock(args) => lock(&args, frame).await?,
    }
    Ok(Exit::Done)
}

async fn template(args: &Template, frame: &Frame) -> Result<(), Failure> {
    let fetched = fetch(&args.chart, &args.from, None, frame).await?;
    let release = Release {
        name: &args.name,
        namespace: &args.namespace,
        revision: 1,
        is_upgrade: args.is_upgrade,
    };
    let options = Options {
        allow_random: args.allow_random,
        ..options(frame)
    };
    let rendered = render(&fetched.chart, &args.settings, &release, &options)?;
    for warning in &rendered.warnings {
        frame.screen.say(&format!("warning: {warning}"));
    }
    let shown = Templated {
        chart: shown(&fetched, None),
        objects: rendered
            .manifests
            .iter()
            .map(|m| m.object.clone())
            .collect(),
        hooks: rendered
            .hooks
            .iter()
            .map(|h| h.manifest.object.clone())
            .collect(),
        warnings: rendered.warnings.clone(),
    };
    frame.screen.hand_over(&shown, || {
        rendered.template_text(args.include_crds.then_some(&fetched.chart))
    })
}

async fn images(args: &args::Images, frame: &Frame) -> Result<(), Failure> {
    let mut listed = Listed {
        charts: vec![],
        images: vec![],
    };
    for fetched in all(&args.charts, &args.from, None, frame).await? {
        let release = nominal(fetched.chart.name());
        let rendered = render(&fetched.chart, &args.settings, &release, &options(frame))?;
        listed.images.extend(chart::images(&rendered));
        listed.charts.push(shown(&fetched, None));
    }
    listed.images.sort();
    listed.images.dedup();
    frame.screen.show(&listed, |_| {
        listed
            .images
            .iter()
            .map(|image| format!("{image}\n"))
            .collect()
    })
}

async fn pull(args: &args::Pull, frame: &Frame) -> Result<(), Failure> {
    let mut charts = vec![];
    for fetched in all(&args.charts, &args.from, None, frame).await? {
        let metadata = &fetched.chart.metadata;
        let file = format!("{}-{}.tgz", metadata.name, metadata.version);
        let path = args.destination.join(file);
        fetched.save(&path).map_err(|e| charts::failure(&e))?;
        charts.push(shown(&fetched, Some(path)));
    }
    let pulled = Fetches { charts, lock: None };
    frame.screen.show(&pulled, |_| lines(&pulled.charts))
}

async fn lock(args: &args::Lock, frame: &Frame) -> Result<(), Failure> {
    let mesh = args.file.as_deref().map(record::read).transpose()?;
    let path = match (&args.lock, &args.file) {
        (Some(path), _) => path.clone(),
        (None, Some(file)) => file.with_file_name(charts::LOCK),
        (None, None) => charts::LOCK.into(),
    };
    let from = From {
        repo: mesh
            .as_ref()
            .map_or(&args.from.repo, |m| &m.istio.charts)
            .clone(),
        version: match (&mesh, args.from.version.as_str()) {
            (Some(mesh), "") if mesh.istio.version.is_empty() => {
                mesh.istio.known.default().to_string()
            }
            (Some(mesh), "") => mesh.istio.version.clone(),
            (_, version) => version.to_owned(),
        },
        offline: args.from.offline,
    };
    let mut lock = Lock::read(&path).map_err(|e| charts::failure(&e))?;
    let known = (!args.update).then_some(&lock);
    let fetches = all(&args.charts, &from, known, frame).await?;
    for fetched in &fetches {
        let release = nominal(fetched.chart.name());
        // Some charts refuse to render without values; their images are then found when they are installed.
        let settings = Settings::default();
        let rendered = render(&fetched.chart, &settings, &release, &options(frame));
        lock.put(Entry {
            chart: fetched.chart.name().to_owned(),
            version: fetched.chart.metadata.version.clone(),
            sha256: fetched.sha256.clone(),
            source: fetched.origin.clone(),
            images: rendered.map(|r| chart::images(&r)).unwrap_or_default(),
        });
    }
    lock.write(&path).map_err(|e| charts::failure(&e))?;
    let locked = Fetches {
        charts: fetches.iter().map(|f| shown(f, None)).collect(),
        lock: Some(path),
    };
    frame.screen.show(&locked, |_| lines(&locked.charts))
}

fn lines(charts: &[Shown]) -> String {
    let one = |c: &Shown| match &c.path {
        Some(path) => format!("{}  {}\n", c.sha256, path.display()),
        None => format!("{}  {} {}\n", c.sha256, c.chart, c.version),
    };
    charts.iter().map(one).collect()
}

fn shown(fetched: &Fetched, path: Option<PathBuf>) -> Shown {
    Shown {
        chart: fetched.chart.name().to_owned(),
        version: fetched.chart.metadata.version.clone(),
        sha256: fetched.sha256.clone(),
        source: fetched.origin.clone(),
        path,
    }
}

/// The charts that were named; those of a join where none was, in the version a join installs.
async fn all(
    names: &[String],
    from: &From,
    lock: Option<&Lock>,
    frame: &Frame,
) -> Result<Vec<Fetched>, Failure> {
    let ours = names.is_empty() && from.version.is_empty();
    let from = From {
        repo: from.repo.clone(),
        version: match ours {
            true => Versions::known().default().to_string(),
            false => from.version.clone(),
        },
        offline: from.offline,
    };
    let names: Vec<&str> = match names {
        [] => OURS.to_vec(),
        names => names.iter().map(String::as_str).collect(),
    };
    let mut fetched = vec![];
    for name in names {
        fetched.push(fetch(name, &from, lock, frame).await?);
    }
    Ok(fetched)
}

async fn fetch(
    text: &str,
    from: &From,
    lock: Option<&Lock>,
    frame: &Frame,
) -> Result<Fetched, Failure> {
    let failed = |e: Error| charts::failure(&e);
    let (source, name) = Source::of_chart(text, &from.repo).map_err(failed)?;
    let machine = &frame.environment;
    let cache = machine.cache();
    let charts = ChartSource {
        offline: from.offline,
        logins: machine.logins(),
        ..ChartSource::default()
    };
    let options = FetchOptions {
        lock: lock.cloned(),
        ..charts::options(&source, &charts, cache.as_deref(), &frame.network)?
    };
    let version = match &source {
        // A chart that was pointed at is the one that is meant.
        Source::Folder(_) | Source::Archive(_) if Path::new(text).exists() => "",
        _ => from.version.as_str(),
    };
    charts::fetch_one(&source, &name, version, &options)
        .await
        .map_err(failed)
}

/// A release that only has a name, for what does not depend on it.
fn nominal(name: &str) -> Release<'_> {
    Release::install(name, "istio-system")
}

fn options(frame: &Frame) -> Options<'static> {
    Options {
        now: Some(frame.now().as_second()),
        ..Options::default()
    }
}

fn render(
    chart: &Chart,
    settings: &Settings,
    release: &Release<'_>,
    options: &Options<'_>,
) -> Result<Rendered, Failure> {
    let mut capabilities = Capabilities::default();
    if let Some(version) = &settings.kube_version {
        capabilities.kube_version.clone_from(version);
    }
    capabilities
        .api_versions
        .extend(settings.api_versions.iter().cloned());
    let failed = |e: Error| charts::failure(&e);
    let values = Value::Object(given(settings).map_err(failed)?);
    chart::render_with(chart, &values, release, &capabilities, options).map_err(failed)
}

fn given(settings: &Settings) -> Result<Map<String, Value>, Error> {
    let mut merged = values::merge_files(&settings.files)?;
    for text in &settings.set_json {
        values::set_json(&mut merged, text)?;
    }
    for text in &settings.set {
        values::set_path(&mut merged, text)?;
    }
    for text in &settings.set_string {
        values::set_string(&mut merged, text)?;
    }
    Ok(merged)
}
