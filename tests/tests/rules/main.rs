//! Rules about the source tree and its texts: which way dependencies run, what the guides name, and what messages say.

mod layers;
mod map;
mod messages;
mod modules;
mod outcomes;
