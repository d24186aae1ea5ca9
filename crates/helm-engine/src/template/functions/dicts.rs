//! Maps.

use super::{Args, Entry, MANY, as_text, is_empty};
use crate::{
    json::DEPTH,
    template::{
        eval::{Call, Outcome},
        value::{Map, Value},
    },
};

pub(super) const TABLE: &[Entry] = &[
    ("dict", 0, MANY, dict),
    ("get", 2, 2, |args, _| {
        Ok(args
            .map(0)?
            .find(&args.text(1)?)
            .unwrap_or_else(|| "".into()))
    }),
    ("set", 3, 3, |args, _| {
        let map = args.map(0)?;
        map.insert(args.text(1)?, args.any(2));
        Ok(Value::Map(map))
    }),
    ("unset", 2, 2, |args, _| {
        let map = args.map(0)?;
        map.remove(&args.text(1)?);
        Ok(Value::Map(map))
    }),
    ("hasKey", 2, 2, |args, _| {
        Ok(Value::Bool(args.map(0)?.find(&args.text(1)?).is_some()))
    }),
    ("pluck", 1, MANY, |args, _| {
        let key = args.text(0)?;
        let maps = (1..args.len())
            .map(|at| args.map(at))
            .collect::<Outcome<Vec<_>>>()?;
        Ok(Value::list(
            maps.iter().filter_map(|map| map.find(&key)).collect(),
        ))
    }),
    // Go's order of keys is random; ours is sorted, which is one of them.
    ("keys", 0, MANY, |args, _| {
        let maps = (0..args.len())
            .map(|at| args.map(at))
            .collect::<Outcome<Vec<_>>>()?;
        args.budget.make(maps.iter().map(Map::len).sum())?;
        Ok(Value::list(
            maps.iter()
                .flat_map(Map::pairs)
                .map(|(key, _)| Value::Text(key))
                .collect(),
        ))
    }),
    ("values", 1, 1, |args, _| {
        let map = args.map(0)?;
        args.budget.make(map.len())?;
        Ok(Value::list(
            map.pairs().into_iter().map(|(_, value)| value).collect(),
        ))
    }),
    ("pick", 1, MANY, |args, _| {
        let map = args.map(0)?;
        let keys = (1..args.len())
            .map(|at| args.text(at))
            .collect::<Outcome<Vec<_>>>()?;
        Ok(Value::Map(
            keys.into_iter()
                .filter_map(|key| map.find(&key).map(|value| (key, value)))
                .collect(),
        ))
    }),
    ("omit", 1, MANY, |args, _| {
        let keys = (1..args.len())
            .map(|at| args.text(at))
            .collect::<Outcome<Vec<_>>>()?;
        let map = args.map(0)?;
        args.budget.make(map.len())?;
        args.budget.pass(map.len().saturating_mul(keys.len()))?;
        Ok(Value::Map(
            map.pairs()
                .into_iter()
                .filter(|(key, _)| !keys.contains(key))
                .collect(),
        ))
    }),
    ("dig", 3, MANY, dig),
    ("merge", 1, MANY, |args, call| merge_all(args, call, false)),
    ("mustMerge", 1, MANY, |args, call| {
        merge_all(args, call, false)
    }),
    ("mergeOverwrite", 1, MANY, |args, call| {
        merge_all(args, call, true)
    }),
    ("mustMergeOverwrite", 1, MANY, |args, call| {
        merge_all(args, call, true)
    }),
    ("deepCopy", 1, 1, deep_copy),
    ("mustDeepCopy", 1, 1, deep_copy),
];

fn dict(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let map = Map::default();
    for at in (0..args.len()).step_by(2) {
        let value = if at + 1 < args.len() {
            args.any(at + 1)
        } else {
            "".into()
        };
        map.insert(as_text(&args.any(at), args.budget)?, value);
    }
    Ok(Value::Map(map))
}

fn deep_copy(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    match args.any(0) {
        Value::Nil | Value::Null => Err("nil cannot be copied".into()),
        value => Ok(value.deep_copy(args.budget)?),
    }
}

fn dig(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let last = args.len() - 1;
    let Value::Map(mut map) = args.any(last) else {
        return Err(format!(
            "interface conversion: interface {{}} is {}, not map[string]interface {{}}",
            go_nil(&args.any(last))
        )
        .into());
    };
    for at in 0..last - 1 {
        let Some(value) = map.find(&args.text(at)?) else {
            return Ok(args.any(last - 1));
        };
        if at == last - 2 {
            return Ok(value);
        }
        match value {
            Value::Map(inner) => map = inner,
            other => {
                return Err(format!(
                    "interface conversion: interface {{}} is {}, not map[string]interface {{}}",
                    go_nil(&other)
                )
                .into());
            }
        }
    }
    Ok(args.any(last - 1))
}

fn go_nil(value: &Value) -> &'static str {
    if value.is_nil() {
        "nil"
    } else {
        value.type_name()
    }
}

fn merge_all(args: &Args<'_>, call: &Call<'_, '_>, overwrite: bool) -> Outcome {
    let into = args.map(0)?;
    for at in 1..args.len() {
        merge(&into, &args.map(at)?, overwrite, call, 0)?;
    }
    Ok(Value::Map(into))
}

/// Merges in place. What is taken over is shared, not copied, so later merges reach into where it came from: as in Go.
fn merge(
    into: &Map,
    from: &Map,
    overwrite: bool,
    call: &Call<'_, '_>,
    depth: usize,
) -> Outcome<()> {
    if depth > DEPTH {
        return Err("maps are nested too deep to be merged".into());
    }
    call.engine.budget.pass(from.len())?;
    for (key, value) in from.pairs() {
        call.engine.budget.step(1)?;
        let old = into.find(&key);
        if value.is_nil() {
            if overwrite {
                into.insert(key, Value::Nil);
            }
            continue;
        }
        if let (Value::Map(value), Some(Value::Map(old))) = (&value, &old) {
            merge(old, value, overwrite, call, depth + 1)?;
            if old.len() > 0 {
                continue;
            }
        }
        let missing = old.as_ref().is_none_or(is_empty);
        if missing || overwrite {
            into.insert(key, value);
        }
    }
    Ok(())
}
