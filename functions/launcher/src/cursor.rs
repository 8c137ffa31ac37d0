//! Bytes from a stranger, taken one by one.

use crate::read::ReadError;

/// Whether `text` holds no character that would change a terminal.
pub(crate) fn plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// What is left to be read.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], ReadError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(ReadError::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        self.take(N)?.try_into().map_err(|_| ReadError::Malformed("it ends too early"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, ReadError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, ReadError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ReadError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, ReadError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Bytes after their number.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], ReadError> {
        let length = self.u16()?;
        self.take(length.into())
    }

    pub(crate) fn text(&mut self) -> Result<String, ReadError> {
        let text = str::from_utf8(self.bytes()?).map_err(|_| ReadError::Malformed("a text is not UTF-8"))?;
        Ok(text.to_owned())
    }

    /// A list after its length. `least` is the size of the smallest item: memory is only reserved for what can be there.
    pub(crate) fn list<T>(
        &mut self,
        least: usize,
        mut item: impl FnMut(&mut Self, &[T]) -> Result<T, ReadError>,
    ) -> Result<Vec<T>, ReadError> {
        let length = self.u32()? as usize;
        if length > self.0.len() / least {
            return Err(ReadError::Malformed("a list is longer than the manifest"));
        }
        let mut list = Vec::with_capacity(length);
        for _ in 0..length {
            let next = item(self, &list)?;
            list.push(next);
        }
        Ok(list)
    }
}
