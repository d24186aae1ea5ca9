//! Just enough XML for the answers of a Query service: elements and text.

use xmlparser::{ElementEnd, Token, Tokenizer};

/// Answers are shallow; one without a limit would be too deep to be let go of.
const DEEPEST: usize = 100;

/// An element.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// Read a document; `Err` says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut open: Vec<Self> = vec![Self::default()];
        for token in Tokenizer::from(text) {
            match token.map_err(|e| e.to_string())? {
                Token::ElementStart { .. } if open.len() > DEEPEST => {
                    return Err(format!("more than {DEEPEST} elements within each other"));
                }
                Token::ElementStart { local, .. } => open.push(Self {
                    name: local.to_string(),
                    ..Self::default()
                }),
                Token::ElementEnd {
                    end: ElementEnd::Open,
                    ..
                } => {}
                Token::ElementEnd { end, .. } => close(&mut open, end)?,
                Token::Text { text } | Token::Cdata { text, .. } => {
                    if let Some(element) = open.last_mut() {
                        element.text.push_str(&unescape(text.as_str()));
                    }
                }
                _ => {}
            }
        }
        let [document] = <[Self; 1]>::try_from(open)
            .map_err(|open| format!("cut off inside <{}>", innermost(&open)))?;
        document
            .children
            .into_iter()
            .next()
            .ok_or_else(|| "empty answer".into())
    }

    /// The first child of that name.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|c| c.name == name)
    }

    /// The text under a path of children.
    pub(crate) fn text(&self, path: &[&str]) -> Option<&str> {
        let end = path
            .iter()
            .try_fold(self, |element, name| element.child(name))?;
        Some(end.text.trim()).filter(|text| !text.is_empty())
    }

    /// As [`text`](Self::text), empty if absent.
    pub(crate) fn string(&self, path: &[&str]) -> String {
        self.text(path).unwrap_or_default().to_owned()
    }

    /// The `<item>`s of a list.
    pub(crate) fn items(&self, list: &str) -> impl Iterator<Item = &Self> {
        let list = self.child(list);
        list.into_iter()
            .flat_map(|list| list.children.iter().filter(|c| c.name == "item"))
    }
}

fn close(open: &mut Vec<Element>, end: ElementEnd<'_>) -> Result<(), String> {
    let done = open.pop().ok_or("an end without a start")?;
    if let ElementEnd::Close(_, name) = end
        && name.as_str() != done.name
    {
        return Err(format!("</{name}> closes <{}>", done.name));
    }
    open.last_mut()
        .ok_or("an end without a start")?
        .children
        .push(done);
    Ok(())
}

fn innermost(open: &[Element]) -> &str {
    open.last().map_or("", |e| e.name.as_str())
}

fn unescape(text: &str) -> String {
    let plain = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'");
    plain.replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_deep_is_refused() {
        let nested = |depth| "<a>".repeat(depth) + &"</a>".repeat(depth);
        assert!(Element::parse(&nested(100)).is_ok());
        let error = Element::parse(&nested(1_000_000)).unwrap_err();
        assert!(error.contains("more than 100"), "{error}");
    }

    #[test]
    fn lists_and_texts() {
        let read = Element::parse(
            "<?xml version=\"1.0\"?><R xmlns=\"x\"><set><item><id>a&amp;b</id><gone/></item><item/></set></R>",
        )
        .unwrap();
        let ids: Vec<_> = read.items("set").map(|i| i.string(&["id"])).collect();
        assert_eq!(ids, ["a&b", ""]);
        assert_eq!(read.text(&["set", "item", "gone"]), None);
    }

    #[test]
    fn what_was_cut_off_is_refused() {
        let error = Element::parse("<R><set><item><id>a</id>").unwrap_err();
        assert!(error.contains("cut off inside <item>"), "{error}");
        for bad in ["", "not xml", "<a></b>", "</a>"] {
            assert!(Element::parse(bad).is_err(), "{bad}");
        }
    }
}
