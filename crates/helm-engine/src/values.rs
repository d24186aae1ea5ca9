//! Values: a chart's defaults and what its user sets, merged as Helm 4 merges them.
//!
//! Numbers from YAML are floats, as Helm reads them (`1e6` prints as `1e+06`); integers given as JSON or with
//! `--set` stay integers. Null removes a default.

use std::path::Path;

use serde_json::{Map, Value};

use super::{Chart, Error, yaml};

mod set;

pub use set::{set_json, set_path, set_string};

/// Reads a values file's text; `origin` names it in errors. Several documents are laid over each other.
///
/// # Errors
/// [`Error::Values`] if it is no YAML, or no map.
///
/// ```
/// let values = helm_engine::values::parse("image: {tag: '1.29'}\n", "values.yaml")?;
/// assert_eq!(values["image"]["tag"], "1.29");
/// assert!(helm_engine::values::parse("- a list\n", "values.yaml").is_err());
/// # Ok::<(), helm_engine::Error>(())
/// ```
pub fn parse(text: &str, origin: &str) -> Result<Map<String, Value>, Error> {
    let invalid = |reason: String| Error::Values {
        origin: origin.to_owned(),
        reason,
    };
    let mut values = Map::new();
    for document in yaml::documents(text).map_err(invalid)? {
        match document {
            Value::Null => {}
            Value::Object(map) => overlay(&mut values, map),
            _ => return Err(invalid("they are not a map".to_owned())),
        }
    }
    Ok(values)
}

fn read(path: &Path) -> Result<Map<String, Value>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text, &path.display().to_string())
}

/// Reads values files in order, as several `-f`; later ones win.
///
/// # Errors
/// [`Error::Read`] if one cannot be read, [`Error::Values`] if one is no YAML or no map.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let paths = ["a.yaml", "b.yaml"].map(|name| folder.path().join(name));
/// std::fs::write(&paths[0], "replicas: 1\nimage: {tag: x}\n")?;
/// std::fs::write(&paths[1], "replicas: 2\n")?;
/// let values = helm_engine::values::merge_files(&paths)?;
/// assert_eq!(serde_json::json!(values), serde_json::json!({"replicas": 2.0, "image": {"tag": "x"}}));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn merge_files<P: AsRef<Path>>(paths: &[P]) -> Result<Map<String, Value>, Error> {
    let mut values = Map::new();
    for path in paths {
        overlay(&mut values, read(path.as_ref())?);
    }
    Ok(values)
}

/// Lays `over` on top of `values`: maps merge, everything else replaces, null stays null until [`coalesce`].
///
/// ```
/// use helm_engine::values::{overlay, parse};
/// let mut values = parse("a: {b: 1, c: [1, 2]}\n", "")?;
/// overlay(&mut values, parse("a: {c: [3], d: null}\n", "")?);
/// assert_eq!(serde_json::json!(values), serde_json::json!({"a": {"b": 1.0, "c": [3.0], "d": null}}));
/// # Ok::<(), helm_engine::Error>(())
/// ```
pub fn overlay(values: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (values.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => overlay(old, new),
            (_, value) => {
                values.insert(key, value);
            }
        }
    }
}

/// What templates see as `.Values`: the user's values over the chart's defaults, and the same for every chart inside it.
///
/// A null of the user removes a default; a null among the defaults never shows. [`render`](crate::render()) does this
/// by itself: it is here for those who want to see the outcome.
///
/// # Errors
/// [`Error::Values`] if something that is no map is set under the name of a chart inside.
///
/// ```
/// use helm_engine::{Chart, File, values};
/// let head = File::new("Chart.yaml", "name: shop\nversion: 1.0.0\n");
/// let chart = Chart::from_files(vec![head, File::new("values.yaml", "a: 1\nb: 2\n")], "an example")?;
/// let merged = values::coalesce(&chart, &values::parse("b: null\nc: x\n", "mine")?)?;
/// assert_eq!(serde_json::json!(merged), serde_json::json!({"a": 1.0, "c": "x"}));
/// # Ok::<(), helm_engine::Error>(())
/// ```
pub fn coalesce(chart: &Chart, values: &Map<String, Value>) -> Result<Map<String, Value>, Error> {
    let mut merged = values.clone();
    coalesce_chart(chart, &mut merged, false)?;
    Ok(merged)
}

fn coalesce_chart(
    chart: &Chart,
    values: &mut Map<String, Value>,
    merge: bool,
) -> Result<(), Error> {
    for (key, default) in &chart.values {
        let inner = chart.dependencies.iter().any(|inner| inner.name() == key);
        take_default(values, key, default.clone(), merge, merge || inner);
    }
    for inner in &chart.dependencies {
        let mut below = match values.remove(inner.name()) {
            None => Map::new(),
            Some(Value::Object(map)) => map,
            Some(_) => {
                return Err(Error::Values {
                    origin: chart.name().to_owned(),
                    reason: format!(
                        "{} is the name of a chart inside, so it must be a map",
                        inner.name()
                    ),
                });
            }
        };
        share_globals(&mut below, values);
        coalesce_chart(inner, &mut below, merge)?;
        values.insert(inner.name().to_owned(), Value::Object(below));
    }
    Ok(())
}

