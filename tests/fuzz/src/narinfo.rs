//! Narinfos: what is accepted is printed to the same bytes, signatures left out.

use binplz_core::objects::narinfo::{Narinfo, StoreDir};

use crate::input::text;

pub(crate) fn check(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let dir = StoreDir::default();
    let Ok(narinfo) = Narinfo::parse(text, &dir) else { return };
    let unsigned: String = text.split_inclusive('\n').filter(|line| !line.starts_with("Sig: ")).collect();
    assert_eq!(narinfo.text(&dir), unsigned);
    assert_eq!(Narinfo::parse(&narinfo.signed(&dir, "binplz-1:x"), &dir).as_ref(), Ok(&narinfo));
    assert!(unsigned.is_ascii() && !unsigned.contains("/."), "{unsigned}");
    assert!(narinfo.references.is_sorted_by(|one, next| one < next));
    let fingerprint = narinfo.fingerprint(&dir);
    assert!(!fingerprint.contains(['\n', ' ']), "{fingerprint}");
    assert_eq!(fingerprint.matches(';').count(), 4, "{fingerprint}");
    let other: StoreDir = "/other/store".parse().expect("a directory");
    assert!(Narinfo::parse(text, &other).is_err(), "it is of one store");
}
