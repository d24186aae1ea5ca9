//! Hints as they can be pasted: with the flags of the command that shows them, and contexts that the kubeconfig has.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    args::{Command, Flags, PlanChange, SampleCommand, Target, Wait, workloads::WorkloadsChange},
    error::Failure,
};
use crate::{
    aws::eks,
    ends::Ends,
    hint::{About, Hint, InCluster, Meshlink, word},
    link::{Environment, reach::Finder, record, selection::DEFAULT},
    report::Report,
    spec::{Member, Mesh, Reach},
    verify::Verdict,
};

/// What is known of the mesh a command is about: first what was typed, later the mesh itself.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    known: RwLock<Known>,
    /// What shows, without changing anything, what the command would do.
    preview: Option<Hint>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Known {
    /// The mesh, once it was found.
    mesh: Option<String>,
    flags: Flags,
    /// The kubeconfig, where it is not the one kubectl takes by itself.
    kubeconfig: Option<String>,
    members: BTreeMap<String, Found>,
}

/// How a member is found.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Found {
    /// As a user types it.
    typed: String,
    /// Its kubeconfig context; an EKS cluster needs none.
    context: Option<String>,
    /// Its name and its region, where it is an EKS cluster.
    eks: Option<(String, String)>,
}

impl Hints {
    /// For a command whose mesh was not found yet.
    pub(crate) fn of(command: &Command) -> Self {
        let known = target(command).map(|target| Known {
            mesh: None,
            flags: target.flags(target.sandbox),
            kubeconfig: target.kubeconfig.as_ref().map(|p| p.display().to_string()),
            members: BTreeMap::new(),
        });
        Self {
            known: RwLock::new(known.unwrap_or_default()),
            preview: preview(command),
        }
    }

    /// What to look at before the command is run.
    pub(crate) fn preview(&self) -> Option<Hint> {
        self.preview.clone()
    }

    /// Takes note of the mesh that was found, and of how its clusters are connected to.
    pub(crate) fn learn(
        &self,
        target: &Target,
        environment: &Environment,
        mesh: &Mesh,
        finder: &Finder,
    ) {
        let contexts = finder.eks_contexts();
        let region = environment.aws.env().region.as_deref();
        let found = |m: &Member| (m.name.to_string(), found(m, &contexts, region));
        let file = match target.sandbox {
            true => environment.connect.kubeconfig.first(),
            false => target.kubeconfig.as_ref(),
        };
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Known {
            mesh: Some(mesh.id.to_string()),
            flags: target.flags(environment.embedded),
            kubeconfig: file.map(|p| p.display().to_string()),
            members: mesh.clusters.iter().map(found).collect(),
        };
    }

    /// Takes note of whether the members are embedded, once that is known.
    pub(crate) fn settle_where(&self, embedded: bool) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.flags.sandbox = embedded;
    }

    /// What is known of the mesh, to be written down.
    pub(crate) fn record(&self) -> Value {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        serde_json::to_value(&*known).unwrap_or_default()
    }

    /// Goes by what was written down of a mesh.
    pub(crate) fn go_by(&self, record: Value) {
        if let Ok(known) = serde_json::from_value(record) {
            *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        }
    }

    /// What the mesh is called: as it was found, else as it was typed.
    pub(crate) fn mesh(&self, target: &Target) -> String {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let typed = || {
            let file = target.file.as_deref();
            let read = file.and_then(|file| record::read(file).ok());
            read.map(|mesh| mesh.id).or_else(|| target.mesh.clone())
        };
        let named = known
            .mesh
            .clone()
            .or_else(|| typed().map(|id| id.to_string()));
        named.unwrap_or_else(|| DEFAULT.to_owned())
    }

    /// Each as a command that can be pasted, or as a note.
    pub(crate) fn settle(&self, hints: &mut [Hint]) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        for hint in hints {
            *hint = known.settled(hint);
        }
    }

    /// The hints of every error.
    pub(crate) fn settle_failure(&self, failure: &mut Failure) {
        let all = failure.errors.iter_mut();
        all.for_each(|problem| self.settle(&mut problem.hints));
    }

    /// The hints of every check.
    pub(crate) fn settle_verdict(&self, verdict: &mut Verdict) {
        let all = verdict.checks.iter_mut();
        all.for_each(|check| self.settle(&mut check.hints));
    }

    /// The hints of what ends.
    pub(crate) fn settle_ends(&self, ends: &mut Ends) {
        for row in &mut ends.rows {
            self.settle(&mut row.hints);
        }
    }

    /// The hints of a run.
    pub(crate) fn settle_report(&self, report: &mut Report) {
        let steps = report.steps.iter_mut();
        steps.for_each(|step| self.settle(&mut step.hints));
        let notes = report.notes.iter_mut();
        notes.for_each(|note| self.settle(&mut note.hints));
        report
            .verdict
            .iter_mut()
            .for_each(|v| self.settle_verdict(v));
    }
}

