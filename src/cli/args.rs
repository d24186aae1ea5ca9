//! What a user can type, and what the machine says: the only place that reads either.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use super::error::Failure;
use crate::{
    aws::{arn::is_region, preflight::CHECKS},
    hint::{Hint, word},
    link::record::found_by,
    name::{ClusterName, MeshId},
    spec::Mesh,
};

pub(crate) mod chart;
pub(crate) mod complete;
pub(crate) mod environment;
mod others;

pub(crate) use environment::Environment;
use environment::variable;
pub(crate) use others::Others;

/// Join Kubernetes clusters on different networks into one Istio mesh, and prove that it works.
#[derive(Debug, Parser)]
#[command(
    name = "meshlink",
    version = env!("MESHLINK_VERSION"),
    max_term_width = 80,
    arg_required_else_help = true,
    after_help = "Try it without a cluster: meshlink join eks-1 eks-2 --sandbox"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How results and progress are shown.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Output {
    /// Form of the result on standard output
    #[arg(
        short = 'o',
        long = "output",
        global = true,
        value_enum,
        value_name = "FORM",
        default_value_t
    )]
    pub(crate) format: Format,
    /// Show the evidence too; twice, what is asked of whom; three times, more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Show the result only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Whether to use colours
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    pub(crate) color: Color,
}

/// Form of a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs; its schema is stable.
    Json,
    /// The same as JSON, in YAML.
    Yaml,
}

/// Whether to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal that has them.
    #[default]
    Auto,
    /// Also into files and pipes.
    Always,
    /// Not at all.
    Never,
}

/// Which mesh, and how to get at its clusters.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Mesh")]
pub(crate) struct Target {
    /// The mesh as a file
    #[arg(short, long, value_name = "MESH.YAML", env = variable::FILE, hide_env = true, value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// Name of the mesh, where there is no file
    #[arg(long, value_name = "NAME", env = variable::MESH, hide_env = true)]
    pub(crate) mesh: Option<MeshId>,
    /// Use embedded clusters that need nothing but this program
    #[arg(long)]
    pub(crate) sandbox: bool,
    /// Kubeconfig to read instead of $KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Where the Istio charts come from: repository, oci://…, folder or archive
    #[arg(long, value_name = "SOURCE", env = variable::CHARTS, hide_env = true, value_hint = ValueHint::AnyPath)]
    pub(crate) charts: Option<String>,
    /// Never fetch charts over the network: only what was fetched before, folders and archives
    #[arg(long, env = variable::OFFLINE, hide_env = true)]
    pub(crate) offline: bool,
    /// Values for the istiod chart, over what a mesh needs
    #[arg(long, value_name = "FILE", env = variable::ISTIOD_VALUES, hide_env = true, value_hint = ValueHint::FilePath)]
    pub(crate) istiod_values: Vec<PathBuf>,
    /// Values for the gateway chart
    #[arg(long, value_name = "FILE", env = variable::GATEWAY_VALUES, hide_env = true, value_hint = ValueHint::FilePath)]
    pub(crate) gateway_values: Vec<PathBuf>,
    /// How long to wait for anything to become ready
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Change real clusters without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// A cluster to change although its API server is spoken to in clear text or unchecked; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) insecure_cluster: Vec<ClusterName>,
}

impl Target {
    /// What another command must be told to find the same mesh and its clusters.
    pub(crate) fn again(&self, embedded: bool) -> String {
        let flags = self.flags(embedded).all();
        flags.iter().map(|flag| format!(" {flag}")).collect()
    }

    /// The same, flag by flag.
    pub(crate) fn flags(&self, embedded: bool) -> Flags {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
        Flags {
            file: path(&self.file),
            mesh: self.mesh.as_ref().map(ToString::to_string),
            kubeconfig: path(&self.kubeconfig),
            sandbox: embedded,
            insecure: self.insecure_cluster.clone(),
        }
    }
}

/// What a command must be told to find a mesh and its clusters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    /// `-f`.
    pub(crate) file: Option<String>,
    /// `--mesh`.
    pub(crate) mesh: Option<String>,
    /// `--kubeconfig`.
    pub(crate) kubeconfig: Option<String>,
    /// `--sandbox`.
    pub(crate) sandbox: bool,
    /// `--insecure-cluster`.
    pub(crate) insecure: Vec<ClusterName>,
}

