//! No row proves its objects: one that is missing or damaged is not served, for each kind of object and each flow that finds it,
//! and its build is made again.

use std::{fs, sync::Arc};

use binplz_core::{
    build::{
        Build, State,
        policy::{Names, Policy},
        protocol::{Outcome, Report, Stats, Turn},
    },
    flow::{
        integrity,
        lease::{job::Bearer, settle::settle},
        operator::orders::{Act, Operator, Order},
        request::outcome::RequestOutcome,
        schedule::{
            dispatch::dispatch,
            scrub::{self, verify},
            sweep::sweep,
        },
    },
    id::key::{BuildKey, Product, System},
    nixpkgs::served::{Served, ServedKey},
    objects::{
        artifact::{AttemptPrefix, ObjectName, ObjectPath},
        stored::Integrity,
    },
    ports::{Deployment, HasLedger, HasStore, Intake, Ledger, Read},
    row::{Row, RowKey, Swap},
};
use binplz_tests::world::{self, World, ask, hit, rev, target};

fn world() -> Arc<World> {
    World::with(Policy { slots: 9, ..Policy::default() })
}

async fn pending(w: &World, path: &str) {
    let reply = ask(w, path).await;
    assert!(matches!(reply, RequestOutcome::Pending(_)), "{path}: {reply:?}");
}

/// Starts what is queued.
async fn started(w: &World, path: &str) -> Bearer {
    dispatch(w).await.expect("the ledger");
    w.bearer(path).await
}

/// What the builder of a target is told that has evaluated to a derivation.
async fn turn(w: &World, path: &str, letter: char) -> Turn {
    started(w, path).await;
    world::turn(w, path, letter).await
}

/// Builds it, or leaves it to who has its derivation.
async fn built(w: &World, path: &str, letter: char) {
    pending(w, path).await;
    if turn(w, path, letter).await == Turn::Go {
        w.finish(path).await;
    }
}

fn prefix_of(served: &Served) -> AttemptPrefix {
    AttemptPrefix { key: served.object.key.clone(), lease: served.object.lease.clone() }
}

fn queued(build: &Build) -> bool {
    matches!(build.state, State::Queued { attempt: 1, warming: false, .. })
}

/// What can happen to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Gone,
    Short,
    Long,
    Flipped,
}

const ALL: [Damage; 4] = [Damage::Gone, Damage::Short, Damage::Long, Damage::Flipped];

fn damage(w: &World, object: &ObjectPath, how: Damage) {
    let file = w.store().file(object);
    let mut content = fs::read(&file).expect("an object");
    match how {
        Damage::Gone => return fs::remove_file(file).expect("an object"),
        Damage::Short => drop(content.pop()),
        Damage::Long => content.push(b'!'),
        Damage::Flipped => content[3] ^= 1,
    }
    fs::write(file, content).expect("an object");
}

#[tokio::test]
async fn a_program_that_is_missing_or_damaged_is_never_served_and_is_built_again() {
    for how in ALL {
        for at_the_first_hit in [true, false] {
            let w = world();
            built(&w, "tree", 'a').await;
            let object = match at_the_first_hit {
                true => w.object("tree", "tree").await,
                false => hit(&w, "tree").await.object,
            };
            damage(&w, &object, how);
            for _ in 0..2 {
                pending(&w, "tree").await;
                assert!(queued(&w.build("tree").await), "{how:?}");
            }
            assert!(w.served("tree").await.is_none_or(|served| served.lost), "{how:?}");
            assert_eq!(turn(&w, "tree", 'a').await, Turn::Go, "what was made before is not made any more");
            w.finish("tree").await;
            let after = hit(&w, "tree").await;
            assert_ne!(after.object, object, "{how:?}");
            assert!(!after.lost);
        }
    }
}

