//! The ties between programs and places: making one, taking over an earlier agent's, looking
//! whether it holds, letting it go.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use aya_obj::generated::{
    BPF_F_BEFORE, XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE,
    bpf_attach_type::{self, BPF_TCX_EGRESS, BPF_TCX_INGRESS, BPF_XDP},
};
use log::{debug, warn};

use super::{
    How, Side,
    clsact::{self, Discipline, Where},
    netlink::Netlink,
    place::{Duty, Key, Task, UNFINISHED, Way, discipline_pin},
};
use crate::kernel::{
    KernelError,
    pins::Pins,
    sys::{self, Target, Tie},
};

/// What it takes to attach.
#[derive(Debug)]
pub struct Tools<'a> {
    pub pins: &'a Pins,
    pub netlink: Netlink,
    cgroup: PathBuf,
}

impl<'a> Tools<'a> {
    /// For things pinned there, cgroup programs at `cgroup`, and the interfaces of the network
    /// namespace of this thread.
    pub fn new(pins: &'a Pins, cgroup: &Path) -> Result<Self, KernelError> {
        Ok(Self {
            pins,
            netlink: Netlink::open().map_err(netlink_error("open netlink"))?,
            cgroup: cgroup.to_owned(),
        })
    }
}

/// Something pinned, and held: whoever removes the pin takes nothing away.
#[derive(Debug)]
pub struct Keepsake {
    fd: OwnedFd,
    path: PathBuf,
    /// Device and inode of the pin; none if it could not be pinned.
    stamp: Option<(u64, u64)>,
}

impl Keepsake {
    /// What is pinned at `path` now, opened.
    ///
    /// # Errors
    ///
    /// There is nothing.
    pub fn open(path: PathBuf) -> Result<Self, KernelError> {
        let fd = sys::open_pin(&path)?;
        let stamp = stamp(&path);
        Ok(Self { fd, path, stamp })
    }

    /// Pins `fd` at `path`, in the place of what is pinned there; holds it also if that fails.
    fn pin(fd: OwnedFd, path: PathBuf) -> Self {
        let mut keepsake = Self {
            fd,
            path,
            stamp: None,
        };
        if let Err(error) = keepsake.pin_again() {
            warn!("held by the agent only: {error}");
        }
        keepsake
    }

    /// Pins it again if somebody took the pin away or put something else in its place. Says
    /// whether that was so.
    ///
    /// # Errors
    ///
    /// It cannot be pinned; it holds as long as this process.
    pub fn keep(&mut self) -> Result<bool, KernelError> {
        if self.stamp.is_some() && stamp(&self.path) == self.stamp {
            return Ok(false);
        }
        self.pin_again()?;
        Ok(true)
    }

    /// In the place of what is pinned there, without a moment between.
    fn pin_again(&mut self) -> Result<(), KernelError> {
        let mut beside = self.path.as_os_str().to_owned();
        beside.push(UNFINISHED);
        let beside = PathBuf::from(beside);
        if beside.exists() {
            fs::remove_file(&beside).map_err(KernelError::io("remove", &beside))?;
        }
        sys::pin(self.fd.as_fd(), &beside)?;
        fs::rename(&beside, &self.path).map_err(KernelError::io("pin", &self.path))?;
        self.stamp = stamp(&self.path);
        Ok(())
    }
}

