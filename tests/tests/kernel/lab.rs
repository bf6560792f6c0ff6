//! A place to try the kernel side in: a network namespace that leads nowhere, a cgroup, a
//! directory of pins. All of it goes away with the lab, also when a test fails.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use limiter_common::{
    limit::{BLOCK_SLOTS, Unit},
    stats::{Health, Stats},
    verdict::PortGroup,
    window::Slot,
};
use limiter_user::{
    kernel::{Changes, Kernel, KernelError, Mirror, Needs, clock, pins::Pins, reports::Reports},
    policy::image::Image,
    system::{mounts, namespace},
};

/// One lab at a time: they measure, and there are few CPUs.
static ALONE: Mutex<()> = Mutex::new(());

/// How much the maps of a lab hold at least.
pub const NEEDS: Needs = Needs {
    tenants: 16,
    slots: 64,
};

/// Pins, a cgroup, and the kernel side in force there.
pub struct Lab {
    kernel: Option<Kernel>,
    mirror: Option<Mirror>,
    reports: Option<Reports>,
    pin_dir: PathBuf,
    cgroup: PathBuf,
}

/// Runs `body` in a lab, in a network namespace of its own.
pub fn in_lab(body: impl FnOnce(&mut Lab) + Send + 'static) {
    in_netns(move || {
        let mut lab = Lab::new();
        lab.start();
        body(&mut lab);
    });
}

