//! What to do about something that went wrong: a command that can be pasted, or a note to read.
//!
//! Who finds the trouble knows what to do, but not with which flags it was called: [`Hint::Meshlink`] and
//! [`Hint::Cluster`] leave these to whoever shows them. [`Display`](fmt::Display) shows them without.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// What to do about something. In JSON it is the text that [`Display`](fmt::Display) shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum Hint {
    /// A command as a shell takes it: it can be pasted as it is.
    Command(String),
    /// A command of meshlink's own, which still lacks the flags that find the mesh again.
    Meshlink(Meshlink),
    /// A command for one cluster, which still lacks the kubeconfig context of that cluster.
    Cluster(InCluster),
    /// Something to know or to do that is no command, or a command with words to fill in.
    Note(String),
}

/// A command of meshlink's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Meshlink {
    /// Which mesh it is about.
    pub about: About,
    /// The words after `meshlink`.
    pub args: Vec<String>,
    /// Why, or when, for people.
    pub remark: Option<String>,
}

/// Which mesh a command is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum About {
    /// The mesh that the command which failed was about.
    Same,
    /// The same, with its members named. A mesh file names them itself.
    Members {
        /// These.
        named: Vec<String>,
        /// And whoever else is a member.
        others: bool,
    },
    /// Another mesh, which the words name.
    Other,
}

/// A command for one cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InCluster {
    /// The program.
    pub tool: Tool,
    /// What the mesh calls the cluster.
    pub cluster: String,
    /// The words after the context.
    pub args: Vec<String>,
    /// A word to look for in what it prints.
    pub grep: Option<String>,
    /// Why, or when, for people.
    pub remark: Option<String>,
}

/// A program that takes a kubeconfig context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Tool {
    /// kubectl.
    Kubectl,
    /// Helm.
    Helm,
}

impl Tool {
    /// Its name and the flag that takes a context.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Kubectl => ("kubectl", "--context"),
            Self::Helm => ("helm", "--kube-context"),
        }
    }
}

impl Hint {
    /// A command made of these words.
    pub fn command<W: AsRef<str>>(words: impl IntoIterator<Item = W>) -> Self {
        Self::Command(join(words))
    }

    /// A command of meshlink's own about the same mesh: the words after `meshlink`.
    pub fn meshlink<W: ToString>(args: impl IntoIterator<Item = W>) -> Self {
        Self::about(About::Same, args)
    }

    /// Joining these into a mesh, and nobody else.
    pub fn join<W: ToString>(members: impl IntoIterator<Item = W>) -> Self {
        Self::joining(members, false)
    }

    /// Joining these again, with all other members there are.
    pub fn join_again<W: ToString>(members: impl IntoIterator<Item = W>) -> Self {
        Self::joining(members, true)
    }

    fn joining<W: ToString>(members: impl IntoIterator<Item = W>, others: bool) -> Self {
        let named = members.into_iter().map(|m| m.to_string()).collect();
        Self::about(About::Members { named, others }, ["join"])
    }

    /// A command of meshlink's own about another mesh, which the words name.
    pub fn other_mesh<W: ToString>(args: impl IntoIterator<Item = W>) -> Self {
        Self::about(About::Other, args)
    }

    fn about<W: ToString>(about: About, args: impl IntoIterator<Item = W>) -> Self {
        Self::Meshlink(Meshlink {
            about,
            args: args.into_iter().map(|word| word.to_string()).collect(),
            remark: None,
        })
    }

    /// A kubectl command for a cluster: the words after the context.
    pub fn kubectl<W: ToString>(cluster: impl ToString, args: impl IntoIterator<Item = W>) -> Self {
        Self::in_cluster(Tool::Kubectl, cluster, args)
    }

    /// A Helm command for a cluster: the words after the context.
    pub fn helm<W: ToString>(cluster: impl ToString, args: impl IntoIterator<Item = W>) -> Self {
        Self::in_cluster(Tool::Helm, cluster, args)
    }

    fn in_cluster<W: ToString>(
        tool: Tool,
        cluster: impl ToString,
        args: impl IntoIterator<Item = W>,
    ) -> Self {
        Self::Cluster(InCluster {
            tool,
            cluster: cluster.to_string(),
            args: args.into_iter().map(|word| word.to_string()).collect(),
            grep: None,
            remark: None,
        })
    }

    /// Something that is no command.
    pub fn note(text: impl Into<String>) -> Self {
        Self::Note(text.into())
    }

