//! Presentation: answers with their status, headers and body, problems, pages, and the stub. HTTP is known here only.

pub mod asked;
pub(crate) mod guess;
pub mod outcomes;
pub mod page;
pub mod problem;
pub mod reply;
pub mod source;
pub mod stub;
