//! Lists.

use super::{Args, Entry, LONGEST, MANY, as_list, is_empty};
use crate::template::{
    compare,
    eval::{Call, Outcome},
    value::Value,
};

pub(super) const TABLE: &[Entry] = &[
    ("list", 0, MANY, |args, _| {
        Ok(Value::list(args.from(0).collect()))
    }),
    ("tuple", 0, MANY, |args, _| {
        Ok(Value::list(args.from(0).collect()))
    }),
    ("first", 1, 1, first),
    ("mustFirst", 1, 1, first),
    ("last", 1, 1, last),
    ("mustLast", 1, 1, last),
    ("rest", 1, 1, rest),
    ("mustRest", 1, 1, rest),
    ("initial", 1, 1, initial),
    ("mustInitial", 1, 1, initial),
    ("append", 2, 2, append),
    ("mustAppend", 2, 2, append),
    ("push", 2, 2, append),
    ("mustPush", 2, 2, append),
    ("prepend", 2, 2, prepend),
    ("mustPrepend", 2, 2, prepend),
    ("reverse", 1, 1, reverse),
    ("mustReverse", 1, 1, reverse),
    ("uniq", 1, 1, uniq),
    ("mustUniq", 1, 1, uniq),
    ("without", 1, MANY, without),
    ("mustWithout", 1, MANY, without),
    ("has", 2, 2, has),
    ("mustHas", 2, 2, has),
    ("compact", 1, 1, compact),
    ("mustCompact", 1, 1, compact),
    ("slice", 1, MANY, slice),
    ("mustSlice", 1, MANY, slice),
    ("chunk", 2, 2, chunk),
    ("mustChunk", 2, 2, chunk),
    ("concat", 0, MANY, concat),
    ("until", 1, 1, |args, _| {
        let count = args.int(0)?;
        steps(0, count, if count < 0 { -1 } else { 1 })
    }),
    ("untilStep", 3, 3, |args, _| {
        steps(args.int(0)?, args.int(1)?, args.int(2)?)
    }),
];

fn first(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    Ok(args
        .list(0, "find first")?
        .items()
        .first()
        .cloned()
        .unwrap_or_default())
}

fn last(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    Ok(args
        .list(0, "find last")?
        .items()
        .last()
        .cloned()
        .unwrap_or_default())
}

fn rest(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    Ok(Value::list(
        args.list(0, "find rest")?
            .items()
            .iter()
            .skip(1)
            .cloned()
            .collect(),
    ))
}

fn initial(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let list = args.list(0, "find initial")?;
    Ok(Value::list(
        list.items()
            .iter()
            .take(list.items().len().saturating_sub(1))
            .cloned()
            .collect(),
    ))
}

fn append(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let list = args.list(0, "push")?;
    Ok(Value::list(
        list.items().iter().cloned().chain([args.any(1)]).collect(),
    ))
}

fn prepend(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let list = args.list(0, "prepend")?;
    Ok(Value::list(
        [args.any(1)]
            .into_iter()
            .chain(list.items().iter().cloned())
            .collect(),
    ))
}

fn reverse(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    Ok(Value::list(
        args.list(0, "find reverse")?
            .items()
            .iter()
            .rev()
            .cloned()
            .collect(),
    ))
}

fn uniq(args: &Args<'_>, call: &Call<'_, '_>) -> Outcome {
    let mut kept: Vec<Value> = Vec::new();
    for item in args.list(0, "find uniq")?.items() {
        call.engine.budget.step(kept.len())?;
        if !among(item, &kept, args)? {
            kept.push(item.clone());
        }
    }
    Ok(Value::list(kept))
}

/// Whether one of `values` is like `wanted`.
fn among(wanted: &Value, values: &[Value], args: &Args<'_>) -> Outcome<bool> {
    for value in values {
        if compare::deep(value, wanted, args.budget)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn without(args: &Args<'_>, call: &Call<'_, '_>) -> Outcome {
    let omitted: Vec<Value> = args.from(1).collect();
    let list = args.list(0, "find without")?;
    call.engine
        .budget
        .step(list.items().len().saturating_mul(omitted.len()))?;
    let mut kept = Vec::new();
    for item in list.items() {
        if !among(item, &omitted, args)? {
            kept.push(item.clone());
        }
    }
    Ok(Value::list(kept))
}

fn has(args: &Args<'_>, call: &Call<'_, '_>) -> Outcome {
    if args.any(1).is_nil() {
        return Ok(Value::Bool(false));
    }
    let list = args.list(1, "find has")?;
    call.engine.budget.step(list.items().len())?;
    Ok(Value::Bool(among(&args.any(0), list.items(), args)?))
}

fn compact(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    Ok(Value::list(
        args.list(0, "compact")?
            .items()
            .iter()
            .filter(|item| !is_empty(item))
            .cloned()
            .collect(),
    ))
}

fn slice(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    // Helm's `slice` is Sprig's, for lists; text is cut with `substr` or `trunc`.
    let Some(list) = as_list(&args.any(0), args.budget)? else {
        return Err(format!(
            "list should be type of slice or array but {}",
            args.any(0).kind_name()
        )
        .into());
    };
    let length = list.items().len();
    if length == 0 {
        return Ok(Value::Nil);
    }
    let bound = |at: usize, otherwise: usize| {
        if at < args.len() {
            usize::try_from(super::math::integer(&args.any(at))).unwrap_or(usize::MAX)
        } else {
            otherwise
        }
    };
    let (from, to) = (bound(1, 0), bound(2, length));
    list.items()
        .get(from..to)
        .map(|items| Value::list(items.to_vec()))
        .ok_or_else(|| "slice index out of range".into())
}

fn chunk(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let size = usize::try_from(args.int(0)?)
        .ok()
        .filter(|size| *size > 0)
        .ok_or("chunk size must be positive")?;
    let list = args.list(1, "chunk")?;
    args.budget.make(list.items().len())?;
    Ok(Value::list(
        list.items()
            .chunks(size)
            .map(|items| Value::list(items.to_vec()))
            .collect(),
    ))
}

fn concat(args: &Args<'_>, _: &Call<'_, '_>) -> Outcome {
    let mut all = Vec::new();
    for at in 0..args.len() {
        let list = as_list(&args.any(at), args.budget)?
            .ok_or_else(|| format!("Cannot concat type {} as list", args.any(at).kind_name()))?;
        all.extend(list.items().iter().cloned());
        if all.len() > LONGEST / 16 {
            return Err("the list is too long".into());
        }
    }
    Ok(Value::list(all))
}

/// The numbers from `start` to just before `stop`.
pub(super) fn steps(start: i64, stop: i64, step: i64) -> Outcome {
    Ok(Value::list(
        numbers(start, stop, step)?
            .into_iter()
            .map(Value::Int)
            .collect(),
    ))
}

pub(super) fn numbers(start: i64, stop: i64, step: i64) -> Outcome<Vec<i64>> {
    if step == 0 || (stop < start) != (step < 0) {
        return Ok(Vec::new());
    }
    if start.abs_diff(stop) / step.unsigned_abs() > LONGEST as u64 / 16 {
        return Err("the list is too long".into());
    }
    let mut all = Vec::new();
    let mut at = start;
    while if step > 0 { at < stop } else { at > stop } {
        all.push(at);
        let Some(next) = at.checked_add(step) else {
            break;
        };
        at = next;
    }
    Ok(all)
}
