//! `meshlink ca csr` and `meshlink ca import`: requests out, certificates in. No cluster is asked.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use super::vault;
use crate::{
    cli::{
        Frame,
        args::{CaCsr, CaImport, Target},
        error::{Exit, Failure, Kind},
        output::json::Document,
        session::{named, typed},
    },
    file::write_whole,
    hint::Hint,
    link::selection,
    name::ClusterName,
    pki::{
        CertFacts, NewIntermediate, Profile, Vault,
        signer::{Authority, certs},
    },
    spec::Mesh,
};

/// `meshlink ca csr -o json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Requested {
    /// The mesh.
    mesh: String,
    /// The requests, by member.
    requests: Vec<Written>,
    /// The members that have a certificate that serves.
    served: Vec<String>,
}

/// A request.
#[derive(Debug, Serialize, JsonSchema)]
struct Written {
    /// For whom.
    cluster: String,
    /// The file it was written to.
    file: PathBuf,
}

impl Document for Requested {
    const SCHEMA: &'static str = "ca-csr";
}

/// `meshlink ca import -o json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Imported {
    /// The mesh.
    mesh: String,
    /// What was taken in.
    certificates: Vec<Taken>,
    /// The members whose requests have not been answered.
    waiting: Vec<String>,
}

/// A certificate that was taken in.
#[derive(Debug, Serialize, JsonSchema)]
struct Taken {
    /// For whom.
    cluster: String,
    /// The file it came from.
    file: PathBuf,
    /// What stands in it.
    certificate: CertFacts,
}

impl Document for Imported {
    const SCHEMA: &'static str = "ca-import";
}

/// A mesh with an authority out of reach.
struct Desk {
    mesh: Mesh,
    vault: Vault,
    profile: Profile,
}

impl Desk {
    fn open(target: &Target, frame: &Frame) -> Result<Self, Failure> {
        let folders = frame.folders(target.sandbox)?;
        let mesh = selection::unasked(named(target, &folders))?;
        let places = folders.places(&mesh.id);
        Ok(Self {
            vault: vault(&mesh, &places.vault, frame)?,
            profile: Profile::intermediate().map_err(|e| Failure::failed(&e))?,
            mesh,
        })
    }

    fn authority(&self) -> Result<&dyn Authority, Failure> {
        let named = self.vault.named();
        named.ok_or_else(|| {
            Failure::usage("the vault on this machine signs for this mesh, and needs no requests")
                .hint(Hint::note(
                    "name another authority in trust.authority of the mesh file, and give that with -f",
                ))
        })
    }

    fn wanted<'a>(&'a self, cluster: &'a ClusterName, frame: &Frame) -> NewIntermediate<'a> {
        NewIntermediate::of(&self.mesh, cluster, &self.profile, frame.now())
    }

    fn members(&self, named: &[String]) -> Result<Vec<ClusterName>, Failure> {
        match named {
            [] => Ok(self.mesh.clusters.iter().map(|m| m.name.clone()).collect()),
            named => typed(&self.mesh, named),
        }
    }
}

/// `ca csr`.
pub(crate) fn write(args: &CaCsr, frame: &Frame) -> Result<Exit, Failure> {
    let desk = Desk::open(&args.target, frame)?;
    let authority = desk.authority()?;
    let mut done = Requested {
        mesh: desk.mesh.id.to_string(),
        requests: vec![],
        served: vec![],
    };
    for cluster in desk.members(&args.clusters)? {
        let request = desk.vault.request(&desk.wanted(&cluster, frame), authority);
        let Some(pem) = request.map_err(|e| Failure::failed(&e))? else {
            done.served.push(cluster.to_string());
            continue;
        };
        let file = args.out.join(format!("{cluster}.csr"));
        write_whole(&file, pem.as_bytes()).map_err(|e| unwritten(&file, &e))?;
        done.requests.push(Written {
            cluster: cluster.to_string(),
            file,
        });
    }
    frame.screen.show(&done, |_| {
        let requests = done.requests.iter();
        let requests = requests.map(|r| format!("{}: {}\n", r.cluster, r.file.display()));
        let served = done.served.iter();
        let served = served.map(|name| format!("{name} has a certificate that serves\n"));
        let mut text: String = requests.chain(served).collect();
        if !done.requests.is_empty() {
            text += "\nHave them signed, then: meshlink ca import FILE...\n";
        }
        text
    })?;
    Ok(Exit::Done)
}

fn unwritten(file: &Path, error: &std::io::Error) -> Failure {
    let causes = vec![
        format!("cannot write {}", file.display()),
        error.to_string(),
    ];
    Failure::from_causes(Kind::Failed, causes)
}

/// `ca import`. What is refused hinders nothing else.
pub(crate) fn import(args: &CaImport, frame: &Frame) -> Result<Exit, Failure> {
    let desk = Desk::open(&args.target, frame)?;
    let authority = desk.authority()?;
    let mut done = Imported {
        mesh: desk.mesh.id.to_string(),
        certificates: vec![],
        waiting: vec![],
    };
    let mut refused: Option<Failure> = None;
    for file in &args.files {
        match taken(&desk, authority, file, frame) {
            Ok(taken) => done.certificates.push(taken),
            Err(failure) => {
                refused = Some(match refused {
                    Some(before) => before.and(failure),
                    None => failure,
                });
            }
        }
    }
    if let Some(failure) = refused {
        return Err(failure);
    }
    for member in &desk.mesh.clusters {
        let waits = desk.vault.requested(&member.name);
        if waits.map_err(|e| Failure::failed(&e))? {
            done.waiting.push(member.name.to_string());
        }
    }
    frame.screen.show(&done, |_| {
        let taken = done.certificates.iter();
        let taken = taken.map(|taken| {
            let facts = &taken.certificate;
            let until = facts.not_after.strftime("%Y-%m-%d");
            let key = crate::pki::short(&facts.spki_sha256);
            format!("{}: {key}, valid until {until}\n", taken.cluster)
        });
        let waiting = done.waiting.iter();
        let waiting = waiting.map(|name| format!("{name} waits for the answer to its request\n"));
        taken.chain(waiting).collect()
    })?;
    Ok(Exit::Done)
}

/// The member whose request a file answers, and what it has been given.
fn taken(
    desk: &Desk,
    authority: &dyn Authority,
    file: &Path,
    frame: &Frame,
) -> Result<Taken, Failure> {
    let shown = file.display();
    let refused = |reason: String| {
        let causes = vec![format!("{shown} is not taken in"), reason];
        Failure::from_causes(Kind::Refused, causes)
    };
    let given = certs(file).map_err(refused)?;
    for member in &desk.mesh.clusters {
        let new = desk.wanted(&member.name, frame);
        let found = desk
            .vault
            .import(&given, &new, authority)
            .map_err(|error| {
                let causes = [
                    vec![format!("{shown} is not taken in")],
                    crate::causes::texts(&error),
                ];
                Failure::from_causes(Kind::Refused, causes.concat())
            })?;
        if let Some(made) = found {
            return Ok(Taken {
                cluster: member.name.to_string(),
                file: file.to_owned(),
                certificate: made.facts().clone(),
            });
        }
    }
    let why = "it answers no request that was made on this machine: its key is another";
    Err(refused(why.into()).hint(Hint::meshlink(["ca", "csr"]).remark("writes the requests")))
}
