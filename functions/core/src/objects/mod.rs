//! Objects: paths in the store, manifests, narinfos, compressed logs.

pub mod artifact;
pub mod gzip;
pub mod narinfo;
pub mod stored;
