//! Not every member need be every other's peer.

use crate::kit::{Answer, World, istio, join};

fn is_proved(answer: &Answer, pairs: usize) {
    let said = format!("{pairs} of {pairs} pairs proved");
    assert!(answer.stdout.contains(&said), "{answer}");
}

/// Whose remote secrets a member has, and who has an account in it.
fn linked(world: &World, name: &str) -> [Vec<String>; 2] {
    let all = (1..=4).map(|n| format!("eks-{n}"));
    let all: Vec<_> = all.filter(|n| world.sandbox().api(n).is_some()).collect();
    let with = |resource: &str, prefix: &str| {
        let there = |other: &&String| {
            let path = istio(resource, &format!("{prefix}-{other}"));
            world.find(name, &path).is_some()
        };
        all.iter().filter(there).cloned().collect()
    };
    [
        with("secrets", "istio-remote-secret"),
        with("serviceaccounts", "meshlink-reader"),
    ]
}

#[test]
fn spokes_are_linked_to_their_hub_alone_and_links_are_made_and_undone() {
    let world = World::new(4);
    is_proved(&world.run(&format!("{} --hub eks-1", join(4))).ends(0), 6);
    for spoke in ["eks-2", "eks-3", "eks-4"] {
        assert_eq!(linked(&world, spoke), [["eks-1"], ["eks-1"]], "{spoke}");
    }
    assert_eq!(linked(&world, "eks-1"), [["eks-2", "eks-3", "eks-4"]; 2]);
    // Who joined them knows it, and so does everybody who asks a member.
    world.run(&join(4)).ends(0).says("nothing to do");
    is_proved(&world.run("status").ends(0), 6);
    is_proved(&world.run("verify --traffic").ends(0), 6);
    is_proved(&world.run("verify").ends(0), 6);
    let refused = world.run("leave eks-1 --yes").ends(5);
    refused.says("is the only peer of eks-2, eks-3, eks-4");
    let narrow = linked(&world, "eks-3");
    is_proved(&world.run(&format!("{} --full-mesh", join(4))).ends(0), 12);
    assert_eq!(linked(&world, "eks-3"), [["eks-1", "eks-2", "eks-4"]; 2]);
    world
        .run(&format!("plan {} --hub eks-1", &join(4)[5..]))
        .says("- ClusterRoleBinding meshlink-reader-eks-3");
    is_proved(&world.run(&format!("{} --hub eks-1", join(4))).ends(0), 6);
    assert_eq!(linked(&world, "eks-3"), narrow);
    world.run(&join(4)).ends(0).says("nothing to do");
    is_proved(
        &world.run("leave eks-4 --uninstall --crds --yes").ends(0),
        4,
    );
}

#[test]
fn links_that_were_chosen_are_not_made_more_by_who_knows_nothing_of_them() {
    let world = World::new(3);
    is_proved(&world.run(&format!("{} --hub eks-2", join(3))).ends(0), 4);
    world.forget();
    is_proved(&world.run("status eks-1 eks-2 eks-3").ends(0), 4);
    let refused = world.run(&join(3)).ends(5);
    let refused = refused.says("not everybody is everybody's peer");
    refused.says("--hub eks-2");
}
