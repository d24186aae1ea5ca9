//! What plans say of whoever signs in the place of the vault.

use super::{Note, Plan, Refusal, Step};
use crate::{
    hint::Hint,
    name::ClusterName,
    observe::{NamedSeen, Observed},
    pki::short,
    spec::Mesh,
};

/// Why nothing can be signed now for a member by whoever is named, and what to do; none where nothing is known against it.
pub(super) fn silent(observed: &Observed, name: &ClusterName) -> Option<(String, Vec<Hint>)> {
    let named = observed
        .vault
        .named
        .as_ref()
        .filter(|named| is_asked(observed, named))?;
    let (why, hints) = named.silent.as_ref()?;
    let state = state(named, name);
    let text = format!("{}, which is to sign it, {why}: {state}", named.who);
    Some((text, hints.clone()))
}

/// A plan that needs signatures is refused where nobody can be asked for them. It says for each member how far that is.
pub(super) fn refusal(observed: &Observed, plan: &Plan) -> Option<Refusal> {
    let named = observed
        .vault
        .named
        .as_ref()
        .filter(|named| is_asked(observed, named))?;
    let steps = plan.steps.iter().map(|planned| &planned.step);
    let members = steps.filter_map(|step| match step {
        Step::IssueIntermediate(name) => Some(name),
        _ => None,
    });
    waiting(named, members)
}

/// That these members wait for certificates of somebody who cannot be asked.
pub(super) fn waiting<'a>(
    named: &NamedSeen,
    members: impl Iterator<Item = &'a ClusterName>,
) -> Option<Refusal> {
    let (why, hints) = named.silent.as_ref()?;
    let members: Vec<_> = members.map(|name| state(named, name)).collect();
    if members.is_empty() {
        return None;
    }
    Some(Refusal {
        cluster: None,
        reason: format!(
            "{}, which is to sign the intermediates, {why}: {}",
            named.who,
            members.join(", ")
        ),
        hints: hints.clone(),
    })
}

/// How far a member's certificate is that is carried to and fro.
fn state(named: &NamedSeen, name: &ClusterName) -> String {
    match named.requested.contains(name) {
        true => format!("{name} waits for the answer to its request"),
        false => format!("{name} has no certificate that serves"),
    }
}

/// Who is going to sign, and that the mesh is still under another root.
pub(super) fn notes(mesh: &Mesh, observed: &Observed, plan: &Plan) -> Vec<Note> {
    let Some(named) = &observed.vault.named else {
        return vec![];
    };
    let mut notes = vec![];
    let (theirs, bound) = (&named.root.spki_sha256, observed.root(&mesh.id));
    let issues = |step: &Step| matches!(step, Step::IssueIntermediate(_));
    if is_asked(observed, named) && plan.steps.iter().any(|planned| issues(&planned.step)) {
        let text = format!("{} signs under root {}", named.who, short(theirs));
        notes.push(Note::from(text));
    }
    if let Some(bound) = bound.filter(|bound| bound != theirs) {
        let text = format!(
            "the mesh is under root {}, and {} signs under {}",
            short(bound),
            named.who,
            short(theirs)
        );
        let rotate = Hint::meshlink(["rotate", "root"]);
        let hint = rotate.remark("lets that root take the place of the other");
        notes.push(Note::with(text, vec![hint]));
    }
    notes
}

/// Whether it is they who sign for the mesh as it is.
fn is_asked(observed: &Observed, named: &NamedSeen) -> bool {
    observed.vault.root.as_ref() == Some(&named.root.spki_sha256)
}
