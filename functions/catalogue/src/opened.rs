//! The catalogues that a process has open: read from the store at the first request, and kept while there is room.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use binplz_core::{
    objects::{artifact::ObjectPath, stored::Integrity},
    ports::{Store, Unavailable, Unreadable},
};

use crate::lookup::{BadCatalogue, Lookup};

/// The most bytes of files that are kept: the smallest function has 128 MB, and needs room for one file more while it
/// is read. The newest one is kept at any size.
const ROOM: usize = 48 << 20;

/// A catalogue in memory.
pub type Open = Arc<Lookup<Vec<u8>>>;

/// The catalogues in memory. An object never changes under its name, so a kept one never needs a second read.
#[derive(Debug, Default)]
pub struct Opened {
    /// The most recently used one comes last.
    open: Mutex<Vec<(ObjectPath, Open)>>,
}

impl Opened {
    /// The catalogue of a lookup file. If it exists and cannot be read, `bad` receives the reason.
    ///
    /// # Errors
    /// [`Unavailable`]: the store does not answer.
    pub async fn get(
        &self,
        store: &impl Store,
        path: &ObjectPath,
        bad: impl FnOnce(BadCatalogue),
    ) -> Result<Result<Open, Unreadable>, Unavailable> {
        if let Some(open) = self.find(path) {
            return Ok(Ok(open));
        }
        let Some(bytes) = store.read(path).await? else { return Ok(Err(Unreadable::Flawed(Integrity::Missing))) };
        Ok(match Lookup::open(bytes) {
            Ok(lookup) => Ok(self.keep(path, Arc::new(lookup))),
            Err(why) => {
                bad(why);
                Err(match why {
                    BadCatalogue::Format(_) => Unreadable::OtherFormat,
                    BadCatalogue::Foreign | BadCatalogue::Damaged => Unreadable::Flawed(Integrity::OtherContent),
                })
            }
        })
    }

    fn find(&self, path: &ObjectPath) -> Option<Open> {
        let mut open = self.lock();
        let at = open.iter().position(|(known, _)| known == path)?;
        let found = open.remove(at);
        open.push(found.clone());
        Some(found.1)
    }

    fn keep(&self, path: &ObjectPath, lookup: Open) -> Open {
        let mut open = self.lock();
        // Two concurrent requests may both have read it.
        open.retain(|(known, _)| known != path);
        open.push((path.clone(), Arc::clone(&lookup)));
        while open.len() > 1 && open.iter().map(|(_, lookup)| lookup.size()).sum::<usize>() > ROOM {
            open.remove(0);
        }
        lookup
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(ObjectPath, Open)>> {
        // Every statement above leaves it consistent, so a panic does no harm.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
