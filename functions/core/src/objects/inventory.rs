//! The inventory of an attempt: `manifest.json`, which says what every object beside it must be. The service writes it
//! when the build settles; with it, a later check finds objects that are missing or damaged ([`crate::flow::integrity`]).
//!
//! The file ends with its own checksum, so damage to the inventory is found too.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256 as Hasher};
use thiserror::Error;

use crate::{
    id::key::{Bin, Product, Sha256, hex},
    objects::{
        artifact::{Manifest, ObjectName, Verdict},
        content::Content,
    },
};

/// The objects of an attempt, and a package's manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The manifest; a catalogue has none.
    #[serde(flatten)]
    pub manifest: Option<Manifest>,
    /// The stored objects, each once: the contents of programs, the log, and a catalogue's files. Earlier versions listed
    /// no programs: each was stored under its name.
    #[serde(default)]
    pub objects: Vec<Entry>,
}

/// An object, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The object's name.
    pub name: ObjectName,
    /// Its content.
    #[serde(flatten)]
    pub content: Content,
}

/// The file is not an inventory, or not as it was written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the manifest is damaged: {0}")]
pub struct Damaged(String);

/// The text before the checksum, which is the file's last field.
const CHECKSUM: &str = ",\"checksum\":\"";
/// The text after the checksum.
const END: &str = "\"}";
/// The hexadecimal digits of a sha256.
const DIGITS: usize = 64;

impl Inventory {
    /// The file: JSON, whose last field is the sha256 of the JSON without that field.
    ///
    /// # Errors
    /// serde's; no inventory is such that JSON cannot express it.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut json = serde_json::to_string(self)?;
        let checksum = hex(&Hasher::digest(&json));
        json.truncate(json.len() - 1);
        Ok([json.as_str(), CHECKSUM, &checksum, END].concat().into_bytes())
    }

    /// Reads the file of a build of `product`. A file without a checksum is an earlier version's, and is believed.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn from_json(json: &[u8], product: &Product) -> Result<Inventory, Damaged> {
        if let Some((content, checksum)) = parts(json)
            && checksum != hex(&Hasher::new().chain_update(content).chain_update("}").finalize()).as_bytes()
        {
            return Err(Damaged("another checksum".to_owned()));
        }
        let inventory: Inventory = serde_json::from_slice(json).map_err(|error| Damaged(error.to_string()))?;
        match (&inventory.manifest, product) {
            (Some(_), Product::Package(_) | Product::Bundle { .. }) | (None, Product::Catalogue) => Ok(inventory),
            _ => Err(Damaged("it is of another kind of build".to_owned())),
        }
    }

    /// The object that holds a program's content.
    pub fn object(&self, bin: &Bin, sha256: &Sha256) -> ObjectName {
        let listed = self.contents().find(|entry| entry.content.sha256 == *sha256).map(|entry| entry.name.clone());
        listed.unwrap_or_else(|| ObjectName::Program(bin.clone()))
    }

    /// The listed contents of programs.
    fn contents(&self) -> impl Iterator<Item = &Entry> {
        let holds = |entry: &&Entry| matches!(entry.name, ObjectName::Program(_) | ObjectName::Blob(_));
        self.objects.iter().filter(holds)
    }

    /// Every object that must be there, beside the inventory itself; each once.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let listed: HashSet<&Sha256> = self.contents().map(|entry| &entry.content.sha256).collect();
        let programs = self.manifest.iter().flat_map(|manifest| &manifest.programs);
        let by_name = programs.filter_map(move |program| match &program.verdict {
            Verdict::Static { sha256, size, .. } if !listed.contains(sha256) => Some(Entry {
                name: ObjectName::Program(program.bin.clone()),
                content: Content { sha256: sha256.clone(), size: *size },
            }),
            _ => None,
        });
        by_name.chain(self.objects.iter().cloned())
    }

    /// The content of one of them.
    pub fn content(&self, name: &ObjectName) -> Option<Content> {
        self.entries().find(|entry| entry.name == *name).map(|entry| entry.content)
    }
}

