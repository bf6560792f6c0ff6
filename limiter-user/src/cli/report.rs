//! `limiter report`

use std::{process::ExitCode, time::Duration};

use clap::{Args, builder::PossibleValuesParser};

use super::{Global, ask::agent_or_book, error::CliError, output::Output, word::here};
use crate::{
    control::{peer::Peer, routes_court::USUAL_REPORT},
    inspect::record::About,
    report::{dossier_html, dossier_text, duration::parse},
};

/// The evidence report of a tenant, for a delisting request or whoever has a right to ask: what was
/// decided when, on what evidence, by whom, what people were told and what was charged.
#[derive(Debug, Args)]
pub struct Arguments {
    /// About whom
    #[arg(value_name = "TENANT")]
    tenant: String,
    /// How far back: 24h, 90d [default: 30d]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    since: Option<Duration>,
    /// How: html is one page that can be printed, with room for remarks
    #[arg(long, value_parser = PossibleValuesParser::new(["text", "json", "html"]), default_value = "text")]
    format: String,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse(text).map_err(|error| error.to_string())
}

pub fn run(args: Arguments, global: &Global) -> Result<ExitCode, CliError> {
    let tenant = args.tenant.as_str();
    let span = args.since.unwrap_or(USUAL_REPORT);
    let answer = agent_or_book(
        global,
        async |client| client.dossier(tenant, span).await,
        |alone| {
            let about = About {
                node: alone.node.clone(),
                counters: alone.pinned.as_ref().and_then(|node| node.counters(tenant)),
                made_by: Some(Peer::own().to_string()),
            };
            alone.shelf.dossier(tenant, span, about)
        },
    )?;
    let dossier = answer.answer;
    let mut out = Output::new();
    match args.format.as_str() {
        _ if global.json => out.json(&dossier)?,
        "json" => out.json(&dossier)?,
        "html" => out.text(&dossier_html::html(&dossier, &here(true)))?,
        _ => out.text(&dossier_text::text(&dossier, &here(true)))?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
