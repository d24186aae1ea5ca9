//! Which clusters a command is about: from a file, from names, or from what was written down.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use futures::future;

use super::{
    Folders,
    admission::unanswered,
    failure::{Failure, Kind as Failed},
    look::refused,
    reach::Finder,
    record::{FILE, found_by, read, read_text},
};
use crate::{
    aws::Members,
    cluster::{Kind, Ref},
    hint::Hint,
    name::{ClusterName, MeshId},
    observe::{RECORD, Record, record},
    plan::Refusal,
    spec::{Member, Mesh, Peers, Values},
};

/// The mesh that is meant where none is named.
pub(crate) const DEFAULT: &str = "mesh";

/// What the names a command was given are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Selection<'a> {
    /// All the members there are to be.
    All(&'a [String]),
    /// Some members of a mesh that is there, or none to mean all.
    Some(&'a [String]),
    /// Members whose API servers are gone for good.
    Dead(&'a [String]),
}

impl<'a> Selection<'a> {
    pub(crate) fn names(self) -> &'a [String] {
        match self {
            Self::All(names) | Self::Some(names) | Self::Dead(names) => names,
        }
    }
}

/// How a mesh is named, besides by its clusters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'a> {
    /// Its file.
    pub(crate) file: Option<&'a Path>,
    /// The text of such a file.
    pub(crate) document: Option<&'a str>,
    /// Its name.
    pub(crate) id: Option<&'a MeshId>,
    /// Files of values for istiod and the gateways, besides those of the file.
    pub(crate) values: (&'a [PathBuf], &'a [PathBuf]),
    /// The version of Istio, in place of the mesh's.
    pub(crate) version: Option<&'a str>,
    /// The members that are peers of all, where the others are not.
    pub(crate) hubs: &'a [String],
    /// Whether every member is to be a peer of every other.
    pub(crate) full_mesh: bool,
    /// Where meshes are recorded.
    pub(crate) folders: &'a Folders,
}

/// The mesh a command is about.
#[derive(Debug)]
pub(crate) struct Selected {
    pub(crate) mesh: Mesh,
    /// Which of its members were named.
    pub(crate) named: Vec<ClusterName>,
    /// Who was named and is not a member of it.
    pub(crate) strangers: Vec<ClusterName>,
}

/// Finds the mesh a command is about.
pub(crate) async fn mesh(
    selection: Selection<'_>,
    by: Named<'_>,
    finder: &Finder,
) -> Result<Selected, Failure> {
    let named = |names| Mesh::named(names).map_err(|e| Failure::new(Failed::Usage, &e));
    let mut mesh = match (by.file, selection) {
        (Some(_), Selection::All([_, ..])) => {
            return Err(Failure::usage(
                "the mesh file already names its clusters: give either -f or names",
            ));
        }
        (Some(path), Selection::All(_)) => several(read(path)?, path)?,
        (Some(path), _) => read(path)?,
        (None, Selection::All([]) | Selection::Some(_)) if by.document.is_some() => {
            read_text(by.document.unwrap_or_default(), Path::new("document"))?
        }
        (None, Selection::All(names)) => extended(named(names)?, by),
        (None, Selection::Some([])) => written_down(by)?,
        (None, Selection::Dead(names)) => known(&named(names)?, by)?,
        (None, Selection::Some(names)) => whole(named(names)?, by, finder).await?,
    };
    call(&mut mesh, by)?;
    let (istiod, gateway) = by.values;
    if let Some(version) = by.version {
        mesh.istio.version = version.to_owned();
    }
    add_values(&mut mesh.istio.values, istiod)?;
    add_values(&mut mesh.gateway.values, gateway)?;
    link(&mut mesh, by)?;
    let mut selected = Selected {
        mesh,
        named: vec![],
        strangers: vec![],
    };
    if !selection.names().is_empty() {
        for typed in named(selection.names())?.clusters {
            match member(&selected.mesh, &typed.name, &found_by(&typed.reach)) {
                Some(name) => selected.named.push(name.clone()),
                None => selected.strangers.push(typed.name),
            }
        }
    }
    Ok(selected)
}

/// One cluster alone is added to the mesh that is written down here; several are all that a mesh is to have.
fn extended(named: Mesh, by: Named<'_>) -> Mesh {
    match (written_down(by), named.clusters.as_slice()) {
        (Ok(mut known), [one]) if !known.clusters.is_empty() => {
            if member(&known, &one.name, &found_by(&one.reach)).is_none() {
                known.clusters.push(one.clone());
            }
            known
        }
        (known, _) => Mesh {
            peers: known.ok().and_then(|known| known.peers),
            ..named
        },
    }
}

/// A mesh file that can be joined: it names two members at least.
fn several(mesh: Mesh, path: &Path) -> Result<Mesh, Failure> {
    match mesh.clusters.as_slice() {
        [only] => {
            let (path, only) = (path.display(), &only.name);
            let text = format!("a mesh needs at least two clusters, and {path} names only {only}");
            Err(Failure::from_causes(Failed::InvalidMesh, vec![text]))
        }
        _ => Ok(mesh),
    }
}

