//! The catalogue of the checks, as `docs/checks.md` has it.

use super::{Level, When, table::GROUPS};

const HEAD: &str = "# What can be wrong\n
<!-- Made from the table of checks in src/doctor/table/; a test compares. -->\n
    meshlink doctor                          every cause that is found, with its evidence and one command
    meshlink doctor eks-1                    what has to do with eks-1
    meshlink doctor --short                  a line for each
    meshlink doctor --only gateway-closed    one check, or several
    meshlink doctor --before-join eks-1 eks-2    before anything is installed
    meshlink doctor --fix                    do what mends it without keys and restarts, and look again
    meshlink doctor --list                   # this page in short\n
It changes nothing. It looks on when a cause was found, with a member down, and with few rights. What could not be looked
at is said, with the checks that were not made for it, and does not count as well.\n
Exit 0: every check could look at every member, and no error was found. Exit 7: an error was found. Exit 6: something could not
be looked at, whatever else was found. Exit 4: a cluster that was named is not a member. Warnings and notes change no exit code; notes are
shown with `-v`. In JSON (`-o json`, schema: `meshlink schema diagnosis`) all of them are there.\n
What a check finds has a path such as `no-common-root/eks-2`. The names stay. What a command prints as `hint:` can be pasted;
`join again` below means the join of all members, which changes only what is not as it should be.\n
It mends nothing unless it is asked to: keys and restarts are for somebody to decide. The command that mends most of what is found is
`meshlink join`, which plans, asks and proves. `meshlink doctor --fix` does that part of such a join which needs no key, no chart and no
restart: namespaces and their network label, the gateway's Service, the `Gateway` object, reader accounts and remote secrets (not where
the version of istiod would have to be restarted for it). It plans, asks, takes the Leases and proves as a join does, names what it left, and
then looks again.\n";

/// The page.
pub(super) fn page() -> String {
    let mut text = HEAD.to_owned();
    for (about, checks) in GROUPS {
        text += &format!("\n## {about}\n");
        for check in *checks {
            let level = match check.level {
                Level::Note => "A note",
                Level::Warning => "A warning",
                Level::Error => "An error",
            };
            let when = match check.when {
                When::Joined => "",
                When::BeforeJoin => ", with `--before-join`",
                When::Always => ", also with `--before-join`",
            };
            text += &format!(
                "\n### `{}`\n\n{level}{when}.\n\n- looks at: {}\n- cause: {}\n- what to do: {}\n",
                check.id, check.looks, check.cause, check.mend
            );
        }
    }
    text
}
