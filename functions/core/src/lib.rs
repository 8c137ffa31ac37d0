//! binplz without I/O. A folder is one idea, and they stand in reading order: small values, a build and its state machine,
//! quotas, prices, objects, a nixpkgs as it is served, rows, the ports that a deployment fills, the flows over them, and
//! the answers that users read.

pub mod id;

pub mod build;

pub mod billing;
pub mod gc;
pub mod nixpkgs;
pub mod objects;
pub mod quota;
pub mod row;

pub mod flow;
pub mod ports;
pub mod telemetry;

pub mod answer;
