//! The product against a real kernel and real mail programs. Run as root: `cargo xtask test e2e`.

mod ground;
