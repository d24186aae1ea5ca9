//! Which clusters a command is about: from a file, from names, or from what was written down.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{Whom, admission::unanswered};
use crate::{
    aws::{Members, eks::Context},
    cli::{
        Frame,
        args::Target,
        error::{Exit, Failure, Problem},
    },
    cluster::{ConnectOptions, Kind, Ref, connect},
    hint::Hint,
    name::{ClusterName, MeshId},
    observe::{RECORD, Record, record},
    plan::Refusal,
    spec::{Eks, Mesh, Problems, Reach, Values},
};

/// The mesh as it was last written, beside its journal.
pub(super) const FILE: &str = "mesh.yaml";
/// The mesh that is meant where none is named.
const DEFAULT: &str = "mesh";

/// The mesh a command is about.
pub(crate) async fn mesh(
    whom: Whom<'_>,
    target: &Target,
    frame: &Frame,
    options: &ConnectOptions,
) -> Result<Mesh, Failure> {
    let named = |names| Mesh::named(names).map_err(|e| Failure::new(Exit::Usage, &e));
    let mut mesh = match (&target.file, whom) {
        (Some(_), Whom::All([_, ..])) => {
            return Err(Failure::usage(
                "a mesh file names its clusters itself: give the file or names",
            ));
        }
        (Some(path), _) => read(path)?,
        (None, Whom::All(names)) => named(names)?,
        (None, Whom::Some([])) => written_down(target, frame)?,
        (None, Whom::Dead(names)) => known(&named(names)?, target, frame)?,
        (None, Whom::Some(names)) => whole(named(names)?, target, frame, options).await?,
    };
    if let Some(id) = &target.mesh {
        mesh.id = id.clone();
    }
    add_values(&mut mesh.istio.values, &target.istiod_values)?;
    add_values(&mut mesh.gateway.values, &target.gateway_values)?;
    Ok(mesh)
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
async fn whole(
    named: Mesh,
    target: &Target,
    frame: &Frame,
    options: &ConnectOptions,
) -> Result<Mesh, Failure> {
    match written_down(target, frame) {
        Ok(known) if holds_all(&known, &named) => Ok(known),
        _ => match recorded(&named, frame, options).await? {
            Some(record) => of_record(&record),
            None => Ok(named),
        },
    }
}

fn holds_all(known: &Mesh, named: &Mesh) -> bool {
    let holds = |name: &ClusterName| known.clusters.iter().any(|k| k.name == *name);
    named.clusters.iter().all(|m| holds(&m.name))
}

/// The mesh of a member that cannot be asked: only what is written down here says who the others are.
fn known(named: &Mesh, target: &Target, frame: &Frame) -> Result<Mesh, Failure> {
    match written_down(target, frame) {
        Ok(known) if holds_all(&known, named) => Ok(known),
        _ => {
            let names: Vec<_> = named.clusters.iter().map(|m| m.name.as_str()).collect();
            let names = names.join(" ");
            Err(Failure::usage(format!(
                "nothing is written down here of a mesh with {names}, and a dead cluster cannot be asked who the others are"
            ))
            .hint(Hint::note(format!(
                "give the mesh as a file: meshlink leave {names} --dead -f mesh.yaml"
            ))))
        }
    }
}

/// The mesh without its members: enough for what only the vault is asked.
pub(crate) fn alone(target: &Target) -> Result<Mesh, Failure> {
    let mut mesh = match &target.file {
        Some(path) => read(path)?,
        // What its members are called does not matter, but a mesh has some.
        None => Mesh::named(&["any".into()]).map_err(|e| Failure::new(Exit::Usage, &e))?,
    };
    mesh.clusters.clear();
    if let Some(id) = &target.mesh {
        mesh.id = id.clone();
    }
    Ok(mesh)
}

/// What a member says of the mesh it is in.
async fn recorded(
    named: &Mesh,
    frame: &Frame,
    options: &ConnectOptions,
) -> Result<Option<Record>, Failure> {
    let Some(first) = named.clusters.first() else {
        return Ok(None);
    };
    let aws = &frame.aws;
    let cluster = super::reach(&first.name, &first.reach, aws, options).await;
    let cluster = cluster.map_err(Failure::from)?;
    let place = Ref::namespaced(&Kind::CONFIG_MAP, named.istio.namespace.as_str(), RECORD);
    match cluster.find(&place).await {
        Ok(found) => Ok(found.as_ref().and_then(record)),
        Err(error) => {
            let contexts = connect::contexts(options).unwrap_or_default();
            let contexts: Vec<_> = contexts.iter().map(Context::from).collect();
            let (place, who) = Members::new(aws.clone(), named, &contexts).of(&first.name);
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
    let mut mesh = Mesh::named(&names).map_err(|e| Failure::new(Exit::Usage, &e))?;
    mesh.id = known.mesh.clone();
    Ok(mesh)
}

/// The mesh as the last join wrote it down on this machine.
fn written_down(target: &Target, frame: &Frame) -> Result<Mesh, Failure> {
    let (id, path) = place(target, frame)?;
    if !path.exists() {
        return Err(Failure::usage(format!(
            "no cluster is named, and nothing is written down of mesh {id}"
        ))
        .hint(Hint::to_fill_in(
            "meshlink status CLUSTER CLUSTER   # a mesh that was made elsewhere",
        ))
        .hint(
            Hint::command(["meshlink", "join", "eks-1", "eks-2", "--sandbox"])
                .remark("to try it without a cluster"),
        ));
    }
    read(&path)
}

/// Whether a join has written the mesh down on this machine.
pub(crate) fn is_written_down(target: &Target, frame: &Frame) -> Result<bool, Failure> {
    Ok(place(target, frame)?.1.exists())
}

/// The mesh that is meant, and where it is written down.
fn place(target: &Target, frame: &Frame) -> Result<(MeshId, PathBuf), Failure> {
    let id = match &target.mesh {
        Some(id) => id.clone(),
        None => DEFAULT
            .parse()
            .map_err(|e: crate::name::Error| Failure::failed(&e))?,
    };
    let places = frame.places(target.sandbox, &id)?;
    let path = places.journal.with_file_name(FILE);
    Ok((id, path))
}

pub(crate) fn read(path: &Path) -> Result<Mesh, Failure> {
    let text = fs::read_to_string(path).map_err(|e| {
        let causes = vec![
            format!("cannot read the mesh file {}", path.display()),
            e.to_string(),
        ];
        Failure::from_causes(Exit::InvalidMesh, causes)
    })?;
    Mesh::read(&text, path).map_err(|problems| invalid(&problems))
}

fn invalid(problems: &Problems) -> Failure {
    let one = |problem: &crate::spec::Problem| Problem {
        causes: vec![problem.in_file(&problems.file)],
        hints: vec![],
    };
    let errors = problems.list.iter().map(one).collect();
    Failure {
        kind: Exit::InvalidMesh,
        errors,
    }
}

/// Why a mesh cannot have the name of one that stands elsewhere.
pub(super) fn namesake(mesh: &Mesh, known: &Mesh, path: &Path) -> Refusal {
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
            "mesh {} is made of {} already, and none of them is named",
            mesh.id,
            old.join(" and ")
        ),
        hints: vec![
            Hint::other_mesh(another.iter().chain(&new)).remark("a mesh apart, with its own root"),
            Hint::join(old.iter().chain(&new)).remark("one mesh of all"),
            Hint::command(["rm", &path]).remark(format!("if {} are gone for good", old.join(" "))),
        ],
    }
}

/// What a member is called in `id=NAME`, or by its bare name.
pub(super) fn bare(text: &str) -> &str {
    text.split_once('=').map_or(text, |(_, name)| name)
}

/// How a member can be found again, as one word.
pub(crate) fn found_by(reach: &Reach) -> String {
    match reach {
        Reach::Auto(text) | Reach::Context(text) => text.clone(),
        Reach::Eks(cluster) => eks_text(cluster),
    }
}

/// An EKS cluster as one word: its ARN, `region/name`, or its name.
pub(super) fn eks_text(cluster: &Eks) -> String {
    match (&cluster.arn, &cluster.region) {
        (Some(arn), _) => arn.clone(),
        (None, Some(region)) => format!("{region}/{}", cluster.name),
        (None, None) => cluster.name.clone(),
    }
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
