//! The values and rules of binplz. This crate has no I/O. Each folder has one idea:
//!
//! - [`id`]: small values, each validated once
//! - [`build`]: a build, its state machine, its failures and estimates
//! - [`quota`] and [`billing`]: limits, prices and costs
//! - [`objects`], [`row`] and [`gc`]: stored objects, stored rows, and garbage collection
//! - [`nixpkgs`] and [`trust`]: the served Nixpkgs commits, signatures and the transparency log
//! - [`ports`] and [`telemetry`]: what a deployment provides, and what it logs
//! - [`flow`] and [`answer`]: what binplz does on each request or event, and the texts that users read

pub mod id;

pub mod build;

pub mod billing;
pub mod gc;
pub mod nixpkgs;
pub mod objects;
pub mod quota;
pub mod row;
pub mod trust;

pub mod flow;
pub mod ports;
pub mod telemetry;

pub mod answer;

/// The version of binplz. The scripts and the flake add the commit: `0.1.0+0123456789ab`.
pub const VERSION: &str = match option_env!("BINPLZ_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};
