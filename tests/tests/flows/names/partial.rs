//! A catalogue before it is complete: what requests get from it, from the one before, and from the one of the commit
//! before; what the next attempt gets; and what is left of it in the end.

use binplz_catalogue::Files;
use binplz_core::{
    build::{partial::PARTS_MAX, protocol::Checkpointed},
    flow::{
        lease::{checkpoint::checkpoint, settle::stopped},
        operator::gc::gc,
        request::package::package,
    },
    objects::artifact::AttemptPrefix,
    ports::{Collect, Inspect},
};

use super::*;

/// A catalogue of packages, each with its main program; those without a dot are its top level.
fn of(digit: char, packages: &[(&str, &str)]) -> Files {
    let mut writer = Writer::new(rev(digit));
    for (attr, main) in packages {
        let about = About { main_program: Some((*main).to_owned()), ..About::default() };
        let standing = Standing::Buildable { drv_path: None };
        let attr = attr.parse().expect("an attribute");
        writer.evaluated(Record { attr, system: X86, about, standing }).expect("told once");
    }
    writer.finish().expect("small")
}

fn key(digit: char) -> BuildKey {
    BuildKey { rev: rev(digit), system: X86, product: Product::Catalogue }
}

/// The builder of the pin's catalogue at work.
async fn at_work(w: &World, digit: char) -> Bearer {
    sweep(w).await.expect("the ledger");
    dispatch(w).await.expect("the ledger");
    bearer(&catalogue(w, digit, X86).await)
}

/// It stores its first parts and, perhaps, the catalogue of the top level.
async fn stores(w: &World, bearer: &Bearer, parts: u32, top_level: Option<Files>) {
    let write = async |name, bytes| w.store().write(&bearer.prefix().object(name), bytes).await.expect("the store");
    for number in 1..=parts {
        write(ObjectName::Checkpoint(number), format!("part {number}").into_bytes()).await;
    }
    let stored = Checkpointed { parts, top_level: top_level.is_some() };
    if let Some(files) = top_level {
        write(ObjectName::PartialDetails, files.details).await;
        write(ObjectName::PartialLookup, files.lookup).await;
    }
    // The reply was lost once.
    for _ in 0..2 {
        checkpoint(w, bearer, stored).await.expect("a live lease");
    }
}

/// Its task is killed, and the next attempt is due.
async fn dies(w: &World, bearer: &Bearer) {
    let failure = Failure::new(Kind::Killed, "");
    stopped(w, &bearer.key, &bearer.lease, failure, None).await.expect("the ledger");
    w.ends(&bearer.lease);
    w.pass(Duration::from_secs(3600));
}

/// Garbage collection, with grace periods between, so that it removes all that it will.
async fn collect(w: &World) {
    for _ in 0..3 {
        gc(w, false).await.expect("the ledger");
        w.pass(w.policy().grace * 2);
    }
}

/// Which package a path means, and whether the answer says that its commit does not tell yet.
async fn means(w: &Arc<World>, path: &str) -> (String, bool) {
    match ask(w, path).await {
        RequestOutcome::Pending(status) => (status.package.to_string(), by_attribute(w, path).await),
        other => panic!("{path}: {other:?}"),
    }
}

fn known(package: &str) -> (String, bool) {
    (package.to_owned(), false)
}

fn guessed(package: &str) -> (String, bool) {
    (package.to_owned(), true)
}

/// How many partial files an attempt has in the store.
async fn partial_files(w: &World, prefix: &AttemptPrefix) -> usize {
    let names = (1..9).map(ObjectName::Checkpoint).chain([ObjectName::PartialLookup, ObjectName::PartialDetails]);
    let mut there = 0;
    for name in names {
        there += usize::from(w.store().size(&prefix.object(name)).await.expect("the store").is_some());
    }
    there
}

async fn found(w: &World, text: &str) -> String {
    search_for(w, text).await.0
}

