//! Loading the object: maps that are pinned are used again with all they count, others are made.

use std::path::{Path, PathBuf};

use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{ProgramError, ProgramType, SchedClassifier},
};
use aya_obj::generated::bpf_func_id;
use limiter_common::abi::{globals, maps, programs};
use log::{info, warn};

use super::{
    KernelError,
    attach::{self, Attacher, Keepsake, Outcome, Wanted},
    btf::Offsets,
    debug,
    maps::{Maps, check_pin, ring},
    object,
    pins::Pins,
    reports::Reports,
    verifier,
};
use crate::system::mounts;

/// How much must fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Tenants, the node and the default included.
    pub tenants: usize,
    /// Slots of limit state, runs rounded up.
    pub slots: usize,
}

impl Needs {
    /// How many entries the maps get that are made now: twice what is needed, so that a node can
    /// grow without a restart.
    fn sizes(self) -> [(&'static str, u32); 7] {
        let double = |needed: usize, least: u32| {
            u32::try_from(needed.saturating_mul(2).next_power_of_two())
                .unwrap_or(u32::MAX >> 8)
                .clamp(least, 1 << 22)
        };
        let tenants = double(self.tenants, 16_384);
        let blocks = double(self.slots.div_ceil(8), 2_048);
        [
            (maps::TENANTS, tenants),
            (maps::STATS, tenants),
            (maps::LOCKS, tenants),
            (maps::NAMES, tenants),
            (maps::SANCTIONS, tenants),
            (maps::LIMIT_SETS, tenants.min(65_536)),
            (maps::BLOCKS, blocks),
        ]
    }
}

/// The kernel side: maps, programs, links.
pub struct Kernel {
    /// The maps.
    pub maps: Maps,
    /// Whether pinned maps were found and used again.
    pub adopted: bool,
    pub(super) ebpf: Ebpf,
    pins: Pins,
    /// The pinned maps, held open: whoever removes a pin takes nothing away.
    pinned: Vec<Keepsake>,
    attacher: Option<Attacher>,
    /// Where the BPF file system is mounted.
    mount: Option<PathBuf>,
}

impl Kernel {
    /// Loads the programs and makes or adopts the maps, pinned below `pin_dir`. Nothing is
    /// attached yet. Gives what reads the kernel's reports beside it.
    ///
    /// # Errors
    ///
    /// The pin directory is not safe, a pin is foreign, or the kernel refuses the programs.
    pub fn load(pin_dir: &Path, needs: Needs) -> Result<(Self, Reports), KernelError> {
        object::bytes()?;
        let pins = Pins::new(pin_dir);
        pins.prepare()?;
        let adopted = pins.exist();
        let are_new = !maps::ALL.iter().any(|name| pins.map(name).exists());
        let mount = mounts::find_bpf(pin_dir).ok();
        let mut ebpf = load_object(needs, Some(&pins))?;
        let pinned = maps::ALL
            .iter()
            .map(|name| Keepsake::open(pins.map(name)))
            .collect::<Result<_, KernelError>>()?;
        let maps = Maps::take(&mut ebpf, are_new)?;
        // Opened apart: the object keeps its own, for the programs that are loaded later.
        let events = ring(&pins, maps::EVENTS)?;
        let attempts = ring(&pins, maps::ATTEMPTS)?;
        let reports = Reports::new(events, attempts);
        if debug::is_wanted() {
            debug::start(&mut ebpf);
        }
        Ok((
            Self {
                maps,
                adopted,
                ebpf,
                pins,
                pinned,
                attacher: None,
                mount,
            },
            reports,
        ))
    }

    /// Attaches the programs that connect sockets at `cgroup`, or puts them in the place of those
    /// that are there without a moment between. All else is attached by
    /// [`reconcile`](Self::reconcile).
    ///
    /// # Errors
    ///
    /// The kernel refuses to attach or to pin.
    pub fn attach(&mut self, cgroup: &Path) -> Result<(), KernelError> {
        let mut attacher = match self.attacher.take() {
            Some(attacher) if attacher.cgroup() == cgroup => attacher,
            _ => Attacher::new(cgroup),
        };
        attacher.attach_connect(&mut self.ebpf, &self.pins)?;
        self.attacher = Some(attacher);
        if self.adopted {
            info!("counts of the time before this start go on");
        }
        Ok(())
    }

