//! Postfix's `smtp-sink`: takes any mail, and counts it.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::chown,
    path::{Path, PathBuf},
};

use crate::{Place, Process, wait};

/// The uid and gid of nobody, as whom it runs.
const NOBODY: u32 = 65_534;

/// A running `smtp-sink`.
#[derive(Debug)]
pub struct SmtpSink {
    process: Process,
    dumps: PathBuf,
}

impl SmtpSink {
    /// Starts one that listens on `address` and keeps its messages below `directory`.
    #[must_use]
    pub fn start(place: &Place, address: SocketAddr, directory: &Path) -> Self {
        Self::with(place, address, directory, &[])
    }

    /// Starts one that knows none of the recipients.
    #[must_use]
    pub fn refusing(place: &Place, address: SocketAddr, directory: &Path) -> Self {
        let reply = "550 5.1.1 <x> dsn=2.0.0, status=sent (ok)";
        Self::with(place, address, directory, &["-f", "RCPT", "-B", reply])
    }

    fn with(place: &Place, address: SocketAddr, directory: &Path, how: &[&str]) -> Self {
        let dumps = directory.join(format!("smtp-sink-{}", address.port()));
        fs::create_dir(&dumps).expect("the directory is new");
        chown(&dumps, Some(NOBODY), Some(NOBODY)).expect("root may give files away");
        let mut command = place.command("smtp-sink");
        command
            .args([
                "-c",
                "-u",
                "nobody",
                "-h",
                "outside.example",
                "-m",
                "1000",
                "-d",
            ])
            .arg(dumps.join("m."))
            .args(how)
            .args([&address.to_string(), "4096"]);
        let log = format!("smtp-sink-{}.log", address.port());
        let process = Process::start("smtp-sink", &mut command, &directory.join(log));
        let sink = Self { process, dumps };
        wait::until_true("smtp-sink to listen", wait::SOON, || {
            place.namespace().enter(|| is_listening(address.port()))
        });
        sink
    }

    /// How many messages came so far, to their last dot.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.counter("mesg=")
    }

    /// How many sessions ended so far.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.counter("sess=")
    }

    /// Where the messages are kept, a file each.
    #[must_use]
    pub fn dumps(&self) -> &Path {
        &self.dumps
    }

    /// The last value of one of the running counters: `sess=1 quit=1 mesg=1`, over and over.
    fn counter(&self, name: &str) -> usize {
        let log = self.process.log();
        log.split(['\r', '\n', ' '])
            .rev()
            .find_map(|word| word.strip_prefix(name)?.parse().ok())
            .unwrap_or(0)
    }
}

/// Whether somebody listens on this port in the calling thread's network namespace, found out
/// without connecting, which would count, and without binding, which would be in the way.
fn is_listening(port: u16) -> bool {
    const LISTEN: &str = "0A";
    ["tcp", "tcp6"].iter().any(|table| {
        let sockets = fs::read_to_string(format!("/proc/thread-self/net/{table}"));
        sockets.unwrap_or_default().lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            let local = words.next().and_then(|local| local.rsplit(':').next());
            local == Some(&format!("{port:04X}")) && words.nth(1) == Some(LISTEN)
        })
    })
}
