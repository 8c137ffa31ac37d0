//! Objects: paths in the store, manifests, inventories, narinfos, compressed logs, and the requirements of programs.

pub mod artifact;
pub mod content;
pub mod gzip;
pub mod inventory;
pub mod narinfo;
pub mod needs;
pub mod stored;
