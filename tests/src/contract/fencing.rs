//! The version condition: what makes two machines agree. Every race here is laid out step by step, both ways round;
//! every promise is broken by [`super::broken::Forgetful`].

use binplz_core::{
    ports::{Ledger, NotCommitted, Read},
    row::{Row, RowKey, Swap, Version},
};

use super::{
    Kept, Violation,
    rows::{building, key, limits, queued, ready, served},
    same,
};

fn swap(seen: u64, row: Row) -> Swap {
    Swap { seen: Version(seen), row }
}

async fn expect_conflict(ledger: &impl Ledger, what: &str, swaps: Vec<Swap>) -> Kept {
    same(what, &ledger.commit(swaps).await, &Err(NotCommitted::Conflict))
}

/// The ledger holds this row at this version.
async fn expect_row(ledger: &impl Ledger, version: u64, row: &Row) -> Kept {
    let found = ledger.load(&row.key(), Read::Consistent).await?;
    same("the row", &found, &Some((row.clone(), Version(version))))
}

async fn expect_nothing(ledger: &impl Ledger, key: RowKey) -> Kept {
    same("a row that was never written", &ledger.load(&key, Read::Consistent).await?, &None)
}

/// What a decision is made on: the version that a load shows, 0 where there is no row.
async fn sighting(ledger: &impl Ledger, key: &RowKey) -> Result<u64, Violation> {
    Ok(ledger.load(key, Read::Consistent).await?.map_or(0, |(_, version)| version.0))
}

/// A row is made on the sighting of no row, and of nothing else.
pub async fn a_new_row_needs_version_0(ledger: &impl Ledger) -> Kept {
    expect_conflict(ledger, "a replacement of no row", vec![swap(1, queued(1, 10))]).await?;
    expect_nothing(ledger, RowKey::Build(key(1))).await?;
    ledger.commit(vec![swap(0, queued(1, 10))]).await?;
    expect_row(ledger, 1, &queued(1, 10)).await?;
    expect_conflict(ledger, "a second creation", vec![swap(0, queued(1, 20))]).await?;
    expect_row(ledger, 1, &queued(1, 10)).await
}

/// A version of the past, or of the future, is not the current one.
pub async fn a_stale_version_conflicts_and_changes_nothing(ledger: &impl Ledger) -> Kept {
    ledger.commit(vec![swap(0, queued(1, 10))]).await?;
    ledger.commit(vec![swap(1, building(1, 1, 20))]).await?;
    for seen in [0, 1, 3, u64::MAX] {
        expect_conflict(ledger, "a version that is not current", vec![swap(seen, ready(1, 30))]).await?;
        expect_row(ledger, 2, &building(1, 1, 20)).await?;
    }
    ledger.commit(vec![swap(2, ready(1, 30))]).await?;
    expect_row(ledger, 3, &ready(1, 30)).await
}

/// Four swaps, each in turn the one that conflicts, the last too; replacements and creations alike.
pub async fn several_swaps_are_all_or_nothing_whichever_conflicts(ledger: &impl Ledger) -> Kept {
    let before = [queued(1, 10), queued(2, 10), served(3, 10), limits(1)];
    let after = [building(1, 1, 20), ready(2, 20), served(3, 20), limits(2)];
    for existing in [0, 1] {
        for stale in 0..after.len() {
            let seen = |i| if i == stale { existing + 1 } else { existing };
            let swaps = after.iter().cloned().enumerate().map(|(i, row)| swap(seen(i), row)).collect();
            expect_conflict(ledger, "one stale version of four", swaps).await?;
            for row in &before {
                match existing {
                    0 => expect_nothing(ledger, row.key()).await?,
                    _ => expect_row(ledger, existing, row).await?,
                }
            }
        }
        let rows = if existing == 0 { &before } else { &after };
        ledger.commit(rows.iter().cloned().map(|row| swap(existing, row)).collect()).await?;
    }
    for row in &after {
        expect_row(ledger, 2, row).await?;
    }
    Ok(())
}

/// Two writers see that there is no row; the first write creates it.
pub async fn of_two_creations_from_one_sighting_the_first_wins(ledger: &impl Ledger) -> Kept {
    for (n, (first, second)) in [(1, (10, 20)), (2, (20, 10))] {
        let name = RowKey::Build(key(n));
        let (seen_by_first, seen_by_second) = (sighting(ledger, &name).await?, sighting(ledger, &name).await?);
        ledger.commit(vec![swap(seen_by_first, queued(n, first))]).await?;
        expect_conflict(ledger, "the second creation", vec![swap(seen_by_second, queued(n, second))]).await?;
        expect_row(ledger, 1, &queued(n, first)).await?;
    }
    Ok(())
}

