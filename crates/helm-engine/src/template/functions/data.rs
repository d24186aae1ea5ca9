//! YAML, JSON and base64.

use std::rc::Rc;

use base64::Engine as _;

use super::{Args, Entry, strings::json_text};
use crate::{
    json::Style,
    template::{
        budget::Budget,
        eval::{Call, Outcome},
        value::{Map, Value},
    },
    yaml,
};

pub(super) const TABLE: &[Entry] = &[
    ("toYaml", 1, 1, |args, call| {
        Ok(to_yaml_here(args, call).unwrap_or_else(|_| "".into()))
    }),
    ("mustToYaml", 1, 1, |args, call| {
        Ok(to_yaml_here(args, call)?)
    }),
    ("toYamlPretty", 1, 1, |args, _| {
        let text = args
            .any(0)
            .to_tree(args.budget)
            .and_then(|tree| yaml::write(&tree.into()));
        Ok(pretty(&text.unwrap_or_default()).into())
    }),
    ("fromYaml", 1, 1, from_yaml),
    ("fromYamlArray", 1, 1, |args, _| {
        Ok(read_list(
            read_yaml(&args.text(0)?, args.budget)?,
            args.budget,
        ))
    }),
    ("toJson", 1, 1, |args, _| {
        Ok(json_text(args, Style::default()).unwrap_or_default().into())
    }),
    ("mustToJson", 1, 1, |args, _| {
        Ok(json_text(args, Style::default())?.into())
    }),
    ("toPrettyJson", 1, 1, |args, _| {
        Ok(json_text(
            args,
            Style {
                pretty: true,
                raw: false,
            },
        )
        .unwrap_or_default()
        .into())
    }),
    ("mustToPrettyJson", 1, 1, |args, _| {
        Ok(json_text(
            args,
            Style {
                pretty: true,
                raw: false,
            },
        )?
        .into())
    }),
    ("toRawJson", 1, 1, |args, _| {
        Ok(json_text(
            args,
            Style {
                pretty: false,
                raw: true,
            },
        )?
        .into())
    }),
    ("mustToRawJson", 1, 1, |args, _| {
        Ok(json_text(
            args,
            Style {
                pretty: false,
                raw: true,
            },
        )?
        .into())
    }),
    ("fromJson", 1, 1, |args, _| {
        Ok(read_map(&json(args)?, args.budget))
    }),
    ("fromJsonArray", 1, 1, |args, _| {
        Ok(read_list(json(args)?, args.budget))
    }),
    ("mustFromJson", 1, 1, |args, _| {
        Ok(Value::from_json(&json(args)??, args.budget)?)
    }),
    ("b64enc", 1, 1, |args, _| {
        Ok(yaml::base64(args.text(0)?.as_bytes()).into())
    }),
    ("b64dec", 1, 1, b64dec),
    ("b32enc", 1, 1, |args, _| {
        Ok(base32(args.text(0)?.as_bytes()).into())
    }),
    ("b32dec", 1, 1, |args, _| {
        Ok(from_base32(&args.text(0)?)
            .unwrap_or_else(|| "illegal base32 data".to_owned())
            .into())
    }),
];

/// How many bytes of YAML or JSON are read in the time of a step.
const READ_A_STEP: usize = 4;

fn from_yaml(args: &Args<'_>, call: &Call<'_, '_>) -> Outcome {
    let text = args.text(0)?;
    let mut memo = call.engine.memo.borrow_mut();
    if let Some(map) = memo.known(&text) {
        return Ok(Value::Map(Map::unseen(map)));
    }
    match read_yaml(&text, args.budget)? {
        Ok(serde_json::Value::Object(map)) => {
            let map = Rc::new(map);
            memo.was_read(text, map.clone());
            Ok(Value::Map(Map::read(map, args.budget)?))
        }
        read => Ok(read_map(&read, args.budget)),
    }
}

fn to_yaml_here(args: &Args<'_>, call: &Call<'_, '_>) -> Result<Value, String> {
    let tree = args.any(0).to_tree(args.budget)?;
    let text: Rc<str> = to_yaml(&tree)?.into();
    call.engine.memo.borrow_mut().was_written(&text, tree);
    Ok(Value::Text(text))
}

