//! The maps, typed.

use std::{
    borrow::Borrow,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use aya::{
    Ebpf, Pod,
    maps::{
        Array, HashMap, Map, MapData, MapError, MapInfo, PerCpuArray, RingBuf,
        lpm_trie::{Key, LpmTrie},
    },
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

use super::{KernelError, batch, pins::Pins};

/// Reads and writes of a locked value are done under the kernel's own lock.
const BPF_F_LOCK: u64 = 4;

/// An array, with its name for messages.
pub struct TypedArray<V: Pod> {
    name: &'static str,
    id: u32,
    /// The map once more, for calls that aya does not make.
    fd: OwnedFd,
    map: Array<MapData, V>,
    flags: u64,
}

impl<V: Pod> TypedArray<V> {
    /// The map's id: no other map of this boot has it.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.map.len()
    }

    /// Whether it has no entries, which no map of the kernel's is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.len() == 0
    }

    /// The entry at `index`.
    ///
    /// # Errors
    ///
    /// The index is out of range.
    pub fn get(&self, index: u32) -> Result<V, KernelError> {
        self.map
            .get(&index, self.flags)
            .map_err(KernelError::map(self.name, "read"))
    }

    /// Replaces the entry at `index`.
    ///
    /// # Errors
    ///
    /// The index is out of range.
    pub fn set(&mut self, index: u32, value: impl Borrow<V>) -> Result<(), KernelError> {
        self.map
            .set(index, value, self.flags)
            .map_err(KernelError::map(self.name, "write"))
    }

    /// Replaces many entries. For arrays whose values have no lock.
    ///
    /// # Errors
    ///
    /// An index is out of range.
    pub fn set_many(&mut self, entries: &[(u32, V)]) -> Result<(), KernelError> {
        let (indices, values): (Vec<u32>, Vec<V>) = entries.iter().copied().unzip();
        if batch::update(self.fd.as_fd(), &indices, &values)? {
            return Ok(());
        }
        entries
            .iter()
            .try_for_each(|(index, value)| self.set(*index, value))
    }

    /// All entries, in their order. For arrays whose values have no lock.
    ///
    /// # Errors
    ///
    /// The kernel refuses to read them.
    pub fn all(&self) -> Result<Vec<V>, KernelError> {
        if let Some(entries) = batch::read::<u32, V>(self.fd.as_fd())? {
            return Ok(entries.into_iter().map(|(_, value)| value).collect());
        }
        (0..self.len()).map(|index| self.get(index)).collect()
    }
}

/// A hash, with its name for messages.
pub struct TypedHash<K: Pod, V: Pod> {
    name: &'static str,
    room: usize,
    map: HashMap<MapData, K, V>,
}

impl<K: Pod, V: Pod> TypedHash<K, V> {
    /// How many entries it can hold.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.room
    }

    /// The value of `key`, `None` if there is none.
    ///
    /// # Errors
    ///
    /// The kernel refuses to look it up.
    pub fn get(&self, key: &K) -> Result<Option<V>, KernelError> {
        match self.map.get(key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(KernelError::map(self.name, "read")(error)),
        }
    }

    /// All entries.
    ///
    /// # Errors
    ///
    /// The kernel refuses to list them.
    pub fn entries(&self) -> Result<Vec<(K, V)>, KernelError> {
        self.map
            .iter()
            .collect::<Result<_, _>>()
            .map_err(KernelError::map(self.name, "list"))
    }

    /// Sets the value of `key`.
    ///
    /// # Errors
    ///
    /// The map is full.
    pub fn insert(&mut self, key: K, value: V) -> Result<(), KernelError> {
        self.map
            .insert(key, value, 0)
            .map_err(KernelError::map(self.name, "write"))
    }

    /// Removes `key`; it is no fault if it is not there.
    ///
    /// # Errors
    ///
    /// The kernel refuses to remove it.
    pub fn remove(&mut self, key: &K) -> Result<(), KernelError> {
        absent_is_fine(self.map.remove(key), self.name)
    }
}

/// A trie of prefixes, with its name for messages.
pub struct TypedTrie<K: Pod, V: Pod> {
    name: &'static str,
    room: usize,
    /// The map once more, for calls that aya does not make.
    fd: OwnedFd,
    map: LpmTrie<MapData, K, V>,
}

impl<K: Pod, V: Pod> TypedTrie<K, V> {
    /// How many prefixes it can hold.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.room
    }

    /// The value of the longest prefix that holds all bits of `key`.
    ///
    /// # Errors
    ///
    /// The kernel refuses to look it up.
    pub fn get(&self, bits: u32, key: K) -> Result<Option<V>, KernelError> {
        match self.map.get(&Key::new(bits, key), 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(KernelError::map(self.name, "read")(error)),
        }
    }

    /// All prefixes as (length in bits, data, value).
    ///
    /// # Errors
    ///
    /// The kernel refuses to list them.
    pub fn entries(&self) -> Result<Vec<(u32, K, V)>, KernelError> {
        if let Some(entries) = batch::read::<Key<K>, V>(self.fd.as_fd())? {
            return Ok(entries
                .into_iter()
                .map(|(key, value)| (key.prefix_len(), key.data(), value))
                .collect());
        }
        self.map
            .iter()
            .map(|entry| entry.map(|(key, value)| (key.prefix_len(), key.data(), value)))
            .collect::<Result<_, _>>()
            .map_err(KernelError::map(self.name, "list"))
    }

    /// Sets the value of a prefix.
    ///
    /// # Errors
    ///
    /// The map is full.
    pub fn insert(&mut self, bits: u32, key: K, value: V) -> Result<(), KernelError> {
        let key = Key::new(bits, key);
        self.map
            .insert(&key, value, 0)
            .map_err(KernelError::map(self.name, "write"))
    }

    /// Removes a prefix; it is no fault if it is not there.
    ///
    /// # Errors
    ///
    /// The kernel refuses to remove it.
    pub fn remove(&mut self, bits: u32, key: K) -> Result<(), KernelError> {
        let key = Key::new(bits, key);
        absent_is_fine(self.map.remove(&key), self.name)
    }
}

