//! What builders offer to the cache that they share, and what of it comes in: with builders that lie, and with a death between any
//! two steps.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use binplz_core::{
    build::{
        State,
        failure::{Failure, Kind},
        protocol::{Evaluated, Outcome, Report, Stats, Upload},
    },
    flow::{
        lease::{
            claim::claim,
            job::{Bearer, Denied, job, uploads},
            settle::{settle, stopped},
        },
        operator::gc::gc,
        request::program::request,
        schedule::{
            dispatch::dispatch,
            promote::{NAR_MAX, Promoted, promote},
        },
    },
    gc::CACHED,
    id::{
        key::{Sha256, StoreHash},
        time::Timestamp,
    },
    objects::{
        artifact::{AttemptPrefix, CacheName, ObjectName},
        content::Content,
        narinfo::{LENGTH_MAX, StoreDir},
        stored::{Measured, Method},
    },
    ports::{BinaryCache, Collect, Deployment, HasStore, Inspect, Intake, Unavailable},
    quota::client::Asker,
};
use binplz_local::LocalBinaryCache;
use binplz_tests::{
    offers::Offer,
    world::{World, evaluated, target},
};

fn hash(letter: char) -> StoreHash {
    String::from_iter([letter; 32]).parse().expect("base 32")
}

/// A build whose builder has said what it is going to make, and runs it now.
async fn building(w: &Arc<World>, attr: &str, to_offer: &[char]) -> Bearer {
    request(&**w, &target(attr), Method::Get, Some(&Asker::default())).await;
    dispatch(&**w).await.expect("the ledger");
    let bearer = w.bearer(attr).await;
    say(w, &bearer, to_offer).await.expect("a live lease");
    bearer
}

/// Says what it is going to make.
async fn say(w: &Arc<World>, bearer: &Bearer, to_offer: &[char]) -> Result<(), Denied> {
    let letter = bearer.key.product.to_string().chars().next().expect("a letter");
    let drv_path = format!("/nix/store/{}-x.drv", String::from_iter([letter; 32]));
    let to_offer = to_offer.iter().map(|letter| hash(*letter)).collect();
    let found = Evaluated { to_offer, ..evaluated(drv_path) };
    claim(&**w, bearer, found).await.map(drop)
}

/// Ends a build that has offered something, as `a` package that does not work itself.
async fn end(w: &Arc<World>, bearer: &Bearer) {
    let stats = Stats { offers: 1, ..Stats::default() };
    let report = Report { outcome: Outcome::Failed(Failure::new(Kind::BuildFailed, "why")), stats, materials: None };
    settle(&**w, bearer, report).await.expect("a live lease");
}

async fn promoted(w: &Arc<World>, prefix: &AttemptPrefix) -> Promoted {
    promote(&**w, &w.binary_cache, prefix).await.expect("the vault")
}

fn new(new: usize) -> Promoted {
    Promoted::Done { new, refused: 0 }
}

fn narinfo(w: &World, path: &StoreHash) -> Option<String> {
    w.cached(&CacheName::Narinfo(path.clone())).map(|text| String::from_utf8(text).expect("text"))
}

/// What it is as the cache has to have it.
fn signed(w: &World, offer: &Offer) -> String {
    let dir = StoreDir::default();
    offer.narinfo.signed(&dir, &w.binary_cache.sign(&offer.narinfo.fingerprint(&dir)))
}

#[tokio::test]
async fn what_was_to_be_made_comes_into_the_cache_with_its_signature_and_with_no_other() {
    let w = World::new();
    let bearer = building(&w, "a", &['1', '2', '3']).await;
    // One with a signature of its builder's own; one that it has not come to.
    let (one, mut two) = (Offer::new(hash('1'), b"one"), Offer::new(hash('2'), b""));
    two.text += "Sig: cache.nixos.org-1:AAAA\nSig: binplz-1:AAAA\n";
    one.put(&w, &bearer).await;
    two.put(&w, &bearer).await;
    let waits = w.binary_cache.wait_for_offers();
    end(&w, &bearer).await;
    // The promoter was notified.
    waits.await;
    assert_eq!(w.binary_cache.in_quarantine().await.expect("the vault"), [bearer.prefix()]);
    assert_eq!(promoted(&w, &bearer.prefix()).await, new(2));
    for offer in [&one, &two] {
        assert_eq!(narinfo(&w, &offer.path), Some(signed(&w, offer)));
        assert_eq!(w.cached(&CacheName::Nar(offer.narinfo.packed.sha256.clone())), Some(offer.file.clone()));
    }
    assert_eq!(w.binary_cache.in_quarantine().await.expect("the vault"), []);
    assert_eq!(promoted(&w, &bearer.prefix()).await, new(0));
}

