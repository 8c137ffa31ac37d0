//! Flows of a builder, under its lease: the job, heartbeats, uploads, claiming a derivation, settling.

mod blob;
pub mod built;
pub mod claim;
pub mod job;
pub mod settle;
