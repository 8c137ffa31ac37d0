//! Quotas: what may run, be spent, stored and served at most. Slots and the month's budget, allowances of clients and API keys, the egress ceiling, pauses.

pub mod client;
pub mod limits;
