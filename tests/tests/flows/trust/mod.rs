//! What is signed and logged: the log's two writers, their deaths, the documents on a build, and other people's readers and test vectors.

mod documents;
mod log;
mod vectors;
