//! `meshlink render`: what a join would install, as files for GitOps.
//!
//! Nothing is asked of any cluster, so that the same mesh file gives the same bytes wherever it is rendered; only where
//! members are EKS clusters, AWS is asked how their gateways can be reached, as a join does. No file holds a secret.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use super::super::{
    Frame,
    args::chart::Render,
    error::{Exit, Failure, Kind},
    output::{Style, json::Document},
    session::{Found, Selection},
};
use crate::{
    aws::Members,
    chart::Capabilities,
    link::{Meshlink, charts},
    observe::{Observed, Seen},
    plan::desire::{Additions, desire},
    spec::{Mesh, OLDEST_KUBERNETES},
};

mod files;
mod folder;
mod readme;

use folder::{Change, Folder};

/// What became of the folder.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Written {
    /// The mesh.
    mesh: String,
    /// The folder.
    folder: PathBuf,
    /// How many files it consists of.
    files: usize,
    /// What differed; with `--check`, what differs.
    changes: Vec<Change>,
    /// Nothing was written, because nothing was to be.
    checked_only: bool,
}

impl Document for Written {
    const SCHEMA: &'static str = "render";
}

/// Runs it.
pub(crate) async fn run(args: Render, frame: &Frame) -> Result<Exit, Failure> {
    if let Some(version) = args.kube_version.as_deref() {
        supported(version)?;
    }
    let selection = Selection::All(&args.clusters);
    let target = args.target.with(args.sources);
    let found = Found::of(selection, &target, frame).await?;
    let (mesh, environment) = (found.mesh.clone(), found.environment.clone());
    let places = environment.folders.places(&mesh.id);
    let (source, fetch) = charts::source(&environment, &mesh, &places.state)?;
    let mut additions = Additions {
        istiod: charts::istiod_values(&mesh)?,
        gateway: charts::owner_values(&mesh.gateway.values)?,
        ..Additions::default()
    };
    // Whether a member is an EKS cluster is seen without asking anybody.
    let contexts = found.finder.eks_contexts();
    if Members::new(environment.aws.clone(), &mesh, &contexts).any() {
        let link = Meshlink::open_without(&[], mesh.clone(), environment.clone(), found.finder);
        additions.exposure = link.await?.exposure().await?.values;
    }
    let observed = unseen(&mesh, args.kube_version.as_deref());
    let mut known = charts::Fetches::new();
    let fetched = charts::of_members(&mesh, &observed, (&source, &fetch), None, &mut known).await?;
    let desired = desire(
        &mesh,
        &fetched,
        &additions,
        &environment.manifests,
        &observed,
    )
    .map_err(|e| charts::undesired(&e))?;
    let files = files::files(&mesh, &desired).map_err(|e| Failure::failed(&e))?;
    let folder = Folder::open(&args.out, mesh.id.as_str(), &files)?;
    let written = Written {
        mesh: mesh.id.to_string(),
        folder: args.out.clone(),
        files: files.len(),
        changes: folder.changes()?,
        checked_only: args.check,
    };
    if !args.check {
        folder.write(&written.changes)?;
        charts::pin(fetch.lock.as_ref(), &desired, &|text| environment.say(text));
    }
    frame.screen.show(&written, |style| written.text(style))?;
    Ok(match args.check && !written.changes.is_empty() {
        true => Exit::Drift,
        false => Exit::Done,
    })
}

/// Refuses what a join would refuse.
fn supported(version: &str) -> Result<(), Failure> {
    let minor = |text: &str| {
        let mut parts = text.trim_start_matches('v').split('.');
        let mut number = || parts.next()?.parse::<u64>().ok();
        Some((number()?, number()?))
    };
    match (minor(version), minor(OLDEST_KUBERNETES)) {
        (Some(version), Some(oldest)) if version >= oldest => Ok(()),
        _ => {
            let text =
                format!("Kubernetes {version} is not supported: {OLDEST_KUBERNETES} or newer is");
            Err(Failure::from_causes(Kind::Refused, vec![text]))
        }
    }
}

/// Clusters nobody has looked at.
fn unseen(mesh: &Mesh, kubernetes: Option<&str>) -> Observed {
    let default = Capabilities::default().kube_version;
    let seen = Seen {
        kubernetes: kubernetes.map_or(default, str::to_owned),
        ..Seen::default()
    };
    let one = |m: &crate::spec::Member| (m.name.clone(), seen.clone());
    Observed {
        clusters: mesh.clusters.iter().map(one).collect(),
        ..Observed::default()
    }
}

impl Written {
    fn text(&self, style: Style) -> String {
        let folder = self.folder.display();
        let mut text: String = self.changes.iter().map(|c| format!("{c}\n")).collect();
        text += &match (self.changes.len(), self.checked_only) {
            (0, _) => style.green(&format!("{folder} is up to date: {} files", self.files)),
            (_, true) => format!("{folder} is out of date; nothing was written"),
            (n, false) => format!("{folder} is written: {n} files changed"),
        };
        text + "\n"
    }
}
