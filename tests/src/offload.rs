//! The header that virtual machines put in front of their frames, and packet sockets take: what
//! the kernel or the device is to do to a frame after everybody has looked at it.

use serde::{Deserialize, Serialize};

use crate::disguise::{find_tcp, set_length};

/// How long the header is: `struct virtio_net_hdr`.
pub const HEADER: usize = 10;

/// What the header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Offload {
    /// To write TCP's checksum where it belongs: what every virtual machine asks for.
    Checksum,
    /// To write it over the destination port. Until then another port stands there, chosen so that
    /// what is written is the true one, and the true checksum is in its place.
    OverPort,
    /// To cut what is longer into segments of so many bytes. The IP header says that there is no
    /// payload at all; each segment's says what is true.
    Segments(u16),
}

/// A header that asks for nothing.
const NOTHING: [u8; HEADER] = [0; HEADER];
const NEEDS_CHECKSUM: u8 = 1;
/// Kinds of frames that are to be cut.
const TCP4: u8 = 1;
const TCP6: u8 = 4;
/// Where a TCP header has its destination port, and its checksum.
const PORT: usize = 2;
const SUM: usize = 16;

impl Offload {
    /// The frame behind its header. What carries no TCP, or is too short to be cut, asks for
    /// nothing.
    #[must_use]
    pub fn apply(self, frame: &[u8]) -> Vec<u8> {
        self.try_apply(frame)
            .unwrap_or_else(|| [&NOTHING, frame].concat())
    }

    fn try_apply(self, frame: &[u8]) -> Option<Vec<u8>> {
        let mut frame = frame.to_vec();
        let tcp = find_tcp(&frame)?;
        let headers = tcp.at + usize::from(frame.get(tcp.at + 12)? >> 4) * 4;
        let place = match self {
            Self::Checksum | Self::Segments(_) => SUM,
            Self::OverPort => PORT,
        };
        // What is written is the complement of the sum of everything from the TCP header on, so
        // that what stands there before has to be the sum of what is not in it.
        let sum = !tcp.pseudo_header(&frame).checksum(&[]);
        frame
            .get_mut(tcp.at + place..tcp.at + place + 2)?
            .copy_from_slice(&sum.to_be_bytes());
        let mut header = NOTHING;
        header[0] = NEEDS_CHECKSUM;
        if let Self::Segments(size) = self {
            if frame.len() - headers <= usize::from(size) {
                return None;
            }
            header[1] = if tcp.v6 { TCP6 } else { TCP4 };
            header[2..4].copy_from_slice(&u16::try_from(headers).ok()?.to_ne_bytes());
            header[4..6].copy_from_slice(&size.to_ne_bytes());
            set_length(&mut frame, headers)?;
        }
        header[6..8].copy_from_slice(&u16::try_from(tcp.at).ok()?.to_ne_bytes());
        header[8..10].copy_from_slice(&u16::try_from(place).ok()?.to_ne_bytes());
        Some([&header[..], &frame].concat())
    }
}
