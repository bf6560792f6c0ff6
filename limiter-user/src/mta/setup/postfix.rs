//! Postfix.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::{Common, Steps, Way, quoted};
use crate::{
    mta::{
        MtaError,
        command::{self, run},
    },
    policy::{model::Policy, services::ServiceAddress},
};

/// How long `postconf` may take.
const LIMIT: Duration = Duration::from_secs(30);
/// The first version that takes settings for one policy service.
const SETTINGS: (u32, u32) = (3, 0);
/// Where limiter's sockets are, below the queue directory: reached from within a chroot and without by the
/// same name.
const BELOW_QUEUE: &str = "limiter";
/// A parameter of our own that holds the check: values in master.cf cannot hold spaces.
pub(super) const PARAMETER: &str = "limiter_check";
/// The same for the milter.
const MILTER: &str = "limiter_milter";
/// What a check of ours begins with.
const CHECK: &str = "check_policy_service";

/// What looks at a message when all restrictions have let it pass, and may refuse it.
const CONTENT_CHECKS: [&str; 6] = [
    "header_checks",
    "mime_header_checks",
    "nested_header_checks",
    "body_checks",
    "milter_header_checks",
    "smtpd_proxy_filter",
];

/// An instance of Postfix, as it is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostfixFacts {
    /// Its directory of configuration.
    pub configuration: PathBuf,
    /// Its queue.
    pub queue: PathBuf,
    /// Major and minor version.
    pub version: (u32, u32),
    /// `smtpd_recipient_restrictions`, as written.
    pub recipient_restrictions: String,
    /// `smtpd_end_of_data_restrictions`, as written.
    pub end_of_data_restrictions: String,
    /// `smtpd_milters`, as written.
    pub smtpd_milters: String,
    /// `non_smtpd_milters`, as written.
    pub non_smtpd_milters: String,
    /// Those of [`CONTENT_CHECKS`] that are set.
    pub content_checks: Vec<&'static str>,
    /// `forward_path`, as written.
    pub forward_path: String,
    /// `mydestination`: the domains of the node's own users.
    pub local_domains: String,
    /// `local_transport`: who delivers to them.
    pub local_transport: String,
    /// What master.cf says otherwise.
    pub overrides: Vec<Override>,
}

/// What master.cf says for one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// The service and the parameter: `submission/inet/smtpd_recipient_restrictions`.
    pub place: String,
    /// The value, as written.
    pub value: String,
    /// The same, with what other parameters say put in.
    pub meaning: String,
}