fn to_yaml(tree: &yaml::Tree) -> Result<String, String> {
    let mut text = yaml::write_tree(tree)?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

/// Lists indented below their key, which is all that sets the pretty form apart.
fn pretty(text: &str) -> String {
    let mut out = Vec::new();
    let mut shifts: Vec<usize> = Vec::new();
    let mut key_indent: Option<usize> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let item = line.trim_start().starts_with("- ") || line.trim() == "-";
        shifts.retain(|shift| indent > *shift || indent == *shift && item);
        if item && key_indent == Some(indent) && shifts.last() != Some(&indent) {
            shifts.push(indent);
        }
        out.push(format!("{}{line}", "  ".repeat(shifts.len())));
        key_indent = line
            .ends_with(':')
            .then_some(indent + if item { 2 } else { 0 });
    }
    out.join("\n")
}

/// JSON numbers are floats, as Go reads them.
fn json(args: &Args<'_>) -> Outcome<Result<serde_json::Value, String>> {
    let text = args.text(0)?;
    args.budget.step(text.len() / READ_A_STEP)?;
    Ok(serde_json::from_str(&text)
        .map(floats)
        .map_err(|error| error.to_string()))
}

/// YAML takes longer to read than to look at.
fn read_yaml(text: &str, budget: &Budget) -> Outcome<Result<serde_json::Value, String>> {
    budget.step(text.len() / READ_A_STEP)?;
    Ok(yaml::document(text))
}

fn floats(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Number(n) => n
            .as_f64()
            .map_or(serde_json::Value::Null, serde_json::Value::from),
        serde_json::Value::Array(items) => items.into_iter().map(floats).collect(),
        serde_json::Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (key, floats(value)))
            .collect(),
        other => other,
    }
}

fn read_map(read: &Result<serde_json::Value, String>, budget: &Budget) -> Value {
    let error = |text: String| Value::Map([("Error", Value::from(text))].into_iter().collect());
    match read {
        Ok(serde_json::Value::Null) => Value::Map(Map::default()),
        Ok(value @ serde_json::Value::Object(_)) => {
            Value::from_json(value, budget).unwrap_or_else(error)
        }
        Ok(other) => error(format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            kind(other)
        )),
        Err(reason) => error(reason.clone()),
    }
}

fn read_list(read: Result<serde_json::Value, String>, budget: &Budget) -> Value {
    match read {
        Ok(serde_json::Value::Null) => Value::list(Vec::new()),
        Ok(value @ serde_json::Value::Array(_)) => Value::from_json(&value, budget).unwrap_or_else(|reason| Value::list(vec![reason.into()])),
        Ok(other) => Value::list(vec![format!("error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type []interface {{}}", kind(&other)).into()]),
        Err(reason) => Value::list(vec![reason.into()]),
    }
}

fn kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "bool",
        serde_json::Value::Number(_) => "number",
        serde_json::Value::String(_) => "string",
        serde_json::Value::Array(_) => "array",
        serde_json::Value::Object(_) => "object",
    }
}

fn b64dec(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let packed: String = args
        .text(0)?
        .chars()
        .filter(|c| !matches!(c, '\n' | '\r'))
        .collect();
    Ok(
        match base64::engine::general_purpose::STANDARD.decode(&packed) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
            Err(
                base64::DecodeError::InvalidByte(at, _)
                | base64::DecodeError::InvalidLastSymbol(at, _),
            ) => format!("illegal base64 data at input byte {at}").into(),
            Err(_) => format!("illegal base64 data at input byte {}", packed.len()).into(),
        },
    )
}

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn base32(bytes: &[u8]) -> String {
    let mut out = String::new();
    for group in bytes.chunks(5) {
        let mut buffer = [0; 5];
        buffer[..group.len()].copy_from_slice(group);
        let bits = buffer
            .iter()
            .fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        let used = (group.len() * 8).div_ceil(5);
        for at in 0..8 {
            let index = usize::try_from(bits >> (35 - 5 * at) & 31).unwrap_or_default();
            out.push(if at < used {
                char::from(ALPHABET[index])
            } else {
                '='
            });
        }
    }
    out
}

fn from_base32(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0u64, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = ALPHABET.iter().position(|known| *known == byte)?;
        bits = (bits << 5 | digit as u64) & 0xffff;
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
