//! Small values, validated once, in their constructors: names, targets, keys, instants, text that is safe to show.

pub mod key;
pub mod money;
pub mod shell;
pub mod target;
pub mod text;
pub mod time;
pub mod wait;
