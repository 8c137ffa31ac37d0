//! The price file: what is accepted has finite prices that grow with what is counted.

use binplz_core::billing::prices::{Machine, PriceList};

use crate::input::text;

pub(crate) fn check(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Ok(prices) = text.parse::<PriceList>() else { return };
    assert_eq!(text.parse::<PriceList>().as_ref(), Ok(&prices));
    let json: serde_json::Value = serde_json::from_str(text).expect("it was read as JSON");
    assert_eq!(json["region"], prices.stand.region.as_str());
    for price in [&prices.fargate_vcpu, &prices.egress, &prices.s3_gets, &prices.lambda_time, &prices.dynamodb_reads] {
        let of = |count| price.of(count);
        for count in [0, 1, 999, 10_000_000_000, u64::MAX / 2] {
            assert!(of(count) <= of(count + 1) && of(count) <= of(u64::MAX), "{price:?}");
        }
        assert_eq!(of(0).micros().0, 0);
        assert!(of(10) <= of(5) + of(5) + of(1) || of(5) <= of(10), "{price:?}");
    }
    for machine in [Machine::X86, Machine::Arm, Machine::Spot] {
        prices.task(machine);
    }
}
