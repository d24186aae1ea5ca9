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
    charts,
    error::{Exit, Failure},
    output::Style,
    session::{self, Session, Whom},
};
use crate::{
    aws::{Members, eks},
    chart::Capabilities,
    cluster::{ConnectOptions, connect},
    observe::{Observed, Seen},
    plan::desire::{Additions, desire},
    spec::Mesh,
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

/// Runs it.
pub(crate) async fn run(args: Render, frame: &Frame) -> Result<Exit, Failure> {
    let whom = Whom::All(&args.clusters);
    let (sandbox, endpoints) = session::embedded(&args.clusters, &args.target, frame).await?;
    let connect = session::connect_options(&args.target, frame, endpoints.as_ref());
    let mesh = session::mesh(whom, &args.target, frame, &connect).await?;
    let places = frame.places(endpoints.is_some(), &mesh.id)?;
    let (source, fetch) = session::charts(&args.target, endpoints.as_ref(), &mesh, &places, frame)?;
    let fetched = session::fetched(&source, &mesh, &fetch).await?;
    let mut additions = Additions {
        istiod: session::istiod_values(&mesh.istio.values)?,
        gateway: session::owner_values(&mesh.gateway.values)?,
        ..Additions::default()
    };
    if on_aws(&mesh, &connect, frame) {
        additions.exposure = Session::open(whom, &args.target, frame)
            .await?
            .exposure()
            .await?
            .0;
    }
    drop(sandbox);
    let observed = unseen(&mesh, args.kube_version.as_deref());
    let texts = session::texts(frame)?;
    let desired = desire(&mesh, &fetched, &additions, &texts, &observed)
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
        charts::pin(frame, fetch.lock.as_ref(), &desired);
    }
    frame.screen.show(&written, |style| written.text(style))?;
    Ok(match args.check && !written.changes.is_empty() {
        true => Exit::Drift,
        false => Exit::Done,
    })
}

/// Whether a member is an EKS cluster; nothing is asked to find out.
fn on_aws(mesh: &Mesh, connect: &ConnectOptions, frame: &Frame) -> bool {
    let contexts = connect::contexts(connect).unwrap_or_default();
    let contexts: Vec<_> = contexts.iter().map(eks::Context::from).collect();
    Members::new(frame.aws.clone(), mesh, &contexts).any()
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