/// Gives a mesh the name it was asked for by; a file says its own.
fn call(mesh: &mut Mesh, by: Named<'_>) -> Result<(), Failure> {
    match (by.id, by.file) {
        (Some(id), Some(file)) if *id != mesh.id => Err(Failure::usage(format!(
            "{} is the file of mesh {}, and --mesh names {id}: give one of them",
            file.display(),
            mesh.id
        ))),
        (Some(id), _) => {
            mesh.id = id.clone();
            Ok(())
        }
        (None, _) => Ok(()),
    }
}

/// Says who is whose peer, as it was asked for by words of the command.
fn link(mesh: &mut Mesh, by: Named<'_>) -> Result<(), Failure> {
    if by.full_mesh || !by.hubs.is_empty() {
        if let Some(file) = by.file.filter(|_| mesh.peers.is_some()) {
            return Err(Failure::usage(format!(
                "{} says who is whose peer: change it there",
                file.display()
            )));
        }
        mesh.peers = Some(Peers {
            all: by.full_mesh,
            hubs: typed(mesh, by.hubs)?,
            groups: vec![],
        });
    }
    let Some(peers) = &mesh.peers else {
        return Ok(());
    };
    let alone = mesh.clusters.iter().find(|m| !peers.have(&m.name));
    match alone.filter(|_| mesh.clusters.len() > 1) {
        None => Ok(()),
        Some(alone) => Err(Failure::usage(format!(
            "{} would be nobody's peer: mesh {} has groups, and it is in none of them",
            alone.name, mesh.id
        ))
        .hint(Hint::note(
            "write it into a group of a mesh file, and join with -f; or name a hub by --hub",
        ))),
    }
}

/// Files of values from the command line, by paths that hold wherever the next command is run.
fn add_values(values: &mut Values, files: &[PathBuf]) -> Result<(), Failure> {
    for file in files {
        let file = std::path::absolute(file).map_err(|e| Failure::failed(&e))?;
        if !values.files.contains(&file) {
            values.files.push(file);
        }
    }
    Ok(())
}

/// The mesh some of whose members were named, with all the others it has.
async fn whole(named: Mesh, by: Named<'_>, finder: &Finder) -> Result<Mesh, Failure> {
    match written_down(by) {
        Ok(known) if holds_all(&known, &named) => Ok(known),
        _ => match recorded(&named, finder).await? {
            Some((_, record)) if by.id.is_none_or(|id| *id == record.mesh) => of_record(&record),
            Some((cluster, record)) => {
                let mesh = by.id.unwrap_or(&record.mesh);
                let refusal = Refusal::of_another_mesh(&cluster, record.mesh.as_str(), mesh);
                Err(refused(vec![refusal]))
            }
            None => Ok(named),
        },
    }
}

fn holds_all(known: &Mesh, named: &Mesh) -> bool {
    let holds = |m: &Member| member(known, &m.name, &found_by(&m.reach)).is_some();
    named.clusters.iter().all(holds)
}

/// The member of this name, or that is found by this text.
fn member<'m>(mesh: &'m Mesh, name: &ClusterName, text: &str) -> Option<&'m ClusterName> {
    let mut members = mesh.clusters.iter();
    let by_name = members.clone().find(|m| m.name == *name);
    let found = by_name.or_else(|| members.find(|m| found_by(&m.reach) == text));
    found.map(|m| &m.name)
}

/// The mesh of a member that cannot be asked: only what is written down here says who the others are.
fn known(named: &Mesh, by: Named<'_>) -> Result<Mesh, Failure> {
    match written_down(by) {
        Ok(known) if holds_all(&known, named) => Ok(known),
        _ => {
            let names: Vec<_> = named.clusters.iter().map(|m| m.name.as_str()).collect();
            let names = names.join(" ");
            Err(Failure::usage(format!(
                "no mesh with {names} is recorded on this machine, and a dead cluster cannot be asked who the others are"
            ))
            .hint(Hint::note(format!(
                "give the mesh as a file: meshlink leave {names} --dead -f mesh.yaml"
            ))))
        }
    }
}

/// The mesh with its members, as the file has it, or the last join wrote it down: no cluster is asked.
pub(crate) fn unasked(by: Named<'_>) -> Result<Mesh, Failure> {
    let mut mesh = match by.file {
        Some(path) => read(path)?,
        None => written_down(by)?,
    };
    call(&mut mesh, by)?;
    Ok(mesh)
}

/// The mesh without its members: enough for what only the vault is asked.
pub(crate) fn alone(by: Named<'_>) -> Result<Mesh, Failure> {
    let mut mesh = match by.file {
        Some(path) => read(path)?,
        // What its members are called does not matter, but a mesh has some.
        None => Mesh::named(&["any".into()]).map_err(|e| Failure::new(Failed::Usage, &e))?,
    };
    mesh.clusters.clear();
    call(&mut mesh, by)?;
    Ok(mesh)
}

