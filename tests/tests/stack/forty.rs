//! Forty packages that need twelve dependencies, by tasks that share the cache in the bucket.

use binplz_core::build::policy::Policy;
use binplz_tests::forty::{DERIVATIONS, PACKAGES, each_dependency_is_built_once, packages};

use crate::watched::{policy, watched_with};

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn each_of_twelve_dependencies_of_forty_packages_is_built_once_and_no_task_waits_for_long() {
    let w = watched_with(&packages("sleep 10"), &Policy { slots: 4, ..policy() }, &[]);
    assert_eq!(each_dependency_is_built_once(&w), DERIVATIONS);
    let attempts: Vec<_> =
        (0..PACKAGES).flat_map(|n| w.build(&format!("failing.many{n}")).expect("a row").history).collect();
    assert!(attempts.iter().all(|attempt| attempt.failure.is_none() && attempt.stats.waited <= 60), "{attempts:?}");
    assert!(attempts.len() <= 2 * PACKAGES + 12, "{}", attempts.len());
}
