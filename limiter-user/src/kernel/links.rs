//! Links: what ties the programs to the cgroup. Pinned, so that they hold without the agent.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use aya::Ebpf;
use aya_obj::generated::bpf_attach_type::{
    self, BPF_CGROUP_INET4_CONNECT, BPF_CGROUP_INET6_CONNECT,
};
use limiter_common::abi::programs;
use log::{debug, info, warn};

use super::{KernelError, load::connect_program, pins::Pins, sys};

/// The programs that are attached, and where in the cgroup.
pub(super) const CONNECT: [(&str, bpf_attach_type); 2] = [
    (programs::CONNECT4, BPF_CGROUP_INET4_CONNECT),
    (programs::CONNECT6, BPF_CGROUP_INET6_CONNECT),
];

/// One program and where it is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The program.
    pub program: &'static str,
    /// The cgroup, if it is known.
    pub target: Option<PathBuf>,
    /// Whether its link is pinned and holds.
    pub attached: bool,
}

/// The links of the connect layer.
#[derive(Debug)]
pub struct Links {
    target: PathBuf,
    pins: Pins,
}

impl Links {
    /// Attaches the programs, or replaces those behind the pinned links.
    pub(super) fn attach(ebpf: &mut Ebpf, pins: &Pins, cgroup: &Path) -> Result<Self, KernelError> {
        let directory = File::open(cgroup).map_err(KernelError::io("open the cgroup", cgroup))?;
        let id = directory
            .metadata()
            .map_err(KernelError::io("look at", cgroup))?
            .ino();
        for (name, kind) in CONNECT {
            let path = pins.link(name);
            let program = connect_program(ebpf, name)?;
            let program = program.fd().map_err(KernelError::program(name))?;
            if let Some(link) = holding_link(&path)? {
                sys::link_update(link.as_fd(), program.as_fd())?;
                debug!("{name}: replaced the program behind {}", path.display());
                if sys::link_info(link.as_fd())?.cgroup_id == id {
                    continue;
                }
                warn!("{name}: moving from another cgroup to {}", cgroup.display());
            }
            let link = sys::link_create(program.as_fd(), directory.as_fd(), kind)?;
            pin_in_place(&link, &path)?;
            info!("{name}: attached to {}", cgroup.display());
        }
        Ok(Self {
            target: cgroup.to_owned(),
            pins: pins.clone(),
        })
    }

    /// The cgroup.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Where the programs are attached, and whether they still are.
    #[must_use]
    pub fn attachments(&self) -> Vec<Attachment> {
        let mut all = pinned_attachments(&self.pins);
        for attachment in &mut all {
            attachment.target = Some(self.target.clone());
        }
        all
    }
}

/// Which programs are attached according to the pins.
#[must_use]
pub fn pinned_attachments(pins: &Pins) -> Vec<Attachment> {
    CONNECT
        .iter()
        .map(|(program, _)| Attachment {
            program,
            target: None,
            attached: matches!(holding_link(&pins.link(program)), Ok(Some(_))),
        })
        .collect()
}

/// Connect programs of other limiters that judge what happens in `cgroup`, at it or above it below
/// `mount`: each as `program 4711 at /sys/fs/cgroup`. Left over from another `pin_dir`, or on purpose.
#[must_use]
pub fn other_limiters(cgroup: &Path, mount: &Path, pins: &Pins) -> Vec<String> {
    let ours = pinned_programs(pins);
    let names: BTreeMap<u32, String> = aya::programs::loaded_programs()
        .filter_map(Result::ok)
        .filter_map(|program| Some((program.id(), program.name_as_str()?.to_owned())))
        .collect();
    let mut found = Vec::new();
    for place in cgroup
        .ancestors()
        .take_while(|place| place.starts_with(mount))
    {
        let Ok(directory) = File::open(place) else {
            continue;
        };
        for (_, kind) in CONNECT {
            let Ok(query) = sys::prog_query(directory.as_fd(), kind) else {
                continue;
            };
            for id in query.programs {
                let is_limiter = names
                    .get(&id)
                    .is_some_and(|name| name.starts_with("limiter_"));
                if is_limiter && !ours.contains(&id) {
                    found.push(format!("program {id} at {}", place.display()));
                }
            }
        }
    }
    found
}

/// The ids of the programs behind the pinned links.
pub(super) fn pinned_programs(pins: &Pins) -> Vec<u32> {
    CONNECT
        .iter()
        .filter_map(|(name, _)| holding_link(&pins.link(name)).ok().flatten())
        .filter_map(|link| sys::link_info(link.as_fd()).ok())
        .map(|info| info.program_id)
        .collect()
}

/// The link pinned at `path`, if there is one and it still ties a program to a cgroup.
fn holding_link(path: &Path) -> Result<Option<OwnedFd>, KernelError> {
    if !path.exists() {
        return Ok(None);
    }
    let link = sys::open_pin(path)?;
    let holds = sys::link_info(link.as_fd())?.cgroup_id != 0;
    Ok(holds.then_some(link))
}

/// Pins a link at `path`, in the place of what is pinned there, without a moment between.
fn pin_in_place(link: &OwnedFd, path: &Path) -> Result<(), KernelError> {
    // The BPF file system takes no dots in names.
    let mut beside = path.as_os_str().to_owned();
    beside.push("-new");
    let beside = PathBuf::from(beside);
    if beside.exists() {
        fs::remove_file(&beside).map_err(KernelError::io("remove", &beside))?;
    }
    sys::pin(link.as_fd(), &beside)?;
    fs::rename(&beside, path).map_err(KernelError::io("put the link at", path))
}
