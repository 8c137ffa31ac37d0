//! What is signed and logged: the log's two writers, their deaths, and other people's readers and test vectors.

mod log;
mod vectors;
