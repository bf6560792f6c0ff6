//! Sends a load that has nothing to do with mail, as whoever starts it: `ADDRESS KIND`, and then for
//! each line of the input as long as that says. See `limiter_tests::load::obey`.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "whoever starts it reads why it ended"
)]

use std::{io, net::SocketAddr};

use limiter_tests::{Load, load};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [to, kind] = arguments.as_slice() else {
        panic!("ADDRESS udp|tcp|connects");
    };
    let to: SocketAddr = to.parse().expect("an address and a port");
    let kind = match kind.as_str() {
        "udp" => Load::Udp { bytes: 64 },
        "tcp" => Load::Tcp,
        "connects" => Load::Connects,
        other => panic!("no load is called {other:?}"),
    };
    load::obey(to, kind, io::stdin().lock(), io::stdout()).expect("the load can be sent");
}
