//! Every mixture of phases, and the steps that come next.

use super::*;
use crate::{
    cluster::{Kind, Ref},
    observe::{CacertsSeen, Claim, Proxy, Replica, TrustSeen, Unreachable, VaultSeen},
    versions::Versions,
};

const NAMES: [&str; 3] = ["a", "b", "c"];

fn key(root: &str) -> String {
    root.repeat(64)
}

fn change() -> Succession {
    Succession {
        mesh: "mesh".into(),
        from: key("1"),
        to: key("2"),
        spare: key("3"),
    }
}

/// A member at a stage of a change that was begun; without one, as a join leaves it.
fn member(name: &str, stage: Option<Stage>) -> Seen {
    let roots: &[&str] = match stage {
        None | Some(Stage::Old) => &["1"],
        Some(Stage::Both) => &["1", "2"],
        Some(Stage::Signing) => &["1", "2", "3"],
        Some(Stage::New) => &["2"],
    };
    let under = match stage {
        Some(Stage::Signing | Stage::New) => "2",
        _ => "1",
    };
    let replica = Replica {
        pod: "istiod-1".into(),
        multiroot: true,
        ends: None,
    };
    Seen {
        uid: format!("uid-{name}"),
        embedded: true,
        claim: Some(Claim {
            mesh: "mesh".into(),
            root: key("1"),
        }),
        succession: stage.map(|_| change()),
        cacerts: Some(CacertsSeen {
            roots: roots.iter().map(|root| key(root)).collect(),
            under: Some(key(under)),
            ours: true,
            ..CacertsSeen::default()
        }),
        trust: Some(TrustSeen {
            replicas: vec![replica],
            ..TrustSeen::default()
        }),
        ..Seen::default()
    }
}

fn mesh(members: usize) -> Mesh {
    let names: Vec<String> = NAMES[..members].iter().map(|n| (*n).to_owned()).collect();
    Mesh::named(&names).unwrap()
}

