//! What the agent holds: the policy in force, and the kernel that enforces it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    mem,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use limiter_common::{
    sanction::{Sanction, Sanctions, WITHOUT_END, seconds},
    settings::flags::RESTORED,
    stats::Stats,
};
use log::{debug, error, info};

use super::{
    AgentError,
    boot::{self, Ready},
    counts, gatehouse,
    kept::{Keeping, LastGood},
    names::TenantNames,
    networks::Networks,
    queues::Bell,
    stages::Stages,
};
use crate::{
    inspect::{self, View},
    kernel::{
        Changes, Ended, Kernel, LayerState, Mirror, Outcome, Reinstated, SanctionError, Sanctioned,
        attach::other_limiters, clock,
    },
    offence::Book,
    policy::{
        self,
        fault::{Fault, Severity},
        image::Image,
        model::{Places, Policy},
    },
    report::problem::Problem,
    service::watch::Watch,
    submission::gate::NodeGate,
    system::{Sources, System, cgroups, clock::MachineClock},
};

/// What the agent holds.
pub struct State {
    pub(super) policy: Arc<Policy>,
    pub(super) image: Image,
    /// What the machine was like when the image was made.
    pub(super) system: System,
    /// How often the policy, the image or the users changed.
    pub(super) identities: u64,
    /// Rung when somebody may have come under a sanction, or out of one, or other identities hold.
    pub(super) bell: Bell,
    /// The gate of the node's own mail server, which goes by the same identities.
    pub(super) gate: Option<Arc<NodeGate>>,
    /// Who wants to know whether mail programs ask.
    pub(super) watch: Arc<Watch>,
    pub(super) kernel: Kernel,
    pub(super) mirror: Mirror,
    /// What time it is, for whatever outlives this agent.
    pub(super) clock: Arc<MachineClock>,
    /// The interfaces, and what belongs on them.
    pub(super) networks: Networks,
    /// The sanction that is about to come into force, for which layers may be needed.
    pub(super) coming: Option<Sanction>,
    /// What was attached when it was last looked after.
    pub(super) layers: Vec<LayerState>,
    sources: Sources,
    tenant_names: TenantNames,
    /// Keeps the policy in force.
    last_good: LastGood,
    /// Whether tenants or policies changed and the court was not told.
    book_changed: bool,
    /// Where things were at the start, and still are.
    places: Places,
    /// What is wrong, by what it is about, so that it can be taken back.
    problems: HashMap<Trouble, Problem>,
}

/// What a reload says that changed the places.
const PLACES_CHANGED: &str = "`attach.cgroup`, `pin_dir`, `state_dir`, `control`, `tenants` or a \
                              socket of `services` changed: where things are is only read at the start";
const PLACES_REMEDY: &str = "to move `pin_dir` or `attach.cgroup`, stop the agent and `limiter \
                             detach` with the old file first; else restart the agent";

/// What a problem of the agent's is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The files.
    Configuration,
    /// Keeping the last good policy.
    LastGood,
    /// Following the machine's users, cgroups and addresses.
    Watching,
    /// Being told when they change.
    Eyes,
    /// Listing the interfaces.
    Interfaces,
    /// Uplinks that are not there.
    Uplinks,
    /// Being told when they change.
    InterfaceWatch,
    /// Telling the programs of them.
    InterfaceMap,
    /// Writing the policy into the kernel.
    Kernel,
    /// The event history.
    Store,
    /// The record book.
    Ledger,
    /// Damage in the record book that was found while it was in use.
    LedgerDamaged,
    /// The copy of what is in force, where there is no record book.
    Spare,
    /// The queues of the mail servers.
    Queues,
    /// Taking complaints in.
    Complaints,
    /// Counting bounces.
    Bounces,
    /// Counting Mailman's lists.
    Lists,
    /// Programs and pins that somebody took away, and are there again.
    Repaired,
    /// Pins that cannot be kept.
    Links,
    /// Identities that two tenants claim on this machine.
    Contested,
    /// Sanctions that could not be written.
    Sanctions,
    /// Places that changed in the files and are only read at the start.
    Places,
    /// Keeping whom tenants wrote to.
    Recipients,
    /// Answering mail programs.
    Services,
    /// Mail programs that ask by halves.
    Halves,
    /// Counts of an earlier boot that could not be read.
    CountsLost,
    /// Keeping counts for the next boot.
    Counts,
}

