//! Reads the protobuf bodies that kubectl's typed commands send (`create namespace`, `auth can-i` and their
//! like). Answers are always JSON, which those clients read as well.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

/// How Kubernetes marks its protobuf envelope.
const MAGIC: &[u8] = b"k8s\0";

/// Messages by name: each field's number, name and type. `s` text, `i` number, `b` bool, `y` bytes, `m` a map
/// of texts, `M` a map of bytes, else another message; `*` leads what repeats.
const MESSAGES: &[(&str, &str)] = &[
    (
        "Meta",
        "1 name s,2 generateName s,3 namespace s,5 uid s,6 resourceVersion s,11 labels m,12 annotations m,14 finalizers *s",
    ),
    ("Namespace", "1 metadata Meta,2 spec NamespaceSpec"),
    ("NamespaceSpec", "1 finalizers *s"),
    (
        "Secret",
        "1 metadata Meta,2 data M,3 type s,4 stringData m,5 immutable b",
    ),
    (
        "ConfigMap",
        "1 metadata Meta,2 data m,3 binaryData M,4 immutable b",
    ),
    (
        "ServiceAccount",
        "1 metadata Meta,4 automountServiceAccountToken b",
    ),
    ("TokenRequest", "1 metadata Meta,2 spec TokenRequestSpec"),
    (
        "TokenRequestSpec",
        "1 audiences *s,3 boundObjectRef Bound,4 expirationSeconds i",
    ),
    ("Bound", "1 kind s,2 apiVersion s,3 name s,4 uid s"),
    ("SelfSubjectAccessReview", "1 metadata Meta,2 spec Access"),
    (
        "Access",
        "1 resourceAttributes Resource,2 nonResourceAttributes Path",
    ),
    (
        "Resource",
        "1 namespace s,2 verb s,3 group s,4 version s,5 resource s,6 subresource s,7 name s",
    ),
    ("Path", "1 path s,2 verb s"),
    ("SelfSubjectRulesReview", "1 metadata Meta,2 spec RulesOf"),
    ("RulesOf", "1 namespace s"),
    ("SelfSubjectReview", "1 metadata Meta"),
    ("Role", "1 metadata Meta,2 rules *Rule"),
    ("ClusterRole", "1 metadata Meta,2 rules *Rule"),
    (
        "Rule",
        "1 verbs *s,2 apiGroups *s,3 resources *s,4 resourceNames *s,5 nonResourceURLs *s",
    ),
    (
        "RoleBinding",
        "1 metadata Meta,2 subjects *Subject,3 roleRef Ref",
    ),
    (
        "ClusterRoleBinding",
        "1 metadata Meta,2 subjects *Subject,3 roleRef Ref",
    ),
    ("Subject", "1 kind s,2 apiGroup s,3 name s,4 namespace s"),
    ("Ref", "1 apiGroup s,2 kind s,3 name s"),
    (
        "DeleteOptions",
        "1 gracePeriodSeconds i,2 preconditions Conditions,4 propagationPolicy s,5 dryRun *s",
    ),
    ("Conditions", "1 uid s,2 resourceVersion s"),
    ("Envelope", "1 type Type,2 raw y"),
    ("Type", "1 apiVersion s,2 kind s"),
];

/// The object in an envelope; `None` if it is damaged or of a kind that is not read.
pub(crate) fn decode(body: &[u8]) -> Option<Value> {
    let envelope = message("Envelope", body.strip_prefix(MAGIC)?)?;
    let raw = STANDARD.decode(envelope["raw"].as_str()?).ok()?;
    let kind = envelope["type"]["kind"].as_str()?;
    let mut object = message(kind, &raw)?;
    object["kind"] = kind.into();
    object["apiVersion"] = envelope["type"]["apiVersion"].clone();
    Some(object)
}