#[tokio::test]
async fn what_is_offered_comes_into_the_cache_while_its_builder_works_and_is_removed_when_it_has_ended() {
    let w = World::new();
    let bearer = building(&w, "a", &['1', '2']).await;
    let (one, two) = (Offer::new(hash('1'), b"one"), Offer::new(hash('2'), b"two"));
    one.put(&w, &bearer).await;
    for new in [1, 0] {
        assert_eq!(promoted(&w, &bearer.prefix()).await, Promoted::NotYet { new, refused: 0 });
        assert_eq!(narinfo(&w, &one.path), Some(signed(&w, &one)));
        assert_eq!(w.binary_cache.in_quarantine().await.expect("the vault"), [bearer.prefix()]);
    }
    two.put(&w, &bearer).await;
    end(&w, &bearer).await;
    assert_eq!(promoted(&w, &bearer.prefix()).await, new(1));
    assert_eq!(narinfo(&w, &two.path), Some(signed(&w, &two)));
    assert_eq!(w.binary_cache.in_quarantine().await.expect("the vault"), []);
}

#[tokio::test]
async fn what_is_not_what_it_says_is_not_promoted() {
    let other = |content: &Content| Content { sha256: [7; 32].into(), ..content.clone() };
    let w = World::new();
    let good = Offer::new(hash('1'), b"content");
    let cut = good.file[..good.file.len() - 1].to_vec();
    let bomb = Offer::new(hash('1'), &vec![0; 1 << 20]);
    let tampered = [
        ("its content", good.clone().saying(|it| it.nar = other(&it.nar))),
        ("less than its content", bomb.clone().saying(|it| it.nar.size -= 1)),
        ("more than its content", good.clone().saying(|it| it.nar.size = u64::MAX)),
        ("more than is looked at", good.clone().saying(|it| it.nar.size = NAR_MAX + 1)),
        ("its file's size", good.clone().saying(|it| it.packed.size += 1)),
        ("a file that was cut off", Offer { file: cut.clone(), ..good.clone() }),
        ("a file that is none", Offer { file: b"content".to_vec(), ..good.clone() }),
        ("another path", Offer { text: Offer::new(hash('2'), b"content").text, ..good.clone() }),
        ("an unplanned path", Offer { path: hash('9'), ..Offer::new(hash('9'), b"content") }),
        ("no narinfo", Offer { text: "StorePath: /nix/store/x\n".to_owned(), ..good.clone() }),
        ("another store", Offer { text: good.text.replace("/nix/store/", "/gnu/store/"), ..good.clone() }),
        ("a file elsewhere", Offer { text: good.text.replace("URL: nar/", "URL: ../nar/"), ..good.clone() }),
    ];
    for (what, offer) in tampered {
        let w = World::new();
        let bearer = building(&w, "a", &['1', '2']).await;
        offer.put(&w, &bearer).await;
        end(&w, &bearer).await;
        assert_eq!(promoted(&w, &bearer.prefix()).await, Promoted::Done { new: 0, refused: 1 }, "{what}");
        for path in ['1', '2', '9'] {
            assert_eq!(narinfo(&w, &hash(path)), None, "{what}");
        }
        assert_eq!(w.binary_cache.in_quarantine().await.expect("the vault"), [], "{what}");
    }
    // And a narinfo whose file was never there.
    let bearer = building(&w, "a", &['1']).await;
    let object = bearer.prefix().object(ObjectName::Narinfo(good.path.clone()));
    w.store().write(&object, good.text.into_bytes()).await.expect("the store");
    end(&w, &bearer).await;
    assert_eq!(promoted(&w, &bearer.prefix()).await, Promoted::Done { new: 0, refused: 1 });
}

