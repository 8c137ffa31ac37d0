//! Presentation: the only place where the words that users read are made. Replies with their status and headers, problems, pages, shell scripts.

pub mod asked;
pub mod page;
pub mod problem;
pub mod reply;
pub mod stub;
