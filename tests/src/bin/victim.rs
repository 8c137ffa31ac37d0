//! A process that writes to a data directory until something stops it: the disk, or a signal. It prints what was
//! acknowledged, line by line, so that the test that kills it knows what must be there afterwards.

use std::{io::Write, path::Path, sync::Arc};

use binplz_core::{
    id::{key::hex, time::Timestamp},
    objects::artifact::{ObjectName, ObjectPath},
    ports::{Inspect, Intake, Ledger, NotCommitted},
    row::{Swap, Version},
};
use binplz_local::{DataDir, LocalLedger, LocalStore};
use binplz_tests::contract::rows::{building, key, lease_id, served};

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, path] = arguments.as_slice() else { panic!("usage: victim WHAT DIRECTORY") };
    let path = Path::new(path);
    match what.as_str() {
        "open" => say(DataDir::open(path).map_or_else(|e| e.to_string(), |_| "opened".to_owned())),
        "commit" => commit(path).await,
        "upload" => upload(path).await,
        "fill" => fill(path).await,
        _ => panic!("{what}?"),
    }
}

/// One line, at once.
fn say(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("the test reads");
}

fn open(path: &Path) -> (LocalLedger, LocalStore) {
    let dir = DataDir::open(path).expect("a data directory");
    let store = LocalStore::open(&dir, "http://localhost").expect("a store");
    (LocalLedger::open(&dir).expect("a ledger"), store)
}

/// Four writers, each with two rows of its own that it always writes together; says "WRITER VERSION" after each commit.
async fn commit(path: &Path) {
    let ledger = Arc::new(open(path).0);
    let writers = (0..4u32).map(|writer| {
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move {
            for seen in 0.. {
                let rows = [building(writer, 1, seen + 1), served(writer, seen + 1)];
                let swaps = rows.map(|row| Swap { seen: Version(seen), row });
                ledger.commit(swaps.into()).await.expect("a commit");
                say(format_args!("{writer} {}", seen + 1));
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("a writer");
    }
}

fn program(name: &str) -> ObjectPath {
    ObjectPath { key: key(1), lease: lease_id(1), name: ObjectName::Program(name.parse().expect("a name")) }
}

/// Stores `whole`, and then never ends the upload of `half`.
async fn upload(path: &Path) {
    let store = open(path).1;
    store.write(&program("whole"), vec![7; 1 << 20]).await.expect("a write");
    let half = program("half");
    let sha256 = hex(&[0; 32]).parse().expect("64 hex digits");
    let grant = store.grant(&half, 2 << 20, &sha256).await.expect("a grant");
    let query = grant.url.split_once('?').expect("a query").1;
    let mut receiver = store.receive(&half, query, Timestamp(0)).await.expect("a good grant");
    receiver.write(vec![7; 1 << 20]).await.expect("the first half");
    say("half");
    std::future::pending().await
}

/// Fills a small disk: with an object that does not fit, then with rows; makes room again and goes on.
async fn fill(path: &Path) {
    let (ledger, store) = open(path);
    let mut acknowledged = 0;
    let next = async |seen: u32| ledger.commit(vec![Swap { seen: Version(0), row: building(seen, 1, 1) }]).await;
    next(0).await.expect("a first commit");
    let error = store.write(&program("large"), vec![7; 64 << 20]).await.expect_err("too large an object");
    say(format_args!("object: {error}"));
    say(format_args!("size: {:?}", store.size(&program("large")).await));
    say(format_args!("drafts: {}", std::fs::read_dir(path.join("tmp")).expect("tmp").count()));
    // What is left goes to a file beside, all but a few pages.
    let ballast = path.join("ballast");
    let mut file = std::fs::File::create(&ballast).expect("a file");
    while file.write_all(&[0; 4096]).is_ok() {}
    let refused = loop {
        match next(acknowledged + 1).await {
            // The disk has room for far fewer.
            Ok(()) if acknowledged < 100_000 => acknowledged += 1,
            Ok(()) => panic!("the disk does not fill"),
            Err(NotCommitted::Conflict) => panic!("this is the only writer"),
            Err(NotCommitted::Unavailable(error)) => break error,
        }
    };
    say(format_args!("row: {refused}"));
    let hit = ledger.load(&building(0, 1, 1).key(), binplz_core::ports::Read::Eventual).await;
    say(format_args!("hit: {}", matches!(hit, Ok(Some(_)))));
    drop(file);
    std::fs::remove_file(&ballast).expect("room again");
    // The refused one may have been written, or not.
    say(format_args!("again: {:?}", next(acknowledged + 2).await));
    for n in 0..=acknowledged {
        let found = ledger.load(&building(n, 1, 1).key(), binplz_core::ports::Read::Consistent).await;
        assert!(matches!(found, Ok(Some(_))), "commit {n} was acknowledged: {found:?}");
    }
    say("all there");
}
