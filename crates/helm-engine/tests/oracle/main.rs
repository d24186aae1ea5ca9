//! Charts judged by Helm itself: many value sets are rendered by its engine (a Go program) and by ours, and compared.
//!
//! `cargo test -p helm-engine --test oracle -- --slice` renders a few hundred sets, `--full` more than five thousand; without
//! either nothing is done, because the oracle needs a Go toolchain and fetches the official charts. A missing
//! toolchain is a skip, unless `--strict` says that it must be there.

mod cases;
mod judge;
mod records;
mod snippets;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

struct Options {
    sets: usize,
    strict: bool,
    seed: u64,
    charts: Option<PathBuf>,
    show: usize,
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        say("oracle: skipped; ask with --slice or --full");
        return ExitCode::SUCCESS;
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) if reason.starts_with("skipped") && !options.strict => {
            say(&format!("oracle: {reason}"));
            ExitCode::SUCCESS
        }
        Err(reason) => {
            say(&format!("oracle: {reason}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a program of its own")]
fn options() -> Option<Options> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let value = |flag: &str| {
        args.iter()
            .position(|arg| arg == flag)
            .and_then(|at| args.get(at + 1))
    };
    let sets = match value("--sets").and_then(|text| text.parse().ok()) {
        Some(sets) => sets,
        None if has("--full") => 5_200,
        None if has("--slice") => 300,
        None => return None,
    };
    let seed = value("--seed")
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    let show = value("--show")
        .and_then(|text| text.parse().ok())
        .unwrap_or(10);
    Some(Options {
        sets,
        strict: has("--strict"),
        seed,
        charts: value("--charts").map(PathBuf::from),
        show,
    })
}

fn run(options: &Options) -> Result<bool, String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle");
    let work = Path::new(env!("CARGO_TARGET_TMPDIR")).join("oracle");
    std::fs::create_dir_all(&work).map_err(|error| error.to_string())?;
    let oracle = work.join("oracle");
    build(&here, &oracle)?;
    let charts = match &options.charts {
        Some(charts) => charts.clone(),
        None => {
            let charts = work.join("charts");
            succeed(Command::new(&oracle).arg("charts").arg(&charts))?;
            charts
        }
    };
    let cases = cases::generate(&charts, options.sets, options.seed)?;
    let report = judge::judge(&oracle, &cases)?;
    say(&report.text(options.show));
    let record = records::judge(&oracle, &charts)?;
    say(&format!("  release record: {record}"));
    let (count, differences) = snippets::judge(&oracle, &work, options.seed)?;
    say(&format!(
        "  single templates: {} of {count} alike",
        count - differences.len()
    ));
    for difference in differences.iter().take(options.show) {
        say(&format!("- {difference}"));
    }
    Ok(report.passed() && differences.is_empty())
}

fn build(source: &Path, oracle: &Path) -> Result<(), String> {
    if Command::new("go").arg("version").output().is_err() {
        return Err("skipped: no Go toolchain".to_owned());
    }
    succeed(
        Command::new("go")
            .args(["build", "-trimpath", "-o"])
            .arg(oracle)
            .arg(".")
            .current_dir(source),
    )
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| error.to_string())?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?} failed: {status}"))
    }
}

#[expect(clippy::print_stdout, reason = "a program's report")]
fn say(text: &str) {
    println!("{text}");
}
