//! Sends a load that has nothing to do with mail, as whoever starts it: `ADDRESS KIND MILLISECONDS`.
//! Prints how much was sent, and the nanoseconds that it took.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "whoever starts it reads why it ended"
)]

use std::{io::Write as _, net::SocketAddr, time::Duration};

use limiter_tests::{Load, load};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [to, kind, time] = arguments.as_slice() else {
        panic!("ADDRESS udp|tcp|connects MILLISECONDS");
    };
    let to: SocketAddr = to.parse().expect("an address and a port");
    let kind = match kind.as_str() {
        "udp" => Load::Udp { bytes: 64 },
        "tcp" => Load::Tcp,
        "connects" => Load::Connects,
        other => panic!("no load is called {other:?}"),
    };
    let time = Duration::from_millis(time.parse().expect("a number"));
    let (sent, took) = load::send(to, kind, time).expect("the load can be sent");
    writeln!(std::io::stdout(), "{sent} {}", took.as_nanos()).expect("somebody listens");
}
