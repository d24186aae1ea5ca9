//! What is asked of the repository itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::kit::repository;

/// What git tracks; every file, where this is not a checkout.
fn tracked() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(repository())
        .output();
    match listed {
        Ok(output) if output.status.success() => {
            let names = String::from_utf8(output.stdout).unwrap();
            let names = names.split_terminator('\0').map(PathBuf::from);
            names
                .filter(|name| repository().join(name).is_file())
                .collect()
        }
        _ => walk(Path::new("src")),
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository().join(folder)).unwrap();
    let paths = entries.map(|entry| folder.join(entry.unwrap().file_name()));
    paths
        .flat_map(|path| match repository().join(&path).is_dir() {
            true => walk(&path),
            false => vec![path],
        })
        .collect()
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(repository().join(path)).unwrap()).into_owned()
}

/// Rust files and their texts.
fn sources() -> Vec<(PathBuf, String)> {
    let rust = tracked()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ext| ext == "rs"));
    rust.map(|path| {
        let text = read(&path);
        (path, text)
    })
    .collect()
}

#[test]
fn no_private_key_token_or_kubeconfig_is_tracked() {
    // Put together here, so that this file does not find itself.
    let keys = ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "]
        .map(|kind| format!("-----BEGIN {kind}PRIVATE KEY-----\nM"));
    let token = format!("eyJhbGciOi{}", "JSUzI1NiIs");
    for path in tracked() {
        let text = read(&path);
        assert!(
            !keys.iter().any(|key| text.contains(key)),
            "a private key in {path:?}"
        );
        assert!(!text.contains(&token), "a token in {path:?}");
        let name = path.to_string_lossy();
        let is_secret = [".key", ".pem", ".p12", ".kubeconfig"]
            .iter()
            .any(|end| name.ends_with(end));
        assert!(!is_secret, "{path:?} looks like a secret");
    }
}

/// A file without the tests at its end.
fn code(text: &str) -> &str {
    let tests = text.find("#[cfg(test)]\nmod ");
    tests.map_or(text, |tests| &text[..tests])
}

#[test]
fn files_stay_short() {
    let mut lengths = vec![];
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= 600, "{path:?} has {lines} lines: part it");
        let is_code = path.starts_with("src")
            && !path.components().any(|part| part.as_os_str() == "tests")
            && !path.ends_with("tests.rs");
        if is_code {
            lengths.push(code(&text).lines().count());
        }
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median <= 200, "the median file has {median} lines");
}

#[test]
fn every_file_says_what_it_is() {
    for (path, text) in sources() {
        // What a file of tests is, its name says.
        if path.ends_with("tests.rs") {
            continue;
        }
        assert!(
            text.starts_with("//! "),
            "{path:?} does not begin with its own description"
        );
    }
}

