//! Two people at once: one root, or one refusal.

use serde_json::Value;

use crate::kit::{Library, Session, World, istio, join};

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
    assert!(codes.contains(&0) && codes.contains(&5), "{text}");
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
fn a_run_that_came_between_is_seen_when_the_leases_are_taken() {
    let world = World::new(2);
    let library = Library::new(&world);
    let look = || library.look(&world);
    let undisturbed = |seen| library.is_undisturbed(&world, &seen);
    assert!(undisturbed(look()), "no Lease was there, nor its namespace");
    assert!(undisturbed(look()), "it was free");

    let seen = look();
    world.run(&join(2)).ends(0);
    assert!(!undisturbed(seen), "a join came between");
    let gone = || world.run("leave eks-2 --uninstall --crds").ends(0);
    gone();
    // All is as it was, and yet was not all the time.
    let seen = look();
    world.run(&join(2)).ends(0);
    gone();
    assert!(!undisturbed(seen), "a join and a leave came between");
    // What was not looked for is not known to be undisturbed.
    assert!(!undisturbed(library.survey(&world).0));
}

#[test]
fn who_has_no_key_changes_nothing() {
    let world = World::joined(2);
    let before = [world.inventory("eks-1"), world.inventory("eks-2")];
    let answer = colleague(&world)
        .run(&format!("{} --sandbox", join(2)))
        .ends(5);
    answer.says("the vault on this machine has none for this mesh");
    assert_eq!(before, [world.inventory("eks-1"), world.inventory("eks-2")]);
}
