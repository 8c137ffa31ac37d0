//! A ledger outlives its database: as a file with all rows, and what that lacks as it follows from the store.

use std::sync::Arc;

use binplz_core::{
    build::State,
    flow::{
        operator::{
            orders::{Operator, Order},
            restore::{find_stored, restore},
        },
        request::{outcome::RequestOutcome, program::request},
        schedule::{dispatch::dispatch, scrub::verify},
    },
    id::time::Timestamp,
    nixpkgs::pins::Change,
    objects::stored::Method,
    ports::{Deployment, HasLedger, HasStore, Ledger, Read},
    quota::client::{Asker, KeyChange},
    row::{
        Row, RowKey,
        backup::{BackupWriter, BadBackup, read_backup},
    },
};
use binplz_local::{DataDir, LocalLedger};
use binplz_tests::{
    contract::rows::any_row,
    world::{World, target},
};
use proptest::prelude::*;

fn text_of(rows: &[Row]) -> Vec<u8> {
    let (mut writer, mut text) = BackupWriter::new(Timestamp(1));
    rows.iter().for_each(|row| text += &writer.row(row).expect("JSON"));
    (text + &writer.end()).into_bytes()
}

proptest! {
    #[test]
    fn every_row_comes_back_as_it_was_written(rows in prop::collection::vec(any_row(), 0..20)) {
        prop_assert_eq!(read_backup(&text_of(&rows)), Ok(rows));
    }
}

#[test]
fn a_backup_that_is_cut_off_or_damaged_anywhere_is_refused() {
    let rows = [binplz_tests::contract::rows::served(1, 2), binplz_tests::contract::rows::building(1, 1, 2)];
    let whole = text_of(&rows);
    assert_eq!(read_backup(&whole).map(|rows| rows.len()), Ok(2));
    for at in 0..whole.len() {
        assert!(read_backup(&whole[..at]).is_err(), "cut off at {at}");
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        assert!(read_backup(&damaged).is_err(), "byte {at}");
    }
    let newer = String::from_utf8(whole).expect("text").replacen(":1,", ":2,", 1);
    assert_eq!(read_backup(newer.as_bytes()), Err(BadBackup::Newer(2)));
    assert_eq!(read_backup(b"# packages\n"), Err(BadBackup::Foreign));
}

async fn all(ledger: &impl Ledger) -> Vec<Row> {
    let rows = ledger.scan(None, 999).await.expect("the ledger").rows;
    rows.into_iter().map(|(row, _)| row).collect()
}

/// A world with a program, a takedown, a key and a failure.
async fn some() -> Arc<World> {
    let w = World::new();
    for path in ["tree", "hello"] {
        request(&*w, &target(path), Method::Get, Some(&Asker::default())).await;
        dispatch(&*w).await.expect("the ledger");
        w.finish(path).await;
        let reply = request(&*w, &target(path), Method::Get, None).await;
        assert!(matches!(reply, RequestOutcome::Hit { .. }), "{reply:?}");
    }
    w.change(Change::Withhold("hello".parse().expect("a package"), "why".to_owned())).await;
    let key = KeyChange::Add {
        name: "ci".parse().expect("a name"),
        sha256: "0".repeat(64).parse().expect("hex"),
        builds: Some(7),
    };
    w.carry_out(Order::ChangeKeys(key)).await.expect("a new key");
    w
}

#[tokio::test]
async fn what_is_restored_into_another_ledger_is_all_that_was_backed_up() {
    let w = some().await;
    let rows = read_backup(&text_of(&all(w.ledger()).await)).expect("a backup");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let other = LocalLedger::open(&DataDir::open(dir.path()).expect("a directory")).expect("a ledger");
    // Twice: the first one may have died in the middle.
    for _ in 0..2 {
        restore(&other, &rows).await.expect("the ledger");
        assert_eq!(all(&other).await, all(w.ledger()).await);
    }
    assert_eq!(find_stored(&other, w.store(), w.now()).await, Ok(0), "all is known");
}

#[tokio::test]
async fn what_is_stored_and_not_in_the_backup_is_ready_again() {
    let w = some().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let other = LocalLedger::open(&DataDir::open(dir.path()).expect("a directory")).expect("a ledger");
    assert_eq!(find_stored(&other, w.store(), w.now()).await, Ok(2));
    for path in ["tree", "hello"] {
        let key = w.key(path).await;
        let found = other.load(&RowKey::Build(key.clone()), Read::Consistent).await.expect("the ledger");
        let Some((Row::Build(build), _)) = found else { panic!("{path}: {found:?}") };
        let (State::Ready(found), State::Ready(made)) = (build.state, w.build(path).await.state) else {
            panic!("{path}")
        };
        assert_eq!(found.prefix(&key), made.prefix(&key));
    }
    assert_eq!(find_stored(&other, w.store(), w.now()).await, Ok(0));
    assert_eq!(verify(&*w, None).await.expect("the backends").found, []);
}
