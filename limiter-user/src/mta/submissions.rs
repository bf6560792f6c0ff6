//! Who submitted a message that the mail server is just taking.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{Origin, Places, postfix::Incoming};

/// Mail servers are looked for at most so often.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Knows who brought messages.
pub trait Submissions: Send + Sync {
    /// Who brought the message with this queue id; none if no queue has it. May block for as long as
    /// reading a file takes, and now and then for as long as a short program runs.
    ///
    /// # Errors
    /// What the mail server wrote down cannot be read.
    fn submitted(&self, queue_id: &str) -> io::Result<Option<Origin>>;
}

/// The queues of all instances of Postfix. They are looked for when they are needed, and again, but not
/// all the time, when a message is in none.
#[derive(Debug)]
pub struct PostfixSubmissions {
    places: Places,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    queues: Vec<Incoming>,
    looked: Option<Instant>,
}

impl PostfixSubmissions {
    /// Those at these places.
    #[must_use]
    pub fn new(places: Places) -> Self {
        Self {
            places,
            known: Mutex::default(),
        }
    }

    /// The queues; fresh ones if they are to be looked for again, and it is time. Whether they are.
    fn queues(&self, again: bool) -> (Vec<Incoming>, bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let due = match known.looked {
            None => true,
            Some(looked) => again && looked.elapsed() > LOOK_AGAIN,
        };
        if due {
            let (queues, faults) = self.places.incoming();
            for fault in faults {
                log::warn!("{fault}");
            }
            known.queues = queues;
            known.looked = Some(Instant::now());
        }
        (known.queues.clone(), due)
    }
}

impl Submissions for PostfixSubmissions {
    fn submitted(&self, queue_id: &str) -> io::Result<Option<Origin>> {
        for again in [false, true] {
            let (queues, fresh) = self.queues(again);
            if again && !fresh {
                break;
            }
            let mut failed = None;
            for queue in &queues {
                match queue.submitted(queue_id) {
                    Ok(None) => {}
                    Ok(Some(found)) => return Ok(Some(found)),
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_mail_server_nobody_is_known() {
        let places = Places {
            programs: Vec::new(),
            postfix: Vec::new(),
            exim: Vec::new(),
        };
        let submissions = PostfixSubmissions::new(places);
        assert_eq!(submissions.submitted("A53F8AC21F2").unwrap(), None);
        assert_eq!(submissions.submitted("../../etc/passwd").unwrap(), None);
    }
}
