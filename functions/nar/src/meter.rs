//! What a packed file is.

use std::io::{Sink, Write, sink};

use binplz_core::ports::Measured;
use flate2::write::GzDecoder;

use crate::Counted;

/// Looks at a packed file as it comes, in pieces of any size, and keeps nothing of it.
#[derive(Debug)]
pub struct Meter {
    packed: Counted<Sink>,
    /// `None`: it is no gzip file of one member, or unpacks to more than it may.
    unpacked: Option<GzDecoder<Counted<Sink>>>,
}

impl Meter {
    /// One that unpacks no more than `most` bytes.
    pub fn new(most: u64) -> Meter {
        let unpacked = GzDecoder::new(Counted::new(sink(), most));
        Meter { packed: Counted::new(sink(), u64::MAX), unpacked: Some(unpacked) }
    }

    /// The next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        self.packed.write_all(piece).expect("there is room for all bytes that there are");
        // What stands behind its end is an error, too: another reader might unpack that.
        if self.unpacked.as_mut().is_some_and(|unpacked| unpacked.write_all(piece).is_err()) {
            self.unpacked = None;
        }
    }

    /// What it was. Its end is a checksum of what it unpacks to.
    pub fn finish(self) -> Measured {
        let unpacked = self.unpacked.and_then(|unpacked| unpacked.finish().ok());
        Measured { packed: self.packed.content(), unpacked: unpacked.map(|unpacked| unpacked.content()) }
    }
}
