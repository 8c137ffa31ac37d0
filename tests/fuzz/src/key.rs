//! Names: each has one form, within its alphabet and length, and serde reads no other.

use binplz_core::{
    id::key::{
        ATTR_PARTS_MAX, Attr, BASE32, Bin, BuildKey, DrvHash, KeyName, LeaseId, NAME_MAX, OutputName, PinName, Pname,
        Product, Rev, Sha256, StoreHash, System, Token,
    },
    quota::client::Client,
};

use crate::input::{one_form, one_form_in_json, text};

pub(crate) fn check(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let within = |alphabet: &[u8], most: usize| {
        assert!((1..=most).contains(&text.len()), "{text:?}");
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || alphabet.contains(&b)), "{text:?}");
        // No such name leads out of a directory, or is an option.
        assert!(!matches!(text, "." | "..") && !text.starts_with('-'), "{text:?}");
    };
    if let Some(attr) = one_form_in_json::<Attr>(text) {
        within(b"_.+'-", NAME_MAX);
        assert!(attr.parts().count() <= ATTR_PARTS_MAX && attr.parts().all(|part| !part.is_empty()));
        assert!(attr.as_str().ends_with(attr.leaf()));
    }
    if one_form_in_json::<Bin>(text).is_some() {
        within(b"_.+'-[]@:,=~", NAME_MAX);
        assert!(!text.starts_with('.'));
    }
    if one_form_in_json::<OutputName>(text).is_some() {
        within(b"_.+-?=", NAME_MAX);
    }
    if one_form_in_json::<PinName>(text).is_some() {
        within(b".-", 64);
        assert!(one_form_in_json::<KeyName>(text).is_some() && text == text.to_ascii_lowercase());
    }
    let hex =
        |digits: usize| text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    assert_eq!(one_form_in_json::<Rev>(text).is_some(), hex(40));
    assert_eq!(one_form_in_json::<LeaseId>(text).is_some(), hex(32));
    assert_eq!(text.parse::<Token>().is_ok(), hex(64));
    if let Some(sha256) = one_form_in_json::<Sha256>(text) {
        assert!(hex(64));
        assert_eq!(Sha256::from(sha256.bytes()), sha256);
        assert_eq!(Bin::from(&sha256).as_str().parse::<Bin>().as_ref(), Ok(&Bin::from(&sha256)));
    }
    let base32 = text.len() == 32 && text.bytes().all(|b| BASE32.contains(&b));
    assert_eq!(one_form_in_json::<DrvHash>(text).is_some(), base32);
    assert_eq!(one_form_in_json::<StoreHash>(text).is_some(), base32);
    one_form::<System>(text);
    one_form_in_json::<Client>(text);
    if let Ok(hash) = DrvHash::of_path(text) {
        assert!(text.contains(&format!("{hash}-")) && text.ends_with(".drv"));
    }
    one_form_in_json::<Pname>(text);
    if let Ok(pname) = Pname::of(text) {
        assert!(text.starts_with(pname.as_str()) && !pname.as_str().is_empty());
        assert_eq!(Pname::of(pname.as_str()).as_ref(), Ok(&pname), "a name without a version has none");
    }
    if let Some(product) = one_form_in_json::<Product>(text) {
        assert_eq!(product.attr().is_none(), product == Product::Catalogue);
    }
    if let Some(key) = one_form::<BuildKey>(text) {
        assert_eq!(text.split('/').count(), 3, "{key:?}");
    }
}
