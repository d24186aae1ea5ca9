//! The templates of a chart, parsed.

use std::{borrow::Cow, collections::HashMap, rc::Rc};

use gotmpl::{
    TemplateError,
    parse::{DefineNode, Expr, ListNode, Node, Parser},
};

use super::{blocks::Blocks, check};

/// The most branches one chain of `else if` may have, in a whole file: the parser recurses into each.
const BRANCHES: usize = 1_000;

/// Every template there is, by name; later definitions replace earlier ones, unless they are empty.
#[derive(Debug, Clone, Default)]
pub(crate) struct Set {
    templates: HashMap<Rc<str>, Rc<Template>>,
}

/// A template's body and where it was written.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) name: Rc<str>,
    pub(crate) body: ListNode,
    pub(crate) file: Rc<File>,
}

/// A source file, for telling where things are.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) name: Rc<str>,
    pub(crate) source: String,
}

/// A file that is no template.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) reason: String,
}

impl Set {
    /// How many templates there are.
    pub(crate) fn len(&self) -> usize {
        self.templates.len()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Rc<Template>> {
        self.templates.get(name)
    }

    /// Parses `source` and adds it under `name`, with everything it defines.
    pub(crate) fn add(&mut self, name: &str, source: &str) -> Result<Rc<Template>, Broken> {
        let (prepared, blocks) = without_comments(source)?;
        let parsed = Parser::new(&prepared, "{{", "}}")
            .and_then(Parser::parse)
            .map_err(broken);
        let file = Rc::new(File {
            name: name.into(),
            source: prepared.into_owned(),
        });
        let at = |(offset, reason)| file.broken(offset, reason);
        let (body, defines) = match (parsed, blocks.finish(file.source.len()).map_err(at)) {
            // As in Go, what is wrong first is what is reported.
            (Err(syntax), Err(block)) if block.place() <= syntax.place() => return Err(block),
            (Err(syntax), _) => return Err(syntax),
            (Ok(_), Err(block)) => return Err(block),
            (Ok(parsed), Ok(())) => parsed,
        };
        check::names(&body, &defines).map_err(|(pos, reason)| at((pos.offset, reason)))?;
        for DefineNode { name, body, .. } in defines {
            self.put(Template {
                name: name.as_str().into(),
                body,
                file: file.clone(),
            });
        }
        let main = Template {
            name: name.into(),
            body,
            file,
        };
        Ok(self.put(main))
    }

    fn put(&mut self, template: Template) -> Rc<Template> {
        let template = Rc::new(template);
        if !self.templates.contains_key(&template.name) || !is_empty(&template.body) {
            self.templates
                .insert(template.name.clone(), template.clone());
        }
        template
    }
}

impl File {
    /// Line and column of a byte offset, both from 1.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let before = self
            .source
            .get(..offset.min(self.source.len()))
            .unwrap_or(&self.source);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (
            before.matches('\n').count() + 1,
            before[line_start..].chars().count() + 1,
        )
    }

    fn broken(&self, offset: usize, reason: String) -> Broken {
        let (line, column) = self.position(offset);
        Broken {
            line,
            column,
            reason,
        }
    }
}

impl Broken {
    fn place(&self) -> (usize, usize) {
        (self.line, self.column)
    }
}

fn broken(error: TemplateError) -> Broken {
    match error {
        TemplateError::Parse {
            line, col, message, ..
        }
        | TemplateError::Lex {
            line, col, message, ..
        } => Broken {
            line,
            column: col,
            reason: message,
        },
        other => Broken {
            line: 1,
            column: 0,
            reason: other.to_string(),
        },
    }
}

/// Empty of everything but white space and what used to be comments.
fn is_empty(body: &ListNode) -> bool {
    body.nodes.iter().all(|node| match node {
        Node::Action(action) => {
            matches!(action.pipe.commands.as_slice(), [command] if action.pipe.decl.is_empty()
            && matches!(command.args.as_slice(), [Expr::String(_, text)] if text.is_empty()))
        }
        node => gotmpl::parse::is_empty_tree(node),
    })
}

