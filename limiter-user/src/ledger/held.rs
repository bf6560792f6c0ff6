//! Which mail in the node's queues limiter holds, for the thread that holds and releases it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use super::{FILE, Ledger, LedgerError, PATIENCE};
use crate::mta::{BookError, HeldMail, HoldBook, MailKey};

/// The list of held mail in the record book, by a connection of its own: whoever writes here waits
/// for the court for the length of a page at most. It is opened when it is first needed, and a
/// failure is tried again by the next call.
#[derive(Debug)]
pub struct HeldMailBook {
    state_dir: PathBuf,
    ledger: Option<Ledger>,
}

impl HeldMailBook {
    /// The list in the record book in `state_dir`.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            ledger: None,
        }
    }

    fn ledger(&mut self) -> Result<&mut Ledger, LedgerError> {
        let ledger = match self.ledger.take() {
            Some(ledger) => ledger,
            None => Ledger::beside(&self.state_dir)?,
        };
        Ok(self.ledger.insert(ledger))
    }
}

impl HoldBook for HeldMailBook {
    fn note(&mut self, mails: &[HeldMail]) -> Result<(), BookError> {
        Ok(self.ledger()?.note_held(mails)?)
    }

    fn forget(&mut self, keys: &[MailKey]) -> Result<(), BookError> {
        Ok(self.ledger()?.forget_held(keys)?)
    }

    fn held(&mut self) -> Result<Vec<HeldMail>, BookError> {
        Ok(self.ledger()?.held_mail()?)
    }
}

/// How many messages of each tenant are held, by the record book in `state_dir`.
///
/// # Errors
///
/// The record book cannot be read.
pub fn held_counts(state_dir: &Path) -> Result<HashMap<String, u64>, LedgerError> {
    let Some(ledger) = Ledger::read_only(state_dir)? else {
        return Ok(HashMap::new());
    };
    let counts = ledger.rows(
        "SELECT tenant, count(*) FROM held_mail GROUP BY tenant",
        [],
        |row| {
            let count: i64 = row.get(1)?;
            Ok((row.get(0)?, u64::try_from(count).unwrap_or(0)))
        },
    )?;
    Ok(counts.into_iter().collect())
}

impl Ledger {
    /// One more connection to a record book that was opened before.
    fn beside(state_dir: &Path) -> Result<Self, LedgerError> {
        let path = state_dir.join(FILE);
        let failed = |source| LedgerError::Database {
            action: "open",
            path: path.clone(),
            source,
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&path, flags).map_err(failed)?;
        db.busy_timeout(PATIENCE).map_err(failed)?;
        // On the disk when it is committed: mail is held only after that.
        db.pragma_update(None, "synchronous", "FULL")
            .map_err(failed)?;
        let ledger = Self { db, path };
        ledger.version()?;
        Ok(ledger)
    }

    fn note_held(&mut self, mails: &[HeldMail]) -> Result<(), LedgerError> {
        self.change_all(
            "INSERT OR IGNORE INTO held_mail (queue, id, inode, arrived_us, tenant, place)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            mails,
            |HeldMail { key, tenant, place }| {
                (
                    &key.queue,
                    &key.id,
                    key.inode.cast_signed(),
                    key.arrived_us,
                    tenant,
                    place,
                )
            },
        )
    }

    fn forget_held(&mut self, keys: &[MailKey]) -> Result<(), LedgerError> {
        self.change_all(
            "DELETE FROM held_mail
             WHERE queue = ?1 AND id = ?2 AND inode = ?3 AND arrived_us = ?4",
            keys,
            |key| (&key.queue, &key.id, key.inode.cast_signed(), key.arrived_us),
        )
    }

    /// All of them in one transaction, or none.
    fn change_all<'a, T, P: rusqlite::Params>(
        &mut self,
        sql: &str,
        items: &'a [T],
        values: impl Fn(&'a T) -> P,
    ) -> Result<(), LedgerError> {
        if items.is_empty() {
            return Ok(());
        }
        let failed = self.failed("write to");
        let run = |db: &mut Connection| {
            let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut statement = change.prepare_cached(sql)?;
                for item in items {
                    statement.execute(values(item))?;
                }
            }
            change.commit()
        };
        run(&mut self.db).map_err(failed)
    }

    fn held_mail(&self) -> Result<Vec<HeldMail>, LedgerError> {
        self.rows(
            "SELECT queue, id, inode, arrived_us, tenant, place FROM held_mail",
            params![],
            |row| {
                let inode: i64 = row.get(2)?;
                Ok(HeldMail {
                    key: MailKey {
                        queue: row.get(0)?,
                        id: row.get(1)?,
                        inode: inode.cast_unsigned(),
                        arrived_us: row.get(3)?,
                    },
                    tenant: row.get(4)?,
                    place: row.get(5)?,
                })
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(id: &str, inode: u64, tenant: &str) -> HeldMail {
        HeldMail {
            key: MailKey {
                queue: "postfix /etc/postfix".to_owned(),
                id: id.to_owned(),
                inode,
                arrived_us: 1_700_000_000_000_000,
            },
            tenant: tenant.to_owned(),
            place: String::new(),
        }
    }

    #[test]
    fn what_is_noted_is_there_in_the_next_life_until_it_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        drop(Ledger::open(directory.path()).unwrap());
        let mails = [
            mail("4F1", 7, "alice"),
            mail("4F1", u64::MAX, "alice"),
            mail("4F2", 8, "bob"),
        ];
        let mut book = HeldMailBook::new(directory.path());
        book.note(&mails).unwrap();
        // Whose it was first, stays.
        book.note(&[mail("4F2", 8, "carol")]).unwrap();
        drop(book);

        let mut book = HeldMailBook::new(directory.path());
        let mut held = book.held().unwrap();
        held.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(held.len(), 3);
        assert!(mails.iter().all(|mail| held.contains(mail)));
        let counts = held_counts(directory.path()).unwrap();
        assert_eq!((counts["alice"], counts["bob"]), (2, 1));
        let keys: Vec<MailKey> = mails[..2].iter().map(|mail| mail.key.clone()).collect();
        book.forget(&keys).unwrap();
        book.forget(&keys).unwrap();
        assert_eq!(book.held().unwrap(), mails[2..]);
    }

    #[test]
    fn it_works_beside_the_court() {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(directory.path()).unwrap();
        let mut book = HeldMailBook::new(directory.path());
        book.note(&[mail("1", 1, "alice")]).unwrap();
        let page = ledger.begin().unwrap();
        // While the court writes, it is read all the same.
        assert_eq!(book.held().unwrap().len(), 1);
        page.commit().unwrap();
        book.note(&[mail("2", 2, "alice")]).unwrap();
        assert_eq!(held_counts(directory.path()).unwrap()["alice"], 2);
    }

    #[test]
    fn without_a_record_book_it_fails_until_there_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let mut book = HeldMailBook::new(directory.path());
        assert!(book.held().is_err());
        assert!(held_counts(directory.path()).unwrap().is_empty());
        drop(Ledger::open(directory.path()).unwrap());
        assert!(book.held().unwrap().is_empty());
    }
}