    /// A command with words in capitals, which are to be filled in first.
    pub fn to_fill_in(text: &str) -> Self {
        Self::note(format!("fill in and run: {text}"))
    }

    /// A command as a shell takes it, where it is more than words.
    pub fn shell(text: impl Into<String>) -> Self {
        Self::Command(text.into())
    }

    /// The same with why, or when, behind it.
    #[must_use]
    pub fn remark(self, remark: impl Into<String>) -> Self {
        let remark = remark.into();
        match self {
            Self::Meshlink(command) => Self::Meshlink(Meshlink {
                remark: Some(remark),
                ..command
            }),
            Self::Cluster(command) => Self::Cluster(InCluster {
                remark: Some(remark),
                ..command
            }),
            Self::Command(text) => Self::Command(text + &comment(Some(&remark))),
            Self::Note(text) => Self::Note(format!("{text}: {remark}")),
        }
    }

    /// The same, showing only lines with this word; of a command for a cluster.
    #[must_use]
    pub fn grep(self, word: impl ToString) -> Self {
        match self {
            Self::Cluster(command) => Self::Cluster(InCluster {
                grep: Some(word.to_string()),
                ..command
            }),
            other => other,
        }
    }
}

impl Meshlink {
    /// The command with these flags behind its words; each is a shell word already.
    pub fn with(&self, flags: &[String]) -> String {
        let members: &[String] = match &self.about {
            About::Members { named, .. } => named,
            About::Same | About::Other => &[],
        };
        let words = ["meshlink"]
            .into_iter()
            .chain(self.args.iter().map(String::as_str))
            .chain(members.iter().map(String::as_str));
        let flags = flags.iter().map(|flag| format!(" {flag}"));
        join(words) + &flags.collect::<String>() + &comment(self.remark.as_deref())
    }
}

impl InCluster {
    /// The command for this context, of this kubeconfig file if it is not the usual one.
    pub fn with(&self, context: &str, kubeconfig: Option<&str>) -> String {
        let (program, flag) = self.tool.words();
        let file = kubeconfig.into_iter().flat_map(|k| ["--kubeconfig", k]);
        let words = [program].into_iter().chain(file).chain([flag, context]);
        self.rest(words)
    }

    /// The command for whatever context is the current one.
    pub fn bare(&self) -> String {
        self.rest([self.tool.words().0])
    }

    fn rest<'a>(&'a self, words: impl IntoIterator<Item = &'a str>) -> String {
        let args = self.args.iter().map(String::as_str);
        let grep = self.grep.as_deref().map(|w| format!(" | grep {}", word(w)));
        join(words.into_iter().chain(args))
            + &grep.unwrap_or_default()
            + &comment(self.remark.as_deref())
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(text) | Self::Note(text) => f.write_str(text),
            Self::Meshlink(command) => f.write_str(&command.with(&[])),
            Self::Cluster(command) => f.write_str(&command.with(&command.cluster, None)),
        }
    }
}

impl From<Hint> for String {
    fn from(hint: Hint) -> Self {
        hint.to_string()
    }
}

/// What was written down is only for reading: whether it was a command is not told by its text.
impl From<String> for Hint {
    fn from(text: String) -> Self {
        Self::Note(text)
    }
}

/// A hint as it is, where it is read again to be shown later: still without flags and contexts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Exact {
    Command(String),
    Meshlink(Meshlink),
    Cluster(InCluster),
    Note(String),
}

impl From<&Hint> for Exact {
    fn from(hint: &Hint) -> Self {
        match hint.clone() {
            Hint::Command(text) => Self::Command(text),
            Hint::Meshlink(command) => Self::Meshlink(command),
            Hint::Cluster(command) => Self::Cluster(command),
            Hint::Note(text) => Self::Note(text),
        }
    }
}

impl From<Exact> for Hint {
    fn from(hint: Exact) -> Self {
        match hint {
            Exact::Command(text) => Self::Command(text),
            Exact::Meshlink(command) => Self::Meshlink(command),
            Exact::Cluster(command) => Self::Cluster(command),
            Exact::Note(text) => Self::Note(text),
        }
    }
}

