//! The ways to connect.

use std::{
    io::{self, BufRead, BufReader, Write},
    mem::size_of_val,
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use io_uring::{IoUring, opcode, squeue, types};
use limiter_tests::orders::{CONNECTED, How, Orders};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        MsgFlags, SockaddrLike, SockaddrStorage, connect as connect_call, getsockopt, send, sendto,
        sockopt,
    },
};

use crate::socket::{destination, raw};

/// How long the network may take: everything is on this machine.
const PATIENCE_MS: u16 = 5_000;

/// What is known of an established connection.
pub struct Connected {
    /// Its source.
    pub source: Option<SocketAddr>,
    /// The server's greeting.
    pub greeting: String,
}

/// Connects the socket as the orders say, and closes it.
pub fn connect(socket: OwnedFd, orders: &Orders) -> io::Result<Connected> {
    let to = SockaddrStorage::from(destination(orders));
    match orders.how {
        How::Plain | How::Mptcp => connect_call(raw(&socket), &to)?,
        How::NonBlocking => match connect_call(raw(&socket), &to) {
            Ok(()) => {}
            Err(Errno::EINPROGRESS) => wait(&socket)?,
            Err(error) => return Err(error.into()),
        },
        How::FastOpenSend => {
            sendto(
                raw(&socket),
                b"EHLO x\r\n",
                &to,
                MsgFlags::from_bits_retain(libc::MSG_FASTOPEN),
            )?;
        }
        How::FastOpenConnect => {
            connect_call(raw(&socket), &to)?;
            send(raw(&socket), b"EHLO x\r\n", MsgFlags::MSG_NOSIGNAL)?;
        }
        How::Reconnect => {
            let mut web = destination(orders);
            web.set_port(80);
            // Whether anybody is there does not matter.
            let _ = connect_call(raw(&socket), &SockaddrStorage::from(web));
            disconnect(&socket)?;
            connect_call(raw(&socket), &to)?;
        }
        How::IoUring | How::IoUringWorker | How::IoUringPolled => {
            by_ring(&socket, &to, orders.how)?
        }
    }
    // A non-blocking or ring socket reads as any other from here on.
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_millis(u64::from(PATIENCE_MS))))?;
    let source = stream.local_addr().ok();
    // Once the server has spoken it has certainly seen the connection: a reset sent at once may
    // overtake the end of the handshake, and then only one side has counted it.
    let mut greeting = String::new();
    let mut lines = BufReader::new(&stream);
    lines.read_line(&mut greeting)?;
    let greeting = greeting.trim_end().to_owned();
    if let Some(name) = &orders.say {
        if orders.hold {
            let mut line = String::new();
            crate::say(CONNECTED);
            io::stdin().lock().read_line(&mut line)?;
        }
        (&stream).write_all(format!("EHLO {name}\r\n").as_bytes())?;
        let mut answer = String::new();
        if lines.read_line(&mut answer)? == 0 {
            return Err(Errno::ECONNRESET.into());
        }
    }
    Ok(Connected { source, greeting })
}

/// Makes the socket as if it had never been connected.
fn disconnect(socket: &OwnedFd) -> io::Result<()> {
    let nowhere = libc::sockaddr {
        sa_family: libc::sa_family_t::try_from(libc::AF_UNSPEC).map_err(io::Error::other)?,
        sa_data: [0; 14],
    };
    let length = libc::socklen_t::try_from(size_of_val(&nowhere)).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length describe `nowhere`, which lives until the call returns.
    match unsafe { libc::connect(raw(socket), &raw const nowhere, length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits for a non-blocking connection, and returns its error if it failed.
fn wait(socket: &OwnedFd) -> io::Result<()> {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut fds, PollTimeout::from(PATIENCE_MS))? == 0 {
        return Err(Errno::ETIMEDOUT.into());
    }
    match getsockopt(socket, sockopt::SocketError)? {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Connects through a ring.
fn by_ring(socket: &OwnedFd, to: &SockaddrStorage, how: How) -> io::Result<()> {
    let mut builder = IoUring::builder();
    if how == How::IoUringPolled {
        builder.setup_sqpoll(100);
    }
    let mut ring: IoUring = builder.build(2)?;
    let mut entry = opcode::Connect::new(types::Fd(raw(socket)), to.as_ptr(), to.len()).build();
    if how == How::IoUringWorker {
        entry = entry.flags(squeue::Flags::ASYNC);
    }
    // SAFETY: the address lives until the call returns, and it returns after completion.
    unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    let result = ring
        .completion()
        .next()
        .ok_or_else(|| io::Error::other("the ring completed nothing"))?
        .result();
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    Ok(())
}