#[tokio::test]
async fn until_a_catalogue_is_complete_its_top_level_is_known_and_every_other_name_counts_as_an_attribute() {
    let w = world(Names::Known);
    let builder = at_work(&w, '5').await;
    stores(&w, &builder, 1, None).await;
    assert_eq!(means(&w, "rg").await, guessed("rg"), "a checkpoint alone is not for requests");
    stores(&w, &builder, 2, Some(files('5', X86))).await;
    assert_eq!(means(&w, "rg").await, known("ripgrep"));
    assert_eq!(means(&w, "ripgrep").await, known("ripgrep"));
    // What was evaluated is refused as it will be.
    for (path, status) in [("exa", "422 "), ("moreutils", "300 "), ("moreutils/leaf", "404 ")] {
        assert!(told(&w, path).await.starts_with(status), "{path}");
    }
    // What was not evaluated is never a 404.
    for path in ["games.figlet", "figlet", "nothing-like-it", "tre", "no/where"] {
        let attr = target(path).wanted.attr().to_string();
        assert_eq!(means(&w, path).await, guessed(&attr), "{path}");
    }
    assert_eq!(found(&w, "rip").await, "1 package so far: the catalogue of this commit is not complete yet");
    let guesses = async |path| package(&*w, &target(path)).await.expect("a page").by_attribute;
    assert_eq!((guesses("ripgrep").await, guesses("games.figlet").await), (false, true));

    finish(&w, &builder, of('5', &[("tree", "tree"), ("ripgrep", "rg"), ("games.figlet", "figlet")])).await;
    assert_eq!(means(&w, "figlet").await, known("games.figlet"));
    assert!(told(&w, "nothing-like-it").await.starts_with("404 "));
    assert_eq!(found(&w, "rip").await, "1 package");
}

#[tokio::test]
async fn a_name_that_a_nested_package_may_get_is_kept_in_no_served_row() {
    let w = world(Names::Known);
    let builder = at_work(&w, '5').await;
    stores(&w, &builder, 1, Some(files('5', X86))).await;
    for path in ["sponge", "moreutils/sponge"] {
        assert_eq!(means(&w, path).await, known("moreutils"));
    }
    dispatch(&*w).await.expect("the ledger");
    let moreutils = BuildKey { product: "moreutils".parse().expect("a package"), ..key('5') };
    let moreutils = bearer(&w.build_of(&moreutils).await);
    let report = w.report_of(&moreutils, &["sponge", "ts"]).await;
    settle(&*w, &moreutils, report).await.expect("a live lease");
    for (path, kept) in [("sponge", false), ("moreutils/sponge", true)] {
        for _ in 0..2 {
            let RequestOutcome::Hit { served, .. } = ask(&w, path).await else { panic!("no hit") };
            assert_eq!(served.attr.to_string(), "moreutils");
        }
        assert_eq!(w.served(path).await.is_some(), kept, "{path}");
    }
    // A nested package has it as its main program, and so comes first.
    finish(&w, &builder, of('5', &[("moreutils", "ts"), ("sponges.best", "sponge")])).await;
    assert_eq!(means(&w, "sponge").await, known("sponges.best"));
    assert!(matches!(ask(&w, "moreutils/sponge").await, RequestOutcome::Hit { .. }));
}

#[tokio::test]
async fn an_attempt_that_dies_leaves_its_top_level_in_use_and_its_parts_to_the_next_one() {
    let w = world(Names::Known);
    let first = at_work(&w, '5').await;
    assert_eq!(job::job(&*w, &first).await.expect("a live lease").resume, Default::default());
    stores(&w, &first, 3, Some(files('5', X86))).await;
    dies(&w, &first).await;
    assert_eq!(means(&w, "rg").await, known("ripgrep"));
    collect(&w).await;
    assert_eq!(partial_files(&w, &first.prefix()).await, 5);

    let second = at_work(&w, '5').await;
    assert_ne!(second.lease, first.lease);
    let resume = job::job(&*w, &second).await.expect("a live lease").resume;
    assert_eq!((resume.parts.len(), resume.published), (3, true));
    for (number, url) in (1..).zip(&resume.parts) {
        assert!(url.ends_with(&first.prefix().object(ObjectName::Checkpoint(number)).to_string()), "{url}");
    }
    // It dies before it has stored anything, and the third one has stored its first part.
    dies(&w, &second).await;
    let third = at_work(&w, '5').await;
    assert_eq!(job::job(&*w, &third).await.expect("a live lease").resume, resume);
    stores(&w, &third, 1, None).await;
    assert_eq!(means(&w, "rg").await, known("ripgrep"));

    // In the end only the complete catalogue is left.
    finish(&w, &third, files('5', X86)).await;
    for attempt in [&first, &third] {
        assert_eq!(partial_files(&w, &attempt.prefix()).await, 0);
    }
    assert_eq!(means(&w, "rg").await, known("ripgrep"));
    collect(&w).await;
    let there = w.store().prefixes(None, 99).await.expect("the store");
    assert_eq!(there.into_iter().map(|held| held.prefix).collect::<Vec<_>>(), [third.prefix()]);
}

