//! What each layer needs of the kernel: tried, never guessed from a version. Says what is missing,
//! and what the product does instead.

use aya::{
    maps::MapType,
    programs::ProgramType,
    sys::{is_helper_supported, is_map_supported, is_program_supported},
};
use aya_obj::generated::bpf_func_id::{self, *};

use super::{Finding, clsact, offers::NEWER};
use crate::{kernel::sys, system::sessions};

pub(super) const AREA: &str = "layers";

/// A helper, for which kind of program, its name, and what it is needed for.
type Helper = (ProgramType, bpf_func_id, &'static str, &'static str);

/// What one layer needs.
struct Layer {
    name: &'static str,
    programs: &'static [(ProgramType, &'static str)],
    maps: &'static [(MapType, &'static str)],
    helpers: &'static [Helper],
    /// What happens without it; none if nothing works then.
    without: Option<&'static str>,
    /// What it can do without, and how it does.
    wanted: &'static [Helper],
}

use ProgramType::{CgroupSkb, CgroupSockAddr, SchedClassifier, SockOps, Xdp};

// The attach types do not matter for what is probed.
const CONNECT: ProgramType = CgroupSockAddr;
const SOCKET: ProgramType = CgroupSkb;

const LAYERS: [Layer; 4] = [
    Layer {
        name: "connect",
        programs: &[
            (CONNECT, "cgroup/connect programs"),
            (SchedClassifier, "classifier programs"),
        ],
        maps: &[
            (MapType::Array, "array"),
            (MapType::Hash, "hash"),
            (MapType::LpmTrie, "LPM trie"),
            (MapType::PerCpuArray, "per-CPU array"),
            (MapType::RingBuf, "ring buffer"),
        ],
        helpers: &[
            (
                CONNECT,
                BPF_FUNC_get_current_uid_gid,
                "bpf_get_current_uid_gid",
                "who calls, by uid",
            ),
            (
                CONNECT,
                BPF_FUNC_get_current_cgroup_id,
                "bpf_get_current_cgroup_id",
                "who calls, by cgroup",
            ),
            (
                CONNECT,
                BPF_FUNC_get_current_ancestor_cgroup_id,
                "bpf_get_current_ancestor_cgroup_id",
                "nested cgroups",
            ),
            (
                CONNECT,
                BPF_FUNC_get_current_task,
                "bpf_get_current_task",
                "telling containers apart",
            ),
            (
                CONNECT,
                BPF_FUNC_probe_read_kernel,
                "bpf_probe_read_kernel",
                "whose a passed socket is",
            ),
            (
                CONNECT,
                BPF_FUNC_ktime_get_ns,
                "bpf_ktime_get_ns",
                "the clock",
            ),
            (CONNECT, BPF_FUNC_spin_lock, "bpf_spin_lock", "exact counts"),
            (
                CONNECT,
                BPF_FUNC_ringbuf_reserve,
                "bpf_ringbuf_reserve",
                "events",
            ),
            (
                CONNECT,
                BPF_FUNC_ringbuf_output,
                "bpf_ringbuf_output",
                "the record of what was allowed",
            ),
            (
                CONNECT,
                BPF_FUNC_get_current_pid_tgid,
                "bpf_get_current_pid_tgid",
                "the process in events",
            ),
            (
                CONNECT,
                BPF_FUNC_get_current_comm,
                "bpf_get_current_comm",
                "the program's name in events",
            ),
            (
                SchedClassifier,
                BPF_FUNC_spin_lock,
                "bpf_spin_lock",
                "the agent's changes of counts",
            ),
        ],
        without: None,
        wanted: &[(
            CONNECT,
            BPF_FUNC_ktime_get_coarse_ns,
            "bpf_ktime_get_coarse_ns",
            "the exact clock is read instead: each attempt costs some 20 ns more",
        )],
    },
    Layer {
        name: "socket",
        programs: &[(SOCKET, "cgroup_skb programs")],
        maps: &[
            (MapType::SkStorage, "socket storage"),
            (MapType::LruHash, "LRU hash"),
        ],
        helpers: &[
            (
                SOCKET,
                BPF_FUNC_sk_fullsock,
                "bpf_sk_fullsock",
                "the session of a packet",
            ),
            (
                SOCKET,
                BPF_FUNC_sk_storage_get,
                "bpf_sk_storage_get",
                "what a session sent so far",
            ),
            (
                SOCKET,
                BPF_FUNC_tcp_sock,
                "bpf_tcp_sock",
                "whether a session is seen from its start",
            ),
            (
                SOCKET,
                BPF_FUNC_skb_load_bytes,
                "bpf_skb_load_bytes",
                "reading packets",
            ),
            (
                SOCKET,
                BPF_FUNC_probe_read_kernel,
                "bpf_probe_read_kernel",
                "who sends, by cgroup and by uid",
            ),
            (SOCKET, BPF_FUNC_spin_lock, "bpf_spin_lock", "exact counts"),
            (
                SOCKET,
                BPF_FUNC_ringbuf_reserve,
                "bpf_ringbuf_reserve",
                "events",
            ),
            (
                SOCKET,
                BPF_FUNC_ringbuf_output,
                "bpf_ringbuf_output",
                "the record of what was allowed",
            ),
        ],
        without: Some(
            "Messages within a direct session are not counted, and live sessions of a suspended \
             tenant end by reset or timeout; connections are judged all the same.",
        ),
        wanted: &[(
            SOCKET,
            BPF_FUNC_loop,
            "bpf_loop",
            "messages and recipients in direct sessions are estimated, not counted; events say so",
        )],
    },
    Layer {
        name: "guest and uplink",
        programs: &[(SchedClassifier, "classifier programs")],
        maps: &[
            (MapType::LruHash, "LRU hash"),
            (MapType::SkStorage, "socket storage"),
        ],
        helpers: &[
            (
                SchedClassifier,
                BPF_FUNC_skb_load_bytes,
                "bpf_skb_load_bytes",
                "reading packets",
            ),
            (
                SchedClassifier,
                BPF_FUNC_sk_fullsock,
                "bpf_sk_fullsock",
                "the socket of a packet",
            ),
            (
                SchedClassifier,
                BPF_FUNC_sk_storage_get,
                "bpf_sk_storage_get",
                "whether the socket layer cut a session",
            ),
            (
                SchedClassifier,
                BPF_FUNC_probe_read_kernel,
                "bpf_probe_read_kernel",
                "who sends, by cgroup and by uid",
            ),
            (
                SchedClassifier,
                BPF_FUNC_skb_store_bytes,
                "bpf_skb_store_bytes",
                "answering with a reset",
            ),
            (
                SchedClassifier,
                BPF_FUNC_skb_change_tail,
                "bpf_skb_change_tail",
                "answering with a reset",
            ),
            (
                SchedClassifier,
                BPF_FUNC_redirect,
                "bpf_redirect",
                "answering with a reset",
            ),
            (
                SchedClassifier,
                BPF_FUNC_spin_lock,
                "bpf_spin_lock",
                "exact counts",
            ),
            (
                SchedClassifier,
                BPF_FUNC_ringbuf_reserve,
                "bpf_ringbuf_reserve",
                "events",
            ),
            (
                SchedClassifier,
                BPF_FUNC_ringbuf_output,
                "bpf_ringbuf_output",
                "the record of what was allowed",
            ),
        ],
        without: Some(
            "Virtual machines, raw packets and connections rewritten after connect() are not \
             seen: keep a firewall rule for port 25 on the interfaces of guests.",
        ),
        wanted: &[(
            SchedClassifier,
            BPF_FUNC_loop,
            "bpf_loop",
            "messages of containers and virtual machines are estimated, not counted; events say so",
        )],
    },
    Layer {
        name: "mailbox",
        programs: &[(SockOps, "sock_ops programs"), (Xdp, "XDP programs")],
        maps: &[
            (MapType::LruHash, "LRU hash"),
            (MapType::LpmTrie, "LPM trie"),
        ],
        helpers: &[
            (SockOps, BPF_FUNC_spin_lock, "bpf_spin_lock", "exact counts"),
            (
                SockOps,
                BPF_FUNC_ringbuf_reserve,
                "bpf_ringbuf_reserve",
                "events",
            ),
            (
                SockOps,
                BPF_FUNC_ringbuf_output,
                "bpf_ringbuf_output",
                "events",
            ),
            (
                Xdp,
                BPF_FUNC_spin_lock,
                "bpf_spin_lock",
                "one event for many refusals",
            ),
            (
                Xdp,
                BPF_FUNC_ringbuf_reserve,
                "bpf_ringbuf_reserve",
                "events",
            ),
            (Xdp, BPF_FUNC_ringbuf_output, "bpf_ringbuf_output", "events"),
        ],
        without: Some(
            "Mailbox clients are not limited, and null routes hold at the uplink's classifier \
             alone.",
        ),
        wanted: &[(
            Xdp,
            BPF_FUNC_xdp_load_bytes,
            "bpf_xdp_load_bytes",
            "only the first part of frames that a driver splits is read; headers are in it",
        )],
    },
];

