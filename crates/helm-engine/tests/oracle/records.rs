//! A release record, read and written by Helm's own types.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use helm_engine::{Capabilities, Chart, Release, release::Record, render};
use serde_json::{Value, json};

/// What Helm makes of a record of ours; an error if what it writes back is not what we wrote.
pub(crate) fn judge(oracle: &Path, charts: &Path) -> Result<String, String> {
    let chart = Chart::from_path(&charts.join("istiod")).map_err(|error| error.to_string())?;
    let release = Release {
        name: "istiod",
        namespace: "istio-system",
        revision: 1,
        is_upgrade: false,
    };
    let config = json!({"global": {"meshID": "m", "n": 1.5}, "replicas": 2});
    let rendered = render(&chart, &config, &release, &Capabilities::default())
        .map_err(|error| error.to_string())?;
    let config = config.as_object().cloned().unwrap_or_default();
    let mut record = Record::new(
        &release,
        &chart,
        &config,
        &rendered,
        "2026-01-02T03:04:05Z",
        None,
    );
    record.deployed();
    let mut secret = record
        .to_secret(Some(1), None)
        .map_err(|error| error.to_string())?;
    let data = secret
        .pointer("/data/release")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let packed = STANDARD.decode(data).map_err(|error| error.to_string())?;
    let (written, seen) = rewrite(oracle, &packed)?;
    secret["data"]["release"] = STANDARD.encode(written).into();
    let back = Record::from_secret(&secret).map_err(|error| error.to_string())?;
    let same = back.manifest == record.manifest
        && back.config == record.config
        && back.status == record.status
        && back.notes == record.notes
        && back.first_deployed == record.first_deployed
        && back.chart.version == record.chart.version;
    let expected = format!(
        "istiod 1 deployed istiod-{} 2026-01-02T03:04:05Z",
        chart.metadata.version
    );
    if !same || seen.trim() != expected {
        return Err(format!(
            "Helm reads our record as {seen:?}, and writes it back {}",
            if same { "the same" } else { "changed" }
        ));
    }
    Ok(format!(
        "Helm reads {}, and what it writes back reads the same",
        seen.trim()
    ))
}

fn rewrite(oracle: &Path, packed: &[u8]) -> Result<(Vec<u8>, String), String> {
    let mut command = Command::new(oracle);
    let command = command
        .arg("record")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    // Helm's side reads everything before it writes anything.
    child
        .stdin
        .take()
        .ok_or("no input")?
        .write_all(packed)
        .map_err(|error| error.to_string())?;
    let output = child
        .wait_with_output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        Ok((output.stdout, said))
    } else {
        Err(format!("Helm refuses our record: {said}"))
    }
}
