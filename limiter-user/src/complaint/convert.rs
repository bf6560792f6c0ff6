//! From a report to what the engine hears.

use thiserror::Error;

use super::report::Report;
use crate::offence::{Complaint, Moment, Part};

/// Why a report is no complaint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotCounted {
    /// It accuses nobody.
    #[error("a report of the kind {kind} accuses nobody of abuse")]
    AccusesNobody {
        /// Its kind.
        kind: String,
    },
}

impl Report {
    /// The complaint about `tenant` that the engine hears. `happened` is when the mail was sent, in
    /// the engine's time: the caller knows how that differs from the wall's.
    ///
    /// # Errors
    /// A report that accuses nobody: not-spam, opt-out, auth-failure.
    pub fn complaint(&self, tenant: &str, happened: Moment) -> Result<Complaint, NotCounted> {
        if !self.feedback.accuses() {
            return Err(NotCounted::AccusesNobody {
                kind: self.feedback.as_str().to_owned(),
            });
        }
        Ok(Complaint {
            tenant: tenant.to_owned(),
            id: self.id.clone(),
            format: self.format.as_str().to_owned(),
            parts: self.parts.clone(),
            source: self.source,
            happened,
        })
    }

    /// When the mail was sent as far as the report says, else when the report was sent; by the
    /// wall clock, never after `now`.
    #[must_use]
    pub fn happened(&self, now: Moment) -> Moment {
        let told = self.arrival.or(self.sent);
        told.map_or(now, |time| Moment::from(time).min(now))
    }

    /// What it lacks of everything that a policy may require.
    #[must_use]
    pub fn lacks(&self) -> Vec<Part> {
        let all = Part::WORDS.iter().map(|(_, part)| *part);
        all.filter(|part| !self.parts.contains(part)).collect()
    }
}
