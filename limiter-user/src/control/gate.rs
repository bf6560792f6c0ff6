//! How many connections there may be, so that nobody can use up the agent's descriptors, threads
//! or memory.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Semaphore;

/// Bounds on connections.
#[derive(Clone, Copy, Debug)]
pub struct GateLimits {
    /// Of one uid.
    pub per_uid: usize,
    /// Of everybody but root, so that root always gets in.
    pub others: usize,
    /// How many questions that read the whole node or the history are answered at once.
    pub heavy: usize,
}

/// Lets connections in.
#[derive(Debug)]
pub struct Gate {
    limits: GateLimits,
    inside: Mutex<HashMap<u32, usize>>,
    /// Taken while the whole node or the history is read.
    pub heavy: Arc<Semaphore>,
    /// Taken while somebody for whom there is no place is told so.
    pub turning_away: Arc<Semaphore>,
}

/// A place for one connection and whatever it set going; given back when dropped.
#[derive(Debug)]
pub struct Pass {
    gate: Arc<Gate>,
    uid: u32,
}

impl Gate {
    /// A gate with these bounds.
    pub fn new(limits: GateLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            inside: Mutex::new(HashMap::new()),
            heavy: Arc::new(Semaphore::new(limits.heavy)),
            turning_away: Arc::new(Semaphore::new(limits.per_uid)),
        })
    }

    /// A place for a connection of `uid`; `None` when there are too many.
    pub fn enter(self: &Arc<Self>, uid: u32) -> Option<Pass> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let own = inside.get(&uid).copied().unwrap_or(0);
        let others: usize = inside
            .iter()
            .filter(|(uid, _)| **uid != 0)
            .map(|(_, count)| count)
            .sum();
        if own >= self.limits.per_uid || (uid != 0 && others >= self.limits.others) {
            return None;
        }
        inside.insert(uid, own + 1);
        Some(Pass {
            gate: Arc::clone(self),
            uid,
        })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inside = self
            .gate
            .inside
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = inside.get_mut(&self.uid) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                inside.remove(&self.uid);
            }
        }
    }
}
