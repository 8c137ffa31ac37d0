//! What the outside sees, with the real programs and real Nix (`scripts/test` prepares both).

mod answers;
mod archives;
mod bad_machine;
mod cache;
mod channels;
mod clients;
mod connections;
mod continued;
mod damage;
mod disk;
mod egress;
mod estimates;
mod failures;
mod flights;
mod forty;
mod hosts;
mod kills;
mod limits;
mod logging;
mod names;
mod operate;
mod packages;
mod pages;
mod pins;
mod systems;
mod tokens;
