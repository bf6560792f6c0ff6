//! Allowed attempts, kept compactly: 40 bytes each, with the tenants' names beside them.

use std::net::IpAddr;

use jiff::Timestamp;
use limiter_common::{event::Attempt, verdict::Layer};
use serde::{Deserialize, Serialize};

use super::{
    event::{Clock, Endpoint, Names, ip},
    names,
};

/// Length of an attempt in a file, bytes.
pub const ENCODED_LEN: usize = 40;

/// An allowed attempt, kept for matching complaints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// When.
    pub time: Timestamp,
    /// Who paid for it; null where the name is lost.
    pub tenant: Option<String>,
    /// The caller's uid.
    pub uid: u32,
    /// The caller's process id.
    pub pid: u32,
    /// Where the kernel saw it.
    #[serde(with = "names")]
    pub layer: Layer,
    /// Where it went.
    pub destination: Endpoint,
}

impl AttemptRecord {
    /// The record of what the kernel reported.
    #[must_use]
    pub fn new(attempt: &Attempt, clock: Clock, names: &dyn Names) -> Self {
        Self {
            time: clock.wall(attempt.time_ns),
            tenant: names.tenant(attempt.tenant),
            uid: attempt.uid,
            pid: attempt.pid,
            layer: Layer::from_wire(attempt.layer).unwrap_or(Layer::Connect),
            destination: Endpoint {
                address: ip(&attempt.destination),
                port: Some(attempt.destination_port),
            },
        }
    }

    /// The bytes in a file, where `name` is the number of the tenant's name there.
    ///
    /// Little-endian: time (ns since 1970) 8, name 4, uid 4, pid 4, port 2, layer 1, zero 1,
    /// address 16.
    #[must_use]
    pub fn encode(&self, name: u32) -> [u8; ENCODED_LEN] {
        let nanos = self.time.as_nanosecond();
        let nanos = u64::try_from(nanos).unwrap_or(if nanos < 0 { 0 } else { u64::MAX });
        let address = match self.destination.address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        let mut bytes = [0; ENCODED_LEN];
        bytes[0..8].copy_from_slice(&nanos.to_le_bytes());
        bytes[8..12].copy_from_slice(&name.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.uid.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.pid.to_le_bytes());
        bytes[20..22].copy_from_slice(&self.destination.port.unwrap_or(0).to_le_bytes());
        bytes[22] = self.layer as u8;
        bytes[24..40].copy_from_slice(&address);
        bytes
    }

    /// The record in `bytes`; `None` if they hold none. `name` looks a tenant's name up.
    #[must_use]
    pub fn decode(
        bytes: &[u8; ENCODED_LEN],
        name: impl FnOnce(u32) -> Option<String>,
    ) -> Option<Self> {
        let nanos = u64::from_le_bytes(field(bytes, 0)?);
        let port = u16::from_le_bytes(field(bytes, 20)?);
        Some(Self {
            time: Timestamp::from_nanosecond(i128::from(nanos)).ok()?,
            tenant: name(u32::from_le_bytes(field(bytes, 8)?)),
            uid: u32::from_le_bytes(field(bytes, 12)?),
            pid: u32::from_le_bytes(field(bytes, 16)?),
            layer: Layer::from_wire(bytes[22])?,
            destination: Endpoint {
                address: ip(&field(bytes, 24)?),
                port: (port != 0).then_some(port),
            },
        })
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
