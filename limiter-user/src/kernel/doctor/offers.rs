//! What the kernel offers, and what the caller may do with it.

use std::fs;

use aya::{
    maps::MapType,
    programs::ProgramType,
    sys::{is_helper_supported, is_map_supported, is_program_supported},
};
use aya_obj::generated::bpf_func_id::{self, *};

use super::{Finding, processes::Status};
use crate::{
    kernel::{KernelError, btf::Offsets, load},
    system::namespace,
};

const AREA: &str = "kernel";

/// The helpers that the connect layer calls, and what for.
const HELPERS: [(bpf_func_id, &str, &str); 8] = [
    (
        BPF_FUNC_get_current_uid_gid,
        "bpf_get_current_uid_gid",
        "who calls, by uid",
    ),
    (
        BPF_FUNC_get_current_cgroup_id,
        "bpf_get_current_cgroup_id",
        "who calls, by cgroup",
    ),
    (
        BPF_FUNC_get_current_ancestor_cgroup_id,
        "bpf_get_current_ancestor_cgroup_id",
        "nested cgroups",
    ),
    (
        BPF_FUNC_get_current_task,
        "bpf_get_current_task",
        "telling containers apart",
    ),
    (
        BPF_FUNC_probe_read_kernel,
        "bpf_probe_read_kernel",
        "whose a passed socket is",
    ),
    (BPF_FUNC_spin_lock, "bpf_spin_lock", "exact counts"),
    (BPF_FUNC_ringbuf_output, "bpf_ringbuf_output", "events"),
    (
        BPF_FUNC_get_current_comm,
        "bpf_get_current_comm",
        "the program's name in events",
    ),
];

/// The kinds of maps.
const MAPS: [(MapType, &str); 5] = [
    (MapType::Array, "array"),
    (MapType::Hash, "hash"),
    (MapType::LpmTrie, "LPM trie"),
    (MapType::PerCpuArray, "per-CPU array"),
    (MapType::RingBuf, "ring buffer"),
];

const NEWER: &str = "Boot a newer kernel (5.14 or later; vendors' kernels often have it earlier).";

pub(super) fn examine(findings: &mut Vec<Finding>) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    findings.push(Finding::ok(AREA, format!("Linux {}", release.trim())));
    let may_probe = capabilities(findings);
    lockdown(findings);
    findings.push(match Offsets::of_running_kernel() {
        Ok(_) => Finding::ok(AREA, "type information (BTF) with all fields that are read"),
        Err(error) => Finding::missing(
            AREA,
            error.to_string(),
            "Boot a kernel with CONFIG_DEBUG_INFO_BTF=y: every distribution's since about 2021.",
        ),
    });
    if let Err(error) = namespace::own_netns() {
        findings.push(Finding::missing(
            AREA,
            error.to_string(),
            "See dmesg; run doctor as root.",
        ));
    }
    if may_probe {
        features(findings);
        programs(findings);
    } else {
        findings.push(Finding::note(
            AREA,
            "Program types, helpers and maps cannot be tried without these capabilities.",
            "Run `limiter doctor` as root.",
        ));
    }
    jit(findings);
}

/// Whether the caller may do what the agent does.
fn capabilities(findings: &mut Vec<Finding>) -> bool {
    const NEEDED: [(u32, &str); 3] = [(39, "CAP_BPF"), (38, "CAP_PERFMON"), (12, "CAP_NET_ADMIN")];
    const SYS_ADMIN: u32 = 21;
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let status = Status::parse(&text).unwrap_or_default();
    let lacking: Vec<&str> = NEEDED
        .iter()
        .filter(|(bit, name)| {
            let by_admin = *name != "CAP_NET_ADMIN" && status.has(SYS_ADMIN);
            !status.has(*bit) && !by_admin
        })
        .map(|(_, name)| *name)
        .collect();
    if lacking.is_empty() && status.uid == 0 {
        findings.push(Finding::ok(
            AREA,
            "the caller is root and has every capability needed",
        ));
        return true;
    }
    let what = if lacking.is_empty() {
        format!(
            "the caller is uid {}, and what is pinned must be root's",
            status.uid
        )
    } else {
        format!("the caller lacks {}", lacking.join(", "))
    };
    findings.push(Finding::missing(
        AREA,
        what,
        "Run as root on the node itself, not in a container that takes capabilities away.",
    ));
    lacking.is_empty()
}

