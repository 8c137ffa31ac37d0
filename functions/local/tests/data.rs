//! The data directory of one machine: its files, their modes, and the errors of a damaged one.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    sync::Arc,
};

use binplz_core::{
    build::{Build, State},
    id::{
        key::{BuildKey, System, hex},
        time::Timestamp,
    },
    objects::{
        artifact::{ObjectName, ObjectPath},
        narinfo::StoreDir,
    },
    ports::{Inspect, Intake, Ledger, NotCommitted, Read, Store},
    row::{Row, RowKey, Swap, Version},
};
use binplz_local::{DataDir, LocalBinaryCache, LocalLauncher, LocalLedger, LocalStore, OpenError, UploadError};
use redb::{Database, TableDefinition};
use sha2::Digest;
use tempfile::TempDir;

fn data() -> (TempDir, Arc<DataDir>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = DataDir::open(dir.path()).expect("a data directory");
    (dir, data)
}

fn key() -> BuildKey {
    let product = "tree".parse().expect("a package");
    BuildKey { rev: "ab".repeat(20).parse().expect("hex"), system: System::X86_64Linux, product }
}

fn program() -> ObjectPath {
    let lease = "1".repeat(32).parse().expect("32 hex digits");
    ObjectPath { key: key(), lease, name: ObjectName::Program("tree".parse().expect("a name")) }
}

/// The query of an upload URL for this content.
async fn grant(store: &LocalStore, content: &[u8]) -> String {
    let sha256 = hex(&sha2::Sha256::digest(content)).parse().expect("64 hex digits");
    let grant = store.grant(&program(), content.len() as u64, &sha256).await.expect("a grant");
    grant.url.split_once('?').expect("a query").1.to_owned()
}

fn files_below(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, |entries| {
        let each = entries.map(|entry| entry.expect("an entry").path());
        each.map(|path| if path.is_dir() { files_below(&path) } else { 1 }).sum()
    })
}

#[test]
fn a_link_in_the_data_directory_is_refused_and_what_it_leads_to_is_left_alone() {
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    fs::write(elsewhere.path().join("letter"), "dear").expect("a file");
    for part in ["tmp", "objects", "builders", "cache"] {
        let (dir, data) = data();
        let link = dir.path().join(part);
        symlink(elsewhere.path(), &link).expect("a link");
        let refused = [
            LocalStore::open(&data, "http://localhost").err(),
            LocalLauncher::open(&data, "http://localhost", "/nowhere".into()).err(),
            LocalBinaryCache::open(&data, StoreDir::default()).err(),
        ];
        let refused: Vec<_> = refused.into_iter().flatten().collect();
        assert!(!refused.is_empty(), "{part}");
        for why in refused {
            assert!(matches!(&why, OpenError::Link(path) if *path == link), "{part}: {why}");
        }
        assert_eq!(files_below(elsewhere.path()), 1, "{part}");
    }
}

#[tokio::test]
async fn nothing_of_an_upload_can_be_seen_before_it_is_finished() {
    let (dir, data) = data();
    let store = LocalStore::open(&data, "http://localhost").expect("a store");
    let query = grant(&store, b"a program").await;
    let mut receiver = store.receive(&program(), &query, Timestamp(1)).await.expect("a good grant");
    assert_eq!(receiver.size(), 9);
    for chunk in [&b"a pro"[..], b"gram"] {
        receiver.write(chunk).await.expect("the next bytes");
        assert_eq!(store.size(&program()).await, Ok(None));
        assert!(!store.file(&program()).exists());
        assert_eq!(files_below(&dir.path().join("objects")), 0);
    }
    receiver.finish().await.expect("the whole");
    assert_eq!(store.read(&program()).await, Ok(Some(b"a program".to_vec())));
    assert_eq!(files_below(&dir.path().join("tmp")), 0);
}

