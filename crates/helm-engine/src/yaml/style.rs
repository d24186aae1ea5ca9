//! How a scalar may be written.

/// The ways to write a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

/// What a text contains that rules styles out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) multiline: bool,
    plain: bool,
    single: bool,
    literal: bool,
}

fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What Helm's library shows as it is: no control characters, and nothing beyond the basic plane.
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}')
        && c != '\u{feff}'
}

/// What must be escaped between double quotes.
pub(super) fn needs_escape(c: char) -> bool {
    !is_printable(c) || is_break(c) || c == '"' || c == '\\'
}

/// The escape of a character.
pub(super) fn escape(c: char) -> String {
    let short = match c {
        '\0' => "\\0",
        '\u{7}' => "\\a",
        '\u{8}' => "\\b",
        '\t' => "\\t",
        '\n' => "\\n",
        '\u{b}' => "\\v",
        '\u{c}' => "\\f",
        '\r' => "\\r",
        '\u{1b}' => "\\e",
        '"' => "\\\"",
        '\\' => "\\\\",
        '\u{85}' => "\\N",
        '\u{a0}' => "\\_",
        '\u{2028}' => "\\L",
        '\u{2029}' => "\\P",
        c => {
            return match c as u32 {
                n @ 0..=0xff => format!("\\x{n:02X}"),
                n @ 0x100..=0xffff => format!("\\u{n:04X}"),
                n => format!("\\U{n:08X}"),
            };
        }
    };
    short.to_owned()
}

/// Whether a text goes over several lines.
pub(super) fn multiline(text: &str) -> bool {
    !is_word(text) && text.chars().any(is_break)
}

/// A word that is written as it is, whatever the style: most keys and many values.
fn is_word(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'/' | b'_' | b'-');
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.bytes().all(plain)
}

impl Facts {
    pub(super) fn of(text: &str) -> Self {
        if is_word(text) {
            return Self {
                multiline: false,
                plain: true,
                single: true,
                literal: true,
            };
        }
        if text.bytes().all(|c| matches!(c, b' '..=b'~')) {
            return Self::of_line(text.as_bytes());
        }
        Self::of_text(text)
    }

    fn of_text(text: &str) -> Self {
        let mut indicators = text.starts_with("---") || text.starts_with("...");
        let (mut special, mut multiline, mut break_space, mut space_break) =
            (false, false, false, false);
        let mut before: Option<char> = None;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let followed = chars
                .peek()
                .is_none_or(|next| matches!(next, ' ' | '\t') || is_break(*next));
            indicators |= match (before, c) {
                (
                    None,
                    '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"'
                    | '%' | '@' | '`',
                ) => true,
                (None, '?' | '-') | (_, ':') => followed,
                (Some(before), '#') => matches!(before, ' ' | '\t') || is_break(before),
                _ => false,
            };
            special |= !is_printable(c);
            multiline |= is_break(c);
            break_space |= c == ' ' && before.is_some_and(is_break);
            space_break |= is_break(c) && before == Some(' ');
            before = Some(c);
        }
        let edge = |c: char| c == ' ' || is_break(c);
        let open = text.starts_with(edge) || text.ends_with(edge);
        let hidden = space_break || special;
        Self {
            multiline,
            plain: !(open || break_space || hidden || multiline || indicators),
            single: !(break_space || hidden),
            literal: !(text.is_empty() || text.ends_with(' ') || hidden),
        }
    }

    /// Of characters that stand on one line and need no escape.
    fn of_line(text: &[u8]) -> Self {
        let spaced = |at: usize| text.get(at).is_none_or(|c| *c == b' ');
        let indicator = match text.first() {
            Some(b'?' | b'-') => spaced(1) || text.starts_with(b"---"),
            Some(b'.') => text.starts_with(b"..."),
            Some(c) => b"#,[]{}&*!|>'\"%@`".contains(c),
            None => false,
        };
        let inside = |(at, c): (usize, &u8)| match c {
            b':' => spaced(at + 1),
            b'#' => at > 0 && text[at - 1] == b' ',
            _ => false,
        };
        let open = text.first() == Some(&b' ') || text.last() == Some(&b' ');
        Self {
            multiline: false,
            plain: !(open || indicator || text.iter().enumerate().any(inside)),
            single: true,
            literal: text.last().is_some_and(|c| *c != b' '),
        }
    }

    /// The style nearest to the one wanted.
    pub(super) fn choose(&self, wanted: Style, empty: bool, key: bool) -> Style {
        let mut style = if key && self.multiline {
            Style::Double
        } else {
            wanted
        };
        if style == Style::Plain && (!self.plain || empty && key) {
            style = Style::Single;
        }
        if style == Style::Single && !self.single
            || style == Style::Literal && (!self.literal || key)
        {
            style = Style::Double;
        }
        style
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_line_is_a_text(text in "[-?.,#:@|>'\"a ]{0,6}|[ -~]{0,4}") {
            prop_assert_eq!(Facts::of_line(text.as_bytes()), Facts::of_text(&text), "{:?}", text);
        }
    }
}
