//! The commands: what the user typed, and who carries it out.

mod ask;
mod case;
mod check;
mod complaint;
mod detach;
mod doctor;
mod error;
mod events;
mod explain;
mod mta;
mod mta_check;
mod observe;
mod offence;
mod output;
mod places;
mod reinstate;
mod reload;
mod report;
mod run;
mod standings;
mod status;
mod suspend;
mod word;

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{ArgAction, Args, Parser, Subcommand};

pub use self::error::CliError;
use crate::control::{reply::ErrorBody, routes_court::Said};

/// The main configuration file unless told otherwise.
const DEFAULT_CONFIG: &str = "/etc/limiter/limiter.yaml";

/// Keeps hosting customers from sending spam: knows, refuses, redirects, counts and rates their
/// outbound mail connections in the kernel.
///
/// Exit codes: 0 done (for `status`: healthy), 1 failed or unhealthy, 2 wrong usage or
/// configuration.
#[derive(Debug, Parser)]
#[command(name = "limiter", version)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The main configuration file
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// The control socket [default: the configuration's, else /run/limiter/control.sock]
    #[arg(long, global = true, value_name = "SOCKET")]
    pub control: Option<PathBuf>,
    /// JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more; twice: much more (RUST_LOG wins)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent in the foreground
    Run(run::Arguments),
    /// Check the configuration: every fault, or what it would load
    Check(check::Arguments),
    /// How the node and its tenants are
    Status(status::Arguments),
    /// What was refused, redirected or would have been
    Events(events::Arguments),
    /// Whose a connection would be, which rule decides, and the verdict
    Explain(explain::Arguments),
    /// Have the agent read the configuration again: all or nothing
    Reload(reload::Arguments),
    /// Refuse nothing for a while; enforcement returns by itself
    Observe(observe::Arguments),
    /// Put a tenant under a sanction, at once
    Suspend(suspend::Arguments),
    /// Take a tenant's sanctions back
    Reinstate(reinstate::Arguments),
    /// Say that the owner acknowledged what must be done
    Acknowledge(word::Arguments),
    /// Say that the owner was spoken to
    Contact(word::Arguments),
    /// Cases: what a tenant did, what follows, and what waits for you
    #[command(subcommand)]
    Case(case::Command),
    /// Add to a tenant's record what the node cannot see
    #[command(subcommand)]
    Offence(offence::Command),
    /// The evidence report of a tenant: who, what, when, on what evidence, by whom
    Report(report::Arguments),
    /// Say that the wall clock is right: time that the node was off counts again
    SettleClock(word::SettleArguments),
    /// Take in a report of abuse, or look after those that came in
    Complaint(complaint::Arguments),
    /// The node's mail server: how to have it ask limiter, and whether it does
    #[command(subcommand)]
    Mta(mta::Command),
    /// Take everything out of the kernel: nothing is refused or counted any more
    Detach(detach::Arguments),
    /// What the kernel offers, what is missing, and which other mail filters are active
    Doctor(doctor::Arguments),
}

/// Reads the command line and carries it out.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    start_log(&global, &command);
    let outcome = match command {
        Command::Run(args) => run::run(args, &global),
        Command::Check(args) => check::run(args, &global),
        Command::Status(args) => status::run(args, &global),
        Command::Events(args) => events::run(args, &global),
        Command::Explain(args) => explain::run(args, &global),
        Command::Reload(args) => reload::run(args, &global),
        Command::Observe(args) => observe::run(args, &global),
        Command::Suspend(args) => suspend::run(args, &global),
        Command::Reinstate(args) => reinstate::run(args, &global),
        Command::Acknowledge(args) => word::run(args, Said::Acknowledgement, &global),
        Command::Contact(args) => word::run(args, Said::Contact, &global),
        Command::Case(command) => case::run(command, &global),
        Command::Offence(command) => offence::run(command, &global),
        Command::Report(args) => report::run(args, &global),
        Command::SettleClock(args) => word::settle(args, &global),
        Command::Complaint(args) => complaint::run(args, &global),
        Command::Mta(command) => mta::run(command, &global),
        Command::Detach(args) => detach::run(args, &global),
        Command::Doctor(args) => doctor::run(args, &global),
    };
    outcome.unwrap_or_else(|error| complain(&error, &global))
}

/// Says what went wrong, and what to do.
fn complain(error: &CliError, global: &Global) -> ExitCode {
    if matches!(error, CliError::OutputClosed) {
        // Whoever read has seen enough: `limiter events | head`.
        return ExitCode::SUCCESS;
    }
    let remedy = error.remedy();
    let mut stderr = std::io::stderr().lock();
    // Nobody is left to tell if this fails.
    let _ = if global.json {
        let body = ErrorBody {
            error: error.to_string(),
            remedy,
        };
        writeln!(
            stderr,
            "{}",
            serde_json::to_string(&body).unwrap_or_default()
        )
    } else if remedy.is_empty() {
        writeln!(stderr, "limiter: {error}")
    } else {
        writeln!(stderr, "limiter: {error}\n  do: {remedy}")
    };
    error.exit_code()
}

/// The agent tells what it does; the commands only what is wrong.
fn start_log(global: &Global, command: &Command) {
    let usual = if matches!(command, Command::Run(_)) {
        1
    } else {
        0
    };
    let level = match usual + global.verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let env = env_logger::Env::default().default_filter_or(level);
    let mut builder = env_logger::Builder::from_env(env);
    // The journal knows the time.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.format_timestamp(None);
    }
    builder.format_target(false).init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_offence_is_one_thing() {
        let add = |more: &[&str]| {
            let start = ["limiter", "offence", "add", "alice", "--reason", "x"];
            Cli::try_parse_from(start.iter().chain(more)).is_ok()
        };
        assert!(add(&["--severity", "severe"]));
        assert!(add(&["--listing", "spamhaus", "--address", "192.0.2.1"]));
        assert!(add(&["--hard-bounces", "3"]) && add(&["--soft-bounces", "3"]));
        assert!(add(&["--hard-bounces", "3", "--soft-bounces", "3"]));
        for wrong in [
            &[][..],
            &["--severity", "dire"],
            &["--severity", "minor", "--hard-bounces", "3"],
            &["--listing", "spamhaus"],
            &["--address", "192.0.2.1"],
            &["--severity", "minor", "--incident", "x"],
        ] {
            assert!(!add(wrong), "{wrong:?}");
        }
    }
}