#[tokio::test]
async fn an_upload_that_is_broken_off_or_wrong_leaves_no_file() {
    let (dir, data) = data();
    let store = LocalStore::open(&data, "http://localhost").expect("a store");
    let query = grant(&store, b"a program").await;
    let receive = async || store.receive(&program(), &query, Timestamp(1)).await.expect("a good grant");
    let mut broken_off = receive().await;
    broken_off.write(&b"a pro"[..]).await.expect("the first bytes");
    assert_eq!(files_below(dir.path().join("tmp").as_path()), 1);
    drop(broken_off);
    assert_eq!(files_below(dir.path().join("tmp").as_path()), 0);

    let mut long = receive().await;
    assert_eq!(long.write(&b"a program!"[..]).await, Err(UploadError::Size));
    assert!(matches!(long.write(&b"a program"[..]).await, Err(UploadError::Unavailable(_))), "it is over");
    assert!(long.finish().await.is_err());
    assert_eq!(receive().await.finish().await, Err(UploadError::Size));
    let mut other = receive().await;
    other.write(&b"a prograM"[..]).await.expect("as many bytes");
    assert_eq!(other.finish().await, Err(UploadError::Content));
    assert_eq!(files_below(&dir.path().join("tmp")) + files_below(&dir.path().join("objects")), 0);
}

#[tokio::test]
async fn a_grant_outlives_the_server_that_gave_it() {
    let (dir, data) = data();
    let store = LocalStore::open(&data, "http://localhost").expect("a store");
    let query = grant(&store, b"").await;
    drop((store, data));
    let data = DataDir::open(dir.path()).expect("the same data directory");
    let store = LocalStore::open(&data, "http://localhost").expect("the same store");
    let receiver = store.receive(&program(), &query, Timestamp(1)).await.expect("a good grant");
    receiver.finish().await.expect("an empty program");
}

#[tokio::test]
async fn what_holds_secrets_is_for_its_owner_alone() {
    let (dir, data) = data();
    let _ledger = LocalLedger::open(&data).expect("a ledger");
    let _store = LocalStore::open(&data, "http://localhost").expect("a store");
    for file in ["ledger.redb", "secret"] {
        let mode = fs::metadata(dir.path().join(file)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

/// Changes the ledger's file in a way that no binplz does.
fn tamper(dir: &Path, work: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::create(dir.join("ledger.redb")).expect("a database");
    let transaction = database.begin_write().expect("a transaction");
    work(&transaction);
    transaction.commit().expect("a commit");
}

#[test]
fn a_ledger_of_a_later_format_is_refused_and_left_alone() {
    let (dir, data) = data();
    drop(LocalLedger::open(&data).expect("a ledger"));
    const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
    tamper(dir.path(), |transaction| {
        transaction.open_table(META).expect("the table").insert("format", 2).expect("a row");
    });
    let refused = LocalLedger::open(&data).expect_err("of a later format");
    assert!(matches!(refused, OpenError::Newer { found: 2, known: 1, .. }), "{refused}");
}

#[test]
fn a_file_that_is_no_ledger_is_refused_and_left_alone() {
    let (dir, data) = data();
    let path = dir.path().join("ledger.redb");
    let content = "not a database".repeat(1000);
    fs::write(&path, &content).expect("a file");
    let refused = LocalLedger::open(&data).expect_err("no ledger");
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused:?}");
    assert_eq!(fs::read_to_string(&path).expect("the file"), content);
}

#[tokio::test]
async fn an_unreadable_row_is_an_error_and_the_others_are_as_they_were() {
    const ROWS: TableDefinition<&str, (u64, &[u8])> = TableDefinition::new("rows");
    let (dir, data) = data();
    let row = |attr: &str| {
        let key = BuildKey { product: attr.parse().expect("a package"), ..key() };
        Row::Build(Build { state: State::Unasked, ..Build::unasked(key) })
    };
    let ledger = LocalLedger::open(&data).expect("a ledger");
    let first = |row: Row| vec![Swap { seen: Version(0), row }];
    ledger.commit(first(row("good"))).await.expect("a commit");
    drop(ledger);
    let bad = RowKey::Build(BuildKey { product: "bad".parse().expect("a package"), ..key() });
    tamper(dir.path(), |transaction| {
        let mut rows = transaction.open_table(ROWS).expect("the table");
        rows.insert(bad.to_string().as_str(), (1, &b"{\"key\":3}"[..])).expect("a row");
    });
    let ledger = LocalLedger::open(&data).expect("a ledger");
    let unreadable = ledger.load(&bad, Read::Consistent).await.expect_err("unreadable");
    assert!(unreadable.to_string().starts_with("ledger: unreadable row"), "{unreadable}");
    let swap = Swap { seen: Version(1), row: row("bad") };
    assert!(matches!(ledger.commit(vec![swap]).await, Err(NotCommitted::Unavailable(_))));
    assert_eq!(ledger.load(&row("good").key(), Read::Consistent).await, Ok(Some((row("good"), Version(1)))));
    ledger.commit(first(row("new"))).await.expect("a commit");
}
