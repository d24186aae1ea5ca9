//! `meshlink man`: the manual, a page per command.

use std::{fs, io, path::Path};

use clap::CommandFactory;
use clap_mangen::Man as Page;

use crate::cli::{
    Frame,
    args::{Args, Man, environment::variable},
    error::{Exit, Failure},
};

/// Writes it.
pub(crate) fn run(args: &Man, frame: &Frame) -> Result<Exit, Failure> {
    // The commit would make every build's pages differ.
    let mut program = Args::command()
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true);
    program.build();
    fs::create_dir_all(&args.out)
        .and_then(|()| write(&program, &args.out, true))
        .map_err(|error| Failure::failed(&error))?;
    frame
        .screen
        .say(&format!("written to {}", args.out.display()));
    Ok(Exit::Done)
}

fn write(command: &clap::Command, folder: &Path, is_whole: bool) -> io::Result<()> {
    for below in command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        write(below, folder, false)?;
    }
    let page = Page::new(command.clone()).manual("meshlink");
    let mut text = Vec::new();
    page.render(&mut text)?;
    if is_whole {
        text.extend(variables().into_bytes());
        text.extend(exit_codes().into_bytes());
    }
    fs::write(folder.join(page.get_filename()), text)
}

/// The section that documents the variables, from the table beside those who read them.
fn variables() -> String {
    let head = ".SH ENVIRONMENT\n".to_owned();
    variable::ALL.iter().fold(head, |text, (name, meaning)| {
        let meaning = meaning.replace('-', "\\-");
        format!("{text}.TP\n\\fB{name}\\fR\n{meaning}\n")
    })
}

/// The section that documents the exit codes, from the table the program itself uses.
fn exit_codes() -> String {
    let head = ".SH \"EXIT STATUS\"\n".to_owned();
    Exit::ALL.iter().fold(head, |text, exit| {
        format!("{text}.TP\n\\fB{}\\fR\n{}\n", exit.code(), exit.meaning())
    })
}
