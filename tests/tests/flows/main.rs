//! The flows of core over a deployment in this process (`src/world.rs`), which each test controls: actors at exactly the wrong moment,
//! lost replies, and a death between any two steps.
//!
//! They are one program, so that the flows are compiled once for all of them.

mod archive;
mod backup;
mod bundles;
mod damage;
mod dependencies;
mod derivations;
mod egress;
mod failing;
mod flow;
mod foreseen;
mod gc;
mod limits;
mod logs;
mod month;
mod names;
mod operate;
mod pins;
mod promote;
mod refusals;
mod takedown;
mod tarballs;
mod trust;
mod wait;
