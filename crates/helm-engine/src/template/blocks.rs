//! Whether every block of a template is closed, and nothing is closed that is not open.
//!
//! The parser stops at an `{{ end }}` or `{{ else }}` that belongs to no block, and takes the end of the file for the
//! end of a block. Go refuses all of that; the messages are Go's.

/// What is wrong, and at which offset.
type Problem = (usize, String);

/// The blocks that are open so far.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    open: Vec<Block>,
    problem: Option<Problem>,
}

#[derive(Debug)]
struct Block {
    keyword: &'static str,
    has_else: bool,
}

impl Blocks {
    /// Takes note of an action, given what stands between its delimiters from `offset` on.
    pub(super) fn action(&mut self, offset: usize, body: &str) {
        if self.problem.is_none()
            && let Err(reason) = self.enter_or_leave(body)
        {
            self.problem = Some((offset, reason));
        }
    }

    /// The first problem there was, or that the source ends at `end` with a block still open.
    pub(super) fn finish(self, end: usize) -> Result<(), Problem> {
        match (self.problem, self.open.is_empty()) {
            (Some(problem), _) => Err(problem),
            (None, false) => Err((end, "unexpected EOF".to_owned())),
            (None, true) => Ok(()),
        }
    }

    fn enter_or_leave(&mut self, body: &str) -> Result<(), String> {
        let (keyword, rest) = word(body);
        match keyword {
            "define" if !self.open.is_empty() => {
                return Err("unexpected <define> in command".to_owned());
            }
            "end" => {
                self.open.pop().ok_or("unexpected {{end}}")?;
            }
            "else" => self.otherwise(word(rest.trim_start()).0)?,
            opening => self.open.extend(
                ["if", "range", "with", "define", "block"]
                    .into_iter()
                    .filter(|known| *known == opening)
                    .map(|keyword| Block {
                        keyword,
                        has_else: false,
                    }),
            ),
        }
        Ok(())
    }

    /// `{{ else }}`, or `{{ else if … }}` and `{{ else with … }}` that go on with the same kind of block.
    fn otherwise(&mut self, next: &str) -> Result<(), String> {
        let block = self.open.last_mut().ok_or("unexpected {{else}}")?;
        match (block.keyword, next) {
            (clause @ ("define" | "block"), _) => {
                Err(format!("unexpected {{{{else}}}} in {clause} clause"))
            }
            _ if block.has_else => Err("expected end; found {{else}}".to_owned()),
            ("if", "if") | ("with", "with") => Ok(()),
            (_, "if" | "with") => Err(format!("unexpected <{next}> in input")),
            _ => {
                block.has_else = true;
                Ok(())
            }
        }
    }
}

/// The word a text begins with, and what follows it.
fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_'));
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use crate::template::Set;

    #[test]
    fn blocks_that_do_not_match_are_refused_as_go_refuses_them() {
        for (source, line, reason) in [
            ("a\n{{ end }}\nb", 2, "unexpected {{end}}"),
            (
                "{{ if 1 }}{{ end }}\n\n{{- end -}}",
                3,
                "unexpected {{end}}",
            ),
            ("{{ else }}", 1, "unexpected {{else}}"),
            ("{{ else if 1 }}{{ end }}", 1, "unexpected {{else}}"),
            ("{{ if 1 }}\na", 2, "unexpected EOF"),
            ("{{ define \"x\" }}a", 1, "unexpected EOF"),
            (
                "{{ if 1 }}{{ else }}\n{{ else }}{{ end }}",
                2,
                "expected end; found {{else}}",
            ),
            (
                "{{ define \"x\" }}{{ else }}{{ end }}",
                1,
                "unexpected {{else}} in define clause",
            ),
            (
                "{{ block \"x\" . }}{{ else }}{{ end }}",
                1,
                "unexpected {{else}} in block clause",
            ),
            (
                "{{ range $x := list }}{{ else if 1 }}{{ end }}",
                1,
                "unexpected <if> in input",
            ),
            (
                "{{ if 1 }}{{ else with 1 }}{{ end }}",
                1,
                "unexpected <with> in input",
            ),
            (
                "{{ if 1 }}{{ define \"x\" }}{{ end }}{{ end }}",
                1,
                "unexpected <define> in command",
            ),
        ] {
            let error = Set::default().add("x", source).expect_err(source);
            assert_eq!((error.line, &*error.reason), (line, reason), "{source}");
        }
    }

    #[test]
    fn the_first_mistake_is_reported() {
        for (source, is_block) in [
            ("{{ 1 | }}\n{{ end }}", false),
            ("{{ end }}\n{{ 1 | }}", true),
        ] {
            let error = Set::default().add("x", source).expect_err(source);
            assert_eq!(error.line, 1, "{source}: {}", error.reason);
            assert_eq!(error.reason == "unexpected {{end}}", is_block, "{source}");
        }
    }

    #[test]
    fn what_only_looks_like_a_block_is_none() {
        for source in [
            "{{ if 1 }}{{ else if 2 }}{{ else }}{{ end }}",
            "{{ with 1 }}{{ else with 2 }}{{ else }}{{ end }}",
            "{{ range list }}{{ else }}{{ end }}{{ block \"x\" . }}{{ end }}",
            "{{ .end }}{{ \"{{ end }}\" }}{{/* {{ end }} */}} end {{ $end := 1 }}{{ $end }}",
            "{{- if 1 -}}{{- else -}}{{- end -}}",
        ] {
            assert!(Set::default().add("x", source).is_ok(), "{source}");
        }
    }
}
