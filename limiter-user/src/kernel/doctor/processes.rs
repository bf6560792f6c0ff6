//! Processes outside the promise: in the node's own network namespace, not root's, and able to
//! send raw packets or to change the firewall.

use std::fs;

use super::Finding;
use crate::system::users::lookup_uid;

const AREA: &str = "outside the promise";
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
/// How many are named.
const MOST_NAMED: usize = 12;

/// What `/proc/PID/status` says of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// Its name.
    pub(super) comm: String,
    /// Its effective uid.
    pub(super) uid: u32,
    /// Its effective capabilities, a bit each.
    pub(super) capabilities: u64,
}

impl Status {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        Some(Self {
            comm: field("Name:")?.to_owned(),
            uid: field("Uid:")?.split_whitespace().nth(1)?.parse().ok()?,
            capabilities: u64::from_str_radix(field("CapEff:")?, 16).ok()?,
        })
    }

    /// Whether it has the capability with this number.
    pub(super) fn has(&self, capability: u32) -> bool {
        self.capabilities >> capability & 1 != 0
    }

    fn is_outside(&self) -> bool {
        self.uid != 0 && (self.has(CAP_NET_ADMIN) || self.has(CAP_NET_RAW))
    }
}

pub(super) fn examine(findings: &mut Vec<Finding>) {
    let namespace = |pid: &str, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let (our_net, our_user) = (namespace("self", "net"), namespace("self", "user"));
    let Ok(entries) = fs::read_dir("/proc") else {
        findings.push(Finding::warning(
            AREA,
            "/proc cannot be read: processes cannot be looked at",
            "mount -t proc proc /proc",
        ));
        return;
    };
    let mut outside = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.parse::<u32>().is_ok()) else {
            continue;
        };
        // Processes end while they are looked at.
        let Ok(text) = fs::read_to_string(entry.path().join("status")) else {
            continue;
        };
        // Capabilities in another user namespace have no power over this network namespace.
        if let Some(status) = Status::parse(&text).filter(Status::is_outside)
            && namespace(pid, "net") == our_net
            && namespace(pid, "user") == our_user
        {
            outside.push((pid.to_owned(), status));
        }
    }
    findings.push(finding(&outside));
}

fn finding(outside: &[(String, Status)]) -> Finding {
    if outside.is_empty() {
        return Finding::ok(
            AREA,
            "no process here but root's has CAP_NET_RAW or CAP_NET_ADMIN",
        );
    }
    let mut named: Vec<String> = outside
        .iter()
        .take(MOST_NAMED)
        .map(|(pid, status)| format!("{pid} {} (uid {})", status.comm, user(status.uid)))
        .collect();
    if outside.len() > MOST_NAMED {
        named.push(format!("and {} more", outside.len() - MOST_NAMED));
    }
    Finding::warning(
        AREA,
        format!(
            "who is not root and has CAP_NET_RAW or CAP_NET_ADMIN in the node's own network \
             namespace can send past every filter; {}: {}",
            several_processes(outside.len()),
            named.join(", ")
        ),
        "Services of the node (ntp, resolver, ping) are fine; from a tenant take it away: getcap \
         -r / lists the files that give it, AmbientCapabilities= the units.",
    )
}

fn several_processes(count: usize) -> String {
    if count == 1 {
        "1 process".to_owned()
    } else {
        format!("{count} processes")
    }
}

fn user(uid: u32) -> String {
    match lookup_uid(uid) {
        Ok(Some(user)) => format!("{uid} {}", user.name),
        _ => uid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tchronyd\nUmask:\t0022\nState:\tS (sleeping)\nPid:\t812\n\
        Uid:\t0\t995\t0\t995\nGid:\t993\t993\t993\t993\nCapInh:\t0000000000000000\n\
        CapPrm:\t0000000002000400\nCapEff:\t0000000002003400\nSeccomp:\t2\n";

    #[test]
    fn status_is_read_by_the_effective_uid_and_capabilities() {
        let status = Status::parse(STATUS).unwrap();
        assert_eq!((status.comm.as_str(), status.uid), ("chronyd", 995));
        assert!(status.has(CAP_NET_ADMIN) && status.has(CAP_NET_RAW) && status.has(25));
        assert!(!status.has(21) && status.is_outside());
        assert_eq!(Status::parse("Name:\tx\nUid:\t0\n"), None);
        let root = Status { uid: 0, ..status };
        assert!(!root.is_outside());
    }

    #[test]
    fn the_list_is_short_however_many_there_are() {
        let status = Status::parse(STATUS).unwrap();
        let many: Vec<(String, Status)> = (0..500)
            .map(|pid| (pid.to_string(), status.clone()))
            .collect();
        let finding = finding(&many);
        assert!(finding.what.contains("; 500 processes: 0 chronyd"));
        assert!(
            finding.what.contains("0 chronyd (uid 995"),
            "{}",
            finding.what
        );
        assert!(finding.what.ends_with("and 488 more"), "{}", finding.what);
    }
}
