//! Names of objects and rows: each has one form, and none leads out of its directory.

use binplz_core::{
    objects::{
        artifact::{
            AttemptPrefix, BUILDS, CacheName, ObjectName, ObjectPath, QUARANTINE, nixpkgs_at, nixpkgs_path,
            programs_at, programs_path,
        },
        narinfo::{StoreDir, StoreName},
    },
    row::{RowKey, Unreferenced},
    trust::tile::{Kind, TileName, WIDTH},
};

use crate::input::{one_form, one_form_in_json, text};

pub(crate) fn check(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let stays = |path: &str| {
        assert!(path.split('/').all(|name| !matches!(name, "" | "." | "..")), "{path:?}");
        assert!(path.is_ascii() && !path.contains(|c: char| c.is_control() || c == ' '), "{path:?}");
    };
    if let Some(name) = one_form_in_json::<ObjectName>(text) {
        stays(text);
        assert!(!name.media_type().is_empty());
    }
    if let Some(path) = one_form_in_json::<ObjectPath>(text) {
        stays(text);
        stays(&path.location());
        assert_eq!(path.prefix().object(path.name.clone()), path);
        let prefix = if path.name.is_offer() { path.prefix().quarantine() } else { path.prefix().objects() };
        assert!(
            text.starts_with(&prefix) && prefix.starts_with(if path.name.is_offer() { QUARANTINE } else { BUILDS })
        );
        // What is removed at a build's end, and nothing else, lies in directories of its own.
        assert_eq!(text.starts_with(&path.prefix().segments()), matches!(path.name, ObjectName::Log(_)));
        let partial =
            matches!(path.name, ObjectName::Checkpoint(_) | ObjectName::PartialLookup | ObjectName::PartialDetails);
        assert_eq!(text.starts_with(&path.prefix().partial()), partial);
    }
    if let Some(prefix) = one_form::<AttemptPrefix>(text) {
        stays(text);
        assert_eq!(one_form::<Unreferenced>(text), Some(Unreferenced::Attempt(prefix)));
    }
    one_form::<Unreferenced>(text);
    if let Some(key) = one_form::<RowKey>(text) {
        assert!(text.is_ascii(), "{key:?}");
    }
    if let Some(name) = CacheName::at(text) {
        stays(text);
        assert_eq!(name.to_string(), text);
    }
    assert!(nixpkgs_at(text).is_none_or(|rev| nixpkgs_path(&rev) == text));
    assert!(programs_at(text).is_none_or(|sha256| programs_path(&sha256) == text));
    if let Some(name) = one_form::<TileName>(text) {
        stays(text);
        assert!((1..=WIDTH).contains(&name.width) && name.full().is_full());
        assert!(!matches!(name.kind, Kind::Hashes(8..)));
    }
    if let Some(name) = one_form::<StoreName>(text) {
        stays(text);
        assert!(text.len() <= 32 + 1 + 211 && !name.name().starts_with('.'));
    }
    if let Some(dir) = one_form::<StoreDir>(text) {
        assert!(text.starts_with('/') && !text.ends_with('/'), "{dir}");
    }
}