fn stamp(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// A tie that this agent holds.
#[derive(Debug)]
pub enum Held {
    Link(Keepsake, Way, u32),
    Filter {
        at: Where,
        handle: u32,
        priority: u16,
        name: &'static str,
        note: Option<String>,
    },
}

/// How a tie was found.
#[derive(Debug)]
pub enum Look {
    Holds,
    /// It holds as long as the agent runs.
    HoldsUnpinned(String),
    /// It holds again: what somebody had done.
    Repaired(&'static str),
    /// Nothing is there any more.
    Lost,
}

/// A tie that was just made.
#[derive(Debug)]
pub struct Attached {
    pub held: Held,
    pub how: How,
    /// Whether it was an earlier agent's.
    pub adopted: bool,
}

/// A program and its id.
type Program<'a> = (BorrowedFd<'a>, u32);

impl Way {
    /// Attaches a program this way, or takes over an earlier agent's attachment.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn attach(
        self,
        tools: &mut Tools<'_>,
        task: &Task,
        program: Program<'_>,
    ) -> Result<Attached, KernelError> {
        if let Self::Clsact { side, .. } = self {
            return self.attach_filter(tools, task.key, side, program);
        }
        let Some(name) = self.pin_name(task.key) else {
            return Err(KernelError::NoWay {
                target: task.target.clone(),
            });
        };
        let path = tools.pins.link(&name);
        let (target, index) = match self {
            Self::Cgroup { .. } => {
                let cgroup = File::open(&tools.cgroup)
                    .map_err(KernelError::io("open the cgroup", &tools.cgroup))?;
                (Some(cgroup), 0)
            }
            _ => (None, task.key.index),
        };
        let cgroup_id = match &target {
            Some(cgroup) => {
                let metadata = cgroup.metadata();
                metadata
                    .map_err(KernelError::io("look at", &tools.cgroup))?
                    .ino()
            }
            None => 0,
        };
        let earlier = std::iter::once(path.clone()).chain(
            tools
                .pins
                .other_versions()
                .into_iter()
                .map(|version| version.join("links").join(&name)),
        );
        // The connect programs of another version judge until ours do: two links, for a moment.
        let earlier = earlier.take(if target.is_some() { 1 } else { usize::MAX });
        for pin in earlier {
            if !pin.exists() {
                continue;
            }
            let Ok(found) = Keepsake::open(pin.clone()) else {
                continue;
            };
            if !self.is_tied_by(found.fd.as_fd(), index, cgroup_id) {
                continue;
            }
            sys::link_update(found.fd.as_fd(), program.0)?;
            let keepsake = if pin == path {
                found
            } else {
                Keepsake::pin(found.fd, path)
            };
            return Ok(Attached {
                held: Held::Link(keepsake, self, index),
                how: self.how(),
                adopted: true,
            });
        }
        let (target, flags) = match &target {
            Some(cgroup) => (Target::Cgroup(cgroup.as_fd()), 0),
            None => (Target::Interface(index), self.flags()),
        };
        let link = sys::link_create(program.0, target, self.hook(), flags)?;
        Ok(Attached {
            held: Held::Link(Keepsake::pin(link, path), self, index),
            how: self.how(),
            adopted: false,
        })
    }

    /// Whether a link ties to this very place, here and now.
    fn is_tied_by(self, link: BorrowedFd<'_>, index: u32, cgroup_id: u64) -> bool {
        let Ok(info) = sys::link_info(link) else {
            return false;
        };
        match info.tie {
            // The interface of that number may be one of another network namespace.
            Tie::Tcx { .. } => {
                self.fits(info.tie, index)
                    && sys::tcx_query(index, self.hook())
                        .is_ok_and(|found| found.links.contains(&info.id))
            }
            Tie::Cgroup { id, .. } => self.fits(info.tie, 0) && id == cgroup_id,
            tie => self.fits(tie, index),
        }
    }

    /// Whether a tie is one of this kind, to this interface.
    fn fits(self, tie: Tie, index: u32) -> bool {
        match tie {
            Tie::Cgroup { hook, .. } => tie.holds() && hook == self.hook() as u32,
            Tie::Tcx { ifindex, hook } => {
                ifindex != 0 && ifindex == index && hook == self.hook() as u32
            }
            Tie::Xdp { ifindex } => {
                ifindex != 0 && ifindex == index && matches!(self, Self::Xdp { .. })
            }
            Tie::Other => false,
        }
    }

    const fn hook(self) -> bpf_attach_type {
        match self {
            Self::Cgroup { hook, .. } => hook,
            Self::Tcx { side, .. } | Self::Clsact { side, .. } => tcx_hook(side),
            Self::Xdp { .. } => BPF_XDP,
        }
    }

    const fn flags(self) -> u32 {
        match self {
            // First of all: others may end the chain, or send the packet elsewhere.
            Self::Tcx { .. } => BPF_F_BEFORE,
            Self::Xdp { generic: false, .. } => XDP_FLAGS_DRV_MODE,
            Self::Xdp { generic: true, .. } => XDP_FLAGS_SKB_MODE,
            Self::Cgroup { .. } | Self::Clsact { .. } => 0,
        }
    }

    fn attach_filter(
        self,
        tools: &mut Tools<'_>,
        key: Key,
        side: Side,
        program: Program<'_>,
    ) -> Result<Attached, KernelError> {
        let at = Where {
            ifindex: key.index,
            side,
        };
        let netlink = &mut tools.netlink;
        let failed = netlink_error;
        match clsact::discipline(netlink, at.ifindex).map_err(failed("look for clsact"))? {
            Discipline::Clsact => {}
            Discipline::IngressOnly if side == Side::Ingress => {}
            Discipline::IngressOnly => {
                return Err(KernelError::NoRoomAt {
                    ifindex: at.ifindex,
                });
            }
            Discipline::None => {
                clsact::make_discipline(netlink, at.ifindex).map_err(failed("add clsact"))?;
                let marker = tools.pins.link(&discipline_pin(at.ifindex));
                if !marker.exists()
                    && let Err(error) = sys::pin(program.0, &marker)
                {
                    debug!("{error}: the discipline will stay when limiter goes");
                }
            }
        }
        let handle = clsact::handle(tools.pins.root(), key.duty.of_filter());
        let others = clsact::filters(netlink, at).map_err(failed("list filters"))?;
        let earlier = others
            .iter()
            .find(|filter| filter.handle == handle && filter.is_limiter());
        let adopted = earlier.is_some();
        let priority = match earlier {
            Some(filter) => filter.priority,
            None => clsact::first_room(&others),
        };
        let name = self.program();
        clsact::put(netlink, at, handle, priority, name, program.0)
            .map_err(failed("add a filter"))?;
        let note = others
            .iter()
            .find(|filter| filter.priority < priority)
            .map(|filter| {
                format!(
                    "a {} filter of somebody else comes first, and may keep packets from limiter",
                    filter.kind
                )
            });
        Ok(Attached {
            held: Held::Filter {
                at,
                handle,
                priority,
                name,
                note,
            },
            how: How::Clsact,
            adopted,
        })
    }
}

