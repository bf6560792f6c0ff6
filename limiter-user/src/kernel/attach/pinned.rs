//! What is attached, told without the agent that attached it: from pins, and from the filters of
//! the interfaces.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::fd::AsFd as _,
    path::Path,
};

use super::{
    How, LayerState, Side,
    clsact::{self, Filter, Where},
    netlink::Netlink,
    place::{CGROUP, Duty, of_pin},
    tie::{self, Tools, interface_name},
};
use crate::kernel::{
    KernelError,
    pins::Pins,
    sys::{self, Tie},
};

/// Which programs are attached according to pins and filters. The programs that connect sockets
/// are always among them.
#[must_use]
pub fn pinned_layers(pins: &Pins) -> Vec<LayerState> {
    let mut layers = Vec::new();
    for (duty, program, _) in &CGROUP[..2] {
        layers.push(LayerState {
            layer: duty.layer(),
            program,
            target: String::new(),
            index: 0,
            attached: info_of(&pins.link(program)).is_some_and(|info| info.tie.holds()),
            how: How::CgroupLink,
            problem: None,
        });
    }
    for name in names(pins) {
        let Some((duty, program, how)) = of_pin(&name) else {
            continue;
        };
        if matches!(duty, Duty::Connect4 | Duty::Connect6) {
            continue;
        }
        let Some(info) = info_of(&pins.link(&name)) else {
            continue;
        };
        let index = match info.tie {
            Tie::Tcx { ifindex, .. } | Tie::Xdp { ifindex } => ifindex,
            Tie::Cgroup { .. } | Tie::Other => 0,
        };
        // Gone with its interface: nothing is missing.
        if how != How::CgroupLink && index == 0 && !still_there(&name) {
            continue;
        }
        layers.push(LayerState {
            layer: duty.layer(),
            program,
            target: interface_name(index).unwrap_or_default(),
            index,
            attached: info.tie.holds(),
            how,
            problem: None,
        });
    }
    if let Ok(mut netlink) = Netlink::open() {
        for filter in our_filters(&mut netlink, pins) {
            let Some((duty, program)) = of_filter(&filter.name) else {
                continue;
            };
            layers.push(LayerState {
                layer: duty.layer(),
                program,
                target: interface_name(filter.at.ifindex).unwrap_or_default(),
                index: filter.at.ifindex,
                attached: true,
                how: How::Clsact,
                problem: None,
            });
        }
    }
    layers
}

/// Whether the interface that a pin is named after exists.
fn still_there(name: &str) -> bool {
    name.rsplit_once('-')
        .and_then(|(_, index)| index.parse().ok())
        .is_some_and(|index| interface_name(index).is_some())
}

/// What a filter of ours does, by its name, which is its program's.
fn of_filter(name: &str) -> Option<(Duty, &'static str)> {
    use limiter_common::abi::programs;
    [
        (Duty::Guest, programs::GUEST),
        (Duty::Guest, programs::GUEST_L3),
        (Duty::Uplink, programs::UPLINK),
        (Duty::Uplink, programs::UPLINK_L3),
        (Duty::Edge, programs::EDGE_TC),
        (Duty::Edge, programs::EDGE_TC_L3),
    ]
    .into_iter()
    .find(|(_, program)| *program == name)
}

/// The ids of the programs behind the pinned links and our filters.
#[must_use]
pub fn pinned_programs(pins: &Pins) -> Vec<u32> {
    let mut ids: Vec<u32> = names(pins)
        .iter()
        .filter(|name| of_pin(name).is_some())
        .filter_map(|name| info_of(&pins.link(name)))
        .filter(|info| info.tie.holds())
        .map(|info| info.program_id)
        .collect();
    if let Ok(mut netlink) = Netlink::open() {
        let filters = our_filters(&mut netlink, pins);
        ids.extend(filters.iter().map(|filter| filter.program_id));
    }
    ids
}

/// Our filters, on all interfaces of this network namespace.
pub fn our_filters(netlink: &mut Netlink, pins: &Pins) -> Vec<Filter> {
    let handles = [
        clsact::Duty::Guest,
        clsact::Duty::Uplink,
        clsact::Duty::Edge,
    ]
    .map(|duty| clsact::handle(pins.root(), duty));
    let mut filters = limiter_filters(netlink);
    filters.retain(|filter| handles.contains(&filter.handle));
    filters
}