/// Tries all of it. The caller may load programs.
pub(super) fn examine(findings: &mut Vec<Finding>) {
    for layer in &LAYERS {
        one(layer, findings);
    }
    findings.push(attachment());
    findings.push(cutting());
}

fn one(layer: &Layer, findings: &mut Vec<Finding>) {
    let Layer {
        name,
        programs,
        maps,
        helpers,
        without,
        wanted,
    } = layer;
    let mut lacking = Vec::new();
    for (kind, what) in *programs {
        note_lack(&mut lacking, what, is_program_supported(*kind));
    }
    for (kind, what) in *maps {
        note_lack(
            &mut lacking,
            &format!("{what} maps"),
            is_map_supported(*kind),
        );
    }
    for (kind, helper, what, why) in *helpers {
        let supported = is_helper_supported(*kind, *helper);
        note_lack(&mut lacking, &format!("{what} ({why})"), supported);
    }
    findings.push(judge(name, &lacking, *without));
    if !lacking.is_empty() {
        return;
    }
    for (kind, helper, what, instead) in *wanted {
        if !is_helper_supported(*kind, *helper).unwrap_or(false) {
            let what = format!("{name}: no {what}; {instead}");
            findings.push(Finding::note(AREA, what, ""));
        }
    }
}

/// What it means for a layer that these are lacking.
fn judge(name: &str, lacking: &[String], without: Option<&str>) -> Finding {
    if lacking.is_empty() {
        return Finding::ok(AREA, format!("{name}: available"));
    }
    let what = format!("{name}: the kernel lacks {}", lacking.join("; "));
    match without {
        None => Finding::missing(AREA, what, NEWER),
        Some(without) => Finding::warning(AREA, format!("{what}. {without}"), NEWER),
    }
}