impl Known {
    fn settled(&self, hint: &Hint) -> Hint {
        match hint {
            Hint::Command(_) | Hint::Note(_) => hint.clone(),
            Hint::Meshlink(command) => self.ours(command),
            Hint::Cluster(command) => self.of_a_cluster(command),
        }
    }

    fn ours(&self, command: &Meshlink) -> Hint {
        let flags = &self.flags;
        match &command.about {
            About::Same => Hint::Command(command.with(&flags.all())),
            About::Other => Hint::Command(command.with(&flags.place())),
            About::Members { named, others } => self.join(command, named, *others),
        }
    }

    /// A mesh file names its members itself: beside it they are left out, or it lacks some.
    fn join(&self, command: &Meshlink, named: &[String], others: bool) -> Hint {
        let others = self.members.keys().filter(|_| others);
        let others = others.filter(|name| !named.contains(name));
        let all: Vec<&String> = named.iter().chain(others).collect();
        let typed = |name: &&String| {
            let found = self.members.get(*name);
            found.map_or_else(|| (*name).clone(), |found| found.typed.clone())
        };
        let as_it_is = all.len() == self.members.len()
            && all.iter().all(|name| self.members.contains_key(*name));
        let members = match (&self.flags.file, as_it_is) {
            (None, _) => all.iter().map(typed).collect(),
            (Some(_), true) => vec![],
            (Some(file), false) => {
                let names = all.iter().map(|name| name.as_str()).collect::<Vec<_>>();
                return Hint::Note(format!(
                    "list {} in {}, and join again",
                    names.join(" and "),
                    word(file)
                ));
            }
        };
        let command = Meshlink {
            about: About::Members {
                named: members,
                others: false,
            },
            ..command.clone()
        };
        Hint::Command(command.with(&self.flags.all()))
    }

    fn of_a_cluster(&self, command: &InCluster) -> Hint {
        let kubeconfig = self.kubeconfig.as_deref();
        match self.members.get(&command.cluster) {
            Some(Found {
                context: None,
                eks: Some((name, region)),
                ..
            }) => {
                let alias = command.cluster.as_str();
                let file = kubeconfig.into_iter().flat_map(|k| ["--kubeconfig", k]);
                let words = [
                    "aws",
                    "eks",
                    "update-kubeconfig",
                    "--name",
                    name,
                    "--region",
                    region,
                ];
                let words = words.into_iter().chain(["--alias", alias]).chain(file);
                let entry = Hint::command(words);
                Hint::Command(format!("{entry} && {}", command.with(alias, kubeconfig)))
            }
            Some(Found { context: None, .. }) => Hint::Note(format!(
                "the kubeconfig has no context for {}; with one: {}",
                command.cluster,
                command.bare()
            )),
            Some(Found {
                context: Some(context),
                ..
            }) => Hint::Command(command.with(context, kubeconfig)),
            None => Hint::Command(command.with(&command.cluster, kubeconfig)),
        }
    }
}

/// How a member is found again, by the rules by which it was found.
fn found(member: &Member, contexts: &[eks::Context], region: Option<&str>) -> Found {
    let name = member.name.as_str();
    let by = record::found_by(&member.reach);
    let find = |text: &str, contexts: &[eks::Context]| match eks::find(
        text,
        &BTreeMap::new(),
        contexts,
        region,
    ) {
        Ok(eks::Found::Context(context)) => (Some(context), None),
        Ok(eks::Found::Eks(place)) => (None, Some((place.name, place.region))),
        Err(_) => (None, None),
    };
    let (context, eks) = match &member.reach {
        Reach::Context(context) => (Some(context.clone()), None),
        Reach::Auto(text) if contexts.iter().any(|c| c.name == *text) => (Some(text.clone()), None),
        Reach::Auto(text) => find(text, contexts),
        Reach::Eks(cluster) => find(&record::eks_text(cluster), &[]),
    };
    Found {
        typed: match by == name {
            true => by,
            false => format!("{name}={by}"),
        },
        context,
        eks,
    }
}

