//! Processes outside the promise: in the node's own network namespace, and able to send raw packets
//! or to change the firewall. A tenant's are named with the tenant; of the others those that are not
//! root's.

use std::{collections::BTreeMap, fs, io, path::Path};

use super::{
    Finding,
    owners::{Owners, cgroup_path},
    report::several,
};
use crate::{policy::image::Image, system::users::lookup_uid};

const AREA: &str = "outside the promise";
/// The capabilities that lead past the filters.
const CAPABILITIES: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW")];
/// How many are named, in all or of a tenant.
const MOST_NAMED: usize = 12;
/// How many tenants are named.
const MOST_TENANTS: usize = 50;

/// What `/proc/PID/status` says of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// Its name.
    pub(super) comm: String,
    /// Its effective uid.
    pub(super) uid: u32,
    /// Its effective capabilities, a bit each.
    pub(super) capabilities: u64,
    /// Those that it can make effective whenever it likes.
    permitted: u64,
}

impl Status {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        let bits = |name| u64::from_str_radix(field(name)?, 16).ok();
        Some(Self {
            comm: field("Name:")?.to_owned(),
            uid: field("Uid:")?.split_whitespace().nth(1)?.parse().ok()?,
            capabilities: bits("CapEff:")?,
            permitted: bits("CapPrm:")?,
        })
    }

    /// Whether it has the capability with this number.
    pub(super) fn has(&self, capability: u32) -> bool {
        self.capabilities >> capability & 1 != 0
    }

    /// Which of the capabilities that matter it has or can have.
    fn held(&self) -> Vec<&'static str> {
        CAPABILITIES
            .iter()
            .filter(|(bit, _)| (self.capabilities | self.permitted) >> bit & 1 != 0)
            .map(|(_, name)| *name)
            .collect()
    }
}

/// The processes that were found, as they are shown.
#[derive(Debug, Default)]
struct Outside {
    /// By tenant.
    tenants: BTreeMap<String, Vec<String>>,
    /// Nobody's, and not root's.
    others: Vec<String>,
    /// How many could not be looked at.
    hidden: usize,
}

pub(super) fn examine(image: Option<&Image>, findings: &mut Vec<Finding>) {
    match look(image) {
        Ok(outside) => outside.tell(findings),
        Err(error) => findings.push(Finding::warning(
            AREA,
            format!("/proc cannot be read ({error}): processes cannot be looked at"),
            "mount -t proc proc /proc",
        )),
    }
}

/// Looks at every process.
fn look(image: Option<&Image>) -> io::Result<Outside> {
    let own = Path::new("/proc/self");
    let (our_net, our_user) = (namespace(own, "net")?, namespace(own, "user")?);
    let owners = image.map(Owners::new);
    let by_cgroup = owners.as_ref().is_some_and(Owners::claims_cgroups);
    let mut outside = Outside::default();
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let process = entry.path();
        // Processes end while they are looked at.
        let Ok(text) = fs::read_to_string(process.join("status")) else {
            continue;
        };
        let Some(status) = Status::parse(&text) else {
            continue;
        };
        let held = status.held();
        // Most processes end here; most of the others are root's and in no tenant's cgroup.
        if held.is_empty() || (status.uid == 0 && owners.is_none()) {
            continue;
        }
        let text = if by_cgroup {
            fs::read_to_string(process.join("cgroup")).unwrap_or_default()
        } else {
            String::new()
        };
        let tenant = owners
            .as_ref()
            .and_then(|owners| owners.tenant(status.uid, cgroup_path(&text).unwrap_or_default()));
        if tenant.is_none() && status.uid == 0 {
            continue;
        }
        // Capabilities in another user namespace have no power over this network namespace.
        match (namespace(&process, "net"), namespace(&process, "user")) {
            (Ok(net), Ok(user)) if net == our_net && user == our_user => {}
            (Err(error), _) | (_, Err(error))
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                outside.hidden += 1;
                continue;
            }
            _ => continue,
        }
        let shown = format!(
            "{pid} {} (uid {}, {})",
            status.comm,
            user(status.uid),
            held.join(" and ")
        );
        match tenant {
            Some(tenant) => outside
                .tenants
                .entry(tenant.to_owned())
                .or_default()
                .push(shown),
            None => outside.others.push(shown),
        }
    }
    Ok(outside)
}

/// Which namespace of a kind a process is in.
fn namespace(process: &Path, kind: &str) -> io::Result<std::path::PathBuf> {
    fs::read_link(process.join("ns").join(kind))
}

