//! Where the programs are pinned and attached, what stands there now, and whether this is the
//! node itself.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::Finding;
use crate::{
    kernel::{
        KernelError, LayerState,
        attach::{How, pinned_layers},
        pins::{Pins, check_owner},
    },
    policy::model::Places,
    report::text::few,
    system::mounts,
};

const AREA: &str = "places";
const IN_FORCE: &str = "in force";

/// The inodes of the initial namespaces (linux/proc_ns.h).
const INITIAL: [(&str, u64); 3] = [
    ("user", 0xEFFF_FFFD),
    ("pid", 0xEFFF_FFFC),
    ("cgroup", 0xEFFF_FFFB),
];

/// Examines pins, cgroup and namespaces. Returns the cgroup's directory, if there is one.
pub(super) fn examine(places: &Places, findings: &mut Vec<Finding>) -> Option<PathBuf> {
    pins(places, findings);
    let cgroup = cgroup(places, findings);
    namespaces(findings);
    in_force(places, findings);
    cgroup
}

fn pins(places: &Places, findings: &mut Vec<Finding>) {
    let dir = &places.pin_dir;
    let shown = dir.display();
    match mounts::find_bpf(dir) {
        Err(error) => {
            findings.push(Finding::missing(
                AREA,
                error.to_string(),
                "Mount it as said, and at boot: systemd does it by itself where the kernel has \
                 CONFIG_BPF_SYSCALL.",
            ));
            return;
        }
        Ok(at) => findings.push(Finding::ok(
            AREA,
            format!(
                "a BPF file system for the pins is mounted at {}",
                at.display()
            ),
        )),
    }
    findings.push(match check_owner(dir) {
        Ok(()) => Finding::ok(AREA, format!("the pin directory {shown} is root's alone")),
        Err(KernelError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Finding::ok(
                AREA,
                format!("the pin directory {shown} will be made at the first start"),
            )
        }
        Err(KernelError::UnsafePins { problem, .. }) => Finding::missing(
            AREA,
            format!("the pin directory {shown} {problem}: others could open the gate"),
            format!("See what is in it; then chown root:root {shown} && chmod 0700 {shown}"),
        ),
        Err(error) => Finding::missing(AREA, error.to_string(), "Run doctor as root."),
    });
}

fn cgroup(places: &Places, findings: &mut Vec<Finding>) -> Option<PathBuf> {
    let mount = match mounts::find_cgroup2() {
        Ok(mount) => mount,
        Err(error) => {
            findings.push(Finding::missing(
                AREA,
                error.to_string(),
                "Mount it as said.",
            ));
            return None;
        }
    };
    let path = places.attach_point(&mount);
    if !path.join("cgroup.procs").exists() {
        findings.push(Finding::missing(
            AREA,
            format!("there is no cgroup {} (attach.cgroup)", path.display()),
            "Set attach.cgroup to \"/\", the root of the tree, where it belongs on a node.",
        ));
        return None;
    }
    findings.push(if path == mount {
        Finding::ok(
            AREA,
            format!("the whole cgroup v2 tree is at {}", mount.display()),
        )
    } else {
        Finding::warning(
            AREA,
            format!(
                "attach.cgroup is {}: whoever runs outside it, or got a socket from there, is \
                 not judged",
                places.cgroup.display()
            ),
            "On a node that is to be guarded as a whole set attach.cgroup to \"/\".",
        )
    });
    Some(path)
}

fn namespaces(findings: &mut Vec<Finding>) {
    let inode = |path: &str| fs::metadata(path).map(|found| found.ino()).ok();
    let mut foreign: Vec<&str> = INITIAL
        .iter()
        .filter(|(name, initial)| {
            inode(&format!("/proc/self/ns/{name}")).is_some_and(|found| found != *initial)
        })
        .map(|(name, _)| *name)
        .collect();
    if let (Some(ours), Some(inits)) = (inode("/proc/self/ns/net"), inode("/proc/1/ns/net"))
        && ours != inits
    {
        foreign.push("network");
    }
    findings.push(if foreign.is_empty() {
        Finding::ok(AREA, "this is the node itself, not a container")
    } else {
        Finding::warning(
            AREA,
            format!(
                "this process is in a {} namespace of its own: it sees a part of the node, and \
                 users count only in its network namespace",
                foreign.join(" and a ")
            ),
            "Run limiter on the node itself, not in a container.",
        )
    });
}

/// What is pinned and attached now.
fn in_force(places: &Places, findings: &mut Vec<Finding>) {
    let pins = Pins::new(&places.pin_dir);
    let layers = pinned_layers(&pins);
    let (attached, loose): (Vec<_>, Vec<_>) = layers.iter().partition(|state| state.attached);
    if let Err(error) = pins.check()
        && !matches!(error, KernelError::NotPinned { .. })
    {
        findings.push(Finding::warning(
            IN_FORCE,
            format!("it cannot be told what is in force: {error}"),
            "Run doctor as root.",
        ));
    } else if attached.is_empty() && !pins.exist() {
        findings.push(Finding::note(
            IN_FORCE,
            "nothing is pinned: limiter is not in force on this node",
            "Start the agent: systemctl start limiter",
        ));
    } else if loose.is_empty() {
        let what = format!("attached, with or without the agent: {}", names(&attached));
        findings.push(Finding::ok(IN_FORCE, what));
    } else {
        findings.push(Finding::warning(
            IN_FORCE,
            format!("pinned, but not attached: {}", names(&loose)),
            "Start the agent, which attaches them again: systemctl restart limiter",
        ));
    }
    for version in pins.other_versions() {
        findings.push(Finding::note(
            IN_FORCE,
            format!(
                "another version of limiter is pinned in {}",
                shown(&version)
            ),
            "It goes when the agent of this version attaches; its counts do not carry over.",
        ));
    }
}

/// `limiter_guest at veth0, veth1 (TCX); limiter_connect4`.
fn names(states: &[&LayerState]) -> String {
    let mut alike: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    for state in states {
        let how = match state.how {
            How::CgroupLink => String::new(),
            how => format!(" ({how})"),
        };
        let places = alike.entry((state.program, how)).or_default();
        if !state.target.is_empty() {
            places.push(&state.target);
        }
    }
    let named = alike.iter().map(|((program, how), places)| {
        if places.is_empty() {
            (*program).to_owned()
        } else {
            format!("{program} at {}{how}", few(places))
        }
    });
    named.collect::<Vec<_>>().join("; ")
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
