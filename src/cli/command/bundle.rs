//! `meshlink bundle`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    cli::{
        Frame,
        args::Bundle,
        error::{Exit, Failure},
        output::{
            Style,
            json::{self, Document},
            page::Drawn,
            plain::count,
            write,
        },
        session::{Selection, Session},
    },
    doctor::{self, Level, Scope},
    link::bundle::LeftOut,
};

/// An archive that was written.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Bundled {
    /// Where it is.
    path: String,
    /// How large it is.
    bytes: usize,
    /// The members it is about.
    clusters: Vec<String>,
    /// The causes that were found, which are in it.
    findings: usize,
    /// What is not in it, and why.
    left_out: Vec<LeftOut>,
}

impl Document for Bundled {
    const SCHEMA: &'static str = "bundle";
}

/// Runs it: 0 if every member could be read, 6 if one could not.
pub(crate) async fn run(args: Bundle, frame: &Frame) -> Result<Exit, Failure> {
    let session = Session::open(Selection::Some(&args.clusters), &args.target, frame).await?;
    let strangers = session.tells_strangers(frame);
    let link = &session.link;
    let (mut examination, mut files) = tokio::select! {
        gathered = link.gather() => gathered?,
        () = frame.cancel.cancelled() => return Err(Failure::interrupted()),
    };
    let mut diagnosis = doctor::diagnose(&examination.reading, &Scope::default());
    for finding in &mut diagnosis.findings {
        frame.hints.settle(std::slice::from_mut(&mut finding.fix));
    }
    frame.hints.settle_verdict(&mut examination.verdict);
    frame.hints.settle_ends(&mut examination.reading.ends);
    let page = Drawn {
        link,
        examination: &examination,
        diagnosis: &diagnosis,
    };
    files.put("index.html", page.render().into_bytes());
    files.put("findings.json", json::document(&diagnosis)?.into_bytes());
    files.put(
        "hints.json",
        json::json(&frame.hints.record())?.into_bytes(),
    );
    let left_out = files.left_out().to_vec();
    let archive = link.pack(files).map_err(|error| Failure::failed(&error))?;
    let path = args.to.unwrap_or_else(|| {
        let time = frame.now().strftime("%Y%m%d-%H%M%S");
        PathBuf::from(format!("meshlink-{}-{time}.tar.gz", link.mesh().id))
    });
    write(&path, &archive)?;
    let unread = &examination.reading.observed.unreachable;
    let errors = diagnosis.count(Level::Error);
    let bundled = Bundled {
        path: path.display().to_string(),
        bytes: archive.len(),
        clusters: link.mesh().members().into_iter().map(Into::into).collect(),
        findings: diagnosis.findings.len(),
        left_out,
    };
    let verbose = frame.screen.verbose > 0;
    frame
        .screen
        .show(&bundled, |style| render(&bundled, errors, verbose, style))?;
    Ok(match () {
        () if strangers => Exit::NotInTime,
        () if !unread.is_empty() => Exit::PartlyDone,
        () => Exit::Done,
    })
}

fn render(bundled: &Bundled, errors: usize, verbose: bool, style: Style) -> String {
    let mut text = String::new();
    let left_out = &bundled.left_out;
    for LeftOut { what, why } in left_out.iter().filter(|_| verbose) {
        text += &format!("left out: {what}: {why}\n");
    }
    if !left_out.is_empty() && !verbose {
        let n = count(left_out.len(), "file");
        text += &format!(
            "{}\n",
            style.dim(&format!("{n} left out; -v says which and why"))
        );
    }
    text + &format!(
        "{}: {} over {}, {}\nindex.html in it is for a browser; with another meshlink: meshlink doctor --from {}\n",
        bundled.path,
        count(bundled.bytes.div_ceil(1024), "KiB").trim_end_matches('s'),
        count(bundled.clusters.len(), "member"),
        match errors {
            0 => count(bundled.findings, "finding"),
            n => format!(
                "{}, {}",
                count(bundled.findings, "finding"),
                count(n, "error")
            ),
        },
        crate::hint::word(&bundled.path),
    )
}
