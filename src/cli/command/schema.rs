//! `meshlink schema`: the JSON schema of an output.

use schemars::schema_for;
use serde_json::Value;

use crate::{
    cli::{
        Frame,
        args::Schema,
        error::{Exit, Failure},
        output::json,
    },
    plan::Plan,
    report::Report,
    spec::Mesh,
    verify::Verdict,
};

/// Every output, by the name it is asked for.
const SCHEMAS: [(&str, fn() -> Value); 12] = [
    ("mesh", Mesh::json_schema),
    ("plan", || schema_for!(Plan).into()),
    ("report", || schema_for!(Report).into()),
    ("verdict", || schema_for!(Verdict).into()),
    ("wait-nlb", || schema_for!(super::wait::Waited).into()),
    ("render", || schema_for!(super::render::Written).into()),
    ("chart-template", || {
        schema_for!(super::chart::Templated).into()
    }),
    ("chart-images", || schema_for!(super::chart::Listed).into()),
    ("chart-pull", || schema_for!(super::chart::Fetches).into()),
    ("sample", || schema_for!(super::sample::Samples).into()),
    ("sample-call", || schema_for!(super::sample::Calls).into()),
    ("failure", || schema_for!(json::Failed<'static>).into()),
];

/// Prints one, or the names of all.
pub(crate) fn run(args: &Schema, frame: &Frame) -> Result<Exit, Failure> {
    let names = SCHEMAS.map(|(name, _)| name).join("\n");
    let Some(wanted) = &args.name else {
        frame.screen.print(&names)?;
        return Ok(Exit::Done);
    };
    let found = SCHEMAS.iter().find(|(name, _)| name == wanted);
    let (_, schema) = found.ok_or_else(|| {
        let known = names.replace('\n', ", ");
        Failure::usage(format!(
            "there is no schema {wanted:?}: the names are {known}"
        ))
    })?;
    frame.screen.print(&json::json(&schema())?)?;
    Ok(Exit::Done)
}
