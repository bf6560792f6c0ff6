//! The queue of Exim.
//!
//! Held mail is moved to a named queue of its own, `limiter`, which no queue runner looks into unless
//! it is told to by that name. Freezing would not do: frozen messages are thawed by `auto_thaw` and
//! `-qff`, and after `timeout_frozen_after` (seven days as Debian ships it) returned or thrown away, as by
//! the many scripts that delete whatever is frozen. What an administrator froze himself stays frozen in
//! the named queue and when it returns. To look at it: `exim -qGlimiter -bp`.
//!
//! A message that is being delivered is locked, and moved by a later look.

mod spool_file;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::{
    HeldMail, Mail, MailKey, MailQueue, MtaError, Released,
    command::{self, run, run_silently},
    walk::{Found, Looked},
};

/// The named queue where held mail is.
pub const HOLD_QUEUE: &str = "limiter";
/// How many messages one command is given.
const BATCH: usize = 500;
/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How much of a header file is read: its variables are at the beginning.
const MOST_READ: u64 = 16 << 10;

/// An Exim.
#[derive(Debug)]
pub struct Exim {
    name: String,
    program: PathBuf,
    configuration: Option<PathBuf>,
    spool: PathBuf,
    looked: Looked,
    known: HashMap<(String, String), Known>,
}

#[derive(Debug)]
struct Known {
    mail: Mail,
    seen: bool,
}

impl Exim {
    /// Asks the Exim `program` where its spool is, with this configuration or the one it was built for.
    ///
    /// # Errors
    /// When it cannot be run, or says something unexpected.
    pub fn open(program: &Path, configuration: Option<&Path>) -> Result<Self, MtaError> {
        let mut exim = Self {
            name: match configuration {
                Some(path) => format!("exim {}", path.display()),
                None => "exim".to_owned(),
            },
            program: program.to_path_buf(),
            configuration: configuration.map(Path::to_path_buf),
            spool: PathBuf::new(),
            looked: Looked::default(),
            known: HashMap::new(),
        };
        let mut command = exim.command();
        command.args(["-bP", "spool_directory"]);
        let said = run(&mut command, b"", LIMIT)?.success(&command)?;
        let spool = said.trim().split_once(" = ").map(|(_, spool)| spool);
        exim.spool = spool
            .filter(|spool| spool.starts_with('/'))
            .map(PathBuf::from)
            .ok_or_else(|| MtaError::Answer {
                command: command::words(&command),
                said: said.clone(),
                expected: "spool_directory = /…",
            })?;
        Ok(exim)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(configuration) = &self.configuration {
            command.arg("-C").arg(configuration);
        }
        command
    }

    /// The directory of the queue `place`; the usual one has no name.
    fn input(&self, place: &str) -> PathBuf {
        self.spool.join(place).join("input")
    }

