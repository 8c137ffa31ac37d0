//! The databases of programs that an operator has added to pins: files beside the objects, by their content.

use std::{
    fs::File,
    io,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use binplz_core::objects::{artifact::programs_path, content::Content};

use crate::draft::Draft;

/// Stores a database of programs in a data directory for its builders. The directory's server may be running.
///
/// # Errors
/// The operating system's.
pub fn keep_programs(data: &Path, bytes: &[u8]) -> io::Result<Content> {
    let (mut draft, objects) = (Draft::new(&data.join("tmp"))?, data.join("objects"));
    draft.write(bytes)?;
    let content = Content { sha256: draft.sha256(), size: draft.size() };
    let path = programs_path(&content.sha256);
    draft.publish(&objects, &path, true)?;
    // Garbage collection waits from the last time that it was stored.
    File::open(objects.join(path))?.set_modified(UNIX_EPOCH + Duration::from_millis(binplz_clock::now().0))?;
    Ok(content)
}

/// Whether a data directory has it, complete.
pub fn has_programs(data: &Path, Content { sha256, size }: &Content) -> bool {
    data.join("objects").join(programs_path(sha256)).metadata().is_ok_and(|file| file.len() == *size)
}
