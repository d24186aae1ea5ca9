//! What a value is, and what to take instead.

use super::{Args, Entry, MANY, is_empty};
use crate::template::{
    compare,
    eval::{Call, Outcome},
    value::Value,
};

pub(super) const TABLE: &[Entry] = &[
    ("default", 1, 2, |args, _| {
        Ok(if is_empty(&args.any(1)) {
            args.any(0)
        } else {
            args.any(1)
        })
    }),
    ("empty", 1, 1, |args, _| Ok(is_empty(&args.any(0)).into())),
    ("coalesce", 0, MANY, |args, _| {
        Ok(args
            .from(0)
            .find(|value| !is_empty(value))
            .unwrap_or_default())
    }),
    ("all", 0, MANY, |args, _| {
        Ok(args.from(0).all(|value| !is_empty(&value)).into())
    }),
    ("any", 0, MANY, |args, _| {
        Ok(args.from(0).any(|value| !is_empty(&value)).into())
    }),
    ("ternary", 3, 3, |args, _| {
        Ok(if args.bool(2)? {
            args.any(0)
        } else {
            args.any(1)
        })
    }),
    ("typeOf", 1, 1, |args, _| Ok(args.any(0).type_name().into())),
    ("typeIs", 2, 2, |args, _| {
        Ok((*args.text(0)? == *args.any(1).type_name()).into())
    }),
    ("typeIsLike", 2, 2, |args, _| {
        let (wanted, name) = (args.text(0)?, args.any(1).type_name());
        Ok((*wanted == *name || name.strip_prefix('*') == Some(&wanted)).into())
    }),
    ("kindOf", 1, 1, |args, _| Ok(args.any(0).kind_name().into())),
    ("kindIs", 2, 2, |args, _| {
        Ok((*args.text(0)? == *args.any(1).kind_name()).into())
    }),
    ("deepEqual", 2, 2, deep_equal),
];

fn deep_equal(args: &Args<'_>, call: &Call<'_, '_>) -> Outcome {
    call.engine.budget.step(10)?;
    Ok(Value::Bool(compare::deep(
        &args.any(0),
        &args.any(1),
        args.budget,
    )?))
}