fn note_lack<E: std::fmt::Display>(
    lacking: &mut Vec<String>,
    what: &str,
    supported: Result<bool, E>,
) {
    match supported {
        Ok(true) => {}
        Ok(false) => lacking.push(what.to_owned()),
        Err(error) => lacking.push(format!("{what} (tried: {error})")),
    }
}

/// How classifiers are attached to interfaces.
fn attachment() -> Finding {
    let tcx = sys::has_tcx();
    if let Ok(true) = tcx {
        return Finding::ok(AREA, "guest and uplink: attached by links (TCX)");
    }
    let no_tcx = match tcx {
        Err(error) => format!("cannot ask for TCX ({error})"),
        Ok(_) => "no TCX".to_owned(),
    };
    match clsact::try_it() {
        Ok(()) => Finding::note(
            AREA,
            format!(
                "guest and uplink: {no_tcx}; attached to a clsact qdisc instead, which whoever \
                 manages qdiscs can remove: the agent looks every two seconds and mends it"
            ),
            "",
        ),
        Err(error) => Finding::warning(
            AREA,
            format!(
                "guest and uplink: {no_tcx}, and no clsact qdisc with bpf filters either ({error}): nothing can be \
                 attached to interfaces. Virtual machines and raw packets are not seen"
            ),
            "modprobe sch_ingress cls_bpf, or install the package with the kernel's modules.",
        ),
    }
}

/// Whether live sessions can be cut.
fn cutting() -> Finding {
    match sessions::can_cut() {
        Ok(true) => Finding::ok(AREA, "live sessions: can be cut at once"),
        Ok(false) => Finding::note(
            AREA,
            format!("live sessions: {}", sessions::CutError::Unsupported),
            "",
        ),
        Err(error) => Finding::warning(
            AREA,
            format!("live sessions: it cannot be told whether they can be cut: {error}"),
            "Run doctor as root.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::doctor::Level;

    #[test]
    fn what_is_lacking_is_named_with_what_happens_instead() {
        let lacking = ["socket storage maps".to_owned(), "bpf_x (y)".to_owned()];
        let finding = judge("socket", &lacking, Some("Nothing is counted."));
        assert_eq!(finding.level, Level::Warning);
        assert_eq!(
            finding.what,
            "socket: the kernel lacks socket storage maps; bpf_x (y). Nothing is counted."
        );
        assert_eq!(judge("connect", &lacking, None).level, Level::Missing);
        assert_eq!(judge("connect", &[], None).level, Level::Ok);
    }

    #[test]
    fn every_layer_is_tried_on_this_kernel() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not tested, only root can: trying what the kernel has");
            return;
        }
        let mut findings = Vec::new();
        examine(&mut findings);
        for layer in &LAYERS {
            let found = findings.iter().find(|one| one.what.starts_with(layer.name));
            let finding = found.unwrap_or_else(|| panic!("{} in {findings:?}", layer.name));
            assert_eq!(finding.level, Level::Ok, "{finding:?}");
        }
        assert!(sys::has_tcx().is_ok());
    }

    #[test]
    fn a_helper_that_no_such_program_has_is_found_lacking() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not tested, only root can: trying what the kernel has");
            return;
        }
        let layer = Layer {
            name: "imaginary",
            programs: &[(Xdp, "XDP programs")],
            maps: &[],
            helpers: &[(
                Xdp,
                BPF_FUNC_skb_change_tail,
                "bpf_skb_change_tail",
                "nothing",
            )],
            without: Some("Nothing happens."),
            wanted: &[],
        };
        let mut findings = Vec::new();
        one(&layer, &mut findings);
        let [finding] = &findings[..] else {
            panic!("{findings:?}")
        };
        assert_eq!(finding.level, Level::Warning);
        assert!(
            finding.what.contains("bpf_skb_change_tail (nothing)"),
            "{finding:?}"
        );
    }
}
