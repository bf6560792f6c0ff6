//! Packets as `tc` and `cgroup_skb` programs hold them.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated,
};
use limiter_common::{
    packet::{Bytes, is_tunnel_port},
    settings::{self, Settings},
    verdict::PortGroup,
};

use crate::{kernel, maps};

/// Let it go on, to whatever other programs are attached.
pub const PASS: i32 = -1;
/// Drop it.
pub const DROP: i32 = 2;

/// A packet.
#[derive(Clone, Copy)]
pub struct Skb(pub *mut __sk_buff);

impl Bytes for Skb {
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "some bytes")]
    fn load<const N: usize>(&self, offset: u32, to: &mut [u8; N]) -> bool {
        // SAFETY: the array is as long as said; the helper checks the offset.
        let result = unsafe {
            generated::bpf_skb_load_bytes(self.0.cast(), offset, to.as_mut_ptr().cast(), N as u32)
        };
        result == 0
    }
}

impl Skb {
    /// How long it is.
    #[inline(always)]
    pub fn len(self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*self.0).len }
    }

    /// The interface where it is.
    #[inline(always)]
    pub fn interface(self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*self.0).ifindex }
    }

    /// The interface where it came in, 0 if it was made on this node.
    #[inline(always)]
    pub fn came_from(self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*self.0).ingress_ifindex }
    }

    /// The mark that one layer leaves for another.
    #[inline(always)]
    pub fn mark(self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*self.0).tc_index }
    }

    /// Leaves a mark.
    #[inline(always)]
    pub fn set_mark(self, mark: u32) {
        // SAFETY: a field of the context that tc programs may write.
        unsafe { (*self.0).tc_index = mark }
    }

    /// The socket that it comes from, if there is a whole one.
    #[inline(always)]
    pub fn socket(self) -> *mut bpf_sock {
        // SAFETY: a field of the context; the helper takes a socket of any kind that is not null.
        unsafe {
            let socket = (*self.0).__bindgen_anon_2.sk;
            if socket.is_null() {
                return socket;
            }
            generated::bpf_sk_fullsock(socket)
        }
    }

    /// Whether it surely is no mail: looked at in place, for that is what most packets are. What is
    /// not plain goes the long way.
    ///
    /// `GUEST`: tunnels that may end here are not plain either.
    #[inline(always)]
    pub fn is_unrelated<const L2: bool, const GUEST: bool>(self, settings: &Settings) -> bool {
        const TCP: u8 = 6;
        const UDP: u8 = 17;
        const AUTHENTICATION: u8 = 51;
        // SAFETY: fields of the context; every access below is inside the packet, as compared.
        unsafe {
            let start = (*self.0).data as usize;
            let end = (*self.0).data_end as usize;
            let byte = |at: usize| *((start + at) as *const u8);
            let network = if L2 { 14 } else { 0 };
            if start + network + 24 > end {
                return false;
            }
            let kind = if L2 {
                u16::from_be_bytes([byte(12), byte(13)])
            } else {
                match byte(0) >> 4 {
                    4 => 0x0800,
                    6 => 0x86dd,
                    _ => return false,
                }
            };
            let ports = match kind {
                0x0800 => {
                    let fragment = u16::from_be_bytes([byte(network + 6), byte(network + 7)]);
                    if byte(network) != 0x45 || fragment & 0x3fff != 0 {
                        return false;
                    }
                    match byte(network + 9) {
                        TCP => {
                            // A length that ends before the ports is not plain; 0 is, of large ones.
                            let total = u16::from_be_bytes([byte(network + 2), byte(network + 3)]);
                            if total != 0 && total < 24 {
                                return false;
                            }
                            network + 20
                        }
                        AUTHENTICATION => return false,
                        4 | 41 | 47 if GUEST => return false,
                        UDP if GUEST => {
                            let ports = network + 20;
                            if start + ports + 4 > end {
                                return false;
                            }
                            let port = u16::from_be_bytes([byte(ports + 2), byte(ports + 3)]);
                            return !is_tunnel_port(port);
                        }
                        _ => return true,
                    }
                }
                0x86dd => {
                    if start + network + 40 > end || byte(network) >> 4 != 6 {
                        return false;
                    }
                    match byte(network + 6) {
                        TCP => {
                            let payload =
                                u16::from_be_bytes([byte(network + 4), byte(network + 5)]);
                            if payload != 0 && payload < 4 {
                                return false;
                            }
                            network + 40
                        }
                        UDP if GUEST => {
                            let ports = network + 40;
                            // It may be there, but not in the linear part.
                            if start + ports + 4 > end {
                                return false;
                            }
                            let port = u16::from_be_bytes([byte(ports + 2), byte(ports + 3)]);
                            return !is_tunnel_port(port);
                        }
                        // UDP and ICMP: most of the rest.
                        UDP | 58 => return true,
                        _ => return false,
                    }
                }
                0x0806 => return true,
                _ => return false,
            };
            if start + ports + 4 > end {
                return false;
            }
            let port = u16::from_be_bytes([byte(ports + 2), byte(ports + 3)]);
            match group_of(port) {
                PortGroup::Other => true,
                PortGroup::Mailbox => settings.flags & settings::flags::SANCTIONS == 0,
                PortGroup::Smtp | PortGroup::Submission => false,
            }
        }
    }
}

/// What a port is used for.
#[inline(always)]
pub fn group_of(port: u16) -> PortGroup {
    let Some(table) = maps::PORTS.get(0) else {
        // It always is there.
        return PortGroup::Smtp;
    };
    match table.groups[usize::from(kernel::bounded(port))] {
        1 => PortGroup::Smtp,
        2 => PortGroup::Submission,
        3 => PortGroup::Mailbox,
        _ => PortGroup::Other,
    }
}
