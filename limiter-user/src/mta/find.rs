//! Finds the mail servers of this machine.

use std::path::PathBuf;

use super::{
    Exim, MailQueue, MtaError, Postfix,
    postfix::{self, Incoming},
};

/// Where mail servers are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Directories of programs: `postconf`, `exim4`, `exim`. None is searched by the environment.
    pub programs: Vec<PathBuf>,
    /// Configuration directories of Postfix, one for each instance; those without a `main.cf` are
    /// not instances.
    pub postfix: Vec<PathBuf>,
    /// Configuration files of Exim; none: the one that it was built for.
    pub exim: Vec<PathBuf>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            programs: [
                "/usr/sbin",
                "/usr/local/sbin",
                "/usr/exim/bin",
                "/usr/bin",
                "/usr/local/bin",
            ]
            .map(PathBuf::from)
            .to_vec(),
            postfix: vec![PathBuf::from("/etc/postfix")],
            exim: Vec::new(),
        }
    }
}

/// What was found, and what was found and does not work.
#[derive(Default)]
pub struct Servers {
    /// The queues.
    pub queues: Vec<Box<dyn MailQueue>>,
    /// Why others cannot be used. They are to be looked for again.
    pub faults: Vec<MtaError>,
}

impl Places {
    /// Looks for mail servers. That none is there is no fault.
    #[must_use]
    pub fn find(&self) -> Servers {
        let mut servers = Servers::default();
        for directory in postfix::installed(&self.postfix) {
            let opened = self
                .program(&["postconf"])
                .and_then(|postconf| Postfix::open(&postconf, directory));
            servers.add(opened);
        }
        match self.program(&["exim4", "exim"]) {
            Ok(program) if self.exim.is_empty() => servers.add(Exim::open(&program, None)),
            Ok(program) => {
                for configuration in &self.exim {
                    servers.add(Exim::open(&program, Some(configuration)));
                }
            }
            Err(error) if !self.exim.is_empty() => servers.faults.push(error),
            Err(_) => {}
        }
        servers
    }

    /// Where the instances of Postfix take messages in, and why others are not known.
    pub(super) fn incoming(&self) -> (Vec<Incoming>, Vec<MtaError>) {
        let (mut found, mut faults) = (Vec::new(), Vec::new());
        for directory in postfix::installed(&self.postfix) {
            let opened = self
                .program(&["postconf"])
                .and_then(|postconf| Postfix::open(&postconf, directory));
            match opened {
                Ok(postfix) => found.push(Incoming::of(&postfix)),
                Err(fault) => faults.push(fault),
            }
        }
        (found, faults)
    }

    /// The first of these programs that is there.
    ///
    /// # Errors
    /// None is.
    pub fn program(&self, names: &[&'static str]) -> Result<PathBuf, MtaError> {
        self.programs
            .iter()
            .flat_map(|directory| names.iter().map(|name| directory.join(name)))
            .find(|path| path.is_file())
            .ok_or_else(|| MtaError::NotFound {
                program: names.first().copied().unwrap_or_default(),
                searched: self.programs.clone(),
            })
    }
}

impl Servers {
    fn add(&mut self, opened: Result<impl MailQueue + 'static, MtaError>) {
        match opened {
            Ok(queue) => self.queues.push(Box::new(queue)),
            Err(error) => self.faults.push(error),
        }
    }
}
