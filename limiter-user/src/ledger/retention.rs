//! What is kept for how long.

use rusqlite::params;

use super::{Ledger, LedgerError};
use crate::offence::{Moment, Span};

impl Ledger {
    /// Forgets what was heard, done and told before `before`. A tenant's open cases keep all that
    /// was heard since they were opened; what the engine still counts with is kept anyway.
    ///
    /// # Errors
    ///
    /// The database fails; then nothing is forgotten.
    pub fn forget_before(&mut self, before: Moment) -> Result<(), LedgerError> {
        let failed = self.failed("clean up");
        let run = |db: &mut rusqlite::Connection| {
            let change = db.transaction()?;
            let before = before.millis();
            change.execute(
                "DELETE FROM signals WHERE at < ?1 AND NOT EXISTS (
                    SELECT 1 FROM cases WHERE cases.tenant = signals.tenant
                    AND closed IS NULL AND opened <= signals.at)",
                params![before],
            )?;
            change.execute("DELETE FROM cases WHERE closed < ?1", params![before])?;
            change.execute(
                "DELETE FROM notes WHERE NOT EXISTS (
                    SELECT 1 FROM cases WHERE cases.tenant = notes.tenant
                    AND cases.policy = notes.policy AND cases.number = notes.number)",
                [],
            )?;
            change.execute("DELETE FROM sanctions WHERE lifted < ?1", params![before])?;
            change.execute("DELETE FROM charges WHERE at < ?1", params![before])?;
            change.execute(
                "DELETE FROM notices WHERE at < ?1 AND NOT EXISTS (
                    SELECT 1 FROM deliveries WHERE notice = notices.id AND state = 'waiting')",
                params![before],
            )?;
            change.execute(
                "DELETE FROM complaints WHERE received < ?1 AND state NOT IN ('ambiguous', 'unknown')",
                params![before],
            )?;
            change.commit()
        };
        run(&mut self.db).map_err(failed)
    }

    /// Forgets what only counted before `before`: violations, mail that was sent, and from where. Kept
    /// is what a case may rest on, from `window` before it was opened on, and what was charged or told
    /// for. What the engine still counts with stands in its state.
    ///
    /// # Errors
    ///
    /// The database fails; then nothing is forgotten.
    pub fn forget_counts_before(
        &mut self,
        before: Moment,
        window: Span,
    ) -> Result<(), LedgerError> {
        let forgotten = self.db.execute(
            "DELETE FROM signals WHERE at < ?1 AND kind IN ('violations', 'sent', 'sources')
             AND NOT EXISTS (
                SELECT 1 FROM cases WHERE cases.tenant = signals.tenant
                AND opened - ?2 <= signals.at AND (closed IS NULL OR closed >= signals.at))
             AND id NOT IN (SELECT signal FROM charges UNION SELECT signal FROM notices)",
            params![before.millis(), Moment(window.0).millis()],
        );
        forgotten.map(drop).map_err(self.failed("clean up"))
    }
}
