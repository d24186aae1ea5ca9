//! How something does not end well: what failed, why, and what to do next.

use std::{error::Error, fmt};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    causes,
    hint::Hint,
    report::{Report, RunOutcome},
};

/// What sort of end it is; the later, the graver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// Nobody agreed, so nothing was changed.
    Declined,
    /// Failed.
    Failed,
    /// What was asked for makes no sense.
    Usage,
    /// The mesh file is not valid.
    InvalidMesh,
    /// Not ready in time; running again is safe.
    NotInTime,
    /// Refused, to protect something that is not ours.
    Refused,
    /// Another run is changing the mesh; nothing was changed.
    Busy,
    /// Some clusters were done, others were not.
    PartlyDone,
    /// Interrupted; running again is safe.
    Interrupted,
}

impl Kind {
    /// Of a run; `None` where nothing failed.
    fn of(outcome: RunOutcome) -> Option<Self> {
        Some(match outcome {
            RunOutcome::NothingToDo | RunOutcome::Done => return None,
            RunOutcome::PartlyDone => Self::PartlyDone,
            RunOutcome::NotInTime => Self::NotInTime,
            RunOutcome::Refused => Self::Refused,
            RunOutcome::Interrupted => Self::Interrupted,
            RunOutcome::Failed => Self::Failed,
        })
    }
}

/// One thing that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Problem {
    /// The error and its causes, outermost first.
    pub causes: Vec<String>,
    /// Commands a user can paste, or what else to do.
    pub hints: Vec<Hint>,
}

/// Why a command did not end well; several things may have gone wrong at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: Kind,
    /// What went wrong.
    pub errors: Vec<Problem>,
}

impl Failure {
    /// From an error and its causes.
    pub fn new(kind: Kind, error: &(dyn Error + 'static)) -> Self {
        let failure = Self::from_causes(kind, causes::texts(error));
        let mut next = Some(error);
        while let Some(error) = next {
            // Whoever met it, the vault's errors come with the way on.
            if let Some(vault) = error.downcast_ref::<crate::pki::vault::Error>() {
                return vault.hint().into_iter().fold(failure, Self::hint);
            }
            next = error.source();
        }
        failure
    }

    /// From the texts of an error and its causes, outermost first.
    pub fn from_causes(kind: Kind, causes: Vec<String>) -> Self {
        let problem = Problem {
            causes,
            hints: vec![],
        };
        Self {
            kind,
            errors: vec![problem],
        }
    }

    /// It simply failed.
    pub fn failed(error: &(dyn Error + 'static)) -> Self {
        Self::new(Kind::Failed, error)
    }

    /// The arguments make no sense.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::from_causes(Kind::Usage, vec![text.into()])
    }

    /// It was asked to stop while it only looked.
    #[cfg(feature = "cli")]
    pub(crate) fn interrupted() -> Self {
        Self::from_causes(Kind::Interrupted, vec!["interrupted".into()])
    }

    /// Adds what to do about the last error.
    #[must_use]
    pub fn hint(mut self, hint: Hint) -> Self {
        if let Some(last) = self.errors.last_mut() {
            last.hints.push(hint);
        }
        self
    }

    /// Adds another failure of the same command; the graver kind stays.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.kind = self.kind.max(other.kind);
        self.errors.extend(other.errors);
        self
    }

    /// What failed in a run; `None` where nothing did.
    pub fn of_run(report: &Report) -> Option<Self> {
        let kind = Kind::of(report.outcome)?;
        let problem = |step: &crate::report::StepReport| {
            let mut causes = step.lines.clone();
            match causes.first_mut() {
                Some(first) => *first = format!("{}: {first}", step.step),
                None => causes.push(step.step.clone()),
            }
            Problem {
                causes,
                hints: step.hints.clone(),
            }
        };
        let lost = report.lost.iter().map(|causes| Problem {
            causes: causes.clone(),
            hints: vec![],
        });
        let errors: Vec<_> = lost.chain(report.failed().map(problem)).collect();
        Some(Self { kind, errors })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.errors.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "; " })?;
            f.write_str(&problem.causes.join(": "))?;
        }
        Ok(())
    }
}

impl Error for Failure {}