#[tokio::test]
async fn a_catalogue_that_fails_leaves_its_top_level_in_use_and_a_retry_continues() {
    let w = world(Names::Known);
    let first = at_work(&w, '5').await;
    stores(&w, &first, 2, Some(files('5', X86))).await;
    let outcome = Outcome::Failed(Failure::new(Kind::EvaluationError, "no"));
    settle(&*w, &first, Report { outcome, stats: Stats::default(), materials: None }).await.expect("a live lease");
    w.reap().await;
    let build = catalogue(&w, '5', X86).await;
    assert!(matches!(build.state, State::Failed { until: None, .. }));
    let bytes = build.partial.checkpoint.expect("a checkpoint").bytes;
    assert!(bytes > files('5', X86).lookup.len() as u64);
    assert_eq!(build.history[0].stats.stored, Some(bytes), "its partial files take room in the store");
    assert_eq!(means(&w, "rg").await, known("ripgrep"));
    advance(&*w, &key('5'), &Event::Retry).await.expect("it has failed");
    let second = at_work(&w, '5').await;
    assert_eq!(job::job(&*w, &second).await.expect("a live lease").resume.parts.len(), 2);
}

#[tokio::test]
async fn a_pin_that_moves_resolves_names_by_its_former_commit_until_its_own_catalogue_tells() {
    let w = made(Names::Known).await;
    w.move_pin('6').await;
    // It may move again before it has a catalogue.
    w.move_pin('7').await;
    assert_eq!(means(&w, "rg").await, guessed("ripgrep"));
    assert_eq!(means(&w, "sponge").await, guessed("moreutils"));
    let ripgrep = BuildKey { product: "ripgrep".parse().expect("a package"), ..key('7') };
    assert!(matches!(w.build_of(&ripgrep).await.state, State::Queued { .. }), "it is built from the new commit");
    // Another commit refuses nothing.
    for name in ["exa", "moreutils", "nothing-like-it", "games.figlet"] {
        assert_eq!(means(&w, name).await, guessed(name));
    }
    assert_eq!(found(&w, "rip").await, "1 package so far: the catalogue of this commit is not complete yet");
    let page = package(&*w, &target("exa")).await.expect("a page");
    assert_eq!((page.by_attribute, page.refused, page.nixpkgs), (true, None, rev('7')));

    // The top level of the new commit decides first, and the old one still has the rest.
    let builder = at_work(&w, '7').await;
    stores(&w, &builder, 1, Some(of('7', &[("ripgrep-next", "rg"), ("tree", "tree")]))).await;
    assert_eq!(means(&w, "rg").await, known("ripgrep-next"));
    assert_eq!(means(&w, "sponge").await, guessed("moreutils"));
    finish(&w, &builder, of('7', &[("ripgrep-next", "rg"), ("tree", "tree")])).await;
    assert!(told(&w, "sponge").await.starts_with("404 "));
    // A commit that the pin returns to has its own.
    w.move_pin('5').await;
    assert_eq!(means(&w, "rg").await, known("ripgrep"));
}

#[tokio::test]
async fn the_top_level_of_a_former_commit_is_no_evidence_for_this_one() {
    let w = world(Names::Known);
    let builder = at_work(&w, '5').await;
    stores(&w, &builder, 1, Some(files('5', X86))).await;
    w.move_pin('6').await;
    assert_eq!(means(&w, "rg").await, guessed("rg"));
}

#[tokio::test]
async fn a_catalogue_that_is_made_anew_stays_in_use() {
    let w = made(Names::Known).await;
    let before = catalogue(&w, '5', X86).await.prefix().expect("it is ready");
    advance(&*w, &key('5'), &Event::Withdraw { prefix: before.clone() }).await.expect("it is ready");
    assert!(matches!(catalogue(&w, '5', X86).await.state, State::Queued { .. }));
    assert_eq!(means(&w, "rg").await, known("ripgrep"));
    assert!(told(&w, "nothing-like-it").await.starts_with("404 "), "it has all names");
    // The top level of its successor does not replace it.
    let builder = at_work(&w, '5').await;
    assert!(job::job(&*w, &builder).await.expect("a live lease").resume.published);
    stores(&w, &builder, 1, Some(of('5', &[("tree", "tree")]))).await;
    dies(&w, &builder).await;
    collect(&w).await;
    assert!(w.store().size(&before.object(ObjectName::Lookup)).await.expect("the store").is_some());
    assert_eq!(means(&w, "rg").await, known("ripgrep"));
    finish(&w, &at_work(&w, '5').await, of('5', &[("tree", "tree")])).await;
    assert!(told(&w, "rg").await.starts_with("404 "));
}

