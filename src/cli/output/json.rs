//! Results for programs. Each is a [`Document`]: one object with the version of its schema at the top, keys in snake case.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::error::Failure;

/// The version of all schemas. What is added does not change it; what is renamed, removed or means something else does.
pub(crate) const VERSION: u32 = 1;

/// What a command shows to programs.
pub(crate) trait Document: Serialize + JsonSchema {
    /// The name its schema is asked for by.
    const SCHEMA: &'static str;
}

#[derive(Serialize)]
struct Versioned<'a, T> {
    schema_version: u32,
    #[serde(flatten)]
    document: &'a T,
}

fn versioned<T>(document: &T) -> Versioned<'_, T> {
    Versioned {
        schema_version: VERSION,
        document,
    }
}

/// A document as indented JSON.
pub(crate) fn document<D: Document>(document: &D) -> Result<String, Failure> {
    json(&versioned(document))
}

/// The same document in YAML.
pub(crate) fn yaml<D: Document>(document: &D) -> Result<String, Failure> {
    let value = serde_json::to_value(versioned(document)).map_err(|e| Failure::failed(&e))?;
    serde_saphyr::to_string(&value).map_err(|error| Failure::failed(&error))
}

/// Indented JSON that is no document of ours: a schema, a policy.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::failed(&error))
}

/// The schema of a document, as it is written.
pub(crate) fn schema<D: Document>() -> (&'static str, Value) {
    let mut schema = of::<D>();
    schema["properties"]["schema_version"] =
        json!({"description": "The version of this schema.", "const": VERSION});
    if let Some(required) = schema["required"].as_array_mut() {
        required.insert(0, "schema_version".into());
    } else {
        schema["required"] = json!(["schema_version"]);
    }
    (D::SCHEMA, schema)
}

/// The schema of a type, as it is written: what may be left out is not required.
pub(crate) fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<T>().into()
}

/// How a failed command looks to a program.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Failed<'a> {
    /// The exit code.
    pub(crate) exit_code: u8,
    /// What went wrong.
    pub(crate) failure: &'a Failure,
}

impl Document for Failed<'_> {
    const SCHEMA: &'static str = "failure";
}

impl Document for crate::plan::Plan {
    const SCHEMA: &'static str = "plan";
}

impl Document for crate::report::Report {
    const SCHEMA: &'static str = "report";
}

impl Document for crate::verify::Verdict {
    const SCHEMA: &'static str = "verdict";
}
