//! A change of root on embedded clusters: whole, aborted, killed anywhere, held, refused, and with no trust lost on the way.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use serde_json::{Value, json};

use crate::kit::{World, istio, join};

/// What is typed; embedded kubelets take no time.
const ROTATE: &str = "rotate root --projected-within 0s";

fn claim(world: &World, cluster: &str) -> String {
    let map = world.get(cluster, &istio("configmaps", "meshlink-root"));
    map["data"]["root"].as_str().unwrap().to_owned()
}

#[test]
fn a_new_root_takes_the_place_of_the_old_one() {
    let world = World::joined(2);
    let old = claim(&world, "eks-1");
    world.run(ROTATE).ends(0).says("everywhere");
    let new = claim(&world, "eks-1");
    assert_ne!(new, old);
    assert_eq!(claim(&world, "eks-2"), new);
}
