//! `meshlink completions`: the script by which a shell asks this program for completions.

use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

use crate::cli::{
    Frame,
    args::{Completions, Shell, environment::variable::COMPLETE},
    error::{Exit, Failure},
};

/// Prints it. The script asks again at every key, so it completes cluster names too.
pub(crate) fn run(args: &Completions, frame: &Frame) -> Result<Exit, Failure> {
    let shell: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    shell
        .write_registration(COMPLETE, "meshlink", "meshlink", "meshlink", &mut script)
        .map_err(|error| Failure::failed(&error))?;
    frame.screen.print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
