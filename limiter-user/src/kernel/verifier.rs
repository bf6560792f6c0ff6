//! What the kernel's verifier makes of the programs: how much it has to look at, for how long, and
//! why it refuses one.

use std::{
    fmt::Write as _,
    num::NonZero,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    programs::{Program, ProgramError},
};

use super::{KernelError, attach, load};

/// How many lines of what the verifier says are passed on: the last say why.
const LAST_LINES: usize = 10;

/// How much of a line is shown, characters: those with the state of all registers are long.
const LINE: usize = 160;

/// At how many programs the verifier looks at once at most: a node has other things to do.
const AT_ONCE: usize = 4;

/// What came of one program.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Its name in the object.
    pub program: String,
    /// How long it took, also to compile it.
    pub took: Duration,
    /// How large it is. Or why it was refused, in lines.
    pub result: Result<Size, String>,
}

/// How large a program is, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// How many instructions the verifier followed; none where the kernel does not say (before 5.16).
    pub verified: Option<u32>,
    /// Of how many instructions it consists once what is never reached is gone; none where the kernel
    /// does not show them.
    pub translated: Option<u32>,
    /// How many bytes the machine's own instructions take; 0 where programs are interpreted.
    pub jited: u32,
}

/// Loads every program of the object that this kernel could be given, and lets them go again.
/// Nothing is pinned or attached.
///
/// # Errors
///
/// The object or its maps cannot be loaded.
pub fn verify_all() -> Result<Vec<Verified>, KernelError> {
    let mut ebpf = load::open(load::LEAST, None)?;
    let names: Vec<String> = ebpf
        .programs()
        .map(|(name, _)| name.to_owned())
        .filter(|name| attach::suits(name))
        .collect();
    let mut all: Vec<Verified> = load_all(&mut ebpf, &names)
        .into_iter()
        .map(|Loaded { name, took, result }| Verified {
            program: name,
            took,
            result: result.map_err(|error| refusal(&error)),
        })
        .collect();
    all.sort_by(|one, other| one.program.cmp(&other.program));
    Ok(all)
}

/// A program that was tried.
pub(super) struct Loaded {
    /// Its name in the object.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// How large it is, or why the kernel refused it.
    pub result: Result<Size, ProgramError>,
}

/// Loads those of these programs that are not loaded yet, several at once: the verifier takes a
/// second for one, and does not care for others. Names that the object has not are left out.
pub(super) fn load_all(ebpf: &mut Ebpf, names: &[String]) -> Vec<Loaded> {
    let wanted: Vec<(String, &mut Program)> = ebpf
        .programs_mut()
        .filter(|(name, program)| names.iter().any(|one| one == name) && program.fd().is_err())
        .map(|(name, program)| (name.to_owned(), program))
        .collect();
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = processors.min(AT_ONCE).min(wanted.len());
    let queue = Mutex::new(wanted.into_iter());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((name, program)) = next else { return };
                    let start = Instant::now();
                    let result = load_one(program).and_then(|()| size(program));
                    let took = start.elapsed();
                    done.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(Loaded { name, took, result });
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Loads one.
///
/// # Errors
///
/// The kernel refuses it, or it is of a kind that the product has none of.
pub(super) fn load_one(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::SchedClassifier(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::Xdp(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn size(program: &Program) -> Result<Size, ProgramError> {
    /// Bytes of an instruction.
    const INSTRUCTION: u32 = 8;
    let info = program.info()?;
    Ok(Size {
        verified: info.verified_instruction_count(),
        translated: info.size_translated().map(|bytes| bytes / INSTRUCTION),
        jited: info.size_jitted(),
    })
}

/// Why a program was refused, in few lines: of the verifier's many thousand the last ones.
pub(super) fn refusal(error: &ProgramError) -> String {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return error.to_string();
    };
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        return format!("{io_error}; the verifier says nothing");
    }
    let mut text = format!("{io_error}; the verifier's last words:");
    for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
        let shown: String = line.trim_end().chars().take(LINE).collect();
        // Writing to a string does not fail.
        let _ = write!(text, "\n{shown}");
        if shown.len() < line.trim_end().len() {
            text.push('…');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use aya_obj::VerifierLog;

    use super::*;

    fn refused(log: String) -> String {
        refusal(&ProgramError::LoadError {
            io_error: io::Error::from_raw_os_error(libc::EACCES),
            verifier_log: VerifierLog::new(log),
        })
    }

    #[test]
    fn the_end_says_why() {
        let mut log: String = (0..5_000)
            .map(|n| format!("{n}: (bf) r1 = r2 ; R1_w={}\n", "x".repeat(n)))
            .collect();
        log.push_str("math between map_value pointer and register\n\nprocessed 29 insns\n");
        let said = refused(log);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 1 + LAST_LINES, "{said}");
        assert!(lines[0].starts_with("Permission denied"), "{said}");
        assert!(lines[1].starts_with("4992: (bf)"), "{said}");
        assert!(lines[1].ends_with("x…"), "{said}");
        assert_eq!(lines[9], "math between map_value pointer and register");
        assert_eq!(lines[10], "processed 29 insns");
        assert!(said.len() < 2_000, "{}", said.len());
    }

    #[test]
    fn a_silent_verifier_is_said() {
        let said = refused("\n".to_owned());
        assert!(said.ends_with("the verifier says nothing"), "{said}");
        assert_eq!(
            refusal(&ProgramError::NotLoaded),
            "the program is not loaded"
        );
    }
}
