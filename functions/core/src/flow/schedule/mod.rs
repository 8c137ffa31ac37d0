//! Flows that run by themselves: they dispatch due builds, sweep lapsed leases, follow another build of a derivation, promote offers into
//! the binary cache, sign, and state the provenance.

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
