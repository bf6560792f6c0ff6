//! What can go wrong between the agent and the kernel, and what to do about it.

use std::{io, path::PathBuf};

use aya::{EbpfError, maps::MapError, pin::PinError, programs::ProgramError};
use thiserror::Error;

use super::verifier::refusal;

/// What can go wrong between the agent and the kernel.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The agent was built without the kernel programs.
    #[error(
        "this binary holds no kernel programs: build it with `cargo xtask build`, which needs the \
         BPF tool chain (`cargo xtask setup`)"
    )]
    NoObject,
    /// The kernel refused the object.
    #[error("the kernel refused the programs: {0}; `limiter doctor` says what is missing")]
    Load(#[from] EbpfError),
    /// A program could not be loaded or attached.
    #[error(
        "program {program}: {}; `limiter doctor` says what the kernel lacks",
        refusal(source)
    )]
    Program {
        /// Its name.
        program: &'static str,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
    /// A map could not be read or written.
    #[error("map {map}: cannot {action}: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: Box<MapError>,
    },
    /// Something could not be pinned.
    #[error("cannot pin {}: {source}", path.display())]
    Pin {
        /// Where to.
        path: PathBuf,
        /// What the kernel said.
        source: Box<PinError>,
    },
    /// A file or directory could not be used.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The pin directory is not safe to use.
    #[error(
        "{} {problem}: whoever can write there can open the gate; remove it or give it to root \
         with mode 0700, then start again", path.display()
    )]
    UnsafePins {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Another process keeps what is pinned there.
    #[error(
        "a running agent holds {}: stop it first (systemctl stop limiter); two agents for two \
         parts of a node need a `pin_dir` each", path.display()
    )]
    InUse {
        /// The pin directory.
        path: PathBuf,
    },
    /// A pinned map is not what this version expects.
    #[error(
        "the pinned map {} has {found}, this version needs {needed}: it belongs to something else; \
         `limiter detach` removes it (mail is not limited until the agent runs again)", path.display()
    )]
    ForeignPin {
        /// The pin.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What was expected.
        needed: String,
    },
    /// The policy needs more room than the maps in the kernel have.
    #[error(
        "{needed} {what} do not fit: the maps in the kernel hold {room}; the policy in force stays. \
         To make room: `limiter detach`, then start the agent again (counts start at zero)"
    )]
    NoRoom {
        /// What does not fit.
        what: &'static str,
        /// How many there are.
        needed: usize,
        /// How many fit.
        room: usize,
    },
    /// The kernel's type information lacks something.
    #[error("the kernel's type information (/sys/kernel/btf/vmlinux): {0}")]
    Btf(String),
    /// A file system that is needed is not mounted.
    #[error(transparent)]
    Mount(#[from] crate::system::mounts::MountError),
    /// A command was refused by the kernel program.
    #[error("the kernel program refused to {action}: {reason}")]
    Command {
        /// What was asked.
        action: &'static str,
        /// Why it was refused.
        reason: String,
    },
    /// A system call failed.
    #[error("{call}: {source}")]
    Syscall {
        /// Which.
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program that the agent can do without was refused when it was first needed.
    #[error("{program} is not available on this kernel: {why}")]
    Refused {
        /// Its name.
        program: &'static str,
        /// What the kernel said, its last words.
        why: String,
    },
    /// A program is not part of this build.
    #[error("this build of limiter has no program {program}")]
    NoProgram {
        /// Its name.
        program: &'static str,
    },
    /// Nothing is known to attach a program there with.
    #[error("there is no way to attach to {target}")]
    NoWay {
        /// Where to.
        target: String,
    },
    /// Somebody else's queueing discipline is where ours would be.
    #[error(
        "interface {ifindex} has an `ingress` discipline of somebody else, which leaves no room \
         for filters on what goes out; a kernel with TCX (6.6) needs none"
    )]
    NoRoomAt {
        /// The interface.
        ifindex: u32,
    },
    /// Nothing is pinned: no agent ran here, or `detach` removed everything.
    #[error("nothing is pinned in {}: limiter is not in force on this node", path.display())]
    NotPinned {
        /// Where pins would be.
        path: PathBuf,
    },
}

impl KernelError {
    /// The program that it is about, if it is about one.
    pub(super) fn about(&self) -> Option<&'static str> {
        match self {
            Self::Program { program, .. }
            | Self::Refused { program, .. }
            | Self::NoProgram { program } => Some(program),
            _ => None,
        }
    }

    /// Wraps a map error.
    pub(super) fn map(map: &'static str, action: &'static str) -> impl FnOnce(MapError) -> Self {
        move |source| Self::Map {
            map,
            action,
            source: Box::new(source),
        }
    }

    /// Wraps a program error.
    pub(super) fn program(program: &'static str) -> impl FnOnce(ProgramError) -> Self {
        move |source| Self::Program {
            program,
            source: Box::new(source),
        }
    }

    /// Wraps a file error.
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
