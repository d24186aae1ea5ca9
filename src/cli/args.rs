//! What a user can type, and what the machine says: the only place that reads either.

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use super::{
    error::{Exit, Failure},
    output::wrap,
};
use crate::{
    aws::{arn::is_region, preflight::CHECKS},
    spec::Mesh,
};

pub(crate) mod adopt;
mod bundle;
mod ca;
pub(crate) mod chart;
pub(crate) mod complete;
mod doctor;
#[cfg(test)]
mod documented;
pub(crate) mod environment;
mod renew;
pub(crate) mod rotate;
mod status;
mod target;
pub(crate) mod upgrade;
mod within;
pub(crate) mod workloads;

pub(crate) use bundle::Bundle;
pub(crate) use ca::{Ca, CaCsr, CaImport, CaInit, CaProtect, CaStatus};
pub(crate) use doctor::Doctor;
pub(crate) use environment::Environment;
use environment::variable;
pub(crate) use renew::{Renew, Renewed, Renewing};
pub(crate) use status::Status;
pub(crate) use target::{Changing, Flags, Sources, Target};
pub(crate) use workloads::Workloads;

/// What everybody can do.
const TRY: &str = "Try it without a cluster: meshlink join eks-1 eks-2 --sandbox";

/// What `--help` adds: the variables of the environment and the exit codes.
fn more() -> String {
    let variables = variable::ALL.map(|(name, meaning)| entry(name, meaning));
    let codes = Exit::ALL.map(|exit| entry(&exit.code().to_string(), exit.meaning()));
    format!(
        "Environment:\n{}\nExit codes:\n{}\n{TRY}",
        variables.concat(),
        codes.concat()
    )
}

fn entry(name: &str, meaning: &str) -> String {
    let mut lines = wrap(meaning, 52).into_iter();
    let first = lines.next().unwrap_or_default();
    let first = format!("  {name:<24}  {first}\n");
    lines.fold(first, |text, line| format!("{text}{:28}{line}\n", ""))
}

/// Join Kubernetes clusters on different networks into one Istio mesh, and prove that it works.
#[derive(Debug, Parser)]
#[command(
    name = "meshlink",
    version = env!("MESHLINK_VERSION"),
    max_term_width = 80,
    arg_required_else_help = true,
    after_help = TRY,
    after_long_help = more()
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
    /// Format of the result on standard output
    #[arg(
        short = 'o',
        long = "output",
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value_t
    )]
    pub(crate) format: Format,
    /// -v evidence, -vv API requests, -vvv debug
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Print the result only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Whether to use colours
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    pub(crate) color: Color,
}

/// Format of a result.
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

/// What to do.
#[derive(Debug, Subcommand)]
#[allow(
    clippy::large_enum_variant,
    reason = "a run of the program has one of it"
)]
pub(crate) enum Command {
    /// Join clusters into one mesh and prove it; run it again after anything went wrong
    Join(Join),
    /// Make clusters that have an Istio already fit to join, with no request lost
    Adopt(adopt::Adopt),
    /// Remove clusters from the mesh
    Leave(Leave),
    /// Renew what ends: intermediates, tokens and API server CAs, with no request lost
    Renew(Renew),
    /// Move the mesh to another version of Istio, one member after the other
    Upgrade(upgrade::Upgrade),
    /// Show what a join or a leave would change, and change nothing
    Plan(Plan),
    /// Show the state of every cluster, and of every pair of clusters
    Status(Status),
    /// Prove that each cluster reaches the others
    Verify(Verify),
    /// Find the cause of what is wrong, and say what to do about it
    Doctor(Doctor),
    /// Show each pod's proxy, or why it has none, and what must restart
    Workloads(Workloads),
    /// Write all that is known into one archive, without secrets
    Bundle(Bundle),
    /// Install, call and remove sample apps in the members
    Sample(Sample),
    /// Wait until something outside the clusters is ready, as a readiness gate
    #[command(subcommand)]
    Wait(Wait),
    /// Write the whole mesh as files, for GitOps
    Render(chart::Render),
    /// Show, download and pin charts, without Helm
    #[command(subcommand)]
    Chart(chart::Chart),
    /// Print what meshlink needs on AWS
    #[command(subcommand)]
    Aws(AwsCommand),
    /// Answer Terraform's external data source: JSON in, JSON out
    Terraform,
    /// Create or show the mesh's certificate authority
    #[command(subcommand)]
    Ca(Ca),
    /// Change what the mesh trusts, with no request lost
    #[command(subcommand)]
    Rotate(rotate::Rotate),
    /// Run embedded clusters to try things, until interrupted
    #[cfg(feature = "sandbox")]
    Sandbox(Sandbox),
    /// Print the completion script of a shell
    Completions(Completions),
    /// Write the manual pages
    Man(Man),
    /// Print the JSON schema of an output
    Schema(Schema),
}

