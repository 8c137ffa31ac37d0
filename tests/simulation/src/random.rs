//! Numbers that are the same in every run (Knuth's MMIX).

/// Numbers of which the next follows from the last.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// One of those below `most`.
    pub(crate) fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % most
    }
}
