//! `eq`, `lt` and their kin: strict about kinds, as Go is.

use std::cmp::Ordering;

use super::{budget::Budget, print, value::Value};
use crate::json::DEPTH;

/// Whether two values are equal; an error if they cannot be compared.
pub(super) fn equal(a: &Value, b: &Value, budget: &Budget) -> Result<bool, String> {
    Ok(match (a, b) {
        (Value::Nil | Value::Null, other) | (other, Value::Nil | Value::Null) => other.is_nil(),
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a) | Value::Duration(a), Value::Int(b) | Value::Duration(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::Time(a), Value::Time(b)) => a.same_instant(b),
        (a, b) if basic(a) || basic(b) => {
            return Err("incompatible types for comparison".to_owned());
        }
        (a, _) => {
            return Err(format!(
                "non-comparable type {}: {}",
                print::nested(a, budget)?,
                a.type_name()
            ));
        }
    })
}

fn basic(value: &Value) -> bool {
    matches!(
        value,
        Value::Bool(_) | Value::Int(_) | Value::Duration(_) | Value::Float(_) | Value::Text(_)
    )
}

/// Which of two values comes first; an error if they have no order.
pub(super) fn order(a: &Value, b: &Value) -> Result<Ordering, String> {
    match (a, b) {
        (Value::Int(a) | Value::Duration(a), Value::Int(b) | Value::Duration(b)) => Ok(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b).unwrap_or(Ordering::Greater)),
        (Value::Text(a), Value::Text(b)) => Ok(a.cmp(b)),
        (a, b) if basic(a) && basic(b) && !matches!((a, b), (Value::Bool(_), Value::Bool(_))) => {
            Err("incompatible types for comparison".to_owned())
        }
        _ => Err("invalid type for comparison".to_owned()),
    }
}

/// Go's `reflect.DeepEqual`; numbers of different kinds differ.
pub(super) fn deep(a: &Value, b: &Value, budget: &Budget) -> Result<bool, String> {
    deep_at(a, b, budget, 0)
}

fn deep_at(a: &Value, b: &Value, budget: &Budget, depth: usize) -> Result<bool, String> {
    if depth > DEPTH {
        return Err(format!(
            "values are nested deeper than {DEPTH} levels, or hold themselves"
        ));
    }
    budget.step(1)?;
    budget.scan(a.size().min(b.size()))?;
    Ok(match (a, b) {
        (Value::Nil | Value::Null, Value::Nil | Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) | (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::List(a), Value::List(b)) => {
            if a.items().len() != b.items().len() {
                return Ok(false);
            }
            for (a, b) in a.items().iter().zip(b.items()) {
                if !deep_at(a, b, budget, depth + 1)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Map(a), Value::Map(b)) if a.same(b) => true,
        (Value::Map(a), Value::Map(b)) => {
            let (a, b) = (a.fields(), b.fields());
            if a.len() != b.len() {
                return Ok(false);
            }
            for ((key, x), (other, y)) in a.iter().zip(b.iter()) {
                if key != other || !deep_at(x, y, budget, depth + 1)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Time(a), Value::Time(b)) => a.same_instant(b),
        (Value::Version(a), Value::Version(b)) => a.text() == b.text(),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_do_not_mix_but_nil_compares_with_all() {
        let budget = Budget::default();
        let equal = |a: &Value, b: &Value| equal(a, b, &budget);
        assert_eq!(equal(&Value::Int(1), &Value::Int(1)), Ok(true));
        assert_eq!(equal(&Value::Nil, &Value::text("x")), Ok(false));
        assert_eq!(equal(&Value::Nil, &Value::Null), Ok(true));
        assert!(
            equal(&Value::Int(1), &Value::Float(1.0))
                .unwrap_err()
                .contains("incompatible")
        );
        assert!(
            equal(&Value::list(vec![]), &Value::list(vec![]))
                .unwrap_err()
                .contains("non-comparable")
        );
        assert!(order(&Value::Bool(true), &Value::Bool(false)).is_err());
        assert_eq!(
            order(&Value::text("a"), &Value::text("b")),
            Ok(Ordering::Less)
        );
        assert_eq!(deep(&Value::Int(1), &Value::Float(1.0), &budget), Ok(false));
    }
}
