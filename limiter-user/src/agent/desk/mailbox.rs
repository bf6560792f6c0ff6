//! The way in by a Maildir.

use std::{path::PathBuf, sync::Arc, time::Duration};

use log::{error, info, warn};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::{
    super::state::{Shared, Trouble},
    Desk,
};
use crate::{
    complaint::maildir::{self, Later, Mail, Maildir, MaildirError, Verdict},
    policy::model::Policy,
    report::problem::Problem,
};

/// How long a look that is under way may go on when the Maildir is given up.
const GRACE: Duration = Duration::from_secs(5);

/// The desk as the Maildir sees it.
struct Mailbox {
    desk: Arc<Desk>,
    shared: Shared,
    stop: watch::Receiver<bool>,
}

impl maildir::Desk for Mailbox {
    fn take(&mut self, mail: &Mail<'_>) -> Result<Verdict, Later> {
        if *self.stop.borrow() {
            return Err(Later("the agent stops".to_owned()));
        }
        let taken = self.desk.take_in(mail.bytes, None);
        let taken = taken.map_err(|error| Later(error.to_string()))?;
        Ok(taken.refusal.map_or(Verdict::Filed, Verdict::Refused))
    }

    fn refused(&mut self, name: &str, why: &str) {
        warn!("{name}: {why}");
        self.desk.unread(name, why);
    }

    fn health(&mut self, problem: Option<&MaildirError>) {
        if *self.stop.borrow() {
            return;
        }
        match problem {
            None => self.shared.lock().mended(Trouble::Complaints),
            Some(error) => {
                let problem = Problem::error(
                    format!("complaints are not taken in: {error}"),
                    "mend it: nothing is lost, and it is looked at again within half a minute",
                );
                self.shared.lock().trouble(Trouble::Complaints, problem);
            }
        }
        if let Err(error) = self.desk.remind() {
            warn!("nobody is told that complaints wait: {error}");
        }
    }
}

/// Looks after the Maildir that the configuration names.
pub struct Mailroom {
    desk: Arc<Desk>,
    shared: Shared,
    watched: Option<Watched>,
}

struct Watched {
    /// Where, the longest mail, and how long what was dealt with is kept.
    what: (PathBuf, usize, Duration),
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Mailroom {
    /// Nothing is watched yet.
    pub fn new(desk: Arc<Desk>, shared: Shared) -> Self {
        Self {
            desk,
            shared,
            watched: None,
        }
    }

    /// Watches what `policy` names from now on.
    pub async fn follow(&mut self, policy: &Policy) {
        let complaints = &policy.node.complaints;
        let limits = complaints.limits();
        let path = complaints.maildir.clone();
        let what = path.map(|path| (path, limits.bytes, complaints.keep));
        if self.watched.as_ref().map(|watched| &watched.what) == what.as_ref() {
            return;
        }
        self.stop().await;
        let Some(what) = what else {
            return;
        };
        info!("complaints are taken in from {}", what.0.display());
        let (stop, stopped) = watch::channel(false);
        let mailbox = Mailbox {
            desk: Arc::clone(&self.desk),
            shared: self.shared.clone(),
            stop: stopped.clone(),
        };
        let maildir = Maildir::new(what.0.clone(), limits).keeping(what.2);
        let (shared, asked) = (self.shared.clone(), stopped.clone());
        let task = tokio::spawn(async move {
            drop(maildir::watch(maildir, mailbox, stopped).await);
            if !*asked.borrow() {
                let problem = Problem::error(
                    "complaints are not taken in: the desk fell over",
                    "restart the agent; nothing is lost",
                );
                shared.lock().trouble(Trouble::Complaints, problem);
            }
        });
        self.watched = Some(Watched { what, stop, task });
    }

    /// Watches nothing any more. What is being taken in is finished.
    pub async fn stop(&mut self) {
        let Some(Watched { stop, task, .. }) = self.watched.take() else {
            return;
        };
        // Whoever listened may be gone.
        let _ = stop.send(true);
        if timeout(GRACE, task).await.is_err() {
            error!("a complaint that is being taken in takes too long: it comes again");
        }
        self.shared.lock().mended(Trouble::Complaints);
    }
}
