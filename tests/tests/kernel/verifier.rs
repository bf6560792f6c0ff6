//! How much the verifier has to look at, and how long that takes.

use std::{fs, time::Instant};

use crate::lab::{Lab, NEEDS, in_netns};

/// The kernel gives up at a million instructions, before 5.2 at 128 thousand; what is far below
/// leaves room for kernels that follow more ways.
const MOST: u64 = 400_000;

#[test]
fn the_verifier_has_room() {
    in_netns(|| {
        let mut lab = Lab::new();
        let start = Instant::now();
        lab.load(NEEDS).unwrap();
        println!("loaded in {:?}", start.elapsed());
        let programs = loaded_programs();
        assert_eq!(programs.len(), 3, "two hooks and the command program");
        for (kind, verified) in programs {
            println!("program of type {kind}: {verified} instructions verified");
            assert!(verified > 0 && verified < MOST, "type {kind}: {verified}");
        }
    });
}

/// Type and instructions verified of the programs that this process has open.
fn loaded_programs() -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fdinfo").unwrap().flatten() {
        // Descriptors come and go while they are listed.
        let Ok(text) = fs::read_to_string(entry.path()) else {
            continue;
        };
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse().ok()
        };
        if let (Some(kind), Some(verified)) = (field("prog_type:"), field("verified_insns:")) {
            found.push((kind, verified));
        }
    }
    found
}
