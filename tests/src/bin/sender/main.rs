//! Somebody who tries to reach a mail server.
//!
//! Takes its [`Orders`] as one argument of JSON, becomes whom they name, connects as they say,
//! and prints its [`Report`].

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "whatever fails here is to fail the test that started it, with a trace"
)]

mod connect;
mod identity;
mod socket;

use std::{
    fs,
    io::{self, BufRead, Write},
    thread,
    time::{Duration, Instant},
};

use limiter_tests::orders::{Orders, READY, Report, SocketOf};

fn main() {
    let argument = std::env::args().nth(1).expect("orders as one argument");
    let orders: Orders = serde_json::from_str(&argument).expect("orders are JSON");

    let foreign = match &orders.socket {
        SocketOf::Caller => None,
        SocketOf::Before { uid, cgroup } => {
            Some(identity::made_before(*uid, cgroup.as_deref(), &orders))
        }
        SocketOf::Other { uid, cgroup } => {
            Some(identity::made_by_other(*uid, cgroup.as_deref(), &orders))
        }
    };
    if let Some(cgroup) = &orders.cgroup {
        identity::enter_cgroup(cgroup);
    }
    identity::become_uid(orders.uid);

    say(READY);
    if orders.wait {
        let mut line = String::new();
        io::stdin()
            .lock()
            .read_line(&mut line)
            .expect("standard input can be read");
    }

    let mut report = Report::default();
    let mut foreign = foreign;
    for number in 0..orders.count {
        if number > 0 && orders.pause_us > 0 {
            thread::sleep(Duration::from_micros(orders.pause_us));
        }
        let socket = match foreign.take() {
            Some(socket) => socket,
            None => match socket::make(&orders) {
                Ok(socket) => socket,
                Err(error) => panic!("no socket: {error}"),
            },
        };
        let start = Instant::now();
        match connect::connect(socket, &orders) {
            Ok(connected) => {
                report.connected += 1;
                report.source = connected.source;
                report.greeting = Some(connected.greeting);
            }
            Err(error) => {
                let taken = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
                report.slowest_failure_ns = report.slowest_failure_ns.max(taken);
                let errno = error.raw_os_error().unwrap_or(0);
                *report.failed.entry(errno).or_default() += 1;
            }
        }
    }
    let report = serde_json::to_string(&report).expect("a report is plain data");
    if let Some(path) = &orders.report_to {
        fs::write(path, &report).expect("the report can be written");
    }
    say(&report);
}

fn say(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").expect("standard output is open");
    out.flush().expect("standard output is open");
}
