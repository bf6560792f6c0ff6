//! Reports as they come in, and as somebody makes them who wants harm done.

mod corpus;
mod hostile;
mod mutated;

use std::path::PathBuf;

/// The bytes of a file of the corpus.
pub(super) fn sample(name: &str) -> Vec<u8> {
    let path = directory().join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/complaint/corpus")
}

/// The names of all files of the corpus, sorted.
pub(super) fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
