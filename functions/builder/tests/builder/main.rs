//! The builder as it is started for real: real Nix, a real child process, a lease endpoint that fails on demand.

mod support;

mod resume;
mod work;

mod needs;

mod failures;
mod network;

mod cache;
mod rounds;

mod machine;