impl Duty {
    const fn of_filter(self) -> clsact::Duty {
        match self {
            Self::Guest => clsact::Duty::Guest,
            Self::Uplink => clsact::Duty::Uplink,
            _ => clsact::Duty::Edge,
        }
    }
}

impl Held {
    /// What is worth knowing about it.
    pub fn note(&self) -> Option<String> {
        match self {
            Self::Link(..) => None,
            Self::Filter { note, .. } => note.clone(),
        }
    }

    /// Where its link is pinned.
    pub fn pin(&self) -> Option<&Path> {
        match self {
            Self::Link(keepsake, ..) => Some(&keepsake.path),
            Self::Filter { .. } => None,
        }
    }

    /// Which filter it is.
    pub const fn filter(&self) -> Option<(Where, u32)> {
        match self {
            Self::Link(..) => None,
            Self::Filter { at, handle, .. } => Some((*at, *handle)),
        }
    }

    /// Looks whether it holds with this program behind it, and mends what can be mended.
    ///
    /// # Errors
    ///
    /// The kernel does not say, or refuses.
    pub fn look(
        &mut self,
        tools: &mut Tools<'_>,
        (program, id): Program<'_>,
    ) -> Result<Look, KernelError> {
        match self {
            Self::Link(keepsake, way, index) => {
                let info = sys::link_info(keepsake.fd.as_fd())?;
                if !way.fits(info.tie, *index) {
                    return Ok(Look::Lost);
                }
                let replaced = info.program_id != id;
                if replaced {
                    sys::link_update(keepsake.fd.as_fd(), program)?;
                }
                let was_pinned = keepsake.stamp.is_some();
                Ok(match keepsake.keep() {
                    Err(error) => Look::HoldsUnpinned(format!(
                        "it holds only as long as the agent runs: {error}"
                    )),
                    Ok(_) if replaced => Look::Repaired("replaced the program of"),
                    Ok(true) if was_pinned => Look::Repaired("removed the pin of"),
                    Ok(_) => Look::Holds,
                })
            }
            Self::Filter {
                at,
                handle,
                priority,
                name,
                ..
            } => {
                let netlink = &mut tools.netlink;
                let behind = clsact::program_behind(netlink, *at, *handle, *priority)
                    .map_err(netlink_error("look for a filter"))?;
                match behind {
                    Some(behind) if behind == id => Ok(Look::Holds),
                    Some(_) => {
                        clsact::put(netlink, *at, *handle, *priority, name, program)
                            .map_err(netlink_error("replace a filter"))?;
                        Ok(Look::Repaired("replaced the program of"))
                    }
                    None => Ok(Look::Lost),
                }
            }
        }
    }

    /// Whether it holds, without touching it.
    pub fn holds(&self) -> bool {
        match self {
            Self::Link(keepsake, way, index) => {
                sys::link_info(keepsake.fd.as_fd()).is_ok_and(|info| way.fits(info.tie, *index))
            }
            Self::Filter {
                at,
                handle,
                priority,
                ..
            } => Netlink::open()
                .and_then(|mut netlink| {
                    clsact::program_behind(&mut netlink, *at, *handle, *priority)
                })
                .is_ok_and(|behind| behind.is_some()),
        }
    }

