//! What binplz is, without any I/O. Read in this order.
#![warn(missing_docs)]

pub mod artifact;
pub mod failure;
pub mod key;
pub mod protocol;
