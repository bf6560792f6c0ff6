//! Allowed attempts, kept compactly: 72 bytes each, with the tenants' names beside them.

use std::net::IpAddr;

use jiff::Timestamp;
use limiter_common::{
    address::Address,
    event::{Attempt, attempt_flags},
    verdict::Layer,
};
use serde::{Deserialize, Serialize};

use super::{
    event::{Clock, Endpoint, Names, ip},
    names,
};

/// Length of an attempt in a file, bytes.
pub const ENCODED_LEN: usize = 72;

/// An allowed attempt, kept for matching complaints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// When.
    pub time: Timestamp,
    /// The same by the kernel's clock, ns: two records of one attempt have the same.
    pub moment: u64,
    /// Who paid for it; null where the name is lost.
    pub tenant: Option<String>,
    /// The caller's uid.
    pub uid: u32,
    /// The caller's process id.
    pub pid: u32,
    /// Where the kernel saw it.
    #[serde(with = "names")]
    pub layer: Layer,
    /// From where, as far as the layer knew: at connect a socket mostly has no address yet.
    pub source: Option<Endpoint>,
    /// Where it went.
    pub destination: Endpoint,
    /// Whether this only says where an attempt left from that another record is about. Who called
    /// is in that one.
    pub departure: bool,
}

impl AttemptRecord {
    /// The record of what the kernel reported.
    #[must_use]
    pub fn new(attempt: &Attempt, clock: Clock, names: &dyn Names) -> Self {
        Self {
            time: clock.wall(attempt.time_ns),
            moment: attempt.time_ns,
            tenant: names.tenant(attempt.tenant),
            uid: attempt.uid,
            pid: attempt.pid,
            layer: Layer::from_wire(attempt.layer).unwrap_or(Layer::Connect),
            source: endpoint(&attempt.source, attempt.source_port),
            destination: Endpoint {
                address: ip(&attempt.destination),
                port: Some(attempt.destination_port),
            },
            departure: attempt.flags & attempt_flags::DEPARTURE != 0,
        }
    }

    /// From where the world saw it, if that is known: what leaves by an uplink is not translated any
    /// more.
    #[must_use]
    pub fn seen_from(&self) -> Option<Endpoint> {
        self.source.filter(|_| self.layer == Layer::Uplink)
    }

    /// The bytes in a file, where `name` is the number of the tenant's name there.
    ///
    /// Little-endian: time (ns since 1970) 8, moment 8, name 4, uid 4, pid 4, ports of destination and
    /// source 2 each, layer 1, flags 1, zero 6, addresses of source and destination 16 each.
    #[must_use]
    pub fn encode(&self, name: u32) -> [u8; ENCODED_LEN] {
        let nanos = self.time.as_nanosecond();
        let nanos = u64::try_from(nanos).unwrap_or(if nanos < 0 { 0 } else { u64::MAX });
        let port = |end: Option<Endpoint>| end.and_then(|end| end.port).unwrap_or(0);
        let mut bytes = [0; ENCODED_LEN];
        bytes[0..8].copy_from_slice(&nanos.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.moment.to_le_bytes());
        bytes[16..20].copy_from_slice(&name.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.uid.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.pid.to_le_bytes());
        bytes[28..30].copy_from_slice(&port(Some(self.destination)).to_le_bytes());
        bytes[30..32].copy_from_slice(&port(self.source).to_le_bytes());
        bytes[32] = self.layer as u8;
        bytes[33] = u8::from(self.departure);
        if let Some(source) = self.source {
            bytes[40..56].copy_from_slice(&octets(source.address));
        }
        bytes[56..72].copy_from_slice(&octets(self.destination.address));
        bytes
    }

    /// The record in `bytes`; `None` if they hold none. `name` looks a tenant's name up.
    #[must_use]
    pub fn decode(
        bytes: &[u8; ENCODED_LEN],
        name: impl FnOnce(u32) -> Option<String>,
    ) -> Option<Self> {
        let nanos = u64::from_le_bytes(field(bytes, 0)?);
        let port = |at: usize| Some(u16::from_le_bytes(field(bytes, at)?));
        let to = port(28)?;
        Some(Self {
            time: Timestamp::from_nanosecond(i128::from(nanos)).ok()?,
            moment: u64::from_le_bytes(field(bytes, 8)?),
            tenant: name(u32::from_le_bytes(field(bytes, 16)?)),
            uid: u32::from_le_bytes(field(bytes, 20)?),
            pid: u32::from_le_bytes(field(bytes, 24)?),
            layer: Layer::from_wire(bytes[32])?,
            source: endpoint(&field(bytes, 40)?, port(30)?),
            destination: Endpoint {
                address: ip(&field(bytes, 56)?),
                port: (to != 0).then_some(to),
            },
            departure: bytes[33] != 0,
        })
    }
}

/// None of an address that is not known.
fn endpoint(address: &Address, port: u16) -> Option<Endpoint> {
    (*address != [0; 16]).then(|| Endpoint {
        address: ip(address),
        port: (port != 0).then_some(port),
    })
}

const fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
