//! `meshlink ca`.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use futures::future;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    causes,
    cli::{
        Frame,
        args::{CaInit, CaStatus},
        error::{self, Exit, Failure, hinted},
        output::{Style, ends, json::Document, table::Table},
        passphrase,
        session::{Selection, Session, named},
    },
    cluster::{Kind, Ref},
    ends::{Ends, Signing},
    hint::Hint,
    link::{not_reached, selection, signer},
    name::ClusterName,
    observe::{Observed, Succession, Unreachable, VaultSeen},
    pki::{self, Cert, CertFacts, NewRoot, Profile, Vault},
    spec::Mesh,
    verify,
};

pub(crate) mod protect;
pub(crate) mod requests;

/// `meshlink ca init -o json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Made {
    /// The mesh.
    mesh: String,
    /// The folder it rests in.
    vault: PathBuf,
    /// The root's certificate.
    root: CertFacts,
    /// Who signs under it.
    authority: Authority,
}

/// Who signs intermediates.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Authority {
    /// As in the mesh file.
    kind: &'static str,
    /// What it is.
    who: String,
    /// The root that all it signs leads to, by its public key; none where it has none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    /// Why it cannot be asked now.
    #[serde(skip_serializing_if = "Option::is_none")]
    silent: Option<String>,
}

impl Authority {
    fn of(vault: &Vault) -> Result<Self, Failure> {
        if let Some(named) = vault.named() {
            return Ok(Self {
                kind: named.kind(),
                who: named.who(),
                root: Some(named.root().facts().spki_sha256.clone()),
                silent: named.silent(),
            });
        }
        let root = vault.root().map_err(|e| Failure::failed(&e))?;
        let root = root.map(|root| root.facts().spki_sha256.clone());
        let can_sign = root.as_ref().map(|root| vault.can_sign(root));
        let can_sign = can_sign.transpose().map_err(|e| Failure::failed(&e))?;
        Ok(Self {
            kind: "vault",
            who: "the vault on this machine".to_owned(),
            root,
            silent: match can_sign {
                Some(true) => None,
                Some(false) => Some("does not hold the key of this root".to_owned()),
                None => Some("holds no root for this mesh".to_owned()),
            },
        })
    }

    /// A line for each that is to be known, where it is not the vault as always.
    fn lines(&self, bound: Option<&CertFacts>, style: Style) -> String {
        let Self {
            kind, who, silent, ..
        } = self;
        if *kind == "vault" {
            return String::new();
        }
        let root = self.root.as_deref().map_or("none", pki::short);
        let mut text = format!("Intermediates are signed by {who} ({kind}), under root {root}\n");
        if let Some(silent) = silent {
            text += &format!("{} {who} {silent}\n", style.red("!"));
        }
        if let Some(bound) = bound.filter(|bound| Some(&bound.spki_sha256) != self.root.as_ref()) {
            text += &format!(
                "{} The mesh is still under root {}: meshlink rotate root lets {root} take its place\n",
                style.red("!"),
                pki::short(&bound.spki_sha256)
            );
        }
        text + "\n"
    }
}

/// The vault of a mesh, with whoever the mesh file names.
fn vault(mesh: &Mesh, path: &Path, frame: &Frame) -> Result<Vault, Failure> {
    let mut mesh = mesh.clone();
    mesh.trust.authority.settle();
    let variables = frame.environment.variables();
    let named = signer::named(&mesh, &variables, frame.now())?;
    let vault = Vault::open(path).map_err(|e| Failure::failed(&e))?;
    Ok(vault.signed_by(named))
}

impl Document for Made {
    const SCHEMA: &'static str = "ca-init";
}

/// The Secret `cacerts` of each member, if it has one.
type Held = Vec<(ClusterName, Option<pki::Files>)>;

/// `meshlink ca status -o json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Certificates {
    #[serde(flatten)]
    status: pki::Status,
    /// Who signs.
    authority: Authority,
    /// Everything that ends, and who renews it.
    ends: Ends,
    /// Members that could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreachable: Vec<Unreachable>,
    /// The change of root that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<Succession>,
}

/// The roots that are trusted beside the mesh's while that is changed.
fn expected(change: Option<&Succession>) -> Vec<String> {
    let roots = change.map(|change| vec![change.to.clone(), change.spare.clone()]);
    roots.unwrap_or_default()
}

impl Document for Certificates {
    const SCHEMA: &'static str = "ca-status";
}

/// `ca init`: the root alone, with no cluster touched. One that is there already is kept.
pub(crate) async fn init(args: CaInit, frame: &Frame) -> Result<Exit, Failure> {
    let folders = frame.folders(args.target.sandbox)?;
    let mesh = selection::alone(named(&args.target, &folders))?;
    let places = folders.places(&mesh.id);
    let vault = vault(&mesh, &places.vault, frame)?;
    let root = match vault.root().map_err(|e| Failure::failed(&e))? {
        Some(root) => root,
        None => create(&mesh, &vault, args.target.sandbox, frame)?,
    };
    let made = Made {
        mesh: mesh.id.to_string(),
        vault: places.vault.clone(),
        root: root.facts().clone(),
        authority: Authority::of(&vault)?,
    };
    let facts = &made.root;
    frame.screen.show(&made, |_| {
        let place = match made.authority.kind {
            "vault" => format!("stored in {}", places.vault.display()),
            kind => format!("{} signs under it ({kind})", made.authority.who),
        };
        format!(
            "Root of mesh {}: {}\n  fingerprint {} (SHA-256 of its public key)\n  valid until {}\n  {place}\n",
            mesh.id,
            facts.subject,
            facts.spki_sha256,
            facts.not_after.strftime("%Y-%m-%d"),
        )
    })?;
    Ok(Exit::Done)
}

