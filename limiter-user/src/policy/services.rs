//! What the mail programs ask: what `services` of the main file means.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize, de};

/// Where the services are. Changing it needs a restart. An empty list: that one is switched off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicePlaces {
    /// Postfix's policy protocol, and Exim's questions.
    pub policy: Vec<ServiceAddress>,
    /// The milter protocol.
    pub milter: Vec<ServiceAddress>,
    /// Dovecot's auth policy protocol.
    pub dovecot: Vec<ServiceAddress>,
}

/// Where a service listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceAddress {
    /// A UNIX socket, absolute. Nobody can take its place while the agent is away, where only root
    /// may write to its directory.
    Unix(PathBuf),
    /// A loopback address and a port. While the agent is away, whoever is first can listen there, unless
    /// the port is privileged.
    Inet(SocketAddr),
}

/// How mail programs are answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Services {
    /// Users that may ask, beside root. `None`: the MTA's users, and `dovecot`.
    pub allowed_users: Option<Vec<String>>,
    /// Users of content filters: what they hand back was judged when it came in, and is nobody's.
    pub filters: Vec<String>,
    /// Users of list managers: what they send is paid by the account that the sender's domain is of.
    pub lists: Vec<String>,
    /// What happens to mail that cannot be judged.
    pub on_failure: OnFailure,
    /// What happens to mail whose sender address is of a domain that is another tenant's.
    pub sender_mismatch: SenderMismatch,
    /// How mail is refused that goes over a limit.
    pub over_limit: OverLimit,
    /// What happens to mail that goes over a pace.
    pub too_fast: TooFast,
    /// What happens to mail that goes over a limit of distinct recipients.
    pub distinct_recipients: DistinctRecipients,
    /// What senders are told.
    pub texts: Texts,
}

/// What happens to mail that cannot be judged: the agent is away, or fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It goes out, uncounted.
    #[default]
    Open,
    /// It is deferred.
    Closed,
}

/// What happens to mail whose sender address is of another tenant's domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SenderMismatch {
    /// It goes out, and counts for whoever sent it.
    #[default]
    Charge,
    /// It is refused.
    Refuse,
}

/// How mail is refused that goes over a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverLimit {
    /// With 450: the client tries again.
    #[default]
    Temporary,
    /// With 550: the client gives up.
    Permanent,
}

/// What happens to mail that goes over a pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TooFast {
    /// What happens.
    pub action: PaceAction,
    /// The longest that mail is held back before it is deferred after all: a second to
    /// [`TooFast::MOST`].
    pub cap: Duration,
}

/// What happens to mail that goes over a pace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaceAction {
    /// The client is told when to try again.
    #[default]
    Defer,
    /// The client waits for the answer, and is deferred only where that would take longer than the cap.
    Delay,
}

/// What happens to mail that goes over a limit of distinct recipients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DistinctRecipients {
    /// It goes out, and people are told.
    #[default]
    Alarm,
    /// It is refused like whatever goes over another limit.
    Refuse,
}

/// What senders are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Texts {
    /// Over a limit.
    pub limit: Text,
    /// Over a pace.
    pub pace: Text,
    /// Under a sanction.
    pub sanction: Text,
    /// A sender address of another tenant's domain.
    pub mismatch: Text,
    /// Whoever nobody answers for, where that is refused.
    pub unknown: Text,
}

/// One line of printable ASCII, with placeholders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Text(String);

/// What stands in a [`Text`] for what is only known when it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Placeholder {
    /// `{tenant}`: its name.
    Tenant,
    /// `{limit}`: the limit, such as `300 recipients per 1h`.
    Limit,
    /// `{again}`: when to try again, such as `in 4 minutes`.
    Again,
    /// `{reason}`: why, such as the sanction.
    Reason,
}

/// Why a text is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// It is empty.
    #[error("is empty")]
    Empty,
    /// It is too long.
    #[error("is {0} characters long")]
    TooLong(usize),
    /// It holds what mail servers do not pass on.
    #[error("holds what is not printable ASCII")]
    NotAscii,
    /// It holds a placeholder that is none.
    #[error("holds {{{0}}}, which stands for nothing")]
    Unknown(String),
    /// It holds a brace without its partner.
    #[error("holds a `{{` or `}}` without the other")]
    Brace,
}

impl ServiceAddress {
    /// A socket beside the control socket, named so that agents with control sockets in one directory do
    /// not meet.
    #[must_use]
    pub fn beside(control: &Path, name: &str) -> Self {
        let file = match control.file_stem().and_then(|stem| stem.to_str()) {
            None | Some("control") => format!("{name}.sock"),
            Some(stem) => format!("{stem}.{name}.sock"),
        };
        Self::Unix(control.with_file_name(file))
    }
}

impl ServicePlaces {
    /// The same for a control socket at `to` instead of `from`: sockets that are where nobody chose
    /// otherwise go with it.
    #[must_use]
    pub fn moved(mut self, from: &Path, to: &Path) -> Self {
        for (name, addresses) in [("policy", &mut self.policy), ("milter", &mut self.milter)] {
            let before = ServiceAddress::beside(from, name);
            for address in addresses.iter_mut().filter(|it| **it == before) {
                *address = ServiceAddress::beside(to, name);
            }
        }
        self
    }
}

impl TooFast {
    /// The longest `cap`: Postfix waits 100 seconds for an answer.
    pub const MOST: Duration = Duration::from_secs(60);
}

impl Default for TooFast {
    fn default() -> Self {
        Self {
            action: PaceAction::default(),
            cap: Duration::from_secs(30),
        }
    }
}

