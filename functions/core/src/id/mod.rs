//! Small values that their constructors validate once: names, targets, keys, instants, and text that is safe to show.

pub mod key;
pub mod money;
pub mod shell;
pub mod target;
pub mod text;
pub mod time;
pub mod wait;