    /// Makes what is attached and pinned what is wanted, and mends what somebody took away. Cheap
    /// where all is well. The first time, programs of other versions are let go after it.
    ///
    /// Nothing happens before [`attach`](Self::attach).
    pub fn reconcile(&mut self, wanted: &Wanted) -> Outcome {
        let Some(attacher) = &mut self.attacher else {
            return Outcome::default();
        };
        let mut problems = Vec::new();
        let mut repaired = Vec::new();
        match self.pins.restore(self.mount.as_deref()) {
            Ok(what) => repaired.extend(what),
            Err(error) => problems.push(error.to_string()),
        }
        let mut lost = 0;
        for map in &mut self.pinned {
            match map.keep() {
                Ok(was_lost) => lost += usize::from(was_lost),
                Err(error) if problems.is_empty() => problems.push(error.to_string()),
                Err(_) => {}
            }
        }
        if lost > 0 {
            repaired.push(format!(
                "somebody removed the pins of {lost} maps: they are pinned again, and nothing \
                 they count is lost"
            ));
        }
        let mut outcome = attacher.reconcile(&mut self.ebpf, &self.pins, wanted);
        outcome.repaired.splice(..0, repaired);
        outcome.problems.splice(..0, problems);
        for version in self.pins.other_versions() {
            warn!(
                "{} was pinned by another version of limiter: its counts cannot be carried over, \
                 limits of an hour or less start from zero; removing it now that this version enforces",
                version.display()
            );
            if let Err(error) = Pins::remove_version(&version) {
                outcome.problems.push(error.to_string());
            }
        }
        outcome
    }

    /// Loads the programs that may have to be there within a second, needed yet or not.
    pub fn prepare(&mut self) {
        if let Some(attacher) = &mut self.attacher {
            attacher.prepare(&mut self.ebpf);
        }
    }

    /// The layers of the last outcome as they are now, without touching them.
    #[must_use]
    pub fn look(&self, last: &[attach::LayerState]) -> Vec<attach::LayerState> {
        self.attacher
            .as_ref()
            .map_or_else(Vec::new, |attacher| attacher.look(last))
    }

