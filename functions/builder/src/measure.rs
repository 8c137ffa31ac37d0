//! Reports how long each derivation took, and how much memory, for estimates of later builds. The times are those of Nix's
//! own activities, of which no build can start or end one ([`crate::testimony`]).

use std::io;

use binplz_core::build::{
    learned::{MEASURED_MAX, Measured},
    protocol::Stats,
};

use crate::{
    context::BuildContext,
    drv,
    evidence::name_of,
    memory::Gauge,
    nix::{End, Exit, Ran},
    stop::Why,
    timer::Timed,
};

/// Reports the slowest derivations that were built, downloads excepted. An error concerns estimates only, so it has no
/// effect.
pub(crate) fn report(context: &BuildContext, timed: &[Timed], gauge: &Gauge, ran: &io::Result<Ran>, stats: &mut Stats) {
    let built: u64 = timed.iter().map(|timed| timed.share.as_millis() as u64).sum();
    stats.building = Some(stats.building.unwrap_or(0).saturating_add(built));
    let all_well = match ran {
        Ok(Ran { end: End::Exited(exit), .. }) => *exit == Exit::Code(0),
        Ok(Ran { end: End::Stopped(Why::LeaseLost(_)), .. }) => return,
        _ => false,
    };
    let mut timed: Vec<&Timed> = timed.iter().filter(|timed| drv::is_download(&timed.drv) == Some(false)).collect();
    if !all_well {
        retain_built(context, &mut timed);
    }
    timed.sort_by_key(|timed| std::cmp::Reverse(timed.share));
    timed.truncate(MEASURED_MAX);
    let measured: Vec<Measured> = timed.into_iter().map(|timed| measured(timed, gauge)).collect();
    if !measured.is_empty() {
        // An endpoint of an earlier version does not know the request.
        let _ = context.lease.measured(&measured);
    }
}

/// Keeps those whose outputs exist.
fn retain_built(context: &BuildContext, timed: &mut Vec<&Timed>) {
    let outputs = |timed: &Timed| drv::outputs(&timed.drv).unwrap_or_default();
    let paths: Vec<String> = timed.iter().flat_map(|timed| outputs(timed)).map(|output| output.path).collect();
    match context.nix.missing(&paths) {
        Some(missing) => timed.retain(|timed| outputs(timed).iter().all(|output| !missing.contains(&output.path))),
        None => timed.clear(),
    }
}

fn measured(timed: &Timed, gauge: &Gauge) -> Measured {
    Measured {
        name: name_of(&timed.drv).to_owned(),
        milliseconds: (timed.to - timed.from).as_millis() as u64,
        share: timed.share.as_millis() as u64,
        memory: gauge.peak_between(timed.from, timed.to),
    }
}
