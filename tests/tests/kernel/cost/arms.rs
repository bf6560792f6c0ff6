//! What is attached while something is measured: nothing, programs that do nothing, or limiter's.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use limiter_user::kernel::{
    Wanted,
    attach::{Place, Side},
    pins::Pins,
};

use crate::{
    foreign::{
        self, CGROUP_SKB, CLASSIFIER, CONNECT4, CONNECT6, EGRESS, INGRESS, SOCK_ADDR, SOCKET, index,
    },
    lab::Lab,
};

/// A program, and where it is attached.
#[derive(Clone)]
struct Hook {
    program: Arc<OwnedFd>,
    at: At,
    hook: u32,
}

impl Hook {
    fn attach(&self) -> OwnedFd {
        match &self.at {
            At::Cgroup(path) => foreign::attach_cgroup(&self.program, path, self.hook),
            At::Interface(index) => foreign::attach_tcx(&self.program, *index, self.hook),
        }
    }
}

#[derive(Clone)]
enum At {
    Cgroup(PathBuf),
    Interface(u32),
}

/// What is attached where nothing is.
pub const NOTHING: &str = "no programs";

/// Programs that are attached together.
#[derive(Clone)]
pub struct Arm {
    pub name: &'static str,
    hooks: Vec<Hook>,
}

impl Arm {
    /// Does something while they are attached. All at once, for each waits until the kernel has
    /// let its readers finish.
    pub fn attached<T>(&self, body: impl FnOnce() -> T) -> T {
        let links: Vec<OwnedFd> = thread::scope(|scope| {
            let threads: Vec<_> = self
                .hooks
                .iter()
                .map(|hook| scope.spawn(|| hook.attach()))
                .collect();
            threads.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let result = body();
        thread::scope(|scope| {
            for link in links {
                scope.spawn(|| drop(link));
            }
        });
        result
    }
}

/// A pair of programs for one place: limiter's, and an empty one.
struct Pair {
    ours: Hook,
    empty: Hook,
}

/// All that limiter attaches at a node with one uplink and one guest.
pub struct Programs {
    connect: [Pair; 2],
    socket: Pair,
    guest: Pair,
    uplink: Pair,
}

impl Programs {
    /// Lets the lab attach its programs, takes hold of them, and takes them away again: they and
    /// the policy in their maps stay as long as they are held. They are to be attached at `cgroup`.
    pub fn take(lab: &mut Lab, cgroup: &Path, uplink: &str, guest: &str) -> Self {
        let place = |name: &str, side| Place {
            index: index(name),
            name: name.to_owned(),
            ethernet: true,
            side,
        };
        let wanted = Wanted {
            socket: true,
            guests: vec![place(guest, Side::Ingress)],
            uplinks: vec![place(uplink, Side::Egress)],
            ..Wanted::default()
        };
        let outcome = lab.kernel().reconcile(&wanted);
        assert!(outcome.layers.iter().all(|one| one.attached), "{outcome:?}");
        let pair = |at: At, hook, ours, empty| {
            let [ours, empty] = [ours, empty].map(|program| Hook {
                program: Arc::new(program),
                at: at.clone(),
                hook,
            });
            Pair { ours, empty }
        };
        let of_cgroup = |hook, kind| {
            pair(
                At::Cgroup(cgroup.to_owned()),
                hook,
                foreign::cgroup_program(lab.cgroup(), hook),
                foreign::program_for(kind, hook, 1),
            )
        };
        let of_interface = |name, hook| {
            pair(
                At::Interface(index(name)),
                hook,
                foreign::program_at(index(name), hook),
                foreign::program(CLASSIFIER, -1),
            )
        };
        let taken = Self {
            connect: [
                of_cgroup(CONNECT4, SOCK_ADDR),
                of_cgroup(CONNECT6, SOCK_ADDR),
            ],
            socket: of_cgroup(SOCKET, CGROUP_SKB),
            guest: of_interface(guest, INGRESS),
            uplink: of_interface(uplink, EGRESS),
        };
        lab.stop();
        Pins::new(lab.pin_dir()).remove_all().unwrap();
        assert_eq!(foreign::tcx_links(index(uplink), EGRESS), Vec::<u32>::new());
        taken
    }

    /// For what the node's own users send: nothing, empty programs and limiter's, without and with
    /// the socket layer.
    pub fn for_users(&self) -> Vec<Arm> {
        let usual = || self.connect.iter().chain([&self.uplink]);
        let watched = || usual().chain([&self.socket]);
        vec![
            nothing(),
            empty("empty ones", usual()),
            ours("connect and uplink", usual()),
            empty("empty ones, socket too", watched()),
            ours("connect, uplink and socket", watched()),
        ]
    }

    /// For what a guest sends.
    pub fn for_guests(&self) -> Vec<Arm> {
        let usual = || self.connect.iter().chain([&self.guest, &self.uplink]);
        vec![
            nothing(),
            empty("empty ones", usual()),
            ours("connect, guest and uplink", usual()),
        ]
    }
}

fn nothing() -> Arm {
    Arm {
        name: NOTHING,
        hooks: Vec::new(),
    }
}

fn empty<'p>(name: &'static str, pairs: impl Iterator<Item = &'p Pair>) -> Arm {
    let hooks = pairs.map(|pair| pair.empty.clone()).collect();
    Arm { name, hooks }
}

fn ours<'p>(name: &'static str, pairs: impl Iterator<Item = &'p Pair>) -> Arm {
    let hooks = pairs.map(|pair| pair.ours.clone()).collect();
    Arm { name, hooks }
}
