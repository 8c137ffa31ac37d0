//! Flows that run by themselves: dispatching due builds, sweeping lapsed leases, following another build of a derivation, promoting offers into the binary cache, signing, stating provenance.

pub(crate) mod attest;
pub mod dispatch;
pub(crate) mod egress;
pub(crate) mod failed_dependencies;
pub(crate) mod follow;
pub mod promote;
pub mod scrub;
pub mod sign;
pub(crate) mod status_index;
pub mod sweep;
pub(crate) mod wait;
