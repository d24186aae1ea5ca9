//! From arguments to a mesh whose clusters can be spoken to: what every command begins with.

use std::{any::Any, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use jiff::SignedDuration;

pub(crate) use crate::link::selection::{Selection, typed};
use crate::{
    aws::{Aws, Env},
    cli::{
        Frame,
        args::{Changing, Target, environment::variable::DNS},
        error::{self, Exit, Failure, Kind, Problem},
        output::{
            Style,
            progress::Progress,
            summary::{self, After},
            table::Table,
        },
        passphrase,
    },
    cluster::{ConnectOptions, connect::Now},
    engine::{Sink, crashpoint::Crash, event::Event},
    hint::Hint,
    link::{
        Change, ChartSource, Consent, Environment, Folders, Meshlink, Question, Real, Sandbox,
        reach::Finder,
        selection::{self, Named, Selected},
    },
    manifest::Texts,
    name::ClusterName,
    plan::Step,
    report::{Report, RunOutcome},
    spec::Mesh,
    verify,
};

#[cfg(feature = "sandbox")]
mod embedded;
#[cfg(not(feature = "sandbox"))]
#[path = "session/unbuilt.rs"]
mod embedded;

/// How long one request to an API server may take, and a credential plugin; never longer than the whole.
const REQUEST: Duration = Duration::from_secs(30);
const PLUGIN: Duration = Duration::from_secs(60);

/// A mesh, and what a command has to know besides.
pub(crate) struct Session {
    /// The mesh, with its members connected.
    pub(crate) link: Meshlink,
    /// Which members were named.
    pub(crate) named: Vec<ClusterName>,
    /// Who was named and is not a member of it.
    pub(crate) strangers: Vec<ClusterName>,
    /// What another command must be told to find the same mesh.
    again: String,
    /// Embedded clusters of this command's own; they end with it.
    own: Option<Box<dyn Any + Send + Sync>>,
}

/// Embedded clusters that are meant, and whether they are this command's own.
#[derive(Default)]
pub(crate) struct Embedded {
    pub(crate) endpoints: Option<Endpoints>,
    pub(crate) own: Option<Box<dyn Any + Send + Sync>>,
}

/// Where embedded clusters are.
pub(crate) struct Endpoints {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) charts: String,
    pub(crate) dns: SocketAddr,
    /// A file with the environment that their AWS is used with.
    pub(crate) aws: PathBuf,
    /// How far their clock is ahead of this machine's.
    pub(crate) ahead: SignedDuration,
}

/// A mesh whose members are not connected to yet.
pub(crate) struct Found {
    pub(crate) mesh: Mesh,
    pub(crate) environment: Environment,
    pub(crate) finder: Finder,
    named: Vec<ClusterName>,
    strangers: Vec<ClusterName>,
    own: Option<Box<dyn Any + Send + Sync>>,
}

impl Found {
    /// Finds the mesh a command is about.
    pub(crate) async fn of(
        selection: Selection<'_>,
        target: &Target,
        frame: &Frame,
    ) -> Result<Self, Failure> {
        let Embedded { endpoints, own } = embedded::find(selection.names(), target, frame).await?;
        let environment = environment(target, frame, endpoints.as_ref())?;
        let finder = Finder::new(&environment);
        // Where meshes are recorded is told by what was typed: a running sandbox may be found by its AWS.
        let folders = frame.folders(target.sandbox)?;
        let selected = selection::mesh(selection, named(target, &folders), &finder).await?;
        let Selected {
            mut mesh,
            named,
            strangers,
        } = selected;
        if let Some(renewer) = &target.sources.renewer {
            mesh.renewer = Some(renewer.clone());
        }
        frame.hints.learn(target, &environment, &mesh, &finder);
        Ok(Self {
            mesh,
            environment,
            finder,
            named,
            strangers,
            own,
        })
    }
}

impl Session {
    /// Finds the mesh a command is about and connects to its members.
    pub(crate) async fn open(
        selection: Selection<'_>,
        target: &Target,
        frame: &Frame,
    ) -> Result<Self, Failure> {
        let found = Found::of(selection, target, frame).await?;
        let dead = match selection {
            Selection::Dead(names) => typed(&found.mesh, names)?,
            _ => vec![],
        };
        let Found {
            mesh,
            environment,
            finder,
            named,
            strangers,
            own,
        } = found;
        let link = Meshlink::open_without(&dead, mesh, environment, finder).await?;
        let embedded = link.environment.embedded;
        frame.hints.settle_where(embedded);
        Ok(Self {
            link,
            named,
            strangers,
            again: target.again(embedded),
            own,
        })
    }

