//! Dovecot. What is set here has the same names and the same form in 2.3 and 2.4.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use ring::rand::{SecureRandom as _, SystemRandom};

use super::{Common, Steps, Way};
use crate::{
    mta::{
        MtaError,
        command::{self, run},
    },
    policy::{model::Policy, services::ServiceAddress},
};

/// How long `doveconf` may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Where the service is put that is nowhere yet: a privileged port, since Dovecot knows no UNIX sockets here.
const PORT: u16 = 941;
/// What is asked of `doveconf`, in this order.
const SETTINGS: [&str; 6] = [
    "auth_policy_server_url",
    "auth_policy_hash_nonce",
    "auth_policy_check_before_auth",
    "auth_policy_check_after_auth",
    "auth_policy_report_after_auth",
    "auth_policy_reject_on_fail",
];
const NONCE: &str = "auth_policy_hash_nonce";

/// A Dovecot, as it is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DovecotFacts {
    /// Its configuration.
    pub configuration: PathBuf,
    /// Its version, as it says.
    pub version: String,
    /// The values of what it is told here, in the order of [`SETTINGS`].
    pub settings: [String; SETTINGS.len()],
}

impl DovecotFacts {
    /// Asks `doveconf`, about this configuration or the one that it was built for.
    ///
    /// # Errors
    /// It cannot be run, or says something unexpected.
    pub fn read(doveconf: &Path, configuration: Option<&Path>) -> Result<Self, MtaError> {
        let ask = |options: &[&str]| {
            let mut command = Command::new(doveconf);
            if let Some(configuration) = configuration {
                command.arg("-c").arg(configuration);
            }
            command.args(options);
            let said = run(&mut command, b"", LIMIT)?.success(&command)?;
            Ok::<_, MtaError>((command, said))
        };
        // `# 2.3.19.1 (9b53102964): /etc/dovecot/dovecot.conf`
        let (command, said) = ask(&["-n"])?;
        let first = said.lines().next().and_then(|line| line.strip_prefix("# "));
        let Some((version, path)) = first.and_then(|line| line.split_once(": ")) else {
            return Err(MtaError::Answer {
                command: command::words(&command),
                said,
                expected: "a line with the version and the file",
            });
        };
        let mut settings: [String; SETTINGS.len()] = Default::default();
        for (name, place) in SETTINGS.iter().zip(&mut settings) {
            let (_, said) = ask(&["-h", "-P", name])?;
            said.trim().clone_into(place);
        }
        Ok(Self {
            configuration: PathBuf::from(path.trim()),
            version: version.to_owned(),
            settings,
        })
    }

    /// Whether it is told to ask, as it should be.
    #[must_use]
    pub fn asks(&self, policy: &Policy) -> bool {
        let common = Common::of(policy);
        let way = way(&common.places.dovecot);
        matches!(way, Way::Listens(_)) && self.lines(&common, &way).is_empty()
    }

    /// What to put where.
    #[must_use]
    pub fn steps(&self, policy: &Policy) -> Steps {
        let common = Common::of(policy);
        let mut steps = Steps::default();
        let listens = &common.places.dovecot;
        let way = way(listens);
        let ways = [("dovecot", listens.as_slice(), &way)];
        common.complete(&ways, &mut steps);
        Common::warn(&ways, &mut steps);
        let lines = self.lines(&common, &way);
        if lines.is_empty() {
            steps.know("Dovecot asks already");
        } else {
            steps.put(&self.configuration, "at its end", lines);
            steps.run(
                "have Dovecot read it",
                vec!["systemctl reload dovecot".to_owned()],
            );
        }
        if policy.node.mailbox_accounts.is_none() {
            steps.know(
                "logins are not limited: `mailbox.per_account` is not set, such as \
                 {max: 30, window: 1h, lock: 1h}; only suspended accounts are kept out",
            );
        } else if policy.node.mailbox_exempt.is_empty() {
            steps.know(
                "whoever logs in for many (webmail, a proxy) on another machine is locked out for one \
                 account's sake, unless Dovecot is told the real client (login_trusted_networks) or the \
                 machine is in `mailbox.per_account.exempt`; this node's own addresses never are",
            );
        }
        if common.fails_open() {
            steps.know("while limiter does not answer, logins are let in uncounted (services.on_failure: open)");
        }
        steps
    }

    /// What is not set yet as it should be.
    fn lines(&self, common: &Common<'_>, way: &Way) -> Vec<String> {
        let url = match way.address() {
            ServiceAddress::Inet(address) => format!("http://{address}/"),
            ServiceAddress::Unix(path) => path.display().to_string(),
        };
        let closed = if common.fails_open() { "no" } else { "yes" };
        // Once for each login, when the password turned out to be right.
        let wanted = [url.as_str(), "", "no", "yes", "no", closed];
        let mut lines = Vec::new();
        for ((name, value), there) in SETTINGS.iter().zip(wanted).zip(&self.settings) {
            if *name == NONCE {
                // Without one Dovecot lets nobody in. Any will do that others do not know.
                if there.is_empty() {
                    lines.push(format!("{name} = {}", nonce()));
                }
            } else if there != value {
                lines.push(format!("{name} = {value}"));
            }
        }
        lines
    }
}

/// How Dovecot reaches the service: by HTTP over TCP, which is all that it speaks.
fn way(listens: &[ServiceAddress]) -> Way {
    let inet = |address: &&ServiceAddress| matches!(address, ServiceAddress::Inet(_));
    match listens.iter().find(inet) {
        Some(address) => Way::Listens(address.clone()),
        None => Way::Missing(ServiceAddress::Inet(SocketAddr::from((
            Ipv4Addr::LOCALHOST,
            PORT,
        )))),
    }
}

/// Something that nobody guesses.
fn nonce() -> String {
    let mut bytes = [0_u8; 16];
    if SystemRandom::new().fill(&mut bytes).is_err() {
        return "put-32-random-letters-here".to_owned();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
