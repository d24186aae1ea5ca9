//! Every pair as a table, and every member: what the drawing says, for whoever does not see it, and for meshes that are
//! too large for one.

use std::fmt::Write as _;

use super::{Links, Page, mark, markup::Text, topology};

/// More members than this leave no room for words.
const WORDS: usize = 8;

/// Who reaches whom, in rows and columns.
pub(super) fn pairs(page: &Page<'_>, links: &Links<'_>) -> String {
    let names: Vec<_> = page.verdict.clusters.iter().map(String::as_str).collect();
    if names.len() < 2 {
        return "<p>A mesh of one member has no pairs.</p>\n".into();
    }
    let has_words = names.len() <= WORDS;
    let kind = if has_words { "words" } else { "signs" };
    let mut text = format!(
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Table of pairs\">\n<table class=\"pairs {kind}\">\n\
         <caption>Rows reach columns</caption>\n<thead><tr><td></td>"
    );
    for name in &names {
        let name = Text(name);
        let _ = write!(text, "<th scope=\"col\"><span>{name}</span></th>");
    }
    text += "</tr></thead>\n<tbody>\n";
    for from in &names {
        let _ = write!(text, "<tr><th scope=\"row\">{}</th>", Text(from));
        for to in &names {
            let Some(link) = links.get(&(*from, *to)) else {
                text += "<td class=\"self\">–</td>";
                continue;
            };
            let (class, told) = (link.class, Text(&link.told));
            let _ = match has_words {
                true => write!(
                    text,
                    "<td class=\"{class}\" title=\"{told}\">{}{}</td>",
                    mark(class),
                    Text(&link.word)
                ),
                false => {
                    let glyph = glyph(class);
                    write!(text, "<td class=\"{class}\" title=\"{told}\">{glyph}</td>")
                }
            };
        }
        text += "</tr>\n";
    }
    text += "</tbody>\n</table>\n</div>\n";
    if !has_words {
        text += KEY;
    }
    text
}

const KEY: &str = "<p class=\"key\"><b class=\"ok\">✓</b> proved, <b class=\"not-tried\">·</b> not tried, \
<b class=\"warning\">!</b> needs attention, <b class=\"failed\">✕</b> failed</p>\n";

fn glyph(class: &str) -> &'static str {
    match class {
        "ok" => "✓",
        "warning" => "!",
        "failed" => "✕",
        _ => "·",
    }
}

/// The members, a row each.
pub(super) fn members(page: &Page<'_>) -> String {
    let mut text = String::from(
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Table of members\">\n<table class=\"members\">\n<thead><tr>\
         <th scope=\"col\">Member</th><th scope=\"col\">State</th><th scope=\"col\">Network</th><th scope=\"col\">Kubernetes</th>\
         <th scope=\"col\">Istio</th><th scope=\"col\">Gateway</th></tr></thead>\n<tbody>\n",
    );
    for member in &page.members {
        let or_none = |text: &str| {
            if text.is_empty() {
                "–".to_owned()
            } else {
                text.to_owned()
            }
        };
        let (kubernetes, istio) = (
            or_none(&member.kubernetes),
            or_none(&member.istio.join(", ")),
        );
        let why = member.unreachable.as_ref();
        let why = why.map(|why| format!("<small>{}</small>", Text(why)));
        let _ = writeln!(
            text,
            "<tr><th scope=\"row\">{}</th><td class=\"{}\">{}{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            Text(&member.name),
            topology::outcome(page, member),
            topology::told(page, member),
            why.unwrap_or_default(),
            Text(&member.network),
            Text(&kubernetes),
            Text(&istio),
            Text(&or_none(&member.gateway.join(", "))),
        );
    }
    text + "</tbody>\n</table>\n</div>\n"
}
