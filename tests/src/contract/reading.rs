//! What reads and lists show.

use std::collections::BTreeMap;

use binplz_core::{
    build::Build,
    id::{key::BuildKey, time::Timestamp},
    nixpkgs::{
        pins::Pinned,
        served::{Served, ServedKey},
    },
    ports::{Ledger, NotCommitted, Read, Scanned},
    row::{Listed, Row, RowKey, StatusIndex, Swap, Version},
};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::{
    Kept, Violation,
    rows::{
        any_row, any_served, any_state, asked, building, derivation, drv, joined, key, lease_id, limits, pinned,
        progress, queued, ready, served,
    },
    same,
};

/// Generated cases a promise tries: the same ones at every run.
const CASES: usize = 200;

fn cases<S: Strategy>(strategy: S) -> impl Iterator<Item = S::Value> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..CASES).map(move |_| strategy.new_tree(&mut runner).expect("a case").current())
}

async fn write(ledger: &impl Ledger, seen: u64, row: Row) -> Kept {
    Ok(ledger.commit(vec![Swap { seen: Version(seen), row }]).await?)
}

/// Everything on a shelf, in pages of `limit`.
async fn pages(ledger: &impl Ledger, status_index: StatusIndex, limit: usize) -> Result<Vec<Listed>, Violation> {
    let mut all: Vec<Listed> = Vec::new();
    loop {
        let page = ledger.list(status_index, all.last(), limit).await?;
        if page.len() > limit {
            return Err(Violation(format!("a page of {} where {limit} were asked for", page.len())));
        }
        let ended = page.is_empty();
        all.extend(page);
        if ended {
            return Ok(all);
        }
    }
}

fn sorted(mut listed: Vec<Listed>) -> Vec<Listed> {
    listed.sort_by(|a, b| (a.at, &a.key).cmp(&(b.at, &b.key)));
    listed
}

fn listed(n: u32, at: u64) -> Listed {
    Listed { key: key(n), at: Timestamp(at) }
}

/// Neither kind of read, nor the progress of a lease, invents anything.
pub async fn a_row_that_nobody_wrote_is_not_there(ledger: &impl Ledger) -> Kept {
    let of_derivation = RowKey::Derivation(key(1).system, drv(1));
    for key in [RowKey::Build(key(1)), of_derivation, RowKey::Served(asked(1)), RowKey::Limits, RowKey::Pins] {
        for read in [Read::Eventual, Read::Consistent] {
            same("a row", &ledger.load(&key, read).await?, &None)?;
        }
    }
    same("progress", &ledger.progress(&lease_id(1)).await?, &None)?;
    same("a shelf", &ledger.list(StatusIndex::Queued, None, 9).await?, &Vec::new())?;
    same("what is served", &ledger.list_served(&pinned(0), None, 9).await?, &Vec::new())
}

/// Version after version, each raised by one.
pub async fn a_consistent_read_sees_every_acknowledged_commit(ledger: &impl Ledger) -> Kept {
    for n in 0..20 {
        write(ledger, n, queued(1, n)).await?;
        let found = ledger.load(&RowKey::Build(key(1)), Read::Consistent).await?;
        same("the row", &found, &Some((queued(1, n), Version(n + 1))))?;
    }
    Ok(())
}

/// Any other commit is refused as a whole, for all versions that it names.
pub async fn a_commit_has_one_to_four_swaps_of_different_rows(ledger: &impl Ledger) -> Kept {
    let swaps = |count: u32| (0..count).map(|n| Swap { seen: Version(0), row: queued(n, 1) }).collect::<Vec<_>>();
    let twice = vec![swaps(1)[0].clone(), Swap { seen: Version(0), row: ready(0, 1) }];
    for wrong in [swaps(0), swaps(5), twice] {
        let outcome = ledger.commit(wrong.clone()).await;
        if !matches!(outcome, Err(NotCommitted::Unavailable(_))) {
            return Err(Violation(format!("a commit of {} swaps: {outcome:?}", wrong.len())));
        }
    }
    for n in 0..5 {
        same("a row", &ledger.load(&RowKey::Build(key(n)), Read::Consistent).await?, &None)?;
    }
    Ok(ledger.commit(swaps(4)).await?)
}

