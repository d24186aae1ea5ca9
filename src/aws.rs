//! EKS names and tokens, and load balancers that are really ready. No `aws` command, no other process.
//!
//! [`Aws`] holds what the environment says and one budget of calls per account and region; [`Aws::session`] gives
//! credentials and a region for one cluster. The rest are functions over it:
//!
//! | part | question |
//! | --- | --- |
//! | [`eks`] | which cluster does a name mean, where is it, and with which token |
//! | [`network`], [`exposure`] | what lies between clusters, and so who may reach a gateway |
//! | [`gateway`] | what a gateway's Service must say |
//! | [`preflight`] | what would fail later, before anything is written |
//! | [`policy`] | the least rights all this needs |
//! | [`remains`] | what is left of a load balancer after a leave |
//! | [`nlb`] | does a gateway's load balancer carry traffic, and if not, why |

pub(crate) mod arn;
pub(crate) mod call;
pub(crate) mod eks;
pub(crate) mod env;
pub(crate) mod exposure;
pub(crate) mod gateway;
mod http;
mod members;
pub(crate) mod network;
pub(crate) mod nlb;
pub(crate) mod policy;
pub(crate) mod preflight;
mod query;
pub(crate) mod rate;
pub(crate) mod remains;
mod rights;
pub(crate) mod session;
#[cfg(test)]
mod tests;
mod xml;
mod zone;

pub use env::Env;
pub(crate) use members::Members;
pub use session::Aws;
pub(crate) use session::{Identity, Session};
