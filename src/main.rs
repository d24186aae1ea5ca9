//! The `meshlink` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    meshlink::cli::main()
}
