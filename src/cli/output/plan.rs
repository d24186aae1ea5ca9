//! A plan as text: what would change, cluster by cluster.

use std::fmt::Write;

use serde_json::Value;

use super::{
    Style,
    plain::{count, cut, visible},
    wrap,
};
use crate::{
    cli::error::noted,
    cluster::subset::Change,
    plan::{ObjectChange, Plan, Planned, Step},
};

/// What is agreed to with the account of a peer.
const READERS: &str = "a reader account reads every Secret of its cluster, cacerts with its CA key included, and its \
    token does not expire unless a renewer runs: whoever reads a member's remote secrets has the keys of its peers (see SECURITY.md)";

/// What a plan would do. With `verbose`, why, and every field of what is missing.
pub(crate) fn render(plan: &Plan, verbose: bool, style: Style) -> String {
    let mut text = String::new();
    for note in &plan.notes {
        noted(&mut text, style, note);
    }
    if plan.is_empty() {
        let _ = writeln!(
            text,
            "{}",
            style.green("nothing to do: everything is as it should be")
        );
        return text;
    }
    if !plan.notes.is_empty() {
        text.push('\n');
    }
    for (name, steps) in &lanes(plan) {
        let _ = writeln!(text, "{}", style.bold(name));
        steps
            .iter()
            .for_each(|planned| step(&mut text, planned, verbose, style));
        text.push('\n');
    }
    if plan
        .steps
        .iter()
        .any(|p| matches!(p.step, Step::GrantReader { .. }))
    {
        noted(&mut text, style, &READERS.to_owned().into());
        text.push('\n');
    }
    let steps = count(plan.steps.len(), "step");
    let _ = writeln!(text, "{steps} would be done; nothing was changed");
    text
}

/// The steps of each cluster, in the plan's order; first those of none.
fn lanes(plan: &Plan) -> Vec<(String, Vec<&Planned>)> {
    let mut lanes: Vec<(String, Vec<&Planned>)> = vec![];
    for planned in &plan.steps {
        let name = planned
            .step
            .cluster()
            .map_or("the mesh", |cluster| cluster.as_str());
        match lanes.iter_mut().find(|(lane, _)| lane == name) {
            Some((_, steps)) => steps.push(planned),
            None => lanes.push((name.into(), vec![planned])),
        }
    }
    lanes
}

fn step(out: &mut String, planned: &Planned, verbose: bool, style: Style) {
    let _ = writeln!(
        out,
        "  {}  {}",
        style.cyan(&planned.step.to_string()),
        planned.describe
    );
    if verbose && !planned.why.is_empty() {
        for line in wrap(&planned.why, style.width.saturating_sub(6)) {
            let _ = writeln!(out, "      {}", style.dim(&line));
        }
    }
    for change in &planned.changes {
        object(out, change, verbose, style);
    }
    for taken in &planned.takes {
        let to = match &taken.release {
            Some((release, _)) => format!("release {release}"),
            None => "meshlink".to_owned(),
        };
        let _ = writeln!(out, "    {} {}  to {to}", style.yellow(">"), taken.object);
    }
    for deletion in &planned.deletes {
        let _ = writeln!(out, "    {} {}", style.red("-"), deletion.object);
    }
}

/// `+` for what is missing, `~` for what differs; what is deleted has a `-`.
fn object(out: &mut String, change: &ObjectChange, verbose: bool, style: Style) {
    let sign = match change.missing {
        true => style.green("+"),
        false => style.yellow("~"),
    };
    let head = format!("    {sign} {}", change.object);
    match change.fields.as_slice() {
        [one] if !change.missing && fits(&head, one, style) => {
            let _ = writeln!(out, "{head}  {}", field(one, ": "));
        }
        fields => {
            let _ = writeln!(out, "{head}");
            // What is missing altogether is told field by field only to those who ask.
            for one in fields.iter().filter(|_| verbose || !change.missing) {
                let line = field(one, ": ");
                let parted = field(one, ":\n          ");
                let fits = 8 + visible(&line) <= style.width;
                for line in if fits { line } else { parted }.lines() {
                    let line = format!("        {}", line.trim_start_matches("        "));
                    let _ = writeln!(out, "{}", shorten(&line, verbose, style));
                }
            }
        }
    }
}

fn fits(head: &str, change: &Change, style: Style) -> bool {
    visible(head) + 2 + visible(&field(change, ": ")) <= style.width
}

fn shorten(line: &str, verbose: bool, style: Style) -> String {
    match verbose {
        true => line.to_owned(),
        false => cut(line, style.width, style.symbol("…", "...")),
    }
}

