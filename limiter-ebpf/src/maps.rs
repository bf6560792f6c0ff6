//! Every map, under the name by which the agent knows it. Sizes that depend on the node are set
//! by the agent when it loads the object; those written here are the smallest that make sense.

use aya_ebpf::{
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, SkStorage},
    macros::btf_map,
};
use limiter_common::{
    abi::DENSE_UIDS,
    address::{self, Address, ExemptKey, ExemptPorts},
    blocked,
    event::{Attempt, Event},
    flow::{Departure, DepartureKey, Flow, FlowKey, InterfaceInfo, SocketState, VisitKey},
    limit::{Block, LimitSet, LockCell, Scratch},
    mailbox::{self, Client},
    mark::{self, Mark},
    sanction::Sanctions,
    settings::{PortTable, Settings},
    stats::{Health, Stats},
    tenant::{Tenant, TenantName},
};

const NO_PREALLOC: usize = aya_ebpf::bindings::BPF_F_NO_PREALLOC as usize;

#[btf_map]
pub static TENANTS: Array<Tenant, 16384> = Array::new();

#[btf_map]
pub static STATS: Array<Stats, 16384> = Array::new();

#[btf_map]
pub static LIMIT_SETS: Array<LimitSet, 4096> = Array::new();

#[btf_map]
pub static BLOCKS: Array<Block, 4096> = Array::new();

#[btf_map]
pub static LOCKS: Array<LockCell, 16384> = Array::new();

#[btf_map]
pub static UIDS: Array<u32, { DENSE_UIDS as usize }> = Array::new();

#[btf_map]
pub static UID_RANGES: LpmTrie<[u8; 4], u32, 1048576> = LpmTrie::new();

#[btf_map]
pub static CGROUPS: HashMap<u64, u32, 65536, NO_PREALLOC> = HashMap::new();

#[btf_map]
pub static OWN_ADDRESSES: HashMap<Address, u32, 16384, NO_PREALLOC> = HashMap::new();

#[btf_map]
pub static OWN_FILTER: Array<u64, { address::OWN_WORDS as usize }> = Array::new();

#[btf_map]
pub static EXEMPT: LpmTrie<ExemptKey, ExemptPorts, 1048576> = LpmTrie::new();

#[btf_map]
pub static PORTS: Array<PortTable, 1> = Array::new();

#[btf_map]
pub static SETTINGS: Array<Settings, 1> = Array::new();

#[btf_map]
pub static HEALTH: PerCpuArray<Health, 1> = PerCpuArray::new();

#[btf_map]
pub static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

#[btf_map]
pub static EVENTS: RingBuf<Event, 1048576> = RingBuf::new();

#[btf_map]
pub static ATTEMPTS: RingBuf<Attempt, 1048576> = RingBuf::new();

#[btf_map]
pub static NAMES: HashMap<TenantName, u32, 1048576, NO_PREALLOC> = HashMap::new();

#[btf_map]
pub static INTERFACES: HashMap<u32, InterfaceInfo, 65536, NO_PREALLOC> = HashMap::new();

#[btf_map]
pub static ADDRESSES: LpmTrie<Address, u32, 1048576> = LpmTrie::new();

#[btf_map]
pub static MANAGEMENT: LpmTrie<Address, u32, 4096> = LpmTrie::new();

#[btf_map]
pub static BLOCKED: LpmTrie<Address, u32, { blocked::MAX_PREFIXES }> = LpmTrie::new();

#[btf_map]
pub static BLOCKED_FILTER: Array<u64, { blocked::WORDS as usize }> = Array::new();

#[btf_map]
pub static FLOWS: LruHashMap<FlowKey, Flow, 65536> = LruHashMap::new();

#[btf_map]
pub static MARKS: Array<Mark, { mark::MARKS as usize }> = Array::new();

#[btf_map]
pub static SOCKETS: SkStorage<SocketState> = SkStorage::new();

// A packet is on its way for a moment only.
#[btf_map]
pub static DEPARTURES: LruHashMap<DepartureKey, Departure, 8192> = LruHashMap::new();

#[btf_map]
pub static VISITS: LruHashMap<VisitKey, u32, 65536> = LruHashMap::new();

#[btf_map]
pub static SANCTIONS: Array<Sanctions, 16384> = Array::new();

#[btf_map]
pub static CLIENTS: LruHashMap<Address, Client, 32768> = LruHashMap::new();

#[btf_map]
pub static CLIENT_LOCKS: Array<LockCell, { mailbox::LOCKS as usize }> = Array::new();

// Nobody removes the locks that are over: when all places are taken, the one asked for least
// recently makes room.
#[btf_map]
pub static LOCKED: LruHashMap<Address, u64, 65536> = LruHashMap::new();
