//! Packs a file.

use std::io::{self, Write};

use binplz_core::objects::content::Content;
use flate2::{Compression, write::GzEncoder};

use crate::Counted;

/// Compresses what is written to it into `to`. The same content makes the same file.
#[derive(Debug)]
pub struct Packer<W: Write>(Counted<GzEncoder<Counted<W>>>);

impl<W: Write> Packer<W> {
    /// Packs into `to`, at most `most` bytes.
    pub fn new(to: W, most: u64) -> Packer<W> {
        // Twice as fast as the default level for a tenth more bytes: a build waits for this, and the file is read over
        // a fast network.
        Packer(Counted::new(GzEncoder::new(Counted::new(to, most), Compression::new(4)), u64::MAX))
    }

    /// Ends the file. Returns the measures of the packed and of the unpacked content.
    ///
    /// # Errors
    /// The error of `to`; [`io::ErrorKind::FileTooLarge`], also from each write, if the result would exceed the limit.
    pub fn finish(self) -> io::Result<(Content, Content)> {
        let nar = self.0.content();
        let mut packed = self.0.to.finish()?;
        packed.flush()?;
        Ok((packed.content(), nar))
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