/// The filters of all limiters, on all interfaces of this network namespace.
fn limiter_filters(netlink: &mut Netlink) -> Vec<Filter> {
    let mut found = Vec::new();
    for (ifindex, _) in clsact::disciplines(netlink).unwrap_or_default() {
        for side in [Side::Ingress, Side::Egress] {
            let all = clsact::filters(netlink, Where { ifindex, side });
            found.extend(all.unwrap_or_default());
        }
    }
    found.retain(Filter::is_limiter);
    // `ingress` shows the same filters on either side.
    found.dedup_by_key(|filter| (filter.at.ifindex, filter.handle));
    found
}

/// Removes our filters, and the disciplines that were made for them; without an agent, too. Gives
/// what was removed.
///
/// # Errors
///
/// The kernel cannot be asked.
pub fn detach_filters(pins: &Pins) -> Result<Vec<String>, KernelError> {
    let mut tools = Tools::new(pins, Path::new("/"))?;
    let mut removed = Vec::new();
    for filter in our_filters(&mut tools.netlink, pins) {
        tie::remove_filter(&mut tools, filter.at, filter.handle, filter.priority);
        let name = interface_name(filter.at.ifindex).unwrap_or_default();
        removed.push(format!("{} at {name}", filter.name));
    }
    Ok(removed)
}

/// Programs of other limiters that judge the same: at `cgroup` or above it below `mount`, or at an
/// interface of this network namespace. Each as `program 4711 at /sys/fs/cgroup`. Left over from
/// another `pin_dir`, or on purpose.
#[must_use]
pub fn other_limiters(cgroup: &Path, mount: &Path, pins: &Pins) -> Vec<String> {
    let ours: BTreeSet<u32> = pinned_programs(pins).into_iter().collect();
    let names: BTreeMap<u32, String> = aya::programs::loaded_programs()
        .filter_map(Result::ok)
        .filter_map(|program| Some((program.id(), program.name_as_str()?.to_owned())))
        .collect();
    let is_other = |id: &u32| {
        let name = names.get(id);
        name.is_some_and(|name| name.starts_with("limiter_")) && !ours.contains(id)
    };
    let mut found = Vec::new();
    for place in cgroup
        .ancestors()
        .take_while(|place| place.starts_with(mount))
    {
        let Ok(directory) = File::open(place) else {
            continue;
        };
        for (_, _, kind) in CGROUP {
            let Ok(query) = sys::prog_query(directory.as_fd(), kind) else {
                continue;
            };
            for id in query.programs.iter().filter(|id| is_other(id)) {
                found.push(format!("program {id} at {}", place.display()));
            }
        }
    }
    for (ifindex, name) in interfaces() {
        for side in [Side::Ingress, Side::Egress] {
            let query = sys::tcx_query(ifindex, tie::tcx_hook(side)).unwrap_or_default();
            for id in query.programs.iter().filter(|id| is_other(id)) {
                found.push(format!("program {id} at {name}"));
            }
        }
    }
    if let Ok(mut netlink) = Netlink::open() {
        for filter in limiter_filters(&mut netlink) {
            if !ours.contains(&filter.program_id) {
                let name = interface_name(filter.at.ifindex).unwrap_or_default();
                found.push(format!("program {} at {name}", filter.program_id));
            }
        }
    }
    found
}

/// The interfaces of this network namespace.
fn interfaces() -> Vec<(u32, String)> {
    nix::net::if_::if_nameindex()
        .map(|all| {
            all.iter()
                .map(|interface| {
                    let name = interface.name().to_string_lossy().into_owned();
                    (interface.index(), name)
                })
                .collect()
        })
        .unwrap_or_default()
}

/// The names of the pins of links, in order.
fn names(pins: &Pins) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(pins.links())
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn info_of(path: &Path) -> Option<sys::LinkInfo> {
    if !path.exists() {
        return None;
    }
    let link = sys::open_pin(path).ok()?;
    sys::link_info(link.as_fd()).ok()
}
