//! The agent's life: start, follow the machine, answer, stop. Stopping opens nothing.

use std::{
    future, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use log::{debug, error, info, warn};
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{broadcast, mpsc},
};

use super::{
    AgentError, boot,
    chambers::{Door, Porter},
    clock,
    counts::Keeper,
    court,
    cutter::SessionCutter,
    events::{Reader, Sink},
    eyes::Eyes,
    herald::Directory,
    live::{Cutter, LiveNode},
    names::{NodeNames, TenantNames},
    queues,
    services::Services,
    spread::SharedSpread,
    stages::Stages,
    state::{Shared, State, Trouble},
};
use crate::{
    control::{
        audit::Audit,
        server::{Limits, Server},
        socket,
    },
    kernel::{Kernel, Needs, alloc::size_for, pins::Pins},
    notice::CourierSettings,
    policy::{
        Kept,
        image::Image,
        model::{Mode, Policy},
        services::ServicePlaces,
    },
    report::{
        problem::Problem,
        store::{Store, StoreOptions},
    },
    system::{Sources, clock::Simulation, interfaces, mounts, namespace, watch::Watcher},
};

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The main configuration file.
    pub config: PathBuf,
    /// The control socket; `None`: the configuration's.
    pub control: Option<PathBuf>,
    /// For tests: other clocks than the machine's.
    pub simulation: Option<Simulation>,
}

/// How many events a slow follower may lag behind.
const FOLLOW_BACKLOG: usize = 16_384;

