//! Presentation: the only place where the words that users read are made. Replies with their status and headers, problems, pages, shell scripts.

pub mod page;
pub mod problem;
pub mod reply;
pub mod shell;
pub mod stub;
