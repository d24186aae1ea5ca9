//! Whole certificates: what stands in them, and what others make of them.

mod checks;
mod golden;
mod judges;
pub(super) mod kit;

use std::time::Duration;

use super::*;
use crate::spec::KeyType;
use kit::{DAY, NOW, later, new_intermediate, new_root, root};

#[test]
fn a_root_says_whose_it_is_and_signs_intermediates_only() {
    let root = root();
    let facts = root.facts();
    assert!(
        facts.subject.starts_with("O=shop, CN=root "),
        "{}",
        facts.subject
    );
    assert_eq!(facts.subject, facts.issuer);
    assert!(facts.is_ca && !facts.embedded);
    assert_eq!(facts.path_length, Some(1));
    assert_eq!(
        facts.key_usage.as_deref().unwrap(),
        ["keyCertSign", "cRLSign"]
    );
    assert_eq!(facts.extended_key_usage, None);
    assert_eq!(facts.name_constraints, None);
    assert_eq!(facts.not_before, later(-1));
    assert_eq!(facts.not_after, later(3650));
    assert!(facts.subject_key_id.is_some());
}

#[test]
fn an_intermediate_belongs_to_one_cluster_and_one_root() {
    let root = root();
    let made = root
        .issue(&new_intermediate("east", KeyType::P256))
        .unwrap();
    let facts = made.facts();
    assert!(
        facts.subject.starts_with("O=shop, CN=east "),
        "{}",
        facts.subject
    );
    assert_eq!(facts.issuer, root.facts().subject);
    assert_eq!(facts.authority_key_id, root.facts().subject_key_id);
    assert_eq!(facts.path_length, Some(0));
    assert_eq!(facts.not_before.as_second(), NOW.as_second() - 3600);
    let names = facts.name_constraints.as_ref().unwrap();
    assert!(names.critical && names.excluded.is_empty());
    assert_eq!(names.permitted, ["DNS:istio-system.svc"]);
    assert!(made.cert().signed_by(root.cert()));

    let cacerts = made.cacerts().unwrap();
    assert_eq!(
        cacerts.cert_chain, cacerts.ca_cert,
        "the chain ends below the root"
    );
    assert_eq!(
        Cert::from_pem(cacerts.root_cert.as_bytes()).unwrap(),
        [root.cert().clone()]
    );
    assert_eq!(
        format!("{cacerts:?} {:?}", made.key()),
        "Cacerts(..) Key(..)"
    );
}

#[test]
fn an_intermediate_never_outlives_its_root_nor_was_there_before_it() {
    let short = Duration::from_secs(90 * DAY);
    let root = Root::create(&NewRoot {
        lifetime: short,
        ..new_root(KeyType::P256)
    })
    .unwrap();
    let made = root
        .issue(&new_intermediate("east", KeyType::P256))
        .unwrap();
    assert_eq!(made.facts().not_after, root.facts().not_after);

    let young = NewIntermediate {
        now: root.facts().not_before,
        ..new_intermediate("east", KeyType::P256)
    };
    assert_eq!(
        root.issue(&young).unwrap().facts().not_before,
        root.facts().not_before
    );
    for now in [later(90), later(-2)] {
        let late = NewIntermediate {
            now,
            ..new_intermediate("east", KeyType::P256)
        };
        assert!(matches!(root.issue(&late), Err(Error::RootNotValid { .. })));
    }
}

#[test]
fn serial_numbers_are_long_positive_and_never_the_same() {
    let serials: std::collections::BTreeSet<_> =
        (0..50).map(|_| root().facts().serial.clone()).collect();
    assert_eq!(serials.len(), 50);
    for serial in serials {
        assert_eq!(serial.len(), 32, "{serial}: 16 bytes, none of them padding");
        assert!(serial.as_bytes()[0] < b'8', "{serial} is negative");
    }
}

#[test]
fn what_belongs_to_embedded_clusters_says_so_all_the_way_down() {
    let root = Root::create(&NewRoot {
        embedded: true,
        ..new_root(KeyType::P256)
    })
    .unwrap();
    let made = root
        .issue(&new_intermediate("east", KeyType::P256))
        .unwrap();
    assert!(root.facts().embedded && made.facts().embedded);
    assert!(
        root.facts().subject.contains("OU=embedded"),
        "{}",
        root.facts().subject
    );
}

#[test]
fn nonsense_is_refused_before_it_is_signed() {
    let root = root();
    for name in [
        "",
        "*.example.com",
        "münchen.example",
        "a..b",
        &"a".repeat(64),
    ] {
        let names = [name.to_owned()];
        let new = NewIntermediate {
            names: &names,
            ..new_intermediate("east", KeyType::P256)
        };
        assert!(
            matches!(root.issue(&new), Err(Error::Name { .. })),
            "{name}"
        );
    }
    let endless = NewRoot {
        lifetime: Duration::MAX,
        ..new_root(KeyType::P256)
    };
    assert!(matches!(
        Root::create(&endless),
        Err(Error::Lifetime { .. })
    ));
}

#[test]
fn the_longest_names_still_fit_the_fields_of_x509() {
    let mesh = "m".repeat(63).parse().unwrap();
    let cluster = "c".repeat(63).parse().unwrap();
    let root = Root::create(&NewRoot {
        mesh: &mesh,
        ..new_root(KeyType::P256)
    })
    .unwrap();
    let new = NewIntermediate {
        mesh: &mesh,
        cluster: &cluster,
        ..new_intermediate("x", KeyType::P256)
    };
    let made = root.issue(&new).unwrap();
    assert_eq!(made.facts().subject, format!("O={mesh}, CN={cluster}"));
}
