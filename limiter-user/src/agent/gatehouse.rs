//! The gate of this node: made at the start, told of other tenants, and what it remembers for a month
//! kept on the disk.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use limiter_common::flow::VisitKey;
use log::{debug, error, warn};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::{
    names::NodeNames,
    state::{Shared, State, Trouble},
};
use crate::{
    kernel::{KernelError, identities::wire_address, maps::Maps},
    report::{event::Names as _, problem::Problem},
    submission::{
        directory::{Directory, Inside, Owner, Owners},
        distinct::Distinct,
        gate::NodeGate,
        till::Till,
        who::MailTenants,
    },
    system::{
        clock::MachineClock,
        durable,
        interfaces::{Way, Ways},
        sealed::Sealed,
        sessions::{self, Found},
    },
};

/// Who was written to, as it is kept.
const KEPT: Sealed = Sealed {
    name: "recipients.tags",
    magic: "limiter-recipients 1",
};

/// The owners of this node's sockets.
struct NodeOwners {
    sockets: sessions::Owners,
    ways: Ways,
    inside: sessions::Inside,
    maps: Maps,
    names: NodeNames,
}

impl NodeOwners {
    /// In the calling thread's network namespace.
    fn open(names: NodeNames, maps: Maps) -> io::Result<Self> {
        Ok(Self {
            sockets: sessions::Owners::open()?,
            ways: Ways::open()?,
            inside: sessions::Inside::open()?,
            maps,
            names,
        })
    }

    /// What is known of an owner. One whose cgroup is gone may have been a tenant's: nobody knows.
    fn known(&self, found: sessions::Owner) -> Option<Owner> {
        let cgroup = match found.cgroup_id {
            Some(id) => Some(self.names.cgroup(id)?),
            None => None,
        };
        Some(Owner {
            uid: Some(found.uid),
            cgroup,
        })
    }
}

impl Owners for NodeOwners {
    fn owner_of(&self, client: SocketAddr, server: SocketAddr) -> Option<Owner> {
        match self.sockets.owner_of(client, server) {
            Ok(found) => self.known(found?),
            Err(error) => {
                warn!("whose the connection from {client} is cannot be found out: {error}");
                None
            }
        }
    }

    fn way_to(&self, client: IpAddr) -> Option<Way> {
        let found = self.ways.to(client);
        found
            .inspect_err(|error| warn!("where {client} is cannot be found out: {error}"))
            .ok()
    }

    fn way_through(&self, interface: u32) -> Option<Way> {
        let found = self.ways.through(interface);
        found
            .inspect_err(|error| warn!("interface {interface} cannot be looked at: {error}"))
            .ok()
    }

    fn visited(&self, client: SocketAddr, port: u16) -> Option<u32> {
        let key = VisitKey {
            source: wire_address(client.ip().to_canonical()),
            source_port: client.port(),
            destination_port: port,
        };
        match self.maps.visits.get(&key) {
            Ok(found) => found,
            Err(error) => {
                warn!("{error}");
                None
            }
        }
    }

    fn owner_inside(&self, namespace: i32, client: SocketAddr, server: SocketAddr) -> Inside {
        let found = self.inside.owner_of(&self.ways, namespace, client, server);
        match found {
            Ok(Found::Owner(owner)) => self.known(owner).map_or(Inside::Unknown, Inside::Owner),
            Ok(Found::Nobody) => Inside::Unknown,
            Ok(Found::Later(wait)) => Inside::Later(wait),
            Ok(Found::Nowhere) => Inside::Closed,
            Err(error) => {
                warn!("whose the connection from {client} is cannot be found out: {error}");
                Inside::Unknown
            }
        }
    }
}

/// The gate, and where it is kept.
pub struct Gatehouse {
    /// The gate.
    pub gate: Arc<NodeGate>,
    shared: Shared,
    state_dir: PathBuf,
}

impl Gatehouse {
    /// Makes the gate, and has it follow the policy and the machine from now on. In the node's own
    /// network namespace.
    ///
    /// # Errors
    ///
    /// The kernel's programs or maps cannot be reached.
    pub fn open(shared: &Shared, names: NodeNames) -> Result<Self, KernelError> {
        let mut state = shared.lock();
        let state_dir = state.state_dir();
        let maps = || Maps::open(state.kernel.pins());
        let owners = NodeOwners::open(names, maps()?).map_err(|source| KernelError::Syscall {
            call: "socket",
            source,
        })?;
        let till = Till::new(state.kernel.charger()?, maps()?);
        let clock = Arc::clone(&state.clock);
        let gate = Arc::new(NodeGate::new(
            till,
            Box::new(owners),
            remembered(&state_dir),
            Box::new(move || wall(&clock)),
        ));
        gate.set_directory(directory(&state));
        state.gate = Some(Arc::clone(&gate));
        drop(state);
        Ok(Self {
            gate,
            shared: shared.clone(),
            state_dir,
        })
    }

    /// Lets go of messages that nobody ended, and keeps what is to be remembered: every few minutes, and
    /// at the end.
    pub fn keep(&self) {
        self.gate.sweep();
        // Nobody waits for the disk.
        let Some(changed) = self.gate.changed_distinct() else {
            return;
        };
        let path = KEPT.path(&self.state_dir);
        let kept = KEPT
            .encode(&changed)
            .and_then(|bytes| durable::replace(&path, &bytes));
        let mut state = self.shared.lock();
        match kept {
            Ok(()) => state.mended(Trouble::Recipients),
            Err(error) => state.trouble(
                Trouble::Recipients,
                Problem::error(
                    format!(
                        "how many different recipients each tenant wrote to cannot be kept: {error}"
                    ),
                    "make room in state_dir: a restart would forget what was counted since",
                ),
            ),
        }
    }
}

/// Who is who by what the agent holds.
pub fn directory(state: &State) -> Directory {
    let who = MailTenants::of(&state.policy, &state.image, &state.system.users);
    let mut hosts = vec![state.policy.node.name.clone()];
    if let Ok(host) = fs::read_to_string("/proc/sys/kernel/hostname") {
        hosts.push(host.trim().to_owned());
    }
    if let Ok(mailname) = fs::read_to_string("/etc/mailname") {
        hosts.push(mailname.trim().to_owned());
    }
    hosts.push("localhost".to_owned());
    let interfaces = state.networks.for_mail(&state.policy);
    Directory::new(
        &state.policy,
        &state.image,
        who,
        &interfaces,
        hosts,
        |name| state.mirror.index_of(name),
    )
}

fn wall(clock: &MachineClock) -> Duration {
    Duration::from_millis(clock.reading().wall.0)
}

/// What was remembered before; nothing where it cannot be read, which is said.
fn remembered(state_dir: &Path) -> Distinct {
    match KEPT.load(state_dir) {
        Ok(Some(distinct)) => return distinct,
        Ok(None) => debug!("nobody's recipients were counted before"),
        Err(error) => error!("{error}: different recipients are counted anew"),
    }
    let mut key = [0; 32];
    if SystemRandom::new().fill(&mut key).is_err() {
        error!("the system gives no random numbers");
    }
    Distinct::new(key)
}
