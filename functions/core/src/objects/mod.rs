//! Objects: paths in the store, manifests, inventories, narinfos, compressed logs.

pub mod artifact;
pub mod gzip;
pub mod inventory;
pub mod narinfo;
pub mod stored;