impl Outside {
    fn tell(&self, findings: &mut Vec<Finding>) {
        for (tenant, processes) in self.tenants.iter().take(MOST_TENANTS) {
            findings.push(Finding::warning(
                AREA,
                format!(
                    "tenant {tenant} can send past every filter: {} in the node's own network \
                     namespace: {}",
                    several_processes(processes.len()),
                    names(processes)
                ),
                "Give them a network namespace of their own (no host networking), or take the \
                 capability away: --cap-drop for containers, CapabilityBoundingSet= for units, \
                 setcap -r for files (getcap -r / lists them).",
            ));
        }
        if let Some(more) = self.tenants.len().checked_sub(MOST_TENANTS + 1) {
            findings.push(Finding::warning(
                AREA,
                format!("and {} more like that", several(more + 1, "tenant")),
                "Start with those above.",
            ));
        }
        if self.hidden > 0 {
            findings.push(Finding::note(
                AREA,
                format!(
                    "{} cannot be looked at: the caller may not see which namespaces they are in",
                    several_processes(self.hidden)
                ),
                "Run `limiter doctor` as root on the node itself, with CAP_SYS_PTRACE.",
            ));
        }
        if !self.others.is_empty() {
            findings.push(Finding::warning(
                AREA,
                format!(
                    "who is not root and has CAP_NET_RAW or CAP_NET_ADMIN in the node's own \
                     network namespace can send past every filter; {}: {}",
                    several_processes(self.others.len()),
                    names(&self.others)
                ),
                "Services of the node (ntp, resolver, ping) are fine; from a tenant take it away: \
                 getcap -r / lists the files that give it, AmbientCapabilities= the units.",
            ));
        }
        if self.others.is_empty() && self.tenants.is_empty() {
            findings.push(Finding::ok(
                AREA,
                "no process here but root's has CAP_NET_RAW or CAP_NET_ADMIN",
            ));
        }
    }
}

