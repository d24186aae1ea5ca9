//! What this machine remembers of a mesh: its members as they were last joined, and its journal.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use futures::future;

use super::{
    Meshlink,
    failure::{Failure, Kind as Failed, Problem},
};
use crate::{
    causes,
    cluster::{Kind, Ref},
    engine::journal::Journal,
    file::write_whole,
    hint::Hint,
    observe::{CLAIM, claim},
    plan::{Refusal, leave::Leave},
    spec::{Eks, Member, Mesh, Problems, Reach},
    versions::Versions,
};

/// The mesh as it was last written, beside its journal.
pub(super) const FILE: &str = "mesh.yaml";

impl Meshlink {
    /// The journal, for appending.
    pub(super) fn journal(&self) -> Result<Journal, Failure> {
        Journal::open(&self.places.state).map_err(|e| Failure::failed(&e))
    }

    /// Writes the mesh down, so that later commands need not be told its members.
    pub(super) fn remember(&self, mesh: &Mesh) -> Result<(), Failure> {
        let text = mesh.to_yaml().map_err(|e| Failure::failed(&e))?;
        // It lies beside the journal, whose folder may not be there yet.
        self.journal()?;
        let folder = &self.places.state;
        write_whole(&folder.join(FILE), text.as_bytes()).map_err(|e| {
            let folder = folder.display().to_string();
            Failure::failed(&e).hint(Hint::command(["ls", "-ld", &folder]))
        })
    }

    /// Takes those who left out of what is written down.
    pub(super) fn forget(&self, leave: &Leave) -> Result<(), Failure> {
        let known = read(&self.places.state.join(FILE));
        self.remember(&leave.rest(known.as_ref().unwrap_or(&self.mesh)))
    }

    /// A mesh of this name that stands elsewhere: two under one name would share a root.
    pub(super) async fn namesake(&self) -> Option<Refusal> {
        let path = self.places.state.join(FILE);
        let known = read(&path).ok()?;
        let here = |m: &Member| self.mesh.clusters.iter().any(|n| n.name == m.name);
        if known.clusters.is_empty() || known.clusters.iter().any(here) {
            return None;
        }
        let stands = known.clusters.iter().map(|m| self.stands(m));
        let stands = future::join_all(stands).await.contains(&true);
        stands.then(|| namesake(&self.mesh, &known, &path))
    }

    /// Whether a cluster is bound to this mesh; one that cannot be asked counts as if it were,
    /// unless it was embedded and is gone.
    async fn stands(&self, member: &Member) -> bool {
        let unasked = !self.environment.embedded;
        let istio = self.mesh.istio.namespace.as_str();
        let place = Ref::namespaced(&Kind::CONFIG_MAP, istio, CLAIM);
        let Ok(cluster) = self.finder.reach(&member.name, &member.reach).await else {
            return unasked;
        };
        match cluster.find(&place).await {
            Ok(found) => found.is_some_and(|map| claim(&map).mesh == self.mesh.id.as_str()),
            Err(_) => unasked,
        }
    }
}

/// Why a mesh cannot have the name of one that stands elsewhere.
fn namesake(mesh: &Mesh, known: &Mesh, path: &Path) -> Refusal {
    let names = |mesh: &Mesh| -> Vec<String> {
        let names = mesh.clusters.iter().map(|m| m.name.to_string());
        names.collect()
    };
    let (old, new) = (names(known), names(mesh));
    let another = ["join".into(), "--mesh".into(), format!("{}-2", mesh.id)];
    let path = path.display().to_string();
    Refusal {
        cluster: None,
        reason: format!(
            "mesh {} already consists of {}, and none of these is named",
            mesh.id,
            old.join(" and ")
        ),
        hints: vec![
            Hint::other_mesh(another.iter().chain(&new))
                .remark("a separate mesh with a root of its own"),
            Hint::join(old.iter().chain(&new)).remark("one mesh of all of them"),
            Hint::command(["rm", &path]).remark(format!("if {} are gone for good", old.join(" "))),
        ],
    }
}

/// A mesh file.
pub(crate) fn read(path: &Path) -> Result<Mesh, Failure> {
    let text = text(path).map_err(|e| {
        let causes = vec![
            format!("cannot read the mesh file {}", path.display()),
            e.to_string(),
        ];
        Failure::from_causes(Failed::InvalidMesh, causes)
    })?;
    read_text(&text, path)
}

/// What a mesh file says; `path` is what errors call it, and what relative paths in it start from.
pub(crate) fn read_text(text: &str, path: &Path) -> Result<Mesh, Failure> {
    let mut mesh = Mesh::read(text, path).map_err(|problems| invalid(&problems))?;
    go_by_table(&mut mesh)?;
    Ok(mesh)
}

/// Reads the table of Istio versions that a mesh names, if it names one.
pub(super) fn go_by_table(mesh: &mut Mesh) -> Result<(), Failure> {
    if let Some(table) = &mesh.istio.versions {
        let known = versions(table)?;
        mesh.istio.go_by(known);
    }
    Ok(())
}

fn versions(path: &Path) -> Result<Versions, Failure> {
    let name = format!("the table of Istio versions {}", path.display());
    let unread = |e: io::Error| {
        let causes = vec![format!("cannot read {name}"), e.to_string()];
        Failure::from_causes(Failed::InvalidMesh, causes)
    };
    let wrong = |e: crate::versions::Error| {
        let causes = vec![name.clone()]
            .into_iter()
            .chain(causes::texts(&e))
            .collect();
        Failure::from_causes(Failed::InvalidMesh, causes)
    };
    Versions::read(&text(path).map_err(unread)?).map_err(wrong)
}

/// More than this no mesh file is, and [`Mesh::read`] says so.
const MOST: u64 = (1 << 20) + 1;

/// What a file says, as far as a mesh file goes. Pipes are read too, and devices that never end.
fn text(path: &Path) -> io::Result<String> {
    let mut text = vec![];
    fs::File::open(path)?.take(MOST).read_to_end(&mut text)?;
    let cut = text.len() as u64 == MOST;
    String::from_utf8(text).map_err(|_| match cut {
        // A letter may have been cut in two.
        true => io::Error::other("it is larger than 1 MiB: that is no mesh file"),
        false => io::Error::other("it is not UTF-8"),
    })
}

fn invalid(problems: &Problems) -> Failure {
    let one = |problem: &crate::spec::Problem| Problem {
        causes: vec![problem.in_file(&problems.file)],
        hints: vec![],
    };
    let errors = problems.list.iter().map(one).collect();
    Failure {
        kind: Failed::InvalidMesh,
        errors,
    }
}

/// How a member can be found again, as one word.
pub(crate) fn found_by(reach: &Reach) -> String {
    match reach {
        Reach::Auto(text) | Reach::Context(text) => text.clone(),
        Reach::Eks(cluster) => eks_text(cluster),
    }
}

/// An EKS cluster as one word: its ARN, `region/name`, or its name.
pub(crate) fn eks_text(cluster: &Eks) -> String {
    match (&cluster.arn, &cluster.region) {
        (Some(arn), _) => arn.clone(),
        (None, Some(region)) => format!("{region}/{}", cluster.name),
        (None, None) => cluster.name.clone(),
    }
}
