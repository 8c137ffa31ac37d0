//! A nixpkgs as it is served: the pins, the Nix that it requires, the catalogue of its names, and the served row, which makes a
//! hit one read.

pub mod catalogue;
pub mod nix_config;
pub mod nix_version;
pub mod pins;
pub mod served;
