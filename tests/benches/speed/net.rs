//! Where it is measured: networks that lead nowhere, and one CPU.

use std::{fs, path::PathBuf, process, thread};

use limiter_tests::{Cgroup, Namespace};
use nix::{
    sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, setns},
    unistd::Pid,
};

use crate::foreign::run;

/// A network namespace where every packet goes to an interface behind which nobody is.
pub struct Net(Namespace);

impl Net {
    pub fn new() -> Self {
        let net = Namespace::network();
        net.enter(|| {
            for line in [
                "link add v0 type veth peer name v1",
                "link set lo up",
                "link set v0 up",
                "link set v1 up",
                "addr add 192.0.2.1/24 dev v0",
                "neigh add 192.0.2.2 lladdr 02:00:00:00:00:01 dev v0",
                "route add default via 192.0.2.2",
                "-6 addr add 2001:db8:192::1/64 dev v0 nodad",
                "-6 neigh add 2001:db8:192::2 lladdr 02:00:00:00:00:01 dev v0",
                "-6 route add default via 2001:db8:192::2",
            ] {
                run(&format!("ip {line}"));
            }
        });
        Self(net)
    }

    /// The calling thread goes there, and stays.
    pub fn go(&self) {
        setns(self.0.net(), CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// Runs something there, in a thread of its own.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.0.enter(work)
    }
}

/// This process, in a cgroup of its own; it goes back where it was in the end.
pub struct Bench {
    cgroup: Option<Cgroup>,
    before: PathBuf,
    /// All that it may run on, ascending.
    cpus: Vec<usize>,
}

impl Bench {
    pub fn take_seat() -> Self {
        let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
        let cpus: Vec<usize> = cpus.collect();
        // Interrupts go to the first, mostly.
        stay_on(&cpus[cpus.len() - 1..]);
        let cgroup = Cgroup::at_top();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let path = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let top = cgroup.directory().parent().unwrap();
        let before = top.join(path.unwrap_or_default());
        cgroup.admit(process::id());
        Self {
            cgroup: Some(cgroup),
            before,
            cpus,
        }
    }

    /// Two of the processors, that of all measurements first; `None` if there is one alone.
    pub fn two_cpus(&self) -> Option<[usize; 2]> {
        match self.cpus[..] {
            [.., other, last] => Some([last, other]),
            _ => None,
        }
    }

    /// Does something on all processors, in a thread of its own.
    pub fn anywhere<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                stay_on(&self.cpus);
                work()
            });
            thread.join().unwrap()
        })
    }

    /// The cgroup of whoever connects.
    pub fn cgroup(&self) -> &Cgroup {
        self.cgroup.as_ref().unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Removing a cgroup ends who is in it.
        fs::write(self.before.join("cgroup.procs"), process::id().to_string()).unwrap();
        drop(self.cgroup.take());
    }
}

/// The calling thread, and those that it starts, run on these processors alone.
pub fn stay_on(cpus: &[usize]) {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu).unwrap();
    }
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}
