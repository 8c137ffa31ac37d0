//! `binplz verify`: compares stored files with their checksums.

use std::fmt::Write;

use binplz_core::{
    flow::{
        operator::orders::{Named, Operator, Order},
        schedule::scrub::{Found, Report},
    },
    id::text,
};

use crate::{
    check::{self, Offline},
    operate::{OperateError, Verify},
};

/// Compares, prints what was found, and fails if anything was.
///
/// # Errors
/// [`OperateError`].
pub(crate) async fn verify(Verify { of, all: _, offline, common }: Verify) -> Result<(), OperateError> {
    if let (Some(file), Offline { proof: Some(proof), keys: Some(keys), .. }) = (&of, &offline) {
        return Ok(check::verify(file.into(), proof, keys, &offline)?);
    }
    let of = of.map(|of| of.to_string_lossy().parse::<Named>()).transpose()?;
    let report = common.which.find().await?.carry_out(Order::Verify { of }).await?.verified()?;
    if common.json {
        println!("{}", serde_json::json!(report));
    } else {
        print!("{}", told(&report));
    }
    match report.found.len() {
        0 => Ok(()),
        count => Err(OperateError::Some(format!("{count} missing or damaged"))),
    }
}

fn told(report: &Report) -> String {
    let mut text = String::new();
    for Found { build, object, what, rebuilt } in &report.found {
        let then = match rebuilt {
            true => "it is being built again".to_owned(),
            false => format!("binplz rebuild {build} makes it again"),
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{object} {what}: {then}");
    }
    let _ = writeln!(text, "{} builds compared, {}", report.builds, text::bytes(report.bytes));
    text
}

#[cfg(test)]
mod tests {
    use binplz_core::objects::stored::Integrity;

    use super::*;

    #[test]
    fn each_damaged_file_is_named_with_what_happens_to_it() {
        let build = format!("{}/x86_64-linux/tree", "0".repeat(40));
        let found = |name: &str, what, rebuilt| Found {
            build: build.parse().expect("a key"),
            object: format!("builds/{name}"),
            what,
            rebuilt,
        };
        let found = vec![found("tree", Integrity::Missing, true), found("log.gz", Integrity::OtherContent, false)];
        let report = Report { builds: 7, bytes: 1_234_567, found };
        assert_eq!(
            told(&report),
            format!(
                "builds/tree is missing: it is being built again\n\
                 builds/log.gz has changed since it was stored: binplz rebuild {build} makes it again\n\
                 7 builds compared, 1.2 MB\n"
            )
        );
    }
}
