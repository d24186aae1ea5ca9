//! Two people at once: one root, or one refusal.

use std::sync::Arc;

use meshlink::{Agreed, Change, Event};
use serde_json::Value;

use crate::kit::{Session, World, istio, join};

/// Somebody else, with keys of their own, on the same clusters.
fn colleague(world: &World) -> Session {
    let state = world.user.home().join(".local/state");
    Session::new().var("XDG_STATE_HOME", &state.display().to_string())
}

fn claims(world: &World, names: &[&str]) -> Vec<Value> {
    let claim = |name: &&str| world.find(name, &istio("configmaps", "meshlink-root"));
    names
        .iter()
        .filter_map(claim)
        .map(|map| map["data"]["root"].clone())
        .collect()
}

#[test]
fn two_joins_at_once_end_with_one_root() {
    let world = World::new(3);
    let other = colleague(&world);
    let (one, two) = (
        world.start("join eks-1 eks-2"),
        other.start("join eks-2 eks-3 --sandbox"),
    );
    let answers = [one.end(), two.end()];
    let codes: Vec<_> = answers.iter().map(|a| a.code.unwrap()).collect();
    let text = format!("{}\n{}", answers[0], answers[1]);
    // Whoever comes second meets the other's Lease, or what it has bound.
    let second = codes.iter().any(|code| matches!(code, 5 | 8));
    assert!(codes.contains(&0) && second, "{text}");
    // The loser may have bound nothing: every claim there is names the winner's root.
    let names = if codes[0] == 0 {
        ["eks-1", "eks-2"]
    } else {
        ["eks-2", "eks-3"]
    };
    let roots = claims(&world, &["eks-1", "eks-2", "eks-3"]);
    assert_eq!(roots.len(), 2, "{text}");
    assert!(
        roots[0] == roots[1] && claims(&world, &names).len() == 2,
        "{text}"
    );
    let left_out = if codes[0] == 0 { "eks-3" } else { "eks-1" };
    assert!(
        world.find(left_out, &istio("secrets", "cacerts")).is_none(),
        "{text}"
    );
}

#[test]
fn a_stale_plan_is_never_run() {
    let world = World::new(2);
    let link = world.link(2);
    let stale = world.block_on(link.plan(Change::Join)).unwrap();
    assert!(!stale.plan().is_empty());
    // Somebody else does it all before the plan is run.
    world.run(&join(2)).ends(0);
    // The Lease is taken and given up: that it changed is all there may be to see.
    let held = || {
        ["eks-1", "eks-2"].map(|name| {
            let mut all = world.inventory(name);
            all.retain(|object, _| !object.starts_with("Lease "));
            all
        })
    };
    let before = held();
    let report = world.block_on(stale.apply(&Agreed, Arc::new(|_: &Event| ())));
    let report = report.unwrap();
    assert!(report.steps.is_empty(), "{report}");
    assert_eq!(before, held());

    // And takes it apart before another one is: what is done is what is missing then.
    let stale = world.block_on(link.plan(Change::Join)).unwrap();
    assert!(stale.plan().is_empty());
    let fresh = world.block_on(link.plan(Change::Verify)).unwrap();
    world.run("leave eks-2 --uninstall --crds").ends(0);
    let report = world.block_on(fresh.apply(&Agreed, Arc::new(|_: &Event| ())));
    let refused = report.unwrap_err().to_string();
    assert!(refused.contains("is not bound to mesh mesh"), "{refused}");
}

#[test]
fn who_has_no_key_changes_nothing() {
    let world = World::joined(2);
    let before = [world.inventory("eks-1"), world.inventory("eks-2")];
    // What needs no key is anybody's to say.
    let colleague = colleague(&world);
    let join = || colleague.run(&format!("{} --sandbox", join(2)));
    join().ends(0).says("nothing to do");
    assert_eq!(before, [world.inventory("eks-1"), world.inventory("eks-2")]);
    world.delete("eks-1", &crate::kit::istio("secrets", "cacerts"));
    let before = [world.inventory("eks-1"), world.inventory("eks-2")];
    let refused = join().ends(5);
    refused.says("the vault on this machine has none for this mesh");
    assert_eq!(before, [world.inventory("eks-1"), world.inventory("eks-2")]);
}