#[test]
fn what_was_printed_is_not_read_again() {
    // What is made into text on the spot is no data: whoever needs a part of it takes the part.
    let printed = regex_lite::Regex::new(
        r"(?:\.to_string\(\)|\bformat!\([^()]*(?:\([^()]*\)[^()]*)*\))\s*\.(?:contains|starts_with|ends_with|strip_prefix|strip_suffix|split\w*|rsplit\w*|find|lines)\(",
    )
    .unwrap();
    // A hint says by its type whether it is a command.
    let hint = regex_lite::Regex::new(r"\bhints?\b[^\n]*(?::|->) *(?:Vec|Option)<String>").unwrap();
    // The resolver's error has no type that could be asked.
    let foreign = Path::new("src/cluster/failure.rs");
    let mut wrong = vec![];
    for (path, text) in sources().into_iter().filter(|(path, _)| path != foreign) {
        let is_product = room(&path).is_some_and(|room| depth(&room).is_some())
            && !path.components().any(|part| part.as_os_str() == "tests")
            && !path.ends_with("tests.rs");
        let text = code(&text);
        for rule in [&printed, &hint].into_iter().filter(|_| is_product) {
            let found = rule.find_iter(text).map(|found| found.as_str());
            wrong.extend(found.map(|found| format!("{}: {found}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Where something pauses that is no wait for a fact: a turn in a queue, a renewal, a failed call that is tried again, and where
/// a test asks for it.
const PAUSES: [&str; 7] = [
    "src/aws/rate.rs",
    "src/aws/session.rs",
    "src/cluster/wait/watch.rs",
    "src/cluster/wire.rs",
    "src/engine/crashpoint.rs",
    "src/engine/lock.rs",
    "src/engine/run.rs",
];

#[test]
fn waits_go_through_the_one_loop() {
    let pause = regex_lite::Regex::new(r"\b(sleep|sleep_until|interval)\(").unwrap();
    let is_wait = |path: &Path, text: &str| {
        path.starts_with("src")
            && !path.components().any(|part| part.as_os_str() == "tests")
            && !path.ends_with("tests.rs")
            && pause.is_match(code(text))
    };
    let found = sources().into_iter();
    let found = found.filter(|(path, text)| is_wait(path, text));
    let found: Vec<_> = found.map(|(path, _)| path).collect();
    let known = ["src/wait.rs"].iter().chain(&PAUSES);
    let unknown = found
        .iter()
        .filter(|path| !known.clone().any(|k| *path == Path::new(k)));
    let unknown: Vec<_> = unknown.collect();
    assert!(unknown.is_empty(), "wait with `wait::until`: {unknown:?}");
    assert_eq!(
        found.len(),
        PAUSES.len() + 1,
        "the list names files that do not pause"
    );
}

#[test]
fn our_variables_are_named_at_one_place() {
    let place = Path::new("src/cli/args/environment.rs");
    for (path, text) in sources() {
        let is_ours = path.starts_with("src") && !path.ends_with("tests.rs");
        if is_ours && path != place {
            let mut lines = code(&text).lines();
            // What the compiler is told is no variable of a user's.
            let named = |line: &&str| line.contains("\"MESHLINK_") && !line.contains("env!(");
            assert_eq!(lines.find(named), None, "{path:?} names a variable");
        }
    }
}

/// The rooms, from the outside in. A room uses only those further in, and never its equals.
const ROOMS: [&[&str]; 15] = [
    &["cli"],
    &["link"],
    &["report"],
    &["engine"],
    &["plan"],
    &["doctor", "workloads"],
    &["verify"],
    &["ends"],
    &["observe"],
    &["probe"],
    &["aws"],
    &["pki", "chart", "cluster", "resolve", "manifest"],
    &["spec", "owner"],
    &["wait"],
    &[
        "name", "digest", "hint", "causes", "file", "machine", "mutex", "net",
    ],
];

fn depth(room: &str) -> Option<usize> {
    ROOMS.iter().position(|row| row.contains(&room))
}

/// The room a source file belongs to.
fn room(path: &Path) -> Option<String> {
    let below = path.strip_prefix("src").ok()?;
    let first = below.components().next()?.as_os_str().to_str()?;
    Some(first.trim_end_matches(".rs").to_owned())
}

/// The rooms a text names after `crate::`, also in a braced list.
fn uses(text: &str) -> Vec<String> {
    let rule = regex_lite::Regex::new(r"\bcrate::(\w+)|\bcrate::\{([^;]*)\};").unwrap();
    let entry = regex_lite::Regex::new(r"^\w+").unwrap();
    let code = code(text)
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    rule.captures_iter(&code)
        .flat_map(|found| match (found.get(1), found.get(2)) {
            (Some(one), _) => vec![one.as_str().to_owned()],
            (_, Some(list)) => top_level(list.as_str()),
            _ => vec![],
        })
        .filter_map(|name| entry.find(&name).map(|found| found.as_str().to_owned()))
        .collect()
}

/// The parts of a braced list that are not inside an inner one.
fn top_level(list: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => parts.push(String::new()),
            _ if depth == 0 => parts.last_mut().unwrap().push(c),
            _ => {}
        }
    }
    parts
        .into_iter()
        .map(|part| part.trim().to_owned())
        .collect()
}

#[test]
fn lists_of_imports_are_understood() {
    let text = "use crate::{\n    a::{b, c},\n    d,\n};\nuse crate::e::F;\n// crate::no\nlet x = crate::g::h();";
    assert_eq!(uses(text), ["a", "d", "e", "g"]);
}

#[test]
fn crates_use_neither_the_root_package_nor_each_other() {
    for name in ["helm-engine", "istio-sandbox"] {
        let path = repository().join("crates").join(name).join("Cargo.toml");
        let manifest: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
        let used = manifest["dependencies"].as_table().unwrap();
        let ours = ["meshlink", "helm-engine", "istio-sandbox"];
        let found: Vec<_> = ours
            .iter()
            .filter(|ours| used.contains_key(**ours))
            .collect();
        assert!(found.is_empty(), "{name} uses {found:?}");
        // Tests may use what the product does not, never the product.
        let dev = manifest["dev-dependencies"].as_table().unwrap();
        assert!(!dev.contains_key("meshlink"), "{name}");
    }
}

#[test]
fn few_items_are_public() {
    let item = regex_lite::Regex::new(
        r"(?m)^\s*pub (async )?(const )?(fn|struct|enum|trait|type|mod|const|static|use)\b",
    )
    .unwrap();
    let count = |path: &str| {
        let all = sources().into_iter();
        let ours = all.filter(|(file, _)| file.starts_with(path) && !file.ends_with("fuzzing.rs"));
        ours.map(|(_, text)| item.find_iter(code(&text)).count())
            .sum::<usize>()
    };
    let counts = ["src", "crates/helm-engine/src", "crates/istio-sandbox/src"].map(count);
    let most = [189, 85, 188];
    assert!(
        counts.iter().zip(most).all(|(n, most)| *n <= most),
        "{counts:?}, not {most:?}"
    );
}

#[test]
fn arrows_point_inwards() {
    let mut wrong = vec![];
    for (path, text) in sources()
        .into_iter()
        .filter(|(path, _)| !path.ends_with("tests.rs"))
    {
        let Some(from) = room(&path).filter(|room| depth(room).is_some() || room == "sandbox")
        else {
            continue;
        };
        for to in uses(&text).into_iter().filter(|to| *to != from) {
            let allowed = match (depth(&from), depth(&to)) {
                (Some(outer), Some(inner)) => outer < inner,
                (_, None) => to != "sandbox" || from == "cli",
                (None, Some(_)) => true,
            };
            if !allowed {
                wrong.push(format!("{}: {from} uses {to}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
