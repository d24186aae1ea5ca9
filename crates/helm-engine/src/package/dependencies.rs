//! Which of the charts inside are used: `condition`, `tags` and `alias` in `Chart.yaml`.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::Chart;
use crate::{Error, template::semver, values};

/// The chart with those charts inside that the values ask for.
pub(crate) fn enabled<'c>(
    chart: &'c Chart,
    user: &Map<String, Value>,
) -> Result<Cow<'c, Chart>, Error> {
    if chart.dependencies.is_empty() {
        return Ok(Cow::Borrowed(chart));
    }
    let mut chart = chart.clone();
    select(&mut chart, user, "")?;
    Ok(Cow::Owned(chart))
}

fn select(chart: &mut Chart, user: &Map<String, Value>, path: &str) -> Result<(), Error> {
    let wanted: Vec<Map<String, Value>> = chart
        .metadata
        .document
        .get("dependencies")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .cloned()
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut inner: Vec<Chart> = chart
        .dependencies
        .iter()
        .filter(|inner| !wanted.iter().any(|entry| names(entry, inner)))
        .cloned()
        .collect();
    for entry in &wanted {
        if let Some(found) = chart.dependencies.iter().find(|inner| names(entry, inner)) {
            let mut found = found.clone();
            if let Some(alias) = entry
                .get("alias")
                .and_then(Value::as_str)
                .filter(|alias| !alias.is_empty())
            {
                alias.clone_into(&mut found.metadata.name);
                found
                    .metadata
                    .document
                    .insert("name".to_owned(), alias.into());
            }
            inner.push(found);
        }
    }
    chart.dependencies = inner;
    let merged = values::coalesce(chart, user)?;
    let off: Vec<String> = wanted
        .iter()
        .filter(|entry| !is_on(entry, &merged, path))
        .map(|entry| own_name(entry).to_owned())
        .collect();
    chart
        .dependencies
        .retain(|inner| !off.iter().any(|name| name == inner.name()));
    for inner in &mut chart.dependencies {
        let path = format!("{path}{}.", inner.name());
        select(inner, &merged, &path)?;
    }
    Ok(())
}

fn own_name(entry: &Map<String, Value>) -> &str {
    let text = |key: &str| {
        entry
            .get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    text("alias").or_else(|| text("name")).unwrap_or_default()
}

fn names(entry: &Map<String, Value>, chart: &Chart) -> bool {
    let range = entry
        .get("version")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let fits = match (
        semver::Range::parse(range),
        semver::parse(&chart.metadata.version),
    ) {
        (Ok(range), Ok(version)) => range.holds(&version),
        _ => false,
    };
    entry.get("name").and_then(Value::as_str) == Some(chart.name()) && fits
}

/// A condition that is there decides; without one the tags do; without those it is on.
fn is_on(entry: &Map<String, Value>, values: &Map<String, Value>, path: &str) -> bool {
    let conditions = entry
        .get("condition")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let decided = conditions
        .split(',')
        .map(str::trim)
        .filter(|condition| !condition.is_empty())
        .find_map(|condition| {
            let mut keys = format!("{path}{condition}");
            keys.insert(0, '/');
            Value::Object(values.clone())
                .pointer(&keys.replace('.', "/"))
                .and_then(Value::as_bool)
        });
    decided.unwrap_or_else(|| {
        let tags = entry
            .get("tags")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        let flags: Vec<bool> = tags
            .filter_map(|tag| values.get("tags")?.get(tag)?.as_bool())
            .collect();
        flags.is_empty() || flags.contains(&true)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::File;
    use serde_json::json;

    fn chart() -> Chart {
        let file = |name: &str, text: &str| File {
            name: name.into(),
            data: text.as_bytes().to_vec(),
        };
        let files = vec![
            file(
                "Chart.yaml",
                "name: outer\nversion: 1.0.0\napiVersion: v2\ndependencies:\n- {name: a, version: 1.x, condition: a.enabled}\n- {name: b, version: '*', tags: [extra]}\n- {name: b, version: '*', alias: c}\n",
            ),
            file("charts/a/Chart.yaml", "name: a\nversion: 1.2.0\n"),
            file("charts/b/Chart.yaml", "name: b\nversion: 0.1.0\n"),
        ];
        Chart::from_files(files, "test").unwrap()
    }

    #[test]
    fn conditions_tags_and_aliases_choose() {
        for (user, expected) in [
            (json!({}), vec!["a", "b", "c"]),
            (json!({"a": {"enabled": false}}), vec!["b", "c"]),
            (json!({"tags": {"extra": false}}), vec!["a", "c"]),
        ] {
            let chart = chart();
            let chosen = enabled(&chart, user.as_object().unwrap()).unwrap();
            assert_eq!(
                chosen
                    .dependencies
                    .iter()
                    .map(Chart::name)
                    .collect::<Vec<_>>(),
                expected,
                "{user}"
            );
        }
    }
}
