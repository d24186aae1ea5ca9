//! A change of root on embedded clusters: whole, aborted, killed anywhere, held, refused, and with no trust lost on the way.

#[cfg(feature = "crashpoints")]
use std::collections::BTreeSet;
use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

#[cfg(feature = "crashpoints")]
use crate::kit::{Answer, Session, in_turn};
use crate::kit::{World, istio, join};

/// What is typed; embedded kubelets take no time.
const ROTATE: &str = "rotate root --projected-within 0s";
#[cfg(feature = "crashpoints")]
const ABORT: &str = "rotate root --abort";
const MEMBERS: [&str; 2] = ["eks-1", "eks-2"];
/// How many of the places where it can be killed a usual run tries.
#[cfg(feature = "crashpoints")]
const SLICE: usize = 4;

/// The root a member is bound to.
fn claim(world: &World, cluster: &str) -> String {
    let map = world.get(cluster, &istio("configmaps", "meshlink-root"));
    map["data"]["root"].as_str().unwrap().to_owned()
}

/// How many roots a member's istiod reads, and how many it publishes.
fn roots(world: &World, cluster: &str) -> (usize, usize) {
    let count = |pem: &str| pem.matches("BEGIN CERTIFICATE").count();
    let secret = world.get(cluster, &istio("secrets", "cacerts"));
    let held = STANDARD.decode(secret["data"]["root-cert.pem"].as_str().unwrap());
    let map = world.get(cluster, &istio("configmaps", "istio-ca-root-cert"));
    let published = map["data"]["root-cert.pem"].as_str().unwrap();
    let held = String::from_utf8(held.unwrap()).unwrap();
    (count(&held), count(published))
}

/// Whether a change is written down in a member.
fn is_told(world: &World, cluster: &str) -> bool {
    let place = istio("configmaps", "meshlink-root-next");
    world.find(cluster, &place).is_some()
}

/// One root, the same in both members, and nothing left of a change.
#[track_caller]
fn is_over(world: &World, place: &str) -> String {
    let [first, second] = MEMBERS.map(|name| claim(world, name));
    assert_eq!(first, second, "{place}");
    for name in MEMBERS {
        assert_eq!(roots(world, name), (1, 1), "{place}: {name}");
        assert!(!is_told(world, name), "{place}: {name}");
    }
    first
}

/// Looks, as long as something else is done, whether any proxy does not trust what another shows.
pub(crate) fn while_all_trust_each_other<T>(world: &World, work: impl FnOnce() -> T) -> T {
    let (over, looks) = (AtomicBool::new(false), AtomicUsize::new(0));
    let sandbox = world.sandbox();
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut found = vec![];
            while !over.load(SeqCst) && found.is_empty() {
                found = sandbox.distrust();
                looks.fetch_add(1, SeqCst);
                thread::sleep(std::time::Duration::from_millis(2));
            }
            found
        });
        let done = work();
        over.store(true, SeqCst);
        assert_eq!(watch.join().unwrap(), Vec::<String>::new());
        assert!(looks.load(SeqCst) > 0);
        done
    })
}

/// Dies at a place.
#[cfg(feature = "crashpoints")]
#[track_caller]
fn killed_at(world: &World, command: &str, place: &str) {
    let args = format!("{command} --sandbox");
    let died = world
        .user
        .start_with(&args, &[("MESHLINK_CRASH", place)])
        .end();
    assert_eq!(died.code, None, "{place}: {died}");
}

/// Another operator, with a copy of the vault as it is now.
#[cfg(feature = "crashpoints")]
fn colleague(world: &World) -> Session {
    let state = world.user.home().join(".local/state");
    let other = Session::new().var("XDG_STATE_HOME", &state.display().to_string());
    copy(
        &world.user.home().join(".local/share"),
        &other.home().join(".local/share"),
    );
    other
}

#[cfg(feature = "crashpoints")]
fn copy(from: &std::path::Path, to: &std::path::Path) {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(to)
        .unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|e| (e.path(), e.file_name())).unwrap();
        match path.is_dir() {
            true => copy(&path, &to.join(name)),
            false => {
                fs::copy(&path, to.join(&name)).unwrap();
                fs::set_permissions(to.join(&name), fs::Permissions::from_mode(0o600)).unwrap();
            }
        }
    }
}

#[cfg(feature = "crashpoints")]
fn as_other(other: &Session, args: &str) -> Answer {
    other.run(&format!("{args} --sandbox"))
}

