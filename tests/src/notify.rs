//! What systemd hears from a service: the receiving end of `sd_notify`.

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The socket that `NOTIFY_SOCKET` names.
#[derive(Debug)]
pub struct Notify {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Notify {
    /// A socket at `path`, where nothing is yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket can be bound");
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .expect("the time is not zero");
        Self {
            socket,
            path: path.to_path_buf(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for a message that holds the line `wanted`. `false` if it does not come in time, or
    /// if `gave_up` says that nobody is there to send it.
    pub fn wait(
        &self,
        wanted: &str,
        patience: Duration,
        mut gave_up: impl FnMut() -> bool,
    ) -> bool {
        let start = Instant::now();
        let mut buffer = [0_u8; 4096];
        while start.elapsed() < patience {
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    let message = String::from_utf8_lossy(&buffer[..length]);
                    if message.lines().any(|line| line == wanted) {
                        return true;
                    }
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        // A signal of some other test's is no answer either.
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::TimedOut
                            | io::ErrorKind::Interrupted
                    ) =>
                {
                    if gave_up() {
                        return false;
                    }
                }
                Err(error) => panic!("the notification socket fails: {error}"),
            }
        }
        false
    }
}
