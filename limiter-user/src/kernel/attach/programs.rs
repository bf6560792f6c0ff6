//! The programs of the layers that a node may do without: loaded when they are first needed, so
//! that one that the kernel refuses takes nothing else with it.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, BorrowedFd},
    sync::OnceLock,
};

use aya::{
    Ebpf,
    programs::{ProgramError, ProgramType},
};
use limiter_common::abi::programs;
use log::{debug, error};

use crate::kernel::{KernelError, verifier};

/// All programs but those that connect sockets and the one that runs commands.
pub const OPTIONAL: [&str; 9] = [
    programs::SOCKET,
    programs::MAILBOX,
    programs::GUEST,
    programs::GUEST_L3,
    programs::UPLINK,
    programs::UPLINK_L3,
    programs::EDGE,
    programs::EDGE_TC,
    programs::EDGE_TC_L3,
];

/// Those that can be needed within a second: for an interface that appears, for a sanction. The
/// verifier may take that long itself.
const SOON: [&str; 4] = [
    programs::GUEST,
    programs::UPLINK,
    programs::SOCKET,
    programs::EDGE,
];

/// How much of what the verifier says is passed on: its last words say why.
const LAST_WORDS: usize = 400;

/// What is known of the programs.
#[derive(Debug, Default)]
pub struct Programs {
    /// Their ids.
    ids: BTreeMap<&'static str, u32>,
    /// Why the kernel refused them.
    refused: BTreeMap<&'static str, String>,
}

impl Programs {
    /// Loads those that can be needed soon, several at once. One that the kernel refuses is said
    /// where it is needed.
    pub fn prepare(&mut self, ebpf: &mut Ebpf) {
        let names = SOON.map(in_object);
        for loaded in verifier::load_all(ebpf, &names) {
            let Some(place) = names.iter().position(|name| *name == loaded.name) else {
                continue;
            };
            let name = SOON[place];
            match loaded.result {
                Ok(_) => debug!("{name}: loaded in {:?}", loaded.took),
                Err(error) => {
                    let _ = self.refuse(name, &KernelError::program(name)(error));
                }
            }
        }
    }

    /// Remembers that the kernel refuses a program, and why.
    fn refuse(&mut self, name: &'static str, error: &KernelError) -> KernelError {
        let why = last_words(&error.to_string());
        error!("{name} is not available: {error}");
        self.refused.insert(name, why.clone());
        KernelError::Refused { program: name, why }
    }

    /// The program and its id, loaded if it was not. One that was refused is not tried again.
    ///
    /// # Errors
    ///
    /// The kernel refuses it, or this build has none of that name.
    pub fn get<'a>(
        &mut self,
        ebpf: &'a mut Ebpf,
        name: &'static str,
    ) -> Result<(BorrowedFd<'a>, u32), KernelError> {
        if let Some(why) = self.refused.get(name) {
            return Err(KernelError::Refused {
                program: name,
                why: why.clone(),
            });
        }
        let id = match self.ids.get(name) {
            Some(id) => *id,
            None => match load(ebpf, name) {
                Ok(id) => {
                    self.ids.insert(name, id);
                    id
                }
                Err(error) => return Err(self.refuse(name, &error)),
            },
        };
        let program = ebpf.program(&in_object(name));
        let program = program.ok_or(ProgramError::NotLoaded);
        let fd = program.and_then(|program| program.fd());
        let fd = fd.map_err(KernelError::program(name))?;
        Ok((fd.as_fd(), id))
    }
}

/// Loads a program, if it is not yet, and gives its id.
///
/// # Errors
///
/// The kernel refuses it, or this build has none of that name.
pub fn load(ebpf: &mut Ebpf, name: &'static str) -> Result<u32, KernelError> {
    let program = ebpf
        .program_mut(&in_object(name))
        .ok_or(KernelError::NoProgram { program: name })?;
    if program.fd().is_err() {
        verifier::load_one(program).map_err(KernelError::program(name))?;
        debug!("{name}: loaded");
    }
    let info = program.info().map_err(KernelError::program(name))?;
    Ok(info.id())
}

/// Those that read sessions. They are there twice, for kernels with and without `bpf_loop`.
const READERS: [&str; 5] = [
    programs::SOCKET,
    programs::GUEST,
    programs::GUEST_L3,
    programs::UPLINK,
    programs::UPLINK_L3,
];

/// What a program is called in the object.
pub fn in_object(name: &str) -> String {
    if READERS.contains(&name) && !has_loop() {
        format!("{name}{}", programs::PLAIN)
    } else {
        name.to_owned()
    }
}

/// Whether this kernel could be given the program of the object with this name: one without
/// `bpf_loop` takes none that mentions it.
pub fn suits(name: &str) -> bool {
    has_loop() || !READERS.contains(&name)
}

fn has_loop() -> bool {
    static HAS_LOOP: OnceLock<bool> = OnceLock::new();
    *HAS_LOOP.get_or_init(|| {
        let helper = aya_obj::generated::bpf_func_id::BPF_FUNC_loop;
        aya::sys::is_helper_supported(ProgramType::SchedClassifier, helper).unwrap_or(false)
    })
}

/// The end of a long text, in one line.
fn last_words(text: &str) -> String {
    let all: Vec<&str> = text.split_whitespace().collect();
    let text = all.join(" ");
    let mut from = text.len().saturating_sub(LAST_WORDS);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    match from {
        0 => text,
        from => format!("… {}", &text[from..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_says_why() {
        assert_eq!(last_words("a\n  b"), "a b");
        let long = format!("{}ö the end", "xö".repeat(400));
        let short = last_words(&long);
        assert!(
            short.starts_with("… ") && short.ends_with("the end"),
            "{short}"
        );
        assert!(short.len() <= LAST_WORDS + 4, "{}", short.len());
    }
}