/// The first of them, and how many more there are.
fn names(processes: &[String]) -> String {
    let mut named = processes[..processes.len().min(MOST_NAMED)].join(", ");
    if processes.len() > MOST_NAMED {
        named = format!("{named}, and {} more", processes.len() - MOST_NAMED);
    }
    named
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
    use std::process::{Child, Command};

    use super::*;
    use crate::{
        kernel::doctor::Level,
        policy::{
            compile::compile_what_holds,
            compile::testing::{located, policy, tenant},
            model::UidRange,
        },
        system::{Sources, System, testing::TestCgroup},
    };

    const STATUS: &str = "Name:\tchronyd\nUmask:\t0022\nState:\tS (sleeping)\nPid:\t812\n\
        Uid:\t0\t995\t0\t995\nGid:\t993\t993\t993\t993\nCapInh:\t0000000000000000\n\
        CapPrm:\t0000000002000400\nCapEff:\t0000000002003400\nSeccomp:\t2\n";

    #[test]
    fn status_is_read_by_the_effective_uid_and_capabilities() {
        let status = Status::parse(STATUS).unwrap();
        assert_eq!((status.comm.as_str(), status.uid), ("chronyd", 995));
        assert!(status.has(12) && status.has(13) && status.has(25));
        assert!(!status.has(21));
        assert_eq!(status.held(), ["CAP_NET_ADMIN", "CAP_NET_RAW"]);
        assert_eq!(Status::parse("Name:\tx\nUid:\t0\n"), None);
        // What it does not use, and can use whenever it likes.
        let idle = STATUS.replace("0000000002003400", "0000000000000000");
        let idle = Status::parse(&idle.replace("0000000002000400", "0000000000002000")).unwrap();
        assert!(!idle.has(13));
        assert_eq!(idle.held(), ["CAP_NET_RAW"]);
    }

    #[test]
    fn the_list_is_short_however_many_there_are() {
        let mut outside = Outside {
            others: (0..500).map(|pid| format!("{pid} x")).collect(),
            ..Outside::default()
        };
        for tenant in 0..60 {
            let processes = vec!["7 ping".to_owned(); 20];
            outside.tenants.insert(format!("t{tenant:02}"), processes);
        }
        let mut findings = Vec::new();
        outside.tell(&mut findings);
        assert_eq!(findings.len(), MOST_TENANTS + 2);
        assert!(findings[0].what.starts_with("tenant t00 "));
        assert!(
            findings[0].what.ends_with("7 ping, and 8 more"),
            "{findings:?}"
        );
        assert!(
            findings[MOST_TENANTS].what.contains("10 tenants more"),
            "{findings:?}"
        );
        let others = &findings[MOST_TENANTS + 1].what;
        assert!(others.contains("; 500 processes: 0 x, "), "{others}");
        assert!(others.ends_with("and 488 more"), "{others}");
    }

    /// A process that is ended at the end.
    struct Sleeper(Child);

    impl Sleeper {
        /// Starts one behind `prefix`, in a cgroup if one is given, and waits until it sleeps.
        fn start(prefix: &str, cgroup: Option<&Path>) -> Self {
            let enter = cgroup.map_or_else(String::new, |directory| {
                format!("echo $$ > {}/cgroup.procs &&", directory.display())
            });
            let child = Command::new("sh")
                .args(["-c", &format!("{enter} exec {prefix} sleep 60")])
                .spawn()
                .unwrap();
            let sleeper = Self(child);
            let comm = format!("/proc/{}/comm", sleeper.0.id());
            for _ in 0..200 {
                if fs::read_to_string(&comm).is_ok_and(|comm| comm == "sleep\n") {
                    return sleeper;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            panic!("{prefix} sleep was not started");
        }

        fn is_in(&self, processes: &[String]) -> bool {
            let start = format!("{} sleep (", self.0.id());
            processes.iter().any(|process| process.starts_with(&start))
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_tenants_processes_are_named_with_the_tenant() {
        let Some(cgroup) = TestCgroup::make() else {
            return;
        };
        const UID: u32 = 61_234;
        let mut policy = policy();
        let mut by_uid = tenant("by-uid");
        by_uid.matches.uids = vec![located(UidRange {
            first: UID,
            last: UID,
        })];
        let mut by_cgroup = tenant("by-cgroup");
        by_cgroup.matches.cgroups = vec![located(format!("/{}", cgroup.name))];
        policy.tenants.extend([by_uid, by_cgroup]);
        let system = System::snapshot(&policy, &Sources::find().unwrap()).unwrap();
        let (image, faults) = compile_what_holds(&policy, &system);
        assert_eq!(faults.len(), 0, "{faults:?}");

        let raw = "setpriv --inh-caps +net_raw --ambient-caps +net_raw --reuid";
        let as_user = format!("{raw} {UID} --clear-groups");
        let user = Sleeper::start(&as_user, None);
        let stranger = Sleeper::start(&format!("{raw} {} --clear-groups", UID + 1), None);
        let without = Sleeper::start(&format!("setpriv --reuid {UID} --clear-groups"), None);
        let nested = cgroup.path().join("nested");
        fs::create_dir(&nested).unwrap();
        let root = Sleeper::start("", Some(&nested));
        let container = Sleeper::start("unshare --net", Some(&nested));
        let rootless = Sleeper::start("unshare --user --map-root-user", Some(&nested));

        let outside = look(Some(&image)).unwrap();
        let of_uid = &outside.tenants["by-uid"];
        let of_cgroup = &outside.tenants["by-cgroup"];
        assert!(
            user.is_in(of_uid) && of_uid[0].contains("CAP_NET_RAW"),
            "{outside:?}"
        );
        assert!(!of_uid[0].contains("CAP_NET_ADMIN"), "{outside:?}");
        assert!(root.is_in(of_cgroup), "{outside:?}");
        assert!(
            of_cgroup[0].contains("CAP_NET_ADMIN and CAP_NET_RAW"),
            "{outside:?}"
        );
        assert!(stranger.is_in(&outside.others), "{outside:?}");
        for harmless in [&without, &container, &rootless] {
            for processes in outside.tenants.values().chain([&outside.others]) {
                assert!(!harmless.is_in(processes), "{outside:?}");
            }
        }
        // Without a policy nobody is a tenant, and root is the node.
        let outside = look(None).unwrap();
        assert!(outside.tenants.is_empty() && user.is_in(&outside.others));
        assert!(!root.is_in(&outside.others));

        let mut findings = Vec::new();
        examine(Some(&image), &mut findings);
        let named = findings
            .iter()
            .find(|one| one.what.starts_with("tenant by-uid "));
        let named = named.unwrap_or_else(|| panic!("{findings:?}"));
        assert_eq!(named.level, Level::Warning);
        assert!(
            named
                .remedy
                .as_ref()
                .is_some_and(|remedy| remedy.contains("--cap-drop"))
        );
    }
}
