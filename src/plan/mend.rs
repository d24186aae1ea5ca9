//! What of a join mends something without a key, a chart or a restart. The rest is for somebody to decide, and is named.

use std::collections::BTreeSet;

use super::{Plan, Step};
use crate::hint::Hint;

/// Whether a step only looks, or belongs to a proof.
fn is_proof(step: &Step) -> bool {
    matches!(
        step,
        Step::AwaitIstiod(_)
            | Step::AwaitNlb(_)
            | Step::Reach { .. }
            | Step::StartProbe(_)
            | Step::Prove { .. }
            | Step::RecordProof(_)
            | Step::StopProbe(_)
    )
}

/// Whether a step may be done by whoever only wants to be rid of a finding.
fn is_safe(step: &Step, join: &Plan) -> bool {
    match step {
        Step::PrepareNamespaces(_)
        | Step::OpenGateway(_)
        | Step::ExposeServices(_)
        | Step::GrantReader { .. } => true,
        // There a changed remote secret comes with a restart of istiod.
        Step::ShareSecret { to, .. } => !join.holds(&Step::RefreshIstiod(to.clone())),
        step => is_proof(step),
    }
}

/// The safe steps of a join, with what proves them.
pub(crate) fn mend(join: Plan) -> Plan {
    let mut left: BTreeSet<Step> = BTreeSet::new();
    // Every step stands behind what it needs.
    for planned in &join.steps {
        let waits = planned.needs.iter().any(|need| left.contains(need));
        let is_bound = match &planned.step {
            // An istiod that is there is waited for as it runs.
            Step::AwaitIstiod(name) => join.holds(&Step::InstallIstiod(name.clone())),
            // What only takes away is done whatever becomes of what it comes after.
            step => waits && !step.always(),
        };
        if is_bound || !is_safe(&planned.step, &join) {
            left.insert(planned.step.clone());
        }
    }
    let stays = |step: &Step| !left.contains(step);
    let proves = join.steps.iter().any(|p| {
        let is_proving = matches!(p.step, Step::Prove { .. } | Step::Reach { .. });
        is_proving && stays(&p.step)
    });
    let mends = join
        .steps
        .iter()
        .any(|p| stays(&p.step) && !is_proof(&p.step));
    let mut plan = Plan {
        notes: join.notes.clone(),
        ..Plan::default()
    };
    let is_probe = |step: &Step| matches!(step, Step::StartProbe(_) | Step::StopProbe(_));
    for planned in join.steps.iter().filter(|_| mends) {
        if stays(&planned.step) && (proves || !is_probe(&planned.step)) {
            plan.held.insert(planned.step.clone());
            plan.steps.push(planned.clone());
        }
    }
    let decided = join
        .steps
        .iter()
        .filter(|p| !stays(&p.step) && !is_proof(&p.step));
    let decided: Vec<_> = decided.map(|p| p.describe.as_str()).collect();
    if !decided.is_empty() {
        let text = format!("left for you to decide: {}", decided.join("; "));
        let hint = Hint::join_again(Vec::<String>::new());
        plan.notes.push(super::Note::with(text, vec![hint]));
    }
    plan.finished()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ClusterName;

    fn member(name: &str) -> ClusterName {
        name.parse().unwrap()
    }

    fn plan(steps: Vec<(Step, Vec<Step>)>) -> Plan {
        let mut plan = Plan::default();
        for (step, needs) in steps {
            plan.add(step, needs, "because");
        }
        plan.finished()
    }

    fn ids(plan: &Plan) -> Vec<String> {
        plan.steps.iter().map(|p| p.step.to_string()).collect()
    }

    #[test]
    fn keys_charts_and_restarts_are_left_and_what_waits_for_them() {
        let a = || member("a");
        let share = |from: &str, to: &str| Step::ShareSecret {
            from: member(from),
            to: member(to),
        };
        let prove = |from: &str, to: &str| Step::Prove {
            from: member(from),
            to: member(to),
        };
        let join = plan(vec![
            (Step::InstallCacerts(a()), vec![]),
            (Step::RestartIstiod(a()), vec![Step::InstallCacerts(a())]),
            (Step::AwaitIstiod(a()), vec![Step::RestartIstiod(a())]),
            (Step::ExposeServices(a()), vec![Step::AwaitIstiod(a())]),
            (share("b", "a"), vec![]),
            (share("a", "b"), vec![]),
            (Step::RefreshIstiod(member("b")), vec![share("a", "b")]),
            (Step::StartProbe(a()), vec![]),
            (
                prove("a", "b"),
                vec![share("b", "a"), Step::StartProbe(a())],
            ),
            (
                prove("b", "a"),
                vec![share("a", "b"), Step::RefreshIstiod(member("b"))],
            ),
            (
                Step::RecordProof(a()),
                vec![prove("a", "b"), prove("b", "a")],
            ),
            (Step::StopProbe(a()), vec![prove("a", "b"), prove("b", "a")]),
        ]);
        let mended = mend(join);
        let mut left = ids(&mended);
        left.sort();
        let want = [
            "await-istiod/a",
            "expose-services/a",
            "prove/a/b",
            "share-secret/b/a",
            "start-probe/a",
            "stop-probe/a",
        ];
        assert_eq!(left, want);
        let note = &mended.notes[0].text;
        assert!(
            note.contains("write Secret cacerts in a") && note.contains("restart istiod in b"),
            "{note}"
        );
        // Whoever starts a probe takes it away, after what is asked of it.
        let stop = mended
            .steps
            .iter()
            .find(|p| p.step == Step::StopProbe(a()))
            .unwrap();
        assert_eq!(stop.needs, [prove("a", "b")]);
    }

    #[test]
    fn without_anything_to_mend_nothing_is_proved_either() {
        let a = || member("a");
        let join = plan(vec![
            (Step::InstallIstiod(a()), vec![]),
            (Step::StartProbe(a()), vec![]),
            (Step::StopProbe(a()), vec![Step::StartProbe(a())]),
        ]);
        let mended = mend(join);
        assert!(
            mended.is_empty() && mended.notes.len() == 1,
            "{:?}",
            ids(&mended)
        );
        assert!(mend(Plan::default()).notes.is_empty());
    }
}
