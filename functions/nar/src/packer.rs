//! How a file is packed.

use std::io::{self, Write};

use binplz_core::objects::narinfo::Content;
use flate2::{Compression, write::GzEncoder};

use crate::Counted;

/// Packs what is written to it into `to`. The same content makes the same file.
#[derive(Debug)]
pub struct Packer<W: Write>(Counted<GzEncoder<Counted<W>>>);

impl<W: Write> Packer<W> {
    /// Packs into `to`, which may come to `most` bytes.
    pub fn new(to: W, most: u64) -> Packer<W> {
        // Twice as fast as the usual level, and a tenth larger: somebody waits for this, and it is read on a fast line.
        Packer(Counted::new(GzEncoder::new(Counted::new(to, most), Compression::new(4)), u64::MAX))
    }

    /// Ends it; what came out, and what went in.
    ///
    /// # Errors
    /// What `to` says; [`io::ErrorKind::FileTooLarge`], also of each write, where it would come to more than it may.
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
