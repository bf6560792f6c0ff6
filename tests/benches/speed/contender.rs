//! Somebody who filters: by what stands in a network namespace, or by a program at `connect`.

use std::{any::Any, os::fd::OwnedFd, path::PathBuf};

use crate::{
    foreign::{self, CONNECT4},
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
    program: Option<Program>,
}

struct Program {
    program: OwnedFd,
    cgroup: PathBuf,
    /// What it needs, as long as it may run.
    _needs: Box<dyn Any>,
}

impl Contender {
    /// By what stands in a namespace.
    pub fn in_namespace(name: &'static str, net: Net, refuses: bool) -> Self {
        Self {
            name,
            net,
            refuses,
            program: None,
        }
    }

    /// By a program at `connect`, which is attached only while it has its turn.
    pub fn at_connect(
        name: &'static str,
        bench: &Bench,
        net: Net,
        refuses: bool,
        (program, needs): (OwnedFd, Box<dyn Any>),
    ) -> Self {
        let program = Program {
            program,
            cgroup: bench.cgroup().directory().to_owned(),
            _needs: needs,
        };
        Self {
            program: Some(program),
            ..Self::in_namespace(name, net, refuses)
        }
    }

    /// Does something in its namespace, while it filters there.
    pub fn at_work(&self, work: impl FnOnce()) {
        self.net.go();
        let link = |it: &Program| foreign::attach_cgroup(&it.program, &it.cgroup, CONNECT4);
        let _link = self.program.as_ref().map(link);
        work();
    }
}