/// Runs until told to stop by SIGTERM or SIGINT. Enforcement goes on after that.
///
/// # Errors
///
/// The agent cannot start. What an earlier one left in the kernel goes on being enforced.
pub async fn run(options: RunOptions) -> Result<(), AgentError> {
    // SAFETY: takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Err(AgentError::NotRoot);
    }
    let mut signals = Signals::new()?;
    let sources = Sources::find()?;
    let (ready, kept) = blocking({
        let (config, sources) = (options.config.clone(), sources.clone());
        move || {
            let mut kept = Kept::default();
            let ready = boot::start(&config, &sources, &mut kept)?;
            Ok((ready, kept))
        }
    })
    .await?;
    let mut stages = Stages::begin("start");
    let policy = Arc::clone(&ready.policy);
    // Whoever answers there already enforces: two agents must not take turns.
    let control = options
        .control
        .unwrap_or_else(|| policy.places.control.clone());
    let socket = socket::bind(&control)?;
    let places = policy.places.services.clone();
    let places = places.moved(&policy.places.control, &control);
    mount_bpf(&policy.places.pin_dir)?;
    let pins = Pins::new(&policy.places.pin_dir);
    pins.prepare()?;
    let _lock = pins.lock()?;
    let cgroup = policy.places.attach_point(&sources.cgroup_mount);
    if !cgroup.is_dir() {
        let action = format!(
            "attach to the cgroup {} (`attach.cgroup`)",
            cgroup.display()
        );
        return Err(AgentError::io(action)(io::ErrorKind::NotFound.into()));
    }

    let tenant_names = TenantNames::default();
    let names = NodeNames::new(Arc::clone(&tenant_names), &sources.cgroup_mount);
    let names_at_the_gate = NodeNames::new(Arc::clone(&tenant_names), &sources.cgroup_mount);
    // Watched before it is looked at again, so that nothing changes unseen in between.
    let mut eyes = Eyes::open(Watcher::start(&policy, &sources)?);
    let interfaces = interfaces::Watch::open();
    let ((state, keeping), reports, mut stages) = blocking(move || {
        let needs = needs(&ready.image);
        let (kernel, reports) = Kernel::load(&ready.policy.places.pin_dir, needs)?;
        stages.done("watching, and loading the programs");
        let netns = namespace::own_netns()?;
        let clock = clock::choose(options.simulation, &kernel)?;
        let enforced = State::enforce(ready, kernel, clock, netns, sources, tenant_names)?;
        stages.done("enforcing");
        Ok((enforced, reports, stages))
    })
    .await?;
    let shared = Shared::new(state);
    follow_machine(&shared).await;
    stages.done("following the machine");

    let store = open_store(&shared);
    let cutter: Arc<dyn Cutter> = Arc::new(SessionCutter::new(shared.clone()));
    let directory = Directory::default();
    directory.follow(&policy);
    directory.ask({
        let shared = shared.clone();
        move |tenant| shared.lock().opened_until(tenant)
    });
    let spread = SharedSpread::default();
    let door = Arc::new(Door::default());
    let porter = Porter {
        shared: shared.clone(),
        cutter: Arc::clone(&cutter),
        directory: directory.clone(),
        store: store.clone(),
        spread: spread.clone(),
        door: Arc::clone(&door),
    };
    let mut staff = porter.open().await?;
    stages.done("the record book");
    // Where the record book cannot be opened, it is tried again.
    let mut late = tokio::spawn({
        let is_open = staff.is_some();
        async move {
            if is_open {
                future::pending().await
            } else {
                porter.open_at_last().await
            }
        }
    });
    // Also where there is no court: an operator's word holds without it.
    let queues = blocking({
        let shared = shared.clone();
        move || Ok(queues::start(&shared))
    })
    .await?;
    stages.done("the queues");
    let (follow, _) = broadcast::channel(FOLLOW_BACKLOG);
    let sink = Sink {
        store: store.clone(),
        follow: follow.clone(),
        node: policy.node.name.clone(),
        court: Arc::clone(&door),
        spread,
    };
    let mut services = open_services(&shared, names_at_the_gate, &places).await;
    stages.done("the services");
    let reader = tokio::spawn(Reader::new(reports, sink, names).run(shared.clone()));

    let audit = Arc::new(Audit::new(&policy.places.state_dir));
    let (policy_changed, mut policy_changes) = mpsc::unbounded_channel();
    let node = Arc::new(LiveNode {
        shared: shared.clone(),
        config: options.config,
        kept: Mutex::new(kept),
        store,
        audit: OnceLock::from(Arc::clone(&audit)),
        follow,
        since: Timestamp::now(),
        policy_changed,
        cutter,
        door: Arc::clone(&door),
    });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = Server::new(Arc::clone(&node) as _, audit, Limits::default());
    let serving = tokio::spawn(server.serve(socket, async {
        // An agent that is dropped stops too.
        let _ = stopped.await;
    }));

    let doing = match policy.node.mode {
        Mode::Enforce => "enforcing",
        Mode::Observe => "observing, except for tenants set to enforce:",
    };
    if let Some(keeping) = keeping {
        let kept = blocking(move || Ok(keeping.finish())).await?;
        shared.lock().say_kept(kept);
    }
    stages.done("keeping the last good policy");
    info!("ready: {doing} {}", policy.places.config.display());
    tell_systemd(&[NotifyState::Ready]);
    if staff.is_some() {
        court::check_ledger(&shared);
    }
    let mut interfaces = watched(&shared, interfaces);
    let mut reader = std::pin::pin!(reader);
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut keeper = Keeper::default();
    if let Some(staff) = &mut staff {
        staff.follow(&policy).await;
    }
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => break,
                Asked::Reload => {
                    tell_systemd(&[NotifyState::Reloading]);
                    let node = Arc::clone(&node);
                    say_reload(blocking(move || node.reload_files()).await);
                    tell_systemd(&[NotifyState::Ready]);
                }
            },
            _ = look.tick() => {
                keeper.keep_if_due(&shared);
                let (shared, door) = (shared.clone(), Arc::clone(&door));
                let looked = tokio::task::spawn_blocking(move || {
                    let mut state = shared.lock();
                    state.tidy_sanctions();
                    state.look_after_layers();
                    drop(state);
                    door.follow();
                });
                if let Err(error) = looked.await {
                    error!("looking after the links failed: {error}");
                }
                if let Some(services) = &mut services {
                    services.look_after(&node.shared).await;
                }
            }
            Some(()) = policy_changes.recv() => {
                let policy = Arc::clone(&shared.lock().policy);
                directory.follow(&policy);
                directory.ask({
                    let shared = shared.clone();
                    move |tenant| shared.lock().opened_until(tenant)
                });
                if let Some(staff) = &mut staff {
                    staff.follow(&policy).await;
                }
                if let Err(why) = eyes.follow(&policy) {
                    cannot_watch(&shared, &why);
                }
                follow_machine(&shared).await;
                follow_services(&shared, services.as_mut());
                tell_court(&shared, &door);
            }
            () = changed(&mut interfaces) => {
                let shared = shared.clone();
                let followed =
                    tokio::task::spawn_blocking(move || shared.lock().follow_interfaces());
                if let Err(error) = followed.await {
                    error!("following the interfaces failed: {error}");
                }
            }
            changed = eyes.next(&shared) => {
                match changed {
                    Ok(changes) => debug!("the machine changed: {changes:?}"),
                    Err(why) => {
                        cannot_watch(&shared, &why);
                    }
                }
                let started = Instant::now();
                follow_machine(&shared).await;
                follow_services(&shared, services.as_mut());
                tell_court(&shared, &door);
                eyes.rest(started.elapsed());
            }
            opened = &mut late, if staff.is_none() => {
                let mut opened = opened
                    .map_err(|error| AgentError::io("open the record book")(io::Error::other(error)))??;
                let policy = Arc::clone(&shared.lock().policy);
                opened.follow(&policy).await;
                staff = Some(opened);
                tell_court(&shared, &door);
            }
            ended = &mut reader => {
                error!("reading the kernel's reports ended: {ended:?}");
                return Err(AgentError::io("read the kernel's reports")(io::Error::other(
                    "the reader ended; enforcement goes on, restart the agent",
                )));
            }
        }
    }

    tell_systemd(&[NotifyState::Stopping]);
    drop(queues);
    // Whoever waits for an answer gets it.
    let _ = stop.send(());
    let _ = serving.await;
    late.abort();
    if let Some(services) = services {
        services.close().await;
    }
    if let Some(staff) = staff {
        staff.stop().await;
    }
    keeper.finish(&shared).await;
    info!(
        "stopped: the kernel goes on enforcing the policy in force; only `limiter detach` opens \
         the gate"
    );
    Ok(())
}

