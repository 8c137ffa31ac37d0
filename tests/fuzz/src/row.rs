//! Rows: a line with the row's key, and its JSON. What is read is written back, under the same key where the row has one.

use binplz_core::row::{Row, RowKey};

use crate::input::{one_form, text};

pub(crate) fn check(data: &[u8]) {
    let Some((key, json)) = text(data).and_then(|text| text.split_once('\n')) else { return };
    let Some(key) = one_form::<RowKey>(key) else { return };
    let Ok(row) = Row::from_json(&key, json.as_bytes()) else { return };
    let written = row.to_json().expect("JSON can express it");
    let again = Row::from_json(&key, written.as_bytes()).expect("what was written");
    assert_eq!(again, row, "{written}");
    assert_eq!(again.to_json().ok(), Some(written), "it is written in one way");
    let own = row.key();
    assert_eq!(std::mem::discriminant(&own), std::mem::discriminant(&key), "{own}");
    assert_eq!(one_form::<RowKey>(&own.to_string()), Some(own));
    match row {
        Row::Build(build) => drop(build.status_index()),
        Row::Served(served) => {
            assert_eq!(served.key().product.attr(), Some(&served.attr));
            served.notes.sentence(&served.bin);
        }
        _ => {}
    }
}
