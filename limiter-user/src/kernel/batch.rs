//! Many entries of a map in one call, where the kernel has that for its kind of map; where it has
//! not, whoever calls goes on one by one.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use aya::Pod;
use aya_obj::generated::bpf_cmd;

use super::{KernelError, sys};

/// How many entries one call takes: the kernel can be interrupted between them, the agent cannot.
const AT_ONCE: usize = 1 << 16;
/// What kernels say that have the call and not for this kind of map.
const ENOTSUPP: i32 = 524;

/// For tests: as on a kernel without calls for many entries.
const NO_BATCH: &str = "LIMITER_TEST_NO_BATCH";

/// What came of a call.
enum Answer {
    /// All was done.
    Done,
    /// So many were done, then the kernel said this.
    Stopped(usize, io::Error),
}

/// Sets entries. `Ok(false)`: this kernel cannot do it for such a map, and nothing was written.
///
/// # Errors
///
/// What the kernel says, such as that the map is full; what comes before in `keys` is written.
pub fn update<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> Result<bool, KernelError> {
    if is_left_out() {
        return Ok(false);
    }
    let mut first = true;
    for (keys, values) in keys.chunks(AT_ONCE).zip(values.chunks(AT_ONCE)) {
        // SAFETY: the kernel reads `count` entries of both.
        let answer = unsafe {
            call(
                bpf_cmd::BPF_MAP_UPDATE_BATCH,
                map,
                keys.as_ptr() as u64,
                values.as_ptr() as u64,
                keys.len().min(values.len()),
            )
        }?;
        match answer {
            Answer::Done => {}
            Answer::Stopped(_, error) if first && is_missing(&error) => return Ok(false),
            Answer::Stopped(_, error) => return Err(failed("BPF_MAP_UPDATE_BATCH", error)),
        }
        first = false;
    }
    Ok(true)
}

/// Removes entries; it is no fault if some are not there. `Ok(false)`: as in [`update`].
///
/// # Errors
///
/// What the kernel says; what comes before in `keys` is removed.
pub fn remove<K: Pod>(map: BorrowedFd<'_>, keys: &[K]) -> Result<bool, KernelError> {
    if is_left_out() {
        return Ok(false);
    }
    let mut first = true;
    for keys in keys.chunks(AT_ONCE) {
        let mut left = keys;
        while !left.is_empty() {
            // SAFETY: the kernel reads `count` keys.
            let answer = unsafe {
                call(
                    bpf_cmd::BPF_MAP_DELETE_BATCH,
                    map,
                    left.as_ptr() as u64,
                    0,
                    left.len(),
                )
            }?;
            match answer {
                Answer::Done => break,
                Answer::Stopped(done, error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    left = left.get(done + 1..).unwrap_or_default();
                }
                Answer::Stopped(_, error) if first && is_missing(&error) => return Ok(false),
                Answer::Stopped(_, error) => return Err(failed("BPF_MAP_DELETE_BATCH", error)),
            }
        }
        first = false;
    }
    Ok(true)
}

/// All entries of a map that nobody else changes meanwhile. `None`: this kernel cannot do it for
/// such a map.
///
/// # Errors
///
/// What the kernel says.
pub fn read<K: Pod, V: Pod>(map: BorrowedFd<'_>) -> Result<Option<Vec<(K, V)>>, KernelError> {
    if is_left_out() {
        return Ok(None);
    }
    // SAFETY: plain old data may be all zeros.
    let zero = unsafe { std::mem::zeroed::<(K, V)>() };
    let (mut keys, mut values) = (vec![zero.0; AT_ONCE], vec![zero.1; AT_ONCE]);
    let mut found = Vec::new();
    let mut cursor: Option<K> = None;
    loop {
        let mut next = zero.0;
        let mut attr = sys::zeroed();
        attr.batch.map_fd = sys::fd(map.as_raw_fd())?;
        attr.batch.in_batch = cursor
            .as_ref()
            .map_or(0, |at| std::ptr::from_ref(at) as u64);
        attr.batch.out_batch = std::ptr::from_mut(&mut next) as u64;
        attr.batch.keys = keys.as_mut_ptr() as u64;
        attr.batch.values = values.as_mut_ptr() as u64;
        attr.batch.count = u32::try_from(AT_ONCE).unwrap_or(0);
        // The pointers are to memory of the sizes that the map has, and live until it returns.
        let answer = sys::bpf(
            "BPF_MAP_LOOKUP_BATCH",
            bpf_cmd::BPF_MAP_LOOKUP_BATCH,
            &mut attr,
        );
        let end = match answer {
            Ok(_) => false,
            Err(KernelError::Syscall { source, .. })
                if source.raw_os_error() == Some(libc::ENOENT) =>
            {
                true
            }
            Err(KernelError::Syscall { source, .. }) if cursor.is_none() && is_missing(&source) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        // SAFETY: a plain integer, which the call filled.
        let count = usize::try_from(unsafe { attr.batch.count }).unwrap_or(0);
        let read = keys.iter().copied().zip(values.iter().copied());
        found.extend(read.take(count));
        if end {
            return Ok(Some(found));
        }
        cursor = Some(next);
    }
}

/// # Safety
///
/// `keys` and `values` are null or point to `count` entries of the map's sizes.
unsafe fn call(
    command: bpf_cmd,
    map: BorrowedFd<'_>,
    keys: u64,
    values: u64,
    count: usize,
) -> Result<Answer, KernelError> {
    let mut attr = sys::zeroed();
    attr.batch.map_fd = sys::fd(map.as_raw_fd())?;
    attr.batch.keys = keys;
    attr.batch.values = values;
    attr.batch.count = u32::try_from(count).unwrap_or(0);
    match sys::bpf("BPF_MAP_BATCH", command, &mut attr) {
        Ok(_) => Ok(Answer::Done),
        Err(KernelError::Syscall { source, .. }) => {
            // SAFETY: a plain integer, which the call filled.
            let done = usize::try_from(unsafe { attr.batch.count }).unwrap_or(0);
            Ok(Answer::Stopped(done, source))
        }
        Err(error) => Err(error),
    }
}

fn is_left_out() -> bool {
    std::env::var_os(NO_BATCH).is_some()
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(ENOTSUPP | libc::EOPNOTSUPP | libc::EINVAL)
    )
}

fn failed(call: &'static str, source: io::Error) -> KernelError {
    KernelError::Syscall { call, source }
}
