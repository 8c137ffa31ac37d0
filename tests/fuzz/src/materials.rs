//! Materials: what a builder reports is written back, and cleaned once and for all; an SBOM can always be made of it.

use binplz_core::{
    objects::materials::{INPUTS_MAX, Materials},
    trust::sbom::Sbom,
};

use crate::input::{cleaned_once, is_line, written_back};

pub(crate) fn check(data: &[u8]) {
    let Some(materials) = written_back::<Materials>(data) else { return };
    let clean = cleaned_once(materials, Materials::cleaned);
    assert!(clean.inputs.len() <= INPUTS_MAX && clean.inputs.is_sorted());
    for component in [&clean.package].into_iter().chain(&clean.linked).chain(&clean.build_time) {
        assert!(is_line(&component.name) && is_line(&component.version) && is_line(&component.derivation));
        for source in &component.sources {
            assert!(source.urls.iter().all(|url| url.is_ascii() && url.contains("://") && is_line(url)), "{source:?}");
            assert!(is_line(&source.told_hash()));
        }
    }
    let json = clean.to_json().expect("JSON can express it");
    assert_eq!(written_back::<Materials>(&json), Some(clean.clone()));
    let sbom = Sbom::of(&clean).to_json().expect("JSON can express it");
    let sbom: serde_json::Value = serde_json::from_slice(&sbom).expect("JSON");
    assert_eq!(sbom["bomFormat"], "CycloneDX");
}
