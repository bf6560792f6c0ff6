//! What a receiver would see: one that takes more than any real one does, so that whatever some
//! receiver takes, it takes. It reassembles, in the order in which frames arrive.

use std::collections::{BTreeSet, HashMap};

/// Whose bytes count where fragments overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// Those that came first.
    First,
    /// Those that came last.
    Last,
    /// None: the packet is lost. This is what Linux does.
    Refused,
}

/// A receiver, and the TCP ports that segments arrived at.
#[derive(Debug)]
pub struct Receiver {
    overlap: Overlap,
    /// Whether it ends tunnels, and looks at what comes out of them.
    ends_tunnels: bool,
    parts: HashMap<Vec<u8>, Vec<Part>>,
    /// The destination ports of all segments.
    pub ports: BTreeSet<u16>,
}

#[derive(Clone, Debug)]
struct Part {
    offset: usize,
    more: bool,
    next: u8,
    bytes: Vec<u8>,
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

impl Receiver {
    /// One to which nothing came yet.
    #[must_use]
    pub fn new(overlap: Overlap, ends_tunnels: bool) -> Self {
        Self {
            overlap,
            ends_tunnels,
            parts: HashMap::new(),
            ports: BTreeSet::new(),
        }
    }

    /// The ports at which something arrives when these frames come.
    #[must_use]
    pub fn ports_of(frames: &[&[u8]], overlap: Overlap, ends_tunnels: bool) -> BTreeSet<u16> {
        let mut receiver = Self::new(overlap, ends_tunnels);
        for frame in frames {
            receiver.frame(frame);
        }
        receiver.ports
    }

    /// A frame comes.
    pub fn frame(&mut self, frame: &[u8]) {
        let _ = self.link(frame, 0);
    }

    /// `None` where a header is not all there.
    fn link(&mut self, frame: &[u8], depth: usize) -> Option<()> {
        let mut at = 12;
        let mut kind = word(frame, at)?;
        while matches!(kind, 0x8100 | 0x88a8 | 0x9100 | 0x9200) {
            at += 4;
            kind = word(frame, at)?;
        }
        at += 2;
        if kind < 0x600 && frame.get(at..at + 3)? == [0xaa, 0xaa, 3] {
            kind = word(frame, at + 6)?;
            at += 8;
        }
        if kind == 0x8864 {
            at += 6;
            let first = *frame.get(at)?;
            let number = if first & 1 == 1 {
                at += 1;
                u16::from(first)
            } else {
                at += 2;
                word(frame, at - 2)?
            };
            kind = match number {
                0x21 => 0x0800,
                0x57 => 0x86dd,
                _ => return None,
            };
        }
        self.ip(kind, frame.get(at..)?, depth)
    }

    fn ip(&mut self, kind: u16, packet: &[u8], depth: usize) -> Option<()> {
        match (kind, packet.first()? >> 4) {
            (0x0800, 4) => self.v4(packet, depth),
            (0x86dd, 6) => self.v6(packet, depth),
            _ => None,
        }
    }

    fn v4(&mut self, packet: &[u8], depth: usize) -> Option<()> {
        let head = usize::from(packet.first()? & 15) * 4;
        packet.get(..20)?;
        let total = match usize::from(word(packet, 2)?) {
            0 => packet.len(),
            total => total.min(packet.len()),
        };
        if head < 20 || head > total {
            return None;
        }
        let content = &packet[head..total];
        let place = word(packet, 6)?;
        let part = Part {
            offset: usize::from(place & 0x1fff) * 8,
            more: place & 0x2000 != 0,
            next: packet[9],
            bytes: content.to_vec(),
        };
        if part.offset == 0 && !part.more {
            return self.headers(false, &[], packet[9], content, depth, false);
        }
        let key = [&packet[4..6], &packet[9..10], &packet[12..20]].concat();
        self.reassemble(false, key, part, depth)
    }

