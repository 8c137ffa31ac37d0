//! Flows of the operator: orders, findings, inspection, counts of catalogues, pins, API keys, signing keys, cost, garbage collection,
//! pause and cancel.

pub mod census;
pub mod cost;
pub mod findings;
pub mod forecast;
pub mod gc;
pub mod inspect;
pub(crate) mod keys;
pub mod orders;
pub mod pins;
pub mod restore;
pub mod signing;
pub mod stop;
