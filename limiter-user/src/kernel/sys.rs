//! The bpf(2) calls on links that aya does not make, or makes without giving the descriptor away.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    path::Path,
    thread,
    time::Duration,
};

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_link_type};

use super::{KernelError, calls};

const CGROUP: u32 = bpf_link_type::BPF_LINK_TYPE_CGROUP as u32;
const TCX: u32 = bpf_link_type::BPF_LINK_TYPE_TCX as u32;
const XDP: u32 = bpf_link_type::BPF_LINK_TYPE_XDP as u32;

/// What a link ties a program to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// A cgroup, by its id; 0 if the link was detached, because the cgroup is gone or by force.
    Cgroup {
        /// The id.
        id: u64,
        /// The hook, a `bpf_attach_type`.
        hook: u32,
    },
    /// A side of an interface, by its index; 0 if the link was detached, because the interface is
    /// gone or by force.
    Tcx {
        /// The interface.
        ifindex: u32,
        /// Which side, a `bpf_attach_type`.
        hook: u32,
    },
    /// The driver's end of an interface; 0 as above.
    Xdp {
        /// The interface.
        ifindex: u32,
    },
    /// Something that limiter makes no links to.
    Other,
}

impl Tie {
    /// Whether there is anything at the other end.
    #[must_use]
    pub fn holds(self) -> bool {
        match self {
            Self::Cgroup { id, .. } => id != 0,
            Self::Tcx { ifindex, .. } | Self::Xdp { ifindex } => ifindex != 0,
            Self::Other => false,
        }
    }
}

/// What the kernel says about a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// The link's own id.
    pub id: u32,
    /// The id of the program behind it.
    pub program_id: u32,
    /// What it is attached to.
    pub tie: Tie,
}

/// Where a link is to be attached.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A cgroup.
    Cgroup(BorrowedFd<'a>),
    /// An interface.
    Interface(u32),
}