impl Flags {
    /// All of them, as words for a shell.
    pub(crate) fn all(&self) -> Vec<String> {
        let mesh = [flag("-f", &self.file), flag("--mesh", &self.mesh)];
        mesh.into_iter().flatten().chain(self.place()).collect()
    }

    /// Those that say where the clusters are, whatever the mesh.
    pub(crate) fn place(&self) -> Vec<String> {
        let sandbox = self.sandbox.then(|| "--sandbox".to_owned());
        let place = [flag("--kubeconfig", &self.kubeconfig), sandbox];
        let insecure = self.insecure.iter();
        let insecure = insecure.map(|name| format!("--insecure-cluster {name}"));
        place.into_iter().flatten().chain(insecure).collect()
    }
}

fn flag(name: &str, value: &Option<String>) -> Option<String> {
    value.as_ref().map(|v| format!("{name} {}", word(v)))
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Join clusters into one mesh and prove it; run it again after anything went wrong
    Join(Join),
    /// Take a cluster out of the mesh again
    Leave(Leave),
    /// Show what a join would change, and change nothing
    Plan(Plan),
    /// Show what is there: every cluster, and every pair of them
    Status(Status),
    /// Prove that each cluster reaches the others
    Verify(Verify),
    /// Sample apps: put into the members, asked, taken out again
    Sample(Sample),
    /// Wait until something outside the clusters is ready; made for readiness checks
    #[command(subcommand)]
    Wait(Wait),
    /// Write the whole mesh as files, for GitOps
    Render(chart::Render),
    /// Show, download and pin charts, without Helm
    #[command(subcommand)]
    Chart(chart::Chart),
    /// What meshlink needs of AWS
    #[command(subcommand)]
    Aws(AwsCommand),
    /// Answer Terraform's external data source: a JSON object in, a JSON object out
    Terraform,
    /// The mesh's certificate authority
    #[command(subcommand)]
    Ca(Ca),
    /// Run embedded clusters to try things on, until interrupted
    #[cfg(feature = "sandbox")]
    Sandbox(Sandbox),
    /// Print the shell's completion script
    Completions(Completions),
    /// Write the manual pages
    #[command(hide = true)]
    Man(Man),
    /// Print the JSON schema of an output
    #[command(hide = true)]
    Schema(Schema),
}

/// `meshlink join`.
#[derive(Debug, clap::Args)]
pub(crate) struct Join {
    /// The members: kubeconfig contexts, EKS names, ARNs or region/name; two at least
    #[arg(value_name = "CLUSTER", required_unless_present = "file", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// Go on though this check of AWS fails, for example aws-webhook; may be repeated
    #[arg(long, value_name = "CHECK", value_parser = known_check)]
    pub(crate) ignore: Vec<String>,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) others: Others,
}

/// `meshlink leave`.
#[derive(Debug, clap::Args)]
pub(crate) struct Leave {
    /// Who leaves
    #[arg(value_name = "CLUSTER", required = true, add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// Remove istiod from it too
    #[arg(long)]
    pub(crate) uninstall: bool,
    /// Remove Istio's CRDs too, and with them every Istio object in the cluster
    #[arg(long, requires = "uninstall")]
    pub(crate) crds: bool,
    /// Its API server is gone for good: only the others are cleaned of it
    #[arg(long, conflicts_with = "uninstall")]
    pub(crate) dead: bool,
    /// Let go of a load balancer that nobody removes any more; what the cloud has of it stays
    #[arg(long, conflicts_with = "dead")]
    pub(crate) abandon_load_balancer: bool,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) others: Others,
}

