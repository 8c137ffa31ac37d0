//! The deployed system, with real functions and real tasks. It takes the bed and the demo's image:
//!
//! ```text
//! scripts/image import --demo && cargo build --workspace
//! tests/bed/up --tasks cargo test --workspace --test stack -- --include-ignored
//! ```

mod answers;
mod bundles;
mod cache;
mod egress;
mod failures;
mod faults;
mod first;
mod flights;
mod forty;
mod gc;
mod hits;
mod injected;
mod kills;
mod late;
mod limits;
mod names;
mod operate;
mod pins;
mod quotas;
mod regions;
mod releases;
mod roles;
mod signatures;
mod tasks;
mod throttled;
mod tokens;
mod upgrade;
mod waiting;
mod watched;
