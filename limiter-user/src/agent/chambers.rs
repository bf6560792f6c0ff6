//! What works only with a record book: the court and whoever works for it. Where the book cannot be
//! opened at the start, it is tried again until it can; everything else goes on meanwhile.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use log::info;
use tokio::runtime::Handle;

use super::{
    AgentError,
    bounces::{BounceTeller, Bounces},
    clerk::{Clerk, Errands},
    court::{self, Opened},
    desk::{Desk, Mailroom, NodeAround},
    herald::{CourtOutbox, Directory},
    judiciary::Judiciary,
    lists::{ListTeller, Lists},
    live::Cutter,
    run::courier_settings,
    spread::SharedSpread,
    state::{Shared, Trouble},
    warden::Warden,
};
use crate::{
    court::{CourtError, Submission},
    kernel::clock as kernel_clock,
    notice::{Courier, HealthTeller},
    policy::model::Policy,
    report::{problem::Problem, store::Store},
    system::clock::MachineClock,
};

/// How long until it is tried again to open the record book.
const AGAIN: Duration = Duration::from_secs(3);
/// How often it is looked for people who are to be told something.
const COURIER_LOOKS: Duration = Duration::from_secs(1);
/// How long whatever is being told may take when the agent stops.
const COURIER_GRACE: Duration = Duration::from_secs(3);

/// What the commands turn to.
pub struct Chambers {
    /// The court.
    pub judiciary: Judiciary,
    /// Whoever takes complaints in.
    pub desk: Arc<Desk>,
    /// How telling people fares.
    pub health: HealthTeller,
    /// What was read of mail that came back.
    pub bounces: BounceTeller,
    /// How many of Mailman's lists each account has.
    pub lists: ListTeller,
}

/// The chambers, once they are open; and what operators said before that.
#[derive(Default)]
pub struct Door {
    open: OnceLock<Chambers>,
    /// Holds already, and is heard when they open.
    said: Mutex<Vec<Submission>>,
    /// Who stands in as long as there is no court.
    warden: Mutex<Option<Warden>>,
    /// Where refusals are brought to, once there is somebody who takes them.
    errands: OnceLock<Errands>,
}

impl Door {
    /// The chambers, if they are open.
    pub fn chambers(&self) -> Option<&Chambers> {
        self.open.get()
    }

    /// The court, if it is open.
    pub fn judiciary(&self) -> Option<&Judiciary> {
        self.open.get().map(|chambers| &chambers.judiciary)
    }

    /// The clerk's errands, if there is a clerk.
    pub fn errands(&self) -> Option<&Errands> {
        self.errands.get()
    }

    /// Has something that holds already heard as soon as somebody can.
    pub fn hear_later(&self, submission: Submission) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match self.open.get() {
            // They opened this moment.
            Some(chambers) => {
                chambers.judiciary.court.owe(submission);
            }
            None => said.push(submission),
        }
    }

    /// Has whoever stands in follow what the kernel enforces.
    pub fn follow(&self) {
        if let Some(warden) = &*self.stand_in() {
            warden.follow();
        }
    }

    fn stand_in(&self) -> MutexGuard<'_, Option<Warden>> {
        self.warden.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn said(&self) -> Vec<Submission> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.clone()
    }

    /// Opens; `heard` of what was said was brought before the court.
    fn open(&self, chambers: Chambers, heard: usize) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        for submission in said.drain(..).skip(heard) {
            chambers.judiciary.court.owe(submission);
        }
        // It is opened once.
        let _ = self.open.set(chambers);
    }
}

/// Whoever works for the court.
pub struct Staff {
    clerk: Option<Clerk>,
    courier: Courier,
    mailroom: Mailroom,
    bounces: Bounces,
    lists: Lists,
}

/// Opens the chambers.
#[derive(Clone)]
pub struct Porter {
    pub shared: Shared,
    pub cutter: Arc<dyn Cutter>,
    pub directory: Directory,
    pub store: Option<Arc<Store>>,
    pub spread: SharedSpread,
    pub door: Arc<Door>,
}

