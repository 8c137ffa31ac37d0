//! The signer and the log over the real ledger and store, with a death after each write, and with writers that race.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    pin::pin,
    sync::{Arc, atomic::Ordering::SeqCst},
    task::Poll,
};

use binplz_core::{
    build::protocol::Report,
    flow::{
        lease::settle::settle,
        operator::signing,
        request::{
            outcome::RequestOutcome,
            status::status,
            trust::{self, Entry},
        },
        schedule::sign::{NotSigned, Signed, sign, sign_all},
        tlog,
    },
    id::key::{BuildKey, Sha256},
    objects::{
        artifact::{ObjectName, ObjectPath},
        materials::Materials,
    },
    ports::{HasStore, Store},
    trust::{
        checkpoint::Checkpoint,
        head::{LogHead, LogName},
        leaf::{Documents, Leaf},
        merkle::{Hash, leaf_hash, root_of},
        minisign::{PublicKey, Signature},
        note::{Note, NoteKey},
        tile::{Kind, TileName, entries},
    },
};
use binplz_signing::{Digester, Ring};
use binplz_tests::{
    random::Random,
    world::{World, ask, building, hit, target},
};

use super::documents::materials;

/// A world that signs.
pub(crate) fn world() -> Arc<World> {
    let w = World::new();
    w.signs.store(true, SeqCst);
    w
}

/// A package that is built, with these programs, by an earlier version.
pub(crate) async fn built(w: &Arc<World>, attr: &str, programs: &[&str]) -> BuildKey {
    built_of(w, attr, programs, None).await
}

/// The same, made of these materials.
pub(crate) async fn built_of(w: &Arc<World>, attr: &str, programs: &[&str], materials: Option<Materials>) -> BuildKey {
    building(w, &[attr]).await;
    let bearer = w.bearer(attr).await;
    let report = Report { materials, ..w.report_of(&bearer, programs).await };
    settle(&**w, &bearer, report).await.expect("a live lease");
    w.reap().await;
    bearer.key
}

pub(crate) async fn head(w: &World) -> LogHead {
    tlog::head(w).await.expect("the ledger").expect("a log")
}

/// All entries of the published tree, of which everything is checked that a reader can: tiles, root, checkpoint, signatures.
pub(crate) async fn entries_of(w: &World) -> Vec<Leaf> {
    let head = head(w).await;
    let Some(tree) = &head.published else { return Vec::new() };
    let note: Note = tree.checkpoint.parse().expect("a note");
    let keys: Vec<NoteKey> = head.log_keys.iter().map(|dated| dated.key.0.clone()).collect();
    note.signed_by(&keys, &Ring).expect("a signed checkpoint");
    let checkpoint: Checkpoint = note.text.parse().expect("a checkpoint");
    assert_eq!(checkpoint.size, tree.size);
    let (mut leaves, mut hashes) = (Vec::new(), Vec::<Hash>::new());
    while (hashes.len() as u64) < tree.size {
        let (name, place) = TileName::of_entry(hashes.len() as u64, tree.size);
        assert_eq!(place, 0);
        let bytes = w.store().log_object(&LogName::Tile(name)).await.expect("the store").expect("a bundle");
        for entry in entries(&name, &bytes).expect("a bundle") {
            hashes.push(leaf_hash(&entry));
            let signature: Signature = String::from_utf8(entry).expect("text").parse().expect("a signature");
            let leaf: Leaf = signature.comment.parse().expect("a leaf");
            let signed = |key: &PublicKey| signature.is_good(key, &leaf.blake2b.0, &Ring);
            assert!(head.artifact_keys.iter().any(|dated| signed(&dated.key)), "{leaf}");
            if let Some(Documents { provenance, .. }) = &leaf.documents {
                let envelope = w.store().log_object(&LogName::Provenance(provenance.clone())).await.expect("the store");
                assert_eq!(Sha256::of(&envelope.expect("an envelope")), *provenance);
            }
            leaves.push(leaf);
        }
    }
    assert_eq!(root_of(&hashes).expect("a root"), checkpoint.root);
    leaves
}