/// Fills in one default under what the user set. `deep_merge` is for charts inside, whose own pass removes nulls later.
fn take_default(
    values: &mut Map<String, Value>,
    key: &str,
    mut default: Value,
    merge: bool,
    deep_merge: bool,
) {
    match values.get_mut(key) {
        Some(Value::Null) if !merge => {
            values.remove(key);
        }
        Some(Value::Object(set)) => {
            if let Value::Object(mut default) = default {
                if !deep_merge {
                    drop_nulls(&mut default);
                }
                fill(set, default, deep_merge);
            }
        }
        Some(_) => {}
        None => {
            if !merge {
                if default.is_null() {
                    return;
                }
                if let Value::Object(map) = &mut default {
                    drop_nulls(map);
                }
            }
            values.insert(key.to_owned(), default);
        }
    }
}

/// Fills `set` with what it lacks of `defaults`; a null in `set` removes what the defaults have.
fn fill(set: &mut Map<String, Value>, defaults: Map<String, Value>, merge: bool) {
    for (key, default) in defaults {
        match (set.get_mut(&key), default) {
            (None, default) => {
                set.insert(key, default);
            }
            (Some(Value::Null), default) => {
                if !merge && !default.is_null() {
                    set.remove(&key);
                }
            }
            (Some(Value::Object(set)), Value::Object(default)) => fill(set, default, merge),
            (Some(_), _) => {}
        }
    }
}

fn drop_nulls(map: &mut Map<String, Value>) {
    map.retain(|_, value| {
        if let Value::Object(map) = value {
            drop_nulls(map);
        }
        !value.is_null()
    });
}

/// Copies `global` of the outer chart into the inner one's values; the outer one wins.
fn share_globals(inner: &mut Map<String, Value>, outer: &Map<String, Value>) {
    let empty = Map::new();
    let shared = match outer.get("global") {
        None => &empty,
        Some(Value::Object(map)) => map,
        Some(_) => return,
    };
    let Value::Object(globals) = inner
        .entry("global")
        .or_insert_with(|| Value::Object(Map::new()))
    else {
        return;
    };
    for (key, value) in shared {
        match (globals.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                let mut merged = new.clone();
                fill(&mut merged, std::mem::take(old), true);
                *old = merged;
            }
            // A table and something else under one name: the table stays.
            (Some(Value::Object(_)), _) => {}
            (Some(_), Value::Object(_)) => {}
            (_, value) => {
                globals.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => unreachable!("{other}"),
        }
    }

    fn chart(values: Value) -> Chart {
        Chart {
            values: map(values),
            ..Chart::default()
        }
    }

    #[test]
    fn user_values_win_and_null_removes() {
        let chart = chart(
            json!({"a": 1, "b": {"x": 1, "y": 2, "n": null}, "gone": 1, "none": null, "list": [1]}),
        );
        let user = map(
            json!({"b": {"x": null, "z": null}, "gone": null, "new": null, "list": [2, 3], "a": {"t": 1}}),
        );
        let merged = Value::Object(coalesce(&chart, &user).unwrap());
        assert_eq!(
            merged,
            json!({"b": {"z": null, "y": 2}, "new": null, "list": [2, 3], "a": {"t": 1}})
        );
    }

    #[test]
    fn charts_inside_get_their_section_and_the_globals() {
        let mut outer = chart(json!({"global": {"hub": "h", "deep": {"a": 1}}, "sub": {"x": 2}}));
        let mut inner = chart(json!({"x": 1, "y": 1, "global": {"hub": "own", "tag": "t"}}));
        inner.metadata.name = "sub".into();
        outer.dependencies.push(inner);
        let merged = Value::Object(coalesce(&outer, &map(json!({"sub": {"y": null}}))).unwrap());
        assert_eq!(
            merged["sub"],
            json!({"x": 2, "global": {"hub": "h", "deep": {"a": 1}, "tag": "t"}})
        );
        let error = coalesce(&outer, &map(json!({"sub": 1})))
            .unwrap_err()
            .to_string();
        assert!(error.contains("must be a map"), "{error}");
    }

    #[test]
    fn files_are_laid_over_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("a.yaml"), folder.path().join("b.yaml")];
        std::fs::write(&paths[0], "a: {x: 1, k: 2}\n").unwrap();
        std::fs::write(&paths[1], "a: {x: null}\n---\nb: yes\n").unwrap();
        assert_eq!(
            Value::Object(merge_files(&paths).unwrap()),
            json!({"a": {"x": null, "k": 2.0}, "b": true})
        );
        std::fs::write(&paths[1], "- 1\n").unwrap();
        assert!(
            merge_files(&paths)
                .unwrap_err()
                .to_string()
                .contains("b.yaml")
        );
    }
}
