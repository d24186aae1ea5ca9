//! The members and the links between them, drawn. Beyond a dozen members nobody could follow the lines, and the table of
//! pairs stands alone.

use std::fmt::Write as _;

use super::{
    Links, Member, Page, mark,
    markup::{Text, cut},
    sign,
};
use crate::verify::Outcome;

/// More members than this are not drawn.
const MOST: usize = 12;
/// More than this are not drawn on a narrow page.
const MOST_NARROW: usize = 4;
/// Up to this many, each direction of a pair has a line of its own.
const FEW: usize = 4;

type Point = (f64, f64);

/// From here on lines that are well are drawn thin.
const MANY: usize = 6;

/// Where things are drawn.
struct Canvas {
    id: &'static str,
    width: f64,
    height: f64,
    /// Half of a member's box.
    half: Point,
    /// How many characters fit into it.
    fits: usize,
    /// Where each member is.
    places: Vec<Point>,
}

/// The drawing, once for a wide page and once for a narrow one.
pub(super) fn render(page: &Page<'_>, links: &Links<'_>) -> String {
    let n = page.members.len();
    if !(2..=MOST).contains(&n) {
        return String::new();
    }
    let wide = draw(page, links, &wide(n));
    let narrow = match n <= MOST_NARROW {
        true => draw(page, links, &narrow(n)),
        false => String::new(),
    };
    wide + &narrow
}

fn wide(n: usize) -> Canvas {
    let (half, radius): (Point, Point) = match n {
        2 => ((150.0, 58.0), (320.0, 0.0)),
        3..=4 => ((132.0, 54.0), (340.0, 190.0)),
        5..=8 => ((104.0, 48.0), (380.0, 250.0)),
        _ => ((92.0, 46.0), (400.0, 330.0)),
    };
    let height = (2.0 * (radius.1 + half.1) + 60.0).max(210.0);
    Canvas {
        id: "wide",
        width: 1000.0,
        height,
        half,
        fits: match n {
            2 => 42,
            3..=4 => 34,
            5..=8 => 27,
            _ => 23,
        },
        places: ring(n, (500.0, height / 2.0), radius),
    }
}

fn narrow(n: usize) -> Canvas {
    let half: Point = (82.0, 46.0);
    let radius: Point = match n {
        2 => (0.0, 130.0),
        3 => (100.0, 150.0),
        _ => (135.0, 190.0),
    };
    let height = 2.0 * (radius.1 + half.1) + 40.0;
    Canvas {
        id: "narrow",
        width: 380.0,
        height,
        half,
        fits: 21,
        places: ring(n, (190.0, height / 2.0), radius),
    }
}

/// Places on an ellipse, clockwise from the left where there are two, from the top else.
fn ring(n: usize, centre: Point, radius: Point) -> Vec<Point> {
    let turn = std::f64::consts::TAU;
    let start = match (n, radius.1 > 0.0 && radius.0 > 0.0) {
        // The four corners: nobody stands between two others.
        (4, true) => -0.375,
        (2, false) if radius.0 > 0.0 => -0.5,
        _ => -0.25,
    };
    let mut places = vec![];
    for (i, _) in std::iter::repeat_n((), n).enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a dozen at most")]
        let angle = (start + i as f64 / n as f64) * turn;
        places.push((
            centre.0 + radius.0 * angle.cos(),
            centre.1 + radius.1 * angle.sin(),
        ));
    }
    places
}

fn draw(page: &Page<'_>, links: &Links<'_>, canvas: &Canvas) -> String {
    let of = |class: &str| links.values().filter(|l| l.class == class).count();
    let label = format!(
        "{} members and {} links: {} proved, {} failed, {} need attention, {} not tried. The table below says the same.",
        page.members.len(),
        links.len(),
        of("ok"),
        of("failed"),
        of("warning"),
        of("not-tried")
    );
    let id = canvas.id;
    let many = if page.members.len() > MANY {
        " many"
    } else {
        ""
    };
    let mut text = format!(
        "<svg class=\"topology {id}{many}\" viewBox=\"0 0 {:.0} {:.0}\" role=\"img\" aria-label=\"{label}\">\n<defs>",
        canvas.width, canvas.height
    );
    for class in ["ok", "warning", "not-tried", "failed"] {
        let _ = write!(
            text,
            "<marker id=\"{id}-{class}\" class=\"{class}\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"9\" \
             markerHeight=\"9\" markerUnits=\"userSpaceOnUse\" orient=\"auto-start-reverse\"><path class=\"tip\" d=\"M0 0 10 5 0 10Z\"/></marker>"
        );
    }
    text += "</defs>\n";
    let (mut lines, mut signs) = (vec![], String::new());
    for (i, a) in page.members.iter().enumerate() {
        for (j, b) in page.members.iter().enumerate().skip(i + 1) {
            lines.extend(pair(links, canvas, (i, &a.name), (j, &b.name), &mut signs));
        }
    }
    // What is bad lies on top.
    lines.sort_by_key(|(class, _)| {
        ["not-tried", "ok", "warning", "failed"]
            .iter()
            .position(|c| c == class)
    });
    text.extend(lines.into_iter().map(|(_, line)| line));
    for (i, member) in page.members.iter().enumerate() {
        node(page, member, canvas, i, &mut text);
    }
    text + &signs + "</svg>\n"
}

