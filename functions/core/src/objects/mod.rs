//! Objects: paths in the store, manifests, inventories, narinfos, compressed logs, and what programs need.

pub mod artifact;
pub mod content;
pub mod gzip;
pub mod inventory;
pub mod narinfo;
pub mod needs;
pub mod stored;
