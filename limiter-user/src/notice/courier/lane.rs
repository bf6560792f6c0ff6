//! One lane: what is due, what is under way, what came of it.

use std::{collections::BTreeSet, sync::Arc};

use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};

use super::{
    CourierSettings, Shared, deliver,
    settle::{self, Word},
};
use crate::notice::{
    backoff::Failure,
    channel::{Channel, Lane},
    outbox::{Delivery, OutboxError},
    quota::Quota,
};

/// How many jobs of a lane are under way at once.
const fn at_once(lane: Lane) -> usize {
    match lane {
        Lane::Mail => 4,
        Lane::Webhook => 4,
        Lane::Exec => 2,
    }
}

/// How many deliveries are looked at at once beyond those under way: so many may be joined.
const LOOK: usize = 200;

/// A job that came to its end.
type Ended = (Vec<Delivery>, Arc<CourierSettings>, Result<String, Failure>);

struct Work {
    shared: Arc<Shared>,
    lane: Lane,
    jobs: JoinSet<Ended>,
    /// Whom the jobs, and the words that could not be written down yet, are about.
    busy: BTreeSet<i64>,
    unwritten: Vec<Word>,
    quota: Quota,
    /// Whether the quota knows what went out before the start.
    reminded: bool,
}

/// Works until `stopped` says so; then finishes what is under way.
pub(super) async fn run(shared: Arc<Shared>, lane: Lane, mut stopped: watch::Receiver<bool>) {
    let mut work = Work {
        shared,
        lane,
        jobs: JoinSet::new(),
        busy: BTreeSet::new(),
        unwritten: Vec::new(),
        quota: Quota::default(),
        reminded: lane != Lane::Mail,
    };
    let shared = Arc::clone(&work.shared);
    let [mail, webhook, exec] = &shared.wake;
    let wake = match lane {
        Lane::Mail => mail,
        Lane::Webhook => webhook,
        Lane::Exec => exec,
    };
    loop {
        work.write(Vec::new()).await;
        work.take().await;
        tokio::select! {
            Some(ended) = work.jobs.join_next() => work.settle(ended).await,
            () = wake.notified() => {}
            () = tokio::time::sleep(shared.poll) => {}
            // The sender is gone: the courier was dropped.
            () = async { let _ = stopped.wait_for(|stop| *stop).await; } => break,
        }
    }
    while let Some(ended) = work.jobs.join_next().await {
        work.settle(ended).await;
    }
    work.write(Vec::new()).await;
}

impl Work {
    /// Starts what is due and not under way.
    async fn take(&mut self) {
        let room = at_once(self.lane).saturating_sub(self.jobs.len());
        if room == 0 {
            return;
        }
        let (outbox, lane, now) = (
            Arc::clone(&self.shared.outbox),
            self.lane,
            self.shared.now(),
        );
        let limit = self.busy.len().saturating_add(LOOK);
        let remind = !self.reminded;
        let found = tokio::task::spawn_blocking(move || {
            let look = || {
                let mailed = if remind {
                    outbox.mailed(Quota::since(now))?
                } else {
                    Vec::new()
                };
                let due = outbox.due(lane, now, limit)?;
                Ok((mailed, due, outbox.backlog(lane)?))
            };
            look().map_err(|error: OutboxError| error.to_string())
        });
        let found = found.await.unwrap_or_else(|error| Err(error.to_string()));
        let due: Vec<Delivery> = match found {
            Ok((mailed, due, backlog)) => {
                self.quota.remember(mailed);
                self.reminded = true;
                let health = &self.shared.health;
                health.of(lane, |health| health.backlog = backlog);
                due
            }
            Err(error) => {
                log::error!(
                    "cannot read which notices by {} wait: {error}",
                    lane.as_str()
                );
                let health = &self.shared.health;
                health.of(lane, |health| health.outbox_error = Some(error));
                return;
            }
        };
        if self.unwritten.is_empty() {
            self.shared
                .health
                .of(lane, |health| health.outbox_error = None);
        }
        let due = due.into_iter().filter(|delivery| {
            !self.busy.contains(&delivery.id) && delivery.planned.channel.lane() == lane
        });
        let settings = self.shared.settings();
        let jobs: Vec<Vec<Delivery>> = if lane == Lane::Mail {
            let most = usize::try_from(settings.notices.mails_per_hour).unwrap_or(usize::MAX);
            let split = self.quota.split(due.collect(), most.max(1), room, now);
            let later = split.postponed.into_iter();
            let why = format!("no more than {most} mails an hour about a tenant to one address");
            let later = later.map(|(until, ids)| Word::Postponed {
                ids,
                until,
                why: why.clone(),
            });
            self.write(later.collect()).await;
            split.mails
        } else {
            due.take(room).map(|delivery| vec![delivery]).collect()
        };
        for job in jobs {
            self.busy.extend(job.iter().map(|delivery| delivery.id));
            let settings = Arc::clone(&settings);
            self.jobs.spawn(async move {
                let result = deliver::attempt(&settings, &job).await;
                (job, settings, result)
            });
        }
        let under_way = self.jobs.len();
        self.shared
            .health
            .of(lane, |health| health.under_way = under_way);
    }

    /// Writes down what came of a job.
    async fn settle(&mut self, ended: Result<Ended, JoinError>) {
        let (job, settings, result) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                // It stays busy until the next start: better late than over and over.
                log::error!("a notice by {} broke off: {error}", self.lane.as_str());
                return;
            }
        };
        if result.is_err()
            && let Some(first) = job.first().map(|delivery| &delivery.planned)
            && let Channel::Mail { to } = &first.channel
        {
            self.quota.give_back(to, &first.facts.tenant);
        }
        let words = settle::words(&self.shared, &settings, self.lane, &job, result);
        let told_others = words
            .iter()
            .any(|word| matches!(word, Word::GaveUp { also, .. } if !also.is_empty()));
        self.write(words).await;
        if told_others {
            let [mail, ..] = &self.shared.wake;
            mail.notify_one();
        }
        let under_way = self.jobs.len();
        self.shared
            .health
            .of(self.lane, |health| health.under_way = under_way);
    }

    /// Writes down `words`, and before them what could not be written down so far. Those whom they
    /// are about are busy until then: nothing is delivered again because a disk is full.
    async fn write(&mut self, words: Vec<Word>) {
        let mut all = std::mem::take(&mut self.unwritten);
        all.extend(words);
        self.busy.extend(all.iter().flat_map(Word::ids));
        let before = all.clone();
        self.unwritten = settle::write(&self.shared, self.lane, all).await;
        let left: BTreeSet<i64> = self.unwritten.iter().flat_map(Word::ids).copied().collect();
        for id in before.iter().flat_map(Word::ids) {
            if !left.contains(id) {
                self.busy.remove(id);
            }
        }
    }
}
