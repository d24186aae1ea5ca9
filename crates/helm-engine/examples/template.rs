//! `helm template` in Rust: fetches a chart, merges values, and prints what it renders to.
//!
//! `cargo run -p helm-engine --example template -- CHART [--repo URL] [--version V] [-f values.yaml]… [--set a=b]…
//! [--name NAME] [--namespace NS] [--include-crds]`: CHART is a folder, an archive, `oci://host/path/NAME`, or a name in
//! the repository.

use std::{env, error::Error, path::PathBuf, time::SystemTime};

use helm_engine::{
    Capabilities, FetchOptions, Options, Release, Source, fetch, render_with, values,
};

#[derive(Default)]
struct Args {
    chart: String,
    repository: String,
    version: String,
    files: Vec<PathBuf>,
    set: Vec<String>,
    name: Option<String>,
    namespace: Option<String>,
    include_crds: bool,
}

fn read(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args = Args::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--repo" => args.repository = value()?,
            "--version" => args.version = value()?,
            "-f" | "--values" => args.files.push(value()?.into()),
            "--set" => args.set.push(value()?),
            "--name" => args.name = Some(value()?),
            "-n" | "--namespace" => args.namespace = Some(value()?),
            "--include-crds" => args.include_crds = true,
            chart if args.chart.is_empty() && !chart.starts_with('-') => args.chart = word,
            _ => return Err(format!("{word} is not understood")),
        }
    }
    Ok(args)
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a program's output")]
#[expect(clippy::print_stderr, reason = "a program's warnings")]
#[expect(clippy::disallowed_methods, reason = "a program may look at the clock")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = read(env::args().skip(1))?;
    let (source, name) = Source::of_chart(&args.chart, &args.repository)?;
    let fetched = fetch(&source, &name, &args.version, &FetchOptions::default()).await?;

    let mut values = values::merge_files(&args.files)?;
    for set in &args.set {
        values::set_path(&mut values, set)?;
    }
    let release = Release::install(
        args.name.as_deref().unwrap_or("release-name"),
        args.namespace.as_deref().unwrap_or("default"),
    );
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let options = Options {
        now: Some(now.as_secs().try_into()?),
        ..Options::default()
    };
    let cluster = Capabilities::default();
    let rendered = render_with(&fetched.chart, &values.into(), &release, &cluster, &options)?;
    for warning in &rendered.warnings {
        eprintln!("warning: {warning}");
    }
    let text = rendered.template_text(args.include_crds.then_some(&fetched.chart));
    print!("{text}");
    Ok(())
}
