//! How people are told: what `notices` of the main file means.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// How people are told. Each way that is missing is switched off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notices {
    /// By mail.
    pub mail: Option<MailSettings>,
    /// Where the administrator's templates are.
    pub templates: Option<PathBuf>,
    /// By HTTP.
    pub webhook: Option<WebhookSettings>,
    /// By a program.
    pub exec: Option<ExecSettings>,
    /// Mail addresses of whoever runs the node; never empty.
    pub operator: Vec<String>,
    /// How long a delivery is tried: an hour to 30 days.
    pub give_up: Duration,
    /// How many mails about one tenant one address gets within an hour before the rest is joined
    /// into one: 1 to 1000.
    pub mails_per_hour: u32,
}

/// Notices by mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailSettings {
    /// The sender, in the header and on the envelope; `None`: `limiter@` the node.
    pub from: Option<String>,
    /// Who takes the mail.
    pub smtp: Smtp,
}

/// Who takes mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Smtp {
    /// A mail server that asks for neither TLS nor a password: the node's own.
    Server {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A program that takes a message as `sendmail` does.
    Sendmail(PathBuf),
}

/// Notices by HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// `http://…` or `https://…`.
    pub url: String,
    /// The file whose content signs what is posted; `None`: nothing is signed.
    pub key_file: Option<PathBuf>,
    /// How long one attempt may take: 1 to 120 seconds.
    pub timeout: Duration,
}

/// Notices by a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecSettings {
    /// The program, absolute.
    pub path: PathBuf,
    /// As whom it runs.
    pub user: String,
    /// How long it may take: a second to 10 minutes.
    pub timeout: Duration,
}

impl Default for Notices {
    /// By mail, through the node's own mail server.
    fn default() -> Self {
        Self {
            mail: Some(MailSettings {
                from: None,
                smtp: Smtp::local(),
            }),
            templates: None,
            webhook: None,
            exec: None,
            operator: Self::default_operator(),
            give_up: Duration::from_secs(3 * 86_400),
            mails_per_hour: 10,
        }
    }
}

impl Notices {
    /// Nobody is told.
    #[must_use]
    pub fn off() -> Self {
        Self {
            mail: None,
            ..Self::default()
        }
    }

    /// Whoever reads root's mail.
    #[must_use]
    pub fn default_operator() -> Vec<String> {
        vec!["root@localhost".to_owned()]
    }
}

impl Smtp {
    /// The node's own mail server.
    #[must_use]
    pub fn local() -> Self {
        Self::Server {
            host: "127.0.0.1".to_owned(),
            port: 25,
        }
    }
}

impl WebhookSettings {
    /// How long one attempt may take where the file says nothing.
    pub const TIMEOUT: Duration = Duration::from_secs(15);
}

impl ExecSettings {
    /// How long it may take where the file says nothing.
    pub const TIMEOUT: Duration = Duration::from_secs(30);
    /// As whom it runs where the file says nothing.
    pub const USER: &'static str = "nobody";
}
