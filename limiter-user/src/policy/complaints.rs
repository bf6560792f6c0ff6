//! What the main file says about reports of abuse.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::complaint::{Limits, Trust, log::LogFile};

/// Where reports of abuse come in, and whom and what is believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Complaints {
    /// The Maildir they are delivered to; `None`: they are handed in by hand.
    pub maildir: Option<PathBuf>,
    /// How long mails in the Maildir are kept after they were dealt with.
    #[serde(default = "Complaints::default_keep")]
    pub keep: Duration,
    /// The longest report that is read, bytes: 64 KiB to 100 MiB.
    pub max_size: usize,
    /// What this node's mail server calls itself in Received fields, beside the node's name.
    pub received_by: Vec<String>,
    /// By what names it signs Authentication-Results. Empty: no reporter is verified.
    pub authserv_ids: Vec<String>,
    /// Domains whose verified reports are trusted.
    pub reporters: Vec<String>,
    /// Logs of the mail server that others can write to, through syslog.
    pub logs: Vec<PathBuf>,
    /// Logs that nobody but the mail server writes to.
    pub direct_logs: Vec<PathBuf>,
}

impl Complaints {
    /// Reporters who are trusted unless the file names others: large providers' feedback loops.
    pub const REPORTERS: [&'static str; 12] = [
        "abusix.com",
        "amazonses.com",
        "aol.com",
        "comcast.net",
        "fastmail.com",
        "google.com",
        "hotmail.com",
        "microsoft.com",
        "outlook.com",
        "spamcop.net",
        "validity.com",
        "yahoo.com",
    ];
    /// Where mail servers log unless the file says otherwise.
    pub const LOGS: [&'static str; 5] = [
        "/var/log/mail.log",
        "/var/log/maillog",
        "/var/log/exim4/mainlog",
        "/var/log/exim/main.log",
        "/var/log/exim_mainlog",
    ];

    /// A quarter of a year.
    const fn default_keep() -> Duration {
        Duration::from_secs(90 * 86_400)
    }

    /// Within what bounds reports are read.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            bytes: self.max_size,
            ..Limits::default()
        }
    }

    /// Whom a report's own header is believed.
    #[must_use]
    pub fn trust(&self) -> Trust {
        Trust {
            authserv_ids: self.authserv_ids.clone(),
            reporters: self.reporters.clone(),
        }
    }

    /// The mail server's logs.
    #[must_use]
    pub fn log_files(&self) -> Vec<LogFile> {
        let files = |paths: &[PathBuf], direct| {
            let files = paths.iter().cloned();
            files
                .map(move |path| LogFile { path, direct })
                .collect::<Vec<_>>()
        };
        [files(&self.direct_logs, true), files(&self.logs, false)].concat()
    }
}

impl Default for Complaints {
    fn default() -> Self {
        Self {
            maildir: None,
            keep: Self::default_keep(),
            max_size: Limits::default().bytes,
            received_by: Vec::new(),
            authserv_ids: Vec::new(),
            reporters: Self::REPORTERS.map(str::to_owned).to_vec(),
            logs: Self::LOGS.map(PathBuf::from).to_vec(),
            direct_logs: Vec::new(),
        }
    }
}
