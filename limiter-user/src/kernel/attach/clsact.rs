//! Classic attachment, for kernels before 6.6: a BPF filter below the `clsact` discipline of an
//! interface. It cannot be pinned, and needs no pin: it stays until somebody takes it away.
//!
//! Our filter is known by its handle, which depends on the pin directory: a later agent with the
//! same one finds it again and replaces the program in place, and two agents with two of them do
//! not fight over one filter.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    path::Path,
};

use super::{
    Side,
    netlink::{
        ACK, Attributes, CREATE, EXCLUSIVE, LIST, Netlink, RTM_DELQDISC, RTM_DELTFILTER,
        RTM_GETQDISC, RTM_GETTFILTER, RTM_NEWQDISC, RTM_NEWTFILTER, Request, TcHeader, TcMessage,
        number, text,
    },
};

/// `TC_H_CLSACT`, which is `TC_H_INGRESS` too.
const CLSACT: u32 = 0xffff_fff1;
/// The handle that both disciplines have.
const CLSACT_HANDLE: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
/// `ETH_P_ALL` in network order.
const EVERY_PROTOCOL: u32 = 0x0003_u16.to_be() as u32;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
/// The program's answer is the verdict.
const DIRECT_ACTION: u32 = 1;

/// What the filters of limiters are called.
const OUR_NAMES: &str = "limiter_";

/// What our filter does there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Duty {
    Guest = 1,
    Uplink = 2,
    Edge = 3,
}

/// The handle of our filter with this duty, for this pin directory.
#[must_use]
pub fn handle(pin_dir: &Path, duty: Duty) -> u32 {
    // FNV-1a.
    let hash = pin_dir
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
    0x4c00_0000 | (hash & 0x00ff_ff00) | duty as u32
}

/// A side of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Where {
    /// The interface.
    pub ifindex: u32,
    /// Which side.
    pub side: Side,
}

impl Where {
    const fn parent(self) -> u32 {
        match self.side {
            Side::Ingress => INGRESS,
            Side::Egress => EGRESS,
        }
    }

    const fn header(self, handle: u32, info: u32) -> TcHeader {
        TcHeader {
            ifindex: self.ifindex,
            handle,
            parent: self.parent(),
            info,
        }
    }
}

/// A filter, or a group of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Where it is.
    pub at: Where,
    /// Its handle; 0 stands for the group that it is in.
    pub handle: u32,
    /// Lower ones come first.
    pub priority: u16,
    /// The kind of filter.
    pub kind: String,
    /// The protocol, in network order.
    pub protocol: u32,
    /// The name that whoever made it gave it.
    pub name: String,
    /// The program behind it; 0 if it is none of BPF.
    pub program_id: u32,
}

impl Filter {
    /// Whether a limiter made it, this one or another.
    #[must_use]
    pub fn is_limiter(&self) -> bool {
        self.handle != 0 && self.kind == "bpf" && self.name.starts_with(OUR_NAMES)
    }
}

/// What hangs at the discipline's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discipline {
    None,
    /// Room for filters on both sides.
    Clsact,
    /// `ingress`: room for filters on one side, and no room for `clsact`.
    IngressOnly,
}

/// What hangs at the discipline's place of an interface.
pub fn discipline(netlink: &mut Netlink, ifindex: u32) -> io::Result<Discipline> {
    let all = disciplines(netlink)?;
    let found = all.iter().find(|(index, _)| *index == ifindex);
    Ok(found.map_or(Discipline::None, |(_, discipline)| *discipline))
}

/// The interfaces that have `clsact` or `ingress`. The kernel tells of all at once only.
pub fn disciplines(netlink: &mut Netlink) -> io::Result<Vec<(u32, Discipline)>> {
    let mut found = Vec::new();
    let request = Request::new(RTM_GETQDISC, LIST, TcHeader::default());
    netlink.ask(request, |message| {
        let discipline = match message.attributes.get(TCA_KIND).and_then(text) {
            Some("clsact") => Discipline::Clsact,
            Some("ingress") => Discipline::IngressOnly,
            _ => return,
        };
        found.push((message.header.ifindex, discipline));
    })?;
    Ok(found)
}

/// Makes the discipline; it is a fault if there is one.
pub fn make_discipline(netlink: &mut Netlink, ifindex: u32) -> io::Result<()> {
    let flags = ACK | CREATE | EXCLUSIVE;
    let request = Request::new(RTM_NEWQDISC, flags, discipline_of(ifindex));
    netlink.ask(request.with_text(TCA_KIND, "clsact"), |_| {})
}

/// Removes the discipline with all that is in it.
pub fn remove_discipline(netlink: &mut Netlink, ifindex: u32) -> io::Result<()> {
    let request = Request::new(RTM_DELQDISC, ACK, discipline_of(ifindex));
    netlink.ask(request.with_text(TCA_KIND, "clsact"), |_| {})
}

const fn discipline_of(ifindex: u32) -> TcHeader {
    TcHeader {
        ifindex,
        handle: CLSACT_HANDLE,
        parent: CLSACT,
        info: 0,
    }
}

