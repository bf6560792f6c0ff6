//! The evidence report.

use std::time::Duration;

use super::{
    holds, is_worth_telling,
    shelf::{self, Shelf},
};
use crate::{
    control::node::NodeError,
    ledger::SanctionRow,
    offence::{Moment, Sanction, Span},
    report::{
        case::Charged,
        dossier::{Complained, Counters, Dossier, Suffered},
        duration::Seconds,
    },
};

/// How much of what was heard is told, the latest.
const MOST_HEARD: usize = 2_000;

/// What the record book does not know.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The node's name.
    pub node: String,
    /// What the kernel counted, if it can be asked.
    pub counters: Option<Counters>,
    /// Who asks.
    pub made_by: Option<String>,
}

impl Shelf {
    /// The evidence report of a tenant over the last `span`.
    ///
    /// # Errors
    ///
    /// Nothing is known of the tenant, or the record book cannot be read.
    pub fn dossier(
        &self,
        tenant: &str,
        span: Duration,
        about: About,
    ) -> Result<Dossier, NodeError> {
        self.must_know(tenant)?;
        let times = self.times;
        let since = times.now.minus(Span::from(span));
        let record = self.record(tenant)?.unwrap_or_default();
        let subject = self.book.tenants.get(tenant);
        let rows = self.ledger.cases(Some(tenant), false);
        let rows = rows.map_err(shelf::unread)?;
        // As `case show` tells it.
        let is_void = |at: Moment, policy: &str| {
            rows.iter().any(|row| {
                row.case.void
                    && row.policy == policy
                    && row.case.opened <= at
                    && row.case.closed.is_none_or(|closed| at <= closed)
            })
        };
        let cases = rows
            .iter()
            .filter(|row| row.case.closed.is_none_or(|closed| closed >= since))
            .map(|row| self.without_lists(row))
            .collect::<Result<Vec<_>, _>>()?;
        let heard = self.heard(tenant, since, MOST_HEARD)?;
        let sanctions = self.ledger.sanctions(tenant, since);
        let sanctions = sanctions.map_err(shelf::unread)?;
        let complaints = self.ledger.complaints(None).map_err(shelf::unread)?;
        let from = times.at(since);
        Ok(Dossier {
            node: about.node,
            tenant: tenant.to_owned(),
            parent: subject.and_then(|subject| subject.parent.clone()),
            plan: subject.and_then(|subject| subject.plan.clone()),
            known: subject.is_some(),
            policies: self
                .book
                .binding(tenant)
                .into_iter()
                .map(|ladder| ladder.name.clone())
                .collect(),
            made: times.at(times.now),
            made_by: about.made_by,
            since: from,
            span: Seconds(span),
            standing: record.standing(),
            holds: if is_worth_telling(&record) {
                holds(tenant, &record, times)
            } else {
                Vec::new()
            },
            counters: about.counters,
            cases,
            heard_left_off: heard.len() == MOST_HEARD,
            heard: heard.into_iter().map(|(_, heard)| heard).collect(),
            sanctions: joined(sanctions)
                .into_iter()
                .filter_map(|row| {
                    let mut words = Sanction::WORDS.iter();
                    let (_, sanction) = words.find(|(word, _)| *word == row.sanction)?;
                    Some(Suffered {
                        sanction: *sanction,
                        since: times.at(Moment::of_millis(row.since)),
                        until: row.until.map(|until| times.at(Moment::of_millis(until))),
                        lifted: row.lifted.map(|lifted| times.at(Moment::of_millis(lifted))),
                    })
                })
                .collect(),
            complaints: complaints
                .into_iter()
                .filter(|row| row.tenant.as_deref() == Some(tenant))
                .map(|row| Complained {
                    id: row.id,
                    received: Moment::of_millis(row.received).timestamp(),
                    state: row.state,
                    why: row.why,
                })
                .filter(|complaint| complaint.received >= from)
                .collect(),
            clocks: self.clocks(tenant)?,
            notices: self.told(tenant, since)?,
            notes: self
                .noted(tenant)?
                .into_iter()
                .filter(|note| note.time >= from)
                .collect(),
            charges: self
                .charged(tenant, since)?
                .into_iter()
                .map(|(at, charged)| Charged {
                    void: is_void(at, &charged.policy),
                    ..charged
                })
                .collect(),
        })
    }
}

/// A sanction whose end was changed is one, not two.
fn joined(rows: Vec<SanctionRow>) -> Vec<SanctionRow> {
    let mut joined: Vec<SanctionRow> = Vec::new();
    for row in rows {
        let mut before = joined.iter_mut().rev();
        match before.find(|before| before.sanction == row.sanction) {
            Some(before) if before.lifted == Some(row.since) => {
                before.until = row.until;
                before.lifted = row.lifted;
            }
            _ => joined.push(row),
        }
    }
    joined
}
