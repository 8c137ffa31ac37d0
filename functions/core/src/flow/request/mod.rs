//! Flows of clients' requests: a program, its status, its log, and the pages.

pub mod builds;
pub(crate) mod catalogue;
pub(crate) mod charge;
pub mod denial;
pub mod log;
pub mod outcome;
pub mod package;
pub mod program;
pub(crate) mod resolve;
pub mod search;
pub mod service;
pub(crate) mod serving;
pub mod status;
pub mod trust;
pub mod wait;
