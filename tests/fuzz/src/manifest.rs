//! Manifests: what is accepted is written back, its checksum is its own, and what users read of it is sanitised.

use binplz_core::{
    id::key::Product,
    nixpkgs::served::Notes,
    objects::{inventory::Inventory, needs},
};

use crate::input::{cleaned_once, is_line};

pub(crate) fn check(data: &[u8]) {
    for product in ["tree", "-bundle.tree", "-catalogue"] {
        let product: Product = product.parse().expect("a product");
        if let Ok(inventory) = Inventory::from_json(data, &product) {
            written(inventory, &product);
        }
    }
}

fn written(inventory: Inventory, product: &Product) {
    let json = inventory.to_json().expect("JSON can express it");
    assert_eq!(Inventory::from_json(&json, product).as_ref(), Ok(&inventory));
    for at in [0, json.len() / 2, json.len() - 70] {
        let mut damaged = json.clone();
        damaged[at] ^= 1;
        // Damage to the checksum's name alone does no harm.
        let read = Inventory::from_json(&damaged, product);
        assert!(read.is_err() || read.as_ref() == Ok(&inventory), "byte {at}");
    }
    for entry in inventory.entries() {
        assert!(inventory.content(&entry.name).is_some());
    }
    let Some(manifest) = inventory.manifest else { return };
    let manifest = cleaned_once(manifest, |manifest| manifest.cleaned());
    assert!(is_line(&manifest.pname) && is_line(&manifest.version));
    manifest.main("tree");
    let programs = manifest.by_name();
    assert!(programs.is_sorted_by(|one, next| one.bin < next.bin), "each name once");
    for program in programs {
        assert_eq!(manifest.program(program.bin.as_str()), Some(program));
        manifest.selector(program);
        let notes = Notes::of(&manifest, program);
        assert!(is_line(&notes.sentence(&program.bin)));
        let needs = notes.needs.unwrap_or_default();
        assert!(needs.len() <= needs::NEEDS_MAX);
        let header = needs::header(&needs);
        assert!(header.bytes().all(|b| (b' '..=b'~').contains(&b)), "{header}");
        assert_eq!(needs::json(&needs).as_array().map(Vec::len), Some(needs.len()));
    }
}
