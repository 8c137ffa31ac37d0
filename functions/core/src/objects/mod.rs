//! Objects: paths in the store, manifests, inventories, narinfos, compressed logs, the requirements of programs, and their materials.

pub mod artifact;
pub mod content;
pub mod gzip;
pub mod inventory;
pub mod materials;
pub mod narinfo;
pub mod needs;
pub mod stored;