/// What is seen where members are at these stages; one without a stage cannot be read.
fn observed(stages: &[Option<Stage>]) -> Observed {
    let mut seen = Observed {
        vault: VaultSeen {
            root: Some(key("1")),
            roots: vec![key("1"), key("2")],
            next: Some(key("2")),
            ..VaultSeen::default()
        },
        ..Observed::default()
    };
    for (name, stage) in NAMES.iter().zip(stages) {
        let cluster: ClusterName = name.parse().unwrap();
        match stage {
            Some(_) => drop(seen.clusters.insert(cluster, member(name, *stage))),
            None => {
                let away = Unreachable::without_a_way(&cluster, vec!["away".into()], vec![]);
                seen.unreachable.insert(cluster, away);
            }
        }
    }
    seen
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn plan(stages: &[Option<Stage>], how: &Rotate) -> Result<Plan, Vec<Refusal>> {
    rotate(&mesh(stages.len()), &observed(stages), how, now())
}

/// The ids of a plan's steps, without those of the proof.
fn ids(plan: &Plan) -> Vec<String> {
    let ids = plan.steps.iter().map(|p| p.step.to_string());
    ids.filter(|id| {
        !["probe", "prove", "record"]
            .iter()
            .any(|part| id.contains(part))
    })
    .collect()
}

fn back() -> Rotate {
    Rotate {
        abort: true,
        ..Rotate::default()
    }
}

const OLD: Option<Stage> = Some(Stage::Old);
const BOTH: Option<Stage> = Some(Stage::Both);
const SIGNING: Option<Stage> = Some(Stage::Signing);
const NEW: Option<Stage> = Some(Stage::New);
const AWAY: Option<Stage> = None;

#[test]
fn every_mixture_goes_on_where_it_is() {
    let all = [
        "distribute-root",
        "switch-issuer",
        "retire-root",
        "rebind-root",
        "close-rotation",
    ];
    let whole = |from: usize| -> Vec<String> {
        let verbs = &all[from..];
        verbs
            .iter()
            .flat_map(|v| ["a", "b"].map(|n| format!("{v}/{n}")))
            .collect()
    };
    for (stages, want) in [
        ([OLD, OLD], whole(0)),
        ([BOTH, OLD], whole(0)),
        ([BOTH, BOTH], whole(0)),
        ([SIGNING, SIGNING], whole(1)),
        ([NEW, NEW], whole(2)),
    ] {
        assert_eq!(
            ids(&plan(&stages, &Rotate::default()).unwrap()),
            want,
            "{stages:?}"
        );
    }
    // One that has ended a phase is not taken through it again, and begins the next one with the others.
    let mixed = ids(&plan(&[SIGNING, BOTH], &Rotate::default()).unwrap());
    assert_eq!(
        mixed[..3],
        ["distribute-root/b", "switch-issuer/a", "switch-issuer/b"]
    );
    let mixed = ids(&plan(&[SIGNING, NEW], &Rotate::default()).unwrap());
    assert_eq!(
        mixed[..3],
        ["switch-issuer/a", "retire-root/a", "retire-root/b"]
    );
}

#[test]
fn no_member_begins_a_phase_before_all_have_ended_the_one_before() {
    let order: [fn(ClusterName) -> Step; 5] = [
        Step::DistributeRoot,
        Step::SwitchIssuer,
        Step::RetireRoot,
        Step::RebindRoot,
        Step::CloseRotation,
    ];
    let stages = [OLD, BOTH, SIGNING, NEW];
    for turn in 0..stages.len().pow(3) {
        let [first, second, third] = [turn % 4, turn / 4 % 4, turn / 16].map(|at| stages[at]);
        let plan = plan(&[first, second, third], &Rotate::default()).unwrap();
        for pair in order.windows(2) {
            let names = NAMES.map(|n| n.parse::<ClusterName>().unwrap());
            let before: Vec<_> = names.iter().map(|n| pair[0](n.clone())).collect();
            let before: Vec<_> = before.into_iter().filter(|s| plan.holds(s)).collect();
            for name in &names {
                let step = pair[1](name.clone());
                let planned = plan.steps.iter().find(|p| p.step == step);
                let waits = planned.is_none_or(|p| before.iter().all(|b| p.needs.contains(b)));
                assert!(waits, "{step} of {first:?} {second:?} {third:?}");
            }
        }
    }
}

#[test]
fn a_new_change_tells_everybody_before_anything_trusts_the_new_root() {
    let mut seen = observed(&[OLD, OLD]);
    for member in seen.clusters.values_mut() {
        member.succession = None;
    }
    let plan = |seen: &Observed, how: &Rotate| rotate(&mesh(2), seen, how, now()).unwrap();
    let first = ids(&plan(&seen, &Rotate::default()));
    assert_eq!(
        first[..4],
        [
            "announce-root/a",
            "announce-root/b",
            "distribute-root/a",
            "distribute-root/b"
        ]
    );
    let fresh = Rotate {
        fresh: true,
        ..Rotate::default()
    };
    assert_eq!(ids(&plan(&seen, &fresh))[0], "create-next-root");
    seen.vault.next = None;
    assert_eq!(ids(&plan(&seen, &Rotate::default()))[0], "create-next-root");

    // One of them was told before the run died.
    let told = ids(&plan(&observed(&[OLD, OLD]), &Rotate::default()));
    assert!(
        !told.iter().any(|id| id.starts_with("announce")),
        "{told:?}"
    );
}

#[test]
fn what_is_over_is_over() {
    let mut seen = observed(&[NEW, NEW]);
    let first: ClusterName = "a".parse().unwrap();
    for (name, member) in &mut seen.clusters {
        member.claim.as_mut().unwrap().root = key("2");
        member.rotated = Some(now());
        if *name == first {
            member.succession = None;
        }
    }
    let ids_of = |seen: &Observed, how: &Rotate| ids(&rotate(&mesh(2), seen, how, now()).unwrap());
    let rest = ids_of(&seen, &Rotate::default());
    assert_eq!(rest, ["retire-root/a", "retire-root/b", "close-rotation/b"]);
    // Run once more, the command does not begin another change; asked for another, it does.
    for member in seen.clusters.values_mut() {
        member.succession = None;
    }
    seen.vault.root = Some(key("2"));
    seen.vault.next = None;
    assert!(ids_of(&seen, &Rotate::default()).is_empty());
    let fresh = Rotate {
        fresh: true,
        ..Rotate::default()
    };
    assert_eq!(ids_of(&seen, &fresh)[0], "create-next-root");
    assert!(ids_of(&seen, &back()).is_empty());
}

#[test]
fn the_way_back_is_open_until_one_has_let_go_of_the_old_root() {
    let ids_of = |stages: &[Option<Stage>]| plan(stages, &back()).map(|plan| ids(&plan));
    let withdrawn = [
        "withdraw-root/a",
        "withdraw-root/b",
        "close-rotation/a",
        "close-rotation/b",
    ];
    let restored = ["restore-issuer/a", "restore-issuer/b"];
    for stages in [[OLD, OLD], [BOTH, OLD], [BOTH, BOTH]] {
        assert_eq!(ids_of(&stages).unwrap(), withdrawn, "{stages:?}");
    }
    for stages in [[SIGNING, BOTH], [SIGNING, SIGNING]] {
        assert_eq!(
            ids_of(&stages).unwrap(),
            [&restored[..], &withdrawn].concat(),
            "{stages:?}"
        );
    }
    for stages in [[NEW, SIGNING], [NEW, NEW]] {
        let refusals = ids_of(&stages).unwrap_err();
        let text = refusals[0].to_string();
        assert!(text.contains("no way back"), "{text}");
    }
}

#[test]
fn a_member_that_is_away_holds_the_phase() {
    let ids_of = |stages: &[Option<Stage>], how: &Rotate| {
        let plan = plan(stages, how).unwrap();
        assert!(
            plan.notes[0].text.contains("c holds the change of root"),
            "{:?}",
            plan.notes
        );
        ids(&plan)
    };
    let go = Rotate::default();
    // What it may be at is no further than the furthest of the others, and one phase behind at least.
    assert!(ids_of(&[OLD, OLD, AWAY], &go).is_empty());
    assert_eq!(
        ids_of(&[BOTH, OLD, AWAY], &go),
        ["distribute-root/a", "distribute-root/b"]
    );
    assert_eq!(
        ids_of(&[SIGNING, BOTH, AWAY], &go),
        ["distribute-root/b", "switch-issuer/a", "switch-issuer/b"]
    );
    assert_eq!(
        ids_of(&[NEW, NEW, AWAY], &go),
        ["retire-root/a", "retire-root/b"]
    );
    // Going back, it may still show certificates of the new root: nobody lets go of that.
    assert_eq!(
        ids_of(&[BOTH, BOTH, AWAY], &back()),
        ["restore-issuer/a", "restore-issuer/b"]
    );
}

/// The reasons against a change, where something of what is seen is otherwise.
fn against(how: &Rotate, stages: &[Option<Stage>], change: impl FnOnce(&mut Observed)) -> String {
    let mut seen = observed(stages);
    change(&mut seen);
    let refusals = rotate(&mesh(stages.len()), &seen, how, now()).unwrap_err();
    refusals.iter().map(ToString::to_string).collect()
}

fn first(seen: &mut Observed) -> &mut Seen {
    seen.clusters.values_mut().next().unwrap()
}

#[test]
fn without_the_keys_nothing_is_begun() {
    let go = Rotate::default();
    let lost = |root: &str| {
        let lost = key(root);
        move |seen: &mut Observed| seen.vault.roots.retain(|held| *held != lost)
    };
    let text = against(&go, &[BOTH, BOTH], lost("2"));
    assert!(
        text.contains("somebody has begun to change the root to 222222222222"),
        "{text}"
    );
    assert!(against(&go, &[OLD, OLD], lost("1")).contains("does not hold 111111111111"));
    // Who has the old key alone can go back.
    let mut seen = observed(&[SIGNING, BOTH]);
    lost("2")(&mut seen);
    assert!(rotate(&mesh(2), &seen, &back(), now()).is_ok());
}

#[test]
fn what_cannot_follow_is_refused_before_anything_is_written() {
    let none = |seen: &mut Observed| {
        for member in seen.clusters.values_mut() {
            member.succession = None;
        }
    };
    let slow = Proxy {
        pod: Ref::namespaced(&Kind::POD, "shop", "cart-1"),
        uid: "1".into(),
        owner: Some(Ref::namespaced(&Kind::REPLICA_SET, "shop", "cart")),
        is_gateway: false,
        started: None,
        follows: false,
        place: crate::observe::PlaceSeen::default(),
        held: Err("not asked".into()),
    };
    let with = |proxy: &Proxy| {
        let proxy = proxy.clone();
        move |seen: &mut Observed| {
            none(seen);
            first(seen).trust.as_mut().unwrap().proxies.push(proxy);
        }
    };
    let go = Rotate::default();
    let text = against(&go, &[OLD, OLD], with(&slow));
    assert!(
        text.starts_with("cluster a: ") && text.ends_with("shop/cart-1"),
        "{text}"
    );
    let restart = Rotate {
        restart_workloads: true,
        ..Rotate::default()
    };
    let mut seen = observed(&[OLD, OLD]);
    with(&slow)(&mut seen);
    let restarted = ids(&rotate(&mesh(2), &seen, &restart, now()).unwrap());
    assert_eq!(
        restarted[2..4],
        ["restart-workloads/a", "distribute-root/a"]
    );
    let alone = Proxy {
        owner: None,
        ..slow.clone()
    };
    let text = against(&restart, &[OLD, OLD], with(&alone));
    assert!(
        text.contains("which no rollout makes anew: shop/cart-1"),
        "{text}"
    );

    let deaf = |seen: &mut Observed| {
        none(seen);
        first(seen).trust.as_mut().unwrap().replicas[0].multiroot = false;
    };
    assert!(against(&go, &[OLD, OLD], deaf).contains("takes no second root while it runs"));
}

#[test]
fn what_no_rotation_has_written_is_not_gone_on_from() {
    let go = Rotate::default();
    let odd = |seen: &mut Observed| first(seen).cacerts.as_mut().unwrap().roots.push(key("e"));
    assert!(against(&go, &[BOTH, BOTH], odd).contains("neither a join nor a change of root"));
    let theirs = |seen: &mut Observed| first(seen).cacerts.as_mut().unwrap().ours = false;
    assert!(against(&go, &[OLD, OLD], theirs).contains("meshlink did not make"));
    let other = |seen: &mut Observed| first(seen).succession.as_mut().unwrap().to = key("f");
    assert!(against(&go, &[BOTH, BOTH], other).contains("says that root"));
    let fresh = Rotate {
        fresh: true,
        ..Rotate::default()
    };
    assert!(against(&fresh, &[BOTH, BOTH], |_| ()).contains("already, and not to another"));
}

#[test]
fn members_neither_come_nor_go_meanwhile() {
    let refusal = under_way(&observed(&[BOTH, BOTH])).unwrap();
    let hints: Vec<_> = refusal.hints.iter().map(ToString::to_string).collect();
    assert!(hints[0].starts_with("meshlink rotate root") && hints[1].contains("--abort"));
    let mut seen = observed(&[OLD, OLD]);
    for member in seen.clusters.values_mut() {
        member.succession = None;
    }
    assert!(under_way(&seen).is_none());
}

#[test]
fn a_version_that_loses_requests_by_it_is_not_begun_with_unless_that_is_accepted() {
    let known = |about: &str, effect: &str| {
        let table = format!(
            "newest = [\"1.31.4\"]\n[[fault]]\nranges = [[\"1.30.0\", \"1.31.0\"]]\nabout = \"{about}\"\n\
             effect = \"{effect}\"\ntext = \"x\"\nreferences = [\"istio#1\"]\n"
        );
        Versions::read(&table).unwrap()
    };
    let accepted = Rotate {
        accept_gap: true,
        ..Rotate::default()
    };
    let go = Rotate::default();
    for (about, effect, version, stages, how, refused) in [
        ("cacerts", "gap", "1.30.4", [OLD, OLD], &go, true),
        ("cacerts", "restart", "1.30.4", [OLD, OLD], &go, true),
        ("cacerts", "gap", "1.30.4", [OLD, OLD], &accepted, false),
        ("cacerts", "say", "1.30.4", [OLD, OLD], &go, false),
        ("cacerts", "gap", "1.31.4", [OLD, OLD], &go, false),
        ("remote-secrets", "gap", "1.30.4", [OLD, OLD], &go, false),
        // Staying midway gains nothing.
        ("cacerts", "gap", "1.30.4", [BOTH, BOTH], &go, false),
    ] {
        let (mut mesh, mut seen) = (mesh(2), observed(&stages));
        mesh.istio.known = known(about, effect);
        for (name, member) in &mut seen.clusters {
            member
                .istiod
                .versions
                .extend((name.as_str() == "a").then(|| version.parse().unwrap()));
            if stages[0] == OLD {
                member.succession = None;
            }
        }
        let planned = rotate(&mesh, &seen, how, now());
        let case = format!("{about} {effect} {version} {:?}", stages[0]);
        assert_eq!(planned.is_err(), refused, "{case}: {planned:?}");
        if let Err(refusals) = planned {
            let [refusal] = refusals.as_slice() else {
                panic!("{case}: {refusals:?}");
            };
            let hints: Vec<_> = refusal.hints.iter().map(ToString::to_string).collect();
            assert!(
                refusal
                    .to_string()
                    .starts_with("cluster a: requests may be lost"),
                "{case}: {refusal}"
            );
            assert!(
                hints.concat().contains("rotate root --accept-gap"),
                "{case}: {hints:?}"
            );
        }
    }
}
