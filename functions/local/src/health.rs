//! What does not run: the state of the server's background loops, as each reports it, and of its disk.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use binplz_core::{id::text::bytes, ports::Fault};

/// A disk with less than this free counts as full: a program's download and upload need about that much.
const LEAST_FREE: u64 = 64 << 20;

/// The faults of this server's parts, each until the part reports success.
#[derive(Debug, Default)]
pub struct Health(Mutex<BTreeMap<&'static str, String>>);

impl Health {
    /// A part works.
    pub fn works(&self, part: &'static str) {
        self.parts().remove(part);
    }

    /// A part does not work, and why.
    pub fn fails(&self, part: &'static str, why: impl ToString) {
        self.parts().insert(part, why.to_string());
    }

    /// All present faults.
    pub fn faults(&self) -> Vec<Fault> {
        self.parts().iter().map(|(part, why)| Fault { part: (*part).to_owned(), why: why.clone() }).collect()
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fault of the disk that holds a directory, if it is full. A file system without a fixed number of inodes reports 0 of 0.
pub(crate) fn disk(dir: &Path) -> Option<Fault> {
    let why = match rustix::fs::statvfs(dir) {
        Err(error) => error.to_string(),
        Ok(disk) if disk.f_files > 0 && disk.f_favail == 0 => "no inodes are free".to_owned(),
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            Some(free).filter(|free| *free < LEAST_FREE).map(|free| format!("{} free", bytes(free)))?
        }
    };
    Some(Fault { part: "disk".to_owned(), why: format!("{}: {why}", dir.display()) })
}
