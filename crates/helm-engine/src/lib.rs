//! Official charts: fetched, checked, rendered and recorded as Helm would.
//!
//! A chart comes from a [`Source`] by [`fetch`], is turned into objects by [`render`], and what was
//! applied is written down as a [`release::Record`] that Helm itself can read. Nothing here speaks to a
//! cluster: applying is done elsewhere, with the pure helpers of [`apply`].
//!
//! | part | what it is |
//! | --- | --- |
//! | [`fetch()`] | repository, registry, folder or archive; checked against a digest and a [`lock`] |
//! | [`values`] | a chart's defaults and the owner's values, merged as Helm merges them |
//! | [`render()`] | Go templates with Helm's functions; maps are shared by reference as in Go |
//! | [`apply`] | the order of kinds, ownership marks, fields that are others' to write |
//! | [`release`] | Helm's release records, to and from a `Secret` |
//! | [`images()`] | the images the rendered objects name |

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
pub use fetch::{Credential, FetchOptions, Fetched, Transport, fetch, save};
pub use images::{images, override_images};
pub use manifest::{Hook, Manifest};
pub use package::{Chart, File, Metadata};
pub use render::{Capabilities, Lookup, Options, Release, Rendered, render, render_with};

/// A value as YAML, as Helm's `toYaml` writes it: keys in order, the same bytes every time.
pub fn to_yaml(value: &serde_json::Value) -> Result<String, Error> {
    yaml::write(value).map_err(|reason| Error::Values {
        origin: "an object".to_owned(),
        reason,
    })
}

/// Where charts come from.
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
