//! `binplz-builder`.
fn main() {}
