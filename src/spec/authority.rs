//! `trust.authority`: who holds the root key.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Authority, check,
    fields::{At, Fields},
    lifetime,
};

/// How long a program may take that signs, where it is not said.
const PATIENCE: Duration = Duration::from_secs(120);

impl Authority {
    /// With paths that mean the same from every folder, for they are written down.
    pub(crate) fn settle(&mut self) {
        let settle = |path: &mut PathBuf| {
            if let Ok(absolute) = std::path::absolute(&path) {
                *path = absolute;
            }
        };
        match self {
            Self::Vault => {}
            Self::Offline { root } => settle(root),
            Self::Exec { command, root, .. } => {
                settle(root);
                if let Some(program) = command.first_mut().filter(|program| program.contains('/')) {
                    let mut path = PathBuf::from(&program);
                    settle(&mut path);
                    *program = path.display().to_string();
                }
            }
            Self::Existing {
                certificate,
                key,
                chain,
                root,
            } => {
                let others = chain.iter_mut().chain(root);
                [certificate, key]
                    .into_iter()
                    .chain(others)
                    .for_each(settle);
            }
        }
    }
}

/// A word, or a mapping with one key and what has to be known of it.
pub(super) fn read(at: &At<'_>, folder: &Path) -> Option<Authority> {
    if at.is_text() {
        let text = at.text().unwrap_or_default();
        if text != "vault" {
            at.wrong(format!(
                "{text:?} is not known here: write vault, or one of exec:, existing: and offline: with what belongs to it"
            ));
            return None;
        }
        return Some(Authority::Vault);
    }
    let found = at.fields(|f| {
        let exec = f.get("exec");
        let existing = f.get("existing");
        let offline = f.get("offline");
        let all = [exec.is_some(), existing.is_some(), offline.is_some()];
        if all.into_iter().filter(|is_there| *is_there).count() != 1 {
            f.at.wrong(
                "names no authority, or more than one: write one of exec:, existing: and offline:, or vault",
            );
            return None;
        }
        let exec = exec.and_then(|at| at.fields(|f| self::exec(f, folder)).flatten());
        let existing = existing.and_then(|at| at.fields(|f| self::existing(f, folder)).flatten());
        let offline = offline.and_then(|at| at.fields(|f| self::offline(f, folder)).flatten());
        exec.or(existing).or(offline)
    });
    found.flatten()
}

fn exec(f: &mut Fields<'_>, folder: &Path) -> Option<Authority> {
    let (command, root) = (f.get("command"), f.get("root"));
    let env = f.get("env").map(|at| at.each(variable));
    let timeout = f.get("timeout").and_then(|at| at.read(lifetime::read));
    let command = needed(
        f,
        command,
        "command: with the program and its arguments, as a list",
    );
    let root = needed(f, root, "root: with the file of the root's certificate");
    let words = command.map(|at| {
        let words = at.each(|word| Ok::<_, String>(word.to_owned()));
        if words.is_empty() {
            at.wrong("is to be a list that begins with the program");
        }
        words
    });
    let mut command = words.filter(|words| !words.is_empty())?;
    if let Some(program) = command.first_mut().filter(|program| program.contains('/')) {
        *program = folder.join(program.as_str()).display().to_string();
    }
    Some(Authority::Exec {
        command,
        root: file(root, folder)?,
        env: env.unwrap_or_default(),
        timeout: timeout.unwrap_or(PATIENCE),
    })
}

fn existing(f: &mut Fields<'_>, folder: &Path) -> Option<Authority> {
    let [certificate, key, chain, root] =
        ["certificate", "key", "chain", "root"].map(|key| f.get(key));
    let certificate = needed(
        f,
        certificate,
        "certificate: with the file of its certificate",
    );
    let key = needed(f, key, "key: with the file of its private key");
    let (chain, root) = (file(chain, folder), file(root, folder));
    Some(Authority::Existing {
        certificate: file(certificate, folder)?,
        key: file(key, folder)?,
        chain,
        root,
    })
}

fn offline(f: &mut Fields<'_>, folder: &Path) -> Option<Authority> {
    let root = f.get("root");
    let root = needed(f, root, "root: with the file of the root's certificate");
    Some(Authority::Offline {
        root: file(root, folder)?,
    })
}

fn needed<'a>(f: &Fields<'a>, found: Option<At<'a>>, what: &str) -> Option<At<'a>> {
    if found.is_none() {
        f.at.wrong(format!("is not complete: write {what}"));
    }
    found
}

fn file(at: Option<At<'_>>, folder: &Path) -> Option<PathBuf> {
    at?.read(|text| check::file(text, folder))
}

/// The name of a variable; what it holds does not belong into a file.
fn variable(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match !text.is_empty() && text.chars().all(plain) {
        true => Ok(text.into()),
        false => Err(format!(
            "{text:?} is not the name of a variable: write the name alone, without its value"
        )),
    }
}