/// Attaches `program` by a link, with the flags of that kind of link.
///
/// # Errors
///
/// What the kernel says.
pub fn link_create(
    program: BorrowedFd<'_>,
    target: Target<'_>,
    kind: bpf_attach_type,
    flags: u32,
) -> Result<OwnedFd, KernelError> {
    let mut attr = zeroed();
    attr.link_create.__bindgen_anon_1.prog_fd = fd(program.as_raw_fd())?;
    match target {
        Target::Cgroup(cgroup) => {
            attr.link_create.__bindgen_anon_2.target_fd = fd(cgroup.as_raw_fd())?;
        }
        Target::Interface(index) => attr.link_create.__bindgen_anon_2.target_ifindex = index,
    }
    attr.link_create.attach_type = kind as u32;
    attr.link_create.flags = flags;
    descriptor("BPF_LINK_CREATE", bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// Replaces the program behind a link, atomically: there is no moment without one.
///
/// # Errors
///
/// What the kernel says, for example that the program is of another type.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), KernelError> {
    let mut attr = zeroed();
    attr.link_update.link_fd = fd(link.as_raw_fd())?;
    attr.link_update.__bindgen_anon_1.new_prog_fd = fd(program.as_raw_fd())?;
    bpf("BPF_LINK_UPDATE", bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Detaches a link for everybody, whoever else holds or pinned it.
///
/// # Errors
///
/// What the kernel says.
pub fn link_detach(link: BorrowedFd<'_>) -> Result<(), KernelError> {
    let mut attr = zeroed();
    attr.link_detach.link_fd = fd(link.as_raw_fd())?;
    bpf("BPF_LINK_DETACH", bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

/// What a link is attached to.
///
/// # Errors
///
/// What the kernel says, for example that it is no link.
pub fn link_info(link: BorrowedFd<'_>) -> Result<LinkInfo, KernelError> {
    // SAFETY: zero is a valid value of every part of this structure.
    let mut info = unsafe { std::mem::zeroed::<bpf_link_info>() };
    let mut attr = zeroed();
    attr.info.bpf_fd = fd(link.as_raw_fd())?;
    attr.info.info_len = u32::try_from(size_of::<bpf_link_info>()).unwrap_or(u32::MAX);
    attr.info.info = std::ptr::from_mut(&mut info) as u64;
    bpf(
        "BPF_OBJ_GET_INFO_BY_FD",
        bpf_cmd::BPF_OBJ_GET_INFO_BY_FD,
        &mut attr,
    )?;
    // SAFETY: of the kind that the kernel says; all of them are plain integers.
    let tie = unsafe {
        match info.type_ {
            CGROUP => Tie::Cgroup {
                id: info.__bindgen_anon_1.cgroup.cgroup_id,
                hook: info.__bindgen_anon_1.cgroup.attach_type,
            },
            TCX => Tie::Tcx {
                ifindex: info.__bindgen_anon_1.tcx.ifindex,
                hook: info.__bindgen_anon_1.tcx.attach_type,
            },
            XDP => Tie::Xdp {
                ifindex: info.__bindgen_anon_1.xdp.ifindex,
            },
            _ => Tie::Other,
        }
    };
    Ok(LinkInfo {
        id: info.id,
        program_id: info.prog_id,
        tie,
    })
}

/// The programs on one side of an interface that are attached by TCX, in the order in which they
/// run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcxPrograms {
    /// Their ids.
    pub programs: Vec<u32>,
    /// The ids of their links, in the same order; 0 for those attached without one.
    pub links: Vec<u32>,
}

/// The programs that are attached to an interface by TCX.
///
/// # Errors
///
/// `EINVAL`: the kernel has no TCX (before 6.6); `ENODEV`: there is no such interface.
pub fn tcx_query(ifindex: u32, kind: bpf_attach_type) -> Result<TcxPrograms, KernelError> {
    // As many as the kernel lets attach to one side.
    let mut programs = [0_u32; 64];
    let mut links = [0_u32; 64];
    let mut attr = zeroed();
    attr.query.__bindgen_anon_1.target_ifindex = ifindex;
    attr.query.attach_type = kind as u32;
    attr.query.prog_ids = programs.as_mut_ptr() as u64;
    attr.query.link_ids = links.as_mut_ptr() as u64;
    attr.query.__bindgen_anon_2.prog_cnt = u32::try_from(programs.len()).unwrap_or(0);
    match bpf("BPF_PROG_QUERY", bpf_cmd::BPF_PROG_QUERY, &mut attr) {
        Ok(_) => {}
        // Nothing was ever attached there.
        Err(KernelError::Syscall { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => {
            return Ok(TcxPrograms::default());
        }
        Err(error) => return Err(error),
    }
    // SAFETY: the call filled this field, a plain integer.
    let count = unsafe { attr.query.__bindgen_anon_2.prog_cnt };
    let count = usize::try_from(count).unwrap_or(0).min(programs.len());
    Ok(TcxPrograms {
        programs: programs[..count].to_vec(),
        links: links[..count].to_vec(),
    })
}

/// The programs attached directly to a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupPrograms {
    /// Their ids.
    pub programs: Vec<u32>,
    /// How they are attached: `BPF_F_ALLOW_MULTI`, `BPF_F_ALLOW_OVERRIDE`, or nothing, which lets
    /// nobody else attach.
    pub flags: u32,
}

/// The programs that are attached to a cgroup itself.
///
/// # Errors
///
/// What the kernel says.
pub fn prog_query(
    cgroup: BorrowedFd<'_>,
    kind: bpf_attach_type,
) -> Result<CgroupPrograms, KernelError> {
    // As many as the kernel lets attach to one cgroup.
    let mut ids = [0_u32; 64];
    let mut attr = zeroed();
    attr.query.__bindgen_anon_1.target_fd = fd(cgroup.as_raw_fd())?;
    attr.query.attach_type = kind as u32;
    attr.query.prog_ids = ids.as_mut_ptr() as u64;
    attr.query.__bindgen_anon_2.prog_cnt = u32::try_from(ids.len()).unwrap_or(0);
    bpf("BPF_PROG_QUERY", bpf_cmd::BPF_PROG_QUERY, &mut attr)?;
    // SAFETY: the call filled these fields; both are plain integers.
    let (count, flags) = unsafe {
        (
            attr.query.__bindgen_anon_2.prog_cnt,
            attr.query.attach_flags,
        )
    };
    let count = usize::try_from(count).unwrap_or(0).min(ids.len());
    Ok(CgroupPrograms {
        programs: ids[..count].to_vec(),
        flags,
    })
}

/// Whether the kernel has TCX: attaching to an interface by links (6.6 and later). The loopback
/// interface is asked what is attached there; before that kernels do not understand the question.
///
/// # Errors
///
/// What else the kernel says.
pub fn has_tcx() -> Result<bool, KernelError> {
    const LOOPBACK: u32 = 1;
    let mut attr = zeroed();
    attr.query.__bindgen_anon_1.target_ifindex = LOOPBACK;
    attr.query.attach_type = bpf_attach_type::BPF_TCX_EGRESS as u32;
    match bpf("BPF_PROG_QUERY", bpf_cmd::BPF_PROG_QUERY, &mut attr) {
        Ok(_) => Ok(true),
        Err(KernelError::Syscall { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Pins a link, map or program at `path`.
///
/// # Errors
///
/// What the kernel says.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> Result<(), KernelError> {
    let path = c_path(path)?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = fd(object.as_raw_fd())?;
    bpf("BPF_OBJ_PIN", bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Opens what is pinned at `path`.
///
/// # Errors
///
/// What the kernel says.
pub fn open_pin(path: &Path) -> Result<OwnedFd, KernelError> {
    let path = c_path(path)?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    descriptor("BPF_OBJ_GET", bpf_cmd::BPF_OBJ_GET, &mut attr)
}

/// How long a program can take at most, where it cannot be waited for.
const LONG_ENOUGH: Duration = Duration::from_millis(50);

/// Waits until every program that runs now is done: they run as readers of RCU, and this is the
/// system call that waits for a grace period, some milliseconds. Kernels with CPUs that have no
/// tick (`nohz_full`) refuse it; there a while is waited that no program takes.
pub fn let_programs_finish() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: takes three numbers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result != 0 {
        thread::sleep(LONG_ENOUGH);
    }
}

/// Arguments that say nothing yet.
pub(super) fn zeroed() -> bpf_attr {
    // SAFETY: zero is a valid value of every part of this union of plain structures.
    unsafe { std::mem::zeroed() }
}

fn c_path(path: &Path) -> Result<CString, KernelError> {
    CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|_| KernelError::io("use", path)(io::Error::from_raw_os_error(libc::EINVAL)))
}

/// A descriptor as the arguments hold it.
///
/// # Errors
///
/// It is none.
pub(super) fn fd(raw: RawFd) -> Result<u32, KernelError> {
    u32::try_from(raw).map_err(|_| KernelError::Syscall {
        call: "bpf",
        source: io::Error::from_raw_os_error(libc::EBADF),
    })
}

fn descriptor(
    call: &'static str,
    command: bpf_cmd,
    attr: &mut bpf_attr,
) -> Result<OwnedFd, KernelError> {
    let raw = bpf(call, command, attr)?;
    let raw = RawFd::try_from(raw).map_err(|_| KernelError::Syscall {
        call,
        source: io::Error::from_raw_os_error(libc::EBADF),
    })?;
    // SAFETY: the kernel just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// The system call.
///
/// # Errors
///
/// What the kernel says.
pub(super) fn bpf(
    call: &'static str,
    command: bpf_cmd,
    attr: &mut bpf_attr,
) -> Result<i64, KernelError> {
    calls::count();
    // SAFETY: the attributes are of the right type and live until the call returns; all pointers
    // in them are null or point to memory that does so too.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            std::ptr::from_mut(attr),
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        return Err(KernelError::Syscall {
            call,
            source: io::Error::last_os_error(),
        });
    }
    Ok(result)
}
