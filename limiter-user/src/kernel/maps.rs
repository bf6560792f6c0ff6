//! The maps, typed.

use std::path::Path;

use aya::{
    Ebpf,
    maps::{Map, MapData, MapInfo, PerCpuArray, RingBuf},
};
use limiter_common::{
    abi::{DENSE_UIDS, MAX_TENANT_NAME, maps},
    address::{Address, ExemptKey, ExemptPorts},
    flow::{Departure, DepartureKey, Flow, FlowKey, InterfaceInfo, SocketState, VisitKey},
    limit::{Block, LimitSet, LockCell, Scratch},
    mailbox::Client,
    mark::Mark,
    sanction::Sanctions,
    settings::{PortTable, Settings},
    stats::{Health, Stats},
    tenant::{Tenant, TenantName},
};

pub use super::typed::{TypedArray, TypedHash, TypedTrie};
use super::{
    KernelError,
    pins::Pins,
    typed::{array, hash, trie},
};

/// Reads and writes of a locked value are done under the kernel's own lock.
const BPF_F_LOCK: u64 = 4;

/// All maps that the agent reads or writes.
pub struct Maps {
    /// Whether all of them were made by this process: what it did not write is zero.
    pub are_new: bool,
    /// The policy of each tenant.
    pub tenants: TypedArray<Tenant>,
    /// Counters by tenant.
    pub stats: TypedArray<Stats>,
    /// Interned sets of limits.
    pub limit_sets: TypedArray<LimitSet>,
    /// The state of limits.
    pub blocks: TypedArray<Block>,
    /// One lock per tree.
    pub locks: TypedArray<LockCell>,
    /// Owners of ordinary uids.
    pub uids: TypedArray<u32>,
    /// Owners of high uids, by prefix.
    pub uid_ranges: TypedTrie<[u8; 4], u32>,
    /// Owners of cgroups.
    pub cgroups: TypedHash<u64, u32>,
    /// The node's own addresses.
    pub own_addresses: TypedHash<Address, u32>,
    /// Which addresses could be the node's own at all.
    pub own_filter: TypedArray<u64>,
    /// Exempt destinations.
    pub exempt: TypedTrie<ExemptKey, ExemptPorts>,
    /// The group of every port.
    pub ports: TypedArray<PortTable>,
    /// What holds for the node.
    pub settings: TypedArray<Settings>,
    /// Indices by tenant name.
    pub names: TypedHash<TenantName, u32>,
    /// Whose interfaces are, and who sees their traffic.
    pub interfaces: TypedHash<u32, InterfaceInfo>,
    /// Owners by address prefix.
    pub addresses: TypedTrie<Address, u32>,
    /// Prefixes that stay reachable under a suspension.
    pub management: TypedTrie<Address, u32>,
    /// Prefixes refused in both directions.
    pub blocked: TypedTrie<Address, u32>,
    /// What could be blocked at all.
    pub blocked_filter: TypedArray<u64>,
    /// Each tenant's own sanctions.
    pub sanctions: TypedArray<Sanctions>,
    /// Locked mailbox clients.
    pub locked: TypedHash<Address, u64>,
    /// By which interface guests began connections to the node's mail ports.
    pub visits: TypedHash<VisitKey, u32>,
    health: PerCpuArray<MapData, Health>,
}

impl Maps {
    /// Takes the maps out of a loaded object. `are_new`: none of them was pinned before.
    ///
    /// # Errors
    ///
    /// One is missing or of another type: the object is of another version.
    pub fn take(ebpf: &mut Ebpf, are_new: bool) -> Result<Self, KernelError> {
        Self::build(are_new, |name| {
            ebpf.take_map(name)
                .ok_or_else(|| KernelError::Btf(format!("the object has no map {name}")))
        })
    }

    /// Opens the pinned maps, without the programs.
    ///
    /// # Errors
    ///
    /// One is missing or of another type.
    pub fn open(pins: &Pins) -> Result<Self, KernelError> {
        pins.check()?;
        Self::build(false, |name| {
            let path = pins.map(name);
            check_pin(&path, name)?;
            let data = MapData::from_pin(&path).map_err(KernelError::map(name, "open"))?;
            Map::from_map_data(data).map_err(KernelError::map(name, "open"))
        })
    }

