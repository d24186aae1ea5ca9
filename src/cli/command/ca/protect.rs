//! `meshlink ca protect`: a passphrase for the root keys in the vault.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use super::vault;
use crate::{
    cli::{
        Frame,
        args::CaProtect,
        error::{Exit, Failure},
        output::json::Document,
        passphrase,
        session::named,
    },
    hint::Hint,
    link::selection,
    pki::vault::Passphrase,
};

/// `meshlink ca protect -o json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Protected {
    /// The mesh.
    mesh: String,
    /// The folder of the vault.
    vault: PathBuf,
    /// How many root keys are in it.
    keys: usize,
    /// Whether they are under a passphrase now.
    under_passphrase: bool,
}

impl Document for Protected {
    const SCHEMA: &'static str = "ca-protect";
}

/// Runs it.
pub(crate) fn run(args: &CaProtect, frame: &Frame) -> Result<Exit, Failure> {
    let folders = frame.folders(args.target.sandbox)?;
    let mesh = selection::alone(named(&args.target, &folders))?;
    let places = folders.places(&mesh.id);
    let vault = vault(&mesh, &places.vault, frame)?;
    passphrase::given(&vault, frame)?;
    passphrase::needed(&vault, frame)?;
    let new = match args.remove {
        true => None,
        false => Some(asked(args, frame)?),
    };
    let under_passphrase = new.is_some();
    let keys = vault.protect(new).map_err(|e| Failure::failed(&e))?;
    let done = Protected {
        mesh: mesh.id.to_string(),
        vault: places.vault,
        keys,
        under_passphrase,
    };
    frame.screen.show(&done, |_| {
        let how = match done.under_passphrase {
            true => "under a passphrase",
            false => "without a passphrase",
        };
        format!(
            "{} root keys in {} are {how} now\n",
            done.keys,
            done.vault.display()
        )
    })?;
    Ok(Exit::Done)
}

fn asked(args: &CaProtect, frame: &Frame) -> Result<Passphrase, Failure> {
    if let Some(path) = &args.new_passphrase_file {
        return passphrase::in_file(path);
    }
    let first = passphrase::typed("New passphrase: ", frame)?;
    let again = passphrase::typed("Once more: ", frame)?;
    match (first, again) {
        (Some(first), Some(again)) if first == again => Ok(first),
        (Some(_), Some(_)) => Err(Failure::usage("the two are not the same")),
        _ => Err(
            Failure::usage("no new passphrase was given").hint(Hint::note(
                "name a file that holds it with --new-passphrase-file, or use a terminal",
            )),
        ),
    }
}