#[tokio::test]
async fn a_damaged_program_is_no_last_good_one_of_a_moved_pin() {
    let w = world();
    built(&w, "tree", 'a').await;
    let served = hit(&w, "tree").await;
    w.move_pin('6').await;
    assert_eq!(hit(&w, "tree").await.rev, served.rev, "it is served until its successor is built");
    damage(&w, &served.object, Damage::Flipped);
    pending(&w, "tree").await;
    started(&w, "tree").await;
    w.finish("tree").await;
    assert_eq!(hit(&w, "tree").await.rev, rev('6'));
}

#[tokio::test]
async fn a_manifest_that_is_missing_or_damaged_is_made_again_with_its_build() {
    for how in ALL {
        let w = world();
        built(&w, "tree", 'a').await;
        let prefix = w.build("tree").await.prefix().expect("it is ready");
        damage(&w, &prefix.object(ObjectName::Manifest), how);
        pending(&w, "tree").await;
        assert!(queued(&w.build("tree").await), "{how:?}");
        started(&w, "tree").await;
        w.finish("tree").await;
        hit(&w, "tree").await;
    }
}

#[tokio::test]
async fn what_others_have_borrowed_is_made_once_more_and_borrowed_again() {
    for of_the_borrower in [true, false] {
        let w = world();
        built(&w, "tree", 'a').await;
        built(&w, "trees", 'a').await;
        let (tree, trees) = (hit(&w, "tree").await, hit(&w, "trees/tree").await);
        assert_eq!(tree.object, trees.object);
        damage(&w, &tree.object, Damage::Flipped);
        let (first, second) = if of_the_borrower { ("trees/tree", "tree") } else { ("tree", "trees/tree") };
        pending(&w, first).await;
        assert!(queued(&w.build("tree").await), "who made it is asked first, or others would borrow it again");
        pending(&w, second).await;
        assert!(queued(&w.build("tree").await) && queued(&w.build("trees").await));
        for path in ["trees", "tree"] {
            if turn(&w, path, 'a').await == Turn::Go {
                assert_eq!(path, "tree");
                w.finish(path).await;
            }
        }
        let (new, borrowed) = (hit(&w, "tree").await, hit(&w, "trees/tree").await);
        assert_eq!(new.object, borrowed.object);
        assert_ne!(new.object, tree.object);
    }
}

#[tokio::test]
async fn a_scrub_finds_what_nobody_asks_for_and_takes_every_row_of_it_out_of_service() {
    for how in ALL {
        let w = world();
        built(&w, "tree", 'a').await;
        built(&w, "trees", 'a').await;
        built(&w, "hello", 'b').await;
        for path in ["tree", "tree/tree", "trees/tree", "hello"] {
            hit(&w, path).await;
        }
        let object = hit(&w, "tree").await.object;
        damage(&w, &object, how);
        let report = verify(&*w, None).await.expect("the backends");
        let mut found: Vec<_> = report.found.iter().map(|found| found.build.product.to_string()).collect();
        found.sort();
        assert_eq!(found, ["tree", "trees"], "{report:?}");
        assert!(report.found.iter().all(|found| found.rebuilt && found.object == object.to_string()));
        let expected = match how {
            Damage::Gone => Integrity::Missing,
            Damage::Short | Damage::Long => Integrity::OtherSize,
            Damage::Flipped => Integrity::OtherContent,
        };
        assert_eq!(report.found[0].what, expected);
        for path in ["tree", "tree/tree", "trees/tree"] {
            assert!(w.served(path).await.expect("a row").lost, "{path}");
        }
        assert!(queued(&w.build("tree").await) && queued(&w.build("trees").await));
        hit(&w, "hello").await;
        // Once is enough.
        let (commits, again) = (w.commits(), verify(&*w, None).await.expect("the backends"));
        assert_eq!((w.commits(), again.found), (commits, Vec::new()));
        started(&w, "tree").await;
    }
}

