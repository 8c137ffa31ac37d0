//! The catalogue's promises, tested on the two files alone.

mod ask;
mod damage;
mod properties;
mod search;
mod set;
mod table;
mod words;