/// A field as it is on the wire.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn message(name: &str, mut bytes: &[u8]) -> Option<Value> {
    let (_, fields) = MESSAGES.iter().find(|(n, _)| *n == name)?;
    let mut object = Map::new();
    while !bytes.is_empty() {
        let (number, wire) = field(&mut bytes)?;
        let known = fields.split(',').filter_map(|f| {
            let mut words = f.split(' ');
            Some((words.next()?, words.next()?, words.next()?))
        });
        let Some((_, name, kind)) = known.into_iter().find(|(n, ..)| n.parse() == Ok(number))
        else {
            continue;
        };
        match kind.strip_prefix('*') {
            Some(item) => {
                let list = object.entry(name).or_insert_with(|| json!([]));
                list.as_array_mut()?.push(value(item, &wire)?);
            }
            None if kind.eq_ignore_ascii_case("m") => {
                let (key, value) = entry(kind, &wire)?;
                object
                    .entry(name)
                    .or_insert_with(|| json!({}))
                    .as_object_mut()?
                    .insert(key, value);
            }
            // The wire always carries texts; an empty one is one that was not given.
            None => match value(kind, &wire)? {
                Value::String(empty) if empty.is_empty() => {}
                value => drop(object.insert(name.into(), value)),
            },
        }
    }
    Some(Value::Object(object))
}

fn value(kind: &str, wire: &Wire<'_>) -> Option<Value> {
    match (kind, wire) {
        ("s", Wire::Bytes(bytes)) => Some(std::str::from_utf8(bytes).ok()?.into()),
        ("y", Wire::Bytes(bytes)) => Some(STANDARD.encode(bytes).into()),
        ("i", Wire::Number(number)) => Some(number.cast_signed().into()),
        ("b", Wire::Number(number)) => Some((*number != 0).into()),
        (name, Wire::Bytes(bytes)) => message(name, bytes),
        _ => None,
    }
}

fn entry(kind: &str, wire: &Wire<'_>) -> Option<(String, Value)> {
    let &Wire::Bytes(mut bytes) = wire else {
        return None;
    };
    let (mut key, mut found) = (String::new(), Value::String(String::new()));
    while !bytes.is_empty() {
        match field(&mut bytes)? {
            (1, Wire::Bytes(text)) => key = std::str::from_utf8(text).ok()?.to_owned(),
            (2, wire) => found = value(if kind == "M" { "y" } else { "s" }, &wire)?,
            _ => {}
        }
    }
    Some((key, found))
}

fn field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Wire<'a>)> {
    let tag = varint(bytes)?;
    let wire = match tag & 7 {
        0 => Wire::Number(varint(bytes)?),
        2 => {
            let length = usize::try_from(varint(bytes)?).ok()?;
            let (taken, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Wire::Bytes(taken)
        }
        _ => return None,
    };
    Some((tag >> 3, wire))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u8, bytes: &[u8]) -> Vec<u8> {
        [
            &[number << 3 | 2, u8::try_from(bytes.len()).unwrap()],
            bytes,
        ]
        .concat()
    }

    fn envelope(kind: &str, raw: &[u8]) -> Vec<u8> {
        let about = [part(1, b"v1"), part(2, kind.as_bytes())].concat();
        [MAGIC, &part(1, &about), &part(2, raw)].concat()
    }

    #[test]
    fn a_secret_in_an_envelope() {
        let meta = [
            part(1, b"s"),
            part(2, b""),
            part(11, &[part(1, b"app"), part(2, b"web")].concat()),
        ]
        .concat();
        let data = [part(1, b"k"), part(2, b"v")].concat();
        let raw = [
            part(1, &meta),
            part(2, &data),
            part(3, b"Opaque"),
            vec![5 << 3, 1],
        ]
        .concat();
        assert_eq!(
            decode(&envelope("Secret", &raw)).unwrap(),
            json!({
                "metadata": {"name": "s", "labels": {"app": "web"}}, "data": {"k": "dg=="}, "type": "Opaque",
                "immutable": true, "kind": "Secret", "apiVersion": "v1",
            })
        );
    }

    #[test]
    fn damaged_and_unknown_bodies_are_no_objects() {
        assert_eq!(decode(b"{}"), None);
        assert_eq!(decode(&envelope("Unheard", b"")), None);
        let whole = envelope("Namespace", &part(1, &part(1, b"n")));
        assert!(decode(&whole).is_some());
        assert!((5..whole.len()).all(|end| decode(&whole[..end]).is_none()));
    }
}