/// By number, not by text: 9 before 10.
pub async fn a_list_is_ordered_and_a_shelf_holds_its_own(ledger: &impl Ledger) -> Kept {
    for (n, at) in [(1, 10), (2, 9), (3, 1_700_000_000_000), (4, 100)] {
        write(ledger, 0, queued(n, at)).await?;
        write(ledger, 0, building(10 + n, n, at + 1)).await?;
        write(ledger, 0, joined(20 + n, at + 2)).await?;
        write(ledger, 0, derivation(n, 20 + n)).await?;
    }
    write(ledger, 0, ready(30, 1)).await?;
    write(ledger, 0, served(31, 1)).await?;
    write(ledger, 0, limits(2)).await?;
    let waiting = [(2, 9), (1, 10), (4, 100), (3, 1_700_000_000_000)].map(|(n, at)| listed(n, at));
    same("the queue", &ledger.list(StatusIndex::Queued, None, 99).await?, &waiting.to_vec())?;
    let leased = [(12, 10), (11, 11), (14, 101), (13, 1_700_000_000_001)].map(|(n, at)| listed(n, at));
    same("the leases", &ledger.list(StatusIndex::Building, None, 99).await?, &leased.to_vec())?;
    let following = [(22, 11), (21, 12), (24, 102), (23, 1_700_000_000_002)].map(|(n, at)| listed(n, at));
    same("who follows", &ledger.list(StatusIndex::Joined, None, 99).await?, &following.to_vec())?;
    same("its first two", &ledger.list(StatusIndex::Queued, None, 2).await?, &waiting[..2].to_vec())?;
    same("a list of none", &ledger.list(StatusIndex::Queued, None, 0).await?, &Vec::new())
}

/// Also where many are due at one instant, and where the last of a page has left the shelf meanwhile.
pub async fn pages_lose_nothing_and_repeat_nothing(ledger: &impl Ledger) -> Kept {
    let all: Vec<Listed> = (0..24).map(|n| listed(n, 5 + u64::from(n) / 8)).collect();
    for n in (0..24).rev() {
        write(ledger, 0, queued(n, 5 + u64::from(n) / 8)).await?;
    }
    for limit in [1, 2, 5, 8, 24, 100] {
        let read = pages(ledger, StatusIndex::Queued, limit).await?;
        let instants: Vec<Timestamp> = read.iter().map(|listed| listed.at).collect();
        same("ordered", &instants.is_sorted(), &true)?;
        same("every build once", &sorted(read), &sorted(all.clone()))?;
    }
    let first = ledger.list(StatusIndex::Queued, None, 10).await?;
    let Some(last) = first.last() else { return Err(Violation("an empty page".to_owned())) };
    let taken = Build { key: last.key.clone(), ..Build::unasked(last.key.clone()) };
    write(ledger, 1, Row::Build(taken)).await?;
    let rest = ledger.list(StatusIndex::Queued, Some(last), 99).await?;
    same("both pages", &sorted([first, rest].concat()), &sorted(all))
}

/// For every status index, the latest entries are the list's entries in reverse order.
pub async fn the_latest_of_a_shelf_come_first(ledger: &impl Ledger) -> Kept {
    for (n, at) in [(1, 10), (2, 9), (3, 1_700_000_000_000), (4, 100)] {
        write(ledger, 0, queued(n, at)).await?;
        write(ledger, 0, ready(10 + n, at)).await?;
    }
    for (status_index, first) in [(StatusIndex::Queued, 0), (StatusIndex::Ready, 10)] {
        let latest = [(3, 1_700_000_000_000), (4, 100), (1, 10), (2, 9)].map(|(n, at)| listed(first + n, at));
        same("all", &ledger.latest(status_index, 99).await?, &latest.to_vec())?;
        same("the first two", &ledger.latest(status_index, 2).await?, &latest[..2].to_vec())?;
    }
    same("an empty shelf", &ledger.latest(StatusIndex::Failed, 9).await?, &Vec::new())
}