/// `meshlink plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// The members, as for join
    #[arg(value_name = "CLUSTER", required_unless_present = "file", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// Go on though this check of AWS fails, for example aws-webhook; may be repeated
    #[arg(long, value_name = "CHECK", value_parser = known_check)]
    pub(crate) ignore: Vec<String>,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `meshlink status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    /// The members; all that the mesh knows, if none is named
    #[arg(value_name = "CLUSTER", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// Wait until the mesh is joined and synced
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `meshlink verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// The members; all that the mesh knows, if none is named
    #[arg(value_name = "CLUSTER", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// Send requests between the clusters too, from a pod that is removed afterwards
    #[arg(long)]
    pub(crate) traffic: bool,
    /// Look at a Service of yours too: where it is, and what the proxies hold of it
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = clap::value_parser!(crate::verify::service::Name))]
    pub(crate) service: Option<crate::verify::service::Name>,
    /// Write the claims to a file as JUnit XML too
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) junit: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) others: Others,
}

/// `meshlink sample`.
#[derive(Debug, clap::Args)]
pub(crate) struct Sample {
    #[command(subcommand)]
    pub(crate) command: SampleCommand,
}

/// `meshlink sample …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SampleCommand {
    /// Put helloworld and a client into every member, each with a version of its own
    Up(SampleUp),
    /// Show what is there
    Status(SampleTarget),
    /// Ask helloworld from every member, and count who answers
    Call(SampleTarget),
    /// Take it all out again
    Down(SampleDown),
}

/// Which sample.
#[derive(Debug, clap::Args)]
pub(crate) struct SampleTarget {
    /// The members; all that the mesh knows, if none is named
    #[arg(value_name = "CLUSTER", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// Namespace it is in; it must not be there, or be meshlink's
    #[arg(long, value_name = "NAME", default_value = "sample", value_parser = label)]
    pub(crate) namespace: String,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `meshlink sample up`.
#[derive(Debug, clap::Args)]
pub(crate) struct SampleUp {
    /// Image of the server instead of the proxy's own: it listens on 5000; {version} is replaced
    #[arg(long, value_name = "IMAGE")]
    pub(crate) server_image: Option<String>,
    /// Image of the client instead of the proxy's own, to exec into
    #[arg(long, value_name = "IMAGE")]
    pub(crate) client_image: Option<String>,
    #[command(flatten)]
    pub(crate) target: SampleTarget,
    #[command(flatten)]
    pub(crate) others: Others,
}

/// `meshlink sample down`.
#[derive(Debug, clap::Args)]
pub(crate) struct SampleDown {
    #[command(flatten)]
    pub(crate) target: SampleTarget,
    #[command(flatten)]
    pub(crate) others: Others,
}

/// `meshlink wait`.
#[derive(Debug, Subcommand)]
pub(crate) enum Wait {
    /// Until the gateways' network load balancers carry traffic on 15443
    Nlb(WaitNlb),
}

/// `meshlink wait nlb`.
#[derive(Debug, clap::Args)]
pub(crate) struct WaitNlb {
    /// The members; all that the mesh knows, if none is named
    #[arg(value_name = "CLUSTER", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// Every target must be healthy, not just one in each zone
    #[arg(long)]
    pub(crate) all_targets: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `meshlink aws`.
#[derive(Debug, Subcommand)]
pub(crate) enum AwsCommand {
    /// Print the least IAM policy meshlink works with
    Policy(AwsPolicy),
}

/// `meshlink aws policy`.
#[derive(Debug, clap::Args)]
pub(crate) struct AwsPolicy {
    /// A region of the partition it is for
    #[arg(
        long,
        value_name = "REGION",
        env = "AWS_REGION",
        hide_env = true,
        default_value = "us-east-1",
        value_parser = region
    )]
    pub(crate) region: String,
}

/// `meshlink ca`.
#[derive(Debug, Subcommand)]
pub(crate) enum Ca {
    /// Make the root key and certificate in the vault
    Init(CaInit),
    /// Show the root and every intermediate: issuer, fingerprint, expiry
    Status(CaStatus),
}

/// `meshlink ca init`.
#[derive(Debug, clap::Args)]
pub(crate) struct CaInit {
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `meshlink ca status`.
#[derive(Debug, clap::Args)]
pub(crate) struct CaStatus {
    /// Clusters whose certificates are compared with the vault's
    #[arg(value_name = "CLUSTER", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `meshlink sandbox`.
#[cfg(feature = "sandbox")]
#[derive(Debug, clap::Args)]
pub(crate) struct Sandbox {
    /// How many clusters
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=50))]
    pub(crate) clusters: u8,
    /// How long things take: at once, or as long as they do for real
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    pub(crate) timeline: Timeline,
}