/// The lines between two: one for each direction, or one for both where many say the same.
fn pair(
    links: &Links<'_>,
    canvas: &Canvas,
    (i, a): (usize, &str),
    (j, b): (usize, &str),
    signs: &mut String,
) -> Vec<(&'static str, String)> {
    let (Some(there), Some(back)) = (links.get(&(a, b)), links.get(&(b, a))) else {
        return vec![];
    };
    let few = canvas.places.len() <= FEW;
    if !few && there.class == back.class {
        let curve = Curve::of(canvas, i, j, 0.0);
        let told = format!("{}\n{}", there.told, back.told);
        if there.class != "ok" {
            curve.sign(there.class, signs);
        }
        return vec![(there.class, curve.line(canvas.id, there.class, &told, true))];
    }
    let bend = if few { 30.0 } else { 16.0 };
    let mut lines = vec![];
    for (from, to, link) in [(i, j, there), (j, i, back)] {
        let curve = Curve::of(canvas, from, to, bend);
        lines.push((
            link.class,
            curve.line(canvas.id, link.class, &link.told, false),
        ));
        if few || link.class != "ok" {
            curve.sign(link.class, signs);
        }
        if canvas.places.len() == 2 {
            curve.label(&link.word, signs);
        }
    }
    lines
}

/// A line from one member's box to another's.
struct Curve {
    from: Point,
    bend: Point,
    to: Point,
}

impl Curve {
    /// Bent to the left of its direction, so that the way back is another line.
    fn of(canvas: &Canvas, from: usize, to: usize, by: f64) -> Self {
        let at = |i: usize| canvas.places.get(i).copied().unwrap_or_default();
        let (a, b) = (at(from), at(to));
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let length = dx.hypot(dy).max(1.0);
        let across = (dy / length * by, -dx / length * by);
        let aside = |p: Point, part: f64| (p.0 + across.0 * part, p.1 + across.1 * part);
        let middle = f64::midpoint(a.0, b.0);
        let middle = aside((middle, f64::midpoint(a.1, b.1)), 1.6);
        Self {
            from: edge(aside(a, 0.6), a, middle, canvas.half),
            bend: middle,
            to: edge(aside(b, 0.6), b, middle, canvas.half),
        }
    }

    fn middle(&self) -> Point {
        let of = |a: f64, b: f64, c: f64| a * 0.25 + b * 0.5 + c * 0.25;
        (
            of(self.from.0, self.bend.0, self.to.0),
            of(self.from.1, self.bend.1, self.to.1),
        )
    }

    fn line(&self, id: &str, class: &str, told: &str, both: bool) -> String {
        let start = match both {
            true => format!(" marker-start=\"url(#{id}-{class})\""),
            false => String::new(),
        };
        let (a, m, b) = (self.from, self.bend, self.to);
        format!(
            "<path class=\"link {class}\" d=\"M{:.1} {:.1}Q{:.1} {:.1} {:.1} {:.1}\" marker-end=\"url(#{id}-{class})\"{start}><title>{}</title></path>\n",
            a.0,
            a.1,
            m.0,
            m.1,
            b.0,
            b.1,
            Text(told)
        )
    }

    fn sign(&self, class: &str, text: &mut String) {
        let (x, y) = self.middle();
        let _ = writeln!(
            text,
            "<g class=\"mark {class}\" transform=\"translate({x:.1} {y:.1})\"><circle class=\"halo\" r=\"12\"/>{}</g>",
            sign(class)
        );
    }

