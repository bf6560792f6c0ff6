//! Hands the kernel object to the crate, or an empty stub where it has not been built.
//!
//! The object is `$LIMITER_BPF_OBJECT`, else `target/bpf/limiter.o` of the workspace, where
//! `cargo xtask build` leaves it. With the stub everything compiles and all but the kernel can be
//! tested with stable Rust alone; the loader finds no bytes and names the command to run.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("limiter.o");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIMITER_BPF_OBJECT");
    let object = match env::var_os("LIMITER_BPF_OBJECT") {
        Some(named) => {
            let named = PathBuf::from(named);
            if !named.is_file() {
                return Err(format!("LIMITER_BPF_OBJECT={}: no such file", named.display()).into());
            }
            named
        }
        None => in_workspace()?,
    };
    // Cargo runs this script again and again while a file it watches is missing. So where there
    // is no object yet, the stub stands in its place and cargo notices when it is replaced.
    if !object.exists()
        && let Some(dir) = object.parent()
        && fs::create_dir_all(dir).is_ok()
        && let Ok(stub) = fs::File::create_new(&object)
    {
        // Old, so that its coming is no reason to build again. (Where the source tree is
        // read-only there is none; the crate gets its stub all the same.)
        let _ = stub.set_modified(SystemTime::UNIX_EPOCH);
    }
    println!("cargo::rerun-if-changed={}", object.display());
    let bytes = if object.exists() {
        fs::read(&object)?
    } else {
        Vec::new()
    };
    fs::write(&out, bytes)?;
    Ok(())
}

fn in_workspace() -> Result<PathBuf, Box<dyn Error>> {
    let here = env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets CARGO_MANIFEST_DIR")?;
    let root = Path::new(&here)
        .parent()
        .ok_or("limiter-user lies in the workspace")?;
    Ok(root.join("target/bpf/limiter.o"))
}
