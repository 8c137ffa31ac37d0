//! Quotas: limits on builds, money, storage and downloads. Slots, the month's budget, the allowances of clients and API keys, the egress
//! ceiling, and pauses.

pub mod client;
pub mod limits;
