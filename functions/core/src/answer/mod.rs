//! Presentation: answers (status, headers and body), problems, pages, and the stub. Only this module knows HTTP.

pub mod asked;
pub(crate) mod guess;
pub mod outcomes;
pub mod page;
pub mod problem;
pub mod reply;
pub mod source;
pub mod stub;
