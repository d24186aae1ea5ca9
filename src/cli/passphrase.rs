//! The passphrase of the root keys in the vault: from a file that is named, or typed on a terminal. It is never an argument.

use std::{
    fs::File,
    io::{self, BufRead as _, Read as _, Write as _},
    path::Path,
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::{Frame, error::Failure};
use crate::pki::{Vault, vault::Passphrase};

/// No passphrase is longer.
const MOST: usize = 4096;

/// That of a file.
pub(crate) fn in_file(path: &Path) -> Result<Passphrase, Failure> {
    let shown = path.display();
    let unread =
        |e: io::Error| Failure::usage(format!("cannot read the passphrase in {shown}: {e}"));
    // Sized once: growing would leave copies behind that nobody wipes.
    let mut text = Zeroizing::new(Vec::with_capacity(MOST + 1));
    let file = File::open(path).map_err(unread)?;
    file.take(MOST as u64)
        .read_to_end(&mut text)
        .map_err(unread)?;
    Passphrase::new(&text).ok_or_else(|| Failure::usage(format!("no passphrase is in {shown}")))
}

/// Gives a vault the passphrase that is named, if one is.
pub(crate) fn given(vault: &Vault, frame: &Frame) -> Result<(), Failure> {
    if let Some(path) = &frame.environment.own.passphrase {
        vault.unlock(Some(in_file(path)?));
    }
    Ok(())
}

/// Asks for that of a vault, where it is needed and was not given.
pub(crate) fn needed(vault: &Vault, frame: &Frame) -> Result<(), Failure> {
    if vault.is_locked().map_err(|e| Failure::failed(&e))? {
        vault.unlock(typed("Passphrase of the vault: ", frame)?);
    }
    Ok(())
}

/// What is typed on the terminal, which does not show it; none where nobody can type.
pub(crate) fn typed(question: &str, frame: &Frame) -> Result<Option<Passphrase>, Failure> {
    if !frame.screen.interactive {
        return Ok(None);
    }
    let failed = |e: io::Error| Failure::failed(&e);
    let hidden = Hidden::begin().map_err(failed)?;
    let mut err = io::stderr().lock();
    write!(err, "{question}")
        .and_then(|()| err.flush())
        .map_err(failed)?;
    let mut line = Zeroizing::new(Vec::with_capacity(MOST + 1));
    let stdin = io::stdin().lock();
    let read = stdin.take(MOST as u64).read_until(b'\n', &mut line);
    drop(hidden);
    writeln!(err).map_err(failed)?;
    read.map_err(failed)?;
    Ok(Passphrase::new(&line))
}

/// A terminal that does not show what is typed, as long as it is there.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that has gone shows nothing any more.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
