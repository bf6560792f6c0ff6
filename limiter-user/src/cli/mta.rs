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
    Config(Target),
    /// Whether the mail server really asks: a session with it that sends nothing
    Check(mta_check::Arguments),
}

/// Which mail server.
#[derive(Debug, Args)]
pub struct Target {
    /// The mail server
    pub server: Server,
    /// Postfix's directory of configuration [default: /etc/postfix], or Exim's or Dovecot's file [default:
    /// what it was built for]
    #[arg(long, value_name = "PATH")]
    pub at: Option<PathBuf>,
    /// The program to ask: `postconf`, Exim, or `doveconf` [default: where packages put it]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

impl Target {
    /// The program to ask, of which these are names.
    pub fn program(&self, names: &[&'static str]) -> Result<PathBuf, MtaError> {
        match self.program.clone() {
            Some(program) => Ok(program),
            None => Places::default().program(names),
        }
    }

    /// Postfix's directory of configuration.
    pub fn postfix(&self) -> PathBuf {
        self.at.clone().unwrap_or_else(|| "/etc/postfix".into())
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Server {
    Postfix,
    Exim,
    Dovecot,
}

pub fn run(command: Command, global: &Global) -> Result<ExitCode, CliError> {
    let target = match command {
        Command::Config(target) => target,
        Command::Check(args) => return mta_check::run(&args, global),
    };
    let policy = policy_of(global)?;
    let steps = steps(&target, &policy)?;
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

fn steps(target: &Target, policy: &policy::model::Policy) -> Result<Steps, MtaError> {
    let at = target.at.as_deref();
    let program = |names: &[&'static str]| target.program(names);
    Ok(match target.server {
        Server::Postfix => {
            PostfixFacts::read(&program(&["postconf"])?, &target.postfix())?.steps(policy)
        }
        Server::Exim => EximFacts::read(&program(&["exim4", "exim"])?, at)?.steps(policy),
        Server::Dovecot => DovecotFacts::read(&program(&["doveconf"])?, at)?.steps(policy),
    })
}
