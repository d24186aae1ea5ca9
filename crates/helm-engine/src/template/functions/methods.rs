//! Fields and methods: `.Values.a`, `.Files.Get "x"`, `.Capabilities.APIVersions.Has "v1"`.

use std::rc::Rc;

use crate::{
    template::{
        budget::Budget,
        eval::Outcome,
        glob,
        semver::Version,
        time::Time,
        value::{Files, KubeVersion, Value},
    },
    yaml,
};

/// A field of a value, or what its method of that name answers.
pub(in crate::template) fn field(
    value: &Value,
    name: &str,
    args: Vec<Value>,
    budget: &Budget,
) -> Outcome {
    let found = match value {
        // No value has no fields, and asking for them is no error; asking an empty slot is.
        Value::Nil if args.is_empty() => return Ok(Value::Nil),
        Value::Nil | Value::Null => {
            return Err(format!("nil pointer evaluating interface {{}}.{name}").into());
        }
        Value::Map(map) => {
            if !args.is_empty() {
                return Err(format!("{name} is not a method but has arguments").into());
            }
            return Ok(map
                .find(name)
                .filter(|value| !value.is_nil())
                .unwrap_or(Value::Null));
        }
        Value::Files(files) => return file_method(files, name, &args, budget),
        Value::Versions(versions) => (name == "Has").then(|| {
            text(&args, 0)
                .map(|wanted| Value::Bool(versions.iter().any(|version| **version == *wanted)))
        }),
        Value::KubeVersion(version) => kube_version(version, name).map(Ok),
        Value::Version(version) => version_method(version, name, &args),
        Value::Time(time) => time_method(time, name, &args),
        Value::Duration(n) => duration_method(*n, name).map(Ok),
        _ => None,
    };
    found.unwrap_or_else(|| {
        Err(format!("can't evaluate field {name} in type {}", value.type_name()).into())
    })
}

fn text(args: &[Value], at: usize) -> Outcome<Rc<str>> {
    match args.get(at) {
        Some(Value::Text(text)) => Ok(text.clone()),
        Some(other) => Err(format!(
            "wrong type for value; expected string; got {}",
            other.type_name()
        )
        .into()),
        None => Err("wrong number of args: want 1 got 0".into()),
    }
}

fn file_method(files: &Rc<Files>, name: &str, args: &[Value], budget: &Budget) -> Outcome {
    let bytes = |name: &str| files.0.get(name).cloned().unwrap_or_else(|| Rc::from([]));
    let base = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    if matches!(name, "AsConfig" | "AsSecrets") {
        let size = Value::Files(files.clone()).size();
        budget.step(size / 4)?;
        budget.produce(size)?;
    }
    Ok(match name {
        "Get" => {
            let data = bytes(&text(args, 0)?);
            budget.produce(data.len())?;
            budget.scan(data.len())?;
            // Made for speed, as the lossy way is not.
            match std::str::from_utf8(&data) {
                Ok(text) => Value::text(text),
                Err(_) => Value::text(String::from_utf8_lossy(&data)),
            }
        }
        "GetBytes" => Value::Bytes(bytes(&text(args, 0)?)),
        "Lines" => {
            let data = bytes(&text(args, 0)?);
            budget.make(data.iter().filter(|byte| **byte == b'\n').count())?;
            budget.produce(data.len())?;
            budget.scan(data.len())?;
            let whole = String::from_utf8_lossy(&data);
            let whole = whole.strip_suffix('\n').unwrap_or(&whole);
            Value::list(if data.is_empty() {
                Vec::new()
            } else {
                whole.split('\n').map(Value::text).collect()
            })
        }
        "Glob" => {
            let pattern = text(args, 0)?;
            let glob = glob::Files::new(&pattern)?;
            let mut found = Files::default();
            for (name, data) in &files.0 {
                budget.step(1)?;
                if glob.matches(name, budget)? {
                    found.0.insert(name.clone(), data.clone());
                }
            }
            Value::Files(Rc::new(found))
        }
        "AsConfig" => printed(
            files
                .0
                .iter()
                .map(|(name, data)| (base(name), String::from_utf8_lossy(data).into_owned())),
        ),
        "AsSecrets" => printed(
            files
                .0
                .iter()
                .map(|(name, data)| (base(name), yaml::base64(data))),
        ),
        name => Value::Bytes(bytes(name)),
    })
}

fn printed(pairs: impl Iterator<Item = (String, String)>) -> Value {
    let map = serde_json::Value::Object(pairs.map(|(name, text)| (name, text.into())).collect());
    let text = yaml::write_tree(&yaml::Tree::Leaf(map)).unwrap_or_default();
    Value::text(text.strip_suffix('\n').unwrap_or(&text))
}

fn kube_version(version: &KubeVersion, name: &str) -> Option<Value> {
    Some(Value::text(match name {
        "Version" | "GitVersion" => version.version.as_str(),
        "String" => version.normal.as_str(),
        "Major" => version.major.as_str(),
        "Minor" => version.minor.as_str(),
        _ => return None,
    }))
}

fn version_method(version: &Version, name: &str, args: &[Value]) -> Option<Outcome> {
    let number = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
    let other = || match args.first() {
        Some(Value::Version(other)) => Ok(version.order(other)),
        _ => Err("wrong type for value; expected *semver.Version".into()),
    };
    Some(Ok(match name {
        "Major" => number(version.major),
        "Minor" => number(version.minor),
        "Patch" => number(version.patch),
        "Prerelease" => Value::text(version.pre.as_str()),
        "Metadata" => Value::text(version.meta.as_str()),
        "Original" => Value::text(version.original.as_str()),
        "String" => Value::text(version.text()),
        "Compare" => return Some(other().map(|order| Value::Int(order as i64))),
        "Equal" => return Some(other().map(|order| Value::Bool(order.is_eq()))),
        "LessThan" => return Some(other().map(|order| Value::Bool(order.is_lt()))),
        "GreaterThan" => return Some(other().map(|order| Value::Bool(order.is_gt()))),
        _ => return None,
    }))
}

fn time_method(time: &Rc<Time>, name: &str, args: &[Value]) -> Option<Outcome> {
    Some(Ok(match name {
        "Format" => return Some(text(args, 0).map(|layout| Value::text(time.format(&layout)))),
        "Unix" => Value::Int(time.unix()),
        "UnixNano" => Value::Int(i64::try_from(time.nanoseconds()).unwrap_or(i64::MAX)),
        "UnixMilli" => {
            Value::Int(i64::try_from(time.nanoseconds() / 1_000_000).unwrap_or(i64::MAX))
        }
        "Year" => Value::Int(time.year()),
        "Day" => Value::Int(time.format("2").parse().unwrap_or_default()),
        "Hour" => Value::Int(time.format("15").parse().unwrap_or_default()),
        "Minute" => Value::Int(time.format("4").parse().unwrap_or_default()),
        "UTC" => Value::Time(Rc::new(time.in_zone("UTC"))),
        "String" => Value::text(time.go_text()),
        _ => return None,
    }))
}

fn duration_method(nanoseconds: i64, name: &str) -> Option<Value> {
    Some(match name {
        "Seconds" => Value::Float(nanoseconds as f64 / 1e9),
        "Minutes" => Value::Float(nanoseconds as f64 / 6e10),
        "Hours" => Value::Float(nanoseconds as f64 / 3.6e12),
        "Milliseconds" => Value::Int(nanoseconds / 1_000_000),
        "Nanoseconds" => Value::Int(nanoseconds),
        "String" => Value::text(crate::template::time::duration_text(nanoseconds)),
        _ => return None,
    })
}