impl<K: Pod, V: Pod> TypedTrie<K, V> {
    /// Sets the value of many prefixes (length in bits, data).
    ///
    /// # Errors
    ///
    /// The map is full; those before are written.
    pub fn insert_many(&mut self, prefixes: &[(u32, K)], value: V) -> Result<(), KernelError> {
        let keys: Vec<Key<K>> = prefixes
            .iter()
            .map(|(bits, k)| Key::new(*bits, *k))
            .collect();
        if batch::update(self.fd.as_fd(), &keys, &vec![value; keys.len()])? {
            return Ok(());
        }
        prefixes
            .iter()
            .try_for_each(|(bits, key)| self.insert(*bits, *key, value))
    }

    /// Removes many prefixes; it is no fault if some are not there.
    ///
    /// # Errors
    ///
    /// The kernel refuses to remove one; those before are gone.
    pub fn remove_many(&mut self, prefixes: &[(u32, K)]) -> Result<(), KernelError> {
        let keys: Vec<Key<K>> = prefixes
            .iter()
            .map(|(bits, k)| Key::new(*bits, *k))
            .collect();
        if batch::remove(self.fd.as_fd(), &keys)? {
            return Ok(());
        }
        prefixes
            .iter()
            .try_for_each(|(bits, key)| self.remove(*bits, *key))
    }
}

fn absent_is_fine(result: Result<(), MapError>, name: &'static str) -> Result<(), KernelError> {
    match result {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        Err(error) => Err(KernelError::map(name, "write")(error)),
    }
}

/// All maps that the agent reads or writes.
pub struct Maps {
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
    /// Takes the maps out of a loaded object.
    ///
    /// # Errors
    ///
    /// One is missing or of another type: the object is of another version.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        Self::build(|name| {
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
        Self::build(|name| {
            let path = pins.map(name);
            check_pin(&path, name)?;
            let data = MapData::from_pin(&path).map_err(KernelError::map(name, "open"))?;
            Map::from_map_data(data).map_err(KernelError::map(name, "open"))
        })
    }

    fn build(
        mut map: impl FnMut(&'static str) -> Result<Map, KernelError>,
    ) -> Result<Self, KernelError> {
        Ok(Self {
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

type TakeMap<'a> = &'a mut dyn FnMut(&'static str) -> Result<Map, KernelError>;

fn array<V: Pod>(
    name: &'static str,
    map: TakeMap<'_>,
    flags: u64,
) -> Result<TypedArray<V>, KernelError> {
    let map = map(name)?;
    let (fd, info) = once_more(&map, name)?;
    let map = map.try_into().map_err(KernelError::map(name, "open"))?;
    Ok(TypedArray {
        name,
        id: info.id(),
        fd,
        map,
        flags,
    })
}

fn hash<K: Pod, V: Pod>(
    name: &'static str,
    map: TakeMap<'_>,
) -> Result<TypedHash<K, V>, KernelError> {
    let map = map(name)?;
    let (_, info) = once_more(&map, name)?;
    let room = room(&info);
    let map = map.try_into().map_err(KernelError::map(name, "open"))?;
    Ok(TypedHash { name, room, map })
}

fn trie<K: Pod, V: Pod>(
    name: &'static str,
    map: TakeMap<'_>,
) -> Result<TypedTrie<K, V>, KernelError> {
    let map = map(name)?;
    let (fd, info) = once_more(&map, name)?;
    let room = room(&info);
    let map = map.try_into().map_err(KernelError::map(name, "open"))?;
    Ok(TypedTrie {
        name,
        room,
        fd,
        map,
    })
}

/// A second descriptor of a map, and what the kernel says of it.
fn once_more(map: &Map, name: &'static str) -> Result<(OwnedFd, MapInfo), KernelError> {
    let (Map::Array(data) | Map::HashMap(data) | Map::LruHashMap(data) | Map::LpmTrie(data)) = map
    else {
        return Err(KernelError::Btf(format!(
            "the map {name} is of another type"
        )));
    };
    let info = data.info().map_err(KernelError::map(name, "open"))?;
    let fd = data
        .fd()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| KernelError::Syscall {
            call: "fcntl",
            source,
        })?;
    Ok((fd, info))
}

/// How many entries it takes.
fn room(info: &MapInfo) -> usize {
    usize::try_from(info.max_entries()).unwrap_or(usize::MAX)
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
