//! Somebody who filters: by what stands in a network namespace, or by programs at `connect`.

use std::{any::Any, os::fd::OwnedFd, path::PathBuf};

use crate::{
    foreign::{self, CONNECT4, CONNECT6},
    net::{Bench, Net},
};

/// Somebody who filters.
pub struct Contender {
    /// What it is called.
    pub name: &'static str,
    /// Where it filters.
    pub net: Net,
    /// Whether strangers are refused.
    pub refuses: bool,
    programs: Option<Programs>,
}

struct Programs {
    /// For IPv4 and IPv6.
    pair: [OwnedFd; 2],
    cgroup: PathBuf,
    /// What they need, as long as they may run.
    _needs: Box<dyn Any>,
}

impl Contender {
    /// By what stands in a namespace.
    pub fn in_namespace(name: &'static str, net: Net, refuses: bool) -> Self {
        Self {
            name,
            net,
            refuses,
            programs: None,
        }
    }

    /// By programs at `connect`, for IPv4 and IPv6, which are attached only while it has its turn.
    pub fn at_connect(
        name: &'static str,
        bench: &Bench,
        net: Net,
        refuses: bool,
        (pair, needs): ([OwnedFd; 2], Box<dyn Any>),
    ) -> Self {
        let programs = Programs {
            pair,
            cgroup: bench.cgroup().directory().to_owned(),
            _needs: needs,
        };
        Self {
            programs: Some(programs),
            ..Self::in_namespace(name, net, refuses)
        }
    }

    /// Does something in its namespace, while it filters there.
    pub fn at_work<T>(&self, work: impl FnOnce() -> T) -> T {
        self.net.go();
        let _links = self.programs.as_ref().map(|it| {
            let [four, six] = &it.pair;
            [(four, CONNECT4), (six, CONNECT6)]
                .map(|(program, hook)| foreign::attach_cgroup(program, &it.cgroup, hook))
        });
        work()
    }
}