/// The file without the checksum and the last brace, and the checksum.
fn parts(json: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = json.strip_suffix(END.as_bytes())?;
    let (rest, checksum) = rest.split_at_checked(rest.len().checked_sub(DIGITS)?)?;
    Some((rest.strip_suffix(CHECKSUM.as_bytes())?, checksum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::artifact::{Declared, Program, Refusal};

    fn inventory() -> Inventory {
        let program = |bin: &str, verdict| Program { bin: bin.parse().expect("a name"), output: None, verdict };
        let content = Content { sha256: "a".repeat(64).parse().expect("hex"), size: 7 };
        let manifest = Manifest {
            pname: "tree".to_owned(),
            version: "2.1\"}".to_owned(),
            declared: Declared::default(),
            drv_path: "/nix/store/x.drv".to_owned(),
            outputs: Vec::new(),
            installed: Vec::new(),
            archive: None,
            bundle: None,
            programs: vec![
                program(
                    "tree",
                    Verdict::Static {
                        sha256: content.sha256.clone(),
                        size: 7,
                        leftovers: Vec::new(),
                        needs: None,
                        unwrapped: false,
                    },
                ),
                program("script", Verdict::Refused { why: Refusal::Script }),
            ],
        };
        Inventory { manifest: Some(manifest), objects: vec![Entry { name: ObjectName::WholeLog, content }] }
    }

    fn package() -> Product {
        "tree".parse().expect("a package")
    }

    #[test]
    fn what_was_written_is_read_and_lists_every_stored_object() {
        let written = inventory();
        let read = Inventory::from_json(&written.to_json().expect("JSON"), &package()).expect("an inventory");
        assert_eq!(read, written);
        let names: Vec<_> = read.entries().map(|entry| entry.name.to_string()).collect();
        assert_eq!(names, ["bin/tree", "log.gz"]);
        let catalogue = Inventory { manifest: None, ..written };
        let json = catalogue.to_json().expect("JSON");
        assert_eq!(Inventory::from_json(&json, &Product::Catalogue), Ok(catalogue));
        assert!(Inventory::from_json(&json, &package()).is_err());
    }

    #[test]
    fn programs_of_one_content_are_one_listed_object() {
        let mut inventory = inventory();
        let sha256: Sha256 = "a".repeat(64).parse().expect("hex");
        let same = |bin: &str| Program { bin: bin.parse().expect("a name"), ..inventory_program(&inventory) };
        let names = ["ls", "tree"].map(same);
        let entry =
            Entry { name: ObjectName::Blob(sha256.clone()), content: Content { sha256: sha256.clone(), size: 7 } };
        inventory.manifest.as_mut().expect("a package").programs = names.into();
        inventory.objects.insert(0, entry);
        let listed: Vec<_> = inventory.entries().map(|entry| entry.name).collect();
        assert_eq!(listed, [ObjectName::Blob(sha256.clone()), ObjectName::WholeLog]);
        let bin = "ls".parse().expect("a name");
        assert_eq!(inventory.object(&bin, &sha256), ObjectName::Blob(sha256));
    }

    fn inventory_program(inventory: &Inventory) -> Program {
        inventory.manifest.as_ref().expect("a package").programs[0].clone()
    }

    #[test]
    fn an_inventory_of_an_earlier_version_is_read() {
        let manifest = inventory().manifest;
        let json = serde_json::to_vec(&manifest).expect("JSON");
        let read = Inventory::from_json(&json, &package()).expect("an inventory");
        assert_eq!(read, Inventory { manifest, objects: Vec::new() });
    }

    #[test]
    fn any_damage_is_found_or_does_no_harm() {
        let written = inventory();
        let json = written.to_json().expect("JSON");
        for at in 0..json.len() {
            for bit in 0..8 {
                let mut damaged = json.clone();
                damaged[at] ^= 1 << bit;
                let read = Inventory::from_json(&damaged, &package());
                assert!(read.is_err() || read == Ok(written.clone()), "byte {at}, bit {bit}");
            }
            assert!(Inventory::from_json(&json[..at], &package()).is_err(), "cut off at {at}");
        }
    }
}
