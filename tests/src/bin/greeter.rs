//! A server by a process of its own: it greets whoever connects at its ports, as `node.example`,
//! and says no more. For tests in which it matters in whose cgroup a server is.
//!
//! `limiter-greeter PORT...`

#![expect(clippy::expect_used, reason = "whatever fails here fails the test")]

use std::{
    env,
    io::{self, Read as _, Write as _},
    net::{Ipv6Addr, TcpListener, TcpStream},
    thread,
};

fn main() {
    let servers: Vec<_> = env::args()
        .skip(1)
        .map(|port| {
            let port: u16 = port.parse().expect("a port");
            let listener =
                TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).expect("the port is free");
            thread::spawn(move || serve(&listener))
        })
        .collect();
    println!("listening");
    for server in servers {
        server.join().expect("no panic");
    }
}

fn serve(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        thread::spawn(move || {
            // Whoever goes away early has been counted all the same.
            let _ = greet(stream);
        });
    }
}

/// Greets, and waits until the other side has closed.
fn greet(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(b"220 node.example ready\r\n")?;
    let mut buffer = [0; 64];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}