/// The state, shared between the loop and the control socket.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<State>>);

impl Shared {
    /// Shares a state.
    pub fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    /// The state. A panic of another holder does not take it away: every change of the kernel is
    /// whole in itself.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Puts a policy into the kernel and attaches the programs. Gives beside the state the policy
    /// that is being kept as the last good one, unless that is where it came from.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn enforce(
        ready: Ready,
        mut kernel: Kernel,
        clock: Arc<MachineClock>,
        netns: u32,
        sources: Sources,
        tenant_names: TenantNames,
    ) -> Result<(Self, Option<Keeping>), AgentError> {
        let mut stages = Stages::begin("enforcing");
        let mut mirror = Mirror::read(&kernel.maps, netns)?;
        stages.done("reading what stands in the kernel");
        let attach_point = ready.policy.places.attach_point(&sources.cgroup_mount);
        if let Some((id, depth)) = cgroups::place_of(&attach_point, &sources.cgroup_mount) {
            mirror.set_scope(id, depth);
        }
        // What was counted before goes in with the tenants, and before anything counts anew.
        let lost = counts::inherit(&ready.policy.places.state_dir, &clock, &mut mirror, &kernel)?;
        let changes = mirror.apply(&ready.image, &mut kernel)?;
        stages.done("writing the policy into the kernel");
        info!("policy loaded: {changes}");
        mirror.set_flags(RESTORED, RESTORED, &mut kernel)?;
        kernel.attach(&ready.policy.places.attach_point(&sources.cgroup_mount))?;
        stages.done("attaching");
        let mut state = Self {
            places: ready.policy.places.clone(),
            policy: ready.policy,
            image: ready.image,
            system: ready.system,
            identities: 0,
            gate: None,
            watch: Arc::default(),
            bell: Bell::default(),
            kernel,
            clock,
            mirror,
            networks: Networks::default(),
            coming: None,
            layers: Vec::new(),
            sources,
            tenant_names,
            problems: HashMap::new(),
            last_good: LastGood::default(),
            book_changed: false,
        };
        if let Some(problem) = lost {
            state.trouble(Trouble::CountsLost, problem);
        }
        let keeping = (!ready.is_fallback).then(|| state.last_good.begin(&state.policy, ()));
        // Before anybody waits for it: the verifier takes its time, for several at once no more
        // than for the slowest.
        state.kernel.prepare();
        stages.done("loading the programs that may be needed");
        state.follow_interfaces();
        stages.done("following the interfaces");
        state.publish_names();
        stages.done("names");
        if ready.is_fallback {
            state.trouble(Trouble::Configuration, bad_files(&ready.faults));
        } else {
            boot::say_warnings(&ready.faults);
            state.say_contested(&ready.faults);
        }
        Ok((state, keeping))
    }

    /// Where everything is that must survive the agent.
    pub fn state_dir(&self) -> PathBuf {
        self.places.state_dir.clone()
    }

    /// What there is to look at.
    pub fn view(&self) -> View<'_> {
        View {
            maps: &self.kernel.maps,
            image: Some(&self.image),
            policy: &self.policy,
            cgroup_mount: &self.sources.cgroup_mount,
        }
    }

    /// What a reload left undone until the next start, if anything.
    pub fn needs_restart(&self) -> Option<String> {
        let changed = self.problems.contains_key(&Trouble::Places);
        changed.then(|| format!("{PLACES_CHANGED}; {PLACES_REMEDY}"))
    }

    /// Programs of other limiters that judge the same connections.
    pub fn other_limiters(&self) -> Vec<Problem> {
        let others = other_limiters(
            &self.places.attach_point(&self.sources.cgroup_mount),
            &self.sources.cgroup_mount,
            self.kernel.pins(),
        );
        inspect::other_limiters(&others)
    }

    /// The programs and where they are attached, looked at now.
    pub fn layers(&self) -> Vec<LayerState> {
        self.kernel.look(&self.layers)
    }

    pub(super) fn say_layers(&mut self, outcome: &Outcome) {
        if let Some(first) = outcome.repaired.first() {
            let more = match outcome.repaired.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            let problem = Problem::warning(
                format!("somebody took limiter apart while the agent ran: {first}{more}"),
                "find out who; what was sent in the two seconds before may not have been judged",
            );
            self.trouble(Trouble::Repaired, problem);
        }
        match outcome.problems.first() {
            Some(first) => {
                let problem = Problem::error(
                    format!("what keeps limiter in force without the agent is not safe: {first}"),
                    "mend it, or everything is open when the agent stops; it is looked at again \
                     every two seconds",
                );
                self.trouble(Trouble::Links, problem);
            }
            None => self.mended(Trouble::Links),
        }
    }

    /// What is wrong with the agent's own work.
    pub fn problems(&self) -> Vec<Problem> {
        self.problems.values().cloned().collect()
    }

    /// Remembers that something is wrong.
    pub fn trouble(&mut self, about: Trouble, problem: Problem) {
        if self.problems.get(&about) != Some(&problem) {
            error!("{}; {}", problem.problem, problem.remedy);
            self.problems.insert(about, problem);
        }
    }

    /// Remembers how something is wrong now, and logs it only if it was not wrong before.
    pub fn trouble_goes_on(&mut self, about: Trouble, problem: Problem) {
        match self.problems.get_mut(&about) {
            Some(known) => *known = problem,
            None => self.trouble(about, problem),
        }
    }

    /// Why mail programs are not answered, where they should be.
    pub fn shut_doors(&self) -> Vec<String> {
        let found = self.problems.get(&Trouble::Services);
        found.map(|it| it.problem.clone()).into_iter().collect()
    }

    /// Forgets what was wrong.
    pub fn mended(&mut self, about: Trouble) {
        self.problems.remove(&about);
    }

    /// Puts another policy into force. Gives beside the changes the policy that is being kept as
    /// the last good one.
    ///
    /// # Errors
    ///
    /// It does not fit, or the kernel refuses; the policy in force stays.
    pub fn adopt(&mut self, ready: Ready) -> Result<(Changes, Keeping), AgentError> {
        let mut stages = Stages::begin("reload");
        let changes = self.write(&ready.image)?;
        stages.done("writing the policy into the kernel");
        boot::say_warnings(&ready.faults);
        self.mended(Trouble::Configuration);
        // Which interfaces are looked at is followed at once.
        let places = Places {
            uplinks: self.places.uplinks.clone(),
            guests: self.places.guests.clone(),
            ..ready.policy.places.clone()
        };
        if places == self.places {
            self.mended(Trouble::Places);
        } else {
            self.trouble(
                Trouble::Places,
                Problem::warning(PLACES_CHANGED, PLACES_REMEDY),
            );
        }
        self.mended(Trouble::Contested);
        let before = (
            mem::replace(&mut self.policy, ready.policy),
            mem::replace(&mut self.image, ready.image),
        );
        self.system = ready.system;
        self.book_changed = true;
        let keeping = self.last_good.begin(&self.policy, before);
        self.other_identities();
        stages.done("telling the gate");
        self.follow_interfaces();
        stages.done("following the interfaces");
        Ok((changes, keeping))
    }

    /// Looks at the machine, and compiles the policy in force again if it changed.
    pub fn follow_machine(&mut self) {
        match self.try_follow_machine() {
            Ok(faults) => {
                self.mended(Trouble::Watching);
                if let Some(faults) = faults {
                    self.say_contested(&faults);
                }
            }
            Err(error) => self.trouble(
                Trouble::Watching,
                Problem::error(
                    format!("users, cgroups or addresses changed and cannot be followed: {error}"),
                    "what was bound before stays bound; mend it, then `limiter reload`",
                ),
            ),
        }
    }

    /// What the machine contradicts, if it changed.
    fn try_follow_machine(&mut self) -> Result<Option<Vec<Fault>>, AgentError> {
        let system = System::snapshot(&self.policy, &self.sources)?;
        // The same facts make the same image.
        if system == self.system {
            return Ok(None);
        }
        let ready = boot::compiled(Arc::clone(&self.policy), Vec::new(), system);
        let other_users = ready.system.users != self.system.users;
        if ready.image != self.image {
            let changes = self.write(&ready.image)?;
            info!("the machine changed: {changes}");
            self.image = ready.image;
            self.book_changed = true;
            self.system = ready.system;
            self.other_identities();
        } else {
            self.system = ready.system;
            if other_users {
                self.other_identities();
            }
        }
        Ok(Some(ready.faults))
    }

    fn other_identities(&mut self) {
        self.identities = self.identities.wrapping_add(1);
        // Before the lock is let go: a place in the kernel may be another tenant's from now on.
        self.follow_at_the_gate();
        self.bell.ring();
    }

    /// Has the gate go by who is who now.
    pub(super) fn follow_at_the_gate(&self) {
        if let Some(gate) = &self.gate {
            gate.set_directory(gatehouse::directory(self));
        }
    }

    /// Says what the machine contradicts, if anything: it is left to whoever nobody claims.
    fn say_contested(&mut self, faults: &[Fault]) {
        let contested: Vec<String> = faults
            .iter()
            .filter(|fault| fault.severity == Severity::Error)
            .map(ToString::to_string)
            .collect();
        let Some(first) = contested.first() else {
            self.mended(Trouble::Contested);
            return;
        };
        let problem = Problem::error(
            format!(
                "what two tenants have come to claim is left to `default` ({} in all): {first}",
                contested.len()
            ),
            "`limiter check` shows them all; change the claims, then `limiter reload`",
        );
        self.trouble(Trouble::Contested, problem);
    }

    fn write(&mut self, image: &Image) -> Result<Changes, AgentError> {
        let written = self.mirror.apply(image, &mut self.kernel);
        // What failed may have been written in part.
        if !written
            .as_ref()
            .is_ok_and(|changes| changes.added + changes.removed == 0)
        {
            self.publish_names();
        }
        match written {
            Ok(changes) => {
                self.mended(Trouble::Kernel);
                debug!("{changes}");
                Ok(changes)
            }
            Err(error) => {
                let problem = Problem::error(
                    format!("the policy could not be written into the kernel: {error}"),
                    "`limiter reload` tries again",
                );
                self.trouble(Trouble::Kernel, problem);
                Err(error.into())
            }
        }
    }

    /// Says what came of keeping the last good policy.
    pub fn say_kept(&mut self, kept: Result<(), Problem>) {
        match kept {
            Ok(()) => self.mended(Trouble::LastGood),
            Err(problem) => self.trouble(Trouble::LastGood, problem),
        }
    }

    /// Until when nothing of `tenant` is refused, because it or the node is opened; `None` if neither
    /// is, or there is no such tenant.
    #[must_use]
    pub fn opened_until(&self, tenant: &str) -> Option<jiff::Timestamp> {
        let index = self.mirror.index_of(tenant)?;
        self.view().opened(index).ok().flatten()
    }

    /// Refuses nothing for a while, on the whole node or of one tenant; `None` ends it.
    ///
    /// # Errors
    ///
    /// There is no such tenant (`Ok(false)`), or the kernel refuses.
    pub fn observe(
        &mut self,
        tenant: Option<&str>,
        duration: Option<Duration>,
    ) -> Result<Option<u64>, AgentError> {
        let until_ns = duration.map_or(0, clock::from_now);
        let index = match tenant {
            None => None,
            Some(name) => match self.mirror.index_of(name) {
                Some(index) => Some(index),
                None => return Ok(None),
            },
        };
        self.mirror.observe(index, until_ns, &mut self.kernel)?;
        Ok(Some(until_ns))
    }

    /// Puts a tenant and everybody below it under a sanction. What must be attached for it to reach
    /// everything has to be attached before.
    ///
    /// # Errors
    ///
    /// [`SanctionError`].
    pub fn sanction(
        &mut self,
        tenant: &str,
        sanction: Sanction,
        duration: Option<Duration>,
    ) -> Result<Sanctioned, SanctionError> {
        self.coming = Some(sanction);
        self.look_after_layers();
        let sanctioned = self
            .mirror
            .sanction(tenant, sanction, duration, &mut self.kernel);
        self.coming = None;
        self.bell.ring();
        sanctioned
    }

    /// Where the cgroups are.
    pub fn cgroup_mount(&self) -> PathBuf {
        self.sources.cgroup_mount.clone()
    }

    /// The places in the image of the tenants with these indices in the kernel.
    pub fn affected(&self, indices: &[u32]) -> BTreeSet<usize> {
        let affected: HashSet<u32> = indices.iter().copied().collect();
        self.image
            .tenants
            .iter()
            .enumerate()
            .filter(|(_, tenant)| {
                self.mirror
                    .index_of(&tenant.name)
                    .is_some_and(|index| affected.contains(&index))
            })
            .map(|(at, _)| at)
            .collect()
    }

    /// Takes back a tenant's own sanction, or all of them. Gives what was lifted and what is in
    /// force still.
    ///
    /// # Errors
    ///
    /// [`SanctionError`].
    pub fn reinstate(
        &mut self,
        tenant: &str,
        sanction: Option<Sanction>,
    ) -> Result<Reinstated, SanctionError> {
        let reinstated = self.mirror.reinstate(tenant, sanction, &mut self.kernel);
        self.bell.ring();
        reinstated
    }

    /// Whether a tenant can be under this sanction.
    ///
    /// # Errors
    ///
    /// [`SanctionError`]: why not.
    pub fn can_be_under(&self, tenant: &str, sanction: Sanction) -> Result<(), SanctionError> {
        self.mirror.can_be_under(tenant, sanction)
    }

    /// How many tenants there are at and below this one.
    pub fn below(&self, tenant: &str) -> usize {
        self.mirror.below(tenant)
    }

    /// What is left of each of a tenant's own sanctions; `Some(None)`: no end.
    ///
    /// # Errors
    ///
    /// There is no such tenant, or it cannot be under any.
    pub fn own_sanctions(
        &self,
        tenant: &str,
    ) -> Result<impl Iterator<Item = (Sanction, Option<Option<Duration>>)> + use<>, SanctionError>
    {
        let own = self.mirror.own_sanctions_of(tenant)?;
        let now_ns = clock::monotonic_ns();
        Ok(Sanction::ALL
            .iter()
            .map(move |sanction| (*sanction, left(&own, *sanction, now_ns))))
    }

    /// When a tenant's own sanction ends that is in force: in whole seconds of the kernel's clock,
    /// [`WITHOUT_END`] for none.
    ///
    /// # Errors
    ///
    /// There is no such tenant, or it cannot be under any.
    pub fn own_end(&self, tenant: &str, sanction: Sanction) -> Result<Option<u32>, SanctionError> {
        let own = self.mirror.own_sanctions_of(tenant)?;
        let holds = own.holds(sanction, seconds(clock::monotonic_ns()));
        Ok(holds.then_some(own.until_s[usize::from(sanction as u8)]))
    }

    /// All tenants' own sanctions that are in force, and what is left of them.
    pub fn all_own_sanctions(
        &self,
    ) -> impl Iterator<Item = (&str, Sanction, Option<Duration>)> + use<'_> {
        let now_ns = clock::monotonic_ns();
        self.mirror
            .all_own_sanctions()
            .flat_map(move |(tenant, own)| {
                Sanction::ALL.iter().filter_map(move |sanction| {
                    let left = left(&own, *sanction, now_ns)?;
                    Some((tenant, *sanction, left))
                })
            })
    }

    /// Tidies up behind sanctions that ended by themselves.
    pub fn tidy_sanctions(&mut self) {
        let now_ns = clock::monotonic_ns();
        match self.mirror.tidy_sanctions(now_ns, &mut self.kernel) {
            Ok(ended) => {
                self.mended(Trouble::Sanctions);
                for Ended { tenant, sanction } in ended {
                    let sanction = sanction.as_str();
                    info!("the sanction {sanction} of {tenant:?} has ended");
                }
            }
            Err(error) => self.trouble(
                Trouble::Sanctions,
                Problem::error(
                    format!("sanctions cannot be written into the kernel: {error}"),
                    "it is tried again every two seconds; what is in force stays",
                ),
            ),
        }
    }

    /// The tenants of whom refusals were counted and not told: index, name, and up to which total
    /// they were told.
    pub fn untold(&self) -> Vec<(u32, String, u64)> {
        self.mirror
            .tenants()
            .filter_map(|(index, name)| {
                let stats = self.kernel.maps.counters(index).ok()?;
                let untold = stats.notable() > stats.reported;
                untold.then(|| (index, name.to_owned(), stats.reported))
            })
            .collect()
    }

    /// What `count` makes of each tenant's counters.
    pub fn totals(&self, count: impl Fn(&Stats) -> u64) -> Vec<(String, u64)> {
        self.mirror
            .tenants()
            .filter_map(|(index, name)| {
                let stats = self.kernel.maps.counters(index).ok()?;
                Some((name.to_owned(), count(&stats)))
            })
            .collect()
    }

    /// What `count` makes of a tenant's counters, if they can be read.
    pub fn total(&self, tenant: &str, count: impl Fn(&Stats) -> u64) -> Option<u64> {
        let index = self.mirror.index_of(tenant)?;
        let stats = self.kernel.maps.counters(index).ok()?;
        Some(count(&stats))
    }

    /// What tells this life of the counters from all others.
    pub fn counters_epoch(&self, boot: &str) -> String {
        format!("{boot} {}", self.kernel.maps.stats.id())
    }

    /// The policies as the court goes by them, if they changed since this was asked last.
    pub fn changed_book(&mut self) -> Option<Book> {
        mem::take(&mut self.book_changed).then(|| policy::book::book(&self.policy, &self.image))
    }

    /// Lets whoever reads events know the tenants' names.
    fn publish_names(&self) {
        let names = self
            .mirror
            .tenants()
            .map(|(index, name)| (index, name.to_owned()))
            .collect();
        *self
            .tenant_names
            .write()
            .unwrap_or_else(PoisonError::into_inner) = names;
    }
}

/// What is left of a sanction at `now_ns` of the kernel's clock; `Some(None)`: no end.
fn left(own: &Sanctions, sanction: Sanction, now_ns: u64) -> Option<Option<Duration>> {
    let until_s = own.until_s[usize::from(sanction as u8)];
    if !own.holds(sanction, seconds(now_ns)) {
        return None;
    }
    let until_ns = u64::from(until_s) * 1_000_000_000;
    let left = Duration::from_nanos(until_ns.saturating_sub(now_ns));
    Some((until_s != WITHOUT_END).then_some(left))
}

/// The problem that the files cannot be loaded.
pub fn bad_files(faults: &[Fault]) -> Problem {
    let first = faults
        .iter()
        .find(|fault| fault.severity == Severity::Error);
    let errors = faults
        .iter()
        .filter(|fault| fault.severity == Severity::Error)
        .count();
    let faults = match errors {
        1 => "a fault".to_owned(),
        errors => format!("{errors} faults"),
    };
    let first = first.map_or_else(String::new, |fault| format!(": {fault}"));
    Problem::error(
        format!("the configuration has {faults}, the last good policy is in force{first}"),
        "`limiter check` shows them all; then `limiter reload`",
    )
}
