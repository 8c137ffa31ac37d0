//! Backups: lines of rows. What is read is written back; a backup that is cut or changed anywhere is refused.

use binplz_core::{
    id::{key::hex, time::Timestamp},
    row::{
        Row,
        backup::{BackupWriter, read_backup},
    },
};
use sha2::{Digest, Sha256};

pub(crate) fn check(data: &[u8]) {
    // As it is, and with a trailer that fits it.
    written(read_backup(data).ok());
    let mut lines = [b"{\"binplz-backup\":1,\"at\":1}\n", data].concat();
    if !lines.ends_with(b"\n") {
        lines.push(b'\n');
    }
    let (rows, sum) = (lines.iter().filter(|byte| **byte == b'\n').count() - 1, hex(&Sha256::digest(&lines)));
    let sealed = [lines, format!("{{\"rows\":{rows},\"sha256\":\"{sum}\"}}\n").into_bytes()].concat();
    let read = read_backup(&sealed).ok();
    assert!(read.as_ref().is_none_or(|read| read.len() == rows), "each line is a row");
    written(read);
}

fn written(rows: Option<Vec<Row>>) {
    let Some(rows) = rows else { return };
    let (mut writer, mut text) = BackupWriter::new(Timestamp(7));
    for row in &rows {
        text.push_str(&writer.row(row).expect("JSON can express it"));
    }
    text.push_str(&writer.end());
    assert_eq!(read_backup(text.as_bytes()), Ok(rows));
    let cut = text.len() / 2;
    assert!(read_backup(&text.as_bytes()[..cut]).is_err());
    let mut damaged = text.into_bytes();
    damaged[cut] ^= 1;
    assert!(read_backup(&damaged).is_err(), "byte {cut}");
}