impl JsonSchema for Hint {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Hint".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

fn join<W: AsRef<str>>(words: impl IntoIterator<Item = W>) -> String {
    let words = words.into_iter().map(|w| word(w.as_ref()));
    words.collect::<Vec<_>>().join(" ")
}

/// A remark is on the command's line, whatever it is made of: the next line would be run.
fn comment(remark: Option<&str>) -> String {
    remark.map_or_else(String::new, |remark| {
        let words: Vec<_> = remark.split(char::is_control).collect();
        format!("   # {}", words.join(" "))
    })
}

/// A word as a shell takes it for one. Controls and characters that are not shown become escapes, which bash and zsh
/// read.
pub(crate) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    if text.chars().any(|c| c == '\n' || c == '\t' || is_unseen(c)) {
        return escaped(text);
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What a terminal would obey, or not show where it stands: controls, what turns the direction of writing, other
/// format characters, separators of lines, noncharacters. Newlines and tabs lay out text and pass.
pub(crate) fn is_unseen(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{ad}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{8e2}' | '\u{180e}' | '\u{feff}' => true,
        '\u{600}'..='\u{605}' | '\u{890}'..='\u{891}' => true,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{fdd0}'..='\u{fdef}' | '\u{fff0}'..='\u{fffb}' => true,
        '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' => true,
        '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' => true,
        '\u{e0000}'..='\u{e0fff}' => true,
        c => c.is_control() || u32::from(c) & 0xfffe == 0xfffe,
    }
}

fn escaped(text: &str) -> String {
    let one = |c: char| match c {
        '\'' | '\\' => format!("\\{c}"),
        ' '..='~' => c.to_string(),
        c if c.is_ascii() => format!("\\x{:02x}", u32::from(c)),
        c if c.is_alphanumeric() => c.to_string(),
        c => format!("\\U{:08x}", u32::from(c)),
    };
    format!("$'{}'", text.chars().map(one).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_a_shell() {
        for (text, want) in [
            ("mesh.yaml", "mesh.yaml"),
            ("/a b/c", "'/a b/c'"),
            ("it's", r"'it'\''s'"),
            ("a;rm", "'a;rm'"),
            ("", "''"),
            ("Grüße aus Köln", "'Grüße aus Köln'"),
            ("it's\nrm -rf\x1b[2J", r"$'it\'s\x0arm -rf\x1b[2J'"),
            ("a\u{202e}b\u{9b}", r"$'a\U0000202eb\U0000009b'"),
        ] {
            assert_eq!(word(text), want);
        }
    }

    #[test]
    fn a_remark_stays_on_its_line() {
        let hint = Hint::meshlink(["status"]).remark("of\nrm -rf\r/");
        assert_eq!(hint.to_string(), "meshlink status   # of rm -rf /");
    }

    #[test]
    fn a_command_takes_words_from_outside_as_words() {
        let shown = |hint: Hint| hint.to_string();
        let open = Hint::command(["ls", "-ld", "/a b"]);
        assert_eq!(shown(open.remark("whose?")), "ls -ld '/a b'   # whose?");
        let leave = Hint::meshlink(["leave", "a b"]);
        assert_eq!(shown(leave), "meshlink leave 'a b'");
        let logs = Hint::kubectl("eks-1", ["logs", "deploy/istiod"]);
        assert_eq!(
            shown(logs.grep("a|b").remark("all")),
            "kubectl --context eks-1 logs deploy/istiod | grep 'a|b'   # all"
        );
    }

    #[test]
    fn flags_stand_before_the_remark() {
        let Hint::Meshlink(join) = Hint::join(["a", "b"]).remark("again") else {
            panic!("no command of meshlink's own");
        };
        let flags = ["-f 'my mesh.yaml'".to_owned(), "--sandbox".to_owned()];
        let want = "meshlink join a b -f 'my mesh.yaml' --sandbox   # again";
        assert_eq!(join.with(&flags), want);
    }

    #[test]
    fn each_tool_takes_a_context_in_its_own_way() {
        let Hint::Cluster(list) = Hint::helm("eks-1", ["list"]) else {
            panic!("no command for a cluster");
        };
        assert_eq!(
            list.with("arn:aws:x/y", Some("my kube")),
            "helm --kubeconfig 'my kube' --kube-context arn:aws:x/y list"
        );
        assert_eq!(list.bare(), "helm list");
    }

    #[test]
    fn what_was_written_down_is_read_as_text() {
        let text = serde_json::to_string(&Hint::meshlink(["status"])).unwrap();
        assert_eq!(text, "\"meshlink status\"");
        let read: Hint = serde_json::from_str(&text).unwrap();
        assert_eq!(read, Hint::note("meshlink status"));
    }
}
