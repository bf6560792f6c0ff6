//! What the mail programs of this node ask: the doors where they knock, kept open as long as the agent
//! runs, and answered by the gate.

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use limiter_common::mailbox;
use log::{debug, error};
use serde::{Deserialize, Serialize};

use super::{
    AgentError,
    gatehouse::Gatehouse,
    names::NodeNames,
    run::blocking,
    state::{Shared, State, Trouble},
};
use crate::{
    kernel::{clock, identities::wire_address, snapshot::elapsed},
    mta::{Places, PostfixSubmissions},
    offence::Reading,
    policy::services::ServicePlaces,
    report::problem::Problem,
    service::{
        ask::{Asker, Settings},
        callers::{Callers, allowed},
        counter::Counter,
        doors::Doors,
        dovecot::{Dovecot, KeptLogins, Locks},
        milter::{Limits, Milter},
        policy::PolicyService,
    },
    submission::gate::NodeGate,
    system::sealed::Sealed,
};

/// After how many looks, two seconds apart, what is to be remembered is kept.
const KEEP_EVERY: u32 = 150;
/// The same for logins: a minute.
const KEEP_LOGINS_EVERY: u32 = 30;
/// Logins by account, as they are kept.
const LOGINS: Sealed = Sealed {
    name: "logins.counts",
    magic: "limiter-logins 1",
};

/// Logins by account, and what the clocks said when they were kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    taken: Reading,
    logins: KeptLogins,
}

/// From how many messages on that were asked about by halves, and none whole, it is said.
const MANY_HALVES: u64 = 5;

/// Locks clients out by the edge.
struct EdgeLocks(Shared, Arc<NodeGate>);

impl Locks for EdgeLocks {
    fn is_suspended(&self, account: &str) -> bool {
        self.1.is_suspended(account)
    }

    fn lock(&self, address: IpAddr, lock: Duration) {
        let address = address.to_canonical();
        let mut state = self.0.lock();
        let exempt = &state.policy.node.mailbox_exempt;
        if address.is_loopback()
            || state.image.own_addresses.contains(&address)
            || exempt.iter().any(|net| net.contains(&address))
        {
            return;
        }
        let until = clock::monotonic_ns()
            .saturating_add(u64::try_from(lock.as_nanos()).unwrap_or(u64::MAX));
        let client = mailbox::client_of(&wire_address(address));
        let locked = &mut state.kernel.maps.locked;
        let longer = locked
            .get(&client)
            .is_ok_and(|known| known.is_some_and(|known| known >= until));
        if !longer && let Err(error) = locked.insert(client, until) {
            error!("{address} cannot be locked out of the mailboxes: {error}");
        }
    }
}

/// The services, as long as they are kept.
pub struct Services {
    house: Arc<Gatehouse>,
    settings: Arc<Settings>,
    callers: Arc<Callers>,
    dovecot: Arc<Dovecot>,
    doors: Vec<Doors>,
    /// Where mail servers are answered, until they are not.
    counter: Option<Counter>,
    shared: Shared,
    state_dir: PathBuf,
    /// How often it was looked after.
    looks: u32,
}

impl Services {
    /// Opens the doors, if any are configured.
    ///
    /// # Errors
    ///
    /// The kernel cannot be asked.
    pub async fn open(
        shared: &Shared,
        names: NodeNames,
        places: &ServicePlaces,
    ) -> Result<Option<Self>, AgentError> {
        if *places == ServicePlaces::default() {
            return Ok(None);
        }
        let house = blocking({
            let shared = shared.clone();
            move || Ok(Arc::new(Gatehouse::open(&shared, names)?))
        })
        .await?;
        let (rules, uids) = {
            let state = shared.lock();
            (state.policy.node.services.clone(), callers_of(&state))
        };
        let settings = Arc::new(Settings::new(rules));
        let callers = Arc::new(Callers::new(uids));
        let gate = Arc::clone(&house.gate);
        let watch = Arc::clone(&shared.lock().watch);
        let asker = Asker::new(Arc::clone(&gate) as _, Arc::clone(&settings));
        let policy = PolicyService::watched(asker, Arc::clone(&watch));
        let submissions = Arc::new(PostfixSubmissions::new(Places::default()));
        let milter = Arc::new(
            Milter::new(
                Arc::clone(&gate) as _,
                submissions,
                Arc::clone(&settings),
                Limits::default(),
            )
            .watched(Arc::clone(&watch)),
        );
        let locks = Arc::new(EdgeLocks(shared.clone(), gate));
        let dovecot = Arc::new(Dovecot::new(locks, clock::monotonic_ns).watched(watch));
        let counter = Counter::open().map_err(AgentError::io("start a thread for mail servers"))?;
        let [for_policy, for_milter] = {
            let _at_the_counter = counter.enter();
            let policy = policy.open(&places.policy, &callers);
            let converse = move |stream, caller| {
                let milter = Arc::clone(&milter);
                async move {
                    if let Err(error) = milter.serve(stream, &caller).await {
                        debug!("{error}");
                    }
                }
            };
            let milter = Doors::open(&places.milter, "services.milter", &callers, converse);
            [policy, milter]
        };
        let doors = vec![
            for_policy,
            for_milter,
            // A login may wait for the agent's state: nobody's mail is to wait with it.
            Doors::open(&places.dovecot, "services.dovecot", &callers, {
                let dovecot = Arc::clone(&dovecot);
                move |stream, caller| {
                    let dovecot = Arc::clone(&dovecot);
                    async move {
                        if let Err(error) = dovecot.serve(stream, &caller).await {
                            debug!("{error}");
                        }
                    }
                }
            }),
        ];
        let mut services = Self {
            house,
            settings,
            callers,
            dovecot,
            doors,
            counter: Some(counter),
            shared: shared.clone(),
            state_dir: shared.lock().state_dir(),
            looks: 0,
        };
        services.follow(shared);
        services.take_up();
        Ok(Some(services))
    }

