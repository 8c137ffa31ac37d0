//! The objects in memory. A program's bytes are not kept: its content stands for them.

use std::{
    collections::BTreeMap,
    ops::Bound::{self, Excluded, Unbounded},
};

use binplz_core::{
    id::key::Sha256,
    objects::{
        artifact::{AttemptPrefix, ObjectName, ObjectPath},
        content::Content,
        stored::{Fingerprint, Held, HeldBlob},
    },
};

/// An object.
#[derive(Clone)]
pub(crate) struct Object {
    /// Its content.
    pub(crate) content: Content,
    /// Its bytes, unless it is a program.
    pub(crate) bytes: Option<Vec<u8>>,
}

impl Object {
    /// One of these bytes.
    pub(crate) fn of(bytes: Vec<u8>) -> Object {
        Object { content: Content::of(&bytes), bytes: Some(bytes) }
    }
}

/// The objects, by their attempts, and the blobs.
#[derive(Default)]
pub(crate) struct Objects {
    attempts: BTreeMap<AttemptPrefix, BTreeMap<String, (ObjectName, Object)>>,
    blobs: BTreeMap<Sha256, Object>,
    /// The attempts that keep a blob.
    references: BTreeMap<Sha256, Vec<AttemptPrefix>>,
}

fn behind<K: Clone>(after: Option<&K>) -> Bound<K> {
    after.map_or(Unbounded, |after| Excluded(after.clone()))
}

impl Objects {
    /// An object.
    pub(crate) fn get(&self, path: &ObjectPath) -> Option<&Object> {
        match &path.name {
            ObjectName::Blob(sha256) => self.blobs.get(sha256),
            name => self.attempts.get(&path.prefix())?.get(&name.to_string()).map(|(_, object)| object),
        }
    }

    /// An object's size and sha256.
    pub(crate) fn fingerprint(&self, path: &ObjectPath) -> Option<Fingerprint> {
        let Content { sha256, size } = self.get(path)?.content.clone();
        Some(Fingerprint { size, sha256: Some(sha256) })
    }

    /// Stores an object. One that exists stays as it is.
    pub(crate) fn put(&mut self, path: &ObjectPath, object: Object) {
        match &path.name {
            ObjectName::Blob(sha256) => drop(self.blobs.entry(sha256.clone()).or_insert(object)),
            name => {
                if let ObjectName::Reference(sha256) = name {
                    self.references.entry(sha256.clone()).or_default().push(path.prefix());
                }
                let of = self.attempts.entry(path.prefix()).or_default();
                of.entry(name.to_string()).or_insert((name.clone(), object));
            }
        }
    }

    /// Removes the objects of an attempt that match.
    pub(crate) fn remove(&mut self, prefix: &AttemptPrefix, such: impl Fn(&ObjectName) -> bool) {
        let Some(of) = self.attempts.get_mut(prefix) else { return };
        of.retain(|_, (name, _)| !such(name));
        if of.is_empty() {
            self.attempts.remove(prefix);
        }
        for keepers in self.references.values_mut() {
            keepers.retain(|keeper| keeper != prefix || self.attempts.contains_key(prefix));
        }
    }

    /// Removes a blob.
    pub(crate) fn remove_blob(&mut self, sha256: &Sha256) {
        self.blobs.remove(sha256);
    }

    /// The attempts that keep a blob.
    pub(crate) fn keepers(&self, sha256: &Sha256) -> &[AttemptPrefix] {
        self.references.get(sha256).map_or(&[], Vec::as_slice)
    }

    /// The names of an attempt's objects.
    pub(crate) fn names(&self, prefix: &AttemptPrefix) -> impl Iterator<Item = &ObjectName> {
        self.attempts.get(prefix).into_iter().flat_map(|of| of.values().map(|(name, _)| name))
    }

    /// The bytes that an attempt has added.
    pub(crate) fn left(&self, prefix: &AttemptPrefix) -> u64 {
        let Some(of) = self.attempts.get(prefix) else { return 0 };
        let added = |(name, object): &(ObjectName, Object)| match name {
            ObjectName::Addition(sha256) => self.blobs.get(sha256).map_or(0, |blob| blob.content.size),
            _ => object.content.size,
        };
        of.values().map(added).sum()
    }

    /// As [`binplz_core::ports::Collect::prefixes`].
    pub(crate) fn prefixes(&self, after: Option<&AttemptPrefix>, limit: usize) -> Vec<Held> {
        let behind = self.attempts.range((behind(after), Unbounded));
        let held = behind.take(limit).map(|(prefix, of)| {
            let blobs = of.values().filter_map(|(name, _)| match name {
                ObjectName::Reference(sha256) => Some(sha256.clone()),
                _ => None,
            });
            let bytes = of.values().map(|(_, object)| object.content.size).sum();
            Held { prefix: prefix.clone(), objects: of.len() as u64, bytes, blobs: blobs.collect() }
        });
        held.collect()
    }

    /// As [`binplz_core::ports::Collect::blobs`].
    pub(crate) fn blobs(&self, after: Option<&Sha256>, limit: usize) -> Vec<HeldBlob> {
        let behind = self.blobs.range((behind(after), Unbounded));
        behind.take(limit).map(|(sha256, blob)| HeldBlob { sha256: sha256.clone(), bytes: blob.content.size }).collect()
    }
}
