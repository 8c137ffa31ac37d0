//! Bundles, with the launcher as it is shipped: what their programs see, where they run, and what becomes of an interrupted start.
//! Roots and users other than the test's own take root.

mod aarch64;
mod cache;
mod container;
mod fixture;
mod format;
mod hostile;
mod starts;
mod terminal;
