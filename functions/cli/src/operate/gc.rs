//! `binplz gc`.

use std::fmt::Write;

use binplz_core::{
    flow::operator::orders::{Operator, Order},
    gc::{Amount, Blobs, Files, Report, Rows, Shared},
    id::{text, time::Timestamp},
};

use crate::operate::{Gc, OperateError};

/// Runs garbage collection, and prints its report.
///
/// # Errors
/// [`OperateError`].
pub(crate) async fn gc(Gc { dry_run, common }: Gc) -> Result<(), OperateError> {
    let report = common.which.find().await?.carry_out(Order::Gc { rehearsal: dry_run }).await?.cleared()?;
    if common.json {
        println!("{}", serde_json::json!(report));
    } else {
        print!("{}", told(&report, binplz_clock::now()));
    }
    Ok(())
}

fn told(report: &Report, now: Timestamp) -> String {
    let Report { rehearsal, rows, removed, waiting, waiting_until, kept, nixpkgs, blobs, databases, cache } = report;
    let Rows { builds, served, derivations, past, busy } = rows;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<10}{value}");
    };
    let goes = if *rehearsal { "would be deleted" } else { "deleted" };
    line("rows", format!("{builds} builds, {served} served, {derivations} derivations, {past} profiles {goes}"));
    line("objects", format!("{} {goes}", amount(removed)));
    if *nixpkgs > 0 {
        line("nixpkgs", format!("{nixpkgs} {goes}"));
    }
    if *databases > 0 {
        line("databases", format!("{databases} {goes}"));
    }
    let files = |Files { files, bytes }: &Files| format!("{files} files, {}", text::bytes(*bytes));
    if *blobs != Blobs::default() {
        let Blobs { removed, waiting, kept } = blobs;
        line(
            "programs",
            format!("{} {goes}, {} unreferenced, and {} kept", files(removed), files(waiting), files(kept)),
        );
    }
    let Shared { removed, kept: shared, offered } = cache;
    if (removed.files, shared.files, *offered) != (0, 0, 0) {
        line(
            "cache",
            format!("{} {goes}, {} kept, and {} offered", files(removed), files(shared), text::bytes(*offered)),
        );
    }
    if let Some(until) = waiting_until {
        // By then no client can be downloading one of them.
        let left = text::span(*until - now);
        line("waiting", format!("{}, unreferenced, deleted in {left} at the earliest", amount(waiting)));
    }
    line("kept", amount(kept));
    if *busy > 0 {
        line("busy", format!("{busy} rows changed during the run: run gc again"));
    }
    if *rehearsal {
        line("", "dry run: nothing was deleted; objects are deleted a grace period after their rows".to_owned());
    }
    text
}

fn amount(Amount { prefixes, objects, bytes }: &Amount) -> String {
    format!("{objects} of {prefixes} builds, {}", text::bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_and_what_is_left_is_told_in_lines_that_a_person_reads() {
        let now = Timestamp(1_800_000_000_000);
        let mut report = Report {
            rows: Rows { builds: 3, served: 5, derivations: 2, past: 1, busy: 0 },
            removed: Amount { prefixes: 2, objects: 9, bytes: 1_234_567 },
            kept: Amount { prefixes: 1, objects: 4, bytes: 12_000_000_001 },
            ..Report::default()
        };
        assert_eq!(
            told(&report, now),
            "rows      3 builds, 5 served, 2 derivations, 1 profiles deleted\n\
             objects   9 of 2 builds, 1.2 MB deleted\n\
             kept      4 of 1 builds, 12.0 GB\n"
        );
        let waiting = Amount { prefixes: 1, objects: 1, bytes: 1 };
        let waiting_until = Some(now + std::time::Duration::from_secs(75 * 60));
        let cache =
            Shared { removed: Files { files: 2, bytes: 1 }, kept: Files { files: 1, bytes: 2_000_000 }, offered: 2000 };
        let files = |files, bytes| Files { files, bytes };
        let blobs = Blobs { removed: files(1, 5), waiting: files(0, 0), kept: files(300, 7_000_000) };
        report = Report { rehearsal: true, waiting, waiting_until, nixpkgs: 1, databases: 2, blobs, cache, ..report };
        let told = told(&report, now);
        assert!(
            told.contains("1.2 MB would be deleted\nnixpkgs   1 would be deleted\ndatabases 2 would be deleted\n"),
            "{told}"
        );
        assert!(
            told.contains(
                "programs  1 files, 5 B would be deleted, 0 files, 0 B unreferenced, and 300 files, 7.0 MB kept\n"
            ),
            "{told}"
        );
        assert!(
            told.contains("cache     2 files, 1 B would be deleted, 1 files, 2.0 MB kept, and 2.0 kB offered\n"),
            "{told}"
        );
        assert!(
            told.contains("waiting   1 of 1 builds, 1 B, unreferenced, deleted in 1 hour at the earliest"),
            "{told}"
        );
    }
}
