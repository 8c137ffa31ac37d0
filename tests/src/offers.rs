//! What builders offer to the cache that they share.

use std::io::Write;

use binplz_core::{
    flow::lease::job::Bearer,
    id::key::StoreHash,
    objects::{
        artifact::ObjectName,
        narinfo::{Narinfo, StoreDir},
    },
    ports::{HasStore, Intake},
};
use binplz_nar::Packer;

use crate::world::World;

/// What a builder offers: a path, which the derivation of the same hash makes.
#[derive(Clone)]
pub struct Offer {
    /// The path.
    pub path: StoreHash,
    /// Its description.
    pub narinfo: Narinfo,
    /// The description as it is stored.
    pub text: String,
    /// The packed content.
    pub file: Vec<u8>,
}

impl Offer {
    /// A path with that content.
    pub fn new(path: StoreHash, content: &[u8]) -> Offer {
        let mut file = Vec::new();
        let mut packer = Packer::new(&mut file, u64::MAX);
        packer.write_all(content).expect("memory");
        let (packed, nar) = packer.finish().expect("memory");
        let name = |what: &str| format!("{path}-{what}").parse().expect("a name");
        let narinfo =
            Narinfo { path: name("dep"), packed, nar, references: vec![name("dep")], deriver: Some(name("dep.drv")) };
        Offer { text: narinfo.text(&StoreDir::default()), path, narinfo, file }
    }

    /// With another narinfo, well written.
    #[must_use]
    pub fn saying(mut self, change: impl FnOnce(&mut Narinfo)) -> Offer {
        change(&mut self.narinfo);
        self.text = self.narinfo.text(&StoreDir::default());
        self
    }

    /// Puts it into the quarantine, as a builder with a grant does.
    pub async fn put(&self, w: &World, bearer: &Bearer) {
        let object = |name| bearer.prefix().object(name);
        let nar = ObjectName::Nar(self.narinfo.packed.sha256.clone());
        w.store().write(&object(nar), self.file.clone()).await.expect("the store");
        let narinfo = ObjectName::Narinfo(self.path.clone());
        w.store().write(&object(narinfo), self.text.clone().into_bytes()).await.expect("the store");
    }
}
