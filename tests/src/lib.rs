//! What the tests share.

pub mod answers;
pub mod cache;
pub mod contract;
pub mod crowd;
pub mod failures;
pub mod forty;
pub mod gate;
pub mod guide;
pub mod http;
pub mod leases;
pub mod offers;
pub mod openapi;
pub mod random;
pub mod scenario;
pub mod server;
pub mod site;
pub mod sources;
pub mod stack;
pub mod world;