    fn v6(&mut self, packet: &[u8], depth: usize) -> Option<()> {
        let addresses = packet.get(8..40)?;
        let content = &packet[40..];
        let content = match usize::from(word(packet, 4)?) {
            0 => content,
            length => &content[..length.min(content.len())],
        };
        self.headers(true, addresses, packet[6], content, depth, false)
    }

    fn reassemble(&mut self, v6: bool, key: Vec<u8>, part: Part, depth: usize) -> Option<()> {
        let parts = self.parts.entry(key).or_default();
        parts.push(part);
        let order: Vec<Part> = match self.overlap {
            // As if it came in the opposite order, and each overwrote what was there.
            Overlap::First => parts.iter().rev().cloned().collect(),
            Overlap::Last | Overlap::Refused => parts.clone(),
        };
        let last = order.iter().rfind(|part| !part.more)?;
        let total = last.offset + last.bytes.len();
        let next = order.iter().rfind(|part| part.offset == 0)?.next;
        let mut whole = vec![None; total];
        for part in &order {
            for (at, byte) in (part.offset..total).zip(&part.bytes) {
                if whole[at].is_some() && self.overlap == Overlap::Refused {
                    return None;
                }
                whole[at] = Some(*byte);
            }
        }
        let whole: Vec<u8> = whole.into_iter().collect::<Option<_>>()?;
        self.headers(v6, &[], next, &whole, depth, true)
    }

    /// Walks the headers in front of `rest`. `whole`: it was reassembled.
    fn headers(
        &mut self,
        v6: bool,
        addresses: &[u8],
        mut next: u8,
        mut rest: &[u8],
        depth: usize,
        whole: bool,
    ) -> Option<()> {
        loop {
            let length = match next {
                6 => {
                    rest.get(..20)?;
                    self.ports.insert(word(rest, 2)?);
                    return Some(());
                }
                0 | 43 | 60 | 135 | 139 | 140 if v6 => (usize::from(*rest.get(1)?) + 1) * 8,
                51 => (usize::from(*rest.get(1)?) + 2) * 4,
                44 if v6 => {
                    let place = usize::from(word(rest, 2)?);
                    let part = Part {
                        offset: place & 0xfff8,
                        more: place & 1 != 0,
                        next: rest[0],
                        bytes: rest.get(8..)?.to_vec(),
                    };
                    if part.offset != 0 || part.more {
                        if whole {
                            return None;
                        }
                        let key = [addresses, &rest[4..8]].concat();
                        return self.reassemble(true, key, part, depth);
                    }
                    8
                }
                4 | 17 | 41 | 47 if self.ends_tunnels && depth == 0 => {
                    return self.tunnel(next, rest);
                }
                _ => return None,
            };
            next = *rest.first()?;
            rest = rest.get(length..)?;
        }
    }

    fn tunnel(&mut self, kind: u8, rest: &[u8]) -> Option<()> {
        let (inner, at) = match kind {
            4 => (0x0800, 0),
            41 => (0x86dd, 0),
            47 => {
                let flags = *rest.first()?;
                if flags & 0x40 != 0 || rest.get(1)? & 7 != 0 {
                    return None;
                }
                let words = [0x80, 0x20, 0x10]
                    .into_iter()
                    .filter(|flag| flags & flag != 0)
                    .count();
                let at = 4 + words * 4;
                match word(rest, 2)? {
                    0x883e if rest.get(at)? >> 4 == 4 => (0x0800, at),
                    0x883e => (0x0800, at + 4),
                    kind => (kind, at),
                }
            }
            _ => match word(rest, 2)? {
                4789 | 8472 => (0x6558, 16),
                6081 => (word(rest, 10)?, 16 + usize::from(rest.get(8)? & 0x3f) * 4),
                _ => return None,
            },
        };
        let rest = rest.get(at..)?;
        if inner == 0x6558 {
            self.link(rest, 1)
        } else {
            self.ip(inner, rest, 1)
        }
    }
}