/// Replaces comments by empty text of the same size: the parser trims wrongly after `{{- /* … */}}`. On the way it
/// notes where blocks begin and end.
fn without_comments(source: &str) -> Result<(Cow<'_, str>, Blocks), Broken> {
    let mut out: Option<String> = None;
    let mut blocks = Blocks::default();
    let mut at = 0;
    let mut branches = 0;
    while let Some(start) = source[at..].find("{{").map(|found| at + found + 2) {
        let inner = source[start..]
            .strip_prefix('-')
            .filter(|rest| rest.starts_with([' ', '\t', '\r', '\n']))
            .unwrap_or(&source[start..]);
        let body = inner.trim_start_matches([' ', '\t', '\r', '\n']);
        let from = source.len() - body.len();
        // Only a trim marker may stand before a comment.
        if let Some(comment) = body
            .strip_prefix("/*")
            .filter(|_| inner.len() == body.len() || inner.len() < source.len() - start)
        {
            let Some(length) = comment.find("*/").map(|end| end + 4) else {
                break;
            };
            let text = out.get_or_insert_with(|| source.to_owned());
            let blank: String = body[..length]
                .bytes()
                .enumerate()
                .map(|(index, byte)| {
                    if index < 2 {
                        '`'
                    } else if byte == b'\n' {
                        '\n'
                    } else {
                        ' '
                    }
                })
                .collect();
            text.replace_range(from..from + length, &blank);
            at = from + length;
            continue;
        }
        branches += usize::from(
            body.strip_prefix("else")
                .is_some_and(|rest| !rest.trim_start().starts_with(['}', '-'])),
        );
        blocks.action(from, body);
        at = end_of_action(source, start);
    }
    if branches > BRANCHES {
        return Err(Broken {
            line: 1,
            column: 0,
            reason: format!("it has more than {BRANCHES} branches of `else if`"),
        });
    }
    Ok((out.map_or(Cow::Borrowed(source), Cow::Owned), blocks))
}

/// Where the action that was opened before `start` is closed, quotes respected.
fn end_of_action(source: &str, start: usize) -> usize {
    let bytes = source.as_bytes();
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'}' if bytes.get(at + 1) == Some(&b'}') => return at + 2,
            quote @ (b'"' | b'\'' | b'`') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' && quote != b'`' {
                        2
                    } else {
                        1
                    };
                }
                at += 1;
            }
            _ => at += 1,
        }
    }
    // An index into the middle of a character would not do.
    source.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_become_blanks_and_nothing_else_moves() {
        for (source, expected) in [
            ("a {{/* c */}} b", "a {{``     }} b"),
            ("{{- /* a\nb */ -}}", "{{- ``  \n     -}}"),
            ("{{ \"{{/* x */}}\" }}", "{{ \"{{/* x */}}\" }}"),
            ("{{ `}}` }}{{/**/}}", "{{ `}}` }}{{``  }}"),
            ("{{/* open", "{{/* open"),
        ] {
            assert_eq!(without_comments(source).unwrap().0, expected);
        }
    }

    #[test]
    fn an_empty_redefinition_changes_nothing() {
        let mut set = Set::default();
        set.add("a", "{{ define \"x\" }}one{{ end }}").unwrap();
        set.add("b", "{{ define \"x\" }} {{/* nothing */}} {{ end }}")
            .unwrap();
        assert!(!is_empty(&set.find("x").unwrap().body));
        set.add("c", "{{ define \"x\" }}{{ .y }}{{ end }}").unwrap();
        assert_eq!(&*set.find("x").unwrap().file.name, "c");
    }

    #[test]
    fn what_does_not_parse_is_refused_with_its_place() {
        for (source, line) in [
            ("a\n{{ if }}", 2),
            ("{{ end }", 1),
            ("a\nb\n{{ nosuch 1 }}", 3),
            ("{{ \"x }}", 1),
            ("{{ $x }}", 1),
            ("{{ break }}", 1),
        ] {
            let error = Set::default().add("x", source).unwrap_err();
            assert_eq!(error.line, line, "{source}: {error:?}");
        }
        let chain = format!(
            "{{{{ if 1 }}}}{}{{{{ end }}}}",
            "{{ else if 1 }}".repeat(100_000)
        );
        assert!(
            Set::default()
                .add("x", &chain)
                .unwrap_err()
                .reason
                .contains("else if")
        );
    }
}
