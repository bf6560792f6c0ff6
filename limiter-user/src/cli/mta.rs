//! `limiter mta`

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand, ValueEnum};

use super::{Global, error::CliError, mta_check, output::Output};
use crate::{
    mta::{
        MtaError, Places,
        setup::{DovecotFacts, EximFacts, PostfixFacts, Steps},
    },
    policy,
    report::faults::FaultReport,
};

/// What has to do with the node's mail server.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What to put where, so that the mail server asks limiter; nothing is changed
    Config(Arguments),
    /// Whether the mail server really asks: a session with it that sends nothing
    Check(mta_check::Arguments),
}

/// What to put where.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The mail server
    server: Server,
    /// Postfix's directory of configuration [default: /etc/postfix], or Exim's or Dovecot's file [default:
    /// what it was built for]
    #[arg(long, value_name = "PATH")]
    at: Option<PathBuf>,
    /// The program to ask: `postconf`, Exim, or `doveconf` [default: where packages put it]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Server {
    Postfix,
    Exim,
    Dovecot,
}

pub fn run(command: Command, global: &Global) -> Result<ExitCode, CliError> {
    let args = match command {
        Command::Config(args) => args,
        Command::Check(args) => return mta_check::run(&args, global),
    };
    let policy = policy_of(global)?;
    let steps = steps(args, &policy)?;
    let mut out = Output::new();
    if global.json {
        out.json(&steps)?;
    } else {
        out.text(&steps.to_string())?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The policy in the files.
pub fn policy_of(global: &Global) -> Result<policy::model::Policy, CliError> {
    let loaded = policy::load(&global.config);
    let Some(mut policy) = loaded.policy else {
        return Err(CliError::Faults {
            config: global.config.clone(),
            faults: loaded.faults.iter().map(FaultReport::from).collect(),
        });
    };
    if let Some(control) = &global.control {
        let places = &mut policy.places;
        let services = std::mem::take(&mut places.services);
        places.services = services.moved(&places.control, control);
        places.control.clone_from(control);
    }
    Ok(policy)
}

fn steps(args: Arguments, policy: &policy::model::Policy) -> Result<Steps, MtaError> {
    let places = Places::default();
    let program = |names: &[&'static str]| match args.program.clone() {
        Some(program) => Ok(program),
        None => places.program(names),
    };
    Ok(match args.server {
        Server::Postfix => {
            let at = args.at.clone().unwrap_or_else(|| "/etc/postfix".into());
            PostfixFacts::read(&program(&["postconf"])?, &at)?.steps(policy)
        }
        Server::Exim => {
            EximFacts::read(&program(&["exim4", "exim"])?, args.at.as_deref())?.steps(policy)
        }
        Server::Dovecot => {
            DovecotFacts::read(&program(&["doveconf"])?, args.at.as_deref())?.steps(policy)
        }
    })
}
