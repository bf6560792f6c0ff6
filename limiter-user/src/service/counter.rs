//! The thread that answers mail servers, and does nothing else.
//!
//! A question is answered within microseconds, most of which go into waking whoever waits. On one thread
//! nobody else is woken in between, and many questions that came at once are answered one after the other.

use std::{io, thread};

use tokio::{
    runtime::{Builder, EnterGuard, Handle},
    sync::oneshot,
};

/// The thread. Dropping it ends whatever runs there, and returns when that is over.
#[derive(Debug)]
pub struct Counter {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Counter {
    /// Starts it, in the calling thread's network namespace.
    ///
    /// # Errors
    /// The system has no thread, or no descriptor, left.
    pub fn open() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("mail-counter".to_owned())
            .spawn(move || {
                // An error is a counter that was dropped.
                let _ = runtime.block_on(stopped);
            })?;
        Ok(Self {
            handle,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// What is spawned, and opened, as long as the guard is held belongs to this thread.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread that answers mail servers panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    /// Says when it is dropped, and where.
    struct Last(mpsc::Sender<Option<String>>);

    impl Drop for Last {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().name().map(str::to_owned));
        }
    }

    #[test]
    fn what_runs_there_is_over_when_it_is_dropped() {
        let counter = Counter::open().unwrap();
        let (ended, when) = mpsc::channel();
        let (begun, ran) = mpsc::channel();
        let last = Last(ended);
        {
            let _here = counter.enter();
            tokio::spawn(async move {
                let _last = last;
                begun
                    .send(thread::current().name().map(str::to_owned))
                    .unwrap();
                tokio::time::sleep(Duration::from_secs(3600)).await;
            });
        }
        let name = Some("mail-counter".to_owned());
        assert_eq!(ran.recv().unwrap(), name);
        assert!(when.try_recv().is_err());
        drop(counter);
        assert_eq!(when.try_recv(), Ok(name));
    }
}