/// Runs `body` on a thread in a network namespace where every packet goes to an interface behind
/// which nobody answers.
pub fn in_netns(body: impl FnOnce() + Send + 'static) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let thread = thread::spawn(move || {
        // SAFETY: takes flags only, and changes this thread alone.
        let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(
            result,
            0,
            "a network namespace of its own (root is needed): {}",
            std::io::Error::last_os_error()
        );
        for arguments in [
            "link add v0 type veth peer name v1",
            "link set v0 up",
            "link set v1 up",
            "addr add 192.0.2.1/24 dev v0",
            "neigh add 192.0.2.2 lladdr 02:00:00:00:00:01 dev v0",
            "route add default via 192.0.2.2",
        ] {
            let status = Command::new("ip").args(arguments.split(' ')).status();
            assert!(status.unwrap().success(), "ip {arguments}");
        }
        body();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Lab {
    /// A cgroup and a name for the pins; nothing is loaded.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "limiter-ktest-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let cgroup = mounts::find_cgroup2().unwrap().join(&name);
        fs::create_dir(&cgroup).unwrap();
        Self {
            kernel: None,
            mirror: None,
            reports: None,
            pin_dir: Path::new("/sys/fs/bpf").join(name),
            cgroup,
        }
    }

    /// Loads, reads what is there and attaches, as the agent does when it starts.
    pub fn start(&mut self) {
        self.load(NEEDS).unwrap();
        let cgroup = self.cgroup.clone();
        self.kernel().attach(&cgroup).unwrap();
    }

    /// Loads and reads what is there.
    pub fn load(&mut self, needs: Needs) -> Result<(), KernelError> {
        let (kernel, reports) = Kernel::load(&self.pin_dir, needs)?;
        self.mirror = Some(Mirror::read(&kernel.maps, namespace::own_netns().unwrap())?);
        self.kernel = Some(kernel);
        self.reports = Some(reports);
        Ok(())
    }

    /// Lets everything go that the agent holds. What is pinned stays in force.
    pub fn stop(&mut self) {
        self.mirror = None;
        self.reports = None;
        self.kernel = None;
    }

    /// Takes what the kernel reported out of its buffers, as an agent would.
    #[allow(dead_code, reason = "not for the bench")]
    pub fn read_reports(&mut self) {
        let reports = self.reports.as_mut().unwrap();
        while reports.next_event().is_some() {}
        while reports.next_attempt().is_some() {}
    }

    pub fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }

    /// Pins elsewhere from the next start on.
    pub fn move_pins(&mut self, to: &Path) {
        let _ = Pins::new(&self.pin_dir).remove_all();
        to.clone_into(&mut self.pin_dir);
    }

    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// A cgroup inside the lab's. It goes away with it.
    pub fn inner_cgroup(&self) -> PathBuf {
        let inner = self.cgroup.join("inner");
        fs::create_dir(&inner).unwrap();
        inner
    }

    pub fn kernel(&mut self) -> &mut Kernel {
        self.kernel.as_mut().unwrap()
    }

    pub fn loaded(&self) -> &Kernel {
        self.kernel.as_ref().unwrap()
    }

    pub fn try_apply(&mut self, image: &Image) -> Result<Changes, KernelError> {
        let mirror = self.mirror.as_mut().unwrap();
        mirror.apply(image, self.kernel.as_mut().unwrap())
    }

    pub fn apply(&mut self, image: &Image) -> Changes {
        self.try_apply(image).unwrap()
    }

    /// Sets flags of the node that do not follow from the policy.
    pub fn set_flags(&mut self, mask: u32, value: u32) {
        let mirror = self.mirror.as_mut().unwrap();
        let kernel = self.kernel.as_mut().unwrap();
        mirror.set_flags(mask, value, kernel).unwrap();
    }

    pub fn index(&self, name: &str) -> u32 {
        self.mirror.as_ref().unwrap().index_of(name).unwrap()
    }

    /// The agent's copy and the kernel side together.
    pub fn both(&mut self) -> (&mut Mirror, &mut Kernel) {
        (self.mirror.as_mut().unwrap(), self.kernel.as_mut().unwrap())
    }

    /// Charges connections to port 25, as a layer would.
    pub fn charge(&self, name: &str, units: u32) -> bool {
        charge(self.loaded(), self.index(name), units)
    }

    /// What is used of a tenant's limits, in the order in which they stand in the kernel.
    pub fn used(&self, name: &str) -> Vec<u32> {
        let now_ns = clock::monotonic_ns();
        let known = self.loaded().maps.tenant(self.index(name)).unwrap();
        let limits = known.unwrap().limits;
        limits.iter().map(|limit| limit.used(now_ns)).collect()
    }

    /// The raw state of a tenant's `limit`th limit.
    pub fn slot(&self, name: &str, limit: usize) -> Slot {
        let maps = &self.loaded().maps;
        let tenant = maps.tenants.get(self.index(name)).unwrap();
        let set = maps.limit_sets.get(tenant.limit_set).unwrap();
        let place = usize::from(tenant.first_slot) + usize::from(set.defs[limit].slot);
        maps.blocks
            .get(tenant.block)
            .unwrap()
            .slot(place % BLOCK_SLOTS)
    }

    pub fn counters(&self, name: &str) -> Stats {
        self.loaded().maps.counters(self.index(name)).unwrap()
    }

    pub fn health(&self) -> Health {
        self.loaded().maps.health().unwrap()
    }

    /// Nothing impossible happened, and nobody gave up.
    pub fn assert_sound(&self) {
        let health = self.health();
        assert_eq!((health.internal, health.contended), (0, 0), "{health:?}");
    }
}

/// Charges connections to port 25.
pub fn charge(kernel: &Kernel, index: u32, units: u32) -> bool {
    kernel
        .charge(index, Unit::Connections, PortGroup::Smtp, units)
        .unwrap()
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop();
        // What a test made unsafe on purpose the product refuses to remove.
        if Pins::new(&self.pin_dir).remove_all().is_err()
            && let Err(error) = fs::remove_dir_all(&self.pin_dir)
        {
            let _ = writeln!(std::io::stderr(), "left behind: {error}");
        }
        // A process that was killed may take a moment to leave.
        for _ in 0..200 {
            let _ = fs::remove_dir(self.cgroup.join("inner"));
            match fs::remove_dir(&self.cgroup) {
                Ok(()) => return,
                Err(_) => thread::sleep(std::time::Duration::from_millis(10)),
            }
        }
        let _ = writeln!(std::io::stderr(), "left behind: {}", self.cgroup.display());
    }
}
