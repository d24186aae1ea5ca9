//! `meshlink aws`.

use crate::{
    aws::{arn::Partition, policy},
    cli::{
        Frame,
        args::AwsPolicy,
        error::{Exit, Failure},
        output::json,
    },
};

/// Prints the least IAM policy, ready for `aws iam create-policy`.
pub(crate) fn policy(args: &AwsPolicy, frame: &Frame) -> Result<Exit, Failure> {
    let policy = policy::minimal(Partition::of_region(&args.region));
    frame.screen.print(&json::json(&policy)?)?;
    Ok(Exit::Done)
}
