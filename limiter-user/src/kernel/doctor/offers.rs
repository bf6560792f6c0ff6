//! What the kernel offers, and what the caller may do with it.

use std::fs;

use super::{Finding, layers, processes::Status};
use crate::{
    kernel::{KernelError, btf::Offsets, load, verifier::refusal},
    system::namespace,
};

const AREA: &str = "kernel";

pub(super) const NEWER: &str =
    "Boot a newer kernel; distributions' kernels often have it earlier than others.";

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
        programs(findings);
    }
    jit(findings);
    if may_probe {
        layers::examine(findings);
    } else {
        findings.push(Finding::note(
            layers::AREA,
            "Program types, helpers and maps cannot be tried without these capabilities.",
            "Run `limiter doctor` as root.",
        ));
    }
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

/// The proof of the pudding: the programs themselves, loaded and let go again.
fn programs(findings: &mut Vec<Finding>) {
    let refused = load::try_load();
    for error in refused.iter().flatten() {
        findings.push(Finding::warning(
            AREA,
            format!("a layer is not available here: {}", short(error)),
            "The other layers hold. Report this with the output of `uname -a`.",
        ));
    }
    findings.push(match refused {
        Ok(_) => Finding::ok(
            AREA,
            "the kernel accepts limiter's programs (loaded, not attached)",
        ),
        Err(error @ KernelError::NoObject) => Finding::missing(
            AREA,
            error.to_string(),
            "Install a complete build of limiter.",
        ),
        Err(error) => Finding::missing(
            AREA,
            format!("the kernel refuses limiter's programs: {}", short(&error)),
            "Report this with the output of `uname -a`; a newer kernel may accept them.",
        ),
    });
}

/// What is wrong, without the advice to run doctor. Of a long text the end, which says why.
fn short(error: &KernelError) -> String {
    const LONGEST: usize = 2_000;
    let text = match error {
        KernelError::Program { program, source } => format!("{program}: {}", refusal(source)),
        error => error.to_string(),
    };
    let length = text.chars().count();
    text.chars().skip(length.saturating_sub(LONGEST)).collect()
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
