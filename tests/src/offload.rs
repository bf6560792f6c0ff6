//! The header that virtual machines put in front of their frames, and packet sockets take: what
//! the kernel or the device is to do to a frame after everybody has looked at it.

use serde::{Deserialize, Serialize};

use crate::disguise::{ETHERNET, TcpPlace, checksum, find_tcp, set_length};

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
    /// To write it over IPv6's next header and hop limit: until then it is UDP. Of IPv4 packets the
    /// IP header's own checksum would be wrong then: they ask for nothing.
    OverProtocol,
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
const PORT: u16 = 2;
const SUM: u16 = 16;

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
        // From where on it is summed up, and where that goes.
        let (start, place) = match self {
            Self::Checksum | Self::Segments(_) => (tcp.at, SUM),
            Self::OverPort => (tcp.at, PORT),
            Self::OverProtocol => return over_protocol(&frame, &tcp),
        };
        // What is written is the complement of the sum of everything from the TCP header on, so
        // that what stands there before has to be the sum of what is not in it.
        let sum = !tcp.pseudo_header(&frame).checksum(&[]);
        let at = start + usize::from(place);
        frame
            .get_mut(at..at + 2)?
            .copy_from_slice(&sum.to_be_bytes());
        let mut header = NOTHING;
        if let Self::Segments(size) = self {
            if frame.len() - headers <= usize::from(size) {
                return None;
            }
            header[1] = if tcp.v6 { TCP6 } else { TCP4 };
            header[2..4].copy_from_slice(&u16::try_from(headers).ok()?.to_ne_bytes());
            header[4..6].copy_from_slice(&size.to_ne_bytes());
            set_length(&mut frame, headers)?;
        }
        Some(behind(header, u16::try_from(start).ok()?, place, &frame))
    }
}

/// The frame behind a header that asks for a checksum from `start` on, `place` bytes behind that.
fn behind(mut header: [u8; HEADER], start: u16, place: u16, frame: &[u8]) -> Vec<u8> {
    header[0] = NEEDS_CHECKSUM;
    header[6..8].copy_from_slice(&start.to_ne_bytes());
    header[8..10].copy_from_slice(&place.to_ne_bytes());
    [&header[..], frame].concat()
}

/// [`Offload::OverProtocol`].
fn over_protocol(frame: &[u8], tcp: &TcpPlace) -> Option<Vec<u8>> {
    const UDP: u8 = 17;
    const OPTIONS: u8 = 60;
    /// Where an IPv6 frame has the next header and the hop limit: before that the kernel sums up
    /// nothing. What is in the sum has to be balanced behind it.
    const NEXT: usize = ETHERNET + 6;
    if !tcp.v6 {
        return None;
    }
    let next = *frame.get(NEXT)?;
    // An option that everybody skips has room for two bytes of anything.
    let options = [next, 0, 0x1e, 4, 0, 0, 0, 0];
    let balance = tcp.at + 4;
    let mut frame = [frame.get(..tcp.at)?, &options, frame.get(tcp.at..)?].concat();
    let length = frame.len();
    set_length(&mut frame, length)?;
    let truth = u16::from_be_bytes([OPTIONS, frame[NEXT + 1]]);
    frame[NEXT] = UDP;
    let difference = without(checksum(&[&frame[NEXT..]]), truth);
    frame[balance..balance + 2].copy_from_slice(&difference.to_be_bytes());
    Some(behind(NOTHING, u16::try_from(NEXT).ok()?, 0, &frame))
}

/// What is to be added to what has this checksum, so that it has that one.
fn without(sum: u16, wanted: u16) -> u16 {
    let (difference, borrow) = sum.overflowing_sub(wanted);
    difference.wrapping_sub(u16::from(borrow))
}