pub(super) fn courier_settings(policy: &Policy) -> CourierSettings {
    CourierSettings {
        node: policy.node.name.clone(),
        notices: policy.node.notices.clone(),
    }
}

/// How often it is looked whether everything is still attached.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How much room a policy needs.
fn needs(image: &Image) -> Needs {
    let slots = image
        .tenants
        .iter()
        .filter_map(|tenant| size_for(tenant.limits.len()))
        .map(usize::from)
        .sum();
    Needs {
        tenants: image.tenants.len(),
        slots,
    }
}

/// Compiles the policy in force again, for the machine as it is now.
async fn follow_machine(shared: &Shared) {
    let shared = shared.clone();
    let followed = tokio::task::spawn_blocking(move || shared.lock().follow_machine()).await;
    if let Err(error) = followed {
        error!("following the machine failed: {error}");
    }
}

/// The watch on interfaces; without it they are looked for every two seconds.
fn watched(shared: &Shared, watch: io::Result<interfaces::Watch>) -> Option<interfaces::Watch> {
    match watch {
        Ok(watch) => Some(watch),
        Err(error) => {
            let problem = Problem::error(
                format!("changes of interfaces are not told, only looked for: {error}"),
                "new interfaces are open for up to a second; restart the agent",
            );
            shared.lock().trouble(Trouble::InterfaceWatch, problem);
            None
        }
    }
}

/// Waits until the interfaces changed, or may have.
async fn changed(watch: &mut Option<interfaces::Watch>) {
    if let Some(watch) = watch {
        match watch.next().await {
            Ok(()) => return,
            Err(error) => warn!("the watch on interfaces failed: {error}"),
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
}

fn cannot_watch(shared: &Shared, why: &str) {
    let problem = Problem::error(
        format!("changes of users and cgroups are not told, only looked for every second: {why}"),
        "if inotify watches ran out: raise fs.inotify.max_user_watches",
    );
    shared.lock().trouble(Trouble::Eyes, problem);
}

/// Opens the doors for mail programs, if any are configured. Without them everything else works.
async fn open_services(
    shared: &Shared,
    names: NodeNames,
    places: &ServicePlaces,
) -> Option<Services> {
    match Services::open(shared, names, places).await {
        Ok(services) => services,
        Err(error) => {
            let problem = Problem::error(
                format!(
                    "mail programs are not answered, mail through them is not counted: {error}"
                ),
                "restart the agent; `limiter doctor` says what the kernel lacks",
            );
            shared.lock().trouble(Trouble::Services, problem);
            None
        }
    }
}

fn follow_services(shared: &Shared, services: Option<&mut Services>) {
    if let Some(services) = services {
        services.follow(shared);
    }
}

/// Tells the court of tenants and policies that changed.
fn tell_court(shared: &Shared, door: &Door) {
    let Some(errands) = door.errands() else {
        return;
    };
    let book = shared.lock().changed_book();
    if let Some(book) = book {
        errands.book(book);
    }
}

/// Opens the history. Without it everything is enforced all the same.
fn open_store(shared: &Shared) -> Option<Arc<Store>> {
    let mut state = shared.lock();
    let retention = &state.policy.node.retention;
    let options = StoreOptions::new(retention.events).within(retention.max_disk);
    match Store::open(&state.policy.places.state_dir, options) {
        Ok(store) => Some(Arc::new(store)),
        Err(error) => {
            let problem = Problem::error(
                format!("events are not recorded: {error}"),
                "make room or repair the directory, then restart the agent",
            );
            state.trouble(Trouble::Store, problem);
            None
        }
    }
}

/// Mounts the BPF file system where it is expected and missing, as systemd does elsewhere.
fn mount_bpf(pin_dir: &Path) -> Result<(), AgentError> {
    let missing = match mounts::find_bpf(pin_dir) {
        Ok(_) => return Ok(()),
        Err(missing) => missing,
    };
    let at = Path::new("/sys/fs/bpf");
    if !pin_dir.starts_with(at) || !at.is_dir() {
        return Err(missing.into());
    }
    if let Err(error) = mounts::mount_bpf(at) {
        warn!("cannot mount the BPF file system: {error}");
        return Err(missing.into());
    }
    info!("mounted the BPF file system at {}", at.display());
    Ok(())
}

fn say_reload(outcome: Result<crate::report::outcome::ReloadOutcome, AgentError>) {
    match outcome {
        Ok(outcome) if outcome.loaded => {}
        Ok(outcome) => {
            for fault in &outcome.faults {
                error!("{fault}");
            }
            error!("reload refused: {}", outcome.summary);
        }
        Err(error) => error!("reload failed, the policy in force stays: {error}"),
    }
}

fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!("cannot tell systemd: {error}");
    }
}

/// Runs what blocks outside the threads that wait.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AgentError> + Send + 'static,
) -> Result<T, AgentError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(AgentError::io("finish a task")(io::Error::other(error))),
    }
}

/// What a signal asks for.
enum Asked {
    Stop,
    Reload,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, AgentError> {
        let listen = |kind| signal(kind).map_err(AgentError::io("listen for signals"));
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}
