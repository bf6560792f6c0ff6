//! The queue of one instance of Postfix.
//!
//! What waits is in the directories `incoming`, `active` and `deferred`; `postsuper -h` moves it to
//! `hold`, where the queue manager does not look. The lists are read from the directories and the
//! owners from the queue files: one read of 4 KiB a message, once; asking `postqueue` and `postcat` would
//! start a process for each. Moving is left to `postsuper`.
//!
//! A message that is being delivered at the moment goes on to the end of the attempt. `postsuper` holds it
//! all the same, and recipients who got it are marked in the file, so that they do not get it again.

mod incoming;
mod queue_file;
mod records;

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File, FileTimes},
    io,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    HeldMail, Mail, MailKey, MailQueue, MtaError, Released,
    command::{self, run, run_silently},
    walk::{Found, Looked},
};

pub(super) use self::incoming::Incoming;

/// How many messages one command is given. `postsuper` looks for each in every directory.
const BATCH: usize = 1000;
/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Where messages wait, in the order in which they move on: one that moves meanwhile is seen twice
/// rather than not at all.
const WAITING: [&str; 3] = ["incoming", "active", "deferred"];

/// An instance of Postfix.
#[derive(Debug)]
pub struct Postfix {
    name: String,
    configuration: PathBuf,
    queue: PathBuf,
    postsuper: PathBuf,
    postkick: PathBuf,
    mail_owner: u32,
    depth: u32,
    lifetime: Duration,
    looked: Looked,
    known: HashMap<(String, u64), Known>,
}

#[derive(Clone, Debug)]
struct Known {
    mail: Mail,
    seen: bool,
}

impl Postfix {
    /// Asks `postconf` about the instance whose main.cf is in `configuration`.
    ///
    /// # Errors
    /// When it cannot be run, or says something unexpected.
    pub fn open(postconf: &Path, configuration: &Path) -> Result<Self, MtaError> {
        let mut command = Command::new(postconf);
        command.arg("-c").arg(configuration).args(["-hx"]).args([
            "queue_directory",
            "command_directory",
            "mail_owner",
            "hash_queue_depth",
            "maximal_queue_lifetime",
        ]);
        let said = run(&mut command, b"", LIMIT)?.success(&command)?;
        let answer = |expected| MtaError::Answer {
            command: command::words(&command),
            said: said.clone(),
            expected,
        };
        let mut lines = said.lines().map(str::trim);
        let mut line = || lines.next().filter(|line| !line.is_empty());
        let queue = PathBuf::from(line().ok_or_else(|| answer("queue_directory"))?);
        let commands = PathBuf::from(line().ok_or_else(|| answer("command_directory"))?);
        let owner = line().ok_or_else(|| answer("mail_owner"))?;
        let mail_owner = nix::unistd::User::from_name(owner)
            .ok()
            .flatten()
            .ok_or_else(|| answer("a mail_owner that exists"))?
            .uid
            .as_raw();
        let depth = line()
            .and_then(|depth| depth.parse().ok())
            .ok_or_else(|| answer("hash_queue_depth"))?;
        let lifetime = line()
            .and_then(seconds)
            .ok_or_else(|| answer("maximal_queue_lifetime"))?;
        Ok(Self {
            name: format!("postfix {}", configuration.display()),
            configuration: configuration.to_path_buf(),
            queue,
            postsuper: commands.join("postsuper"),
            postkick: commands.join("postkick"),
            mail_owner,
            depth,
            lifetime,
            looked: Looked::default(),
            known: HashMap::new(),
        })
    }

    /// The files in `directories`, and whether they change from here on.
    fn files(&self, directories: &[&str]) -> Result<(Vec<Found>, Looked), MtaError> {
        let mut looked = Looked::default();
        let mut files = Vec::new();
        for directory in directories {
            looked.list(&self.queue.join(directory), self.depth, &mut files)?;
        }
        Ok((files, looked))
    }

    /// Who brought the message in a file; none if it is gone, or not complete yet.
    fn read(&self, found: &Found) -> io::Result<Option<queue_file::QueueFile>> {
        let file = match File::open(&found.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        // cleanup(8) makes a file executable when it is complete.
        if !meta.is_file()
            || std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o100 == 0
        {
            return Ok(None);
        }
        queue_file::read(file, &found.name, self.mail_owner).map(Some)
    }

    /// Runs `postsuper` on these ids.
    fn postsuper(&self, what: &str, ids: &[String]) -> Result<(), MtaError> {
        for batch in ids.chunks(BATCH) {
            let mut command = Command::new(&self.postsuper);
            command.arg("-c").arg(&self.configuration).args([what, "-"]);
            let mut input = batch.join("\n");
            input.push('\n');
            run_silently(&mut command, input.as_bytes(), LIMIT)?.success(&command)?;
        }
        Ok(())
    }

    /// Wakes up one of Postfix's services. It is not an error if Postfix does not run: then it looks
    /// when it starts.
    fn kick(&self, service: &str, request: &str) {
        let mut command = Command::new(&self.postkick);
        command.arg("-c").arg(&self.configuration);
        command.args(["public", service, request]);
        match run_silently(&mut command, b"", LIMIT) {
            Ok(ended) if ended.code == 0 => {}
            Ok(ended) => log::info!(
                "{}: {service} was not woken up: {}",
                self.name,
                ended.said()
            ),
            Err(error) => log::info!("{}: {service} was not woken up: {error}", self.name),
        }
    }
}

impl MailQueue for Postfix {
    fn name(&self) -> &str {
        &self.name
    }