fn create(mesh: &Mesh, vault: &Vault, embedded: bool, frame: &Frame) -> Result<Cert, Failure> {
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
    passphrase::given(vault, frame)?;
    let made = vault.create_root(&new).map_err(|e| Failure::failed(&e))?;
    Ok(made.cert().clone())
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
        let vault = vault(&mesh, &places.vault, frame)?;
        if let Some(root) = vault.root().map_err(|e| Failure::failed(&e))? {
            let now = frame.now();
            let alone = Observed {
                vault: VaultSeen {
                    certificate: Some(root.facts().clone()),
                    ..VaultSeen::default()
                },
                now,
                ..Observed::default()
            };
            let status = Certificates {
                status: pki::status(Some(root.facts()), &[], &[], now),
                authority: Authority::of(&vault)?,
                ends: Ends::of(&alone, &Signing::new()),
                unreachable: vec![],
                change: None,
            };
            return shown(&status, &args, &mesh, frame);
        }
    }
    let session = Session::open(Selection::Some(&args.clusters), &args.target, frame).await?;
    let now = (session.link.environment.clock)();
    // Side by side: each may be held up by a member that answers slowly.
    let (held, reading) = futures::join!(held(&session), session.link.read());
    let (held, unreachable) = held?;
    let reading = reading?;
    let change = reading.observed.succession().cloned();
    let root = session.link.vault.root().map_err(|e| Failure::failed(&e))?;
    let root = root.as_ref().map(Cert::facts);
    let mut status = Certificates {
        status: pki::status(root, &expected(change.as_ref()), &held, now),
        authority: Authority::of(&session.link.vault)?,
        ends: session.link.ends(&reading).await,
        unreachable,
        change,
    };
    let mesh = session.link.mesh();
    for name in &session.strangers {
        let why = verify::no_member(name, &mesh.id, &mesh.members());
        status
            .status
            .clusters
            .push(pki::Row::of_stranger(name, why));
    }
    frame.hints.settle_ends(&mut status.ends);
    let exit = shown(&status, &args, mesh, frame)?;
    Ok(match session.strangers.is_empty() {
        true => exit,
        false => Exit::NotInTime,
    })
}

/// Shows it, and says how it is.
fn shown(
    status: &Certificates,
    args: &CaStatus,
    mesh: &Mesh,
    frame: &Frame,
) -> Result<Exit, Failure> {
    frame.screen.show(status, |style| {
        let mut text = status.authority.lines(status.status.root.as_ref(), style);
        text += &self::text(&status.status, style);
        if let Some(change) = &status.change {
            let (from, to) = (pki::short(&change.from), pki::short(&change.to));
            let _ = writeln!(text, "\nThe root is being changed from {from} to {to}:");
            let mut hints = [Hint::meshlink(["rotate", "root", "--status"])];
            frame.hints.settle(&mut hints);
            hints
                .iter()
                .for_each(|hint| hinted(&mut text, style, "  ", hint));
        }
        let _ = write!(text, "\n{}", ends::render(&status.ends, style));
        error::unread(&mut text, style, &status.unreachable);
        text
    })?;
    ends::export(args.metrics.as_deref(), &status.ends, mesh)?;
    // Before there is a mesh there is nothing to compare.
    let is_alone = status.status.clusters.is_empty() && status.unreachable.is_empty();
    let is_well = status.ends.is_well() && (is_alone || status.status.is_well());
    Ok(match (status.unreachable.is_empty(), is_well) {
        (false, _) => Exit::PartlyDone,
        (true, true) => Exit::Done,
        (true, false) => Exit::Ill,
    })
}

/// What each member signs with; and the members that could not be read, as long as one could.
async fn held(session: &Session) -> Result<(Held, Vec<Unreachable>), Failure> {
    let link = &session.link;
    let istio = link.mesh.istio.namespace.as_str();
    let place = Ref::namespaced(&Kind::SECRET, istio, "cacerts");
    let found = link.clusters.iter().map(|(name, cluster)| {
        let place = &place;
        async move { (name, cluster.find(place).await) }
    });
    let mut unreachable: Vec<_> = link.unreachable.values().cloned().collect();
    let mut held = vec![];
    for (name, found) in future::join_all(found).await {
        match found {
            Ok(secret) => match secret.map(|s| pki::secret_files(&s["data"])).transpose() {
                Ok(files) => held.push((name.clone(), files)),
                Err(error) => {
                    let why = causes::texts(&error);
                    unreachable.push(Unreachable::without_a_way(name, why, vec![]));
                }
            },
            Err(error) => unreachable.push(link.told(name, &error).await),
        }
    }
    match held.is_empty() && !unreachable.is_empty() {
        true => Err(not_reached(&unreachable)),
        false => Ok((held, unreachable)),
    }
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
