//! The one filter between text and a terminal: what a terminal would obey, or not show, is shown as `\u{1b}`.
//!
//! Colours of our own are marks until here, so that an escape sequence in a text is never taken for one of them.

use std::fmt::Write;

use crate::hint::is_unseen;

/// What a part of a text is painted with, and the marks for it: noncharacters, which no text is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    Red,
    Green,
    Yellow,
    Cyan,
    Dim,
    Bold,
}

/// Ends what was painted.
const END: (char, &str) = ('\u{fdd0}', "0");

impl Paint {
    const ALL: [Self; 6] = [
        Self::Red,
        Self::Green,
        Self::Yellow,
        Self::Cyan,
        Self::Dim,
        Self::Bold,
    ];

    /// Its mark, and the parameters of the sequence that a terminal takes.
    fn mark(self) -> (char, &'static str) {
        match self {
            Self::Red => ('\u{fdd1}', "1;31"),
            Self::Green => ('\u{fdd2}', "32"),
            Self::Yellow => ('\u{fdd3}', "33"),
            Self::Cyan => ('\u{fdd4}', "36"),
            Self::Dim => ('\u{fdd5}', "2"),
            Self::Bold => ('\u{fdd6}', "1"),
        }
    }

    /// The text between marks.
    pub(super) fn around(self, text: &str) -> String {
        format!("{}{text}{}", self.mark().0, END.0)
    }
}

/// Whether a character is a mark, which takes no place on a line.
pub(super) fn is_mark(c: char) -> bool {
    parameters(c).is_some()
}

fn parameters(c: char) -> Option<&'static str> {
    let all = Paint::ALL.map(Paint::mark);
    let mut all = all.into_iter().chain([END]);
    all.find(|(mark, _)| *mark == c).map(|(_, code)| code)
}

/// Text that was laid out for a stream: marks become colours where it has them.
pub(crate) fn painted(text: &str, color: bool) -> String {
    filtered(text, |c, out| match parameters(c).filter(|_| color) {
        Some(code) => _ = write!(out, "\x1b[{code}m"),
        None => shown(c, out),
    })
}

/// Text without colours.
pub(crate) fn plain(text: &str) -> String {
    filtered(text, shown)
}

/// The same on one line.
pub(crate) fn line(text: &str) -> String {
    plain(&text.lines().collect::<Vec<_>>().join(" "))
}

/// JSON, in which all of it stands within strings: the same value in other words.
pub(crate) fn json(text: &str) -> String {
    filtered(text, |c, out| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

/// Whether nothing in it would be shown otherwise than it is.
pub(crate) fn is_plain(text: &str) -> bool {
    !text.chars().any(is_unseen)
}

fn shown(c: char, out: &mut String) {
    let _ = write!(out, "{}", c.escape_unicode());
}

fn filtered(text: &str, odd: impl Fn(char, &mut String)) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match is_unseen(c) {
            true => odd(c, &mut out),
            false => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        for (text, want) in [
            ("plain, ä, 漢字, ✓\n\tnext", "plain, ä, 漢字, ✓\n\tnext"),
            ("\x1b]0;title\x07", r"\u{1b}]0;title\u{7}"),
            ("\u{9b}2J\r\u{7f}\0", r"\u{9b}2J\u{d}\u{7f}\u{0}"),
            (
                "a\u{202e}b\u{2066}c\u{200b}d\u{feff}",
                r"a\u{202e}b\u{2066}c\u{200b}d\u{feff}",
            ),
            ("tag \u{e0041}", r"tag \u{e0041}"),
        ] {
            assert_eq!(plain(text), want);
            assert_eq!(painted(text, true), want);
            assert_eq!(is_plain(text), text == want, "{text:?}");
        }
        assert_eq!(line("a\nb\x1b"), r"a b\u{1b}");
    }

    #[test]
    fn colours_are_those_of_our_own() {
        let text = format!("\x1b[31m{}", Paint::Green.around("ok\x1b[0m"));
        let want = "\\u{1b}[31m\x1b[32mok\\u{1b}[0m\x1b[0m";
        assert_eq!(painted(&text, true), want);
        assert!(!painted(&text, false).contains('\x1b'));
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({"a\u{9b}": ["\x1b[2J\u{7f}", "\u{202e}", "\u{e0041} ✓\n"]});
        let text = json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(is_plain(&text), "{text}");
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read, value);
    }
}