    fn build(
        are_new: bool,
        mut map: impl FnMut(&'static str) -> Result<Map, KernelError>,
    ) -> Result<Self, KernelError> {
        Ok(Self {
            are_new,
            tenants: array(maps::TENANTS, &mut map, 0)?,
            stats: array(maps::STATS, &mut map, BPF_F_LOCK)?,
            limit_sets: array(maps::LIMIT_SETS, &mut map, 0)?,
            blocks: array(maps::BLOCKS, &mut map, 0)?,
            locks: array(maps::LOCKS, &mut map, BPF_F_LOCK)?,
            uids: array(maps::UIDS, &mut map, 0)?,
            uid_ranges: trie(maps::UID_RANGES, &mut map)?,
            cgroups: hash(maps::CGROUPS, &mut map)?,
            own_addresses: hash(maps::OWN_ADDRESSES, &mut map)?,
            own_filter: array(maps::OWN_FILTER, &mut map, 0)?,
            exempt: trie(maps::EXEMPT, &mut map)?,
            ports: array(maps::PORTS, &mut map, 0)?,
            settings: array(maps::SETTINGS, &mut map, 0)?,
            names: hash(maps::NAMES, &mut map)?,
            interfaces: hash(maps::INTERFACES, &mut map)?,
            addresses: trie(maps::ADDRESSES, &mut map)?,
            management: trie(maps::MANAGEMENT, &mut map)?,
            blocked: trie(maps::BLOCKED, &mut map)?,
            blocked_filter: array(maps::BLOCKED_FILTER, &mut map, 0)?,
            sanctions: array(maps::SANCTIONS, &mut map, 0)?,
            locked: hash(maps::LOCKED, &mut map)?,
            visits: hash(maps::VISITS, &mut map)?,
            health: map(maps::HEALTH)?
                .try_into()
                .map_err(KernelError::map(maps::HEALTH, "open"))?,
        })
    }

    /// What went wrong in the kernel so far, on all CPUs.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn health(&self) -> Result<Health, KernelError> {
        let by_cpu = self
            .health
            .get(&0, 0)
            .map_err(KernelError::map(maps::HEALTH, "read"))?;
        Ok(by_cpu.iter().fold(Health::default(), |sum, cpu| {
            let Health {
                events_lost,
                attempts_lost,
                internal,
                contended,
            } = *cpu;
            Health {
                events_lost: sum.events_lost + events_lost,
                attempts_lost: sum.attempts_lost + attempts_lost,
                internal: sum.internal + internal,
                contended: sum.contended + contended,
            }
        }))
    }
}

/// The pinned ring buffer that the programs write to.
///
/// # Errors
///
/// It is missing or of another type.
pub fn ring(pins: &Pins, name: &'static str) -> Result<RingBuf<MapData>, KernelError> {
    let data = MapData::from_pin(pins.map(name)).map_err(KernelError::map(name, "open"))?;
    let map = Map::from_map_data(data).map_err(KernelError::map(name, "open"))?;
    map.try_into().map_err(KernelError::map(name, "open"))
}

/// Key and value size of a map, bytes. Ring buffers have neither.
fn sizes(name: &str) -> (usize, usize) {
    match name {
        maps::TENANTS => (4, size_of::<Tenant>()),
        maps::STATS => (4, size_of::<Stats>()),
        maps::LIMIT_SETS => (4, size_of::<LimitSet>()),
        maps::BLOCKS => (4, size_of::<Block>()),
        maps::LOCKS => (4, size_of::<LockCell>()),
        maps::UIDS => (4, 4),
        maps::UID_RANGES => (8, 4),
        maps::CGROUPS => (8, 4),
        maps::OWN_ADDRESSES => (16, 4),
        maps::EXEMPT => (4 + size_of::<ExemptKey>(), size_of::<ExemptPorts>()),
        maps::PORTS => (4, size_of::<PortTable>()),
        maps::SETTINGS => (4, size_of::<Settings>()),
        maps::HEALTH => (4, size_of::<Health>()),
        maps::SCRATCH => (4, size_of::<Scratch>()),
        maps::NAMES => (MAX_TENANT_NAME + 1, 4),
        maps::INTERFACES => (4, size_of::<InterfaceInfo>()),
        maps::ADDRESSES | maps::MANAGEMENT | maps::BLOCKED => (4 + size_of::<Address>(), 4),
        maps::BLOCKED_FILTER | maps::OWN_FILTER => (4, 8),
        maps::MARKS => (4, size_of::<Mark>()),
        maps::FLOWS => (size_of::<FlowKey>(), size_of::<Flow>()),
        maps::SOCKETS => (4, size_of::<SocketState>()),
        maps::DEPARTURES => (size_of::<DepartureKey>(), size_of::<Departure>()),
        maps::SANCTIONS => (4, size_of::<Sanctions>()),
        maps::CLIENTS => (size_of::<Address>(), size_of::<Client>()),
        maps::CLIENT_LOCKS => (4, size_of::<LockCell>()),
        maps::LOCKED => (size_of::<Address>(), 8),
        maps::VISITS => (size_of::<VisitKey>(), 4),
        _ => (0, 0),
    }
}

/// Makes sure that a pinned map is what this version expects: aya would use it as it is.
///
/// # Errors
///
/// [`KernelError::ForeignPin`].
pub fn check_pin(path: &Path, name: &'static str) -> Result<MapInfo, KernelError> {
    let info = MapInfo::from_pin(path).map_err(KernelError::map(name, "open"))?;
    let (key, value) = sizes(name);
    let found = (info.key_size(), info.value_size());
    let same =
        usize::try_from(found.0).ok() == Some(key) && usize::try_from(found.1).ok() == Some(value);
    let uids_fit = name != maps::UIDS || info.max_entries() == DENSE_UIDS;
    if same && uids_fit {
        return Ok(info);
    }
    Err(KernelError::ForeignPin {
        path: path.to_owned(),
        found: format!(
            "{} entries of {} + {} bytes",
            info.max_entries(),
            found.0,
            found.1
        ),
        needed: format!("entries of {key} + {value} bytes"),
    })
}

/// A tenant's name as a key. Longer names are refused when the policy is checked.
#[must_use]
pub fn name_key(name: &str) -> TenantName {
    let mut key = [0; MAX_TENANT_NAME + 1];
    for (place, byte) in key.iter_mut().take(MAX_TENANT_NAME).zip(name.bytes()) {
        *place = byte;
    }
    key
}

/// The name in a key.
#[must_use]
pub fn key_name(key: &TenantName) -> String {
    let end = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
    String::from_utf8_lossy(&key[..end]).into_owned()
}
