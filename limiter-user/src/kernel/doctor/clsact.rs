//! Whether programs can be attached to interfaces without TCX: by a clsact qdisc and a bpf filter.
//! Tried in a network namespace of its own, which is gone afterwards.

use std::{io, os::fd::AsRawFd as _, thread};

use aya::programs::tc;
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv,
        send, socket,
    },
};

/// The loopback interface, the first of every namespace.
const LOOPBACK: i32 = 1;

/// Tries both.
///
/// # Errors
/// What the kernel says of the part that it lacks.
pub(super) fn try_it() -> io::Result<()> {
    try_with(c"bpf")
}

fn try_with(filter: &'static std::ffi::CStr) -> io::Result<()> {
    let body = move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        tc::qdisc_add_clsact("lo").map_err(io::Error::other)?;
        has_filter(filter)
    };
    let tried = thread::Builder::new().spawn(body)?.join();
    tried.unwrap_or_else(|_| Err(io::Error::other("the thread that tried it failed")))
}

/// Asks for a filter of this kind without saying which program: a kernel that has the kind says
/// that the request makes no sense, another that there is no such kind.
fn has_filter(kind: &std::ffi::CStr) -> io::Result<()> {
    const NLM_F_REQUEST_ACK_CREATE: u16 = 0x1 | 0x4 | 0x400;
    /// What comes in, of a clsact qdisc.
    const INGRESS: u32 = 0xffff_fff2;
    // Priority 1, every protocol (in network order).
    let info = 1_u32 << 16 | u32::from(3_u16.to_be());
    let mut message = Vec::new();
    message.extend(0_u32.to_ne_bytes());
    message.extend(libc::RTM_NEWTFILTER.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK_CREATE.to_ne_bytes());
    message.extend([0; 8]);
    // struct tcmsg
    message.extend([0; 4]);
    message.extend(LOOPBACK.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(INGRESS.to_ne_bytes());
    message.extend(info.to_ne_bytes());
    // TCA_KIND
    let kind = kind.to_bytes_with_nul();
    let length = u16::try_from(4 + kind.len()).unwrap_or(u16::MAX);
    message.extend(length.to_ne_bytes());
    message.extend(1_u16.to_ne_bytes());
    message.extend(kind);
    message.resize(message.len().next_multiple_of(4), 0);
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    message[..4].copy_from_slice(&length.to_ne_bytes());

    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    connect(netlink.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    send(netlink.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 4096];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let code = answer[..length]
        .get(16..20)
        .and_then(|code| code.try_into().ok());
    match code.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) if code == -(Errno::EINVAL as i32) => Ok(()),
        Some(code) => Err(io::Error::other(format!(
            "no bpf filters: {}",
            io::Error::from_raw_os_error(code.saturating_neg())
        ))),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_filter_that_there_is_not_is_told_from_one_that_there_is() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not tested, only root can: a network namespace of its own");
            return;
        }
        try_it().unwrap();
        let error = try_with(c"nosuch").unwrap_err();
        assert!(error.to_string().contains("no bpf filters"), "{error}");
        // Nothing stays behind: it was in a namespace of its own.
        let output = std::process::Command::new("tc")
            .args(["qdisc", "show", "dev", "lo"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.contains("clsact"), "{text}");
    }
}
