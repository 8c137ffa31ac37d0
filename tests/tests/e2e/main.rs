//! What the outside sees, with the real programs and real Nix (`scripts/test` prepares both).

mod bad_machine;
mod failures;
mod flights;
mod hostile;
mod kills;
mod packages;
mod stub;
mod tokens;