    /// The names of the queues besides the usual one and ours.
    fn named_queues(&self) -> Result<Vec<String>, MtaError> {
        let failed = |source| MtaError::Read {
            path: self.spool.clone(),
            source,
        };
        let mut names = Vec::new();
        let entries = match fs::read_dir(&self.spool) {
            Ok(entries) => entries,
            // Installed, and never used.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if let Ok(name) = entry.file_name().into_string()
                && name != HOLD_QUEUE
                && entry.path().join("input").is_dir()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// The ids of the messages in a queue, with their header files.
    fn headers(&self, place: &str, looked: &mut Looked) -> Result<Vec<(String, Found)>, MtaError> {
        let mut files = Vec::new();
        looked.list(&self.input(place), 1, &mut files)?;
        Ok(files
            .into_iter()
            .filter_map(|found| Some((found.name.strip_suffix("-H")?.to_owned(), found)))
            .collect())
    }

    /// The messages that are in our own queue.
    fn held(&self) -> Result<HashMap<String, Found>, MtaError> {
        let headers = self.headers(HOLD_QUEUE, &mut Looked::default())?;
        Ok(headers.into_iter().collect())
    }

    /// Moves messages from one queue to another. Those that are locked or gone stay where they are.
    fn move_to(&self, from: &str, to: &str, ids: &[String]) -> Result<(), MtaError> {
        for batch in ids.chunks(BATCH) {
            let mut command = self.command();
            if !from.is_empty() {
                command.arg(format!("-qG{from}"));
            }
            command.args(["-MG", to]).args(batch);
            let ended = run_silently(&mut command, b"", LIMIT)?;
            if ended.code != 0 && ended.said().contains("incomplete option") {
                return Err(MtaError::NoNamedQueues {
                    program: self.program.clone(),
                    said: ended.said(),
                });
            }
            // Any other failure is that of single messages, whose files say more.
            if ended.code != 0 {
                log::debug!("{}: {}", command::words(&command), ended.said());
            }
        }
        Ok(())
    }
}

impl MailQueue for Exim {
    fn name(&self) -> &str {
        &self.name
    }

    fn changed(&mut self) -> bool {
        self.looked.changed()
    }

    fn list(&mut self) -> Result<Vec<Mail>, MtaError> {
        for known in self.known.values_mut() {
            known.seen = false;
        }
        let mut looked = Looked::default();
        // A new named queue is noticed by the directory that it comes to.
        looked.list(&self.spool, 0, &mut Vec::new())?;
        let mut unread = false;
        let named = self.named_queues()?;
        for place in std::iter::once(String::new()).chain(named) {
            for (id, found) in self.headers(&place, &mut looked)? {
                let key = (place.clone(), id.clone());
                if let Some(known) = self.known.get_mut(&key) {
                    known.seen = true;
                    continue;
                }
                let file = match read(&found.path, &id) {
                    Ok(file) => file,
                    Err(error) => {
                        if error.kind() != io::ErrorKind::NotFound {
                            log::debug!("{}: {error}", found.path.display());
                        }
                        unread = true;
                        continue;
                    }
                };
                let mail = Mail {
                    key: MailKey {
                        queue: self.name.clone(),
                        id,
                        inode: 0,
                        arrived_us: file.arrived_us,
                    },
                    place: place.clone(),
                    origin: file.origin,
                };
                self.known.insert(key, Known { mail, seen: true });
            }
        }
        self.known.retain(|_, known| known.seen);
        self.looked = if unread { Looked::default() } else { looked };
        Ok(self
            .known
            .values()
            .map(|known| known.mail.clone())
            .collect())
    }

    fn hold(&mut self, mails: &[&Mail]) -> Result<Vec<MailKey>, MtaError> {
        let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for mail in mails {
            let ids = places.entry(&mail.place).or_default();
            ids.push(mail.key.id.clone());
        }
        for (place, ids) in places {
            self.move_to(place, HOLD_QUEUE, &ids)?;
        }
        let held = self.held()?;
        Ok(mails
            .iter()
            .filter(|mail| held.contains_key(&mail.key.id))
            .map(|mail| mail.key.clone())
            .collect())
    }

    fn release(&mut self, mails: &[HeldMail]) -> Result<Released, MtaError> {
        let held = self.held()?;
        let mut released = Released::default();
        let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut moved = Vec::new();
        for mail in mails {
            let file = held
                .get(&mail.key.id)
                .and_then(|found| read(&found.path, &mail.key.id).ok());
            if file.is_some_and(|file| file.arrived_us == mail.key.arrived_us) {
                let ids = places.entry(&mail.place).or_default();
                ids.push(mail.key.id.clone());
                moved.push(&mail.key);
            } else {
                released.gone.push(mail.key.clone());
            }
        }
        for (place, ids) in places {
            self.move_to(HOLD_QUEUE, place, &ids)?;
        }
        let left: HashSet<String> = self.held()?.into_keys().collect();
        released.done.extend(
            moved
                .into_iter()
                .filter(|key| !left.contains(&key.id))
                .cloned(),
        );
        Ok(released)
    }
}

fn read(path: &Path, id: &str) -> io::Result<spool_file::SpoolFile> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST_READ).read_to_end(&mut bytes)?;
    spool_file::read(&String::from_utf8_lossy(&bytes), id)
}
