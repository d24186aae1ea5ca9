//! Every command that a page or a hint tells of is one that the parser takes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{CommandFactory, Parser, error::ErrorKind};
use regex_lite::Regex;

use super::Args;

fn files(folder: &Path, ends: &str) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path, ends)),
            false if path.to_string_lossy().ends_with(ends) => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<(PathBuf, String)> {
    let all = [
        files(&repository().join("docs"), ".md"),
        files(&repository().join("examples"), ".md"),
    ];
    let top = ["README.md", "SECURITY.md"].map(|name| repository().join(name));
    let all = all.concat().into_iter().chain(top);
    all.map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect()
}

/// The words of a command up to a comment, a pipe or a redirection; quotes as a shell takes them.
fn words(text: &str) -> Vec<String> {
    let word = Regex::new(r#"'([^']*)'|"([^"]*)"|(\S+)"#).unwrap();
    let found = word.captures_iter(text).map(|c| {
        let any = [1, 2, 3].into_iter().find_map(|n| c.get(n));
        any.unwrap().as_str().to_owned()
    });
    found
        .take_while(|w| {
            !["#", "|", ">", "<", "&&", ";"].contains(&w.as_str()) && !w.starts_with('#')
        })
        .collect()
}

/// What is wrong with a command, if something is. One that is only named may lack what it needs.
fn wrong(text: &str, is_named: bool) -> Option<String> {
    let words = words(text);
    if words.iter().any(|w| w.contains('…')) && !is_named {
        return None;
    }
    let words = words.into_iter().filter(|w| !w.contains('…'));
    let error = Args::try_parse_from(words).err()?;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => None,
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            if is_named =>
        {
            None
        }
        _ => {
            let text = error.to_string();
            text.lines().next().map(str::to_owned)
        }
    }
}

/// All long flags of all commands.
fn flags(command: &clap::Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(|a| a.get_long());
    let own = own.map(|flag| format!("--{flag}"));
    own.chain(command.get_subcommands().flat_map(flags))
        .collect()
}

/// The commands and flags of a page, each with its line; one within a sentence may be no more than named.
fn told(text: &str) -> Vec<(usize, String, bool)> {
    let command = Regex::new(r"^(?:\s*(?:\$ |- run: )?)(meshlink .*)$").unwrap();
    let inline = Regex::new(r"`([^`]+)`").unwrap();
    let (mut found, mut fenced) = (vec![], false);
    for (n, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            let whole = command.captures_iter(line);
            found.extend(whole.map(|c| (n, c[1].to_owned(), false)));
        } else {
            let codes = inline.captures_iter(line).map(|c| c[1].to_owned());
            let ours = codes.filter(|c| c.starts_with("meshlink ") || c.starts_with("--"));
            found.extend(ours.map(|code| (n, code, true)));
        }
    }
    found
}

#[test]
fn commands_on_pages_are_commands() {
    let flags = flags(&Args::command());
    let (mut bad, mut seen) = (vec![], 0);
    for (path, text) in pages() {
        for (n, code, is_named) in told(&text) {
            seen += 1;
            let flag = code.split([' ', '=']).next().unwrap_or_default();
            let why = match flag.starts_with("--") {
                true if flags.iter().any(|known| known == flag) => None,
                true => Some("no command has it".to_owned()),
                false => wrong(&code, is_named),
            };
            bad.extend(why.map(|why| format!("{}:{n}: {code}: {why}", path.display())));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    assert!(seen > 60, "only {seen} commands were found");
}

#[test]
fn commands_in_hints_are_commands() {
    let built = Regex::new(r"Hint::(?:meshlink|other_mesh)\(\s*\[([^\]]*)\]").unwrap();
    let written = Regex::new(r#""(meshlink [a-z][^"\\]*)""#).unwrap();
    let prose = ["meshlink did ", "meshlink made ", "meshlink takes "];
    let (mut bad, mut seen) = (vec![], 0);
    let sources = files(&repository().join("src"), ".rs").into_iter();
    for path in sources.filter(|path| !path.ends_with("documented.rs")) {
        let text = fs::read_to_string(&path).unwrap();
        let code = text
            .find("#[cfg(test)]\nmod tests")
            .map_or(&text[..], |tests| &text[..tests]);
        let arrays = built.captures_iter(code).map(|found| {
            let words = found[1].split(',').map(str::trim).filter(|w| !w.is_empty());
            let mut command = "meshlink".to_owned();
            for word in words {
                let literal = word.strip_prefix('"').and_then(|w| w.strip_suffix('"'));
                // What is no literal is a name, or a version.
                let stands_for = match command.ends_with(" --to") {
                    true => "1.31.4",
                    false => "name",
                };
                command = format!("{command} {}", literal.unwrap_or(stands_for));
            }
            command
        });
        let texts = written
            .captures_iter(code)
            .map(|found| found[1].replace("{}", "name"));
        let texts = texts.filter(|text| !prose.iter().any(|p| text.starts_with(p)));
        for command in arrays.chain(texts) {
            seen += 1;
            if let Some(why) = wrong(&command, true) {
                bad.push(format!("{}: {command}: {why}", path.display()));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    assert!(seen > 20, "only {seen} hints were found");
}

#[test]
fn a_wrong_flag_is_noticed() {
    assert!(wrong("meshlink leave eks-1 --abandon-load-balancers", false).is_some());
    assert!(wrong("meshlink status --istiod-values v.yaml", true).is_some());
    assert_eq!(wrong("meshlink join a b   # why", false), None);
    assert_eq!(wrong("meshlink leave", true), None);
}