/// After any moves of any builds: no entry is left on an old shelf or under an old instant, and none is missing.
pub async fn lists_say_exactly_what_the_rows_say(ledger: &impl Ledger) -> Kept {
    let mut rows: BTreeMap<BuildKey, (u64, Build)> = BTreeMap::new();
    for (n, state) in cases((0..12u32, any_state())) {
        let build = Build { state, ..Build::unasked(key(n)) };
        let version = rows.get(&build.key).map_or(0, |(version, _)| *version);
        write(ledger, version, Row::Build(build.clone())).await?;
        rows.insert(build.key.clone(), (version + 1, build));
        for status_index in
            [StatusIndex::Queued, StatusIndex::Building, StatusIndex::Joined, StatusIndex::Ready, StatusIndex::Failed]
        {
            let at = |build: &Build| build.status_index().filter(|(on, _)| *on == status_index).map(|(_, at)| at);
            let said = rows.values().filter_map(|(_, b)| at(b).map(|at| Listed { key: b.key.clone(), at })).collect();
            same("the shelf", &sorted(ledger.list(status_index, None, 99).await?), &sorted(said))?;
        }
    }
    Ok(())
}

/// What was found under another pin, or under another revision of the same, or is stale, is on another shelf or on none; and
/// the index follows every change of a row.
pub async fn what_is_served_is_listed_under_its_pin_until_it_is_stale(ledger: &impl Ledger) -> Kept {
    let mut rows: BTreeMap<ServedKey, (u64, Served)> = BTreeMap::new();
    // Few pins and few questions, so that rows replace each other and share shelves.
    let few = (any_served(), 0..3u32, 0..8u32, any::<bool>()).prop_map(|(served, under, n, other_rev)| {
        let Pinned { pin, rev } = pinned(under);
        let rev = if other_rev { rev.as_str().replace('a', "c").parse().expect("hex") } else { rev };
        Served { asked: if n == 0 { served.asked.clone() } else { asked(n) }, pin, rev, ..served }
    });
    for served in cases(few) {
        let version = rows.get(&served.asked).map_or(0, |(version, _)| *version);
        write(ledger, version, Row::Served(served.clone())).await?;
        rows.insert(served.asked.clone(), (version + 1, served.clone()));
        let fresh = rows.values().filter(|(_, row)| row.is_listed() && row.pinned() == served.pinned());
        let mut said: Vec<_> = fresh.map(|(_, row)| row.asked.clone()).collect();
        said.sort_by_key(ToString::to_string);
        same("the shelf", &ledger.list_served(&served.pinned(), None, 999).await?, &said)?;
    }
    let elsewhere = Pinned { rev: key(0).rev.as_str().replace('a', "d").parse().expect("hex"), ..pinned(0) };
    same("another revision's", &ledger.list_served(&elsewhere, None, 9).await?, &Vec::new())
}

/// Also where the last of a page has become stale meanwhile.
pub async fn pages_of_what_is_served_lose_nothing_and_repeat_nothing(ledger: &impl Ledger) -> Kept {
    for n in (0..24).rev() {
        write(ledger, 0, served(n, 1)).await?;
    }
    let mut all: Vec<_> = (0..24).map(asked).collect();
    all.sort_by_key(ToString::to_string);
    for limit in [1, 2, 5, 24, 100] {
        let mut read: Vec<ServedKey> = Vec::new();
        loop {
            let page = ledger.list_served(&pinned(0), read.last(), limit).await?;
            same("no more than was asked for", &(page.len() <= limit), &true)?;
            if page.is_empty() {
                break;
            }
            read.extend(page);
        }
        same("every row once, in order", &read, &all)?;
    }
    let Row::Served(ninth) = served(9, 1) else { return Err(Violation("no served row".to_owned())) };
    write(ledger, 1, Row::Served(Served { stale: true, ..ninth })).await?;
    let behind = all.iter().position(|key| *key == asked(9)).map_or(0, |at| at + 1);
    let rest = ledger.list_served(&pinned(0), Some(&asked(9)), 99).await?;
    same("what is behind it", &rest, &all[behind..].to_vec())
}

