//! What the outside sees, with the real programs and real Nix (`scripts/test` prepares both).

mod answers;
mod bad_machine;
mod flights;
mod kills;
mod names;
mod packages;
mod pins;
mod stub;
mod systems;
mod tokens;
