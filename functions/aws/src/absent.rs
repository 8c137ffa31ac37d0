//! A role that a function does not play. The flows that a function runs never ask for it, and its permissions do not hold
//! it either.

use std::ops::Range;

use binplz_core::{
    build::Lease,
    id::key::{BuildKey, LeaseId},
    objects::{
        artifact::ObjectPath,
        stored::{Location, Method},
    },
    ports::{Launcher, NotLaunched, Store, Unavailable},
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
    async fn stop(&self, _: &LeaseId, _: Option<&str>) -> Result<(), Unavailable> {
        Err(nobody("launcher"))
    }
    async fn running(&self) -> Result<Vec<LeaseId>, Unavailable> {
        Err(nobody("launcher"))
    }
}

impl Store for Absent {
    async fn url(&self, _: &ObjectPath, _: Method) -> Result<Location, Unavailable> {
        Err(nobody("store"))
    }
    async fn read(&self, _: &ObjectPath) -> Result<Option<Vec<u8>>, Unavailable> {
        Err(nobody("store"))
    }
    async fn part(&self, _: &ObjectPath, _: Range<u64>) -> Result<Option<Vec<u8>>, Unavailable> {
        Err(nobody("store"))
    }
}
