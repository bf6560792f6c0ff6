//! A relay: whoever connects to the listening socket that is its standard input is connected to
//! the address in its argument, by its own user from its own network.
//!
//! So work the helpers that give containers of ordinary users a network.

#![expect(
    clippy::expect_used,
    reason = "whatever fails here is to fail the test that started it, with a trace"
)]

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    thread,
};

fn main() {
    let argument = std::env::args().nth(1).expect("an address as one argument");
    let to: SocketAddr = argument.parse().expect("an address and a port");
    let listener = io::stdin().as_fd().try_clone_to_owned();
    let listener = TcpListener::from(listener.expect("standard input is a socket"));
    for client in listener.incoming() {
        let client = client.expect("standard input is a listening socket");
        // Who cannot be connected is hung up on.
        if let Ok(server) = TcpStream::connect(to) {
            join(client, server);
        }
    }
}

/// Passes on what either says, until both are done.
fn join(client: TcpStream, server: TcpStream) {
    let back = (
        server.try_clone().expect("a socket can be held twice"),
        client.try_clone().expect("a socket can be held twice"),
    );
    for (mut from, mut to) in [(client, server), back] {
        thread::spawn(move || {
            // Either may leave at any time; then it is over for the other, too.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}
