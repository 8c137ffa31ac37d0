//! The contract suite, held against the local adapters; and against broken ones, which it must find out.

mod crash;
mod damage;
mod disk;
mod local;

use binplz_tests::contract::{bell, broken};
use local::{Fresh, fresh};

/// One test for each promise.
macro_rules! local_keeps {
    ($module:ident: $($promise:ident),+;) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $promise() {
                    let adapters = super::fresh();
                    let kept = binplz_tests::contract::$module::$promise(adapters.$module()).await;
                    kept.unwrap_or_else(|violation| panic!("{violation}"));
                }
            )+
        }
    };
}

binplz_tests::ledger_promises!(local_keeps);
binplz_tests::store_promises!(local_keeps);

/// One test for each promise that a ledger without the version condition must be seen to break.
macro_rules! forgetful_breaks {
    ($module:ident: $($promise:ident),+;) => {
        mod without_the_version_condition {
            $(
                #[tokio::test]
                async fn $promise() {
                    let adapters = super::fresh();
                    let ledger = super::broken::Forgetful(adapters.$module());
                    let kept = binplz_tests::contract::$module::$promise(&ledger).await;
                    assert!(kept.is_err(), "the missing condition is not noticed");
                }
            )+
        }
    };
}

binplz_tests::ledger_fences!(forgetful_breaks);

/// A ledger that writes the swaps of a commit one by one is found out as well.
#[tokio::test]
async fn without_transactions_several_swaps_are_not_all_or_nothing() {
    use binplz_tests::contract::fencing;
    let adapters = fresh();
    let ledger = broken::Piecemeal(adapters.fencing());
    let kept = fencing::several_swaps_are_all_or_nothing_whichever_conflicts(&ledger).await;
    assert!(kept.is_err(), "half a commit is not noticed");
    let adapters = fresh();
    let ledger = broken::Piecemeal(adapters.fencing());
    let kept = fencing::of_two_overlapping_commits_from_one_sighting_the_first_wins(&ledger).await;
    assert!(kept.is_err(), "the half that was written is not noticed");
}

#[tokio::test]
async fn a_ring_that_came_early_is_heard() {
    let Fresh { bell, .. } = &fresh();
    let kept = bell::a_ring_that_came_early_is_heard(bell, async || bell.wait().await).await;
    kept.unwrap_or_else(|violation| panic!("{violation}"));
}

#[tokio::test]
async fn a_ring_wakes_who_waits() {
    let Fresh { bell, .. } = &fresh();
    let kept = bell::a_ring_wakes_who_waits(bell, async || bell.wait().await).await;
    kept.unwrap_or_else(|violation| panic!("{violation}"));
}