#[test]
fn a_new_root_takes_the_place_of_the_old_one() {
    let world = World::joined(2);
    world.run("sample up").ends(0);
    let old = is_over(&world, "before");
    let pods = || {
        let all = world.inventory("eks-1").into_iter();
        let pods = all.filter(|(path, _)| path.starts_with("Pod ") && !path.contains("probe"));
        pods.map(|(path, pod)| (path, pod["metadata"]["uid"].clone()))
            .collect::<Vec<_>>()
    };
    let running = pods();
    world
        .run("rotate root --status")
        .ends(0)
        .says("is not being changed");
    let done = while_all_trust_each_other(&world, || world.run(ROTATE));
    done.ends(0).says("2 of 2 pairs proved");
    let new = is_over(&world, "after");
    assert_ne!(new, old);
    assert_eq!(pods(), running, "nothing was restarted");
    let table = world.run("sample call").ends(0);
    drop(table);
    world.run("ca status").ends(0);
    world.run("verify --traffic").ends(0);
    world.run(&join(2)).ends(0).says("nothing to do");
    // Run once more, it does not begin another; asked for another, it does.
    world
        .run(ROTATE)
        .ends(0)
        .says("has been the root of the mesh since");
    assert_eq!(is_over(&world, "again"), new);
    while_all_trust_each_other(&world, || world.run(&format!("{ROTATE} --to generate"))).ends(0);
    assert_ne!(is_over(&world, "twice"), new);
    world.run("leave eks-2").ends(0);
}

#[test]
#[cfg(feature = "crashpoints")]
fn while_it_is_under_way_everybody_is_told_and_members_stay() {
    let world = World::joined(2);
    killed_at(&world, ROTATE, "switch-issuer/eks-2:before");
    world
        .run("status")
        .ends(0)
        .says("while the root is changed");
    world.run("verify --traffic").ends(0);
    world
        .run("ca status")
        .ends(0)
        .says("The root is being changed from");
    // What kubelets take is what was said when it was begun, unless it is said anew.
    for (more, wanted) in [("", "distributed"), (" --projected-within 1h", "prepared")] {
        let status = format!("rotate root --status -o json{more}");
        let shown = world.run(&status).ends(0).json();
        let members = shown["members"].as_array().unwrap().iter();
        let phases = members.map(|m| m["phase"].as_str().unwrap().to_owned());
        let phases: BTreeSet<_> = phases.collect();
        assert!(phases.contains(wanted), "{shown}");
    }
    let planned = world.run("plan rotate").ends(10);
    planned
        .says("switch-issuer/eks-2")
        .says("retire-root/eks-1");
    for command in [join(2), "leave eks-2".into(), "plan eks-1 eks-2".into()] {
        let told = world.run(&command).ends(5);
        told.says("members neither come nor go")
            .says("rotate root --abort");
    }
    world
        .run(&format!("{ROTATE} --to generate"))
        .ends(5)
        .says("already, and not to another");
    world.run(ROTATE).ends(0);
    is_over(&world, "at the end");
}

#[test]
#[cfg(feature = "crashpoints")]
fn it_goes_back_until_one_has_let_go_of_the_old_root() {
    let world = World::joined(2);
    let old = is_over(&world, "before");
    for place in [
        "announce-root/eks-1:after",
        "distribute-root/eks-1:written",
        "distribute-root/eks-2:after",
        "switch-issuer/eks-1:written",
        "switch-issuer/eks-2:after",
    ] {
        killed_at(&world, ROTATE, place);
        // Who has the old root's key alone can go back.
        while_all_trust_each_other(&world, || world.run(ABORT)).ends(0);
        assert_eq!(is_over(&world, place), old);
        world.run(ABORT).ends(0).says("is not being changed");
    }
    // What was made for it serves the next time.
    let made = world.keys().len();
    killed_at(&world, ROTATE, "retire-root/eks-1:written");
    assert_eq!(world.keys().len(), made, "another root was made");
    world.run(ABORT).ends(5).says("there is no way back to it");
    while_all_trust_each_other(&world, || world.run(ROTATE)).ends(0);
    assert_ne!(is_over(&world, "at the end"), old);
}

/// The places to die at: all, or those whose turn it is by the hash of the commit.
#[cfg(feature = "crashpoints")]
fn places(world: &World) -> Vec<String> {
    let journal = world.journal();
    let mut events = journal
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let begun = events.rfind(|e| e["event"] == "run-started").unwrap();
    let steps = begun["steps"].as_array().unwrap().iter();
    let steps: Vec<_> = steps
        .map(|s| s["step"].as_str().unwrap().to_owned())
        .collect();
    let moments = |step: &String| {
        let turns = ["distribute-root", "switch-issuer", "retire-root"];
        let own = match step.split('/').next().unwrap() {
            verb if turns.contains(&verb) => "written",
            "rebind-root" => "unbound",
            _ => "before",
        };
        [own, "before", "after", "journalled"].map(|moment| format!("{step}:{moment}"))
    };
    let all: BTreeSet<_> = steps.iter().flat_map(moments).collect();
    let mut some = in_turn(all.into_iter().collect(), SLICE);
    // Where there is no claim at all, always.
    let unbound = "rebind-root/eks-2:unbound".to_owned();
    if !some.contains(&unbound) {
        some.push(unbound);
    }
    some
}

