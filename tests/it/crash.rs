//! Killed anywhere and run again: the same state and the same keys as if nothing had happened.
//!
//! Every step of a join and of a leave, before its effect, after it, and after it was written down. A
//! commit's hash says which few of them a usual run tries; with `MESHLINK_FULL=1` all are tried.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use regex_lite::Regex;
use serde_json::Value;

use crate::kit::{World, in_full, in_turn, istio, join};

const LEAVE: &str = "leave eks-2 --uninstall --crds";
const MOMENTS: [&str; 3] = ["before", "after", "journalled"];
/// How many places a usual run tries of each command.
const SLICE: usize = 4;

/// What is there, by name; what has a random name is somebody's who is in it.
fn state(world: &World) -> Vec<BTreeSet<String>> {
    let random = [
        "Pod ",
        "ReplicaSet ",
        "EndpointSlice ",
        "Endpoints ",
        "Lease ",
    ];
    let revision = Regex::new(r"\.v\d+$").unwrap();
    let names = |cluster: &str| {
        let all = world.inventory(cluster).into_keys();
        let lasting = all.filter(|path| !random.iter().any(|kind| path.starts_with(kind)));
        lasting
            .map(|path| revision.replace(&path, ".vN").into_owned())
            .collect()
    };
    let clusters = &world.endpoints().clusters;
    clusters.iter().map(|cluster| names(cluster)).collect()
}

/// The steps of the last run.
fn steps(world: &World) -> Vec<String> {
    let journal = world.journal();
    let mut events = journal
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let begun = events.rfind(|e| e["event"] == "run-started").unwrap();
    let steps = begun["steps"].as_array().unwrap().iter();
    steps
        .map(|s| s["step"].as_str().unwrap().to_owned())
        .collect()
}

/// The places to die at: all, or those whose turn it is.
fn places(steps: &[String]) -> Vec<String> {
    let all = steps
        .iter()
        .flat_map(|step| MOMENTS.map(|moment| format!("{step}:{moment}")));
    in_turn(all.collect(), SLICE)
}

/// Dies at a place, and runs the command again.
fn die_and_go_on(world: &World, command: &str, place: &str) {
    let args = format!("{command} --sandbox");
    let died = world
        .user
        .start_with(&args, &[("MESHLINK_CRASH", place)])
        .end();
    assert_eq!(died.code, None, "{place}: {died}");
    let keys = world.keys();
    let again = world.run(command);
    assert_eq!(again.code, Some(0), "{place}: {again}");
    for (path, key) in keys {
        assert!(
            world.keys().get(&path) == Some(&key),
            "{place}: {path} is another"
        );
    }
}

/// The vault holds one root and one intermediate each, and clusters sign with these.
fn has_first_keys(world: &World, place: &str) {
    let keys = world.keys();
    assert_eq!(keys.len(), 6, "{place}: {:?}", keys.keys());
    for cluster in ["eks-1", "eks-2"] {
        let held = &keys[&format!("clusters/{cluster}/1/cert.pem")];
        let cacerts = world.get(cluster, &istio("secrets", "cacerts"));
        let signer = cacerts["data"]["ca-cert.pem"].as_str().unwrap();
        assert!(
            STANDARD.decode(signer).unwrap() == *held,
            "{place}: {cluster} signs with another key"
        );
    }
}

#[test]
fn a_join_that_is_killed_goes_on() {
    let undisturbed = World::joined(2);
    let (want, steps) = (state(&undisturbed), steps(&undisturbed));
    drop(undisturbed);
    for place in places(&steps) {
        println!("join killed at {place}");
        let world = World::new(2);
        die_and_go_on(&world, &join(2), &place);
        assert_eq!(state(&world), want, "{place}");
        has_first_keys(&world, &place);
        world.run("plan eks-1 eks-2").ends(0);
    }
}

#[test]
fn a_leave_that_is_killed_goes_on() {
    let undisturbed = World::joined(2);
    undisturbed.run(LEAVE).ends(0);
    let (want, steps) = (state(&undisturbed), steps(&undisturbed));
    drop(undisturbed);
    for place in places(&steps) {
        println!("leave killed at {place}");
        let world = World::joined(2);
        die_and_go_on(&world, LEAVE, &place);
        assert_eq!(state(&world), want, "{place}");
        world.run(LEAVE).ends(0).says("nothing to do");
    }
}

/// Three clusters of which the last leaves, killed at a place: the other two end as one proved mesh.
fn the_others_are_proved_whatever_happens(command: &str, ready: impl Fn(&World)) {
    let undisturbed = World::joined(3);
    ready(&undisturbed);
    undisturbed.run(command).ends(0);
    let (want, steps) = (state(&undisturbed), steps(&undisturbed));
    drop(undisturbed);
    let mut places = places(&steps);
    if !in_full() {
        // Such a world is dear: one of those whose turn it is.
        let turn = places.concat().bytes().map(usize::from).sum::<usize>();
        places = vec![places.swap_remove(turn % places.len())];
    }
    for place in places {
        println!("{command} killed at {place}");
        let world = World::joined(3);
        ready(&world);
        die_and_go_on(&world, command, &place);
        assert_eq!(state(&world), want, "{place}");
        world.run("status").ends(0).says("2 of 2 pairs proved");
        world.run(&join(2)).ends(0).says("nothing to do");
    }
}

#[test]
fn one_of_three_that_is_killed_leaving_goes_on() {
    the_others_are_proved_whatever_happens("leave eks-3 --uninstall --crds", |_| {});
}

#[test]
fn striking_the_dead_goes_on_when_killed() {
    let dies = |world: &World| world.api("eks-3").faults().unreachable(true);
    the_others_are_proved_whatever_happens("leave eks-3 --dead", dies);
}
