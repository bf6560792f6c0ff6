//! A real Exim, setuid root as its package installs it: it delivers from the submitting process.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::chown,
    path::{Path, PathBuf},
};

use crate::{Cgroup, Node, Place, Process, postfix::account, programs, wait};

/// The user that Debian's Exim is compiled to run as.
const USER: &str = "Debian-exim";
/// Its uid on the node, where the machine itself has none.
const UID: u32 = 925;

/// An Exim that is installed on a node and hands all mail to one server.
#[derive(Debug)]
pub struct Exim {
    program: PathBuf,
    directory: PathBuf,
}

impl Exim {
    /// Installs Exim on the node: the user, the configuration in /etc/exim4, the setuid program.
    #[must_use]
    pub fn install(node: &Node, smarthost: IpAddr) -> Self {
        Self::install_with(node, smarthost, "127.0.0.1 ; ::1", "", "")
    }

    /// The same, listening at these interfaces, in the notation of a list that semicolons separate; with
    /// more settings in the first part of its configuration, and more parts at its end.
    #[must_use]
    pub fn install_with(
        node: &Node,
        smarthost: IpAddr,
        interfaces: &str,
        settings: &str,
        parts: &str,
    ) -> Self {
        node.etc().add_user(USER, UID);
        let uid = node
            .inside()
            .enter(|| account(USER))
            .expect("the user was just made");
        let directory = node.directory().join("exim");
        for name in ["", "spool", "log"] {
            let path = directory.join(name);
            fs::create_dir_all(&path).expect("the directory is ours");
            chown(&path, Some(uid), Some(uid)).expect("root may give files away");
        }
        let program = node.setuid_directory().join("exim4");
        node.inside()
            .enter(|| programs::copy(&programs::exim(), &program, 0o4755));
        node.etc().write(
            "exim4/exim4.conf",
            &format!(
                "local_interfaces = <; {interfaces}\n{settings}\n{}{parts}",
                configuration(&program, &directory, smarthost)
            ),
        );
        Self { program, directory }
    }

    /// Submits a message on the command line, as web sites do, and delivers it before it returns.
    #[must_use]
    pub fn submit(&self, place: &Place, to: &str, message: &str) -> crate::Output {
        let mut command = place.command(&self.program);
        command.args(["-odf", "-i", "--", to]);
        crate::process::run(&mut command, message)
    }

    /// Runs the daemon that listens on port 25 of the loopback addresses, in `cgroup`.
    #[must_use]
    pub fn daemon(&self, place: &Place, cgroup: &Cgroup) -> Process {
        let mut command = place.clone().in_cgroup(cgroup).command(&self.program);
        command.args(["-bdf", "-q1m"]);
        let process = Process::start("Exim", &mut command, &self.directory.join("daemon.log"));
        wait::until_true("Exim to listen", wait::SOON, || {
            self.log().contains("listening for SMTP")
        });
        process
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The file that it logs to.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("log/mainlog")
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log/mainlog")).unwrap_or_default()
    }
}

impl Drop for Exim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- Exim logged:\n{}---", self.log());
        }
    }
}

fn configuration(program: &Path, directory: &Path, smarthost: IpAddr) -> String {
    // A colon separates hosts, unless it is doubled.
    let smarthost = smarthost.to_string().replace(':', "::");
    let (program, home) = (program.display(), directory.display());
    format!(
        "\
exim_path = {program}
primary_hostname = node.example
spool_directory = {home}/spool
log_file_path = {home}/log/%slog
daemon_smtp_ports = 25
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts =
keep_environment =
acl_smtp_rcpt = accept_rcpt

begin acl
accept_rcpt:
  accept

begin routers
out:
  driver = manualroute
  transport = remote
  route_list = * {smarthost}
  self = send

begin transports
remote:
  driver = smtp
  hosts_try_fastopen =

begin retry
* * F,2h,1m
"
    )
}
