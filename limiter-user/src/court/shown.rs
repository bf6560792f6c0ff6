//! What whoever asks is shown: what was committed last. Nobody who looks at it waits for the disk.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::setting::{Clocks, Study};
use crate::{
    offence::{Book, Clock, Moment, Reading, Record, State},
    report::problem::Problem,
};

/// What is shown. Its lock is never held while something is written, or told to the kernel.
pub(super) struct Shown {
    inner: Mutex<Inner>,
    clocks: Arc<dyn Clocks>,
    /// Where the record book is.
    pub(super) state_dir: PathBuf,
}

struct Inner {
    records: BTreeMap<String, Record>,
    book: Arc<Book>,
    clock: Clock,
    problems: Vec<Problem>,
}

impl Shown {
    pub(super) fn new(
        state: &State,
        book: Arc<Book>,
        clocks: Arc<dyn Clocks>,
        state_dir: PathBuf,
    ) -> Self {
        let inner = Inner {
            records: state.records.clone(),
            book,
            clock: state.clock.clone(),
            problems: Vec::new(),
        };
        Self {
            inner: Mutex::new(inner),
            clocks,
            state_dir,
        }
    }

    /// Shows the records of `touched` as they are now.
    pub(super) fn show<'t>(&self, state: &State, touched: impl IntoIterator<Item = &'t String>) {
        let changed: Vec<(&String, Option<Record>)> = touched
            .into_iter()
            .map(|tenant| (tenant, state.records.get(tenant).cloned()))
            .collect();
        let mut inner = self.inner();
        for (tenant, record) in changed {
            match record {
                Some(record) => inner.records.insert(tenant.clone(), record),
                None => inner.records.remove(tenant),
            };
        }
        inner.clock = state.clock.clone();
    }

    /// Shows all records as they are now.
    pub(super) fn show_all(&self, state: &State) {
        let records = state.records.clone();
        let mut inner = self.inner();
        inner.records = records;
        inner.clock = state.clock.clone();
    }

    pub(super) fn set_book(&self, book: Arc<Book>) {
        self.inner().book = book;
    }

    pub(super) fn set_problems(&self, problems: Vec<Problem>) {
        self.inner().problems = problems;
    }

    pub(super) fn book(&self) -> Arc<Book> {
        Arc::clone(&self.inner().book)
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        self.inner().problems.clone()
    }

    /// The engine's time, without letting it pass.
    pub(super) fn now(&self) -> (Moment, Reading) {
        self.inner().now(&*self.clocks)
    }

    /// The record of a tenant, when it was looked at, and what the wall clock showed then.
    pub(super) fn record(&self, tenant: &str) -> (Record, Moment, Moment) {
        let inner = self.inner();
        let (now, reading) = inner.now(&*self.clocks);
        let record = inner.records.get(tenant).cloned();
        (record.unwrap_or_default(), now, reading.wall)
    }

    pub(super) fn study<T>(&self, look: impl FnOnce(&Study<'_>) -> T) -> T {
        let inner = self.inner();
        let (now, reading) = inner.now(&*self.clocks);
        look(&Study {
            records: &inner.records,
            book: &inner.book,
            now,
            wall: reading.wall,
        })
    }

    /// All of it, for trying out what would be.
    pub(super) fn state(&self) -> (State, Arc<Book>, Reading) {
        let inner = self.inner();
        let mut state = State::default();
        state.clock = inner.clock.clone();
        for (tenant, record) in &inner.records {
            state.restore(tenant, Some(record.clone()));
        }
        (state, Arc::clone(&inner.book), self.clocks.read())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn now(&self, clocks: &dyn Clocks) -> (Moment, Reading) {
        let reading = clocks.read();
        let mut clock = self.clock.clone();
        let now = clock.look(&reading, self.records.is_empty());
        (now, reading)
    }
}
