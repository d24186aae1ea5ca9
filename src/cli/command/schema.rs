//! `meshlink schema`: the JSON schema of an output.

use serde_json::Value;

use crate::{
    cli::{
        Frame,
        args::Schema,
        error::{Exit, Failure},
        output::json::{self, Failed, schema},
    },
    doctor::Diagnosis,
    plan::Plan,
    report::Report,
    spec::Mesh,
    verify::Verdict,
};

/// Every output, and the mesh file, by the name it is asked for.
fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("mesh", Mesh::json_schema()),
        schema::<Plan>(),
        schema::<Report>(),
        schema::<Verdict>(),
        schema::<Diagnosis>(),
        schema::<super::doctor::Catalogue>(),
        schema::<crate::workloads::Workloads>(),
        schema::<super::bundle::Bundled>(),
        schema::<super::wait::Waited>(),
        schema::<super::render::Written>(),
        schema::<super::chart::Templated>(),
        schema::<super::chart::Values>(),
        schema::<super::chart::Listed>(),
        schema::<super::chart::Fetches>(),
        schema::<super::sample::Samples>(),
        schema::<super::sample::Calls>(),
        schema::<super::ca::Made>(),
        schema::<super::ca::Certificates>(),
        schema::<super::ca::requests::Requested>(),
        schema::<super::ca::requests::Imported>(),
        schema::<super::ca::protect::Protected>(),
        schema::<crate::link::within::Renewed>(),
        schema::<super::rotate::Shown>(),
        schema::<super::upgrade::Shown>(),
        #[cfg(feature = "sandbox")]
        schema::<super::sandbox::Running>(),
        super::terraform::schema(),
        schema::<Failed<'static>>(),
    ]
}

/// Prints one, or the names of all.
pub(crate) fn run(args: &Schema, frame: &Frame) -> Result<Exit, Failure> {
    let schemas = schemas();
    let names: Vec<_> = schemas.iter().map(|(name, _)| *name).collect();
    let names = names.join("\n");
    let Some(wanted) = &args.name else {
        frame.screen.print(&names)?;
        return Ok(Exit::Done);
    };
    let found = schemas.iter().find(|(name, _)| name == wanted);
    let (_, schema) = found.ok_or_else(|| {
        let known = names.replace('\n', ", ");
        Failure::usage(format!(
            "there is no schema {wanted:?}: the names are {known}"
        ))
    })?;
    frame.screen.print(&json::json(schema)?)?;
    Ok(Exit::Done)
}
