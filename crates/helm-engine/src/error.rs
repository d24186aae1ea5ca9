//! What can go wrong with a chart.

use std::{fmt, io, path::PathBuf};

/// What went wrong with a chart.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A chart source could not be understood.
    #[error("`{text}` is not a chart source: {reason}")]
    Source {
        /// What was given.
        text: String,
        /// Why it was refused.
        reason: String,
    },
    /// A file could not be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("failed to write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An archive or folder is not a chart, or is a hostile one.
    #[error("refused to unpack {origin}: {reason}")]
    Unpack {
        /// Where it came from.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file inside a chart is broken.
    #[error("chart {chart}: {file} is invalid: {reason}")]
    Package {
        /// The chart, as far as its name is known.
        chart: String,
        /// The file inside the chart.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A server could not be asked.
    #[error("failed to request {url}")]
    Request {
        /// What was asked for.
        url: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A server did not answer in time.
    #[error("no answer from {url} within {seconds} seconds")]
    Slow {
        /// What was asked for.
        url: String,
        /// How long it was given.
        seconds: u64,
    },
    /// A server refused.
    #[error("{url} answered {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// An answer was larger than a chart may be.
    #[error("{url} is larger than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The most that is read.
        limit: usize,
    },
    /// A repository's index or a registry's manifest could not be understood.
    #[error("failed to understand {url}: {reason}")]
    Index {
        /// The document.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The source has no such chart.
    #[error("{origin} has no chart {name} {version}{}", offered(.available))]
    NotFound {
        /// The chart's name.
        name: String,
        /// The version asked for.
        version: String,
        /// Where it was looked for.
        origin: String,
        /// Versions that are there, newest first, not all of them.
        available: Vec<String>,
    },
    /// What was fetched is not what its source promised.
    #[error(
        "chart {name} {version} from {origin} has sha256 {actual}, but {expected} was promised"
    )]
    Digest {
        /// The chart's name.
        name: String,
        /// Its version.
        version: String,
        /// Where it came from.
        origin: String,
        /// The promised digest.
        expected: String,
        /// The digest of what came.
        actual: String,
    },
    /// What was fetched is not what the lock file holds.
    #[error("chart {name} {version} from {origin} has sha256 {actual}, but {} holds {locked}", path.display())]
    Locked {
        /// The chart's name.
        name: String,
        /// Its version.
        version: String,
        /// Where it came from.
        origin: String,
        /// The lock file.
        path: PathBuf,
        /// The digest in the lock file.
        locked: String,
        /// The digest of what came.
        actual: String,
    },
    /// The chart is not in the cache, and the network may not be used.
    #[error(
        "chart {name} {version} of {origin} is not in the cache, and the network may not be used"
    )]
    Offline {
        /// The chart's name.
        name: String,
        /// Its version.
        version: String,
        /// Where it would be fetched from.
        origin: String,
    },
    /// A lock file could not be understood.
    #[error("{} is not a lock file: {reason}", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A credentials file could not be understood.
    #[error("failed to read credentials from {}: {reason}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never its contents.
        reason: String,
    },
    /// Values could not be understood or merged.
    #[error("values of {origin} are invalid: {reason}")]
    Values {
        /// The file, option or chart they came from.
        origin: String,
        /// What is wrong with them.
        reason: String,
    },
    /// A template could not be parsed or executed.
    #[error(transparent)]
    Template(Box<Fault>),
    /// A rendered document is no Kubernetes object.
    #[error("{template} rendered a document that is not a Kubernetes object: {reason}")]
    Document {
        /// The template.
        template: String,
        /// What is wrong with the document.
        reason: String,
    },
    /// A release record could not be read or written.
    #[error("release record {name} is invalid: {reason}")]
    Record {
        /// The record's Secret.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

fn offered(available: &[String]) -> String {
    if available.is_empty() {
        String::new()
    } else {
        format!(", only {}", available.join(", "))
    }
}

/// Where and why a template failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// The chart.
    pub chart: String,
    /// The template, as `chart/templates/file`.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1; 0 if unknown.
    pub column: usize,
    /// What is wrong, as Helm would word it.
    pub reason: String,
    /// Whether the chart itself refused, by `fail` or `required`.
    pub refused: bool,
    /// The expression that was being evaluated.
    pub expression: String,
    /// The value it depends on, such as `.Values.global.hub`.
    pub value: Option<String>,
    /// The templates that led here, innermost first, as `file:line`.
    pub via: Vec<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chart {}: {}:{}", self.chart, self.file, self.line)?;
        if self.column > 0 {
            write!(f, ":{}", self.column)?;
        }
        write!(f, ": {}", self.reason)?;
        if let Some(value) = &self.value {
            write!(f, " (value {value})")?;
        }
        if !self.via.is_empty() {
            write!(f, ", reached from {}", self.via.join(", "))?;
        }
        Ok(())
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Template(Box::new(fault))
    }
}
