//! An AWS on loopback: EKS, STS, load balancers and the reads of EC2 that meshlink makes.
//!
//! [`State`] is everything there is, as plain data; [`serve`] answers for it over HTTP. Requests are believed only
//! with a Signature Version 4 that fits ([`State::keys`]), throttled per account and region, and failed on demand
//! ([`Fault`]). Any number of accounts and regions live behind one address: the signature says which.
//!
//! The emulated load balancers carry no traffic by themselves; whoever holds the state moves targets along, by a
//! timeline ([`Pace`]) or by really trying them ([`State::set_health`]).

mod ask;
mod balancer;
pub mod cloud;
pub mod controller;
mod ec2;
mod eks;
mod elb;
mod embed;
mod fault;
mod network;
mod serve;
mod sign;
mod state;
mod sts;
pub mod testing;
mod throttle;
mod token;
mod xml;

pub use balancer::{Balancer, Health, Listener, NewBalancer, Pace, Target, TargetGroup, Zone};
pub use embed::{Embedded, raise};
pub use fault::{Fault, Kind as FaultKind};
pub use network::{Ingress, Kind as ThingKind, Network, Route, Side, Thing};
pub use serve::{Server, Shared, serve};
pub use state::{Call, Clock, Cluster, Key, Role, State};
pub use token::Speaker;
