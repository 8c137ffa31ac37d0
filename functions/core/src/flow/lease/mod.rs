//! Flows of a builder, under its lease: the job, heartbeats, uploads, checkpoints, claiming a derivation, settling.

mod blob;
pub mod built;
pub mod checkpoint;
pub mod claim;
pub mod dependencies;
pub(crate) mod foresee;
pub mod job;
pub mod learned;
pub mod settle;