#[tokio::test]
async fn a_damaged_catalogue_is_not_in_use_while_it_is_made_anew() {
    let w = made(Names::Known).await;
    let before = catalogue(&w, '5', X86).await.prefix().expect("it is ready");
    std::fs::write(w.store().file(&before.object(ObjectName::Lookup)), "?").expect("a file");
    let w = w.restarted();
    for name in ["rg", "sed"] {
        assert_eq!(means(&w, name).await, guessed(name));
        assert!(matches!(catalogue(&w, '5', X86).await.state, State::Queued { attempt: 1, .. }));
    }
}

#[tokio::test]
async fn partial_files_that_are_missing_or_damaged_are_as_if_there_were_none() {
    for damage in ["removed", "replaced", "of another version"] {
        let w = world(Names::Known);
        let builder = at_work(&w, '5').await;
        stores(&w, &builder, 2, Some(files('5', X86))).await;
        let file = w.store().file(&builder.prefix().object(ObjectName::PartialLookup));
        match damage {
            "removed" => std::fs::remove_file(file).expect("a file"),
            "replaced" => std::fs::write(file, "?").expect("a file"),
            _ => {
                let mut bytes = std::fs::read(&file).expect("a file");
                bytes[14] = 99;
                std::fs::write(file, bytes).expect("a file");
            }
        }
        let w = w.restarted();
        assert_eq!(means(&w, "rg").await, guessed("rg"), "{damage}");
        assert!(catalogue(&w, '5', X86).await.lease().is_some(), "{damage}: its builder works on");
        finish(&w, &builder, files('5', X86)).await;
        assert_eq!(means(&w, "rg").await, known("ripgrep"), "{damage}");
    }
}

#[tokio::test]
async fn a_request_that_saw_the_top_level_while_the_whole_replaced_it_is_by_attribute_and_the_next_one_is_not() {
    let w = world(Names::Known);
    let builder = at_work(&w, '5').await;
    stores(&w, &builder, 1, Some(files('5', X86))).await;
    let (other, lookup) = (Arc::clone(&w), builder.prefix().object(ObjectName::PartialLookup));
    // Between the row, which names the file, and the file.
    w.store().before_next_read(lookup, async move { finish(&other, &builder, files('5', X86)).await });
    assert!(matches!(ask(&w, "sed").await, RequestOutcome::Pending(status) if status.by_attribute));
    assert_eq!(means(&w, "sed").await, known("gnused"));
}

#[tokio::test]
async fn a_settle_that_dies_before_it_has_removed_the_partial_files_is_repeated() {
    let w = world(Names::Known);
    let builder = at_work(&w, '5').await;
    stores(&w, &builder, 3, Some(files('5', X86))).await;
    w.store().keep_all(true);
    finish(&w, &builder, files('5', X86)).await;
    assert_eq!(partial_files(&w, &builder.prefix()).await, 5);
    w.store().keep_all(false);
    let again = Report { outcome: Outcome::Catalogued, stats: Stats::default(), materials: None };
    settle(&*w, &builder, again).await.expect("heard already");
    assert_eq!(partial_files(&w, &builder.prefix()).await, 0);
    assert_eq!(means(&w, "rg").await, known("ripgrep"));
}

#[tokio::test]
async fn a_checkpoint_is_of_a_catalogues_live_lease_and_of_what_is_stored() {
    let w = world(Names::Known);
    ask(&w, "tree").await;
    let builder = at_work(&w, '5').await;
    let report =
        async |bearer: &Bearer, parts, top_level| checkpoint(&*w, bearer, Checkpointed { parts, top_level }).await;
    let tree = w.bearer("tree").await;
    for (bearer, parts) in [(&tree, 1), (&builder, 0), (&builder, PARTS_MAX + 1)] {
        assert!(matches!(report(bearer, parts, false).await, Err(Denied::Forbidden(_))), "{parts}");
    }
    assert!(matches!(report(&builder, 1, false).await, Err(Denied::Nonsense(_))), "nothing is stored");
    stores(&w, &builder, 1, None).await;
    assert!(matches!(report(&builder, 1, true).await, Err(Denied::Nonsense(_))), "no top level is stored");
    assert!(matches!(report(&builder, 2, false).await, Err(Denied::Nonsense(_))), "one part is stored");
    let before = catalogue(&w, '5', X86).await.partial;
    assert_eq!(before.checkpoint.as_ref().map(|checkpoint| (checkpoint.parts, checkpoint.bytes)), Some((1, 6)));
    dies(&w, &builder).await;
    assert_eq!(report(&builder, 1, false).await, Err(Denied::NotLive));
    assert_eq!(catalogue(&w, '5', X86).await.partial, before);
}
