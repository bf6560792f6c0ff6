//! The doors of one service, opened and kept open: one that cannot be had is tried again until it can.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time};

use super::{
    callers::Callers,
    listen::{Caller, Door, DoorError, Stream, Visits},
};
use crate::policy::services::ServiceAddress;

/// How often a door that cannot be had is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The doors of one service. Dropping it closes them, and ends the conversations.
#[derive(Debug)]
pub struct Doors {
    doors: Vec<Arc<Mutex<State>>>,
    _stop: watch::Sender<()>,
}

#[derive(Debug)]
enum State {
    Shut(String),
    Open(Arc<Visits>),
}

impl Doors {
    /// Opens a door at each address, which `key` of the configuration names, and has `converse` talk with
    /// whoever is let in. All that can be had are open when this returns. Must be called in a tokio runtime,
    /// in the node's network namespace.
    pub fn open<C, F>(
        addresses: &[ServiceAddress],
        key: &'static str,
        callers: &Arc<Callers>,
        converse: C,
    ) -> Self
    where
        C: Fn(Box<dyn Stream>, Caller) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, stopped) = watch::channel(());
        let doors = addresses.iter().map(|address| {
            let address = address.clone();
            let callers = Arc::clone(callers);
            let open = move || Door::open(&address, key, Arc::clone(&callers));
            let first = open();
            let state = Arc::new(Mutex::new(State::of(&first)));
            tokio::spawn(keep(
                first,
                open,
                Arc::clone(&state),
                converse.clone(),
                stopped.clone(),
            ));
            state
        });
        Self {
            doors: doors.collect(),
            _stop: stop,
        }
    }

    /// Why doors are shut that should be open.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let shut = |state: &Arc<Mutex<State>>| match &*lock(state) {
            State::Shut(why) => Some(why.clone()),
            State::Open(_) => None,
        };
        self.doors.iter().filter_map(shut).collect()
    }

    /// What happens at those that are open.
    #[must_use]
    pub fn visits(&self) -> Vec<Arc<Visits>> {
        let visits = |state: &Arc<Mutex<State>>| match &*lock(state) {
            State::Open(visits) => Some(Arc::clone(visits)),
            State::Shut(_) => None,
        };
        self.doors.iter().filter_map(visits).collect()
    }
}

impl State {
    fn of(opened: &Result<Door, DoorError>) -> Self {
        match opened {
            Ok(door) => Self::Open(door.visits()),
            Err(error) => Self::Shut(error.to_string()),
        }
    }
}

async fn keep<C, F>(
    first: Result<Door, DoorError>,
    open: impl Fn() -> Result<Door, DoorError>,
    state: Arc<Mutex<State>>,
    converse: C,
    mut stopped: watch::Receiver<()>,
) where
    C: Fn(Box<dyn Stream>, Caller) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut opened = first;
    loop {
        match opened {
            Ok(door) => {
                // Nothing is ever sent: it ends when the sender is dropped.
                let stop = async move { while stopped.changed().await.is_ok() {} };
                door.serve(converse, stop).await;
                return;
            }
            Err(error) => log::debug!("trying again: {error}"),
        }
        tokio::select! {
            _ = stopped.changed() => return,
            () = time::sleep(AGAIN) => {}
        }
        opened = open();
        *lock(&state) = State::of(&opened);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, time::Instant};

    use tokio::{io::AsyncReadExt as _, net::TcpStream, runtime::Runtime};

    use super::*;

    #[test]
    fn one_that_is_taken_is_opened_later_and_closed_at_the_end() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = taken.local_addr().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let addresses = [ServiceAddress::Inet(at), ServiceAddress::Unix(path.clone())];
        Runtime::new().unwrap().block_on(async {
            let callers = Arc::new(Callers::new([nix::unistd::geteuid().as_raw()].into()));
            let talk = |mut stream: Box<dyn Stream>, _| async move {
                let _ = stream.read(&mut [0]).await;
            };
            let doors = Doors::open(&addresses, "services.policy", &callers, talk);
            assert_eq!(doors.visits().len(), 1);
            let faults = doors.faults();
            assert!(
                faults.len() == 1 && faults[0].contains("services.policy"),
                "{faults:?}"
            );
            drop(taken);
            let start = Instant::now();
            while !doors.faults().is_empty() {
                assert!(start.elapsed() < 4 * AGAIN);
                time::sleep(Duration::from_millis(50)).await;
            }
            let mut inside = TcpStream::connect(at).await.unwrap();
            drop(doors);
            assert_eq!(inside.read(&mut [0]).await.unwrap_or(0), 0);
            while path.exists() {
                assert!(start.elapsed() < 8 * AGAIN);
                time::sleep(Duration::from_millis(10)).await;
            }
        });
    }
}