    /// Says who was named and is not a member, where a command has no other place for it; true if there is somebody.
    pub(crate) fn tells_strangers(&self, frame: &Frame) -> bool {
        let mesh = self.link.mesh();
        let one = |name: &ClusterName| Problem {
            causes: vec![verify::no_member(name, &mesh.id, &mesh.members())],
            hints: vec![Hint::join_again([name])],
        };
        let mut failure = Failure {
            kind: Kind::NotInTime,
            errors: self.strangers.iter().map(one).collect(),
        };
        frame.hints.settle_failure(&mut failure);
        if !failure.errors.is_empty() {
            let text = error::render(&failure, frame.screen.err);
            frame.screen.complain(&text);
        }
        !failure.errors.is_empty()
    }

    /// Plans a change and does it, as a person at this terminal sees it.
    pub(crate) async fn apply(
        &mut self,
        change: Change,
        changing: Changing,
        frame: &Frame,
    ) -> Result<Report, Failure> {
        let environment = &mut self.link.environment;
        environment.wait_lock = changing.wait_lock;
        environment.break_lease = changing.break_lease;
        passphrase::given(&self.link.vault, frame)?;
        let planned = self.link.plan(change).await?;
        let signs = |step: &Step| step.signs();
        if planned
            .plan()
            .steps
            .iter()
            .any(|planned| signs(&planned.step))
        {
            passphrase::needed(&self.link.vault, frame)?;
            if self
                .link
                .vault
                .is_locked()
                .map_err(|e| Failure::failed(&e))?
            {
                return Err(locked());
            }
        }
        let consent = Asked {
            frame,
            yes: changing.yes,
            limit: self.link.environment.timeout,
        };
        let events: Arc<dyn Sink> = Arc::new(Shown(Progress::new(&frame.screen)));
        planned.apply(&consent, events).await
    }

    /// Shows the end of a run.
    pub(crate) fn finish(
        &self,
        frame: &Frame,
        report: Report,
        next: &[&str],
    ) -> Result<Exit, Failure> {
        let next = match report.outcome {
            // What comes next would find nothing.
            _ if self.own.is_some() => vec!["meshlink sandbox".into()],
            RunOutcome::Done | RunOutcome::NothingToDo => {
                let again = &self.again;
                next.iter().map(|n| format!("{n}{again}")).collect()
            }
            // Finished work yields no step: the same command goes on where this one ended.
            _ => vec![report.command.clone()],
        };
        let journal = self.link.places.journal();
        let after = After {
            journal: Some(&journal),
            next,
        };
        summary::finish(frame, report, &after)
    }
}

/// Asks whoever typed the command.
struct Asked<'a> {
    frame: &'a Frame,
    yes: bool,
    limit: Duration,
}

impl Consent for Asked<'_> {
    fn ask(&self, question: &Question<'_>) -> Result<bool, Failure> {
        if self.yes {
            return Ok(true);
        }
        if let Some((cluster, holder)) = question.breaks {
            let text = format!(
                "The Lease of {cluster} is held by {holder}. What that run is doing at this moment is not undone. Take it away?"
            );
            return self.frame.consent(&text, None, self.limit);
        }
        let deletes = question.members.iter().any(|m| m.deletions > 0);
        let takes = question.plan.takes_over();
        let word = (deletes || takes).then(|| question.mesh.as_str());
        self.frame.consent(&asked(question, word), word, self.limit)
    }
}

/// What is asked: what would be changed, where, and how to agree.
fn asked(question: &Question<'_>, word: Option<&str>) -> String {
    let mut table = Table::new([
        "CLUSTER",
        "API SERVER",
        "AWS ACCOUNT",
        "CHANGES",
        "DELETIONS",
    ]);
    for member in question.members {
        table.row([
            member.name.clone(),
            member.server.clone(),
            member.account.clone().unwrap_or_else(|| "-".into()),
            member.changes.to_string(),
            member.deletions.to_string(),
        ]);
    }
    let head = match question.again {
        false => "",
        true => "The clusters have changed since the plan was made. ",
    };
    let mesh = question.mesh;
    let ask = match word {
        Some(word) if question.plan.takes_over() => {
            format!(
                "What somebody else has installed is taken over. Type the name of the mesh, {word}, to continue:"
            )
        }
        Some(word) => {
            format!("Something is deleted. Type the name of the mesh, {word}, to continue:")
        }
        None => "Continue?".to_owned(),
    };
    let style = Style {
        color: false,
        utf8: false,
        width: usize::MAX,
    };
    format!(
        "{head}Mesh {mesh} is changed:\n\n{}\n{ask}",
        table.render(style)
    )
}

struct Shown(Progress);

impl Sink for Shown {
    fn event(&self, event: &Event) {
        self.0.event(event);
    }
}

/// Nothing is begun that would stop where it has to sign.
fn locked() -> Failure {
    let text = "the keys in the vault are under a passphrase, and the plan needs one of them";
    Failure::from_causes(Kind::Refused, vec![text.to_owned()]).hint(Hint::note(
        "run it on a terminal, where you are asked, or name a file with the passphrase in MESHLINK_PASSPHRASE_FILE",
    ))
}

