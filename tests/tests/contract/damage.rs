//! A damaged, shortened or missing file of a data directory is told apart from a new one: by name, with what is lost and what to do.

use std::{fs, path::Path};

use binplz_core::{
    objects::narinfo::StoreDir,
    ports::{Ledger, Read},
    row::{Swap, Version},
};
use binplz_local::{DataDir, LocalBinaryCache, LocalLedger, LocalStore, OpenError};
use binplz_tests::contract::rows::served;

/// A ledger with some rows, closed.
async fn some_rows(path: &Path) {
    let dir = DataDir::open(path).expect("a data directory");
    let ledger = LocalLedger::open(&dir).expect("a new ledger");
    for n in 0..50 {
        ledger.commit(vec![Swap { seen: Version(0), row: served(n, 1) }]).await.expect("a commit");
    }
}

fn open(path: &Path) -> Result<LocalLedger, OpenError> {
    LocalLedger::open(&DataDir::open(path).expect("a data directory"))
}

/// It names the file and the remedy.
fn assert_told(refused: &OpenError, file: &str) {
    let said = refused.to_string();
    assert!(said.contains(file) && said.contains("binplz restore"), "{said}");
}

#[tokio::test]
async fn a_ledger_that_is_missing_or_empty_is_no_new_one() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    some_rows(dir.path()).await;
    let file = dir.path().join("ledger.redb");
    fs::write(&file, "").expect("a file");
    assert_told(&open(dir.path()).expect_err("it is empty"), "ledger.redb is empty");
    fs::remove_file(&file).expect("a file");
    assert_told(&open(dir.path()).expect_err("it is missing"), "ledger.redb is missing");
    assert!(!file.exists(), "nothing was begun anew");
    // What builds have stored shows it, too.
    fs::remove_file(dir.path().join("ledger.made")).expect("a file");
    fs::create_dir_all(dir.path().join("objects/builds/x")).expect("a directory");
    assert_told(&open(dir.path()).expect_err("it is missing"), "ledger.redb is missing");
    fs::remove_dir_all(dir.path().join("objects")).expect("a directory");
    open(dir.path()).expect("a new one");
}

#[tokio::test]
async fn the_marker_of_a_ledger_that_is_there_is_written_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    some_rows(dir.path()).await;
    let marker = dir.path().join("ledger.made");
    fs::remove_file(&marker).expect("it was made");
    let ledger = open(dir.path()).expect("it is whole");
    assert!(marker.exists());
    assert!(ledger.load(&served(7, 1).key(), Read::Consistent).await.expect("a row").is_some());
}

/// Each byte of the file's first pages, and some of the others.
#[tokio::test]
async fn any_damage_to_a_ledger_is_refused_or_does_no_harm() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    some_rows(dir.path()).await;
    let file = dir.path().join("ledger.redb");
    let (mut refused, mut unharmed) = (0, 0);
    let all = async |ledger: &LocalLedger| {
        let rows = ledger.scan(None, 99).await.expect("readable rows").rows;
        rows.into_iter().map(|(row, _)| row).collect::<Vec<_>>()
    };
    let expected = {
        let ledger = open(dir.path()).expect("it is whole");
        all(&ledger).await
    };
    assert_eq!(expected.len(), 50);
    let whole = fs::read(&file).expect("a file");
    let places = (0..512).step_by(7).chain((512..whole.len()).step_by(1 + whole.len() / 150));
    for at in places {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&file, &damaged).expect("a file");
        match open(dir.path()) {
            Ok(ledger) => {
                assert_eq!(all(&ledger).await, expected, "byte {at}");
                unharmed += 1;
            }
            Err(error) => {
                assert_told(&error, "ledger.redb");
                refused += 1;
            }
        }
    }
    for length in (1..whole.len()).step_by(1 + whole.len() / 40) {
        fs::write(&file, &whole[..length]).expect("a file");
        match open(dir.path()) {
            Ok(ledger) => assert_eq!(all(&ledger).await, expected, "of {length} bytes"),
            Err(error) => assert_told(&error, "ledger.redb"),
        }
    }
    assert!(refused > 5 && unharmed > 5, "{refused} refused, {unharmed} unharmed");
}

#[tokio::test]
async fn a_secret_of_another_size_is_made_anew_and_a_key_of_one_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let open = |data: &Path| {
        let data = DataDir::open(data).expect("a data directory");
        drop(LocalStore::open(&data, "http://127.0.0.1:1").expect("a store"));
        LocalBinaryCache::open(&data, StoreDir::default()).map(drop)
    };
    open(dir.path()).expect("a new cache");
    fs::write(dir.path().join("secret"), "short").expect("a file");
    open(dir.path()).expect("a new secret");
    assert_eq!(fs::read(dir.path().join("secret")).expect("a file").len(), 32);
    let key = dir.path().join("cache-key");
    let whole = fs::read(&key).expect("a file");
    for damaged in [&whole[..31], &[7; 32]] {
        fs::write(&key, damaged).expect("a file");
        let said = open(dir.path()).expect_err("another key").to_string();
        assert!(said.contains("cache-key") && said.contains("is damaged") && said.contains("emove"), "{said}");
    }
    fs::remove_file(&key).expect("a file");
    open(dir.path()).expect_err("a new key is another key");
}
