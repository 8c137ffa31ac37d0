//! What the catalogue promises, over the two files and nothing else.

mod ask;
mod damage;
mod properties;
mod search;
mod set;
mod table;
