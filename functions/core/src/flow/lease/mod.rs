//! Flows of a builder under its lease: jobs, heartbeats, uploads, checkpoints, claims of derivations, and settling.

mod blob;
pub mod built;
pub mod checkpoint;
pub mod claim;
pub mod dependencies;
pub(crate) mod foresee;
pub mod job;
pub mod learned;
pub mod settle;