fn field(change: &Change, colon: &str) -> String {
    let (path, to) = (&change.path, value(&change.to));
    match &change.from {
        Some(from) => format!("{path}{colon}{} -> {to}", value(from)),
        None => format!("{path}{colon}{to}"),
    }
}

/// A value on one line; text without quotes where it reads the same.
fn value(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && !text.contains(char::is_whitespace) => {
            text.clone()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn planned(step: Step, changes: Vec<ObjectChange>) -> Planned {
        let describe = step.describe();
        Planned {
            step,
            needs: vec![],
            describe,
            why: "what is there was made by an older version of the chart, and its digest differs from the wanted one".into(),
            changes,
            deletes: vec![],
            takes: vec![],
        }
    }

    fn example() -> Plan {
        let change = |path: &str, from: Option<Value>, to: Value| Change {
            path: path.into(),
            from,
            to,
        };
        let object = |object: &str, missing: bool, fields: Vec<Change>| ObjectChange {
            object: object.into(),
            missing,
            fields,
        };
        let replicas = change("spec.replicas", Some(json!(1)), json!(2));
        let image = change(
            "spec.template.spec.containers[name=discovery].image",
            Some(json!("docker.io/istio/pilot:1.30.0")),
            json!("docker.io/istio/pilot:1.31.4"),
        );
        let label = change("metadata.labels.topology", None, json!("eks 2"));
        let istiod = object(
            "Deployment istio-system/istiod",
            false,
            vec![replicas.clone()],
        );
        let gateway = object(
            "Deployment istio-ingress/gateway",
            false,
            vec![replicas, image],
        );
        let namespace = object("Namespace istio-system", true, vec![label]);
        Plan {
            steps: vec![
                planned(Step::CreateRoot, vec![]),
                planned(Step::InstallIstiod("eks-1".parse().unwrap()), vec![istiod]),
                planned(
                    Step::PrepareNamespaces("eks-2".parse().unwrap()),
                    vec![namespace],
                ),
                planned(
                    Step::InstallGateway("eks-1".parse().unwrap()),
                    vec![gateway],
                ),
            ],
            notes: vec!["eks-2 has no injected pods".to_owned().into()],
            ..Plan::default()
        }
    }

    #[test]
    fn a_plan_is_grouped_by_cluster() {
        insta::assert_snapshot!(render(&example(), false, Style::plain()), @"
        note: eks-2 has no injected pods

        the mesh
          create-root  make the mesh's root key and certificate in the vault

        eks-1
          install-istiod/eks-1  install istiod in eks-1
            ~ Deployment istio-system/istiod  spec.replicas: 1 -> 2
          install-gateway/eks-1  install the east-west gateway in eks-1
            ~ Deployment istio-ingress/gateway
                spec.replicas: 1 -> 2
                spec.template.spec.containers[name=discovery].image:
                  docker.io/istio/pilot:1.30.0 -> docker.io/istio/pilot:1.31.4

        eks-2
          prepare-namespaces/eks-2  create or label the namespaces in eks-2
            + Namespace istio-system

        4 steps would be done; nothing was changed
        ");
    }

    #[test]
    fn why_and_every_field_on_request() {
        insta::assert_snapshot!(render(&example(), true, Style::plain()), @r#"
        note: eks-2 has no injected pods

        the mesh
          create-root  make the mesh's root key and certificate in the vault
              what is there was made by an older version of the chart, and its digest
              differs from the wanted one

        eks-1
          install-istiod/eks-1  install istiod in eks-1
              what is there was made by an older version of the chart, and its digest
              differs from the wanted one
            ~ Deployment istio-system/istiod  spec.replicas: 1 -> 2
          install-gateway/eks-1  install the east-west gateway in eks-1
              what is there was made by an older version of the chart, and its digest
              differs from the wanted one
            ~ Deployment istio-ingress/gateway
                spec.replicas: 1 -> 2
                spec.template.spec.containers[name=discovery].image:
                  docker.io/istio/pilot:1.30.0 -> docker.io/istio/pilot:1.31.4

        eks-2
          prepare-namespaces/eks-2  create or label the namespaces in eks-2
              what is there was made by an older version of the chart, and its digest
              differs from the wanted one
            + Namespace istio-system
                metadata.labels.topology: "eks 2"

        4 steps would be done; nothing was changed
        "#);
    }

    #[test]
    fn nothing_to_do() {
        insta::assert_snapshot!(render(&Plan::default(), false, Style::plain()), @"nothing to do: everything is as it should be");
    }
}
