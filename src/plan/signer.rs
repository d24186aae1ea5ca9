//! What plans say of whoever signs in the place of the vault.

use super::{Note, Plan, Refusal, Step};
use crate::{
    hint::Hint,
    observe::{NamedSeen, Observed},
    pki::short,
    spec::Mesh,
};

/// Why nothing can be signed now by whoever is named; none where nothing is known against it.
pub(super) fn silent(observed: &Observed) -> Option<String> {
    let NamedSeen { who, silent, root } = observed.vault.named.as_ref()?;
    let is_asked = observed.vault.root.as_ref() == Some(&root.spki_sha256);
    let silent = silent.as_ref().filter(|_| is_asked)?;
    Some(format!("{who}, which is to sign it, {silent}"))
}

/// A plan that needs a signature is refused where nobody can be asked for one.
pub(super) fn refusal(observed: &Observed, plan: &Plan) -> Option<Refusal> {
    if !asks(observed, plan) {
        return None;
    }
    let NamedSeen { who, silent, .. } = observed.vault.named.as_ref()?;
    Some(Refusal {
        cluster: None,
        reason: format!(
            "{who}, which is to sign the intermediates, {}",
            silent.as_ref()?
        ),
        hints: vec![Hint::meshlink(["ca", "status"])],
    })
}

/// Who is going to sign, and that the mesh is still under another root.
pub(super) fn notes(mesh: &Mesh, observed: &Observed, plan: &Plan) -> Vec<Note> {
    let Some(named) = &observed.vault.named else {
        return vec![];
    };
    let mut notes = vec![];
    let (theirs, bound) = (&named.root.spki_sha256, observed.root(&mesh.id));
    if asks(observed, plan) {
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

/// Whether something in it is signed by whoever is named.
fn asks(observed: &Observed, plan: &Plan) -> bool {
    let named = observed.vault.named.as_ref();
    let theirs = named.map(|named| &named.root.spki_sha256);
    let root = observed.vault.root.as_ref();
    let signs = |step: &Step| matches!(step, Step::IssueIntermediate(_));
    theirs.is_some() && theirs == root && plan.steps.iter().any(|planned| signs(&planned.step))
}
