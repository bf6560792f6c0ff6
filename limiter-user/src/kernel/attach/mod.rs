//! Attaching: which program belongs where, whether it is there, and putting it there (again).
//!
//! Whatever was attached once goes on without the agent: links are pinned, classic filters stay by
//! themselves. A later agent takes them over and replaces the programs in place. While the agent
//! runs it holds every link, so that removing a pin takes nothing away, and looks after all of it
//! every other second.

mod clsact;
mod netlink;
mod pinned;
mod place;
mod programs;
mod tie;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
};

use aya::Ebpf;
use limiter_common::verdict::Layer;
use log::{debug, error, info, warn};

use self::{
    place::{Duty, Key, Task, Way, left_out, tasks},
    programs::Programs,
    tie::{Held, Look, Tools},
};
use super::{KernelError, pins::Pins};

pub use self::pinned::{other_limiters, pinned_layers};
pub(super) use self::{
    pinned::{detach_filters, pinned_programs},
    place::CGROUP,
    programs::{OPTIONAL, in_object, suits},
    tie::Keepsake,
};

/// Makes everybody use classic filters, for tests on kernels that have TCX.
const NO_TCX: &str = "LIMITER_TEST_NO_TCX";

/// A side of an interface, as tc names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// What comes in by it.
    Ingress,
    /// What goes out by it.
    Egress,
}

/// An interface that is to have a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name, for people.
    pub name: String,
    /// Whether its packets start with an Ethernet header.
    pub ethernet: bool,
    /// On which side what guests send is seen: ingress, but egress of a macvtap. Uplinks: egress.
    pub side: Side,
}

/// What is to be attached, beside the programs that connect sockets, which always are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The socket layer.
    pub socket: bool,
    /// The count of mailbox logins.
    pub mailbox: bool,
    /// Blocked prefixes, null routes and locked clients at the uplinks.
    pub edge: bool,
    /// Interfaces that lead to guests.
    pub guests: Vec<Place>,
    /// Interfaces that lead out.
    pub uplinks: Vec<Place>,
}

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By a link to a cgroup.
    CgroupLink,
    /// By a TCX link (6.6 and later).
    Tcx,
    /// By a classic filter.
    Clsact,
    /// In the driver.
    XdpNative,
    /// Above the driver.
    XdpGeneric,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CgroupLink => "cgroup link",
            Self::Tcx => "TCX",
            Self::Clsact => "clsact",
            Self::XdpNative => "native XDP",
            Self::XdpGeneric => "generic XDP",
        })
    }
}

/// One program at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerState {
    /// The layer that it belongs to; the edge counts as mailbox.
    pub layer: Layer,
    /// The program.
    pub program: &'static str,
    /// The name of the interface or the path of the cgroup; empty if it is not known.
    pub target: String,
    /// The index of the interface; 0 for a cgroup.
    pub index: u32,
    /// Whether it is there.
    pub attached: bool,
    /// How; of what is not attached, how it would be.
    pub how: How,
    /// What is wrong with it, or worth knowing: of what is attached, it judges all the same.
    pub problem: Option<String>,
}

impl fmt::Display for LayerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program)?;
        if !self.target.is_empty() {
            write!(f, " at {}", self.target)?;
        }
        match self.how {
            How::CgroupLink => Ok(()),
            how if self.attached => write!(f, " ({how})"),
            _ => Ok(()),
        }
    }
}

/// How it went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Everything that is wanted, interfaces that are gone left out.
    pub layers: Vec<LayerState>,
    /// What somebody had taken away, and is there again.
    pub repaired: Vec<String>,
    /// What could not be repaired and is of no single layer.
    pub problems: Vec<String>,
}

impl Outcome {
    /// The interfaces where the guest program is.
    #[must_use]
    pub fn guests(&self) -> BTreeSet<u32> {
        self.indices(Layer::Guest)
    }

    /// The interfaces where the uplink program is.
    #[must_use]
    pub fn uplinks(&self) -> BTreeSet<u32> {
        self.indices(Layer::Uplink)
    }

    fn indices(&self, layer: Layer) -> BTreeSet<u32> {
        self.layers
            .iter()
            .filter(|state| state.attached && state.layer == layer)
            .map(|state| state.index)
            .collect()
    }
}

/// What is attached by this agent.
#[derive(Debug)]
pub struct Attacher {
    cgroup: PathBuf,
    programs: Programs,
    held: BTreeMap<Key, Holding>,
    /// Whether the kernel has TCX; none before it was tried.
    tcx: Option<bool>,
    /// Whether what earlier agents left was looked through.
    swept: bool,
}

