//! What is shared, what is copied, and what is read late.

use proptest::prelude::*;

use super::{super::print, *};

#[test]
fn a_map_is_shared_and_a_deep_copy_is_not() {
    let map = Map::default();
    let alias = map.clone();
    let copy = Value::Map(map.clone())
        .deep_copy(&Budget::default())
        .unwrap();
    alias.insert("a", Value::Int(1));
    assert!(matches!(map.find("a"), Some(Value::Int(1))));
    assert!(matches!(copy, Value::Map(copy) if copy.len() == 0));
}

#[test]
fn deep_nesting_neither_overflows_nor_converts() {
    let mut value = Value::Nil;
    for n in 0..200_000 {
        value = if n % 2 == 0 {
            Value::list(vec![value])
        } else {
            Value::Map([("k", value)].into_iter().collect())
        };
    }
    let budget = Budget::default();
    assert!(value.to_json(&budget).is_err() && value.deep_copy(&budget).is_err());
    drop(value);
}

#[test]
fn a_map_that_holds_itself_is_refused() {
    let map = Map::default();
    map.insert("self", Value::Map(map.clone()));
    assert!(Value::Map(map.clone()).to_json(&Budget::default()).is_err());
    map.remove("self");
}

fn leaf() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        "[a-z]{0,3}".prop_map(serde_json::Value::from),
        (-9.0..9.0_f64).prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ]
}

fn documents() -> impl Strategy<Value = serde_json::Value> {
    let nested = leaf().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(serde_json::Value::from),
            prop::collection::vec(("[abc]", inner), 0..4)
                .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
        ]
    });
    prop::collection::vec(("[abc]", nested), 0..4)
        .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect()))
}

/// What a template may do to a map on a path of keys.
fn change(value: &Value, path: &[String], what: u8) {
    let Value::Map(map) = value else {
        return;
    };
    match (path, what) {
        ([], 0) => map.insert("b", Value::Bool(true)),
        ([], 1) => map.remove("a"),
        ([], 2) => assert_eq!(map.len(), map.pairs().len()),
        ([], _) => map.insert("c", value.deep_copy(&Budget::default()).unwrap()),
        ([key, rest @ ..], _) => {
            if let Some(inner) = map.find(key) {
                change(&inner, rest, what);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn a_map_that_is_read_late_is_the_map_read_at_once(
        document in documents(),
        changes in prop::collection::vec((prop::collection::vec("[abc]", 0..3), 0..4_u8), 0..5),
        shared in any::<bool>(),
    ) {
        let serde_json::Value::Object(map) = &document else { unreachable!() };
        let late = Rc::new(map.clone());
        let budget = Budget::default();
        let other = shared.then(|| Value::Map(Map::unseen(late.clone())));
        let (late, at_once) = (Value::Map(Map::unseen(late)), Value::from_json(&document, &budget).unwrap());
        for (path, what) in changes {
            change(&late, &path, what);
            change(&at_once, &path, what);
            prop_assert_eq!(late.to_json(&budget), at_once.to_json(&budget));
        }
        prop_assert_eq!(print::nested(&late, &budget), print::nested(&at_once, &budget));
        prop_assert!(other.is_none_or(|other| other.to_json(&budget) == Ok(document)));
    }
}
