//! The protocol between builders and the lease endpoint. Each body is read, and written back as the same value; what a
//! builder says is bounded and sanitised. The first byte chooses the body.

use std::{fmt, time::Duration};

use binplz_core::{
    build::{
        failure::LINES_MAX,
        learned::{MEASURED_MAX, Measured, bounded},
        protocol::{
            Built, CACHES_MAX, Checkpointed, DependencyRequest, DependencyTurn, Evaluated, Heartbeat, Job, Looked,
            Outcome, PresignedUpload, Progress, Report, Turn, Upload,
        },
        waiting::{PLAN_MAX, checked},
    },
    objects::materials::Materials,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::input::{cleaned_once, is_line, written_back};

pub(crate) fn check(data: &[u8]) {
    let Some((kind, json)) = data.split_first() else { return };
    match kind {
        b'j' => read::<Job>(json),
        b'p' => progress(json),
        b'h' => read::<Heartbeat>(json),
        b'e' => read::<Evaluated>(json),
        b't' => read::<Turn>(json),
        b'd' => read::<DependencyRequest>(json),
        b'D' => read::<DependencyTurn>(json),
        b'm' => measured(json),
        b'l' => read::<Looked>(json),
        b'b' => read::<Built>(json),
        b'c' => read::<Checkpointed>(json),
        b'u' => read::<Vec<Upload>>(json),
        b'U' => read::<Vec<PresignedUpload>>(json),
        _ => report(json),
    }
}

fn read<T: fmt::Debug + PartialEq + Serialize + DeserializeOwned>(json: &[u8]) {
    written_back::<T>(json);
}

fn progress(json: &[u8]) {
    let Some(progress) = written_back::<Progress>(json) else { return };
    let progress = cleaned_once(progress, Progress::cleaned);
    assert!(progress.step.as_deref().is_none_or(|step| is_line(step) && step.chars().count() <= 201));
    assert!(progress.fetched.len() <= CACHES_MAX && progress.fetched.keys().all(|name| is_line(name)));
    progress.fetched_from();
    let after = progress.clone().after(u32::MAX);
    assert!(after.done >= progress.done && after.expected >= progress.expected);
}

fn measured(json: &[u8]) {
    let Some(measured) = written_back::<Vec<Measured>>(json) else { return };
    let time = Duration::from_secs(3600);
    let kept = bounded(measured, time, Some(1 << 30));
    assert!(kept.len() <= MEASURED_MAX);
    for (pname, one) in &kept {
        assert!(u128::from(one.milliseconds) <= time.as_millis() && one.share <= one.milliseconds, "{pname}: {one:?}");
    }
}

fn report(json: &[u8]) {
    let Some(report) = written_back::<Report>(json) else { return };
    match report.outcome {
        Outcome::Built(manifest) => drop(cleaned_once(manifest, |manifest| manifest.cleaned())),
        Outcome::Catalogued => {}
        Outcome::Waits { plan, .. } => {
            if let Some(plan) = checked(plan) {
                assert!((1..=PLAN_MAX).contains(&plan.len()) && plan.iter().all(|planned| is_line(&planned.name)));
                assert_eq!(checked(plan.clone()), Some(plan));
            }
        }
        Outcome::Failed(failure) => {
            let failure = cleaned_once(failure, |failure| failure.cleaned());
            assert!(is_line(&failure.sentence()) && failure.lines.len() <= LINES_MAX);
            assert!(failure.lines.iter().all(|line| is_line(line)));
        }
    }
    report.materials.map(Materials::cleaned);
}
