//! What the catalogue promises, over the two files and nothing else.

mod ask;
mod damage;
mod properties;
mod set;
mod table;