/// Rows of every kind, in pages of any size, while others are written, and beside what is no row.
pub async fn a_scan_shows_each_row_once_that_is_there_all_the_time(ledger: &impl Ledger) -> Kept {
    same("nothing", &ledger.scan(None, 9).await?, &Scanned { rows: Vec::new(), next: None })?;
    let mut all = BTreeMap::new();
    for row in cases(any_row()).take(60) {
        let seen = all.get(&row.key()).map_or(0, |(_, Version(seen))| *seen);
        write(ledger, seen, row.clone()).await?;
        all.insert(row.key(), (row, Version(seen + 1)));
    }
    for n in 0..9 {
        ledger.put_progress(&lease_id(n), &progress(n)).await?;
    }
    for (round, limit) in [1, 2, 7, 1000].into_iter().enumerate() {
        let (mut found, mut after, mut pages) = (BTreeMap::new(), None, 0);
        let others = u32::try_from(round * 1000).unwrap_or(0)..;
        for n in others {
            let page = ledger.scan(after.as_ref(), limit).await?;
            same("no more than was asked for", &(page.rows.len() <= limit), &true)?;
            for (row, version) in page.rows {
                same("a second time", &found.insert(row.key(), (row, version)), &None)?;
            }
            pages += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
            // Behind or before where it stands.
            write(ledger, 0, queued(n, 1)).await?;
        }
        found.retain(|key, _| all.contains_key(key));
        same("all that was there", &found, &all)?;
        same("pages", &(pages * limit >= all.len()), &true)?;
    }
    Ok(())
}

/// It is gone from its index, and its neighbours stay.
pub async fn what_was_removed_is_in_no_list(ledger: &impl Ledger) -> Kept {
    for n in 1..4 {
        write(ledger, 0, ready(n, 10)).await?;
        write(ledger, 0, served(n, 1)).await?;
    }
    ledger.remove(&RowKey::Build(key(2)), Version(1)).await?;
    ledger.remove(&RowKey::Served(asked(2)), Version(1)).await?;
    let left = vec![listed(1, 10), listed(3, 10)];
    same("the shelf", &sorted(ledger.list(StatusIndex::Ready, None, 9).await?), &left)?;
    same("the shelf, from its end", &sorted(ledger.latest(StatusIndex::Ready, 9).await?), &left)?;
    same("what is served", &ledger.list_served(&pinned(0), None, 9).await?, &vec![asked(1), asked(3)])?;
    let rows: BTreeMap<_, _> = ledger.scan(None, 99).await?.rows.iter().map(|(row, _)| (row.key(), ())).collect();
    same("rows", &rows.len(), &4)
}

/// And there is none to forget after that.
pub async fn progress_is_forgotten_lease_by_lease(ledger: &impl Ledger) -> Kept {
    for n in [1, 2] {
        ledger.put_progress(&lease_id(n), &progress(n)).await?;
    }
    for _ in 0..2 {
        ledger.remove_progress(&lease_id(1)).await?;
        same("the first lease's", &ledger.progress(&lease_id(1)).await?, &None)?;
    }
    same("the second lease's", &ledger.progress(&lease_id(2)).await?, &Some(progress(2)))
}

/// The last word counts, each lease has its own, and rows and versions are not touched.
pub async fn progress_is_replaced_lease_by_lease(ledger: &impl Ledger) -> Kept {
    write(ledger, 0, building(1, 1, 10)).await?;
    for (lease, n) in [(1, 1), (2, 2), (1, 3)] {
        ledger.put_progress(&lease_id(lease), &progress(n)).await?;
    }
    same("the first lease's", &ledger.progress(&lease_id(1)).await?, &Some(progress(3)))?;
    same("the second lease's", &ledger.progress(&lease_id(2)).await?, &Some(progress(2)))?;
    write(ledger, 1, ready(1, 11)).await?;
    same("after the build's end", &ledger.progress(&lease_id(1)).await?, &Some(progress(3)))
}

/// Any row that there can be.
pub async fn every_row_comes_back_as_it_was_written(ledger: &impl Ledger) -> Kept {
    for row in cases(any_row()) {
        let seen = ledger.load(&row.key(), Read::Consistent).await?.map_or(0, |(_, version)| version.0);
        write(ledger, seen, row.clone()).await?;
        let found = ledger.load(&row.key(), Read::Consistent).await?;
        same("the row", &found, &Some((row, Version(seen + 1))))?;
    }
    Ok(())
}
