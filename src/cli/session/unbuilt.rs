//! Embedded clusters, where the program was built without them.

use super::Embedded;
use crate::cli::{Frame, args::Target, error::Failure};

/// None; asking for them is refused.
pub(super) async fn find(_: &[String], target: &Target, _: &Frame) -> Result<Embedded, Failure> {
    match target.sandbox {
        true => Err(Failure::usage(
            "this program was built without embedded clusters",
        )),
        false => Ok(Embedded::default()),
    }
}