    /// The pins.
    #[must_use]
    pub fn pins(&self) -> &Pins {
        &self.pins
    }
}

/// The programs without which nothing works.
const CORE: [&str; 4] = [
    programs::CONNECT4,
    programs::CONNECT6,
    programs::COMMAND,
    programs::CHARGE,
];

/// Makes the object's maps, pinned or adopted if `pins` are given, and loads the programs without
/// which nothing works.
fn load_object(needs: Needs, pins: Option<&Pins>) -> Result<Ebpf, KernelError> {
    let mut ebpf = open(needs, pins)?;
    match load_programs(&mut ebpf, &CORE).into_iter().next() {
        Some(error) => Err(error),
        None => Ok(ebpf),
    }
}

/// Loads programs, several at once, and says which were refused or are not there.
fn load_programs(ebpf: &mut Ebpf, names: &[&'static str]) -> Vec<KernelError> {
    let in_object: Vec<String> = names.iter().map(|name| attach::in_object(name)).collect();
    let mut errors: Vec<KernelError> = names
        .iter()
        .zip(&in_object)
        .filter(|(_, own)| ebpf.program(own).is_none())
        .map(|(name, _)| KernelError::NoProgram { program: name })
        .collect();
    for loaded in verifier::load_all(ebpf, &in_object) {
        let place = in_object.iter().position(|own| *own == loaded.name);
        if let (Some(place), Err(error)) = (place, loaded.result) {
            errors.push(KernelError::program(names[place])(error));
        }
    }
    errors
}

/// Reads the object and makes its maps, pinned or adopted if `pins` are given. No program is loaded.
pub(super) fn open(needs: Needs, pins: Option<&Pins>) -> Result<Ebpf, KernelError> {
    let bytes = object::bytes()?;
    let offsets = Offsets::of_running_kernel()?;
    let btf = Btf::from_sys_fs().map_err(|error| KernelError::Btf(error.to_string()))?;

    let coarse_clock = has(
        ProgramType::CgroupSockAddr,
        bpf_func_id::BPF_FUNC_ktime_get_coarse_ns,
    );
    // The oldest kernels that let programs at connect have the task give its type to all it leads to.
    let typed = has(
        ProgramType::CgroupSockAddr,
        bpf_func_id::BPF_FUNC_get_current_task_btf,
    ) & has(
        ProgramType::CgroupSockAddr,
        bpf_func_id::BPF_FUNC_skc_to_tcp_sock,
    );
    let xdp_load = has(ProgramType::Xdp, bpf_func_id::BPF_FUNC_xdp_load_bytes);
    let pointers = u8::from(offsets.ancestors_are_pointers);
    let log_level = if debug::is_wanted() {
        debug::LEVEL
    } else {
        debug::OFF
    };
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(&btf))
        .override_global(globals::SOCK_CGROUP, &offsets.sock_cgroup, true)
        .override_global(globals::SOCK_UID, &offsets.sock_uid, true)
        .override_global(globals::CGROUP_KN, &offsets.cgroup_kn, true)
        .override_global(globals::CGROUP_LEVEL, &offsets.cgroup_level, true)
        .override_global(globals::CGROUP_ANCESTORS, &offsets.cgroup_ancestors, true)
        .override_global(globals::ANCESTORS_ARE_POINTERS, &pointers, true)
        .override_global(globals::KERNFS_ID, &offsets.kernfs_id, true)
        .override_global(globals::SKB_SUMMED, &offsets.skb_summed, true)
        .override_global(globals::SKB_SUMMED_SHIFT, &offsets.skb_summed_shift, true)
        .override_global(globals::SKB_CSUM_START, &offsets.skb_csum_start, true)
        .override_global(globals::SKB_HEAD, &offsets.skb_head, true)
        .override_global(globals::SKB_ROUTE, &offsets.skb_route, true)
        .override_global(globals::SKB_DEV, &offsets.skb_dev, true)
        .override_global(globals::ROUTE_DEV, &offsets.route_dev, true)
        .override_global(globals::DEV_NET, &offsets.dev_net, true)
        .override_global(globals::DEV_RX_HANDLER, &offsets.dev_rx_handler, true)
        .override_global(globals::SOCK_NET, &offsets.sock_net, true)
        .override_global(globals::NET_INUM, &offsets.net_inum, true)
        .override_global(globals::TASK_NSPROXY, &offsets.task_nsproxy, true)
        .override_global(globals::NSPROXY_NET, &offsets.nsproxy_net, true)
        .override_global(globals::HAVE_TYPED, &typed, true)
        .override_global(globals::HAVE_COARSE_CLOCK, &coarse_clock, true)
        // Whichever programs an object has: these are left out of one that does not use them.
        .override_global(globals::HAVE_XDP_LOAD, &xdp_load, false)
        .override_global(globals::LOG_LEVEL, &log_level, true);
    for (name, entries) in needs.sizes() {
        loader.map_max_entries(name, entries);
    }
    if let Some(pins) = pins {
        for name in maps::ALL {
            let path = pins.map(name);
            if path.exists() {
                let info = check_pin(&path, name)?;
                loader.map_max_entries(name, info.max_entries());
            }
            loader.map_pin_path(name, path);
        }
    }
    Ok(loader.load(bytes)?)
}

/// The least there is to have.
pub(super) const LEAST: Needs = Needs {
    tenants: 0,
    slots: 0,
};

/// Loads everything and lets it go again: whether the kernel accepts it. Nothing is pinned or
/// attached. Gives the programs that the agent can do without and the kernel refused, and why.
pub(super) fn try_load() -> Result<Vec<KernelError>, KernelError> {
    let mut ebpf = open(LEAST, None)?;
    let names: Vec<&str> = CORE.into_iter().chain(attach::OPTIONAL).collect();
    let (mut core, optional): (Vec<_>, Vec<_>) = load_programs(&mut ebpf, &names)
        .into_iter()
        .partition(|error| error.about().is_some_and(|name| CORE.contains(&name)));
    match core.pop() {
        Some(error) => Err(error),
        None => Ok(optional),
    }
}

/// A program of a loaded object that is never attached, to be run.
pub(super) fn loaded_classifier<'e>(
    ebpf: &'e Ebpf,
    name: &'static str,
) -> Result<&'e SchedClassifier, KernelError> {
    ebpf.program(name)
        .ok_or_else(|| KernelError::program(name)(ProgramError::NotLoaded))?
        .try_into()
        .map_err(KernelError::program(name))
}

/// Whether the kernel has a helper for programs of a type; 0 where that cannot be told.
fn has(kind: ProgramType, helper: bpf_func_id) -> u8 {
    u8::from(aya::sys::is_helper_supported(kind, helper).unwrap_or(false))
}
