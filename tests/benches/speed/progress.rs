//! What is under way, for whoever watches.

use std::io::{IsTerminal as _, Write as _};

/// Says on a terminal what is measured next; a pipe gets nothing.
pub fn progress(what: &str) {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        let _ = writeln!(err, "==> {what}");
    }
}
