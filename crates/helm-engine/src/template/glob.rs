//! Two kinds of patterns: the shell's, for `.helmignore`, and Helm's, for `.Files.Glob`.

use super::budget::Budget;

/// Whether `name` matches a shell pattern: `*` and `?` stop at `/`, `[a-z]` and `[^a]` are sets, `\` escapes.
pub(crate) fn shell(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    matches(&pattern, &name, false, &mut 100_000)
}

/// The longest pattern of `.Files.Glob`.
const LONGEST: usize = 1_000;

/// A pattern of `.Files.Glob`: as [`shell`], with `**` for anything and `{a,b}`.
pub(crate) struct Files(Vec<Vec<char>>);

impl Files {
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        if pattern.len() > LONGEST {
            return Err(format!("a pattern is longer than {LONGEST} bytes"));
        }
        let spelled = alternatives(pattern, 0).into_iter();
        Ok(Self(
            spelled.map(|pattern| pattern.chars().collect()).collect(),
        ))
    }

    /// Whether it matches `name`.
    pub(crate) fn matches(&self, name: &str, budget: &Budget) -> Result<bool, String> {
        let name: Vec<char> = name.chars().collect();
        for pattern in &self.0 {
            let mut left = 100_000;
            let found = matches(pattern, &name, true, &mut left);
            budget.step((100_000 - left) / 8)?;
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Spells out `{a,b}`, not more than a few hundred of them.
fn alternatives(pattern: &str, depth: usize) -> Vec<String> {
    let (Some(open), Some(close)) = (pattern.find('{'), pattern.find('}')) else {
        return vec![pattern.to_owned()];
    };
    if close < open || depth > 4 {
        return vec![pattern.to_owned()];
    }
    let (before, after) = (&pattern[..open], &pattern[close + 1..]);
    let spelled = pattern[open + 1..close]
        .split(',')
        .flat_map(|choice| alternatives(&format!("{before}{choice}{after}"), depth + 1));
    spelled.take(500).collect()
}

fn matches(pattern: &[char], name: &[char], deep: bool, budget: &mut usize) -> bool {
    *budget = budget.saturating_sub(1);
    if *budget == 0 {
        return false;
    }
    let Some((first, rest)) = pattern.split_first() else {
        return name.is_empty();
    };
    match first {
        '*' if deep && rest.first() == Some(&'*') => {
            (0..=name.len()).any(|at| matches(&rest[1..], &name[at..], deep, budget))
        }
        '*' => {
            let reach = name.iter().position(|c| *c == '/').unwrap_or(name.len());
            (0..=reach).any(|at| matches(rest, &name[at..], deep, budget))
        }
        '?' => name.first().is_some_and(|c| *c != '/') && matches(rest, &name[1..], deep, budget),
        '[' => match (set(rest), name.first()) {
            (Some((set, after)), Some(c)) => {
                *c != '/' && set.holds(*c) && matches(after, &name[1..], deep, budget)
            }
            _ => false,
        },
        '\\' if !rest.is_empty() => {
            name.first() == rest.first() && matches(&rest[1..], &name[1..], deep, budget)
        }
        c => name.first() == Some(c) && matches(rest, &name[1..], deep, budget),
    }
}

struct Set {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Set {
    fn holds(&self, c: char) -> bool {
        self.ranges
            .iter()
            .any(|(low, high)| (*low..=*high).contains(&c))
            != self.negated
    }
}

fn set(pattern: &[char]) -> Option<(Set, &[char])> {
    let negated = matches!(pattern.first(), Some('^' | '!'));
    let mut at = usize::from(negated);
    let mut ranges = Vec::new();
    loop {
        let low = *pattern.get(at)?;
        if low == ']' && !ranges.is_empty() {
            return Some((Set { negated, ranges }, &pattern[at + 1..]));
        }
        if pattern.get(at + 1) == Some(&'-') && pattern.get(at + 2).is_some_and(|c| *c != ']') {
            ranges.push((low, pattern[at + 2]));
            at += 3;
        } else {
            ranges.push((low, low));
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pattern: &str, name: &str) -> Result<bool, String> {
        Files::new(pattern)?.matches(name, &Budget::default())
    }

    #[test]
    fn patterns_match() {
        for (pattern, name, expected) in [
            ("*.bak", "a.bak", true),
            ("*.bak", "d/a.bak", false),
            ("templates/.?*", "templates/.x", true),
            ("[a-c]?", "bz", true),
            ("[^a]", "a", false),
            ("a\\*", "a*", true),
            ("[", "[", false),
        ] {
            assert_eq!(shell(pattern, name), expected, "{pattern} {name}");
        }
        for (pattern, name, expected) in [
            ("**.yaml", "a/b/c.yaml", true),
            ("files/*", "files/a", true),
            ("files/*", "files/a/b", false),
            ("files/**", "files/a/b", true),
            ("{a,b}.txt", "b.txt", true),
            ("{a,b}.txt", "c.txt", false),
        ] {
            assert_eq!(files(pattern, name), Ok(expected), "{pattern} {name}");
        }
    }

    #[test]
    fn a_hostile_pattern_comes_to_an_end() {
        let name = "a".repeat(300).replace("aaa", "aab");
        assert_eq!(files(&"**a".repeat(40), &name), Ok(false));
        assert!(files(&"{a,b}".repeat(300), &name).is_err());
        assert!(!shell(&"*a".repeat(30), &"a".repeat(10)));
    }
}
