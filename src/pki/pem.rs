//! PEM, read as strictly as Go reads it where it matters to istiod, and never beyond a size.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// Nothing istiod is given comes near this; what does is not a certificate bundle.
pub(crate) const MAX_BYTES: usize = 512 * 1024;
/// More blocks than any honest bundle has.
pub(crate) const MAX_BLOCKS: usize = 64;

/// One block. The contents may be a key, so they are wiped.
pub(crate) struct Block {
    pub(crate) label: String,
    pub(crate) der: Zeroizing<Vec<u8>>,
}

/// All blocks of a text. What stands between blocks is skipped, as everybody does.
pub(crate) fn blocks(text: &[u8]) -> Result<Vec<Block>, &'static str> {
    if text.len() > MAX_BYTES {
        return Err("is larger than 512 KiB");
    }
    let text = std::str::from_utf8(text).map_err(|_| "is not text")?;
    let mut lines = text.lines().map(str::trim_end);
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        let Some(label) = label(line, "-----BEGIN ") else {
            continue;
        };
        if blocks.len() == MAX_BLOCKS {
            return Err("holds more than 64 PEM blocks");
        }
        blocks.push(Block {
            label: label.into(),
            der: body(label, &mut lines, text.len())?,
        });
    }
    Ok(blocks)
}

fn label<'a>(line: &'a str, prefix: &str) -> Option<&'a str> {
    line.strip_prefix(prefix)?.strip_suffix("-----")
}

fn body<'a>(
    begun: &str,
    lines: &mut impl Iterator<Item = &'a str>,
    room: usize,
) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    // Sized once: growing would leave copies of a key behind that nobody wipes.
    let mut base64 = Zeroizing::new(String::with_capacity(room));
    for line in lines {
        if let Some(ended) = label(line, "-----END ") {
            if ended != begun {
                return Err("has a PEM block that ends under another name than it began");
            }
            return STANDARD
                .decode(base64.as_bytes())
                .map(Zeroizing::new)
                .map_err(|_| "has a PEM block that is not base64");
        }
        if line.contains("ENCRYPTED") {
            return Err("is encrypted with a passphrase");
        }
        // Other headers (RFC 1421) say nothing we need; ':' is not in the base64 alphabet.
        if !line.contains(':') {
            base64.push_str(line.trim());
        }
    }
    Err("has a PEM block without an end")
}

/// One block as text, in lines of 64.
pub(crate) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    // Sized once: growing would leave copies behind that nobody wipes.
    let room = base64.len() + base64.len() / 64 + 2 * label.len() + 40;
    let mut text = Zeroizing::new(String::with_capacity(room));
    for part in ["-----BEGIN ", label, "-----\n"] {
        text.push_str(part);
    }
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    for part in ["-----END ", label, "-----\n"] {
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(der in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = encode("THING", &der);
            prop_assert!(text.capacity() >= text.len());
            let read = blocks(text.as_bytes()).unwrap();
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!(&read[0].label, "THING");
            prop_assert_eq!(&*read[0].der, &der);
        }

        #[test]
        fn nothing_panics(text in "(-----(BEGIN|END) [AB]{0,2}-----|[A-Za-z:= ]{0,5}|\n){0,20}") {
            let _ = blocks(text.as_bytes());
        }
    }

    #[test]
    fn writing_never_grows_the_text() {
        for length in [0, 1, 47, 48, 49, 121, 2400] {
            let text = encode("A LABEL", &vec![7; length]);
            let room = STANDARD.encode(vec![7; length]).len();
            assert!(text.len() <= room + room / 64 + 2 * "A LABEL".len() + 40);
        }
    }

    #[test]
    fn bad_blocks_say_why() {
        let many = &*encode("A", b"x").repeat(65);
        let long = "x".repeat(MAX_BYTES + 1);
        for (text, want) in [
            ("-----BEGIN A-----\n", "without an end"),
            ("-----BEGIN A-----\n!!!\n-----END A-----", "not base64"),
            ("-----BEGIN A-----\n-----END B-----", "another name"),
            (
                "-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\n-----END A-----",
                "passphrase",
            ),
            (many, "more than 64"),
            (long.as_str(), "512 KiB"),
        ] {
            assert!(
                blocks(text.as_bytes()).is_err_and(|e| e.contains(want)),
                "{want}"
            );
        }
    }
}
