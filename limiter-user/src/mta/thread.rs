//! The thread in which queues are kept, so that nothing ever waits for a mail server.

use std::{
    collections::BTreeSet,
    io,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{HoldBook, MailQueue, QueueKeeper, Report, Tenants};

/// What the thread can be told.
enum Order<T> {
    Begin(BTreeSet<String>),
    Hold(String),
    Release(String),
    Tenants(T),
    Queues(Vec<Box<dyn MailQueue>>),
    Stop,
}

/// Tells the thread what to do; nothing here waits. Orders are carried out one after the other.
pub struct KeeperHandle<T> {
    orders: Sender<Order<T>>,
}

impl<T> Clone for KeeperHandle<T> {
    fn clone(&self) -> Self {
        Self {
            orders: self.orders.clone(),
        }
    }
}

impl<T> KeeperHandle<T> {
    /// See [`QueueKeeper::begin`].
    pub fn begin(&self, held: BTreeSet<String>) {
        self.send(Order::Begin(held));
    }

    /// See [`QueueKeeper::hold`].
    pub fn hold(&self, tenant: &str) {
        self.send(Order::Hold(tenant.to_owned()));
    }

    /// See [`QueueKeeper::release`].
    pub fn release(&self, tenant: &str) {
        self.send(Order::Release(tenant.to_owned()));
    }

    /// See [`QueueKeeper::set_tenants`].
    pub fn set_tenants(&self, tenants: T) {
        self.send(Order::Tenants(tenants));
    }

    /// See [`QueueKeeper::set_queues`].
    pub fn set_queues(&self, queues: Vec<Box<dyn MailQueue>>) {
        self.send(Order::Queues(queues));
    }

    fn send(&self, order: Order<T>) {
        // The thread ends only with its owner, and then there is nothing left to do.
        let _ = self.orders.send(order);
    }
}

/// The thread. Dropping it stops it, after the command that is running.
pub struct KeeperThread<T> {
    handle: KeeperHandle<T>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Tenants + 'static> KeeperThread<T> {
    /// Starts it. It sweeps every `interval` while any tenant's mail is held, and gives every report
    /// that is not quiet to `tell`, and the first one after a report with faults.
    ///
    /// # Errors
    /// When the system has no room for another thread.
    pub fn start<B: HoldBook + 'static>(
        mut keeper: QueueKeeper<T, B>,
        interval: Duration,
        mut tell: impl FnMut(Report) + Send + 'static,
    ) -> io::Result<Self> {
        let (orders, incoming) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("mail-queues".to_owned())
            .spawn(move || {
                let mut was_faulty = false;
                loop {
                    let order = if keeper.is_needed() {
                        incoming.recv_timeout(interval)
                    } else {
                        incoming.recv().map_err(RecvTimeoutError::from)
                    };
                    let report = match order {
                        Ok(Order::Begin(held)) => keeper.begin(held),
                        Ok(Order::Hold(tenant)) => keeper.hold(&tenant),
                        Ok(Order::Release(tenant)) => keeper.release(&tenant),
                        Ok(Order::Tenants(tenants)) => {
                            keeper.set_tenants(tenants);
                            keeper.sweep()
                        }
                        Ok(Order::Queues(queues)) => {
                            keeper.set_queues(queues);
                            keeper.sweep()
                        }
                        Err(RecvTimeoutError::Timeout) => keeper.sweep(),
                        Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                    };
                    if was_faulty || !report.is_quiet() {
                        was_faulty = !report.faults.is_empty();
                        tell(report);
                    }
                }
            })?;
        Ok(Self {
            handle: KeeperHandle { orders },
            thread: Some(thread),
        })
    }

    /// What it is told through.
    #[must_use]
    pub fn handle(&self) -> KeeperHandle<T> {
        self.handle.clone()
    }
}

impl<T> Drop for KeeperThread<T> {
    fn drop(&mut self) {
        self.handle.send(Order::Stop);
        if let Some(thread) = self.thread.take() {
            // It has told whatever went wrong.
            let _ = thread.join();
        }
    }
}
