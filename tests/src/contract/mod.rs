//! What every adapter promises, as one suite: `binplz_core::ports` in executable form. It knows no adapter.
//!
//! Each promise is an async function over the role, named after what it promises, and gets an adapter that holds nothing
//! yet. It returns a [`Violation`] instead of panicking, so that a broken adapter can be shown to break it: see [`broken`].
//! The lists of promises are macros, so that an adapter's tests name them all and a new promise reaches every adapter:
//!
//! ```text
//! macro_rules! holds { ($($module:ident: $($promise:ident),+;)+) => { … one #[tokio::test] each … } }
//! binplz_tests::ledger_promises!(holds);
//! ```

pub mod broken;
pub mod rows;

pub mod fencing;
pub mod reading;

pub mod bell;
pub mod binary_cache;
pub mod signer;
pub mod store;

use std::fmt;

use binplz_core::ports::{NotCommitted, Unavailable};

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

/// Whether a promise was kept.
pub type Kept = Result<(), Violation>;

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Unavailable> for Violation {
    fn from(error: Unavailable) -> Violation {
        Violation(error.to_string())
    }
}

impl From<NotCommitted> for Violation {
    fn from(error: NotCommitted) -> Violation {
        Violation(format!("not committed: {error}"))
    }
}

/// What was got must be what was promised.
pub fn same<T: fmt::Debug + PartialEq>(what: &str, got: &T, promised: &T) -> Kept {
    if got == promised { Ok(()) } else { Err(Violation(format!("{what}: got {got:?}, promised {promised:?}"))) }
}

/// Names every promise of a ledger to `$each`: those that need the version condition, then the others.
#[macro_export]
macro_rules! ledger_promises {
    ($each:ident) => {
        $crate::ledger_fences!($each);
        $each! { reading:
            a_row_that_nobody_wrote_is_not_there,
            a_consistent_read_sees_every_acknowledged_commit,
            a_commit_has_one_to_four_swaps_of_different_rows,
            a_list_is_ordered_and_a_shelf_holds_its_own,
            pages_lose_nothing_and_repeat_nothing,
            the_latest_of_a_shelf_come_first,
            lists_say_exactly_what_the_rows_say,
            what_is_served_is_listed_under_its_pin_until_it_is_stale,
            pages_of_what_is_served_lose_nothing_and_repeat_nothing,
            a_scan_shows_each_row_once_that_is_there_all_the_time,
            what_was_removed_is_in_no_list,
            progress_is_replaced_lease_by_lease,
            progress_is_forgotten_lease_by_lease,
            every_row_comes_back_as_it_was_written;
        }
    };
}

/// Names every promise to `$each` that an adapter without the version condition breaks.
#[macro_export]
macro_rules! ledger_fences {
    ($each:ident) => {
        $each! { fencing:
            a_new_row_needs_version_0,
            a_stale_version_conflicts_and_changes_nothing,
            several_swaps_are_all_or_nothing_whichever_conflicts,
            of_two_creations_from_one_sighting_the_first_wins,
            of_two_replacements_from_one_sighting_the_first_wins,
            of_two_overlapping_commits_from_one_sighting_the_first_wins,
            of_two_commits_at_once_exactly_one_wins,
            a_removal_needs_the_version_that_was_seen,
            a_commit_whose_reply_was_lost_shows_as_a_conflict;
        }
    };
}

/// Names every promise of a store to `$each`.
#[macro_export]
macro_rules! store_promises {
    ($each:ident) => {
        $each! { store:
            what_was_granted_can_be_written_and_read,
            what_nobody_wrote_is_not_there,
            an_object_is_known_by_its_size_and_its_sha256,
            a_part_of_an_object_is_those_bytes,
            another_size_is_refused_and_leaves_nothing,
            another_content_is_refused_and_leaves_nothing,
            a_grant_is_for_its_path_alone,
            a_changed_grant_is_refused,
            a_grant_ends,
            the_same_content_again_is_fine,
            an_object_never_changes,
            what_is_offered_is_written_once_and_by_its_own_grant,
            the_segments_of_a_log_are_removed_and_nothing_else,
            all_segments_of_a_long_log_are_removed,
            the_partial_files_of_a_catalogue_are_removed_and_nothing_else,
            a_blob_is_one_object_for_all_attempts,
            blobs_are_listed_in_order_and_removed,
            homes_are_told_with_what_lies_in_them,
            a_home_is_removed_and_no_other,
            a_nixpkgs_is_told_and_removed,
            a_database_of_programs_is_listed_and_removed,
            a_program_may_have_an_odd_name;
        }
        $each! { binary_cache:
            what_an_attempt_offers_is_told_and_nothing_of_another,
            all_of_many_offers_are_told,
            a_file_is_measured_to_its_end_and_no_further_than_it_may,
            what_was_let_in_is_there_and_stays,
            what_is_cleared_is_one_attempts_and_no_others;
        }
        $each! { signer:
            a_signature_is_by_the_key_of_its_use,
            a_digest_is_of_what_is_stored,
            an_object_of_the_log_never_changes,
            narrower_tiles_are_removed_and_nothing_else;
        }
    };
}
