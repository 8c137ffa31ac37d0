//! Billing: the price list, the price of a build, and the bill of a month.

pub mod bill;
pub mod cost;
pub mod prices;
pub mod traffic;
