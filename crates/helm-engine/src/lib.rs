//! Helm charts in Rust, without Helm: fetched, checked, rendered and recorded as Helm would.
//!
//! A chart comes from a [`Source`] by [`fetch()`] or from its files by [`Chart::from_files`], is turned into
//! objects by [`render()`], and what was applied is written down as a [`release::Record`] that Helm itself can read.
//! Nothing here speaks to a cluster, reads the environment or looks at the clock: what a chart may know of them is
//! passed in. Applying objects is the caller's to do, with the pure helpers of [`apply`].
//!
//! | part | what it is |
//! | --- | --- |
//! | [`fetch()`] | from a repository, registry, folder or archive; checked against a digest and a [`lock`] |
//! | [`values`] | a chart's defaults and its user's values, merged as Helm merges them |
//! | [`render()`] | Go templates with Helm's functions; maps are shared by reference as in Go |
//! | [`apply`] | marks of ownership, what an upgrade removes, what server-side apply cannot take |
//! | [`release`] | Helm's release records, to and from a `Secret` |
//! | [`images()`] | the images the rendered objects name |
//!
//! ```
//! use helm_engine::{Capabilities, Chart, File, Release, render, values};
//! let chart = Chart::from_files(
//!     vec![
//!         File::new("Chart.yaml", "name: shop\nversion: 1.0.0\n"),
//!         File::new("values.yaml", "port: 80\n"),
//!         File::new(
//!             "templates/service.yaml",
//!             "kind: Service\nmetadata: {name: {{ .Release.Name }}}\nspec: {ports: [{port: {{ .Values.port }}}]}\n",
//!         ),
//!     ],
//!     "an example",
//! )?;
//! let values = values::parse("port: 8080\n", "mine")?;
//! let release = Release::install("web", "default");
//! let rendered = render(&chart, &values.into(), &release, &Capabilities::default())?;
//! assert_eq!(rendered.manifests[0].object["spec"]["ports"][0]["port"], 8080);
//! # Ok::<(), helm_engine::Error>(())
//! ```

use std::path::PathBuf;

pub mod apply;
mod archive;
mod error;
mod fetch;
mod images;
mod json;
pub mod lock;
mod manifest;
mod package;
pub mod release;
mod render;
mod schema;
mod source;
mod template;
pub mod values;
mod yaml;

pub use error::{Error, Fault};
use fetch::write_whole;
pub use fetch::{Credential, FetchOptions, Fetched, Transport, fetch};
pub use images::images;
pub use manifest::{Hook, Manifest};
pub use package::{Chart, File, Metadata};
pub use render::{Capabilities, Options, Release, Rendered, render, render_with};

// The page of the package, whose example is tried like any other.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// A value as YAML, as Helm's `toYaml` writes it: keys in order, the same bytes every time.
///
/// # Errors
/// [`Error::Values`] if it nests too deep.
///
/// ```
/// let value = serde_json::json!({"name": "a", "ports": [80, "80"]});
/// assert_eq!(helm_engine::to_yaml(&value)?, "name: a\nports:\n- 80\n- \"80\"\n");
/// # Ok::<(), helm_engine::Error>(())
/// ```
pub fn to_yaml(value: &serde_json::Value) -> Result<String, Error> {
    yaml::write(value).map_err(|reason| Error::Values {
        origin: "an object".to_owned(),
        reason,
    })
}

/// Where charts come from. Made from text by [`str::parse`], or with a chart's name by [`Source::of_chart`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A chart repository: a base URL with an `index.yaml`.
    Repository(String),
    /// A registry: `oci://host/path`, to which the chart's name is added.
    Oci(String),
    /// A folder: a chart itself, or a folder of charts or archives.
    Folder(PathBuf),
    /// A chart archive.
    Archive(PathBuf),
}