/// Something that is attached.
#[derive(Debug)]
struct Holding {
    held: Held,
    how: How,
    program: &'static str,
    /// Worth knowing since it was attached.
    note: Option<String>,
}

impl Attacher {
    /// Nothing attached, and everything about cgroups at `cgroup`.
    #[must_use]
    pub fn new(cgroup: &Path) -> Self {
        Self {
            cgroup: cgroup.to_owned(),
            programs: Programs::default(),
            held: BTreeMap::new(),
            tcx: None,
            swept: false,
        }
    }

    /// The cgroup.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Attaches the programs that connect sockets, or puts them in the place of an earlier
    /// agent's.
    ///
    /// # Errors
    ///
    /// The kernel refuses to attach or to pin.
    pub fn attach_connect(&mut self, ebpf: &mut Ebpf, pins: &Pins) -> Result<(), KernelError> {
        let mut tools = Tools::new(pins, &self.cgroup)?;
        for task in tasks(&self.cgroup, &Wanted::default()) {
            if left_out(task.layer()) {
                warn!("{} is left out, as a test asked for", task.program());
                continue;
            }
            let mut repaired = Vec::new();
            self.settle(ebpf, &mut tools, &task, &mut repaired)?;
        }
        Ok(())
    }

    /// Makes what is attached what is wanted. What is there already is looked at and left as it is.
    /// One place that fails stops none of the others.
    pub fn reconcile(&mut self, ebpf: &mut Ebpf, pins: &Pins, wanted: &Wanted) -> Outcome {
        let mut outcome = Outcome::default();
        let mut tools = match Tools::new(pins, &self.cgroup) {
            Ok(tools) => tools,
            Err(error) => {
                outcome.problems.push(error.to_string());
                outcome.layers = self.unseen(wanted, &error);
                return outcome;
            }
        };
        let tasks = tasks(&self.cgroup, wanted);
        for task in &tasks {
            if left_out(task.layer()) {
                outcome.layers.push(self.left_out(&mut tools, task));
                continue;
            }
            match self.settle(ebpf, &mut tools, task, &mut outcome.repaired) {
                Ok(problem) => {
                    let holding = self.held.get(&task.key);
                    outcome.layers.push(LayerState {
                        layer: task.layer(),
                        program: holding.map_or(task.program(), |holding| holding.program),
                        target: task.target.clone(),
                        index: task.key.index,
                        attached: true,
                        how: holding.map_or(How::CgroupLink, |holding| holding.how),
                        problem,
                    });
                }
                Err(_) if task.is_gone() => {
                    debug!("{} is gone", task.target);
                    tie::forget(&tools, task);
                }
                Err(error) => {
                    outcome.layers.push(task.missing(error.to_string()));
                }
            }
        }
        let keys: BTreeSet<Key> = tasks
            .iter()
            .filter(|task| !left_out(task.layer()))
            .map(|task| task.key)
            .collect();
        self.release_unwanted(&mut tools, &keys);
        if !self.swept {
            self.swept = true;
            self.sweep(&mut tools);
        }
        for what in &outcome.repaired {
            error!("{what}");
        }
        outcome
    }

    /// Loads the programs that can be needed soon.
    pub fn prepare(&mut self, ebpf: &mut Ebpf) {
        self.programs.prepare(ebpf);
    }