#[tokio::test]
async fn what_has_begun_to_run_says_nothing_more_of_what_it_makes() {
    let w = World::new();
    let said = building(&w, "a", &['1']).await;
    let silent = building(&w, "b", &[]).await;
    for bearer in [&said, &silent] {
        say(&w, bearer, &['9']).await.expect("its own derivation");
        Offer::new(hash('9'), b"stolen token").put(&w, bearer).await;
        end(&w, bearer).await;
        assert_eq!(promoted(&w, &bearer.prefix()).await, Promoted::Done { new: 0, refused: 1 });
    }
    assert_eq!(narinfo(&w, &hash('9')), None);
}

#[tokio::test]
async fn what_the_cache_has_stays() {
    let w = World::new();
    let (a, b) = (building(&w, "a", &['1']).await, building(&w, "b", &['1']).await);
    let (first, second) = (Offer::new(hash('1'), b"first"), Offer::new(hash('1'), b"second"));
    for (bearer, offer, come) in [(&a, &first, 1), (&b, &second, 0)] {
        offer.put(&w, bearer).await;
        end(&w, bearer).await;
        assert_eq!(promoted(&w, &bearer.prefix()).await, new(come));
        assert_eq!(narinfo(&w, &hash('1')), Some(signed(&w, &first)));
    }
    // Also where two are looked at at once, and the other one was quicker.
    w.binary_cache.publish(&hash('1'), "StorePath: /nix/store/x\n".to_owned()).await.expect("the vault");
    assert_eq!(narinfo(&w, &hash('1')), Some(signed(&w, &first)));
}

#[tokio::test]
async fn what_no_attempt_of_ours_has_offered_is_dropped_and_what_an_attempt_left_that_died_too() {
    let w = World::new();
    let bearer = building(&w, "a", &['1']).await;
    Offer::new(hash('1'), b"one").put(&w, &bearer).await;
    let stranger = Bearer { lease: "f".repeat(32).parse().expect("hex"), ..bearer.clone() };
    let plan = serde_json::to_vec(&[hash('1')]).expect("JSON");
    w.store().write(&stranger.prefix().object(ObjectName::Plan), plan).await.expect("the store");
    Offer::new(hash('1'), b"stranger").put(&w, &stranger).await;
    assert_eq!(promoted(&w, &stranger.prefix()).await, Promoted::Done { new: 0, refused: 1 });
    // It was killed after it had offered: what it had is good.
    stopped(&*w, &bearer.key, &bearer.lease, Failure::new(Kind::Killed, "why"), None).await.expect("the ledger");
    assert_eq!(promoted(&w, &bearer.prefix()).await, new(1));
    assert_eq!(w.binary_cache.in_quarantine().await.expect("the vault"), []);
}

#[tokio::test]
async fn of_what_a_killed_builder_has_offered_the_next_attempt_tells() {
    let w = World::new();
    let bearer = building(&w, "a", &['1']).await;
    Offer::new(hash('1'), b"one").put(&w, &bearer).await;
    stopped(&*w, &bearer.key, &bearer.lease, Failure::new(Kind::Killed, "why"), None).await.expect("the ledger");
    w.reap().await;
    w.pass(w.policy().delay_after(1));
    let told = async || {
        tokio::select! {
            biased;
            () = w.binary_cache.wait_for_offers() => true,
            () = async {} => false,
        }
    };
    assert!(!told().await);
    dispatch(&*w).await.expect("the ledger");
    job(&*w, &w.bearer("a").await).await.expect("a live lease");
    assert!(told().await);
    assert_eq!(promoted(&w, &bearer.prefix()).await, new(1));
}

#[tokio::test]
async fn what_is_offered_counts_as_stored() {
    let w = World::new();
    let bearer = building(&w, "a", &['1']).await;
    let offer = Offer::new(hash('1'), b"one");
    offer.put(&w, &bearer).await;
    end(&w, &bearer).await;
    let plan =
        w.store().size(&bearer.prefix().object(ObjectName::Plan)).await.expect("the store").expect("it is there");
    let bytes = plan + (offer.file.len() + offer.text.len()) as u64;
    assert_eq!(w.limits().await.stored(), bytes);
    assert_eq!(promoted(&w, &bearer.prefix()).await, new(1));
    // A look at the quarantine finds all of its offers.
    gc(&*w, false).await.expect("the store");
    let cached: u64 = w.store().cached().await.expect("the store").iter().map(|file| file.bytes).sum();
    assert_eq!(w.limits().await.stored(), cached);
}