/// How long things take in the sandbox.
#[cfg(feature = "sandbox")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Timeline {
    /// At once.
    #[default]
    Instant,
    /// As long as they do on real clusters.
    Real,
}

/// `meshlink completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// A shell that can be given completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// GNU bash.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
}

/// `meshlink man`.
#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// Folder to write them to
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
}

/// `meshlink schema`.
#[derive(Debug, clap::Args)]
pub(crate) struct Schema {
    /// Which output; all are listed if none is named
    pub(crate) name: Option<String>,
}

impl Ca {
    /// Which mesh it is about.
    pub(crate) fn target(&self) -> &Target {
        match self {
            Self::Init(args) => &args.target,
            Self::Status(args) => &args.target,
        }
    }
}

impl Command {
    /// What the parser alone cannot see; `known` is the mesh that is recorded here.
    pub(crate) fn check(&self, known: impl Fn(&Target) -> Option<Mesh>) -> Result<(), Failure> {
        let (Self::Join(Join {
            clusters, target, ..
        })
        | Self::Render(chart::Render {
            clusters, target, ..
        })
        | Self::Plan(Plan {
            clusters, target, ..
        })) = self
        else {
            return Ok(());
        };
        match clusters.as_slice() {
            [one] if target.file.is_none() => {
                let text = format!("a mesh needs at least two clusters, and only {one} was named");
                let failure = Failure::usage(text);
                let known = known(target).filter(|mesh| !mesh.clusters.is_empty());
                Err(match known {
                    // What is to be added to a mesh is named with all that it has.
                    Some(mesh) => {
                        let others = mesh.clusters.iter().map(|m| found_by(&m.reach));
                        let others = others.filter(|other| other != one);
                        let hint = Hint::join(others.chain([one.clone()]));
                        failure.hint(hint.remark(format!("adds {one} to mesh {}", mesh.id)))
                    }
                    None => failure,
                })
            }
            _ => Ok(()),
        }
    }
}

/// A check of AWS that there is.
fn known_check(text: &str) -> Result<String, String> {
    match CHECKS.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "there is no such check: there are {}",
            CHECKS.join(", ")
        )),
    }
}

/// A text that has the shape of a region's name.
fn region(text: &str) -> Result<String, String> {
    match is_region(text) {
        true => Ok(text.to_owned()),
        false => Err("write it like eu-west-1".to_owned()),
    }
}

/// A version of Kubernetes: `v1.36`, `1.36.2`.
fn kubernetes(text: &str) -> Result<String, String> {
    let parts: Vec<_> = text.trim_start_matches('v').split('.').collect();
    let is_number = |part: &&str| {
        let digits = part.split(['-', '+']).next().unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    };
    match (2..=3).contains(&parts.len()) && parts.iter().all(is_number) {
        true => Ok(text.to_owned()),
        false => Err("write it like 1.36 or v1.36.2".to_owned()),
    }
}

/// What a namespace may be called.
fn label(text: &str) -> Result<String, String> {
    let name = text.parse::<crate::name::ClusterName>();
    name.map(|name| name.to_string())
        .map_err(|e| e.reason.to_owned())
}

/// A time as people write it: `90s`, `15m`, `1h 30m`.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text
        .parse()
        .map_err(|_| "write it like 15m or 1h30m".to_owned())?;
    let time = Duration::try_from(parsed).map_err(|_| "it cannot be negative".to_owned())?;
    // What is added to the time of day must not leave the calendar.
    match time <= LONGEST {
        true => Ok(time),
        false => Err("at most 30 days: write 720h".into()),
    }
}

/// The longest that anything is waited for.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn times() {
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert!(duration("soon").is_err() && duration("-1s").is_err());
        for huge in ["9223372036854775807s", "721h", "2562047788015215h"] {
            assert!(duration(huge).is_err(), "{huge}");
        }
        assert_eq!(duration("720h"), Ok(LONGEST));
    }
}
