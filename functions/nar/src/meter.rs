//! Measures a packed file.

use std::io::{Sink, Write, sink};

use binplz_core::objects::stored::Measured;
use flate2::write::GzDecoder;

use crate::Counted;

/// Measures a packed file that arrives in pieces of any size, and stores none of it.
#[derive(Debug)]
pub struct Meter {
    packed: Counted<Sink>,
    /// `None`: the file is not one gzip member, or unpacks to more than the limit.
    unpacked: Option<GzDecoder<Counted<Sink>>>,
}

impl Meter {
    /// A meter that unpacks at most `most` bytes.
    pub fn new(most: u64) -> Meter {
        let unpacked = GzDecoder::new(Counted::new(sink(), most));
        Meter { packed: Counted::new(sink(), u64::MAX), unpacked: Some(unpacked) }
    }

    /// Feeds the next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        self.packed.write_all(piece).expect("there is room for all bytes that there are");
        // Bytes after the end of the member are an error too: another reader might unpack them.
        if self.unpacked.as_mut().is_some_and(|unpacked| unpacked.write_all(piece).is_err()) {
            self.unpacked = None;
        }
    }

    /// Ends the measurement. The file's end holds a checksum of the unpacked content.
    pub fn finish(self) -> Measured {
        let unpacked = self.unpacked.and_then(|unpacked| unpacked.finish().ok());
        Measured { packed: self.packed.content(), unpacked: unpacked.map(|unpacked| unpacked.content()) }
    }
}