/// The plan of a command.
fn preview(command: &Command) -> Option<Hint> {
    let words = match command {
        Command::Join(args) => {
            let ignored = args.ignore.iter().flat_map(|check| ["--ignore", check]);
            let names = args.clusters.iter().map(String::as_str);
            ["plan"].into_iter().chain(names).chain(ignored).collect()
        }
        Command::Adopt(args) => {
            let (names, manner) = (args.how.clusters.iter(), &args.how.manner);
            let flags = [
                (manner.restart_workloads, "--restart-workloads"),
                (manner.accept_gap, "--accept-gap"),
            ];
            let flags = flags.into_iter().filter(|(is, _)| *is);
            let words = ["plan", "adopt"].into_iter();
            let words = words.chain(names.map(String::as_str));
            words.chain(flags.map(|(_, flag)| flag)).collect()
        }
        Command::Leave(leave) => {
            let how = &leave.how;
            let flags = [
                (how.uninstall, "--uninstall"),
                (how.crds, "--crds"),
                (how.dead, "--dead"),
                (how.abandon_load_balancer, "--abandon-load-balancer"),
            ];
            let flags = flags
                .into_iter()
                .filter(|(is, _)| *is)
                .map(|(_, flag)| flag);
            let names = how.clusters.iter().map(String::as_str);
            ["plan", "leave"]
                .into_iter()
                .chain(names)
                .chain(flags)
                .collect::<Vec<_>>()
        }
        Command::Renew(renew) => {
            let names = renew.how.clusters.iter().map(String::as_str);
            let what = ["--what", renew.how.what.as_str()];
            ["plan", "renew"]
                .into_iter()
                .chain(names)
                .chain(what)
                .collect()
        }
        Command::Upgrade(args) => {
            let how = &args.how;
            let to = how.to.as_ref().map(ToString::to_string);
            let names = how.clusters.iter().map(String::as_str);
            let to = to.iter().flat_map(|to| ["--to", to.as_str()]);
            let flags = [
                (how.back, "--back"),
                (how.accept_known_faults, "--accept-known-faults"),
            ];
            let flags = flags.into_iter().filter(|(is, _)| *is);
            let words = ["plan", "upgrade"].into_iter().chain(names).chain(to);
            let words: Vec<_> = words.chain(flags.map(|(_, flag)| flag)).collect();
            return Some(Hint::meshlink(words).remark("shows what would be changed"));
        }
        Command::Workloads(args) => {
            let words = match args.change.as_deref() {
                Some(WorkloadsChange::Inject(args)) => args.how.words(),
                Some(WorkloadsChange::Restart(args)) => args.how.words(),
                None => return None,
            };
            ["plan", "workloads"].into_iter().chain(words).collect()
        }
        _ => return None,
    };
    Some(Hint::meshlink(words).remark("shows what would be changed"))
}

