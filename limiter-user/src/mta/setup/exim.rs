//! Exim.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::{Common, Steps, Way, forward::forwarders};
use crate::{
    mta::{MtaError, command::run},
    policy::{model::Policy, services::ServiceAddress},
};

/// How long Exim may take to say how it is configured.
const LIMIT: Duration = Duration::from_secs(30);
/// Where Debian keeps what makes its configuration.
const DEBIAN: &str = "/etc/exim4";
/// The names of our ACLs begin so.
const OURS: &str = "limiter_";
/// The ACLs that are put before the ones there are.
const HOOKS: [&str; 5] = [
    "acl_smtp_rcpt",
    "acl_smtp_data",
    "acl_not_smtp",
    "acl_smtp_quit",
    "acl_smtp_notquit",
];

/// An Exim, as it is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EximFacts {
    /// Its configuration.
    pub configuration: PathBuf,
    /// Debian's way to put it together, and whether of many files.
    pub debian: Option<bool>,
    /// The names of the ACLs there are, in the order of [`HOOKS`]; empty where there is none.
    pub acls: [String; HOOKS.len()],
    /// The routers that follow files in users' homes.
    pub forwarders: Vec<String>,
}

impl EximFacts {
    /// Asks the Exim `program`, with this configuration or the one it was built for.
    ///
    /// # Errors
    /// It cannot be run, or refuses.
    pub fn read(program: &Path, configuration: Option<&Path>) -> Result<Self, MtaError> {
        let ask = |what: &str| {
            let mut command = Command::new(program);
            if let Some(configuration) = configuration {
                command.arg("-C").arg(configuration);
            }
            command.args(["-bP", what]);
            run(&mut command, b"", LIMIT)?.success(&command)
        };
        let value = |what: &str| {
            let said = ask(what)?;
            let value = said.split_once('=').map_or(&*said, |(_, value)| value);
            Ok::<_, MtaError>(value.trim().to_owned())
        };
        let mut acls: [String; HOOKS.len()] = Default::default();
        for (hook, place) in HOOKS.iter().zip(&mut acls) {
            *place = value(hook)?;
        }
        Ok(Self {
            configuration: PathBuf::from(value("config_file")?),
            debian: configuration.is_none().then(debian).flatten(),
            acls,
            forwarders: forwarders(&ask("routers")?),
        })
    }

