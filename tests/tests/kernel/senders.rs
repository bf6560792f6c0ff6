//! Processes that do nothing but connect: forked, in the lab's cgroup, with a uid of their own.

use std::{
    fs::OpenOptions,
    io,
    os::fd::{AsRawFd as _, RawFd},
    path::Path,
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Where they connect to: an address for documentation, port 25.
const DESTINATION: [u8; 4] = [203, 0, 113, 5];

/// What they did, in memory that they share with the test.
#[derive(Default)]
#[repr(C)]
pub struct Tally {
    /// Set when they may start.
    go: AtomicU32,
    /// Set when they are to end.
    stop: AtomicU32,
    /// connect() set out.
    pub allowed: AtomicU64,
    /// EPERM.
    pub denied: AtomicU64,
    /// Anything else, which is a fault of the test.
    pub odd: AtomicU64,
}

/// Running senders. Killed and waited for when dropped.
pub struct Senders {
    tally: NonNull<Tally>,
    pids: Vec<libc::pid_t>,
}

impl Senders {
    /// Forks a process for each of `uids`, each on the next CPU, each to connect `attempts` times
    /// (0: until stopped). They start when told.
    pub fn fork(cgroup: &Path, uids: &[u32], attempts: u64) -> Self {
        // SAFETY: a new mapping, checked below.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Tally>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(memory, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        let tally = NonNull::new(memory.cast::<Tally>()).unwrap();
        // SAFETY: room for one, aligned to a page, and nobody else knows it yet.
        unsafe { tally.write(Tally::default()) };
        let procs = OpenOptions::new()
            .write(true)
            .open(cgroup.join("cgroup.procs"))
            .unwrap();
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        let mut senders = Self {
            tally,
            pids: Vec::new(),
        };
        for (at, uid) in uids.iter().enumerate() {
            // SAFETY: the child only makes system calls and touches its own stack and the shared
            // memory, then ends without running anything of this process.
            let pid = unsafe { libc::fork() };
            assert!(pid >= 0, "{}", io::Error::last_os_error());
            if pid == 0 {
                child(
                    procs.as_raw_fd(),
                    at % cpus,
                    *uid,
                    attempts,
                    senders.tally(),
                );
            }
            senders.pids.push(pid);
        }
        senders
    }

    /// Starts them.
    pub fn start(&self) {
        self.tally().go.store(1, Ordering::SeqCst);
    }

    /// What they did so far.
    pub fn tally(&self) -> &Tally {
        // SAFETY: mapped and initialised until this is dropped; all fields are atomic.
        unsafe { self.tally.as_ref() }
    }

    pub fn allowed(&self) -> u64 {
        self.tally().allowed.load(Ordering::SeqCst)
    }

    pub fn denied(&self) -> u64 {
        self.tally().denied.load(Ordering::SeqCst)
    }

    /// Waits until each has made all its attempts. Returns how many were allowed and denied.
    pub fn finish(&mut self) -> (u64, u64) {
        let limit = Instant::now() + Duration::from_secs(40);
        while let Some(pid) = self.pids.pop() {
            let mut status = 0;
            loop {
                // SAFETY: a child of this process, and a place for its status.
                let waited = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
                if waited == pid {
                    break;
                }
                if Instant::now() > limit {
                    self.pids.push(pid);
                    panic!("a sender does not end");
                }
                thread::sleep(Duration::from_millis(2));
            }
            assert_eq!(status, 0, "a sender failed");
        }
        let odd = self.tally().odd.load(Ordering::SeqCst);
        assert_eq!(odd, 0, "connect() failed in another way");
        (self.allowed(), self.denied())
    }

    /// Lets those that run until stopped end.
    pub fn stop(&mut self) -> (u64, u64) {
        self.tally().stop.store(1, Ordering::SeqCst);
        self.finish()
    }
}

impl Drop for Senders {
    fn drop(&mut self) {
        for pid in &self.pids {
            // SAFETY: children of this process that were not waited for.
            unsafe {
                libc::kill(*pid, libc::SIGKILL);
                libc::waitpid(*pid, std::ptr::null_mut(), 0);
            }
        }
        // SAFETY: mapped by `fork`, and no child of ours is left that uses it.
        unsafe { libc::munmap(self.tally.as_ptr().cast(), size_of::<Tally>()) };
    }
}

/// The life of a sender. Nothing here may allocate, lock or panic: it runs between fork and exit
/// in a process that had other threads.
fn child(procs: RawFd, cpu: usize, uid: u32, attempts: u64, tally: &Tally) -> ! {
    // SAFETY: plain system calls with pointers to local values that outlive them.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::write(procs, c"0".as_ptr().cast(), 1) != 1 {
            libc::_exit(2);
        }
        let mut set = std::mem::zeroed::<libc::cpu_set_t>();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
        // By the system call: the library's function would signal the other threads.
        if libc::syscall(libc::SYS_setresuid, uid, uid, uid) != 0 {
            libc::_exit(3);
        }
        let mut address = std::mem::zeroed::<libc::sockaddr_in>();
        address.sin_family = 2;
        address.sin_port = 25_u16.to_be();
        address.sin_addr.s_addr = u32::from_ne_bytes(DESTINATION);
        while tally.go.load(Ordering::SeqCst) == 0 {
            libc::sched_yield();
        }
        let mut done = 0;
        while (attempts == 0 || done < attempts) && tally.stop.load(Ordering::Relaxed) == 0 {
            done += 1;
            let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            let socket = libc::socket(libc::AF_INET, kind, 0);
            let result = libc::connect(socket, (&raw const address).cast(), 16);
            let counter = match (result, *libc::__errno_location()) {
                (0, _) | (_, libc::EINPROGRESS) => &tally.allowed,
                (_, libc::EPERM) => &tally.denied,
                _ => &tally.odd,
            };
            counter.fetch_add(1, Ordering::SeqCst);
            libc::close(socket);
        }
        libc::_exit(0);
    }
}