/// The programs in the log, each once.
async fn programs(w: &World) -> BTreeSet<String> {
    let leaves = entries_of(w).await;
    let names: BTreeSet<_> = leaves.iter().map(|leaf| leaf.identity.to_string()).collect();
    assert_eq!(names.len(), leaves.len(), "an artifact is logged twice: {leaves:?}");
    names
}

fn names(of: &[&str]) -> BTreeSet<String> {
    of.iter().map(|name| format!("{name} for x86_64-linux")).collect()
}

#[tokio::test]
async fn a_program_is_signed_and_logged_before_its_first_redirect_and_its_proof_holds() {
    let w = world();
    let key = built(&w, "tree", &["tree", "tree-too"]).await;
    for path in ["tree", "tree/tree-too"] {
        let RequestOutcome::Pending(status) = ask(&w, path).await else { panic!("it is not signed yet") };
        assert_eq!((status.state, status.retry_after), ("building", 1));
        assert_eq!(status.headline(), "signing");
    }
    assert_eq!(status(&*w, &target("tree")).await.expect("a status").state, "building");
    assert_eq!(sign(&*w, &w.signer, [key.clone()]).await, Ok(Signed { builds: 1, entries: 2 }));
    assert_eq!(status(&*w, &target("tree")).await.expect("a status").state, "ready");
    let served = hit(&w, "tree/tree-too").await;
    let entry = trust::entry(&*w, &served).await.expect("the log").expect("an entry");
    let leaf: Leaf = entry.text.parse::<Signature>().expect("a signature").comment.parse().expect("a leaf");
    assert_eq!((leaf.identity.to_string().as_str(), &leaf.sha256), ("tree/tree-too for x86_64-linux", &served.sha256));
    let bytes = w.store().read(&served.object).await.expect("the store").expect("an object");
    assert_eq!(Digester::of(&*bytes).expect("digests"), (leaf.content(), leaf.blake2b));
    let proof = trust::proof(&*w, entry.clone()).await.expect("the log");
    assert_eq!(proof.to_string().parse(), Ok(proof.clone()));
    assert_eq!(proof.holds(entry.text.as_bytes()), Ok(true));
    assert_eq!(proof.holds(b"another entry"), Ok(false));
    // The second time there is nothing to do.
    assert_eq!(sign(&*w, &w.signer, [key]).await, Ok(Signed::default()));
    assert_eq!(programs(&w).await, names(&["tree/tree", "tree/tree-too"]));
}

#[tokio::test]
async fn a_signer_that_dies_after_any_write_leaves_no_fork_no_gap_and_no_second_entry() {
    let mut deaths = 0;
    for writes in 0.. {
        let w = world();
        let first = built(&w, "a", &["a"]).await;
        sign(&*w, &w.signer, [first]).await.expect("a signer that lives");
        let before = head(&w).await.published.expect("a tree");
        let documented = built_of(&w, "b", &["b", "b-too"], Some(materials())).await;
        let keys = [documented, built(&w, "c", &["c"]).await];
        w.die_after(Some(writes));
        let ended = sign(&*w, &w.signer, keys.clone()).await;
        w.die_after(None);
        if ended.is_ok() {
            break;
        }
        deaths += 1;
        // A reader sees the old tree or the new one, each of them whole.
        assert!([1, 4].contains(&entries_of(&w).await.len()));
        for key in &keys {
            sign(&*w, &w.signer, [key.clone()]).await.expect("a signer that lives");
        }
        assert_eq!(programs(&w).await, names(&["a/a", "b/b", "b/b-too", "c/c"]), "after {writes} writes");
        assert!(head(&w).await.size() > before.size);
    }
    assert!(deaths > 5, "{deaths}");
}

