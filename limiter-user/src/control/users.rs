//! The system's names of users and groups.

use std::{ffi::CStr, io, mem::MaybeUninit, ptr};

/// More than any entry needs; a group with thousands of members can be long.
const LONGEST_ENTRY: usize = 1 << 20;

/// The name of the user `uid`, if the system knows one. May ask a directory service.
pub fn user_name(uid: u32) -> Option<String> {
    lookup(|buffer| {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found = ptr::null_mut();
        // SAFETY: every pointer is valid for the call, and the length is the buffer's.
        let code = unsafe {
            libc::getpwuid_r(
                uid,
                entry.as_mut_ptr(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &raw mut found,
            )
        };
        if code != 0 || found.is_null() {
            return Err(code);
        }
        // SAFETY: found is not null, so the entry is filled in and its name is a C string in the
        // buffer, which still lives.
        let name = unsafe { CStr::from_ptr((*found).pw_name) };
        Ok(name.to_string_lossy().into_owned())
    })
}

/// The id of the group `name`, if there is one.
pub fn group_id(name: &CStr) -> Option<u32> {
    lookup(|buffer| {
        let mut entry = MaybeUninit::<libc::group>::uninit();
        let mut found = ptr::null_mut();
        // SAFETY: every pointer is valid for the call, and the length is the buffer's.
        let code = unsafe {
            libc::getgrnam_r(
                name.as_ptr(),
                entry.as_mut_ptr(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &raw mut found,
            )
        };
        if code != 0 || found.is_null() {
            return Err(code);
        }
        // SAFETY: found is not null, so the entry is filled in.
        Ok(unsafe { (*found).gr_gid })
    })
}

/// Asks with larger and larger buffers, until the entry fits.
fn lookup<T>(mut ask: impl FnMut(&mut [u8]) -> Result<T, i32>) -> Option<T> {
    let mut buffer = vec![0; 4096];
    loop {
        match ask(&mut buffer) {
            Ok(value) => return Some(value),
            Err(libc::ERANGE) if buffer.len() < LONGEST_ENTRY => {
                buffer.resize(buffer.len() * 4, 0);
            }
            Err(0 | libc::ENOENT | libc::ESRCH) => return None,
            Err(code) => {
                let error = io::Error::from_raw_os_error(code);
                log::debug!("cannot look a name up: {error}");
                return None;
            }
        }
    }
}
