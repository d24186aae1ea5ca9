//! `meshlink ca`.

use std::{fmt::Write, path::PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    cli::{
        Frame,
        args::{CaInit, CaStatus},
        error::{Exit, Failure},
        output::{Style, json::Document, table::Table},
        session::{Selection, Session, named},
    },
    cluster::{Kind, Ref},
    link::selection,
    pki::{self, CertFacts, NewRoot, Profile, Vault},
    spec::Mesh,
    verify,
};

/// `meshlink ca init -o json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Made {
    /// The mesh.
    mesh: String,
    /// The folder it rests in.
    vault: PathBuf,
    /// The root's certificate.
    root: CertFacts,
}

impl Document for Made {
    const SCHEMA: &'static str = "ca-init";
}

/// `ca init`: the root alone, with no cluster touched. One that is there already is kept.
pub(crate) async fn init(args: CaInit, frame: &Frame) -> Result<Exit, Failure> {
    let folders = frame.folders(args.target.sandbox)?;
    let mesh = selection::alone(named(&args.target, &folders))?;
    let places = folders.places(&mesh.id);
    let vault = Vault::open(&places.vault).map_err(|e| Failure::failed(&e))?;
    let root = match vault.root().map_err(|e| Failure::failed(&e))? {
        Some(root) => root,
        None => create(&mesh, &vault, args.target.sandbox, frame)?,
    };
    let made = Made {
        mesh: mesh.id.to_string(),
        vault: places.vault.clone(),
        root: root.facts().clone(),
    };
    let facts = &made.root;
    frame.screen.show(&made, |_| {
        format!(
            "Root of mesh {}: {}\n  fingerprint {} (SHA-256 of its public key)\n  valid until {}\n  stored in {}\n",
            mesh.id,
            facts.subject,
            facts.spki_sha256,
            facts.not_after.strftime("%Y-%m-%d"),
            places.vault.display()
        )
    })?;
    Ok(Exit::Done)
}

fn create(mesh: &Mesh, vault: &Vault, embedded: bool, frame: &Frame) -> Result<pki::Root, Failure> {
    let profile = Profile::root().map_err(|e| Failure::failed(&e))?;
    let (key, lifetime) = (mesh.trust.key, mesh.trust.root_lifetime);
    let new = NewRoot {
        mesh: &mesh.id,
        key,
        lifetime,
        embedded,
        profile: &profile,
        now: frame.now(),
    };
    vault.create_root(&new).map_err(|e| Failure::failed(&e))
}

/// `ca status`: who signs with what, until when, and whether all trust one root.
pub(crate) async fn status(args: CaStatus, frame: &Frame) -> Result<Exit, Failure> {
    let is_named = !args.clusters.is_empty() || args.target.file.is_some();
    let folders = frame.folders(args.target.sandbox)?;
    let by = named(&args.target, &folders);
    if !is_named && !selection::is_written_down(by)? {
        // A root may have been made before there is a mesh.
        let mesh = selection::alone(by)?;
        let places = folders.places(&mesh.id);
        let vault = Vault::open(&places.vault).map_err(|e| Failure::failed(&e))?;
        if let Some(root) = vault.root().map_err(|e| Failure::failed(&e))? {
            let status = pki::status(Some(root.facts()), &[], frame.now());
            frame.screen.show(&status, |style| text(&status, style))?;
            return Ok(Exit::Done);
        }
    }
    let session = Session::open(Selection::Some(&args.clusters), &args.target, frame).await?;
    session.link.ensure_this_mesh().await?;
    let root = session.link.vault.root().map_err(|e| Failure::failed(&e))?;
    let mut held = vec![];
    for (name, cluster) in &session.link.clusters {
        let place = Ref::namespaced(
            &Kind::SECRET,
            session.link.mesh.istio.namespace.as_str(),
            "cacerts",
        );
        let secret = cluster
            .find(&place)
            .await
            .map_err(|e| Failure::failed(&e))?;
        let files = secret.map(|s| pki::secret_files(&s["data"])).transpose();
        held.push((name.clone(), files.map_err(|e| Failure::failed(&e))?));
    }
    let mut status = pki::status(root.as_ref().map(pki::Root::facts), &held, frame.now());
    let mesh = session.link.mesh();
    for name in &session.strangers {
        let why = verify::no_member(name, &mesh.id, &mesh.members());
        status.clusters.push(pki::Row::of_stranger(name, why));
    }
    frame.screen.show(&status, |style| text(&status, style))?;
    Ok(match status.is_well() {
        _ if !session.strangers.is_empty() => Exit::NotInTime,
        true => Exit::Done,
        false => Exit::Ill,
    })
}

fn text(status: &pki::Status, style: Style) -> String {
    let mut text = String::new();
    match &status.root {
        Some(root) => {
            let until = root.not_after.strftime("%Y-%m-%d");
            let _ = writeln!(
                text,
                "Root in the vault: {} ({}), valid until {until}\n",
                pki::short(&root.spki_sha256),
                root.subject
            );
        }
        None => text.push_str("The vault on this machine holds no root for this mesh.\n\n"),
    }
    if status.clusters.is_empty() {
        text.push_str("No cluster is in the mesh yet: meshlink join CLUSTER CLUSTER\n");
        return text;
    }
    let mut table = Table::new(["CLUSTER", "SIGNER", "UNTIL", "DAYS LEFT", "ROOT"]);
    status.clusters.iter().for_each(|row| table.row(cells(row)));
    text.push_str(&table.render(style));
    for proof in status.proofs.iter().filter(|p| !p.holds) {
        let why = proof.why.as_deref().unwrap_or("for an unknown reason");
        let (from, to) = (&proof.signer, &proof.verifier);
        let _ = writeln!(
            text,
            "\n{} {to} does not trust what {from} signs: {why}",
            style.red("!")
        );
    }
    if status.same_root == Some(true) {
        text.push_str("\nEvery cluster trusts what every other signs.\n");
    }
    for row in &status.clusters {
        for problem in &row.problems {
            let _ = writeln!(text, "{}: {}", row.cluster, problem.text);
        }
    }
    text
}

fn cells(row: &pki::Row) -> [String; 5] {
    let none = || "none".to_owned();
    let signer = row.signer.as_ref();
    [
        row.cluster.to_string(),
        signer.map_or_else(none, |s| pki::short(&s.spki_sha256).to_owned()),
        signer.map_or_else(none, |s| s.not_after.strftime("%Y-%m-%d").to_string()),
        row.days_left.map_or_else(none, |d| d.to_string()),
        match row.roots.as_slice() {
            [] => none(),
            roots => {
                let roots = roots.iter().map(|r| pki::short(&r.spki_sha256));
                roots.collect::<Vec<_>>().join(" ")
            }
        },
    ]
}