#[tokio::test]
async fn a_scrub_of_what_is_whole_changes_nothing() {
    let w = world();
    built(&w, "tree", 'a').await;
    hit(&w, "tree").await;
    let commits = w.commits();
    let key = w.key("tree").await;
    for of in [None, Some(&key)] {
        let report = verify(&*w, of).await.expect("the backends");
        assert_eq!((report.builds, report.found.len()), (1, 0));
        assert!(report.bytes > 0);
    }
    assert_eq!(w.commits(), commits);
}

#[tokio::test]
async fn a_scrub_that_is_killed_at_any_write_leaves_nothing_in_service_after_the_next_one() {
    for writes in 0.. {
        let w = world();
        built(&w, "tree", 'a').await;
        built(&w, "trees", 'a').await;
        let object = hit(&w, "tree").await.object;
        hit(&w, "trees/tree").await;
        damage(&w, &object, Damage::Gone);
        w.die_after(Some(writes));
        let died = verify(&*w, None).await.is_err();
        w.die_after(None);
        verify(&*w, None).await.expect("the backends");
        for path in ["tree", "trees/tree"] {
            assert!(w.served(path).await.expect("a row").lost, "{path} after {writes} writes");
        }
        assert!(queued(&w.build("tree").await) && queued(&w.build("trees").await), "after {writes} writes");
        if !died {
            assert!(writes >= 4, "two builds and two served rows were written");
            return;
        }
    }
}

#[tokio::test]
async fn a_served_row_that_a_request_writes_from_an_older_sight_is_found_by_the_same_scrub() {
    let w = world();
    built(&w, "tree", 'a').await;
    let served = hit(&w, "tree").await;
    damage(&w, &served.object, Damage::Flipped);
    // A request that saw the build ready writes its row after the scrub has looked at all builds.
    let late = Arc::clone(&w);
    w.after_next_scan(async move {
        let key = RowKey::Served(asked("tree/tree", &late));
        let seen = late.ledger().load(&key, Read::Consistent).await.expect("the ledger");
        assert!(seen.is_none());
        let row = Row::Served(Served { asked: asked("tree/tree", &late), ..served });
        late.ledger().commit(vec![Swap { seen: Default::default(), row }]).await.expect("the ledger");
    });
    verify(&*w, None).await.expect("the backends");
    assert!(w.served("tree/tree").await.expect("the late row").lost);
}

fn asked(path: &str, w: &World) -> ServedKey {
    ServedKey::of(&target(path), w.system())
}

#[tokio::test]
async fn an_earlier_attempt_that_is_still_served_is_looked_at_too() {
    let w = world();
    built(&w, "tree", 'a').await;
    let old = hit(&w, "tree").await;
    rebuild(&w, "tree").await;
    damage(&w, &old.object, Damage::Flipped);
    let report = verify(&*w, None).await.expect("the backends");
    assert_eq!(report.found.len(), 1, "{report:?}");
    assert!(w.served("tree").await.expect("a row").lost);
}

#[tokio::test]
async fn a_damaged_log_is_told_and_spoils_no_program() {
    let w = world();
    pending(&w, "tree").await;
    let bearer = started(&w, "tree").await;
    let log = bearer.prefix().object(ObjectName::WholeLog);
    w.store().write(&log, binplz_core::objects::gzip::member(b"it works\n")).await.expect("the store");
    w.finish("tree").await;
    hit(&w, "tree").await;
    assert_eq!(verify(&*w, None).await.expect("the backends").found, []);
    damage(&w, &log, Damage::Short);
    let report = verify(&*w, None).await.expect("the backends");
    let [scrub::Found { what: Integrity::OtherSize, rebuilt: false, .. }] = &report.found[..] else {
        panic!("{report:?}")
    };
    hit(&w, "tree").await;
}

