//! Somebody who brings packets of its own making: a virtual machine, or root of a container.
//!
//! Takes its [`PacketOrders`] as one argument of JSON, speaks TCP by a stack of its own, disguises
//! what it sends as it is told, and prints its [`PacketReport`].

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "whatever fails here is to fail the test that started it, with a trace"
)]

mod dialog;
mod link;
mod wire;

use std::{
    fs,
    io::{self, BufRead, Write},
};

use limiter_tests::{
    orders::READY,
    packets::{Link, PacketOrders, PacketReport},
};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::wire::Wire;

fn main() {
    let argument = std::env::args().nth(1).expect("orders as one argument");
    let orders: PacketOrders = serde_json::from_str(&argument).expect("orders are JSON");
    // First of all: what is opened then belongs to that user and that cgroup.
    if let Some(cgroup) = &orders.cgroup {
        fs::write(cgroup.join("cgroup.procs"), "0").expect("the cgroup can be entered");
    }
    if orders.uid != Uid::current().as_raw() {
        // Links are opened by somebody who may, and belong to whom they are opened for.
        nix::sys::prctl::set_keepcaps(true).expect("any process may keep what it has");
        let (user, group) = (Uid::from_raw(orders.uid), Gid::from_raw(orders.uid));
        setgroups(&[]).expect("only root can become somebody else");
        setresgid(group, group, group).expect("only root can become somebody else");
        setresuid(user, user, user).expect("only root can become somebody else");
        link::raise_capabilities().expect("the capabilities were kept");
    }
    let open = |link: &Link| {
        link::open(link, orders.offload.is_some())
            .unwrap_or_else(|error| panic!("cannot open {link:?}: {error}"))
    };
    let (link, second) = (open(&orders.link), orders.second.as_ref().map(open));
    say(READY);
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .expect("standard input can be read");
    let report: PacketReport = dialog::hold(Wire::new(link, second, orders.offload), &orders);
    say(&serde_json::to_string(&report).expect("a report is plain data"));
}

fn say(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").expect("standard output is open");
    out.flush().expect("standard output is open");
}
