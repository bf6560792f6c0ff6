//! Work on many items with all CPUs, results in the order of the items.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// More threads than this gain nothing: what follows is done by one.
const MAX_THREADS: usize = 8;

/// `work` on each of `items`, by as many threads as there are CPUs and items. A thread that cannot
/// be started is done without.
pub(super) fn map<I: Sync, O: Send>(items: &[I], work: impl Fn(&I) -> O + Sync) -> Vec<O> {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let threads = cpus.min(MAX_THREADS).min(items.len());
    let next = AtomicUsize::new(0);
    let share = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else {
                return done;
            };
            done.push((index, work(item)));
        }
    };
    let mut done = thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads)
            .filter_map(|_| thread::Builder::new().spawn_scoped(scope, share).ok())
            .collect();
        let mut done = share();
        for helper in helpers {
            match helper.join() {
                Ok(part) => done.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::map;

    #[test]
    fn results_are_in_order() {
        let items: Vec<usize> = (0..1_000).collect();
        assert_eq!(
            map(&items, |n| n * 2),
            items.iter().map(|n| n * 2).collect::<Vec<_>>()
        );
        assert_eq!(map(&[] as &[usize], |n| *n), Vec::<usize>::new());
    }
}