impl Porter {
    /// Opens the chambers, if the record book can be opened.
    ///
    /// # Errors
    ///
    /// The agent stops.
    pub async fn open(&self) -> Result<Option<Staff>, AgentError> {
        let said = self.door.said();
        let heard = said.len();
        let porter = self.clone();
        let opened = super::run::blocking(move || {
            let clock = Arc::clone(&porter.shared.lock().clock);
            let herald = Box::new(porter.directory.clone());
            // Nobody else writes the copy of what is in force while it is read.
            let mut warden = porter.door.stand_in();
            match court::open(&porter.shared, &clock, &porter.cutter, herald, said) {
                Ok(opened) => {
                    *warden = None;
                    Ok(Some(opened))
                }
                Err(error) => {
                    porter.without_court(&mut warden, &clock, &error);
                    Ok(None)
                }
            }
        })
        .await?;
        let Some(opened) = opened else {
            return Ok(None);
        };
        self.shared.lock().mended(Trouble::Ledger);
        let (judiciary, clerk) = self.start_clerk(opened);
        let policy = Arc::clone(&self.shared.lock().policy);
        let outbox = Arc::new(CourtOutbox(Arc::clone(&judiciary.court)));
        let settings = courier_settings(&policy);
        let clock = Arc::new(kernel_clock::timestamp);
        let courier = Courier::start(&Handle::current(), outbox, settings, clock, COURIER_LOOKS);
        let around = NodeAround::new(self.shared.clone(), self.store.clone());
        let desk = Arc::new(Desk::new(Arc::clone(&judiciary.court), Box::new(around)));
        let mailroom = Mailroom::new(Arc::clone(&desk), self.shared.clone());
        if let Some(clerk) = &clerk {
            // It is opened once.
            let _ = self.door.errands.set(clerk.errands());
        }
        let errands = clerk.as_ref().map(Clerk::errands);
        let bounces = Bounces::new(Arc::clone(&judiciary.court), errands, self.shared.clone());
        let lists = Lists::new(Arc::clone(&judiciary.court), self.shared.clone());
        let chambers = Chambers {
            judiciary,
            desk,
            health: courier.health_teller(),
            bounces: bounces.teller(),
            lists: lists.teller(),
        };
        self.door.open(chambers, heard);
        Ok(Some(Staff {
            clerk,
            courier,
            mailroom,
            bounces,
            lists,
        }))
    }

    /// There is no court: somebody stands in, and people are told.
    fn without_court(
        &self,
        warden: &mut Option<Warden>,
        clock: &Arc<MachineClock>,
        error: &CourtError,
    ) {
        let said = match warden {
            Some(warden) => warden.said().to_owned(),
            None => {
                let opened = Warden::open(&self.shared, clock, &self.cutter);
                warden.insert(opened).said().to_owned()
            }
        };
        let problem = Problem::error(
            format!(
                "there are no offences and no sanctions but an operator's own: {error}; {said}"
            ),
            error.remedy(),
        );
        self.shared.lock().trouble(Trouble::Ledger, problem);
    }

    /// Tries until the record book can be opened.
    ///
    /// # Errors
    ///
    /// The agent stops.
    pub async fn open_at_last(self) -> Result<Staff, AgentError> {
        loop {
            tokio::time::sleep(AGAIN).await;
            if let Some(staff) = self.open().await? {
                info!("the record book can be used from now on");
                court::check_ledger(&self.shared);
                return Ok(staff);
            }
        }
    }

    /// The court's clerk begins to work.
    fn start_clerk(&self, opened: Opened) -> (Judiciary, Option<Clerk>) {
        let Opened {
            court,
            feed,
            sent,
            carried,
        } = opened;
        let clerk = Clerk::start(
            Arc::clone(&court),
            (feed, sent, self.spread.clone()),
            self.shared.clone(),
            self.store.clone(),
        );
        let clerk = match clerk {
            Ok(clerk) => Some(clerk),
            Err(error) => {
                let problem = Problem::error(
                    format!("refusals are not judged, and no sanction ends by its rule: {error}"),
                    "restart the agent",
                );
                self.shared.lock().trouble(Trouble::Ledger, problem);
                None
            }
        };
        (Judiciary { court, carried }, clerk)
    }
}

impl Staff {
    /// Goes by this policy from now on.
    pub async fn follow(&mut self, policy: &Policy) {
        self.courier.configure(courier_settings(policy));
        self.mailroom.follow(policy).await;
        tokio::task::block_in_place(|| {
            self.bounces.follow(policy);
            self.lists.follow(policy);
        });
    }

    /// Ends the work: what waits is heard.
    pub async fn stop(mut self) {
        self.mailroom.stop().await;
        tokio::task::block_in_place(|| {
            self.bounces.stop();
            self.lists.stop();
        });
        self.courier.stop(COURIER_GRACE).await;
        if let Some(clerk) = self.clerk {
            let _ = tokio::task::spawn_blocking(|| clerk.stop()).await;
        }
    }
}
