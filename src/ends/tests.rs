//! Every kind of row, over every border.

use std::collections::BTreeMap;

use super::*;
use crate::{
    ends::metrics,
    observe::{CacertsSeen, Made, TokenSeen, VaultSeen},
    pki::{NewIntermediate, NewRoot, Profile, Root},
    spec::KeyType,
};

const DAY: i64 = 24 * 3600;

fn start() -> Timestamp {
    "2026-11-30T12:00:00Z".parse().unwrap()
}

fn day(days: i64) -> Timestamp {
    after(days * DAY)
}

fn after(seconds: i64) -> Timestamp {
    Timestamp::from_second(start().as_second() + seconds).unwrap()
}

fn lifetime(days: u64) -> std::time::Duration {
    std::time::Duration::from_secs(days * 24 * 3600)
}

fn member(name: &str) -> ClusterName {
    name.parse().unwrap()
}

/// Two members: one with certificates, and a remote secret for the other.
fn observed() -> Observed {
    let mesh = "shop".parse().unwrap();
    let root = Root::create(&NewRoot {
        mesh: &mesh,
        key: KeyType::P256,
        lifetime: lifetime(3650),
        embedded: false,
        profile: &Profile::root().unwrap(),
        now: start(),
    })
    .unwrap();
    let signer = root
        .issue(&NewIntermediate {
            mesh: &mesh,
            cluster: &member("a"),
            namespace: "istio-system",
            names: &[],
            key: KeyType::P256,
            lifetime: lifetime(365),
            is_exact: true,
            trust_domain: "cluster.local",
            profile: &Profile::intermediate().unwrap(),
            now: start(),
        })
        .unwrap();
    let cacerts = CacertsSeen {
        bundle: vec![root.facts().clone()],
        signer: Some(signer.facts().clone()),
        ours: true,
        ..CacertsSeen::default()
    };
    let secret = RemoteSecretSeen {
        token: Some("t".into()),
        // An API server's authority, as far as its dates go.
        authorities: vec![AuthoritySeen {
            sha256: root.facts().sha256.clone(),
            certificate: Some(root.facts().clone()),
        }],
        ..RemoteSecretSeen::default()
    };
    let reader = ReaderSeen {
        tokens: vec![TokenSeen {
            number: 1,
            secret: Made {
                name: "x".into(),
                uid: "1".into(),
            },
            made: Some(start()),
            until: Some(day(90)),
            token: Some("t".into()),
        }],
        ..ReaderSeen::default()
    };
    let a = Seen {
        cacerts: Some(cacerts),
        remote_secrets: [("b".to_owned(), secret)].into(),
        ..Seen::default()
    };
    let b = Seen {
        readers: [("a".to_owned(), reader)].into(),
        ..Seen::default()
    };
    Observed {
        clusters: [(member("a"), a), (member("b"), b)].into(),
        now: start(),
        ..Observed::default()
    }
}

fn states(observed: &Observed, signing: &Signing) -> BTreeMap<String, State> {
    let ends = Ends::of(observed, signing);
    ends.rows.iter().map(|row| (kind(row), row.state)).collect()
}

/// The name of a row without the fingerprint of a root.
fn kind(row: &Row) -> String {
    match row.what {
        What::Root | What::ThrowAwayRoot => row.what.as_str().to_owned(),
        _ => row.id.clone(),
    }
}

#[test]
fn every_kind_of_row_crosses_every_border() {
    let hour = 3600;
    let (root, intermediate) = (3651 * DAY, 365 * DAY + hour);
    let mut of_token = observed();
    let secret = of_token.clusters.get_mut(&member("a")).unwrap();
    let secret = secret.remote_secrets.get_mut("b").unwrap();
    (secret.issued, secret.expires) = (Some(start()), Some(day(1)));
    let none = Signing::new();
    let signing: Signing = [(member("a"), [("istiod-0".to_owned(), day(300))].into())].into();
    // The row, what it is seen in, what istiods say, the whole life, and until when it lasts.
    for (id, seen, signing, whole, until) in [
        ("root", observed(), &none, root, 3650 * DAY),
        ("api-ca/a/b", observed(), &none, root, 3650 * DAY),
        ("intermediate/a", observed(), &none, intermediate, 365 * DAY),
        ("token/a/b", of_token, &none, DAY, DAY),
        (
            "signing/a/istiod-0",
            observed(),
            &signing,
            365 * DAY,
            300 * DAY,
        ),
    ] {
        let state = |left: i64| {
            let now = after(until - left);
            states(
                &Observed {
                    now,
                    ..seen.clone()
                },
                signing,
            )[id]
        };
        let least = match id.starts_with("signing") {
            // What istiod has not loaded is somebody's business from the first day on.
            true => State::Warning,
            false => State::Fine,
        };
        for (left, before, from) in [
            (whole / 3, State::Fine, State::Due),
            ((whole / 6).min(30 * DAY), State::Due, State::Warning),
            ((whole / 24).min(7 * DAY), State::Warning, State::Failing),
            (0, State::Failing, State::Ended),
        ] {
            assert_eq!(
                state(left + 1),
                before.max(least),
                "{id}: {left} and a second"
            );
            assert_eq!(state(left), from.max(least), "{id}: {left}");
        }
    }
}

