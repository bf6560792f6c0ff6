//! Permission for aya to move the map values as bytes.

use aya::Pod;

use crate::{
    address::{ExemptKey, ExemptPorts},
    flow::{Flow, FlowKey, InterfaceInfo, SocketState, VisitKey},
    limit::{Block, LimitSet, LockCell},
    mailbox::Client,
    sanction::Sanctions,
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
    Block,
    Client,
    ExemptKey,
    ExemptPorts,
    Flow,
    FlowKey,
    Health,
    InterfaceInfo,
    LimitSet,
    LockCell,
    PortTable,
    Sanctions,
    Settings,
    SocketState,
    Stats,
    Tenant,
    VisitKey,
);
