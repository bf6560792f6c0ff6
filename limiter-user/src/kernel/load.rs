//! Loading the object: maps that are pinned are used again with all they count, others are made.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{CgroupSockAddr, Program, ProgramError, SchedClassifier},
};
use limiter_common::abi::{globals, maps, programs};
use log::{info, warn};

use super::{
    KernelError, Links,
    btf::Offsets,
    debug,
    links::CONNECT,
    maps::{Maps, check_pin, ring},
    object,
    pins::Pins,
    reports::Reports,
    sys,
};

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
    /// What is pinned, held open: whoever removes a pin takes nothing away.
    pinned: Vec<(&'static str, OwnedFd)>,
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
        let mut ebpf = load_object(needs, Some(&pins))?;
        let pinned = maps::ALL
            .iter()
            .map(|name| Ok((*name, sys::open_pin(&pins.map(name))?)))
            .collect::<Result<_, KernelError>>()?;
        let maps = Maps::take(&mut ebpf)?;
        let events = ring(&mut ebpf, maps::EVENTS)?;
        let attempts = ring(&mut ebpf, maps::ATTEMPTS)?;
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
            },
            reports,
        ))
    }

    /// Attaches the programs at `cgroup`, or puts them in the place of those that are there
    /// without a moment between. Programs of other versions are let go after that.
    ///
    /// # Errors
    ///
    /// The kernel refuses to attach or to pin.
    pub fn attach(&mut self, cgroup: &Path) -> Result<Links, KernelError> {
        let links = Links::attach(&mut self.ebpf, &self.pins, cgroup)?;
        for version in self.pins.other_versions() {
            warn!(
                "{} was pinned by another version of limiter: its counts cannot be carried over, \
                 limits start from zero; removing it now that this version enforces",
                version.display()
            );
            Pins::remove_version(&version)?;
        }
        if self.adopted {
            info!("counts of the time before this start go on");
        }
        Ok(links)
    }

    /// Attaches and pins again what somebody took away.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn mend(&mut self, cgroup: &Path) -> Result<Links, KernelError> {
        self.pins.prepare()?;
        for (name, map) in &self.pinned {
            let path = self.pins.map(name);
            if !path.exists() {
                sys::pin(map.as_fd(), &path)?;
            }
        }
        self.attach(cgroup)
    }

    /// The pins.
    #[must_use]
    pub fn pins(&self) -> &Pins {
        &self.pins
    }
}

/// Loads the object's programs and makes its maps, pinned or adopted if `pins` are given.
fn load_object(needs: Needs, pins: Option<&Pins>) -> Result<Ebpf, KernelError> {
    let bytes = object::bytes()?;
    let offsets = Offsets::of_running_kernel()?;
    let btf = Btf::from_sys_fs().map_err(|error| KernelError::Btf(error.to_string()))?;

    let coarse_clock = u8::from(has_coarse_clock());
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
        .override_global(globals::SOCK_NET, &offsets.sock_net, true)
        .override_global(globals::NET_INUM, &offsets.net_inum, true)
        .override_global(globals::TASK_NSPROXY, &offsets.task_nsproxy, true)
        .override_global(globals::NSPROXY_NET, &offsets.nsproxy_net, true)
        .override_global(globals::HAVE_COARSE_CLOCK, &coarse_clock, true)
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
    let mut ebpf = loader.load(bytes)?;
    for (name, _) in CONNECT {
        connect_program(&mut ebpf, name)?
            .load()
            .map_err(KernelError::program(name))?;
    }
    command_program(&mut ebpf)?
        .load()
        .map_err(KernelError::program(programs::COMMAND))?;
    Ok(ebpf)
}

/// Loads everything and lets it go again: whether the kernel accepts it. Nothing is pinned or
/// attached.
pub(super) fn try_load() -> Result<(), KernelError> {
    let least = Needs {
        tenants: 0,
        slots: 0,
    };
    load_object(least, None).map(drop)
}

/// The connect program `name` of a loaded object.
pub(super) fn connect_program<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut CgroupSockAddr, KernelError> {
    program(ebpf, name)?
        .try_into()
        .map_err(KernelError::program(name))
}

/// The command program of a loaded object, to be run.
pub(super) fn loaded_command_program(ebpf: &Ebpf) -> Result<&SchedClassifier, KernelError> {
    ebpf.program(programs::COMMAND)
        .ok_or_else(|| KernelError::program(programs::COMMAND)(ProgramError::NotLoaded))?
        .try_into()
        .map_err(KernelError::program(programs::COMMAND))
}

/// The command program of an object, to be loaded.
fn command_program(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, KernelError> {
    program(ebpf, programs::COMMAND)?
        .try_into()
        .map_err(KernelError::program(programs::COMMAND))
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Program, KernelError> {
    ebpf.program_mut(name)
        .ok_or_else(|| KernelError::program(name)(ProgramError::NotLoaded))
}

/// Whether programs that connect sockets may read the coarse clock (5.11 and later).
fn has_coarse_clock() -> bool {
    aya::sys::is_helper_supported(
        aya::programs::ProgramType::CgroupSockAddr,
        aya_obj::generated::bpf_func_id::BPF_FUNC_ktime_get_coarse_ns,
    )
    .unwrap_or(false)
}
