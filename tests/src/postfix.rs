//! A real Postfix, with a configuration, a queue and a log of its own.

use std::{
    fmt::Write as _,
    fs,
    net::IpAddr,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use crate::{Cgroup, Maildir, Node, Place, Process, process::run, wait};

/// The uid and gid that mailboxes belong to: nobody.
const MAILBOX_OWNER: u32 = 65_534;

const MASTER: &str = "\
pickup     unix n - n 60  1 pickup
cleanup    unix n - n -   0 cleanup
qmgr       unix n - n 300 1 qmgr
rewrite    unix - - n -   - trivial-rewrite
bounce     unix - - n -   0 bounce
defer      unix - - n -   0 bounce
trace      unix - - n -   0 bounce
proxymap   unix - - n -   - proxymap
smtp       unix - - n -   - smtp
error      unix - - n -   - error
retry      unix - - n -   - error
local      unix - n n -   - local
virtual    unix - n n -   - virtual
anvil      unix - - n -   1 anvil
showq      unix n - n -   - showq
postlog    unix-dgram n - n - 1 postlogd
";

/// How long it may take to start: many processes, on a machine that does much else.
const STARTS: Duration = Duration::from_secs(60);

/// Whether somebody listens on port 25 in the network namespace of this process.
fn listens(pid: u32) -> bool {
    ["tcp", "tcp6"].iter().any(|table| {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        table.lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (local, state) = (words.next(), words.nth(1));
            local.is_some_and(|local| local.ends_with(":0019")) && state == Some("0A")
        })
    })
}

/// A running Postfix. Dropping it stops it.
#[derive(Debug)]
pub struct Postfix {
    directory: PathBuf,
    // Its many processes are killed with their cgroup.
    _process: Process,
    _cgroup: Cgroup,
}

impl Postfix {
    /// Starts a node's own, in the node's cgroup `mta`.
    #[must_use]
    pub fn of_node(node: &Node, address: &str, settings: (&str, &str)) -> Self {
        Self::start(
            &node.root(),
            node.cgroup().child("mta"),
            node.directory(),
            "node.example",
            &[address.parse().expect("it is an address")],
            settings,
        )
    }

    /// Puts its configuration where it is on a real node: sendmail reads it, and the agent finds the mail
    /// server by it.
    pub fn install(&self, node: &Node) {
        node.etc().link("postfix", &self.configuration());
    }

    /// Starts one called `host` that listens on port 25 of `addresses` and puts mail for its own
    /// name into a [`Maildir`]. `main` and `master` are added to its main.cf and master.cf.
    ///
    /// It runs in `cgroup`, which dies with it.
    #[must_use]
    pub fn start(
        place: &Place,
        cgroup: Cgroup,
        directory: &Path,
        host: &str,
        addresses: &[IpAddr],
        (main, master): (&str, &str),
    ) -> Self {
        let directory = directory.join(format!("postfix-{host}"));
        let conf = directory.join("conf");
        for name in ["conf", "queue", "data", "mail"] {
            fs::create_dir_all(directory.join(name)).expect("the directory is ours");
        }
        let postfix_uid = account("postfix").expect("the user postfix exists: install Postfix");
        own(&directory.join("data"), postfix_uid);
        make_queue(&directory.join("queue"), postfix_uid);
        own(&directory.join("mail"), MAILBOX_OWNER);
        let home = directory.display();
        let main = format!(
            "compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
maillog_file = /dev/stdout
myhostname = {host}
mydestination =
inet_interfaces = all
inet_protocols = all
mynetworks = 127.0.0.0/8, [::1]/128
alias_maps =
alias_database =
virtual_mailbox_domains = {host}
virtual_mailbox_maps = static:all/
virtual_mailbox_base = {home}/mail
virtual_uid_maps = static:{MAILBOX_OWNER}
virtual_gid_maps = static:{MAILBOX_OWNER}
virtual_minimum_uid = 100
smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
default_process_limit = 20
{main}
"
        );
        fs::write(conf.join("main.cf"), main).expect("the directory is ours");
        let mut services = MASTER.to_owned();
        for address in addresses {
            let address = match address {
                IpAddr::V4(v4) => v4.to_string(),
                IpAddr::V6(v6) => format!("[{v6}]"),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(services, "{address}:25 inet n - n - - smtpd");
        }
        services.push_str(master);
        fs::write(conf.join("master.cf"), services).expect("the directory is ours");

        // Not `postfix start-fg`, which looks at every setting one by one first.
        let mut command = place.clone().in_cgroup(&cgroup).command(master_program());
        command.arg("-c").arg(&conf).arg("-s");
        let log = directory.join("log");
        let mut process = Process::start(&format!("Postfix {host}"), &mut command, &log);
        wait::until_true("Postfix to start", STARTS, || {
            assert!(
                process.ended().is_none(),
                "Postfix ended: {}",
                process.log()
            );
            // What it says first is lost where it comes before the process that writes the log.
            process.log().contains("daemon started") || listens(process.pid())
        });
        Self {
            directory,
            _process: process,
            _cgroup: cgroup,
        }
    }

    /// The mailbox that takes everything for its own name.
    #[must_use]
    pub fn mailbox(&self) -> Maildir {
        Maildir::new(&self.directory.join("mail/all"))
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// The file that it logs to, and nobody else.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Its configuration directory.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.directory.join("conf")
    }

    /// Its queue directory.
    #[must_use]
    pub fn queue(&self) -> PathBuf {
        self.directory.join("queue")
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- Postfix logged:\n{}---", self.log());
        }
    }
}

/// Postfix's own daemon, where this machine's Postfix has it.
fn master_program() -> &'static Path {
    static MASTER: OnceLock<PathBuf> = OnceLock::new();
    MASTER.get_or_init(|| {
        let mut command = Command::new("postconf");
        let out = run(command.args(["-dh", "daemon_directory"]), "").success("postconf");
        Path::new(out.stdout.trim()).join("master")
    })
}

/// Makes the directories of a queue as `postfix check` would.
fn make_queue(queue: &Path, owner: u32) {
    let postdrop = group("postdrop").expect("the group postdrop exists: install Postfix");
    let private = [
        "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private",
        "saved", "trace",
    ];
    let private = private.map(|name| (name, owner, None, 0o700));
    let shared = [
        ("maildrop", owner, Some(postdrop), 0o730),
        ("public", owner, Some(postdrop), 0o710),
        ("pid", 0, None, 0o755),
    ];
    for (name, uid, gid, mode) in private.into_iter().chain(shared) {
        let path = queue.join(name);
        fs::create_dir(&path).expect("the directory is ours");
        chown(&path, Some(uid), gid).expect("root may give files away");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is root's");
    }
}

/// The gid of a group of this machine.
fn group(name: &str) -> Option<u32> {
    let out = Command::new("getent").args(["group", name]).output().ok()?;
    let line = String::from_utf8_lossy(&out.stdout).into_owned();
    line.split(':').nth(2)?.parse().ok()
}

/// The uid of an account of this machine.
pub(crate) fn account(name: &str) -> Option<u32> {
    let out = Command::new("id").args(["-u", name]).output().ok()?;
    String::from_utf8_lossy(&out.stdout).trim().parse().ok()
}

fn own(path: &Path, uid: u32) {
    chown(path, Some(uid), Some(uid)).expect("root may give files away");
}
