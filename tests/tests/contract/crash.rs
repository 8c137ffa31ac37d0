//! Killed at any point, the data directory holds what was acknowledged, and nothing by halves.

use std::{collections::BTreeMap, path::Path, process::Stdio};

use binplz_core::{
    objects::artifact::{ObjectName, ObjectPath},
    ports::{Inspect, Ledger, Read, Store},
    row::{Row, StatusIndex, Version},
};
use binplz_local::{DataDir, LocalLedger, LocalStore, OpenError};
use binplz_tests::contract::rows::{building, key, lease_id, served};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

fn victim(what: &str, dir: &Path) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_victim"));
    let mut child = command.arg(what).arg(dir).stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("the victim");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    (child, lines)
}

/// Lets it go on until it has said so many lines, and kills it; what it said, also while it died.
async fn kill_after(count: usize, what: &str, dir: &Path) -> Vec<String> {
    let (mut child, mut lines) = victim(what, dir);
    let mut said = Vec::new();
    while said.len() < count {
        said.push(lines.next_line().await.expect("its output").expect("it goes on until it is killed"));
    }
    child.start_kill().expect("to kill it");
    while let Some(line) = lines.next_line().await.expect("its output") {
        said.push(line);
    }
    child.wait().await.expect("its end");
    said
}

#[tokio::test]
async fn killed_while_it_commits_it_has_every_acknowledged_commit_and_no_half_of_one() {
    for count in [1, 2, 3, 10, 50, 200, 1000] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut acknowledged: BTreeMap<u32, u64> = (0..4).map(|writer| (writer, 0)).collect();
        for line in kill_after(count, "commit", dir.path()).await {
            // The last line may be cut.
            if let Some((writer, version)) = line.split_once(' ')
                && let (Ok(writer), Ok(version)) = (writer.parse(), version.parse::<u64>())
            {
                let newest = acknowledged.entry(writer).or_default();
                *newest = version.max(*newest);
            }
        }
        let data = DataDir::open(dir.path()).expect("the lock went with its process");
        let ledger = LocalLedger::open(&data).expect("a whole ledger");
        let listed = ledger.list(StatusIndex::Building, None, 9).await.expect("a list");
        for (writer, version) in acknowledged {
            let load = async |row: Row| ledger.load(&row.key(), Read::Consistent).await.expect("a readable row");
            let rows = (load(building(writer, 1, 0)).await, load(served(writer, 0)).await);
            let written = rows.0.as_ref().map_or(0, |(_, version)| version.0);
            // The one under way when the kill came may have been written before its reply was.
            assert!((version..=version + 1).contains(&written), "{version} acknowledged, {written} there");
            if written > 0 {
                let both = (building(writer, 1, written), served(writer, written));
                let at = Version(written);
                assert_eq!(rows, (Some((both.0, at)), Some((both.1, at))), "half a commit");
                let on_shelf = listed.iter().filter(|listed| listed.key == key(writer));
                assert_eq!(on_shelf.map(|listed| listed.at.0).collect::<Vec<_>>(), [written], "another index");
            }
        }
    }
}

#[tokio::test]
async fn killed_in_the_middle_of_an_upload_nothing_of_it_is_left() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let drafts = || std::fs::read_dir(dir.path().join("tmp")).expect("tmp").count();
    assert_eq!(kill_after(1, "upload", dir.path()).await, ["half"]);
    assert_eq!(drafts(), 1, "it was in the middle of it");
    let data = DataDir::open(dir.path()).expect("the lock went with its process");
    let store = LocalStore::open(&data, "http://localhost").expect("a store");
    assert_eq!(drafts(), 0);
    let program = |name: &str| ObjectPath {
        key: key(1),
        lease: lease_id(1),
        name: ObjectName::Program(name.parse().expect("a name")),
    };
    assert_eq!(store.size(&program("half")).await, Ok(None));
    assert_eq!(store.read(&program("whole")).await, Ok(Some(vec![7; 1 << 20])));
}

#[tokio::test]
async fn a_second_process_on_the_same_data_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (_child, mut lines) = victim("upload", dir.path());
    lines.next_line().await.expect("its output").expect("a line");
    let refused = DataDir::open(dir.path()).expect_err("the other process has it");
    assert!(matches!(refused, OpenError::InUse(_)), "{refused}");
    assert!(refused.to_string().starts_with("another binplz serves "), "{refused}");
}
