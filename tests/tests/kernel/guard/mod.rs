//! What the programs cost, in figures that mean the same on another day: how large they are, and how
//! long they run beside a program of known work. `cargo xtask guard` compares them with what it was.
//!
//! - [`sizes`]: instructions, of the object and as the kernel takes it.
//! - [`ratios`]: run times, in a lab; [`cases`] says on what, [`yardstick`] beside what.

mod cases;
mod connects;
mod packets;
mod ratios;
mod sizes;
mod yardstick;

use std::{env, fs};

use serde_json::json;

use crate::lab::in_lab;

/// The file that the figures are written to; they are only printed where it is not set.
const FILE: &str = "LIMITER_GUARD_FIGURES";

#[test]
fn every_program_is_measured() {
    let object = sizes::of_object();
    let programs = sizes::of_programs();
    in_lab(move |lab| {
        let ratios = ratios::measure(lab);
        lab.assert_sound();
        // Of the session the connection counted, and its one message.
        assert_eq!(lab.used("counted"), [1, 1], "connections, messages");
        for (what, found) in &ratios {
            assert!(found.is_finite() && *found > 0.0, "{what}: {found}");
        }
        let figures = json!({
            "kernel": kernel(),
            "object": object,
            "programs": programs,
            "ratios": ratios,
        });
        println!("{figures:#}");
        if let Some(file) = env::var_os(FILE) {
            fs::write(file, format!("{figures:#}\n")).unwrap();
        }
    });
}

/// By what sizes and times differ beside the programs: `6.18 x86_64`.
fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = release.trim().split('.');
    let [major, minor] = [parts.next().unwrap(), parts.next().unwrap()];
    let minor: String = minor.chars().take_while(char::is_ascii_digit).collect();
    format!("{major}.{minor} {}", env::consts::ARCH)
}
