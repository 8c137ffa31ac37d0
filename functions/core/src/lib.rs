//! binplz without I/O. A folder is one idea, and they stand in reading order: small values, a build and its state machine,
//! quotas, prices, objects, a nixpkgs as it is served, rows, what is signed and logged, the ports that a deployment fills, the flows over them, and
//! the answers that users read.

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

/// The version of this program. The scripts and the flake add the commit: `0.1.0+0123456789ab`.
pub const VERSION: &str = match option_env!("BINPLZ_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};