/// Two see the same row and both claim it: one has it.
pub async fn of_two_replacements_from_one_sighting_the_first_wins(ledger: &impl Ledger) -> Kept {
    for (n, (first, second)) in [(1, (1, 2)), (2, (2, 1))] {
        ledger.commit(vec![swap(0, queued(n, 10))]).await?;
        let name = RowKey::Build(key(n));
        let (seen_by_first, seen_by_second) = (sighting(ledger, &name).await?, sighting(ledger, &name).await?);
        ledger.commit(vec![swap(seen_by_first, building(n, first, 20))]).await?;
        let late = swap(seen_by_second, building(n, second, 20));
        expect_conflict(ledger, "the second claim", vec![late]).await?;
        expect_row(ledger, 2, &building(n, first, 20)).await?;
    }
    Ok(())
}

/// Two dispatchers claim different builds and both take a slot: the limits row, which both write, lets one through, and
/// the other's claim is not made either.
pub async fn of_two_overlapping_commits_from_one_sighting_the_first_wins(ledger: &impl Ledger) -> Kept {
    let made = [queued(1, 10), queued(2, 10), limits(0)];
    ledger.commit(made.iter().cloned().map(|row| swap(0, row)).collect()).await?;
    for round in 0..2 {
        let (winner, loser) = if round == 0 { (1, 2) } else { (2, 1) };
        let mut sightings = Vec::new();
        for n in [winner, loser] {
            let build = ledger.load(&RowKey::Build(key(n)), Read::Consistent).await?;
            sightings.push((n, build, sighting(ledger, &RowKey::Limits).await?));
        }
        let claim = |at: usize| {
            let (n, build, of_limits) = &sightings[at];
            let of_build = build.as_ref().map_or(0, |(_, version)| version.0);
            vec![swap(of_build, building(*n, round, 100 + u64::from(round))), swap(*of_limits, limits(round + 1))]
        };
        ledger.commit(claim(0)).await?;
        expect_conflict(ledger, "the second claim of a slot", claim(1)).await?;
        let after = ledger.load(&RowKey::Build(key(loser)), Read::Consistent).await?;
        same("the build of the one that lost", &after, &sightings[1].1)?;
        same("the limits' version", &sighting(ledger, &RowKey::Limits).await?, &(sightings[0].2 + 1))?;
    }
    Ok(())
}

/// Two commits that are under way at the same time, on rows that overlap, are as two that come one after the other.
pub async fn of_two_commits_at_once_exactly_one_wins(ledger: &impl Ledger) -> Kept {
    let mine = [building(1, 1, 10), limits(1)];
    let yours = [building(2, 2, 10), limits(2)];
    let all = |rows: &[Row; 2]| rows.iter().cloned().map(|row| swap(0, row)).collect();
    let outcomes = tokio::join!(ledger.commit(all(&mine)), ledger.commit(all(&yours)));
    let (won, lost) = match outcomes {
        (Ok(()), Err(NotCommitted::Conflict)) => (mine, yours),
        (Err(NotCommitted::Conflict), Ok(())) => (yours, mine),
        other => return Err(Violation(format!("not exactly one won: {other:?}"))),
    };
    for row in &won {
        expect_row(ledger, 1, row).await?;
    }
    expect_nothing(ledger, lost[0].key()).await
}

/// A version of the past, or of the future, removes nothing; the current one does, and then there is nothing to remove.
pub async fn a_removal_needs_the_version_that_was_seen(ledger: &impl Ledger) -> Kept {
    ledger.commit(vec![swap(0, queued(1, 10)), swap(0, queued(2, 10)), swap(0, served(1, 10))]).await?;
    ledger.commit(vec![swap(1, building(1, 1, 20)), swap(1, served(1, 20))]).await?;
    for row in [building(1, 1, 20), served(1, 20)] {
        for seen in [0, 1, 3, u64::MAX] {
            let removed = ledger.remove(&row.key(), Version(seen)).await;
            same("a version that is not current", &removed, &Err(NotCommitted::Conflict))?;
            expect_row(ledger, 2, &row).await?;
        }
        for seen in [2, 2, 7] {
            same("the removal", &ledger.remove(&row.key(), Version(seen)).await, &Ok(()))?;
            expect_nothing(ledger, row.key()).await?;
        }
    }
    expect_conflict(ledger, "a replacement of what is gone", vec![swap(2, ready(1, 30))]).await?;
    ledger.commit(vec![swap(0, queued(1, 40))]).await?;
    expect_row(ledger, 1, &queued(1, 40)).await?;
    expect_row(ledger, 1, &queued(2, 10)).await
}

/// Made again, it conflicts with itself; the row tells that it was made.
pub async fn a_commit_whose_reply_was_lost_shows_as_a_conflict(ledger: &impl Ledger) -> Kept {
    ledger.commit(vec![swap(0, queued(1, 10)), swap(0, limits(0))]).await?;
    let claim = vec![swap(1, building(1, 1, 20)), swap(1, limits(1))];
    let _lost_reply = ledger.commit(claim.clone()).await;
    expect_conflict(ledger, "the same commit again", claim).await?;
    expect_row(ledger, 2, &building(1, 1, 20)).await?;
    expect_row(ledger, 2, &limits(1)).await
}