#[tokio::test]
async fn what_is_old_goes_from_the_cache_a_path_first_and_its_file_with_the_next_run() {
    let w = World::new();
    let (old, young) = (Offer::new(hash('1'), b"one"), Offer::new(hash('2'), b"two"));
    let bearer = building(&w, "a", &['1', '2']).await;
    for offer in [&old, &young] {
        offer.put(&w, &bearer).await;
    }
    end(&w, &bearer).await;
    assert_eq!(promoted(&w, &bearer.prefix()).await, new(2));
    let files =
        |offer: &Offer| [CacheName::Narinfo(offer.path.clone()), CacheName::Nar(offer.narinfo.packed.sha256.clone())];
    let there = |offer: &Offer| files(offer).map(|name| w.cached(&name).is_some());
    let age = u64::try_from((CACHED + w.policy().grace).as_millis()).expect("a time");
    let then = Timestamp(w.now().0 - age);
    files(&young).iter().for_each(|name| w.was_cached(name, w.now()));
    files(&old).iter().for_each(|name| w.was_cached(name, then));
    for (rehearsal, left) in [(true, [true, true]), (false, [false, true]), (false, [false, false])] {
        let report = gc(&*w, rehearsal).await.expect("the store");
        assert_eq!((there(&old), there(&young)), (left, [true, true]));
        assert_eq!(report.cache.removed.files, 1);
    }
    assert_eq!(gc(&*w, false).await.expect("the store").cache.removed.files, 0);
}

#[tokio::test]
async fn a_builder_may_write_its_own_offers_and_nothing_else_of_the_cache() {
    let w = World::new();
    let (a, b) = (building(&w, "a", &['1']).await, building(&w, "b", &['1']).await);
    let sha256 = |digit: char| String::from_iter([digit; 64]).parse::<Sha256>().expect("hex");
    let ask = async |bearer: &Bearer, name, size| {
        let upload = Upload { name, size, sha256: sha256('1') };
        uploads(&*w, bearer, &[upload]).await.map(|mut grants| grants.remove(0).url)
    };
    let narinfo = || ObjectName::Narinfo(hash('1'));
    let url = ask(&a, narinfo(), 5).await.expect("a grant");
    assert!(url.contains(&format!("/quarantine/{}/{}/{}.narinfo?", a.key, a.lease, hash('1'))), "{url}");
    assert!(ask(&a, ObjectName::Nar(sha256('1')), 5).await.is_ok());
    for (name, size) in [
        // By another name than its content's.
        (ObjectName::Nar(sha256('2')), 5),
        (ObjectName::Nar(sha256('1')), w.policy().job.cache_bytes + 1),
        (narinfo(), LENGTH_MAX + 1),
        (ObjectName::Plan, 5),
    ] {
        assert!(matches!(ask(&a, name.clone(), size).await, Err(Denied::Forbidden(_))), "{name}");
    }
    // Another's quarantine, by its own token.
    let thief = Bearer { token: a.token.clone(), ..b.clone() };
    assert_eq!(ask(&thief, narinfo(), 5).await, Err(Denied::Token));
    let thief = Bearer { lease: b.lease.clone(), ..a.clone() };
    assert_eq!(ask(&thief, narinfo(), 5).await, Err(Denied::NotLive));
    // What it has written it cannot write again.
    w.store().write(&a.prefix().object(narinfo()), b"first".to_vec()).await.expect("the store");
    assert!(w.store().write(&a.prefix().object(narinfo()), b"other".to_vec()).await.is_err());
    end(&w, &a).await;
    assert_eq!(ask(&a, narinfo(), 5).await, Err(Denied::NotLive));
}

