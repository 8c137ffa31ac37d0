//! The contract suite, held against the AWS adapters; what only they promise; and a build's whole life over them. They need AWS
//! beside them, or what acts as it:
//!
//! ```text
//! tests/bed/up cargo test -p binplz-tests --test aws -- --include-ignored
//! ```

mod bed;
mod doctor;
mod download_stats;
mod faults;
mod launcher;
mod life;
mod names;
mod template;
mod wait_limiter;

use std::time::Duration;

use bed::fresh;
use binplz_tests::contract::{bell, broken};

/// One test for each promise.
macro_rules! aws_keeps {
    ($module:ident: $($promise:ident),+;) => {
        mod $module {
            $(
                #[tokio::test]
                #[ignore = "needs AWS beside it: tests/bed/up cargo test -p binplz-tests --test aws -- --include-ignored"]
                async fn $promise() {
                    let adapters = super::fresh().await;
                    let kept = binplz_tests::contract::$module::$promise(adapters.$module()).await;
                    kept.unwrap_or_else(|violation| panic!("{violation}"));
                }
            )+
        }
    };
}

binplz_tests::ledger_promises!(aws_keeps);
binplz_tests::store_promises!(aws_keeps);

/// One test for each promise that a ledger without the version condition must be seen to break.
macro_rules! forgetful_breaks {
    ($module:ident: $($promise:ident),+;) => {
        mod without_the_version_condition {
            $(
                #[tokio::test]
                #[ignore = "needs AWS beside it: tests/bed/up"]
                async fn $promise() {
                    let adapters = super::fresh().await;
                    let ledger = super::broken::Forgetful(adapters.$module());
                    let kept = binplz_tests::contract::$module::$promise(&ledger).await;
                    assert!(kept.is_err(), "the missing condition is not noticed");
                }
            )+
        }
    };
}

binplz_tests::ledger_fences!(forgetful_breaks);

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn a_ring_that_came_early_is_heard() {
    let adapters = fresh().await;
    let kept = bell::a_ring_that_came_early_is_heard(&adapters.bell, async || adapters.rung().await).await;
    kept.unwrap_or_else(|violation| panic!("{violation}"));
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn a_ring_wakes_who_waits() {
    let adapters = fresh().await;
    let kept = bell::a_ring_wakes_who_waits(&adapters.bell, async || adapters.rung().await).await;
    kept.unwrap_or_else(|violation| panic!("{violation}"));
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn a_ring_for_later_comes() {
    let adapters = fresh().await;
    adapters.bell.ring_in(Duration::from_millis(1)).await.expect("it rings");
    adapters.rung().await;
}