/// Stores something for the catalogue of the pin, and settles.
async fn catalogued(w: &World) -> BuildKey {
    sweep(w).await.expect("the ledger");
    dispatch(w).await.expect("the ledger");
    let key = BuildKey { rev: rev('5'), system: System::X86_64Linux, product: Product::Catalogue };
    let lease = w.build_of(&key).await.lease().cloned().expect("a live lease");
    let bearer = Bearer { key: key.clone(), lease: lease.id, token: lease.token };
    let files = binplz_catalogue::Writer::new(rev('5')).finish().expect("small");
    for (name, bytes) in [(ObjectName::Details, files.details), (ObjectName::Lookup, files.lookup)] {
        w.store().write(&bearer.prefix().object(name), bytes).await.expect("the store");
    }
    settle(w, &bearer, Report { outcome: Outcome::Catalogued, stats: Stats::default(), materials: None })
        .await
        .expect("a live lease");
    w.reap().await;
    key
}

#[tokio::test]
async fn a_catalogue_that_is_missing_or_damaged_is_made_again() {
    for how in ALL {
        for name in [ObjectName::Lookup, ObjectName::Details, ObjectName::Manifest] {
            for by_a_request in [true, false] {
                // A request reads the first only.
                if by_a_request && name != ObjectName::Lookup {
                    continue;
                }
                let w = World::naming(Names::Known, Policy { slots: 9, ..Policy::default() });
                let key = catalogued(&w).await;
                let prefix = w.build_of(&key).await.prefix().expect("it is ready");
                damage(&w, &prefix.object(name.clone()), how);
                if by_a_request {
                    ask(&w, "tree").await;
                } else {
                    let report = verify(&*w, None).await.expect("the backends");
                    // Of an earlier version's catalogues there are only the files.
                    if matches!((&name, how), (ObjectName::Manifest, Damage::Gone)) {
                        assert_eq!(report.found, []);
                        continue;
                    }
                }
                assert!(queued(&w.build_of(&key).await), "{name} {how:?} {by_a_request}");
            }
        }
    }
}

async fn rebuild(w: &World, path: &str) {
    let order = Order::Build { of: target(path).into(), act: Act::Rebuild };
    let built = w.carry_out(order).await.and_then(|outcome| outcome.build()).expect("it is ready");
    assert_eq!(built.state, "queued");
}

#[tokio::test]
async fn a_rebuild_serves_what_is_there_until_it_is_done() {
    let w = world();
    built(&w, "tree", 'a').await;
    let before = hit(&w, "tree").await;
    rebuild(&w, "tree").await;
    assert_eq!(hit(&w, "tree").await.object, before.object);
    assert_eq!(turn(&w, "tree", 'a').await, Turn::Go);
    w.finish("tree").await;
    assert_ne!(hit(&w, "tree").await.object, before.object);
    let of = Some(target("tree").into());
    let report = w.carry_out(Order::Verify { of }).await.and_then(|outcome| outcome.verified()).expect("a report");
    assert_eq!((report.builds, report.found.len()), (1, 0));
}

#[tokio::test]
async fn what_is_damaged_and_has_no_pin_any_more_is_not_built_again() {
    let w = world();
    built(&w, "tree", 'a').await;
    let (key, served) = (w.key("tree").await, hit(&w, "tree").await);
    w.move_pin('6').await;
    damage(&w, &served.object, Damage::Gone);
    verify(&*w, None).await.expect("the backends");
    dispatch(&*w).await.expect("the ledger");
    assert_eq!(w.build_of(&key).await.state, State::Unasked);
    assert!(w.served("tree").await.expect("a row").lost);
}

#[tokio::test]
async fn a_download_is_compared_too_and_what_no_inventory_lists_is_not() {
    for how in ALL {
        let w = world();
        built(&w, "tree", 'a').await;
        let served = hit(&w, "tree").await;
        assert_eq!(integrity::check(&*w, &served.object).await, Ok(Integrity::Intact));
        damage(&w, &served.object, how);
        assert_ne!(integrity::check(&*w, &served.object).await, Ok(Integrity::Intact), "{how:?}");
        assert!(queued(&w.build("tree").await), "{how:?}");
        let unknown = prefix_of(&served).object(ObjectName::Log(1));
        assert_eq!(integrity::check(&*w, &unknown).await, Ok(Integrity::Intact));
    }
}
