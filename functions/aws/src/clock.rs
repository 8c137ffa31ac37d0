//! The clock and the random numbers of the machine that a function runs on.

use std::time::{SystemTime, UNIX_EPOCH};

use binplz_core::{
    key::{LeaseId, Token, hex},
    time::Timestamp,
};

/// The current instant.
pub(crate) fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

/// Bytes that nobody can guess.
///
/// # Panics
/// Where the system gives none: then no secret can be made.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives random numbers");
    bytes
}

/// A lease's name and its secret.
pub(crate) fn new_lease() -> (LeaseId, Token) {
    let id = hex(&random::<16>()).parse().expect("32 hex digits");
    (id, hex(&random::<32>()).parse().expect("64 hex digits"))
}