    /// Takes it away.
    pub fn release(self, tools: &mut Tools<'_>) {
        match self {
            Self::Link(keepsake, ..) => {
                remove_pin(&keepsake.path);
                // Somebody else may have pinned it too. Gone with its interface: nothing to do.
                let _ = sys::link_detach(keepsake.fd.as_fd());
            }
            Self::Filter {
                at,
                handle,
                priority,
                ..
            } => remove_filter(tools, at, handle, priority),
        }
    }
}

/// Takes away what an earlier agent had attached for the same purpose in another way.
pub fn drop_other_ways(tools: &mut Tools<'_>, task: &Task, held: &Held) {
    for way in &task.ways {
        if let Some(name) = way.pin_name(task.key) {
            let path = tools.pins.link(&name);
            if held.pin() != Some(&path) && path.exists() {
                remove_pin(&path);
            }
        } else if let (Way::Clsact { side, .. }, None) = (way, held.filter()) {
            let at = Where {
                ifindex: task.key.index,
                side: *side,
            };
            let handle = clsact::handle(tools.pins.root(), task.key.duty.of_filter());
            let filters = clsact::filters(&mut tools.netlink, at).unwrap_or_default();
            for filter in filters.iter().filter(|filter| filter.handle == handle) {
                if filter.is_limiter() {
                    remove_filter(tools, at, handle, filter.priority);
                }
            }
        }
    }
}

/// Removes what is pinned for an interface that is gone.
pub fn forget(tools: &Tools<'_>, task: &Task) {
    let names = task.ways.iter().filter_map(|way| way.pin_name(task.key));
    let marker = discipline_pin(task.key.index);
    for name in names.chain(std::iter::once(marker)) {
        let path = tools.pins.link(&name);
        if path.exists() {
            remove_pin(&path);
        }
    }
}

/// Detaches the link pinned at `path`, for whoever else holds it too, and removes the pin.
pub fn remove_pin(path: &Path) {
    if let Ok(link) = sys::open_pin(path) {
        // Not a link, or gone with what it was attached to: only the pin is left.
        let _ = sys::link_detach(link.as_fd());
    }
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        warn!("cannot remove {}: {error}", path.display());
    }
}

/// Removes a filter of ours, and the discipline if limiter made it and nothing is left in it.
pub fn remove_filter(tools: &mut Tools<'_>, at: Where, handle: u32, priority: u16) {
    let netlink = &mut tools.netlink;
    if let Err(error) = clsact::remove(netlink, at, handle, priority)
        && !matches!(
            error.raw_os_error(),
            Some(libc::ENODEV | libc::ENOENT | libc::EINVAL)
        )
    {
        warn!(
            "cannot remove a filter of interface {}: {error}",
            at.ifindex
        );
    }
    let marker = tools.pins.link(&discipline_pin(at.ifindex));
    if !marker.exists() {
        return;
    }
    let left: Vec<clsact::Filter> = [Side::Ingress, Side::Egress]
        .into_iter()
        .flat_map(|side| {
            let at = Where {
                ifindex: at.ifindex,
                side,
            };
            clsact::filters(netlink, at).unwrap_or_default()
        })
        .collect();
    if left.is_empty() {
        if let Err(error) = clsact::remove_discipline(netlink, at.ifindex) {
            debug!("clsact of interface {}: {error}", at.ifindex);
        }
    } else if left.iter().any(clsact::Filter::is_limiter) {
        return;
    }
    // Gone, or from now on theirs who use it.
    remove_pin(&marker);
}

/// Whether the kernel has TCX; none if the interface is gone.
pub fn has_tcx(ifindex: u32) -> Option<bool> {
    match sys::tcx_query(ifindex, BPF_TCX_INGRESS) {
        Ok(_) => Some(true),
        Err(KernelError::Syscall { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => {
            None
        }
        Err(error) => {
            debug!("no TCX: {error}");
            Some(false)
        }
    }
}

/// The attach type of a side.
pub const fn tcx_hook(side: Side) -> bpf_attach_type {
    match side {
        Side::Ingress => BPF_TCX_INGRESS,
        Side::Egress => BPF_TCX_EGRESS,
    }
}

/// The name of an interface of this network namespace; none if there is no such interface.
pub fn interface_name(ifindex: u32) -> Option<String> {
    let mut name = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: room for the longest name.
    let found = unsafe { libc::if_indextoname(ifindex, name.as_mut_ptr().cast()) };
    if found.is_null() {
        return None;
    }
    let end = name.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&name[..end]).into_owned())
}

pub fn netlink_error(call: &'static str) -> impl Fn(io::Error) -> KernelError {
    move |source| KernelError::Syscall { call, source }
}