/// Kernel lockdown in its strict form forbids programs to read kernel memory.
fn lockdown(findings: &mut Vec<Finding>) {
    let text = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    match chosen(&text) {
        Some("confidentiality") => findings.push(Finding::missing(
            AREA,
            "kernel lockdown is in confidentiality mode: programs may not read kernel memory, so \
             it cannot be told whose a socket is",
            "Boot without lockdown=confidentiality; lockdown=integrity is fine.",
        )),
        Some(mode) => findings.push(Finding::ok(AREA, format!("kernel lockdown: {mode}"))),
        None => {}
    }
}

/// The word in brackets.
fn chosen(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word)
}

fn features(findings: &mut Vec<Finding>) {
    let mut lacking = Vec::new();
    for (kind, name) in [
        (ProgramType::CgroupSockAddr, "cgroup/connect programs"),
        (ProgramType::SchedClassifier, "classifier programs"),
    ] {
        match is_program_supported(kind) {
            Ok(true) => {}
            Ok(false) => lacking.push(name.to_owned()),
            Err(error) => lacking.push(format!("{name} (tried: {error})")),
        }
    }
    for (kind, name) in MAPS {
        match is_map_supported(kind) {
            Ok(true) => {}
            Ok(false) => lacking.push(format!("{name} maps")),
            Err(error) => lacking.push(format!("{name} maps (tried: {error})")),
        }
    }
    for (helper, name, why) in HELPERS {
        match is_helper_supported(ProgramType::CgroupSockAddr, helper) {
            Ok(true) => {}
            Ok(false) => lacking.push(format!("{name} ({why})")),
            Err(error) => lacking.push(format!("{name} ({why}; tried: {error})")),
        }
    }
    if lacking.is_empty() {
        findings.push(Finding::ok(
            AREA,
            "every program type, map and helper of the connect layer",
        ));
    } else {
        let what = format!("the connect layer needs: {}", lacking.join("; "));
        findings.push(Finding::missing(AREA, what, NEWER));
    }
    let coarse = is_helper_supported(ProgramType::CgroupSockAddr, BPF_FUNC_ktime_get_coarse_ns);
    if !coarse.unwrap_or(false) {
        findings.push(Finding::note(
            AREA,
            "no coarse clock (5.11 and later): each attempt costs some 20 ns more",
            "",
        ));
    }
}

/// The proof of the pudding: the programs themselves, loaded and let go again.
fn programs(findings: &mut Vec<Finding>) {
    findings.push(match load::try_load() {
        Ok(()) => Finding::ok(
            AREA,
            "the kernel accepts limiter's programs (loaded, not attached)",
        ),
        Err(error @ KernelError::NoObject) => Finding::missing(
            AREA,
            error.to_string(),
            "Install a complete build of limiter.",
        ),
        Err(error) => {
            let text: String = error.to_string().chars().take(400).collect();
            Finding::missing(
                AREA,
                format!("the kernel refuses limiter's programs: {text}"),
                "Report this with the output of `uname -a`; a newer kernel may accept them.",
            )
        }
    });
}

fn jit(findings: &mut Vec<Finding>) {
    let value = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").unwrap_or_default();
    if value.trim() == "0" {
        findings.push(Finding::warning(
            AREA,
            "the BPF compiler is off: programs are interpreted, several times slower",
            "sysctl -w net.core.bpf_jit_enable=1, and the same in /etc/sysctl.d/.",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lockdown_is_the_word_in_brackets() {
        assert_eq!(
            chosen("none [integrity] confidentiality\n"),
            Some("integrity")
        );
        assert_eq!(chosen("[none] integrity confidentiality"), Some("none"));
        assert_eq!(chosen(""), None);
    }
}
