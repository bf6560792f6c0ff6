//! Waiting for a disk that may never answer, only so long.

use std::{
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::sync_channel,
    },
    thread,
    time::Duration,
};

/// How many threads may wait for something that nobody waits for any more.
const MOST: usize = 32;

/// How many there are at work.
static AT_WORK: AtomicUsize = AtomicUsize::new(0);

/// Does `work` in a thread of its own, and waits so long for it. `None`: it is not done yet, and goes
/// on; or it was not begun, because too many others go on already.
pub fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    /// Counts itself, also where the work panics.
    struct Turn;
    impl Drop for Turn {
        fn drop(&mut self) {
            AT_WORK.fetch_sub(1, Ordering::AcqRel);
        }
    }

    let before = AT_WORK.fetch_add(1, Ordering::AcqRel);
    let turn = Turn;
    if before >= MOST {
        return None;
    }
    let (done, waits) = sync_channel(1);
    let thread = thread::Builder::new().name("disk".to_owned());
    let begun = thread.spawn(move || {
        let _turn = turn;
        // Whoever asked may have gone.
        let _ = done.send(work());
    });
    begun.ok()?;
    waits.recv_timeout(patience).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_answer_keeps_nobody_for_long() {
        let (release, held) = sync_channel::<()>(0);
        let never = within(Duration::from_millis(20), move || held.recv().is_ok());
        assert_eq!(never, None);
        assert_eq!(within(Duration::from_secs(10), || 7), Some(7));
        drop(release);
    }
}