#[cfg(feature = "crashpoints")]
#[test]
fn killed_anywhere_somebody_else_goes_on() {
    let world = World::joined(2);
    world.run(ROTATE).ends(0);
    let places = places(&world);
    for place in places {
        println!("killed at {place}");
        let old = is_over(&world, &place);
        let again = format!("{ROTATE} --to generate");
        killed_at(&world, &again, &place);
        let other = colleague(&world);
        let is_begun = MEMBERS.iter().any(|name| is_told(&world, name));
        let command = match is_begun || claim(&world, "eks-1") != old {
            true => ROTATE,
            // Nothing in the clusters says that it was begun.
            false => &again,
        };
        while_all_trust_each_other(&world, || as_other(&other, command)).ends(0);
        assert_ne!(is_over(&world, &place), old, "{place}");
        // The first one's vault lacks nothing that the mesh needs, or says so.
        copy(
            &other.home().join(".local/share"),
            &world.user.home().join(".local/share"),
        );
        world.run(&join(2)).ends(0).says("nothing to do");
    }
}

#[test]
#[cfg(feature = "crashpoints")]
fn a_member_that_is_away_holds_it() {
    let world = World::joined(2);
    let away = |is: bool| world.api("eks-2").faults().unreachable(is);
    away(true);
    assert_ne!(
        world.run(ROTATE).code,
        Some(0),
        "it is not begun without one"
    );
    away(false);
    assert!(!is_told(&world, "eks-1"));
    killed_at(&world, ROTATE, "switch-issuer/eks-1:written");
    away(true);
    let held = world.run(ROTATE).ends(6);
    held.says("eks-2 holds the change of root");
    assert_eq!(roots(&world, "eks-1"), (3, 3), "it waits in its phase");
    let back = world.run(ABORT).ends(6);
    back.says("eks-2 holds the change of root");
    assert_eq!(
        roots(&world, "eks-1"),
        (2, 2),
        "both are trusted until eks-2 is back"
    );
    away(false);
    while_all_trust_each_other(&world, || world.run(ROTATE)).ends(0);
    is_over(&world, "at the end");
}

/// Makes new pods get proxies that follow a change of root, or such that do not.
fn injects(world: &World, cluster: &str, follows: &str) {
    let place = istio("configmaps", "istio-sidecar-injector");
    let map = world.get(cluster, &place);
    let mut values: Value = serde_json::from_str(map["data"]["values"].as_str().unwrap()).unwrap();
    values["global"]["proxyMetadata"]["PROXY_CONFIG_XDS_AGENT"] = follows.into();
    world.merge(
        cluster,
        &place,
        &json!({"data": {"values": values.to_string()}}),
    );
}

#[test]
fn a_proxy_that_cannot_follow_is_refused_and_restarted_if_that_is_asked_for() {
    let world = World::joined(2);
    injects(&world, "eks-1", "");
    world.run("sample up").ends(0);
    injects(&world, "eks-1", "true");
    let before = world.inventory("eks-1");
    let refused = world.run(ROTATE).ends(5);
    let refused = refused.says("take a changed root only with their next certificate");
    refused
        .says("sample/helloworld")
        .says("rotate root --restart-workloads");
    assert_eq!(world.inventory("eks-1"), before, "nothing was written");
    let done = world.run(&format!("{ROTATE} --restart-workloads"));
    done.ends(0).says("restarted: Deployment sample/");
    is_over(&world, "at the end");
}

#[test]
fn an_istiod_that_takes_one_root_only_is_refused() {
    let world = World::joined(2);
    let place = istio("deployments", "istiod");
    let env = json!([{"name": "ISTIO_MULTIROOT_MESH", "value": "false"}]);
    let mut deployment = world.get("eks-2", &place);
    let all = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        .as_array_mut()
        .unwrap();
    all.retain(|e| e["name"] != "ISTIO_MULTIROOT_MESH");
    all.extend(env.as_array().unwrap().iter().cloned());
    world.replace("eks-2", &place, &deployment).unwrap();
    world.restart_istiod("eks-2");
    let refused = world.run(ROTATE).ends(5);
    refused
        .says("takes no second root while it runs")
        .says("meshlink join eks-1 eks-2");
    assert!(!is_told(&world, "eks-1"));
}

#[test]
fn a_root_of_somebody_else_is_taken_up_if_it_fits() {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
    let world = World::joined(2);
    let root = |path: u8| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "root of the house");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key).unwrap();
        (cert.pem(), key.serialize_pem())
    };
    let file = |name: &str, text: &str| fs::write(world.user.here().join(name), text).unwrap();
    let to = |name: &str| world.run(&format!("{ROTATE} --to {name}"));
    let (cert, key) = root(0);
    file("small", &format!("{cert}{key}"));
    to("small").ends(5).says("allows no intermediate below it");
    file("half", &cert);
    to("half").ends(2).says("beside its certificate");
    to("none").ends(2).says("cannot read none");
    let (cert, key) = root(1);
    file("good", &format!("{key}{cert}"));
    let before = is_over(&world, "before");
    let done = to("good").ends(0);
    assert!(!done.to_string().contains("PRIVATE"), "a key is shown");
    assert_ne!(is_over(&world, "after"), before);
    let held = world.keys();
    let taken = held
        .iter()
        .any(|(path, pem)| path.starts_with("roots/2/cert") && *pem == cert.as_bytes());
    assert!(taken, "{:?}", held.keys());
    to("good").ends(0).says("is the root of the mesh already");
}