/// The filters on one side of an interface, everybody's.
pub fn filters(netlink: &mut Netlink, at: Where) -> io::Result<Vec<Filter>> {
    let mut found = Vec::new();
    let request = Request::new(RTM_GETTFILTER, LIST, at.header(0, 0));
    let asked = netlink.ask(request, |message| found.extend(filter(at, message)));
    match asked {
        Ok(()) => Ok(found),
        Err(error) if is(&error, &[libc::ENOENT, libc::EINVAL]) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The id of the program behind our filter; `None` if it is not there.
pub fn program_behind(
    netlink: &mut Netlink,
    at: Where,
    handle: u32,
    priority: u16,
) -> io::Result<Option<u32>> {
    let header = at.header(handle, info(priority));
    let mut found = None;
    let request = Request::new(RTM_GETTFILTER, ACK, header).with_text(TCA_KIND, "bpf");
    let asked = netlink.ask(request, |message| {
        found = filter(at, message).map(|filter| filter.program_id);
    });
    match asked {
        Ok(()) => Ok(found),
        // No filter, no discipline, or another kind of filter.
        Err(error) if is(&error, &[libc::ENOENT, libc::EINVAL]) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts our filter there, or another program behind it: at once, without a moment between.
pub fn put(
    netlink: &mut Netlink,
    at: Where,
    handle: u32,
    priority: u16,
    name: &str,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    let header = at.header(handle, info(priority));
    let request = Request::new(RTM_NEWTFILTER, ACK | CREATE, header)
        .with_text(TCA_KIND, "bpf")
        .with_nested(TCA_OPTIONS, |options| {
            options
                .with(TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes())
                .with_text(TCA_BPF_NAME, name)
                .with(TCA_BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes())
        });
    netlink.ask(request, |_| {})
}

/// Removes our filter.
pub fn remove(netlink: &mut Netlink, at: Where, handle: u32, priority: u16) -> io::Result<()> {
    let header = at.header(handle, info(priority));
    let request = Request::new(RTM_DELTFILTER, ACK, header).with_text(TCA_KIND, "bpf");
    netlink.ask(request, |_| {})
}

/// The first priority at which a filter of ours can be: before others where there is room.
#[must_use]
pub fn first_room(others: &[Filter]) -> u16 {
    (1..u16::MAX)
        .find(|priority| {
            others
                .iter()
                .filter(|filter| filter.priority == *priority)
                .all(|filter| filter.kind == "bpf" && filter.protocol == EVERY_PROTOCOL)
        })
        .unwrap_or(u16::MAX)
}

fn filter(at: Where, message: TcMessage<'_>) -> Option<Filter> {
    let TcMessage {
        kind,
        header,
        attributes,
    } = message;
    let chain = attributes.get(TCA_CHAIN).and_then(number).unwrap_or(0);
    // The kernel lists nothing of other interfaces; other chains are reached by jumps only.
    if kind != RTM_NEWTFILTER || header.ifindex != at.ifindex || chain != 0 {
        return None;
    }
    let options = Attributes(attributes.get(TCA_OPTIONS).unwrap_or_default());
    let name = options.get(TCA_BPF_NAME).and_then(text).unwrap_or_default();
    Some(Filter {
        at,
        handle: header.handle,
        priority: u16::try_from(header.info >> 16).unwrap_or(0),
        kind: attributes.get(TCA_KIND).and_then(text)?.to_owned(),
        protocol: header.info & 0xffff,
        name: name.to_owned(),
        program_id: options.get(TCA_BPF_ID).and_then(number).unwrap_or(0),
    })
}

fn info(priority: u16) -> u32 {
    u32::from(priority) << 16 | EVERY_PROTOCOL
}

fn is(error: &io::Error, codes: &[i32]) -> bool {
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(priority: u16, kind: &str, protocol: u32) -> Filter {
        Filter {
            at: Where {
                ifindex: 1,
                side: Side::Ingress,
            },
            handle: 1,
            priority,
            kind: kind.to_owned(),
            protocol,
            name: String::new(),
            program_id: 0,
        }
    }

    #[test]
    fn ours_comes_first_where_it_can() {
        assert_eq!(first_room(&[]), 1);
        assert_eq!(first_room(&[other(1, "bpf", EVERY_PROTOCOL)]), 1);
        assert_eq!(first_room(&[other(1, "bpf", 8)]), 2);
        let taken = [other(1, "flower", EVERY_PROTOCOL), other(2, "u32", 8)];
        assert_eq!(first_room(&taken), 3);
        assert_eq!(first_room(&[other(49152, "u32", 8)]), 1);
    }

    #[test]
    fn handles_differ_by_duty_and_by_place() {
        let place = Path::new("/sys/fs/bpf/limiter");
        assert_ne!(handle(place, Duty::Guest), handle(place, Duty::Uplink));
        assert_ne!(
            handle(place, Duty::Guest),
            handle(Path::new("/sys/fs/bpf/other"), Duty::Guest)
        );
        assert_eq!(handle(place, Duty::Edge), handle(place, Duty::Edge));
    }
}