#[tokio::test]
async fn of_two_signers_of_one_build_one_logs_it() {
    for lost in [0, 1, 2] {
        let w = world();
        let key = built(&w, "tree", &["tree"]).await;
        let (other, others) = (Arc::clone(&w), key.clone());
        w.before_next_commit(async move {
            sign(&*other, &other.signer, [others]).await.expect("a signer");
        });
        w.lose_replies(lost);
        sign(&*w, &w.signer, [key]).await.expect("a signer");
        assert_eq!(programs(&w).await, names(&["tree/tree"]));
    }
}

/// The log of many writers, each of which dies at a random await, often.
async fn crowd(writers: usize, packages: usize, each: usize) {
    let w = world();
    let mut keys = Vec::new();
    for n in 0..packages {
        let names: Vec<String> = (0..each).map(|program| format!("p{program:02}")).collect();
        keys.push(built(&w, &format!("k{n}"), &names.iter().map(String::as_str).collect::<Vec<_>>()).await);
    }
    let keys = Arc::new(keys);
    let all: Vec<_> = (0..writers)
        .map(|writer| {
            let (w, keys) = (Arc::clone(&w), Arc::clone(&keys));
            tokio::spawn(async move {
                let mut random = Random(writer as u64 + 1);
                // Its own packages, and those of the next ones: each build is told to several writers.
                let share = keys.len() / writers;
                let own = (0..2 * share).map(|n| keys[(writer * share + n) % keys.len()].clone());
                for key in own {
                    loop {
                        let mut polls = random.below(200);
                        let mut signing = pin!(sign(&*w, &w.signer, [key.clone()]));
                        let ended = poll_fn(|context| {
                            polls = polls.saturating_sub(1);
                            match (signing.as_mut().poll(context), polls) {
                                (Poll::Ready(ended), _) => Poll::Ready(Some(ended)),
                                // It dies here.
                                (Poll::Pending, 0) => Poll::Ready(None),
                                (Poll::Pending, _) => Poll::Pending,
                            }
                        });
                        if let Some(Ok(_)) = ended.await {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    for one in all {
        one.await.expect("it ends");
    }
    assert_eq!(programs(&w).await.len(), packages * each);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_race_and_die_make_one_chain() {
    crowd(8, 16, 4).await;
}

/// Ten thousand entries of fifty writers: some minutes. `scripts/e2e` runs it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "some minutes"]
async fn ten_thousand_entries_of_fifty_writers_that_die_make_one_chain() {
    crowd(50, 500, 20).await;
}

/// Go's own packages for logs, from Debian. `scripts/e2e` runs it.
#[tokio::test]
#[ignore = "installs Go"]
async fn an_independent_program_reads_a_log_with_full_tiles_and_a_second_level() {
    let (w, dir) = (world(), tempfile::tempdir().expect("a directory"));
    let bins: Vec<String> = (0..100).map(|n| format!("p{n:02}")).collect();
    let bins: Vec<&str> = bins.iter().map(String::as_str).collect();
    for attr in ["a", "b", "c"] {
        let key = built(&w, attr, &bins).await;
        sign(&*w, &w.signer, [key]).await.expect("a signer");
    }
    let file = |name: &str, content: &[u8]| {
        let file = dir.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
        std::fs::write(file, content).expect("a file");
    };
    let head = head(&w).await;
    let kinds = [Kind::Entries, Kind::Hashes(0), Kind::Hashes(1)];
    let names = kinds.into_iter().flat_map(|kind| (0..2).map(move |index| TileName::of(kind, index, 300)));
    for name in names.filter(|name| name.width > 0) {
        let tile = w.store().log_object(&LogName::Tile(name)).await.expect("the store").expect("a tile");
        file(&format!("-/tlog/{name}"), &tile);
    }
    file("-/tlog/checkpoint", head.checkpoint().expect("a tree").as_bytes());
    file("keys", head.keyring().to_string().as_bytes());
    let entry = trust::entry(&*w, &hit(&w, "b/p42").await).await.expect("the log").expect("an entry");
    file("proof", trust::proof(&*w, entry).await.expect("the log").to_string().as_bytes());
    let check = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tlog/check");
    let out = std::process::Command::new(check).args([".", "keys", "proof"]).current_dir(dir.path()).output();
    let out = out.expect("bash");
    let told = String::from_utf8_lossy(&out.stdout);
    assert!(told.contains("300 entries, and entry 142 is proven"), "{told}{}", String::from_utf8_lossy(&out.stderr));
}

#[tokio::test]
async fn what_was_built_before_there_was_a_log_is_served_and_then_logged_by_a_job_that_may_die() {
    let w = World::new();
    for attr in ["a", "b", "c"] {
        built(&w, attr, &[attr]).await;
        hit(&w, attr).await;
    }
    w.signs.store(true, SeqCst);
    hit(&w, "a").await;
    for writes in 0.. {
        w.die_after(Some(writes));
        if sign_all(&*w, &w.signer).await.is_ok() {
            break;
        }
    }
    w.die_after(None);
    assert_eq!(programs(&w).await, names(&["a/a", "b/b", "c/c"]));
    assert_eq!(sign_all(&*w, &w.signer).await, Ok(Signed::default()));
}

#[tokio::test]
async fn a_program_that_was_exchanged_after_its_upload_is_not_signed_and_is_built_again() {
    // Before the build settles, that refuses it; afterwards, the signer finds it.
    let exchange = |w: &World, object: &ObjectPath| {
        let file = w.store().file(object);
        let other: Vec<u8> = std::fs::read(&file).expect("the object's file").iter().map(|byte| !byte).collect();
        std::fs::write(file, other).expect("the object's file");
    };
    for before_settling in [true, false] {
        let w = world();
        building(&w, &["tree"]).await;
        let bearer = w.bearer("tree").await;
        let report = w.report(&bearer).await;
        let stored = Sha256::of(format!("\x7fELF tree of {}", bearer.key).as_bytes());
        let object = bearer.prefix().object(ObjectName::Blob(stored));
        if before_settling {
            exchange(&w, &object);
        }
        let settled = settle(&*w, &bearer, report).await;
        w.reap().await;
        assert_eq!(settled.is_err(), before_settling);
        if !before_settling {
            exchange(&w, &object);
        }
        assert_eq!(sign(&*w, &w.signer, [bearer.key.clone()]).await, Ok(Signed::default()));
        assert!(w.build_of(&bearer.key).await.is_under_way(), "{:?}", w.build_of(&bearer.key).await.state);
        assert_eq!(entries_of(&w).await, []);
    }
}

#[tokio::test]
async fn other_keys_sign_nothing_until_they_are_accepted_and_programs_are_served_meanwhile() {
    let w = world();
    let first = built(&w, "a", &["a"]).await;
    sign(&*w, &w.signer, [first]).await.expect("a signer");
    let old = head(&w).await;
    for file in binplz_local::KEY_FILES {
        std::fs::remove_file(w.data().join(file)).expect("a key");
    }
    let w = w.restarted();
    w.signs.store(true, SeqCst);
    let key = built(&w, "b", &["b"]).await;
    assert_eq!(sign(&*w, &w.signer, [key.clone()]).await, Err(NotSigned::OtherKeys));
    assert_eq!(sign(&*w, &w.signer, [key.clone()]).await, Err(NotSigned::OtherKeys));
    let served = hit(&w, "b").await;
    assert_eq!(trust::entry(&*w, &served).await, Ok(None::<Entry>));
    let keys = signing::accept(&*w).await.expect("the ledger");
    assert_eq!((keys.keyring.artifacts.len(), keys.keyring.log.len(), keys.offered), (2, 2, None));
    sign(&*w, &w.signer, [key]).await.expect("a signer");
    // The entries of the old key stay good, and the log is the same.
    assert_eq!(programs(&w).await, names(&["a/a", "b/b"]));
    let new = head(&w).await;
    assert_eq!((&new.origin, new.size()), (&old.origin, 2));
    let ended: BTreeMap<_, _> = new.artifact_keys.iter().map(|dated| (dated.key.name(), dated.period.until)).collect();
    assert_eq!(ended.values().filter(|until| until.is_none()).count(), 1);
}