/// `meshlink join`.
#[derive(Debug, clap::Args)]
pub(crate) struct Join {
    /// The members: kubeconfig contexts, EKS names, ARNs or region/name; at least two
    #[arg(value_name = "CLUSTER", required_unless_present = "file", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// Continue although this AWS check fails, for example aws-webhook; may be repeated
    #[arg(long, value_name = "CHECK", value_parser = known_check)]
    pub(crate) ignore: Vec<String>,
    /// First make those fit that have an Istio already, as adopt does
    #[arg(long)]
    pub(crate) adopt: bool,
    #[command(flatten)]
    pub(crate) manner: adopt::Manner,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) changing: Changing,
    #[command(flatten)]
    pub(crate) sources: Sources,
}

/// `meshlink leave`.
#[derive(Debug, clap::Args)]
pub(crate) struct Leave {
    #[command(flatten)]
    pub(crate) how: Leaving,
    #[command(flatten)]
    pub(crate) changing: Changing,
}

/// Who leaves, and how far.
#[derive(Debug, clap::Args)]
pub(crate) struct Leaving {
    /// The clusters to remove
    #[arg(value_name = "CLUSTER", required = true, add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// Also uninstall istiod from them
    #[arg(long)]
    pub(crate) uninstall: bool,
    /// Also delete Istio's CRDs, and with them every Istio object in the cluster
    #[arg(long, requires = "uninstall")]
    pub(crate) crds: bool,
    /// The API server is gone for good: remove the cluster from the other clusters only
    #[arg(long, conflicts_with = "uninstall")]
    pub(crate) dead: bool,
    /// Remove the finalizer of a load balancer that no controller deletes any more; it may remain in AWS
    #[arg(long, conflicts_with = "dead")]
    pub(crate) abandon_load_balancer: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `meshlink plan`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Plan {
    #[command(subcommand)]
    pub(crate) change: Option<Box<PlanChange>>,
    /// The members, as for join
    #[arg(value_name = "CLUSTER", required_unless_present = "file", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// Continue although this AWS check fails, for example aws-webhook; may be repeated
    #[arg(long, value_name = "CHECK", value_parser = known_check)]
    pub(crate) ignore: Vec<String>,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) sources: Sources,
}

/// What is planned, where it is not a join.
#[derive(Debug, Subcommand)]
pub(crate) enum PlanChange {
    /// Show what an adoption would change, and change nothing
    Adopt(adopt::Adopting),
    /// Show what a leave would change, and change nothing
    Leave(Leaving),
    /// Show what a renewal would change, and change nothing
    Renew(Renewing),
    /// Show what the upgrade of the next member would change, and change nothing
    Upgrade(upgrade::Upgrading),
    /// Show what a change of the mesh's root would do, and change nothing
    Rotate(rotate::Rotating),
    /// Show what would be done to workloads, and change nothing
    #[command(subcommand)]
    Workloads(workloads::WorkloadsPlan),
}

/// `meshlink verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// The members; all of the mesh if none is named
    #[arg(value_name = "CLUSTER", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// Also send requests between the clusters, from a pod that is removed afterwards
    #[arg(long)]
    pub(crate) traffic: bool,
    /// Also check a Service of yours: where it exists, and which endpoints the proxies have for it
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = clap::value_parser!(crate::verify::service::Name))]
    pub(crate) service: Option<crate::verify::service::Name>,
    /// Also write the claims to a file as JUnit XML
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) junit: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) changing: Changing,
    #[command(flatten)]
    pub(crate) sources: Sources,
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
    /// Install helloworld, in a version of its own, and a client in every member
    Up(SampleUp),
    /// Show what is installed
    Status(SampleTarget),
    /// Call helloworld from every member, and count which version answers
    Call(SampleTarget),
    /// Remove it all
    Down(SampleDown),
}

