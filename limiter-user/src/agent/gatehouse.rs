//! The gate of this node: made at the start, told of other tenants, and what it remembers for a month
//! kept on the disk.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use log::{debug, error, warn};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::{
    names::NodeNames,
    state::{Shared, State, Trouble},
};
use crate::{
    kernel::{KernelError, maps::Maps},
    report::{event::Names as _, problem::Problem},
    submission::{
        directory::{Directory, Owner, Owners},
        distinct::Distinct,
        gate::NodeGate,
        till::Till,
        who::MailTenants,
    },
    system::{clock::MachineClock, durable, sealed::Sealed, sessions},
};

/// Who was written to, as it is kept.
const KEPT: Sealed = Sealed {
    name: "recipients.tags",
    magic: "limiter-recipients 1",
};

/// The owners of this node's sockets.
struct NodeOwners {
    sockets: sessions::Owners,
    names: NodeNames,
}

impl Owners for NodeOwners {
    fn owner_of(&self, client: SocketAddr, server: SocketAddr) -> Option<Owner> {
        match self.sockets.owner_of(client, server) {
            Ok(found) => {
                let found = found?;
                // One that is gone may have been a tenant's: then nobody knows whose it is.
                let cgroup = match found.cgroup_id {
                    Some(id) => Some(self.names.cgroup(id)?),
                    None => None,
                };
                Some(Owner {
                    uid: Some(found.uid),
                    cgroup,
                })
            }
            Err(error) => {
                warn!("whose the connection from {client} is cannot be found out: {error}");
                None
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
        let sockets = sessions::Owners::open().map_err(|source| KernelError::Syscall {
            call: "socket",
            source,
        })?;
        let mut state = shared.lock();
        let state_dir = state.state_dir();
        let till = Till::new(state.kernel.charger()?, Maps::open(state.kernel.pins())?);
        let clock = Arc::clone(&state.clock);
        let gate = Arc::new(NodeGate::new(
            till,
            Box::new(NodeOwners { sockets, names }),
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
        let encoded = self.gate.distinct(|distinct| {
            let changed = distinct.take_changed();
            changed.then(|| KEPT.encode(distinct))
        });
        let Some(encoded) = encoded else {
            return;
        };
        let path = KEPT.path(&self.state_dir);
        let kept = encoded.and_then(|bytes| durable::replace(&path, &bytes));
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
    let who = MailTenants::of(&state.policy, &state.image, &state.users);
    let mut hosts = vec![state.policy.node.name.clone()];
    if let Ok(host) = fs::read_to_string("/proc/sys/kernel/hostname") {
        hosts.push(host.trim().to_owned());
    }
    if let Ok(mailname) = fs::read_to_string("/etc/mailname") {
        hosts.push(mailname.trim().to_owned());
    }
    hosts.push("localhost".to_owned());
    Directory::new(&state.policy, &state.image, who, hosts, |name| {
        state.mirror.index_of(name)
    })
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