    /// Looks whether one program is where it belongs, and sees to it. Gives what is worth knowing.
    fn settle(
        &mut self,
        ebpf: &mut Ebpf,
        tools: &mut Tools<'_>,
        task: &Task,
        repaired: &mut Vec<String>,
    ) -> Result<Option<String>, KernelError> {
        let mut lost = false;
        if let Some(holding) = self.held.get_mut(&task.key) {
            let program = self.programs.get(ebpf, holding.program)?;
            match holding.held.look(tools, program)? {
                Look::Holds => return Ok(holding.note.clone()),
                Look::HoldsUnpinned(why) => return Ok(Some(why)),
                Look::Repaired(what) => {
                    repaired.push(format!(
                        "somebody {what} {} at {}; it is as it was",
                        holding.program, task.target
                    ));
                    return Ok(holding.note.clone());
                }
                Look::Lost => {
                    self.held.remove(&task.key);
                    lost = true;
                }
            }
        }
        let mut first_error = None;
        for way in &task.ways {
            if matches!(way, Way::Tcx { .. }) && !self.has_tcx(task.key.index) {
                continue;
            }
            let name = way.program();
            let attached = self
                .programs
                .get(ebpf, name)
                .and_then(|program| way.attach(tools, task, program));
            match attached {
                Ok(attached) => {
                    let tie::Attached { held, how, adopted } = attached;
                    let note = match (first_error, held.note()) {
                        (Some(error), _) if task.key.duty == Duty::Edge => {
                            Some(format!("not by the driver: {error}"))
                        }
                        (_, note) => note,
                    };
                    if lost {
                        repaired.push(format!(
                            "somebody detached {name} from {}: it is attached again",
                            task.target
                        ));
                    } else if adopted {
                        debug!("{name}: took over what was at {}", task.target);
                    } else {
                        info!("{name}: attached to {} ({how})", task.target);
                    }
                    tie::drop_other_ways(tools, task, &held);
                    self.held.insert(
                        task.key,
                        Holding {
                            held,
                            how,
                            program: name,
                            note: note.clone(),
                        },
                    );
                    return Ok(note);
                }
                Err(error) => {
                    debug!("{name} at {}: {error}", task.target);
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or(KernelError::NoWay {
            target: task.target.clone(),
        }))
    }

    /// Whether the kernel has TCX: asked, not guessed by its version.
    fn has_tcx(&mut self, ifindex: u32) -> bool {
        if let Some(known) = self.tcx {
            return known;
        }
        if std::env::var_os(NO_TCX).is_some_and(|value| value == "1") {
            warn!("{NO_TCX} is set: classic filters are used, for a test");
            self.tcx = Some(false);
            return false;
        }
        let known = tie::has_tcx(ifindex);
        self.tcx = known;
        known.unwrap_or(true)
    }

    /// Lets go of what is no longer wanted, and of what is gone.
    fn release_unwanted(&mut self, tools: &mut Tools<'_>, wanted: &BTreeSet<Key>) {
        let old: Vec<Key> = self
            .held
            .keys()
            .filter(|key| !wanted.contains(key))
            .copied()
            .collect();
        for key in old {
            if let Some(holding) = self.held.remove(&key) {
                info!("{}: no longer at {key}", holding.program);
                holding.held.release(tools);
            }
        }
    }

    /// Removes what earlier agents left where nothing is wanted any more.
    fn sweep(&self, tools: &mut Tools<'_>) {
        let held: BTreeSet<PathBuf> = self
            .held
            .values()
            .filter_map(|holding| holding.held.pin().map(Path::to_owned))
            .collect();
        for entry in fs::read_dir(tools.pins.links())
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            let ours = path.file_name().and_then(|name| name.to_str());
            if !held.contains(&path) && ours.is_some_and(place::is_pin_of_link) {
                info!("removing {}, which nothing needs any more", path.display());
                tie::remove_pin(&path);
            }
            let made = ours.and_then(place::of_discipline_pin);
            if made.is_some_and(|index| tie::interface_name(index).is_none()) {
                tie::remove_pin(&path);
            }
        }
        let kept: BTreeSet<(clsact::Where, u32)> = self
            .held
            .values()
            .filter_map(|holding| holding.held.filter())
            .collect();
        for filter in pinned::our_filters(&mut tools.netlink, tools.pins) {
            if !kept.contains(&(filter.at, filter.handle)) {
                tie::remove_filter(tools, filter.at, filter.handle, filter.priority);
            }
        }
    }

    /// What is left out on purpose must not be there from before either.
    fn left_out(&mut self, tools: &mut Tools<'_>, task: &Task) -> LayerState {
        if let Some(holding) = self.held.remove(&task.key) {
            holding.held.release(tools);
        }
        let why = format!("left out, because {} says so", place::WITHOUT_LAYER);
        if !self.swept {
            error!("{} at {}: {why}", task.program(), task.target);
        }
        task.missing(why)
    }

    /// What there is to say when nothing can be looked at.
    fn unseen(&self, wanted: &Wanted, error: &KernelError) -> Vec<LayerState> {
        let mut layers: Vec<LayerState> = tasks(&self.cgroup, wanted)
            .iter()
            .map(|task| task.missing(error.to_string()))
            .collect();
        for state in &mut layers {
            state.attached = self.held.keys().any(|key| key.index == state.index);
        }
        layers
    }

    /// Says of what is held now whether it still holds, without touching it.
    #[must_use]
    pub fn look(&self, last: &[LayerState]) -> Vec<LayerState> {
        let mut layers = last.to_vec();
        for state in &mut layers {
            let holding = self.held.iter().find(|(key, holding)| {
                key.index == state.index && holding.program == state.program
            });
            state.attached = holding.is_some_and(|(_, holding)| holding.held.holds());
        }
        layers
    }
}