/// The mesh a command is about, where it is about one.
fn target(command: &Command) -> Option<&Target> {
    match command {
        Command::Join(args) => Some(&args.target),
        Command::Adopt(args) => Some(&args.how.target),
        Command::Leave(args) => Some(&args.how.target),
        Command::Renew(args) => Some(&args.how.target),
        Command::Upgrade(args) => Some(&args.how.target),
        Command::Plan(args) => Some(match args.change.as_deref() {
            Some(PlanChange::Adopt(how)) => &how.target,
            Some(PlanChange::Leave(leave)) => &leave.target,
            Some(PlanChange::Renew(renew)) => &renew.target,
            Some(PlanChange::Upgrade(how)) => &how.target,
            Some(PlanChange::Rotate(rotate)) => &rotate.target,
            Some(PlanChange::Workloads(how)) => how.target(),
            None => &args.target,
        }),
        Command::Status(args) => Some(&args.target),
        Command::Verify(args) => Some(&args.target),
        Command::Doctor(args) => Some(&args.target),
        Command::Workloads(args) => Some(args.target()),
        Command::Bundle(args) => Some(&args.target),
        Command::Sample(args) => Some(match &args.command {
            SampleCommand::Up(up) => &up.target.target,
            SampleCommand::Status(target) | SampleCommand::Call(target) => &target.target,
            SampleCommand::Down(down) => &down.target.target,
        }),
        Command::Wait(Wait::Nlb(args)) => Some(&args.target),
        Command::Render(args) => Some(&args.target),
        Command::Ca(args) => Some(args.target()),
        Command::Rotate(args) => Some(args.target()),
        #[cfg(feature = "sandbox")]
        Command::Sandbox(_) => None,
        Command::Chart(_)
        | Command::Aws(_)
        | Command::Terraform
        | Command::Completions(_)
        | Command::Man(_)
        | Command::Schema(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mesh of `a`, by its own name, of `b`, by another context, and of `c`, which EKS alone knows.
    fn known(flags: Flags) -> Known {
        let found = |typed: &str, context: Option<&str>| Found {
            typed: typed.into(),
            context: context.map(str::to_owned),
            eks: None,
        };
        let members = [
            ("a", found("a", Some("a"))),
            ("b", found("b=me@b", Some("me@b"))),
            ("c", found("c=eu-west-1/c", None)),
        ];
        Known {
            mesh: None,
            flags,
            kubeconfig: None,
            members: members.map(|(name, found)| (name.to_owned(), found)).into(),
        }
    }

    fn with_file() -> Flags {
        Flags {
            insecure: vec![],
            file: Some("my mesh.yaml".into()),
            mesh: Some("shop".into()),
            kubeconfig: None,
            sandbox: true,
        }
    }

    fn settled(known: &Known, hint: Hint) -> String {
        known.settled(&hint).to_string()
    }

    #[test]
    fn a_command_of_ours_finds_the_same_mesh() {
        let known = known(with_file());
        assert_eq!(
            settled(&known, Hint::meshlink(["leave", "c"]).remark("gone")),
            "meshlink leave c -f 'my mesh.yaml' --mesh shop --sandbox   # gone"
        );
        let other = Hint::other_mesh(["status", "--mesh", "other"]);
        assert_eq!(
            settled(&known, other),
            "meshlink status --mesh other --sandbox"
        );
    }

    #[test]
    fn a_join_names_all_members_as_they_are_found_unless_a_file_does() {
        let typed = known(Flags::default());
        assert_eq!(
            settled(&typed, Hint::join_again(["b"])),
            "meshlink join b=me@b a c=eu-west-1/c"
        );
        assert_eq!(
            settled(&typed, Hint::join(["a", "b"])),
            "meshlink join a b=me@b"
        );
        let filed = known(with_file());
        assert_eq!(
            settled(&filed, Hint::join_again(["a"])),
            "meshlink join -f 'my mesh.yaml' --mesh shop --sandbox"
        );
        assert_eq!(
            settled(&filed, Hint::join(["a", "b"])),
            "list a and b in 'my mesh.yaml', and join again"
        );
    }

    #[test]
    fn a_cluster_is_spoken_to_by_its_own_context() {
        let known = Known {
            kubeconfig: Some("/k".into()),
            ..known(Flags::default())
        };
        let pods = |cluster: &str| settled(&known, Hint::kubectl(cluster, ["get", "pods"]));
        assert_eq!(pods("b"), "kubectl --kubeconfig /k --context me@b get pods");
        assert_eq!(
            pods("c"),
            "the kubeconfig has no context for c; with one: kubectl get pods"
        );
        assert_eq!(
            pods("never-heard-of"),
            "kubectl --kubeconfig /k --context never-heard-of get pods"
        );
    }

    #[test]
    fn a_member_is_found_by_context_or_by_eks() {
        let name = "eks-1".parse().unwrap();
        let arn = "arn:aws:eks:eu-west-1:111122223333:cluster/eks-1";
        let member = |reach: &str| {
            let mesh = Mesh::named(&[format!("{name}={reach}"), "other".into()]).unwrap();
            mesh.clusters[0].clone()
        };
        let context = |name: &str| eks::Context {
            name: name.into(),
            cluster: arn.into(),
            ..eks::Context::default()
        };
        let of = |reach: &str, contexts: &[eks::Context]| {
            let found = found(&member(reach), contexts, Some("eu-west-1"));
            (found.typed, found.context)
        };
        let _: &crate::name::ClusterName = &name;
        assert_eq!(
            of("prod", &[context("prod")]),
            ("eks-1=prod".into(), Some("prod".into()))
        );
        assert_eq!(of("eks-1", &[]), ("eks-1".into(), None));
    }
}
