//! `limiter`: kernel-level rate limits for outbound mail.

use std::process::ExitCode;

fn main() -> ExitCode {
    limiter_user::cli::main()
}