/// Which sample.
#[derive(Debug, clap::Args)]
pub(crate) struct SampleTarget {
    /// The members; all of the mesh if none is named
    #[arg(value_name = "CLUSTER", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// Its namespace; it must not exist yet, or have been made by meshlink
    #[arg(long, value_name = "NAME", default_value = "sample", value_parser = label)]
    pub(crate) namespace: String,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `meshlink sample up`.
#[derive(Debug, clap::Args)]
pub(crate) struct SampleUp {
    /// Image of the server instead of the proxy's own; it must listen on 5000; {version} is replaced
    #[arg(long, value_name = "IMAGE")]
    pub(crate) server_image: Option<String>,
    /// Image of the client instead of the proxy's own, to exec into
    #[arg(long, value_name = "IMAGE")]
    pub(crate) client_image: Option<String>,
    #[command(flatten)]
    pub(crate) target: SampleTarget,
    #[command(flatten)]
    pub(crate) changing: Changing,
}

/// `meshlink sample down`.
#[derive(Debug, clap::Args)]
pub(crate) struct SampleDown {
    #[command(flatten)]
    pub(crate) target: SampleTarget,
    #[command(flatten)]
    pub(crate) changing: Changing,
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
    /// The members; all of the mesh if none is named
    #[arg(value_name = "CLUSTER", add = ArgValueCompleter::new(complete::clusters))]
    pub(crate) clusters: Vec<String>,
    /// Require every target to be healthy, not only one in each zone
    #[arg(long)]
    pub(crate) all_targets: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

/// `meshlink aws`.
#[derive(Debug, Subcommand)]
pub(crate) enum AwsCommand {
    /// Print the smallest IAM policy that meshlink works with
    Policy(AwsPolicy),
}

/// `meshlink aws policy`.
#[derive(Debug, clap::Args)]
pub(crate) struct AwsPolicy {
    /// A region of the AWS partition that the policy is for
    #[arg(
        long,
        value_name = "REGION",
        env = "AWS_REGION",
        hide_env_values = true,
        default_value = "us-east-1",
        value_parser = region
    )]
    pub(crate) region: String,
}

/// `meshlink sandbox`.
#[cfg(feature = "sandbox")]
#[derive(Debug, clap::Args)]
pub(crate) struct Sandbox {
    /// How many clusters
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=50))]
    pub(crate) clusters: u8,
    /// How long things take: no time, or as long as on real clusters
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
    /// The folder to write
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
}

/// `meshlink schema`.
#[derive(Debug, clap::Args)]
pub(crate) struct Schema {
    /// Which output; without it, all names are listed
    pub(crate) name: Option<String>,
}

impl Command {
    /// What the parser alone cannot see; `known` is the mesh that is recorded here.
    pub(crate) fn check(&self, known: impl Fn(&Target) -> Option<Mesh>) -> Result<(), Failure> {
        if let Self::Join(join) = self
            && !join.adopt
            && let Some(flag) = join.manner.named()
        {
            return Err(Failure::usage(format!(
                "{flag} says how clusters are adopted: add --adopt"
            )));
        }
        let (Self::Join(Join {
            clusters, target, ..
        })
        | Self::Render(chart::Render {
            clusters, target, ..
        })
        | Self::Plan(Plan {
            change: None,
            clusters,
            target,
            ..
        })) = self
        else {
            return Ok(());
        };
        match clusters.as_slice() {
            [one] if target.file.is_none() => {
                let known = known(target).filter(|mesh| !mesh.clusters.is_empty());
                // One alone is added to the mesh that is recorded here.
                match known {
                    Some(_) => Ok(()),
                    None => Err(Failure::usage(format!(
                        "a mesh needs at least two clusters, and only {one} was named"
                    ))),
                }
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }
}
