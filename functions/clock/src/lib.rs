//! The machine's clock and random numbers, for all deployments. Core receives them as values, and never reads them itself.

use std::{
    fmt::Debug,
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use binplz_core::id::{
    key::{LeaseId, Token, hex},
    time::Timestamp,
};

/// The current instant. A clock that is before 1970 counts as 1970.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

/// A new lease's id and secret token.
pub fn new_lease() -> (LeaseId, Token) {
    (parse(&hex(&random::<16>())), parse(&hex(&random::<32>())))
}

/// Random bytes from the operating system.
///
/// # Panics
/// If the system has no random bytes: a secret must not be guessable.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    bytes
}

fn parse<T: FromStr<Err: Debug>>(hex: &str) -> T {
    hex.parse().expect("the right number of hex digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_leases_share_a_name_or_a_secret() {
        let ((a, secret_of_a), (b, secret_of_b)) = (new_lease(), new_lease());
        assert_ne!(a, b);
        assert_ne!(secret_of_a, secret_of_b);
    }

    #[test]
    fn the_clock_counts_milliseconds() {
        assert!(now() > Timestamp(1_700_000_000_000) && now() < Timestamp(10_000_000_000_000));
    }
}
