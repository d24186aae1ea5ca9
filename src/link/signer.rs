//! Who signs, as the mesh file names them.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use jiff::Timestamp;

use super::failure::{Failure, Kind};
use crate::{
    pki::{
        Cert,
        signer::{Authority, Existing, Offline, Program, certs},
    },
    spec::{self, Mesh},
};

/// The variables that a program is given without being named.
const USUAL: [&str; 2] = ["PATH", "HOME"];

/// Who signs in the place of the vault, if the mesh names somebody. Nothing is asked of them yet.
pub(crate) fn named(
    mesh: &Mesh,
    variables: &BTreeMap<String, String>,
    now: Timestamp,
) -> Result<Option<Arc<dyn Authority>>, Failure> {
    let wrong = |reason: String| {
        let causes = vec!["cannot use trust.authority of the mesh file".into(), reason];
        Failure::from_causes(Kind::InvalidMesh, causes)
    };
    let found: Arc<dyn Authority> = match &mesh.trust.authority {
        spec::Authority::Vault => return Ok(None),
        spec::Authority::Exec {
            command,
            root,
            env,
            timeout,
        } => {
            let root = root_in(root).map_err(wrong)?;
            let given = |name: &str| Some((name.to_owned(), variables.get(name)?.clone()));
            let named = env.iter().map(String::as_str).chain(USUAL);
            let variables = named.filter_map(given).collect();
            Arc::new(Program::new(command.clone(), variables, *timeout, root))
        }
        spec::Authority::Offline { root } => Arc::new(Offline::new(root_in(root).map_err(wrong)?)),
        spec::Authority::Existing {
            certificate,
            key,
            chain,
            root,
        } => {
            let others: Vec<&Path> = chain.iter().chain(root).map(AsRef::as_ref).collect();
            let read = Existing::read(certificate, key, &others, now);
            Arc::new(read.map_err(wrong)?)
        }
    };
    Ok(Some(found))
}

/// The one certificate of a file, which has to be a root.
fn root_in(path: &Path) -> Result<Cert, String> {
    let shown = path.display();
    let mut found = certs(path)?;
    let root = found.pop().filter(|_| found.is_empty());
    let root =
        root.ok_or_else(|| format!("{shown} is to hold one certificate, that of the root"))?;
    match root.signed_by(&root) {
        true => Ok(root),
        false => Err(format!(
            "{shown}: {:?} is no root: {:?} has signed it",
            root.facts().subject,
            root.facts().issuer
        )),
    }
}