impl PostfixFacts {
    /// Asks `postconf` about the instance whose main.cf is in `configuration`.
    ///
    /// # Errors
    /// It cannot be run, or says something unexpected.
    pub fn read(postconf: &Path, configuration: &Path) -> Result<Self, MtaError> {
        let ask = |options: &[&str], lines: usize| {
            let mut command = Command::new(postconf);
            command.arg("-c").arg(configuration).args(options);
            let said = run(&mut command, b"", LIMIT)?.success(&command)?;
            let found: Vec<String> = said.lines().map(|line| line.trim().to_owned()).collect();
            if lines > 0 && found.len() != lines {
                return Err(MtaError::Answer {
                    command: command::words(&command),
                    said,
                    expected: "a line for each parameter",
                });
            }
            Ok(found)
        };
        let fixed = ask(
            &[
                "-hx",
                "queue_directory",
                "mail_version",
                "mydestination",
                "local_transport",
            ],
            4,
        )?;
        let settings = ask(
            &[
                "-h",
                "smtpd_recipient_restrictions",
                "smtpd_end_of_data_restrictions",
                "smtpd_milters",
                "non_smtpd_milters",
                "forward_path",
            ],
            5,
        )?;
        let checks = ask(
            &[&["-hx"], CONTENT_CHECKS.as_slice()].concat(),
            CONTENT_CHECKS.len(),
        )?;
        let checks = CONTENT_CHECKS.iter().zip(checks);
        let line = |from: &[String], at: usize| from.get(at).cloned().unwrap_or_default();
        let version = line(&fixed, 1);
        let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let overrides = if version >= SETTINGS {
            // Both name the same parameters in the same order.
            let written = ask(&["-P"], 0)?;
            let meant = ask(&["-Px"], 0)?;
            let pair = |line: &String| {
                let (name, value) = line.split_once('=')?;
                Some((name.trim().to_owned(), value.trim().to_owned()))
            };
            let both = written
                .iter()
                .filter_map(pair)
                .zip(meant.iter().filter_map(pair));
            both.map(|((place, value), (_, meaning))| Override {
                place,
                value,
                meaning,
            })
            .collect()
        } else {
            Vec::new()
        };
        Ok(Self {
            configuration: configuration.to_owned(),
            queue: PathBuf::from(line(&fixed, 0)),
            version,
            recipient_restrictions: line(&settings, 0),
            end_of_data_restrictions: line(&settings, 1),
            smtpd_milters: line(&settings, 2),
            non_smtpd_milters: line(&settings, 3),
            content_checks: checks
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, _)| *name)
                .collect(),
            forward_path: line(&settings, 4),
            local_domains: line(&fixed, 2),
            local_transport: line(&fixed, 3),
            overrides,
        })
    }

    /// What Postfix is not told yet: that it is to ask for every recipient and message, and milters.
    #[must_use]
    pub fn lacks(&self, policy: &Policy) -> (bool, bool) {
        let steps = self.steps(policy);
        let mut lines = steps
            .steps
            .iter()
            .flat_map(|step| &step.lines)
            .filter(|line| line.starts_with("postconf "));
        let milter = lines.clone().any(|line| line.contains("_milters"));
        let policy = lines.any(|line| !line.contains("_milters"));
        (policy, milter)
    }

    /// Whether it is told to ask the milter about what comes by SMTP.
    #[must_use]
    pub fn asks_milter_by_smtp(&self, policy: &Policy) -> bool {
        let milter = self.name(&self.way(&policy.places.services.milter, "milter.sock"));
        self.smtpd_milters.contains(&milter)
    }

    /// Sockets of limiter's that it is told to ask at, and does not reach from within a chroot.
    #[must_use]
    pub fn out_of_reach(&self, policy: &Policy) -> Vec<PathBuf> {
        let places = &policy.places.services;
        let told = [
            &self.recipient_restrictions,
            &self.end_of_data_restrictions,
            &self.smtpd_milters,
            &self.non_smtpd_milters,
        ];
        let told: Vec<&String> = told
            .into_iter()
            .chain(self.overrides.iter().map(|it| &it.meaning))
            .collect();
        let sockets = places.policy.iter().chain(&places.milter);
        sockets
            .filter_map(|address| match address {
                ServiceAddress::Unix(path) if !path.starts_with(&self.queue) => Some(path),
                _ => None,
            })
            .filter(|path| {
                let name = format!("unix:{}", path.display());
                told.iter().any(|value| value.contains(&name))
            })
            .cloned()
            .collect()
    }

    /// Where it asks, of the places where limiter listens.
    #[must_use]
    pub fn sockets(&self, policy: &Policy) -> Vec<PathBuf> {
        let places = &policy.places.services;
        let sockets = places.policy.iter().chain(&places.milter);
        sockets
            .filter_map(|address| match address {
                ServiceAddress::Unix(path) if path.starts_with(&self.queue) => Some(path.clone()),
                _ => None,
            })
            .collect()
    }

    /// What to put where.
    #[must_use]
    pub fn steps(&self, policy: &Policy) -> Steps {
        let common = Common::of(policy);
        let mut steps = Steps::default();
        let (asks, milters) = (&common.places.policy, &common.places.milter);
        let policy_way = self.way(asks, "policy.sock");
        let milter_way = self.way(milters, "milter.sock");
        let mut ways = vec![("policy", asks.as_slice(), &policy_way)];
        // Whoever switched the milter off does not want to hear of it.
        if !milters.is_empty() {
            ways.push(("milter", milters, &milter_way));
        }
        common.complete(&ways, &mut steps);
        Common::warn(&ways, &mut steps);
        Common::warn_of(self.forwards(), &mut steps);
        self.questions(&common, &policy_way, &mut steps);
        if milters.is_empty() {
            steps.know("mail from sendmail(1) is not counted: services.milter is switched off");
        } else {
            self.milters(&common, policy, (&policy_way, &milter_way), &mut steps);
        }
        self.reinjection(&common, &policy_way, &milter_way, &mut steps);
        let configuration = quoted(&self.configuration.display().to_string());
        steps.run(
            "have Postfix read it",
            vec![format!("postfix -c {configuration} reload")],
        );
        if !common.fails_open() {
            return steps;
        }
        steps.know(
            "while limiter does not answer, mail goes out uncounted (services.on_failure: open); the \
             kernel does not stand in, since it lets the mail server's own connections go",
        );
        steps
    }

    fn questions(&self, common: &Common<'_>, way: &Way, steps: &mut Steps) {
        let check = self.check(common, way);
        let mut lines = Vec::new();
        let mut services = Vec::new();
        // Before whatever permits: a client that is permitted is asked about no more. When the message is
        // there, and not at DATA: what does not arrive was never sent.
        for (name, value) in [
            ("smtpd_recipient_restrictions", &self.recipient_restrictions),
            (
                "smtpd_end_of_data_restrictions",
                &self.end_of_data_restrictions,
            ),
        ] {
            if !self.holds(value, way) {
                let value = joined(&check, value, ", ");
                lines.push(self.postconf("-e", &format!("{name} = {value}")));
            }
            services.extend(
                self.of_services(name)
                    .filter(|it| !self.is_left_out(common, it) && !self.holds(&it.meaning, way)),
            );
        }
        if !services.is_empty() {
            lines.push(self.postconf("-e", &format!("{PARAMETER} = {check}")));
        }
        for (number, Override { place, value, .. }) in services.iter().enumerate() {
            let value = self.in_one_word("before", number, value, &mut lines);
            let value = joined(&format!("${PARAMETER}"), &value, ",");
            lines.push(self.postconf("-P", &format!("{place}={value}")));
        }
        if lines.is_empty() {
            steps.know("Postfix asks the policy service already");
        } else {
            steps.run("ask for every recipient and every message", lines);
        }
    }

    /// Why the milter has to be asked about mail that comes by SMTP; none: what the policy service hears is
    /// enough, and costs the mail server far less.
    fn needs_milter(&self, policy: &Policy, ways: (&Way, &Way)) -> Option<String> {
        let milter = self.name(ways.1);
        let (ours, others): (Vec<&String>, Vec<&String>) = self
            .of_services("smtpd_milters")
            .map(|it| &it.meaning)
            .chain([&self.smtpd_milters])
            .filter(|value| !value.is_empty())
            .partition(|value| value.contains(&milter));
        if !others.is_empty() {
            return Some("other milters may refuse what limiter counted".to_owned());
        }
        let of_services = CONTENT_CHECKS.into_iter().find(|check| {
            let mut values = self.of_services(check);
            values.any(|it| !it.meaning.is_empty())
        });
        if let Some(check) = self.content_checks.first().copied().or(of_services) {
            return Some(format!("{check} may refuse what limiter counted"));
        }
        let behind = self
            .of_services("smtpd_end_of_data_restrictions")
            .map(|it| &it.meaning)
            .chain([&self.end_of_data_restrictions]);
        let mut behind = behind.filter(|value| !value.is_empty());
        if behind.any(|value| !self.holds(value, ways.0)) {
            return Some(
                "smtpd_end_of_data_restrictions may refuse what limiter counted".to_owned(),
            );
        }
        if policy.counts_distinct_recipients() {
            return Some(
                "a limit of distinct recipients has to know which of them the message went to"
                    .to_owned(),
            );
        }
        // Whoever wants it asked wants it asked everywhere.
        (!ours.is_empty()).then(|| "it is asked already".to_owned())
    }

    fn milters(&self, common: &Common<'_>, policy: &Policy, ways: (&Way, &Way), steps: &mut Steps) {
        let address = self.name(ways.1);
        let milter = self.milter(common, ways.1);
        // Behind the others: what they refuse counts for nothing.
        let ask = |name: &str, value: &str, lines: &mut Vec<String>| {
            if !value.contains(&address) {
                let value = joined(value, &milter, ", ");
                lines.push(self.postconf("-e", &format!("{name} = {value}")));
            }
        };
        let mut local = Vec::new();
        ask("non_smtpd_milters", &self.non_smtpd_milters, &mut local);
        let mut network = Vec::new();
        let why = self.needs_milter(policy, ways);
        if why.is_some() {
            ask("smtpd_milters", &self.smtpd_milters, &mut network);
            let services: Vec<&Override> = self
                .of_services("smtpd_milters")
                .filter(|it| !self.is_left_out(common, it))
                .filter(|it| !it.value.is_empty() && !it.meaning.contains(&address))
                .collect();
            if !services.is_empty() {
                network.push(self.postconf("-e", &format!("{MILTER} = {milter}")));
            }
            for (number, Override { place, value, .. }) in services.into_iter().enumerate() {
                let value = self.in_one_word("milters", number, value, &mut network);
                let value = joined(&value, &format!("${MILTER}"), ",");
                network.push(self.postconf("-P", &format!("{place}={value}")));
            }
        }
        if self.version < SETTINGS && !(local.is_empty() && network.is_empty()) {
            let action = milter_action(common);
            local.push(self.postconf("-e", &format!("milter_default_action = {action}")));
        }
        if !local.is_empty() {
            steps.run("count mail from sendmail(1)", local);
        }
        match why {
            Some(why) if !network.is_empty() => {
                steps.run(format!("know how each message ended: {why}"), network);
            }
            Some(_) => {}
            None => steps.know(
                "of what comes by SMTP the policy service hears enough: nothing refuses it any more when \
                 limiter has counted it. With a content filter (a milter, header_checks), or a limit of \
                 distinct recipients, ask again what to put where",
            ),
        }
    }

    /// The milter.
    pub(super) fn milter(&self, common: &Common<'_>, way: &Way) -> String {
        let address = self.name(way);
        if self.version < SETTINGS {
            return address;
        }
        let action = milter_action(common);
        format!("{{ {address}, default_action={action} }}")
    }

    /// The restriction that asks.
    fn check(&self, common: &Common<'_>, way: &Way) -> String {
        let address = self.name(way);
        if self.version < SETTINGS {
            return format!("{CHECK} {address}");
        }
        let patience = common.patience().as_secs();
        // Else a temporary error, which is Postfix's own default.
        let action = if common.fails_open() {
            ", default_action=DUNNO"
        } else {
            ""
        };
        format!("{CHECK} {{ {address}, timeout={patience}s{action} }}")
    }

    pub(super) fn holds(&self, restrictions: &str, way: &Way) -> bool {
        restrictions.contains(CHECK) && restrictions.contains(&self.name(way))
    }

    /// The service as Postfix names it.
    fn name(&self, way: &Way) -> String {
        match way.address() {
            ServiceAddress::Unix(path) => match path.strip_prefix(&self.queue) {
                Ok(below) => format!("unix:{}", below.display()),
                Err(_) => format!("unix:{}", path.display()),
            },
            address @ ServiceAddress::Inet(_) => address.to_string(),
        }
    }

    /// How Postfix reaches a service: below its queue directory, where it works from within a chroot too,
    /// or over the loopback.
    fn way(&self, listens: &[ServiceAddress], file: &str) -> Way {
        let below = |address: &&ServiceAddress| matches!(address, ServiceAddress::Unix(path) if path.starts_with(&self.queue));
        let inet = |address: &&ServiceAddress| matches!(address, ServiceAddress::Inet(_));
        let found = listens.iter().find(below);
        match found.or_else(|| listens.iter().find(inet)) {
            Some(address) => Way::Listens(address.clone()),
            None => Way::Missing(ServiceAddress::Unix(
                self.queue.join(BELOW_QUEUE).join(file),
            )),
        }
    }

    /// What master.cf says of this parameter, by service.
    fn of_services<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Override> {
        let is_it = move |it: &&Override| it.place.rsplit('/').next() == Some(name);
        self.overrides.iter().filter(is_it)
    }

    /// A value that can stand in master.cf: one with spaces goes into a parameter of our own.
    fn in_one_word(
        &self,
        kind: &str,
        number: usize,
        value: &str,
        lines: &mut Vec<String>,
    ) -> String {
        if !value.contains(char::is_whitespace) {
            return value.to_owned();
        }
        let parameter = format!("limiter_{kind}_{}", number + 1);
        lines.push(self.postconf("-e", &format!("{parameter} = {value}")));
        format!("${parameter}")
    }

    pub(super) fn postconf(&self, option: &str, setting: &str) -> String {
        let configuration = quoted(&self.configuration.display().to_string());
        format!("postconf -c {configuration} {option} {}", quoted(setting))
    }
}

/// What becomes of mail while the milter does not answer.
fn milter_action(common: &Common<'_>) -> &'static str {
    if common.fails_open() {
        "accept"
    } else {
        "tempfail"
    }
}

fn joined(first: &str, second: &str, by: &str) -> String {
    let parts = [first, second];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(by)
}
