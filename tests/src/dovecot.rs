//! A real Dovecot: IMAP and POP3, with a configuration and mailboxes of its own.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{Cgroup, Place, Process, wait};

/// The uid and gid that mailboxes belong to: nobody.
const MAILBOX_OWNER: u32 = 65_534;
/// How long a start may take.
const START: Duration = Duration::from_secs(20);

/// A running Dovecot on every address, ports 110 and 143. Dropping it stops it.
#[derive(Debug)]
pub struct Dovecot {
    configuration: PathBuf,
    // Its many processes are killed with their cgroup.
    _process: Process,
    _cgroup: Cgroup,
}

impl Dovecot {
    /// Starts it in `cgroup`, which dies with it, with everything it keeps below `directory`. Everybody may
    /// log in with any password.
    #[must_use]
    pub fn start(place: &Place, cgroup: Cgroup, directory: &Path) -> Self {
        let anybody = "passdb {
  driver = static
  args = nopassword=y
}";
        Self::start_with(place, cgroup, directory, anybody)
    }

    /// The same, but who may log in is in `settings`, and whatever else there is.
    #[must_use]
    pub fn start_with(place: &Place, cgroup: Cgroup, directory: &Path, settings: &str) -> Self {
        let directory = directory.join("dovecot");
        for name in ["run", "state", "mail"] {
            fs::create_dir_all(directory.join(name)).expect("the directory is ours");
        }
        chown(
            directory.join("mail"),
            Some(MAILBOX_OWNER),
            Some(MAILBOX_OWNER),
        )
        .expect("root may give files away");
        let home = directory.display();
        let conf = directory.join("dovecot.conf");
        let contents = format!(
            "base_dir = {home}/run
state_dir = {home}/state
log_path = /dev/stderr
protocols = imap pop3
listen = *, ::
ssl = no
disable_plaintext_auth = no
login_greeting = node.example ready
first_valid_uid = 1
mail_location = maildir:~/Maildir
{settings}
userdb {{
  driver = static
  args = uid={MAILBOX_OWNER} gid={MAILBOX_OWNER} home={home}/mail/%u
}}
service imap-login {{
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  inet_listener pop3s {{
    port = 0
  }}
}}
"
        );
        fs::write(&conf, contents).expect("the directory is ours");
        let mut command = place.clone().in_cgroup(&cgroup).command("dovecot");
        command.arg("-F").arg("-c").arg(&conf);
        let mut process = Process::start("Dovecot", &mut command, &directory.join("log"));
        wait::until_true("Dovecot to start", START, || {
            assert!(process.ended().is_none(), "Dovecot: {}", process.log());
            process.log().contains("starting up")
        });
        Self {
            configuration: conf,
            _process: process,
            _cgroup: cgroup,
        }
    }

    /// Its configuration.
    #[must_use]
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }
}