    /// Goes by the policy and the users there are now.
    pub fn follow(&mut self, shared: &Shared) {
        let state = shared.lock();
        let node = &state.policy.node;
        self.settings.change(node.services.clone());
        self.callers.change(callers_of(&state));
        self.dovecot.set(node.mailbox_accounts, node.mode);
    }

    /// Looks after the doors, and now and then after what is to be kept.
    pub async fn look_after(&mut self, shared: &Shared) {
        let faults: Vec<String> = self.doors.iter().flat_map(Doors::faults).collect();
        {
            let mut state = shared.lock();
            if faults.is_empty() {
                state.mended(Trouble::Services);
            } else {
                let problem = Problem::error(
                    format!("mail programs are not answered: {}", faults.join("; ")),
                    "it is tried again every few seconds; until then they do what their own \
                     configuration says of a service that is away",
                );
                state.trouble(Trouble::Services, problem);
            }
            if self.house.gate.halves() < MANY_HALVES {
                state.mended(Trouble::Halves);
            } else {
                let problem = Problem::warning(
                    "the mail server asks about recipients, and not when the message is there: what \
                     it asks is given back, and mail is not counted",
                    "`limiter mta config postfix` shows the line that is missing \
                     (smtpd_end_of_data_restrictions)",
                );
                state.trouble(Trouble::Halves, problem);
            }
        }
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(KEEP_EVERY) {
            self.keep().await;
        } else if self.looks.is_multiple_of(KEEP_LOGINS_EVERY) {
            self.keep_logins().await;
        }
    }

    /// Goes on from the logins that an earlier agent counted.
    fn take_up(&self) {
        match LOGINS.load::<Kept>(&self.state_dir) {
            Ok(Some(Kept { taken, logins })) => {
                let now = self.shared.lock().clock.reading();
                self.dovecot.restore(logins, elapsed(&taken, &now));
            }
            Ok(None) => debug!("no logins were counted before"),
            Err(error) => {
                error!("{error}: logins by account are counted anew");
                if let Err(error) = LOGINS.set_aside(&self.state_dir) {
                    debug!("it stays where it is: {error}");
                }
            }
        }
    }

    async fn keep_logins(&self) {
        let Some(logins) = self.dovecot.keep() else {
            return;
        };
        let taken = self.shared.lock().clock.reading();
        let state_dir = self.state_dir.clone();
        let keep = move || LOGINS.keep(&state_dir, &Kept { taken, logins });
        match tokio::task::spawn_blocking(keep).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => error!("logins by account cannot be kept: {error}"),
            Err(error) => error!("logins by account cannot be kept: {error}"),
        }
    }

    /// Answers nobody any more, and keeps what is to be remembered, of what was under way too.
    pub async fn close(mut self) {
        self.doors.clear();
        drop(self.counter.take());
        self.keep().await;
    }

    /// Keeps what is to be remembered.
    async fn keep(&self) {
        let house = Arc::clone(&self.house);
        if let Err(error) = tokio::task::spawn_blocking(move || house.keep()).await {
            error!("what was counted of mail cannot be kept: {error}");
        }
        self.keep_logins().await;
    }
}

fn callers_of(state: &State) -> BTreeSet<u32> {
    allowed(
        &state.policy.node.services,
        &state.image,
        &state.system.users,
    )
}
