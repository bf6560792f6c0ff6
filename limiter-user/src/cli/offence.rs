//! `limiter offence`

use std::{net::IpAddr, process::ExitCode};

use clap::{ArgGroup, Args, Subcommand, builder::PossibleValuesParser};

use super::{
    Global,
    ask::{block_on, client},
    error::CliError,
    suspend::reason,
    word::show,
};
use crate::{
    control::{
        node::NodeError,
        routes_court::{Added, OffenceRequest},
    },
    offence::Severity,
};

/// Offences.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add one: what follows by the tenant's policies is in force when this returns
    Add(AddArguments),
}

/// An offence so grave, a blacklisting, or bounces. If no policy of the tenant speaks of it, it is
/// recorded, nothing follows, and the exit code is 1.
#[derive(Debug, Args)]
#[command(group(
    ArgGroup::new("what")
        .required(true)
        .multiple(true)
        .args(["severity", "listing", "hard_bounces", "soft_bounces"])
))]
pub struct AddArguments {
    /// Whose
    #[arg(value_name = "TENANT")]
    tenant: String,
    /// How grave an operator calls it
    #[arg(long, value_name = "S", value_parser = PossibleValuesParser::new(severities()),
        conflicts_with_all = ["listing", "hard_bounces", "soft_bounces"])]
    severity: Option<String>,
    /// The blacklist that an address of this provider is on because of the tenant
    #[arg(long, value_name = "LIST", requires = "address",
        conflicts_with_all = ["hard_bounces", "soft_bounces"])]
    listing: Option<String>,
    /// That address
    #[arg(long, value_name = "IP", requires = "listing")]
    address: Option<IpAddr>,
    /// What tells this listing from an earlier one of the same address: a date, a ticket
    #[arg(long, value_name = "TEXT", requires = "listing")]
    incident: Option<String>,
    /// Also an address that this node does not know as its own or as a tenant's: behind another NAT
    #[arg(long, requires = "listing")]
    force: bool,
    /// So many mails of the tenant came back for good
    #[arg(long, value_name = "N")]
    hard_bounces: Option<u64>,
    /// So many came back for another reason
    #[arg(long, value_name = "N")]
    soft_bounces: Option<u64>,
    /// What, and how it is known, for the record: the customer is not shown it
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

fn severities() -> impl Iterator<Item = &'static str> {
    Severity::WORDS.iter().map(|(word, _)| *word)
}

impl AddArguments {
    /// What is added; exactly one thing is given, as clap has checked.
    fn added(&self) -> Option<Added> {
        if let Some(severity) = &self.severity {
            let mut words = Severity::WORDS.iter();
            let (_, severity) = words.find(|(word, _)| word == severity)?;
            return Some(Added::Severity(*severity));
        }
        if let (Some(list), Some(address)) = (&self.listing, self.address) {
            return Some(Added::Listing {
                list: list.clone(),
                address,
                incident: self.incident.clone(),
                force: self.force,
            });
        }
        Some(Added::Bounces {
            hard: self.hard_bounces.unwrap_or_default(),
            soft: self.soft_bounces.unwrap_or_default(),
        })
    }
}

pub fn run(command: Command, global: &Global) -> Result<ExitCode, CliError> {
    let Command::Add(args) = command;
    let Some(added) = args.added() else {
        let what = "nothing is added".to_owned();
        return Err(CliError::Node(NodeError::Invalid { what }));
    };
    let agent = client(global);
    let request = OffenceRequest {
        tenant: args.tenant,
        added,
        reason: args.reason,
    };
    let outcome = block_on(async { Ok(agent.offence(&request).await?) })?;
    show(&outcome, global)
}
