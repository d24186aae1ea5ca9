//! Laws of apply, held against configurations nobody thought of.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::kind::Kinds;

/// What one manager wants of a Deployment: labels, and containers with an image and an environment.
#[derive(Debug, Clone)]
struct Wish {
    labels: BTreeMap<String, u8>,
    containers: BTreeMap<String, (u8, BTreeMap<String, u8>)>,
}

fn few() -> impl Strategy<Value = BTreeMap<String, u8>> {
    proptest::collection::btree_map("[a-c]", 0..3_u8, 0..3)
}

fn wish() -> impl Strategy<Value = Wish> {
    let containers = proptest::collection::btree_map("[x-z]", (0..3_u8, few()), 0..3);
    (few(), containers).prop_map(|(labels, containers)| Wish { labels, containers })
}

impl Wish {
    fn config(&self) -> Value {
        let labels: BTreeMap<_, _> = self
            .labels
            .iter()
            .map(|(k, v)| (k, v.to_string()))
            .collect();
        let containers: Vec<_> = self
            .containers
            .iter()
            .map(|(name, (image, env))| {
                let env: Vec<_> = env
                    .iter()
                    .map(|(k, v)| json!({"name": k, "value": v.to_string()}))
                    .collect();
                let mut container = json!({"name": name, "image": format!("i:{image}")});
                if !env.is_empty() {
                    container["env"] = json!(env);
                }
                container
            })
            .collect();
        let mut config =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}});
        if !labels.is_empty() {
            config["metadata"]["labels"] = json!(labels);
        }
        if !containers.is_empty() {
            config["spec"]["template"]["spec"]["containers"] = json!(containers);
        }
        config
    }
}

fn deployment() -> std::sync::Arc<Kind> {
    Kinds::new().by_resource("deployments.apps").unwrap()
}

fn at(manager: &str, minute: u8) -> Writer<'_> {
    Writer {
        manager,
        subresource: "",
        time: format!("2026-01-01T00:{minute:02}:00Z"),
    }
}

fn forced(live: &Value, wish: &Wish, manager: &str, minute: u8) -> Value {
    apply(
        &deployment(),
        live,
        &wish.config(),
        &at(manager, minute),
        true,
    )
    .unwrap()
}

/// An object without the record of its managers, and without empty remains.
fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .shift_remove("managedFields");
    object
}

/// Whether everything in `part` is in `whole`.
fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(name, part)| whole.get(name).is_some_and(|whole| holds(whole, part))),
        (Value::Array(whole), Value::Array(part)) => part.iter().all(|part| {
            whole
                .iter()
                .any(|whole| whole["name"] == part["name"] && holds(whole, part))
        }),
        _ => whole == part,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn applying_twice_is_applying_once(one in wish(), two in wish()) {
        let first = forced(&Value::Null, &one, "one", 1);
        let second = forced(&first, &two, "two", 2);
        prop_assert_eq!(&forced(&second, &two, "two", 3), &second);
        prop_assert!(holds(&second, &two.config()));
    }

    #[test]
    fn one_manager_alone_gets_exactly_what_it_wants(one in wish(), then in wish()) {
        let first = forced(&Value::Null, &one, "one", 1);
        prop_assert!(holds(&first, &one.config()));
        let second = forced(&first, &then, "one", 2);
        let fresh = forced(&Value::Null, &then, "one", 2);
        prop_assert!(holds(&bare(&second), &bare(&fresh)), "{second} lacks some of {fresh}");
        prop_assert!(holds(&bare(&fresh), &bare(&second)), "{second} has more than {fresh}");
    }

    #[test]
    fn one_that_leaves_takes_only_what_was_its_own(one in wish(), two in wish()) {
        let first = forced(&Value::Null, &one, "one", 1);
        let both = forced(&first, &two, "two", 2);
        let nothing = Wish { labels: BTreeMap::new(), containers: BTreeMap::new() };
        let left = forced(&both, &nothing, "one", 3);
        prop_assert!(holds(&left, &two.config()), "{left} lacks some of {}", two.config());
        let alone = forced(&Value::Null, &two, "two", 2);
        prop_assert!(holds(&bare(&alone), &bare(&left)), "{left} has more than {alone}");
    }

    #[test]
    fn a_conflict_is_a_field_both_want_differently(one in wish(), two in wish()) {
        let first = forced(&Value::Null, &one, "one", 1);
        let tried = apply(&deployment(), &first, &two.config(), &at("two", 2), false);
        let env = |wish: &Wish, name: &str| wish.containers.get(name).cloned().unwrap_or_default();
        let differs = |a: &BTreeMap<String, u8>, b: &BTreeMap<String, u8>| {
            a.iter().any(|(key, value)| b.get(key).is_some_and(|other| other != value))
        };
        let images = one.containers.keys().filter(|n| two.containers.contains_key(*n)).any(|name| {
            let (a, b) = (env(&one, name), env(&two, name));
            a.0 != b.0 || differs(&a.1, &b.1)
        });
        prop_assert_eq!(tried.is_err(), images || differs(&one.labels, &two.labels), "{:?}", tried);
        if let Err(failure) = tried {
            prop_assert_eq!(failure.code, 409);
        }
    }
}

#[test]
fn an_item_without_its_key_and_an_item_twice_are_refused() {
    let config = |env: Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"template": {"spec": {"containers": [{"name": "c", "env": env}]}}}})
    };
    for (env, words) in [
        (
            json!([{"name": "A"}, {"name": "A"}]),
            ".spec.template.spec.containers[name=\"c\"].env: duplicate entries for key [name=\"A\"]",
        ),
        (
            json!([{"value": "A"}]),
            "associative list with keys has an element that omits key field \"name\"",
        ),
    ] {
        let failed = apply(
            &deployment(),
            &Value::Null,
            &config(env),
            &at("one", 1),
            false,
        )
        .unwrap_err();
        assert_eq!(failed.code, 500);
        assert!(failed.message.contains(words), "{}", failed.message);
    }
}

#[test]
fn an_update_takes_fields_over_from_who_applied_them() {
    let kind = Kinds::new().by_resource("services").unwrap();
    let config = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}});
    let live = apply(&kind, &Value::Null, &config, &at("helm", 1), false).unwrap();
    let mut new = live.clone();
    new["spec"]["type"] = "ClusterIP".into();
    track(&kind, &live, &mut new, &at("kubectl-edit", 2));
    let failed = apply(&kind, &new, &config, &at("helm", 3), false).unwrap_err();
    assert_eq!(
        failed.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using v1: .spec.type"
    );
    let won = apply(&kind, &new, &config, &at("helm", 3), true).unwrap();
    assert_eq!(won["spec"]["type"], "LoadBalancer");
    assert_eq!(
        won["metadata"]["managedFields"].as_array().unwrap().len(),
        1
    );
}
