//! The key that signs.

use std::{
    fs::OpenOptions,
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use nix::unistd::Uid;

/// The shortest key, in bytes.
const SHORTEST: usize = 16;
/// The longest, in bytes.
const LONGEST: u64 = 4_096;

/// The key in `file`, without the end of its line.
///
/// # Errors
/// When the file cannot be read, others than its owner can, or it is no decent key.
pub(in crate::notice) fn read(file: &Path) -> Result<Vec<u8>, String> {
    let name = file.display();
    let wrong = |what: &str| format!("notices.webhook.key_file: {name} {what}");
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(file);
    let opened = opened.map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    let meta = opened
        .metadata()
        .map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    if !meta.is_file() {
        return Err(wrong("is not a file"));
    }
    if ![0, Uid::effective().as_raw()].contains(&meta.uid()) {
        return Err(wrong("belongs to somebody else; chown root"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(wrong("can be read by others; chmod 600"));
    }
    let mut key = Vec::new();
    opened
        .take(LONGEST + 1)
        .read_to_end(&mut key)
        .map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    while key.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        key.pop();
    }
    match key.len() {
        length if length < SHORTEST => Err(wrong("holds less than 16 bytes: that is no key")),
        length if length as u64 > LONGEST => Err(wrong("holds more than 4096 bytes")),
        _ => Ok(key),
    }
}
