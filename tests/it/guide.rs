//! The guide's commands, in its order, end as it says and print what it shows.

use std::{fs, os::unix::fs::symlink};

use crate::kit::{Session, repository};

/// A fenced block: its kind, what is said after the kind, and its lines.
pub(crate) struct Block {
    pub(crate) kind: String,
    pub(crate) word: String,
    pub(crate) text: String,
}

pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = vec![];
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            continue;
        };
        let (kind, word) = info.split_once(' ').unwrap_or((info, ""));
        let text = lines.by_ref().take_while(|line| *line != "```");
        blocks.push(Block {
            kind: kind.into(),
            word: word.into(),
            text: text.map(|line| format!("{line}\n")).collect(),
        });
    }
    blocks
}

/// Whether a text is as shown: `…` in a line stands for anything in it, a line of it for any lines.
fn as_shown(shown: &[&str], said: &[&str]) -> bool {
    match (shown, said) {
        ([], []) => true,
        (["…", rest @ ..], _) => (0..=said.len()).any(|skip| as_shown(rest, &said[skip..])),
        ([first, shown @ ..], [line, said @ ..]) => fits(first, line) && as_shown(shown, said),
        _ => false,
    }
}

fn fits(shown: &str, line: &str) -> bool {
    let Some((start, rest)) = shown.split_once('…') else {
        return shown.trim_end() == line.trim_end();
    };
    line.strip_prefix(start).is_some_and(|left| {
        left.char_indices().any(|(at, _)| fits(rest, &left[at..])) || rest.is_empty()
    })
}

#[test]
fn what_is_shown_may_leave_things_out() {
    assert!(as_shown(&["a … c", "…", "z"], &["a b c", "d", "z"]));
    assert!(as_shown(&["…", "z"], &["z"]));
    assert!(!as_shown(&["a … c"], &["a b d"]));
    assert!(!as_shown(&["a"], &["a", "b"]));
}

#[test]
fn the_guide_holds_on_embedded_clusters() {
    let page = fs::read_to_string(repository().join("docs/guide.md")).unwrap();
    let user = Session::new();
    let programs = user.home().join("bin");
    fs::create_dir(&programs).unwrap();
    symlink(env!("CARGO_BIN_EXE_meshlink"), programs.join("meshlink")).unwrap();
    let path = format!("{}:/usr/bin:/bin", programs.display());
    let user = user.var("PATH", &path);
    let _clusters = user.sandbox("");
    let mut said = String::new();
    let mut ran = 0;
    for block in blocks(&page) {
        match block.kind.as_str() {
            "yaml" => fs::write(user.here().join(&block.word), &block.text).unwrap(),
            "sh" => {
                let want = block.word.strip_prefix("exit=").unwrap_or("0");
                let script = block.text.replace('\n', " --sandbox\n");
                let answer = user.shell(&script);
                assert_eq!(answer.code, want.parse().ok(), "{script}{answer}");
                said = answer.stdout;
                ran += 1;
            }
            "text" => {
                let (shown, lines) = (
                    block.text.lines().collect::<Vec<_>>(),
                    said.lines().collect::<Vec<_>>(),
                );
                assert!(
                    as_shown(&shown, &lines),
                    "the guide shows\n{}\nbut it was\n{said}",
                    block.text
                );
            }
            other => panic!("the guide has a block of kind {other:?}"),
        }
    }
    assert!(ran > 5, "the guide holds only {ran} commands");
}