#[test]
fn a_token_that_never_ends_by_itself_grows_old_and_no_worse() {
    let state = |days| {
        states(
            &Observed {
                now: day(days),
                ..observed()
            },
            &Signing::new(),
        )["token/a/b"]
    };
    assert_eq!(state(59), State::Fine);
    assert_eq!(state(89), State::Fine);
    assert_eq!(state(90), State::Warning);
    assert_eq!(state(1000), State::Warning);
    let old = Observed {
        now: day(100),
        ..observed()
    };
    let ends = Ends::of(&old, &Signing::new());
    let row = ends.rows.iter().find(|row| row.id == "token/a/b").unwrap();
    assert!(row.sentence().contains("is old"), "{}", row.sentence());
}

#[test]
fn a_throw_away_root_is_told_of_as_long_as_it_is_there() {
    let mut observed = observed();
    let mesh = "shop".parse().unwrap();
    let spare = pki::throw_away(&mesh, false, start()).unwrap();
    let cacerts = observed.clusters.get_mut(&member("a")).unwrap();
    let cacerts = cacerts.cacerts.as_mut().unwrap();
    cacerts.bundle.push(spare.facts().clone());
    for days in [0, 20, 29, 31, 400] {
        observed.now = day(days);
        let states = states(&observed, &Signing::new());
        assert_eq!(states["throw-away-root"], State::Warning, "{days}");
    }
}

#[test]
fn what_istiod_signs_with_is_no_row_as_long_as_it_is_what_cacerts_holds() {
    let observed = observed();
    let cacerts = observed.clusters[&member("a")].cacerts.as_ref().unwrap();
    let end = cacerts.signer.as_ref().unwrap().not_after;
    let signing: Signing = [(member("a"), [("istiod-0".to_owned(), end)].into())].into();
    let states = states(&observed, &signing);
    assert!(
        !states.keys().any(|id| id.starts_with("signing")),
        "{states:?}"
    );
}

#[test]
fn an_intermediate_that_ends_with_its_root_waits_for_the_root() {
    let mut observed = observed();
    let cacerts = observed.clusters.get_mut(&member("a")).unwrap();
    let cacerts = cacerts.cacerts.as_mut().unwrap();
    let end = cacerts.bundle[0].not_after;
    cacerts.signer.as_mut().unwrap().not_after = end;
    let ends = Ends::of(&observed, &Signing::new());
    let row = ends.rows.iter().find(|row| row.what == What::Intermediate);
    assert_eq!(row.unwrap().renewal, "meshlink rotate root");
}

#[test]
fn before_there_is_a_mesh_there_is_the_root_of_the_vault() {
    let of_mesh = observed();
    let root = of_mesh.clusters[&member("a")]
        .cacerts
        .as_ref()
        .unwrap()
        .bundle[0]
        .clone();
    let vault = VaultSeen {
        certificate: Some(root),
        ..VaultSeen::default()
    };
    let alone = Observed {
        vault,
        now: start(),
        ..Observed::default()
    };
    let ends = Ends::of(&alone, &Signing::new());
    assert_eq!(ends.rows.len(), 1);
    assert!(ends.rows[0].members.is_empty() && ends.is_well());
}

#[test]
fn labels_are_escaped() {
    let mut ends = Ends::of(&observed(), &Signing::new());
    ends.rows.truncate(1);
    ends.rows[0].members = vec!["a\"b\\c\nd".into()];
    let text = metrics::render(&ends, "shop");
    assert!(text.contains(r#"member="a\"b\\c\nd""#), "{text}");
}