impl Default for Texts {
    fn default() -> Self {
        let text = |text: &str| Text(text.to_owned());
        Self {
            limit: text("{tenant} has used up {limit}; try again {again}"),
            pace: text("{tenant} sends too fast ({limit}); try again {again}"),
            sanction: text("mail of {tenant} is stopped: {reason}"),
            mismatch: text("{tenant} may not send under this sender address"),
            unknown: text("nobody answers for this mail: {reason}"),
        }
    }
}

impl Placeholder {
    /// Each, as it is written.
    pub const ALL: [(&'static str, Self); 4] = [
        ("tenant", Self::Tenant),
        ("limit", Self::Limit),
        ("again", Self::Again),
        ("reason", Self::Reason),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, placeholder)| *placeholder)
    }
}

impl Text {
    /// The longest, in characters.
    pub const MOST: usize = 300;
    /// The longest that [`fill`](Self::fill) makes of it, in characters.
    pub const MOST_FILLED: usize = 400;

    /// A text that people wrote.
    ///
    /// # Errors
    /// It is empty, too long, not printable ASCII, or holds a brace that is no placeholder's.
    pub fn new(text: &str) -> Result<Self, TextError> {
        if text.trim().is_empty() {
            return Err(TextError::Empty);
        }
        if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(TextError::NotAscii);
        }
        if text.len() > Self::MOST {
            return Err(TextError::TooLong(text.len()));
        }
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            let (_, from) = rest.split_at(brace);
            let inner = from.strip_prefix('{').ok_or(TextError::Brace)?;
            let (name, after) = inner.split_once('}').ok_or(TextError::Brace)?;
            if name.contains('{') {
                return Err(TextError::Brace);
            }
            if Placeholder::named(name).is_none() {
                return Err(TextError::Unknown(name.to_owned()));
            }
            rest = after;
        }
        Ok(Self(text.to_owned()))
    }

    /// What is sent: each placeholder as `value` says. Whatever is not printable ASCII becomes `?`,
    /// and what is longer than [`MOST_FILLED`](Self::MOST_FILLED) is cut off.
    #[must_use]
    pub fn fill(&self, mut value: impl FnMut(Placeholder) -> String) -> String {
        let mut filled = String::new();
        let mut rest = self.0.as_str();
        while let Some((before, inner)) = rest.split_once('{') {
            filled.push_str(before);
            let (name, after) = inner.split_once('}').unwrap_or((inner, ""));
            filled.extend(Placeholder::named(name).map(&mut value));
            rest = after;
        }
        filled.push_str(rest);
        let printable = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
        filled
            .chars()
            .map(printable)
            .take(Self::MOST_FILLED)
            .collect()
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(|error| de::Error::custom(format!("{text:?} {error}")))
    }
}

impl fmt::Display for ServiceAddress {
    /// As the files write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Inet(address) => write!(f, "inet:{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_go_with_the_control_socket_unless_somebody_chose_them() {
        let chosen = ServiceAddress::Unix("/var/spool/postfix/limiter/policy.sock".into());
        let at = |path: &str| ServiceAddress::Unix(path.into());
        let places = ServicePlaces {
            policy: vec![at("/run/limiter/policy.sock"), chosen.clone()],
            milter: vec![at("/run/limiter/milter.sock")],
            dovecot: Vec::new(),
        };
        let moved = places.moved(
            Path::new("/run/limiter/control.sock"),
            Path::new("/run/other/test.sock"),
        );
        assert_eq!(moved.policy, [at("/run/other/test.policy.sock"), chosen]);
        assert_eq!(moved.milter, [at("/run/other/test.milter.sock")]);
    }

    #[test]
    fn texts_hold_placeholders_and_nothing_else_in_braces() {
        for good in ["x", "{tenant}{limit}{again}{reason}", &"a".repeat(300)] {
            assert_eq!(Text::new(good).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", TextError::Empty),
            ("  ", TextError::Empty),
            ("a\nb", TextError::NotAscii),
            ("a\u{7f}", TextError::NotAscii),
            ("zu schnell für {tenant}", TextError::NotAscii),
            ("{tenants}", TextError::Unknown("tenants".to_owned())),
            ("{}", TextError::Unknown(String::new())),
            ("{ tenant}", TextError::Unknown(" tenant".to_owned())),
            ("{tenant", TextError::Brace),
            ("tenant}", TextError::Brace),
            ("{{tenant}}", TextError::Brace),
            ("{tenant}}", TextError::Brace),
        ] {
            assert_eq!(Text::new(bad), Err(why), "{bad}");
        }
        assert_eq!(Text::new(&"a".repeat(301)), Err(TextError::TooLong(301)));
    }

    #[test]
    fn what_stands_for_something_is_made_harmless() {
        let text = Text::new("{tenant}: {limit}; {tenant}, {again}").unwrap();
        let filled = text.fill(|placeholder| match placeholder {
            Placeholder::Tenant => "al{limit}ice\r\n250 ok".to_owned(),
            Placeholder::Limit => "30 per 1h".to_owned(),
            _ => "später".to_owned(),
        });
        assert_eq!(
            filled,
            "al{limit}ice??250 ok: 30 per 1h; al{limit}ice??250 ok, sp?ter"
        );
        assert_eq!(text.fill(|_| "a".repeat(1_000)).len(), Text::MOST_FILLED);
    }

    #[test]
    fn the_texts_that_come_with_it_are_texts() {
        let Texts {
            limit,
            pace,
            sanction,
            mismatch,
            unknown,
        } = Texts::default();
        for text in [limit, pace, sanction, mismatch, unknown] {
            assert_eq!(Text::new(text.as_str()), Ok(text));
        }
    }
}