    fn changed(&mut self) -> bool {
        self.looked.changed()
    }

    fn list(&mut self) -> Result<Vec<Mail>, MtaError> {
        let (files, looked) = self.files(&WAITING)?;
        for known in self.known.values_mut() {
            known.seen = false;
        }
        let mut unfinished = false;
        for found in files {
            let key = (found.name.clone(), found.inode);
            if let Some(known) = self.known.get_mut(&key) {
                known.seen = true;
                continue;
            }
            let file = match self.read(&found) {
                Ok(Some(file)) => file,
                Ok(None) => {
                    unfinished = true;
                    continue;
                }
                Err(error) => {
                    log::debug!("{}: {error}", found.path.display());
                    // What is damaged stays so, and is nobody's.
                    if !is_damaged(&error) {
                        unfinished = true;
                        continue;
                    }
                    queue_file::QueueFile::default()
                }
            };
            let mail = Mail {
                key: MailKey {
                    queue: self.name.clone(),
                    id: found.name,
                    inode: found.inode,
                    arrived_us: file.arrived_us,
                },
                place: String::new(),
                origin: file.origin,
            };
            self.known.insert(key, Known { mail, seen: true });
        }
        self.known.retain(|_, known| known.seen);
        // A file that becomes complete changes no directory.
        self.looked = if unfinished {
            Looked::default()
        } else {
            looked
        };
        Ok(self
            .known
            .values()
            .map(|known| known.mail.clone())
            .collect())
    }

    fn hold(&mut self, mails: &[&Mail]) -> Result<Vec<MailKey>, MtaError> {
        let ids: Vec<String> = mails.iter().map(|mail| mail.key.id.clone()).collect();
        let result = self.postsuper("-h", &ids);
        let (held, _) = self.files(&["hold"])?;
        let held: BTreeSet<(String, u64)> = held
            .into_iter()
            .map(|found| (found.name, found.inode))
            .collect();
        result?;
        Ok(mails
            .iter()
            .filter(|mail| held.contains(&(mail.key.id.clone(), mail.key.inode)))
            .map(|mail| mail.key.clone())
            .collect())
    }

    fn release(&mut self, mails: &[HeldMail]) -> Result<Released, MtaError> {
        let (held, _) = self.files(&["hold"])?;
        let held: HashMap<(String, u64), Found> = held
            .into_iter()
            .map(|found| ((found.name.clone(), found.inode), found))
            .collect();
        let mut released = Released::default();
        let (mut go_on, mut anew) = (Vec::new(), Vec::new());
        let now = SystemTime::now();
        let too_long = self.lifetime / 2;
        for mail in mails {
            let found = held.get(&(mail.key.id.clone(), mail.key.inode));
            let file = found.and_then(|found| Some((found, self.read(found).ok()??)));
            let Some((found, file)) =
                file.filter(|(_, file)| file.arrived_us == mail.key.arrived_us)
            else {
                released.gone.push(mail.key.clone());
                continue;
            };
            released.done.push(mail.key.clone());
            let created =
                UNIX_EPOCH + Duration::from_secs(u64::try_from(file.created_s).unwrap_or(0));
            let age = now.duration_since(created).unwrap_or_default();
            if self.lifetime > Duration::ZERO && age > too_long {
                // What is older than the queue allows is returned after one more failure: it
                // begins anew instead.
                anew.push(mail.key.id.clone());
            } else {
                // The time of the file is that of the next attempt.
                let times = FileTimes::new().set_modified(now);
                if let Err(error) = File::open(&found.path).and_then(|file| file.set_times(times)) {
                    log::debug!("{}: {error}", found.path.display());
                }
                go_on.push(mail.key.id.clone());
            }
        }
        if !go_on.is_empty() {
            self.postsuper("-H", &go_on)?;
        }
        // What is gone may have been released by an agent that was killed before it said so.
        if !go_on.is_empty() || !released.gone.is_empty() {
            self.kick("qmgr", "D");
        }
        if !anew.is_empty() {
            self.postsuper("-r", &anew)?;
            self.kick("pickup", "W");
        }
        Ok(released)
    }
}

/// Whether the file was read, and is no queue file.
fn is_damaged(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

/// A time as main.cf has it: `5d`, `0`, `100` (days, for those that are asked for here).
fn seconds(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let unit = match text.get(digits.len()..)? {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "" | "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    number.checked_mul(unit).map(Duration::from_secs)
}

/// The instances whose main.cf is in one of `directories`.
pub(super) fn installed(directories: &[PathBuf]) -> impl Iterator<Item = &PathBuf> {
    directories
        .iter()
        .filter(|directory| fs::exists(directory.join("main.cf")).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_postfix_writes_them() {
        assert_eq!(seconds("5d"), Some(Duration::from_secs(432_000)));
        assert_eq!(seconds("5"), Some(Duration::from_secs(432_000)));
        assert_eq!(seconds("0"), Some(Duration::ZERO));
        assert_eq!(seconds("2w"), Some(Duration::from_secs(1_209_600)));
        assert_eq!(seconds("5x"), None);
        assert_eq!(seconds(""), None);
    }
}