    /// The words beside a line that lies alone.
    fn label(&self, word: &str, text: &mut String) {
        let (x, y) = self.middle();
        let is_level = (self.from.1 - self.to.1).abs() < 1.0;
        let word = Text(word);
        let _ = match is_level {
            true => {
                let above = self.to.0 > self.from.0;
                let y = if above { y - 20.0 } else { y + 30.0 };
                writeln!(
                    text,
                    "<text class=\"word\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{word}</text>"
                )
            }
            false => {
                let right = self.to.1 > self.from.1;
                let (x, anchor) = if right {
                    (x + 18.0, "start")
                } else {
                    (x - 18.0, "end")
                };
                writeln!(
                    text,
                    "<text class=\"word\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{word}</text>",
                    y + 5.0
                )
            }
        };
    }
}

/// Where a line towards `to` leaves the box around `centre`, with room for its tip.
fn edge(start: Point, centre: Point, to: Point, half: Point) -> Point {
    let (dx, dy) = (to.0 - start.0, to.1 - start.1);
    let until = |d: f64, at: f64, middle: f64, half: f64| match d.abs() < 1e-6 {
        true => f64::INFINITY,
        false => ((middle + half.copysign(d)) - at) / d,
    };
    let t = until(dx, start.0, centre.0, half.0 + 4.0)
        .min(until(dy, start.1, centre.1, half.1 + 4.0))
        .clamp(0.0, 1.0);
    (start.0 + dx * t, start.1 + dy * t)
}

/// A member within its network.
fn node(page: &Page<'_>, member: &Member, canvas: &Canvas, i: usize, text: &mut String) {
    let Some((x, y)) = canvas.places.get(i).copied() else {
        return;
    };
    let (w, h) = canvas.half;
    let class = outcome(page, member);
    let (left, top) = (x - w, y - h);
    let versions = match (&member.unreachable, member.istio.as_slice()) {
        (Some(_), _) => "could not be read".to_owned(),
        (None, []) => "no istiod".to_owned(),
        (None, all) => format!("Istio {}", all.join(", ")),
    };
    let gateway = match member.gateway.as_slice() {
        [] => "no gateway address".to_owned(),
        [one] => format!("gateway {one}"),
        [one, rest @ ..] => format!("gateway {one} +{}", rest.len()),
    };
    let title = format!(
        "{}, network {}: {versions}; {gateway}{}",
        member.name,
        member.network,
        member
            .unreachable
            .as_ref()
            .map(|why| format!("; {why}"))
            .unwrap_or_default()
    );
    let line = |text: &str| cut(text, canvas.fits);
    let (network, name) = (
        format!("network {}", member.network),
        cut(&member.name, canvas.fits - 4),
    );
    let _ = writeln!(
        text,
        "<g class=\"node {class}\"><title>{}</title><rect class=\"network\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"12\"/>\
         <text class=\"small\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <rect class=\"box\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"7\"/>\
         <g class=\"mark {class}\" transform=\"translate({:.1} {:.1})\">{}</g>\
         <text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
         <text class=\"small\" x=\"{:.1}\" y=\"{:.1}\">{}</text><text class=\"small\" x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
        Text(&title),
        2.0 * w,
        2.0 * h,
        top + 15.0,
        Text(&line(&network)),
        left + 6.0,
        top + 22.0,
        2.0 * w - 12.0,
        2.0 * h - 28.0,
        left + 22.0,
        top + 38.0,
        sign(class),
        left + 38.0,
        top + 43.0,
        Text(&name),
        left + 14.0,
        top + 61.0,
        Text(&line(&versions)),
        left + 14.0,
        top + 76.0,
        Text(&line(&gateway)),
    );
}

/// How a member is by itself.
pub(super) fn outcome(page: &Page<'_>, member: &Member) -> &'static str {
    let mine = page.verdict.checks.iter();
    let mine = mine.filter(|c| c.from == member.name && c.to.is_none());
    match mine.map(|c| c.outcome).max() {
        _ if member.unreachable.is_some() => "failed",
        None => "not-tried",
        Some(Outcome::NotTried) => "not-tried",
        Some(outcome) => super::class(outcome),
    }
}

/// The sign of a member and its word.
pub(super) fn told(page: &Page<'_>, member: &Member) -> String {
    let class = outcome(page, member);
    let word = match class {
        _ if member.unreachable.is_some() => "could not be read",
        "ok" => "well",
        "warning" => "needs attention",
        "failed" => "failed",
        _ => "not tried",
    };
    format!("{}{word}", mark(class))
}