/// What the first of the named clusters that is in a mesh says of it. One that cannot be asked matters only where no
/// other answers.
async fn recorded(named: &Mesh, finder: &Finder) -> Result<Option<(ClusterName, Record)>, Failure> {
    let looks = named.clusters.iter().map(|m| recorded_in(named, m, finder));
    let (mut failed, mut answered) = (None, false);
    for (member, look) in named.clusters.iter().zip(future::join_all(looks).await) {
        match look {
            Ok(Some(record)) => return Ok(Some((member.name.clone(), record))),
            Ok(None) => answered = true,
            Err(failure) => failed = failed.or(Some(failure)),
        }
    }
    match failed {
        Some(failure) if !answered => Err(failure),
        _ => Ok(None),
    }
}

async fn recorded_in(
    named: &Mesh,
    member: &Member,
    finder: &Finder,
) -> Result<Option<Record>, Failure> {
    let cluster = finder.reach(&member.name, &member.reach).await;
    let cluster = cluster.map_err(Failure::from)?;
    let place = Ref::namespaced(&Kind::CONFIG_MAP, named.istio.namespace.as_str(), RECORD);
    match cluster.find(&place).await {
        Ok(found) => Ok(found.as_ref().and_then(record)),
        Err(error) => {
            let aws = finder.aws();
            let members = Members::new(aws.clone(), named, &finder.eks_contexts());
            let (place, who) = members.of(&member.name);
            Err(unanswered(&error, aws, place.zip(Some(who))).await)
        }
    }
}

fn of_record(known: &Record) -> Result<Mesh, Failure> {
    let names: Vec<String> = known
        .members
        .iter()
        .map(|(name, reach)| format!("{name}={reach}"))
        .collect();
    let mut mesh = Mesh::named(&names).map_err(|e| Failure::new(Failed::Usage, &e))?;
    mesh.id = known.mesh.clone();
    mesh.peers = known.peers.clone();
    Ok(mesh)
}

/// The mesh as the last join wrote it down on this machine.
pub(crate) fn written_down(by: Named<'_>) -> Result<Mesh, Failure> {
    let (id, path) = place(by)?;
    if !path.exists() {
        let recorded = match by.folders.recorded().join(", ") {
            none if none.is_empty() => String::new(),
            names => format!("; recorded are {names}"),
        };
        return Err(Failure::usage(format!(
            "no clusters are given, and no mesh {id} is recorded on this machine{recorded}"
        ))
        .hint(Hint::to_fill_in(
            "meshlink status CLUSTER CLUSTER   # a mesh that was made elsewhere",
        ))
        .hint(
            Hint::command(["meshlink", "join", "eks-1", "eks-2", "--sandbox"])
                .remark("to try it without a cluster"),
        ));
    }
    let mut mesh = read(&path)?;
    // Which version it has is for its members to say: that of an earlier command is no wish.
    mesh.istio.version.clear();
    Ok(mesh)
}

/// Whether a join has written the mesh down on this machine.
pub(crate) fn is_written_down(by: Named<'_>) -> Result<bool, Failure> {
    Ok(place(by)?.1.exists())
}

/// The mesh that is meant, and where it is written down.
fn place(by: Named<'_>) -> Result<(MeshId, PathBuf), Failure> {
    let id = match by.id {
        Some(id) => id.clone(),
        None => DEFAULT
            .parse()
            .map_err(|e: crate::name::Error| Failure::failed(&e))?,
    };
    let path = by.folders.places(&id).state.join(FILE);
    Ok((id, path))
}

/// What a member is called in `id=NAME`, or by its bare name.
#[cfg(feature = "sandbox")]
pub(crate) fn bare(text: &str) -> &str {
    text.split_once('=').map_or(text, |(_, name)| name)
}

/// Members by the names that were typed.
pub(crate) fn typed(mesh: &Mesh, names: &[String]) -> Result<Vec<ClusterName>, Failure> {
    let by_reach: BTreeMap<String, &ClusterName> = mesh
        .clusters
        .iter()
        .map(|m| (found_by(&m.reach), &m.name))
        .collect();
    let one = |text: &String| {
        let bare = text.split_once('=').map_or(text.as_str(), |(name, _)| name);
        let member = mesh
            .clusters
            .iter()
            .map(|m| &m.name)
            .find(|n| n.as_str() == bare);
        let found = member.or_else(|| by_reach.get(text).copied());
        found.cloned().ok_or_else(|| {
            Failure::usage(format!("{text} is not a member of mesh {}", mesh.id))
                .hint(Hint::meshlink(["status"]))
        })
    };
    names.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_values_are_added_once_by_whole_paths() {
        let mut values = Values::default();
        let files = ["/v/a.yaml".into(), "b.yaml".into()];
        add_values(&mut values, &files).unwrap();
        add_values(&mut values, &files[..1]).unwrap();
        assert_eq!(values.files.len(), 2);
        assert_eq!(values.files[0], Path::new("/v/a.yaml"));
        assert!(values.files[1].is_absolute() && values.files[1].ends_with("b.yaml"));
    }
}