    /// The ACLs where it is not told to ask: all but the last two count mail.
    #[must_use]
    pub fn lacks(&self) -> Vec<&'static str> {
        let both = HOOKS.iter().zip(&self.acls);
        both.filter(|(_, acl)| !acl.starts_with(OURS))
            .map(|(hook, _)| *hook)
            .collect()
    }

    /// What to put where.
    #[must_use]
    pub fn steps(&self, policy: &Policy) -> Steps {
        let common = Common::of(policy);
        let mut steps = Steps::default();
        let listens = &common.places.policy;
        let way = way(policy, listens);
        let ways = [("policy", listens.as_slice(), &way)];
        common.complete(&ways, &mut steps);
        Common::warn(&ways, &mut steps);
        Common::warn_of(self.forwards(), &mut steps);
        let settings = self.settings(&common, &way);
        let acls = self.acls(&common);
        let debian = Path::new(DEBIAN);
        match self.debian {
            Some(true) => {
                let file = debian.join("conf.d/main/00_limiter");
                steps.put(&file, "a new file", settings);
                steps.put(&debian.join("conf.d/acl/90_limiter"), "a new file", acls);
            }
            Some(false) => {
                let file = debian.join("exim4.conf.localmacros");
                steps.put(&file, "at its end", settings);
                let file = debian.join("exim4.conf.template");
                steps.put(&file, "behind the line `begin acl`", acls);
            }
            None => {
                let file = &self.configuration;
                let what = "in the first part, in place of what it says of these ACLs";
                steps.put(file, what, settings);
                steps.put(file, "behind the line `begin acl`", acls);
            }
        }
        steps.run(
            "have Exim read it",
            vec![match self.debian {
                Some(_) => "update-exim4.conf && systemctl restart exim4".to_owned(),
                None => "systemctl restart exim".to_owned(),
            }],
        );
        if common.fails_open() {
            steps.know(
                "while limiter does not answer, mail goes out uncounted (services.on_failure: open); the \
                 kernel does not stand in, since it lets the mail server's own connections go",
            );
        }
        steps
    }

    /// The first part of the configuration.
    fn settings(&self, common: &Common<'_>, way: &Way) -> Vec<String> {
        let address = match way.address() {
            ServiceAddress::Unix(path) => path.display().to_string(),
            address @ ServiceAddress::Inet(_) => address.to_string(),
        };
        let patience = common.patience().as_secs();
        let failed = if common.fails_open() {
            "away"
        } else {
            "failed"
        };
        let mut lines = vec![
            // No name begins with another's.
            format!("LIMITER_SOCKET = {address}"),
            format!("LIMITER_TAIL = \\n}}{{{patience}s}}{{}}{{{failed}}}}}"),
            "LIMITER_WHO = client=$sender_host_address cport=$sender_host_port \
             server=$received_ip_address sport=$received_port uid=$caller_uid \
             login=${base64:$authenticated_id} sender=${base64:$sender_address}"
                .to_owned(),
        ];
        for hook in HOOKS {
            let ours = ours(hook);
            lines.push(match (self.debian, hook) {
                (Some(_), "acl_smtp_rcpt") => format!("MAIN_ACL_CHECK_RCPT = {ours}"),
                (Some(_), "acl_smtp_data") => format!("MAIN_ACL_CHECK_DATA = {ours}"),
                _ => format!("{hook} = {ours}"),
            });
        }
        lines
    }

    /// The ACLs. What `away` says is only there where mail goes out uncounted.
    fn acls(&self, common: &Common<'_>) -> Vec<String> {
        let there = |hook: &str| {
            let at = HOOKS.iter().position(|known| *known == hook);
            let there = at
                .and_then(|at| self.acls.get(at))
                .map_or("", String::as_str);
            let there = match (there.starts_with(OURS), self.debian, hook) {
                // What ours were put before is not known any more, but where Debian says it.
                (true, Some(_), "acl_smtp_rcpt") => "acl_check_rcpt",
                (true, Some(_), "acl_smtp_data") => "acl_check_data",
                (true, ..) => "",
                (false, ..) => there,
            };
            if there.is_empty() {
                String::new()
            } else {
                format!("          acl = {there}\n")
            }
        };
        // Closed without a word is no answer either: the agent was starting, or had no room.
        let away = if common.fails_open() {
            r"  accept  condition = ${if or{{eq{$acl_m_limiter_says}{away}}{match{$acl_m_limiter_says}{\N^\s*$\N}}}}
          acl = limiter_away
"
        } else {
            ""
        };
        let text = format!(
            r"# limiter: who sends how much. What these say comes after what was said before: what that
# refuses or discards is not asked about.
limiter_smtp_rcpt:
  accept  endpass
{rcpt}          acl = limiter_ask_rcpt

limiter_ask_rcpt:
  warn    condition = ${{if !def:acl_m_limiter}}
          acl = limiter_over
          set acl_m_limiter = $pid.$tod_epoch_l
          set acl_c_limiter = $acl_m_limiter
  warn    set acl_m_limiter_says = ${{readsocket{{LIMITER_SOCKET}}{{limiter 1 rcpt key=$acl_m_limiter LIMITER_WHO to=${{base64:$local_part@$domain}}LIMITER_TAIL
  require acl = limiter_says
  accept

limiter_smtp_data:
  accept  endpass
{data}          acl = limiter_ask_data

limiter_ask_data:
  accept  condition = ${{if !def:acl_m_limiter}}
  warn    set acl_m_limiter_says = ${{readsocket{{LIMITER_SOCKET}}{{limiter 1 data key=$acl_m_limiter id=$message_exim_id LIMITER_WHO count=${{recipients_count}}LIMITER_TAIL
          set acl_c_limiter =
  require acl = limiter_says
  accept

limiter_not_smtp:
  accept  endpass
{local}          acl = limiter_ask_local

limiter_ask_local:
  warn    set acl_m_limiter_says = ${{readsocket{{LIMITER_SOCKET}}{{limiter 1 local key=$pid.$tod_epoch_l id=$message_exim_id LIMITER_WHO count=$recipients_count all=${{base64:$recipients}}LIMITER_TAIL
  require acl = limiter_says
  accept

# A message that was not sent after all counts for nothing.
limiter_smtp_quit:
  warn    acl = limiter_over
  accept  endpass
{quit}
limiter_smtp_notquit:
  warn    acl = limiter_over
  accept  endpass
{notquit}
limiter_over:
  warn    condition = ${{if def:acl_c_limiter}}
          set acl_c_limiter_says = ${{readsocket{{LIMITER_SOCKET}}{{limiter 1 drop key=${{acl_c_limiter}}LIMITER_TAIL
          set acl_c_limiter =
  accept

# Once for each message.
limiter_away:
  warn    condition = ${{if !def:acl_m_limiter_away}}
          set acl_m_limiter_away = true
          logwrite = limiter does not answer: this mail is not counted
  accept

limiter_says:
  accept  condition = ${{if match{{$acl_m_limiter_says}}{{\N^ok\s*$\N}}}}
{away}  deny    condition = ${{if match{{$acl_m_limiter_says}}{{\N^deny \N}}}}
          message   = ${{sg{{$acl_m_limiter_says}}{{\N^deny |\s+$\N}}{{}}}}
  defer   message   = ${{if match{{$acl_m_limiter_says}}{{\N^defer \N}}{{${{sg{{$acl_m_limiter_says}}{{\N^defer |\s+$\N}}{{}}}}}}{{451 4.3.0 limits cannot be checked at the moment}}}}
",
            rcpt = there("acl_smtp_rcpt"),
            data = there("acl_smtp_data"),
            local = there("acl_not_smtp"),
            quit = there("acl_smtp_quit"),
            notquit = there("acl_smtp_notquit"),
        );
        text.lines().map(str::to_owned).collect()
    }
}

/// The name of our ACL at a hook.
fn ours(hook: &str) -> String {
    format!("{OURS}{}", hook.trim_start_matches("acl_"))
}

/// Whether Debian's tools put the configuration together, and of many files.
fn debian() -> Option<bool> {
    let file = Path::new(DEBIAN).join("update-exim4.conf.conf");
    let text = std::fs::read_to_string(file).ok()?;
    let split = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("dc_use_split_config="))
        .any(|value| value.trim_matches(['\'', '"']) == "true");
    Some(split)
}

/// How Exim reaches the service: over a UNIX socket, since it is never in a chroot.
fn way(policy: &Policy, listens: &[ServiceAddress]) -> Way {
    let unix = |address: &&ServiceAddress| matches!(address, ServiceAddress::Unix(_));
    match listens.iter().find(unix).or(listens.first()) {
        Some(address) => Way::Listens(address.clone()),
        None => Way::Missing(ServiceAddress::Unix(
            policy.places.control.with_file_name("policy.sock"),
        )),
    }
}