/// How the mesh of a command is named.
pub(crate) fn named<'a>(target: &'a Target, folders: &'a Folders) -> Named<'a> {
    Named {
        file: target.file.as_deref(),
        document: target.document.as_deref(),
        id: target.mesh.as_ref(),
        values: (
            &target.sources.istiod_values,
            &target.sources.gateway_values,
        ),
        version: target.sources.istio_version.as_deref(),
        hubs: &target.sources.hub,
        full_mesh: target.sources.full_mesh,
        folders,
    }
}

/// What the library is given by this command and this machine.
fn environment(
    target: &Target,
    frame: &Frame,
    endpoints: Option<&Endpoints>,
) -> Result<Environment, Failure> {
    let machine = &frame.environment;
    let kubeconfig = match endpoints.filter(|_| target.sandbox) {
        Some(endpoints) => vec![endpoints.kubeconfig.clone()],
        None => machine.kubeconfig(target.kubeconfig.as_deref()),
    };
    let folders = frame.folders(endpoints.is_some())?;
    let screen = frame.screen.clone();
    // Embedded clusters have a clock of their own, and who works on them has the same.
    let clock = match endpoints.map(|e| e.ahead).filter(|a| !a.is_zero()) {
        Some(ahead) => frame.clock_ahead(ahead),
        None => frame.clock(),
    };
    let now = Now(clock.clone());
    let environment = Environment::new(folders, vec![], move || clock());
    let real = Real {
        folders: frame.folders(false)?,
        name_servers: machine.own.dns.as_deref().map_or(Ok(vec![]), dns_servers)?,
        charts: ChartSource {
            unpinned: false,
            from: target.sources.charts.clone(),
            offline: target.sources.offline,
            lock_folder: target.file.as_ref().map(|file| file.with_file_name("")),
            logins: machine.logins(),
        },
    };
    Ok(Environment {
        connect: ConnectOptions {
            kubeconfig,
            interactive: frame.screen.interactive,
            timeout: REQUEST.min(target.timeout),
            plugin_limit: PLUGIN.min(target.timeout),
            now,
            insecure: target.insecure_cluster.iter().cloned().collect(),
            network: frame.network.clone(),
            ..ConnectOptions::default()
        },
        aws: match endpoints.filter(|_| target.sandbox) {
            Some(endpoints) => aws_of(endpoints, frame),
            None => frame.aws.clone(),
        },
        name_servers: match endpoints {
            Some(endpoints) => vec![endpoints.dns],
            None => real.name_servers.clone(),
        },
        charts: match endpoints {
            Some(endpoints) => ChartSource {
                // The sandbox's own charts change with the program.
                unpinned: target.sources.charts.is_none(),
                from: real.charts.from.clone().or(Some(endpoints.charts.clone())),
                ..real.charts.clone()
            },
            None => real.charts.clone(),
        },
        manifests: match &machine.own.manifests {
            Some(folder) => Texts::with_folder(folder).map_err(|e| Failure::failed(&e))?,
            None => Texts::default(),
        },
        embedded: endpoints.is_some(),
        sandbox: endpoints.map(|endpoints| Sandbox {
            kubeconfig: endpoints.kubeconfig.clone(),
            only: target.sandbox,
            real,
        }),
        variables: Arc::new(machine.variables()),
        timeout: target.timeout,
        operator: operator(frame),
        command: format!("meshlink {}", frame.command),
        cancel: frame.cancel.clone(),
        changing: frame.changing.clone(),
        notices: Arc::new(move |text| screen.say(text)),
        crash: Crash::at(machine.own.crash.clone()),
        ..environment
    })
}

/// The AWS that embedded clusters are in, whatever the environment says of another.
fn aws_of(endpoints: &Endpoints, frame: &Frame) -> Aws {
    let text = std::fs::read_to_string(&endpoints.aws).unwrap_or_default();
    let vars = text.lines().filter_map(|line| line.split_once('='));
    let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let screen = frame.screen.clone();
    Aws::new(Env::from_vars(vars))
        .through(frame.network.clone())
        .telling(move |text| screen.say(text))
}

/// Who holds a Lease, for the one who finds it held.
fn operator(frame: &Frame) -> String {
    let user = frame.environment.var("USER").unwrap_or("somebody");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{user}@{} (process {})", host.trim(), std::process::id())
}

fn dns_servers(text: &str) -> Result<Vec<SocketAddr>, Failure> {
    let one = |server: &str| {
        let address = server.parse().or_else(|_| {
            server
                .parse::<std::net::IpAddr>()
                .map(|ip| SocketAddr::new(ip, 53))
        });
        address.map_err(|_| {
            Failure::usage(format!(
                "{DNS}: {server:?} is not the address of a name server"
            ))
        })
    };
    text.split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(one)
        .collect()
}
