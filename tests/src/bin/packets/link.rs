//! What frames go through.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    mem::{size_of_val, zeroed},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
};

use limiter_tests::{packet_socket::PacketSocket, packets::Link};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

nix::ioctl_write_int!(tun_set_interface, b'T', 202);

/// An open link.
pub enum Open {
    /// A character device: a frame a call.
    Device(File),
    /// A packet socket.
    Packet(PacketSocket),
    /// Raw sockets for what is IP and can be sent so, a packet socket for the rest.
    Raw {
        /// Everything that comes, and what finds the neighbours.
        packet: PacketSocket,
        /// IPv4 packets with their headers.
        v4: OwnedFd,
        /// IPv6 packets with their headers.
        v6: OwnedFd,
    },
}

/// Opens the link in this process's network namespace. `offloads`: with a header in front of every
/// frame, which raw sockets do not take.
pub fn open(link: &Link, offloads: bool) -> io::Result<Open> {
    match link {
        Link::Tap { name } => tap(name, offloads).map(Open::Device),
        Link::Macvtap { name } => macvtap(name, offloads).map(Open::Device),
        Link::Packet { device, bypass } => {
            let socket = PacketSocket::open(Some(device))?;
            if offloads {
                socket.with_offloads()?;
            }
            socket.overhear(device)?;
            if *bypass {
                socket.bypass_queue()?;
            }
            Ok(Open::Packet(socket))
        }
        Link::Raw { device } => {
            let packet = PacketSocket::open(Some(device))?;
            packet.overhear(device)?;
            Ok(Open::Raw {
                packet,
                v4: raw_socket(libc::AF_INET)?,
                v6: raw_socket(libc::AF_INET6)?,
            })
        }
    }
}

impl Open {
    /// What to wait on.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Device(file) => file.as_fd(),
            Self::Packet(packet) | Self::Raw { packet, .. } => packet.as_fd(),
        }
    }

    /// The next frame, if there is one: its length in `buffer`.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self {
            Self::Device(file) => {
                let mut file = file;
                match file.read(buffer) {
                    Ok(length) => Ok(Some(length)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                    Err(error) => Err(error),
                }
            }
            Self::Packet(packet) | Self::Raw { packet, .. } => {
                Ok(packet.receive(buffer)?.map(|(length, _)| length))
            }
        }
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        const ETHERNET: usize = 14;
        const ICMPV6: u8 = 58;
        match self {
            Self::Device(file) => {
                let mut file = file;
                file.write_all(frame)
            }
            Self::Packet(packet) => packet.send(frame),
            Self::Raw { packet, v4, v6 } => match frame.get(12..ETHERNET) {
                Some([8, 0]) => send_raw(v4, &frame[ETHERNET..]),
                Some([0x86, 0xdd]) if frame.get(ETHERNET + 6) != Some(&ICMPV6) => {
                    send_raw(v6, &frame[ETHERNET..])
                }
                _ => packet.send(frame),
            },
        }
    }
}

/// What a tap is to be like.
fn tap_flags(offloads: bool) -> io::Result<libc::c_short> {
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI;
    if offloads {
        flags |= libc::IFF_VNET_HDR;
    }
    libc::c_short::try_from(flags).map_err(io::Error::other)
}

fn tap(name: &str, offloads: bool) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    // SAFETY: all zeroes are a valid request.
    let mut request: libc::ifreq = unsafe { zeroed() };
    let name = CString::new(name).map_err(io::Error::other)?;
    for (to, from) in request.ifr_name.iter_mut().zip(name.to_bytes()).take(15) {
        *to = libc::c_char::try_from(*from).map_err(io::Error::other)?;
    }
    request.ifr_ifru.ifru_flags = tap_flags(offloads)?;
    let pointer = (&raw const request).expose_provenance();
    let pointer = nix::sys::ioctl::ioctl_param_type::try_from(pointer).map_err(io::Error::other)?;
    // SAFETY: the kernel reads the request, which lives until the call ends.
    unsafe { tun_set_interface(file.as_raw_fd(), pointer) }?;
    Ok(file)
}

/// The character device of a macvtap interface. Nobody makes its node here but we.
fn macvtap(name: &str, offloads: bool) -> io::Result<File> {
    let index = limiter_tests::packet_socket::index_of(name)?;
    // A mount of its own shows the interfaces of this network namespace.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    let none = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("sys"), "/sys", Some("sysfs"), none, None::<&str>)?;
    let numbers = fs::read_to_string(format!("/sys/class/net/{name}/macvtap/tap{index}/dev"))?;
    let (major, minor) = numbers
        .trim()
        .split_once(':')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
        .ok_or_else(|| io::Error::other("no device number"))?;
    nix::mount::mount(Some("dev"), "/mnt", Some("tmpfs"), none, None::<&str>)?;
    let node = "/mnt/tap";
    mknod(node, SFlag::S_IFCHR, Mode::S_IRUSR, makedev(major, minor))?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(node)?;
    debug_assert!(file.metadata()?.rdev() != 0);
    // SAFETY: all zeroes are a valid request.
    let mut request: libc::ifreq = unsafe { zeroed() };
    request.ifr_ifru.ifru_flags = tap_flags(offloads)?;
    let pointer = (&raw const request).expose_provenance();
    let pointer = nix::sys::ioctl::ioctl_param_type::try_from(pointer).map_err(io::Error::other)?;
    // SAFETY: the kernel reads the request, which lives until the call ends.
    unsafe { tun_set_interface(file.as_raw_fd(), pointer) }?;
    Ok(file)
}

/// A raw socket that takes packets with their headers.
fn raw_socket(family: libc::c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(family, kind, libc::IPPROTO_RAW) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends an IP packet: where to says its header.
fn send_raw(socket: &OwnedFd, packet: &[u8]) -> io::Result<()> {
    let short = || io::Error::other("a packet without a header");
    // SAFETY: all zeroes are a valid address of either kind.
    let (mut four, mut six): (libc::sockaddr_in, libc::sockaddr_in6) =
        unsafe { (zeroed(), zeroed()) };
    let (address, length): (*const libc::sockaddr, usize) = if packet.first() < Some(&0x50) {
        four.sin_family = 2;
        let to: [u8; 4] = packet
            .get(16..20)
            .ok_or_else(short)?
            .try_into()
            .map_err(io::Error::other)?;
        four.sin_addr.s_addr = u32::from_ne_bytes(to);
        ((&raw const four).cast(), size_of_val(&four))
    } else {
        six.sin6_family = 10;
        six.sin6_addr.s6_addr = packet
            .get(24..40)
            .ok_or_else(short)?
            .try_into()
            .map_err(io::Error::other)?;
        ((&raw const six).cast(), size_of_val(&six))
    };
    let length = libc::socklen_t::try_from(length).map_err(io::Error::other)?;
    // SAFETY: both pointers are described by their lengths and live until the call ends.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            address,
            length,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Makes the capabilities that were kept effective again.
pub fn raise_capabilities() -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let none = Data {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    };
    let mut data = [none; 2];
    let (header, data_at) = (&raw const header, data.as_mut_ptr());
    // SAFETY: this version reads one header and writes two structures, which are there.
    if unsafe { libc::syscall(libc::SYS_capget, header, data_at) } != 0 {
        return Err(io::Error::last_os_error());
    }
    for part in &mut data {
        part.effective = part.permitted;
    }
    // SAFETY: this version reads one header and two structures, which are there.
    if unsafe { libc::syscall(libc::SYS_capset, header, data.as_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
