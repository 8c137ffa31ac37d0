//! What the tests share.

pub mod contract;
pub mod http;
pub mod server;
pub mod world;
