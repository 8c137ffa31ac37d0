//! A role that a function does not play. The flows that a function runs never ask for it, and its permissions do not hold
//! it either.

use binplz_core::{
    artifact::ObjectPath,
    build::Lease,
    key::{BuildKey, Sha256},
    ports::{Launcher, Location, Method, NotLaunched, Store, Unavailable},
    protocol::Grant,
};

/// Nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Absent;

fn nobody(role: &'static str) -> Unavailable {
    Unavailable::new(role, "this function has none")
}

impl Launcher for Absent {
    async fn launch(&self, _: &BuildKey, _: &Lease) -> Result<String, NotLaunched> {
        Err(nobody("launcher").into())
    }
    async fn stop(&self, _: &Lease) -> Result<(), Unavailable> {
        Err(nobody("launcher"))
    }
}

impl Store for Absent {
    async fn grant(&self, _: &ObjectPath, _: u64, _: &Sha256) -> Result<Grant, Unavailable> {
        Err(nobody("store"))
    }
    async fn url(&self, _: &ObjectPath, _: Method) -> Result<Location, Unavailable> {
        Err(nobody("store"))
    }
    async fn size(&self, _: &ObjectPath) -> Result<Option<u64>, Unavailable> {
        Err(nobody("store"))
    }
    async fn read(&self, _: &ObjectPath) -> Result<Option<Vec<u8>>, Unavailable> {
        Err(nobody("store"))
    }
    async fn write(&self, _: &ObjectPath, _: Vec<u8>) -> Result<(), Unavailable> {
        Err(nobody("store"))
    }
}