#[tokio::test]
async fn a_promotion_that_dies_anywhere_and_runs_again_ends_the_same() {
    for die_at in 0.. {
        let w = World::new();
        let bearer = building(&w, "a", &['1', '2', '3']).await;
        let offers = [Offer::new(hash('1'), b"one"), Offer::new(hash('2'), b"two"), Offer::new(hash('3'), b"three")];
        let lie = offers[2].clone().saying(|it| it.nar.size += 1);
        for offer in offers[..2].iter().chain([&lie]) {
            offer.put(&w, &bearer).await;
        }
        end(&w, &bearer).await;
        let dying = Dying { binary_cache: &w.binary_cache, steps: AtomicUsize::new(die_at) };
        let died = promote(&*w, &dying, &bearer.prefix()).await;
        // At every step, a narinfo in the cache has its file.
        for offer in &offers {
            assert!(
                narinfo(&w, &offer.path).is_none()
                    || w.cached(&CacheName::Nar(offer.narinfo.packed.sha256.clone())).is_some()
            );
        }
        promoted(&w, &bearer.prefix()).await;
        for offer in &offers[..2] {
            assert_eq!(narinfo(&w, &offer.path), Some(signed(&w, offer)), "died at {die_at}");
        }
        assert_eq!(narinfo(&w, &hash('3')), None, "died at {die_at}");
        assert_eq!(w.binary_cache.in_quarantine().await.expect("the vault"), [], "died at {die_at}");
        if died.is_ok() {
            assert!(die_at > 20, "{die_at}");
            return;
        }
    }
}

/// A vault whose user dies: before some step, or after it.
struct Dying<'a> {
    binary_cache: &'a LocalBinaryCache,
    /// Before and after each are two.
    steps: AtomicUsize,
}

impl Dying<'_> {
    fn live(&self) -> Result<(), Unavailable> {
        let left = self.steps.fetch_update(SeqCst, SeqCst, |steps| steps.checked_sub(1));
        left.map(drop).map_err(|_| Unavailable::new("vault", "killed"))
    }

    async fn step<T>(&self, step: impl Future<Output = Result<T, Unavailable>>) -> Result<T, Unavailable> {
        self.live()?;
        let done = step.await?;
        self.live()?;
        Ok(done)
    }
}

impl BinaryCache for Dying<'_> {
    fn store_dir(&self) -> &StoreDir {
        self.binary_cache.store_dir()
    }
    async fn read(&self, prefix: &AttemptPrefix, offer: ObjectName) -> Result<Option<Vec<u8>>, Unavailable> {
        self.step(self.binary_cache.read(prefix, offer)).await
    }
    async fn offers(&self, prefix: &AttemptPrefix) -> Result<Vec<StoreHash>, Unavailable> {
        self.step(self.binary_cache.offers(prefix)).await
    }
    async fn measure(&self, prefix: &AttemptPrefix, nar: &Sha256, most: u64) -> Result<Option<Measured>, Unavailable> {
        self.step(self.binary_cache.measure(prefix, nar, most)).await
    }
    async fn has(&self, path: &StoreHash) -> Result<bool, Unavailable> {
        self.step(self.binary_cache.has(path)).await
    }
    async fn keep(&self, prefix: &AttemptPrefix, nar: &Sha256) -> Result<(), Unavailable> {
        self.step(self.binary_cache.keep(prefix, nar)).await
    }
    async fn publish(&self, path: &StoreHash, narinfo: String) -> Result<(), Unavailable> {
        self.step(self.binary_cache.publish(path, narinfo)).await
    }
    fn sign(&self, text: &str) -> String {
        self.binary_cache.sign(text)
    }
    async fn clear(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        self.step(self.binary_cache.clear(prefix)).await
    }
}

/// A builder's word is not enough: what it has offered is looked for.
#[tokio::test]
async fn what_ran_out_of_time_is_continued_if_something_that_it_offered_is_there() {
    for offered in [false, true] {
        let w = World::new();
        let bearer = building(&w, "a", &['a']).await;
        if offered {
            Offer::new(hash('a'), b"a compiler").put(&w, &bearer).await;
        }
        let stats = Stats { offers: 1, built: 7, ..Stats::default() };
        let report = Report { outcome: Outcome::Failed(Failure::new(Kind::TimedOut, "")), stats, materials: None };
        settle(&*w, &bearer, report).await.expect("a live lease");
        let build = w.build("a").await;
        assert_eq!(build.partial.continued.built, if offered { 7 } else { 0 });
        assert_eq!(matches!(build.state, State::Queued { attempt: 1, .. }), offered, "{:?}", build.state);
        assert_eq!(promoted(&w, &bearer.prefix()).await, new(usize::from(offered)));
    }
}
