//! The served Nixpkgs: pins, the required version of Nix, the catalogue of names, and the served row, with which a hit is one read.

pub mod catalogue;
pub mod nix_config;
pub mod nix_version;
pub mod pins;
pub mod served;
