//! How one cluster's istiod may read another: a reader account there, a remote secret here.
//!
//! Each reading peer has an account of its own, so that one can be shut out without the others.
//! Its rights are the least that a running istiod accepts: with any rule less it stays `syncing`,
//! and a restarted istiod is not ready for 30 s. They include reading Secrets, because istiod's
//! credentials controller cannot be switched off in the versions known.

mod facts;
mod pack;
mod reader;
mod secret;
mod tried;

pub(crate) use crate::owner::MANAGED_BY;
pub(crate) use facts::{Problem, links, parse, token_facts, tokens};
pub(crate) use pack::{Packed, Shards};
pub(crate) use reader::{
    ROOT_CA, TOKEN_SECRET, Tokens, account_name, account_names, anchor, objects, renewal_names,
    roles, token_number, token_object, token_secret,
};
pub(crate) use secret::{Link, SHARD, packed_name, packed_patch, remote_name, remote_secret};
pub(crate) use tried::{
    Found, Opened, Refused, Trial, open_kubeconfig, try_kubeconfig, try_kubeconfig_at,
};

/// The namespace of istiod, of reader accounts and of remote secrets.
pub(crate) const ISTIO_SYSTEM: &str = "istio-system";
/// The label by which istiod finds remote secrets.
pub(crate) const REMOTE: &str = "istio/multiCluster=true";
/// The label on everything made for a peer: its cluster name.
pub(crate) const PEER_LABEL: &str = "meshlink/peer";
