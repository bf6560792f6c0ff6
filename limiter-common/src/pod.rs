//! Permission for aya to move the map values as bytes.

use aya::Pod;

use crate::{
    address::{ExemptKey, ExemptPorts},
    limit::{Block, LimitSet, LockCell},
    settings::{PortTable, Settings},
    stats::{Health, Stats},
    tenant::Tenant,
};

macro_rules! pod {
    ($($type:ty),+ $(,)?) => {
        $(
            // SAFETY: `#[repr(C)]`, integers only, no padding (its size is asserted where it is
            // defined), so every bit pattern is a value and every value is initialised bytes.
            unsafe impl Pod for $type {}
        )+
    };
}

pod!(
    Block, ExemptKey, ExemptPorts, Health, LimitSet, LockCell, PortTable, Settings, Stats, Tenant,
);
