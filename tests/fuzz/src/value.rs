//! Small values: money, times, versions, waits. Two parsers of the same amount agree.

use std::time::Duration;

use binplz_core::{
    billing::prices::Dollars,
    id::{
        money::Micros,
        time::{Timestamp, seconds_up},
        wait::{Patience, preferred_wait},
    },
    nixpkgs::{
        nix_config::NixConfig,
        nix_version::{NixVersion, RequiredNix},
    },
};

use crate::input::text;

pub(crate) fn check(data: &[u8]) {
    if let Some(number) = data.first_chunk().map(|number| u64::from_le_bytes(*number)) {
        time(number);
    }
    let Some(text) = text(data) else { return };
    money(text);
    if let Some(version) = NixVersion::read(text) {
        assert_eq!(NixVersion::read(&version.to_string()), Some(version));
    }
    // A requirement is satisfied by the version that it names.
    let required = RequiredNix::by_nixpkgs(text.split('\0'));
    assert!(RequiredNix::BY_BINPLZ.check("2.3").is_err() && required.check("4294967295.4294967295").is_ok());
    if let Err(old) = required.check(text) {
        assert!(old.to_string().contains(" or newer"));
    }
    let (agent, prefer) = text.split_once('\n').unwrap_or(("", text));
    let (hold, most) = (Duration::from_secs(25), preferred_wait(prefer));
    let patience = Patience::of(Some(agent), Some(prefer));
    let hops: Vec<Duration> = (1..).map_while(|number| patience.hold(number, hold)).collect();
    assert!(hops.len() < 50 && hops.iter().all(|one| *one <= hold && !one.is_zero()));
    assert!(most.is_none_or(|most| hops.iter().sum::<Duration>() <= most), "{hops:?}");
    if let Ok(settings) = NixConfig::parse(text) {
        assert!(!settings.is("") || settings.text("").is_empty());
        assert!(settings.list("substituters").iter().all(|word| text.len() >= word.len()));
    }
}

fn money(text: &str) {
    let (micros, dollars) = (text.parse::<Micros>(), text.parse::<Dollars>());
    if let (Ok(micros), Ok(dollars)) = (micros, &dollars) {
        assert_eq!(dollars.micros(), micros, "{text}");
        assert_eq!(Dollars::from(micros).micros(), micros);
    }
    if let Ok(micros) = micros {
        assert!(text.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
        let shown = micros.to_string();
        let read: Micros = shown.trim_start_matches('$').parse().unwrap_or(Micros(u64::MAX));
        assert!(read >= micros && (read - micros).0 < 10_000 || read.0 == u64::MAX, "{shown} is rounded up");
    }
}

fn time(number: u64) {
    let (now, day) = (Timestamp(number), Timestamp(number).day());
    assert!(day.start() <= now && now - day.start() < Duration::from_secs(86_400));
    let month = now.month();
    assert!((1..=12).contains(&month.month) && month.first() <= day && day < month.next().first(), "{month}");
    assert!(day.to_string().starts_with(&month.to_string()), "{day} is in {month}");
    assert!(seconds_up(Duration::from_millis(number)) >= number / 1000);
}
