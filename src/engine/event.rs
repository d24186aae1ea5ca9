//! What happens during a run, as it happens: one type for the terminal, the journal and the report.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{hint::Hint, verify::Verdict};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// Of which run: the same in every event of one command.
    pub run: String,
    /// What.
    #[serde(flatten)]
    pub kind: Kind,
}

/// What can happen. Step ids are text here, so that an old journal can always be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// A run begins.
    RunStarted {
        /// The command, as a user would type it; never holds a secret.
        command: String,
        /// The mesh.
        mesh: String,
        /// Its members.
        clusters: Vec<String>,
        /// Every step of the plan, in order.
        steps: Vec<Planned>,
    },
    /// A step begins; its effect may exist from here on.
    StepStarted {
        /// The step's id.
        step: String,
    },
    /// A step waits for a fact.
    StepWaiting {
        /// The step's id.
        step: String,
        /// Why the fact is not there yet.
        reason: String,
    },
    /// A step's effect failed in a way that heals, and is tried again.
    StepRetry {
        /// The step's id.
        step: String,
        /// What failed.
        reason: String,
    },
    /// A step's effect was observed.
    StepFinished {
        /// The step's id.
        step: String,
        /// What was seen: the evidence, a line each.
        evidence: Vec<String>,
        /// How long it took.
        millis: u64,
    },
    /// A step failed for good.
    StepFailed {
        /// The step's id.
        step: String,
        /// The error and its causes, outermost first.
        causes: Vec<String>,
        /// What to do about it.
        hints: Vec<Hint>,
        /// How bad it is.
        severity: Severity,
    },
    /// A step found out what is so, whether or not it is as it should be.
    StepJudged {
        /// The step's id.
        step: String,
        /// Claim by claim.
        verdict: Verdict,
    },
    /// A step was not tried.
    StepSkipped {
        /// The step's id.
        step: String,
        /// Why not.
        because: Because,
    },
    /// The run was asked to stop, or lost a Lease.
    Interrupted {
        /// The Lease that was lost, and how.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lost: Option<Vec<String>>,
    },
    /// The run is over.
    RunFinished {
        /// Whether every step was done.
        done: bool,
        /// How long it took.
        millis: u64,
    },
}

/// A step as the plan announces it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// The step's id.
    pub step: String,
    /// The cluster whose lane it is shown in.
    pub cluster: Option<String>,
    /// Every cluster it has to do with.
    #[serde(default)]
    pub clusters: Vec<String>,
    /// What it does, for people.
    pub describe: String,
}

/// Why a step was not tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
    /// This step, which it needs, was not done.
    Needs(String),
    /// The run was asked to stop.
    Interrupted,
    /// A Lease was lost, and with it the right to go on.
    LeaseLost,
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Needs(step) => write!(f, "needs {step}"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::LeaseLost => f.write_str("the lease was lost"),
        }
    }
}

/// How bad a failure is: decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Nothing failed: it was asked to stop.
    Interrupted,
    /// Not ready in time; running again is safe and may be enough.
    NotInTime,
    /// Failed.
    Failed,
    /// Refused, to protect something that is not ours.
    Refused,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::RunStarted { steps, .. } => write!(f, "{} steps", steps.len()),
            Kind::StepStarted { step } => write!(f, "{step}: started"),
            Kind::StepWaiting { step, reason } => write!(f, "{step}: waiting: {reason}"),
            Kind::StepRetry { step, reason } => write!(f, "{step}: trying again: {reason}"),
            Kind::StepFinished { step, evidence, .. } => {
                write!(f, "{step}: {}", evidence.join("; "))
            }
            Kind::StepFailed { step, causes, .. } => {
                write!(f, "{step}: failed: {}", causes.join(": "))
            }
            Kind::StepJudged { step, .. } => write!(f, "{step}: checked"),
            Kind::StepSkipped { step, because, .. } => write!(f, "{step}: skipped: {because}"),
            Kind::Interrupted { .. } => f.write_str("interrupted"),
            Kind::RunFinished { done, .. } => f.write_str(if *done { "done" } else { "not done" }),
        }
    }
}

impl Kind {
    /// The step this is about, if any.
    pub fn step(&self) -> Option<&str> {
        match self {
            Self::StepStarted { step }
            | Self::StepWaiting { step, .. }
            | Self::StepRetry { step, .. }
            | Self::StepFinished { step, .. }
            | Self::StepFailed { step, .. }
            | Self::StepJudged { step, .. }
            | Self::StepSkipped { step, .. } => Some(step),
            Self::RunStarted { .. } | Self::Interrupted { .. } | Self::RunFinished { .. } => None,
        }
    }

    /// Whether nothing is amiss with it and more follows.
    pub(crate) fn is_routine(&self) -> bool {
        matches!(
            self,
            Self::StepStarted { .. } | Self::StepFinished { .. } | Self::StepJudged { .. }
        )
    }

    /// Whether it belongs in the journal: what was done, not what was waited for.
    pub fn is_lasting(&self) -> bool {
        !matches!(self, Self::StepWaiting { .. } | Self::StepRetry { .. })
    }
}
