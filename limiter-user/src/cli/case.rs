//! `limiter case`

use std::{process::ExitCode, str::FromStr};

use clap::{Args, Subcommand, builder::PossibleValuesParser};

use super::{
    Global,
    ask::{agent_or_book, block_on, client},
    error::{CliError, FAILED},
    output::Output,
    suspend::{find, reason},
    word::{here, show as show_outcome},
};
use crate::{
    control::routes_court::{CaseAction, CaseRequest, Closing},
    inspect::record::CaseName,
    offence::Sanction,
    report::{case_text, text::printable},
};

/// Cases.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The open cases, oldest first
    List(ListArguments),
    /// One case: evidence, sanctions and what lifts them, what follows, who was told
    Show(ShowArguments),
    /// Write something down beside a case
    Note(NoteArguments),
    /// Carry out what waits for an operator, wherever it waits for this tenant
    Confirm(DecideArguments),
    /// Do not carry out what waits for an operator, wherever it waits for this tenant
    Reject(DecideArguments),
    /// End a case, as far as its rules let a review end it; with --acquit also void a closed one
    ///
    /// What a person says holds for the tenant as a whole: where that would end another case or an
    /// operator's own sanction too, it is refused unless --others is said. If the case is open
    /// still, what holds is shown and the exit code is 1.
    Close(CloseArguments),
}

/// Which case.
#[derive(Debug, Args)]
pub struct Which {
    /// Whose
    #[arg(value_name = "TENANT")]
    tenant: String,
    /// Its name, as `limiter case list` shows it
    #[arg(value_name = "POLICY/N", value_parser = case_name)]
    case: String,
}

/// `limiter case list`
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only of this tenant
    #[arg(long, value_name = "T")]
    tenant: Option<String>,
    /// Closed ones too
    #[arg(long)]
    all: bool,
}

/// `limiter case show`
#[derive(Debug, Args)]
pub struct ShowArguments {
    #[command(flatten)]
    which: Which,
    /// All that was heard, however much
    #[arg(long)]
    all: bool,
}

/// `limiter case note`
#[derive(Debug, Args)]
pub struct NoteArguments {
    #[command(flatten)]
    which: Which,
    /// The note
    #[arg(value_name = "TEXT", value_parser = reason)]
    text: String,
}

/// `limiter case confirm`, `limiter case reject`
#[derive(Debug, Args)]
pub struct DecideArguments {
    #[command(flatten)]
    which: Which,
    /// Which sanction, where several wait
    #[arg(long, value_parser = PossibleValuesParser::new(all()))]
    sanction: Option<String>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

/// `limiter case close`
#[derive(Debug, Args)]
pub struct CloseArguments {
    #[command(flatten)]
    which: Which,
    /// It was wrong: everything is lifted, and it never counts
    #[arg(long, conflicts_with = "overriding")]
    acquit: bool,
    /// Lift everything against the rules of the policies; it still counts
    #[arg(long = "override")]
    overriding: bool,
    /// Also the tenant's other open cases, and operators' own sanctions
    #[arg(long)]
    others: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

/// The names of all sanctions, a warning included.
fn all() -> impl Iterator<Item = &'static str> {
    Sanction::WORDS.iter().map(|(word, _)| *word)
}

fn case_name(text: &str) -> Result<String, String> {
    CaseName::from_str(text).map(|name| name.to_string())
}

pub fn run(command: Command, global: &Global) -> Result<ExitCode, CliError> {
    match command {
        Command::List(args) => list(&args, global),
        Command::Show(args) => show(&args, global),
        Command::Note(args) => note(args, global),
        Command::Confirm(args) => {
            let sanction = args.sanction.as_deref().and_then(find);
            act(
                args.which,
                CaseAction::Confirm(sanction),
                args.reason,
                global,
            )
        }
        Command::Reject(args) => {
            let sanction = args.sanction.as_deref().and_then(find);
            act(
                args.which,
                CaseAction::Reject(sanction),
                args.reason,
                global,
            )
        }
        Command::Close(args) => {
            let how = match (args.acquit, args.overriding) {
                (true, _) => Closing::Acquit,
                (false, true) => Closing::Override,
                (false, false) => Closing::Review,
            };
            let others = args.others;
            let action = CaseAction::Close { how, others };
            act(args.which, action, args.reason, global)
        }
    }
}

fn list(args: &ListArguments, global: &Global) -> Result<ExitCode, CliError> {
    let (tenant, all) = (args.tenant.as_deref(), args.all);
    let answer = agent_or_book(
        global,
        async |client| client.cases(tenant, all).await,
        |alone| alone.shelf.cases(tenant, all),
    )?;
    let mut out = Output::new();
    if global.json {
        out.json(&answer.answer)?;
    } else {
        out.text(&case_text::list(&answer.answer, &here(all)))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn show(args: &ShowArguments, global: &Global) -> Result<ExitCode, CliError> {
    let Which { tenant, case } = &args.which;
    let name = CaseName::from_str(case)
        .map_err(|what| CliError::Node(crate::control::node::NodeError::Invalid { what }))?;
    let answer = agent_or_book(
        global,
        async |client| client.case(tenant, case).await,
        |alone| alone.shelf.case(tenant, &name),
    )?;
    let mut out = Output::new();
    if global.json {
        out.json(&answer.answer)?;
    } else {
        out.text(&case_text::details(&answer.answer, &here(args.all)))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn note(args: NoteArguments, global: &Global) -> Result<ExitCode, CliError> {
    let agent = client(global);
    let request = CaseRequest {
        tenant: args.which.tenant,
        case: args.which.case,
        action: CaseAction::Note,
        reason: args.text,
    };
    let outcome = block_on(async { Ok(agent.note(&request).await?) })?;
    let mut out = Output::new();
    if global.json {
        out.json(&outcome)?;
    } else {
        let (tenant, case) = (printable(&outcome.tenant), printable(&outcome.case));
        out.text(&format!("{tenant}: noted beside case {case}\n"))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn act(
    which: Which,
    action: CaseAction,
    reason: String,
    global: &Global,
) -> Result<ExitCode, CliError> {
    let agent = client(global);
    let request = CaseRequest {
        tenant: which.tenant,
        case: which.case,
        action,
        reason,
    };
    let outcome = block_on(async { Ok(agent.act(&request).await?) })?;
    let code = show_outcome(&outcome, global)?;
    let to_close = matches!(request.action, CaseAction::Close { .. });
    let done = [&outcome.closed, &outcome.voided];
    Ok(
        if to_close && !done.iter().any(|cases| cases.contains(&request.case)) {
            ExitCode::from(FAILED)
        } else {
            code
        },
    )
}
