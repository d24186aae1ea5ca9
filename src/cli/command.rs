//! The commands, one file each.

use super::{
    Frame,
    args::{AwsCommand, Ca, Command, Wait, rotate::Rotate},
    error::{Exit, Failure},
};

mod adopt;
mod aws;
mod bundle;
mod ca;
mod chart;
mod completions;
mod doctor;
mod join;
mod leave;
mod man;
mod plan;
mod render;
mod renew;
mod rotate;
mod sample;
#[cfg(feature = "sandbox")]
mod sandbox;
mod schema;
mod status;
mod terraform;
mod upgrade;
mod verify;
pub(crate) mod wait;
mod workloads;

/// Runs one.
pub(crate) async fn run(command: Command, frame: &Frame) -> Result<Exit, Failure> {
    match command {
        Command::Join(args) => join::run(args, frame).await,
        Command::Adopt(args) => adopt::run(args, frame).await,
        Command::Leave(args) => leave::run(args, frame).await,
        Command::Renew(args) => renew::run(args, frame).await,
        Command::Upgrade(args) => upgrade::run(args, frame).await,
        Command::Plan(args) => plan::run(args, frame).await,
        Command::Status(args) => status::run(args, frame).await,
        Command::Verify(args) => verify::run(args, frame).await,
        Command::Doctor(args) => doctor::run(args, frame).await,
        Command::Workloads(args) => workloads::run(args, frame).await,
        Command::Bundle(args) => bundle::run(args, frame).await,
        Command::Sample(args) => sample::run(args, frame).await,
        Command::Wait(Wait::Nlb(args)) => wait::nlb(args, frame).await,
        Command::Render(args) => render::run(args, frame).await,
        Command::Chart(args) => chart::run(args, frame).await,
        Command::Aws(AwsCommand::Policy(args)) => aws::policy(&args, frame),
        Command::Terraform => terraform::run(frame).await,
        Command::Ca(Ca::Init(args)) => ca::init(args, frame).await,
        Command::Ca(Ca::Status(args)) => ca::status(args, frame).await,
        Command::Ca(Ca::Csr(args)) => ca::requests::write(&args, frame),
        Command::Ca(Ca::Protect(args)) => ca::protect::run(&args, frame),
        Command::Ca(Ca::Import(args)) => ca::requests::import(&args, frame),
        Command::Rotate(Rotate::Root(args)) => rotate::run(args, frame).await,
        #[cfg(feature = "sandbox")]
        Command::Sandbox(args) => sandbox::run(args, frame).await,
        Command::Completions(args) => completions::run(&args, frame),
        Command::Man(args) => man::run(&args, frame),
        Command::Schema(args) => schema::run(&args, frame),
    }
}
