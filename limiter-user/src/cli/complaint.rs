//! `limiter complaint`

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{ArgGroup, Args, Subcommand, builder::PossibleValuesParser};
use jiff::tz::TimeZone;

use super::{
    Global,
    ask::{block_on, client},
    error::{CliError, FAILED},
    output::Output,
    suspend::reason,
};
use crate::{
    control::routes_complaints::{ComplaintRequest, ComplaintWord},
    report::{
        complaint::{
            ComplaintClock, ComplaintDetails, ComplaintOutcome, ComplaintState, ComplaintSummary,
        },
        status_text::{Style, moment},
        text::{fit, printable},
    },
};

/// Take in a report of abuse (ARF, XARF, or a mail with the mail attached), or look after those that
/// came in. Whoever hands one in stands behind it: if the address in it is a tenant's own, and the
/// tenant sent mail then, it counts. Exit code 1 where it cannot be read.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The report; `-` is the standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The reports that came in, newest first, with what is to be done about them
    List(List),
    /// One report: what it says, whose mail it is about and why, what came of it
    Show {
        /// Its id, or as much of its beginning as is unique
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Say whose mail a report is about: it counts, and against nobody else any more
    Assign {
        /// Its id, or as much of its beginning as is unique
        #[arg(value_name = "ID")]
        id: String,
        /// Whose mail it is about
        #[arg(value_name = "TENANT")]
        tenant: String,
        /// Why, for the record
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: String,
    },
    /// Say that nothing is to be done about a report; one that counted counts no more
    Dismiss {
        /// Its id, or as much of its beginning as is unique
        #[arg(value_name = "ID")]
        id: String,
        /// Why, for the record
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: String,
    },
    /// Say what was done about a report: its clock stops
    Handled(Handled),
}

#[derive(Debug, Args)]
struct List {
    /// Only those in this state; waiting: those that somebody has to assign
    #[arg(long, value_parser = PossibleValuesParser::new(states()))]
    state: Option<String>,
    /// Only those about this tenant
    #[arg(long)]
    tenant: Option<String>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true))]
struct Handled {
    /// Its id, or as much of its beginning as is unique
    #[arg(value_name = "ID")]
    id: String,
    /// Its sender was told that it came in
    #[arg(long, group = "what")]
    acknowledge: bool,
    /// Something was done about it
    #[arg(long, group = "what")]
    act: bool,
    /// Its sender was told what was done
    #[arg(long, group = "what")]
    answer: bool,
    /// What exactly, for the record
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

fn states() -> impl Iterator<Item = &'static str> {
    let all = ComplaintState::ALL.into_iter().map(ComplaintState::as_str);
    ["waiting"].into_iter().chain(all)
}

pub fn run(args: Arguments, global: &Global) -> Result<ExitCode, CliError> {
    match args.command {
        None => hand_in(args.file.as_deref().unwrap_or(Path::new("-")), global),
        Some(Command::List(list)) => {
            let (state, tenant) = (list.state.as_deref(), list.tenant.as_deref());
            let agent = client(global);
            let found = block_on(async { Ok(agent.complaints(state, tenant).await?) })?;
            show(global, &found, |style| {
                found.iter().map(|one| line(one, style)).collect()
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Show { id }) => {
            let agent = client(global);
            let found = block_on(async { Ok(agent.complaint(&id).await?) })?;
            show(global, &found, |style| details(&found, style))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Assign { id, tenant, reason }) => {
            say(id, ComplaintWord::Assign { tenant }, reason, global)
        }
        Some(Command::Dismiss { id, reason }) => say(id, ComplaintWord::Dismiss, reason, global),
        Some(Command::Handled(handled)) => {
            let clock = match (handled.acknowledge, handled.act) {
                (true, _) => "acknowledge",
                (_, true) => "act",
                _ => "answer",
            };
            let clock = clock.to_owned();
            let word = ComplaintWord::Handled { clock };
            say(handled.id, word, handled.reason, global)
        }
    }
}

fn hand_in(path: &Path, global: &Global) -> Result<ExitCode, CliError> {
    let report = read(path).map_err(|source| CliError::Io {
        doing: "read the report",
        source,
    })?;
    let agent = client(global);
    let outcome = block_on(async { Ok(agent.hand_in(report).await?) })?;
    show(global, &outcome, |_| became(&outcome))?;
    Ok(if outcome.state == ComplaintState::Refused {
        ExitCode::from(FAILED)
    } else {
        ExitCode::SUCCESS
    })
}

/// The whole of it, if it is no longer than any agent reads.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    const MOST: u64 = 100 << 20;
    let mut report = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(MOST + 1).read_to_end(&mut report)?
    } else {
        File::open(path)?.take(MOST + 1).read_to_end(&mut report)?
    };
    if u64::try_from(read).unwrap_or(u64::MAX) > MOST {
        let why = format!("it is longer than {MOST} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(report)
}

fn say(
    id: String,
    word: ComplaintWord,
    reason: String,
    global: &Global,
) -> Result<ExitCode, CliError> {
    let request = ComplaintRequest {
        id,
        say: word,
        reason,
    };
    let agent = client(global);
    let outcome = block_on(async { Ok(agent.say_of_complaint(&request).await?) })?;
    show(global, &outcome, |_| became(&outcome))?;
    Ok(ExitCode::SUCCESS)
}

fn show<T: serde::Serialize>(
    global: &Global,
    value: &T,
    text: impl FnOnce(&Style) -> String,
) -> Result<(), CliError> {
    let mut out = Output::new();
    if global.json {
        out.json(value)?;
    } else {
        let style = Style {
            zone: TimeZone::system(),
            all: false,
        };
        out.text(&text(&style))?;
    }
    out.flush()
}

fn became(outcome: &ComplaintOutcome) -> String {
    let known = if outcome.known { "known already: " } else { "" };
    let mut text = format!(
        "{}\n  {known}{}{}: {}\n",
        printable(&outcome.id),
        outcome.state.as_str(),
        about(outcome.tenant.as_deref()),
        printable(&outcome.why)
    );
    for line in &outcome.followed {
        text.push_str(&format!("  {}\n", printable(line)));
    }
    text
}

fn about(tenant: Option<&str>) -> String {
    tenant.map_or_else(String::new, |tenant| {
        format!(", about {}", printable(tenant))
    })
}

fn line(one: &ComplaintSummary, style: &Style) -> String {
    let mut text = format!(
        "{}  {}  {}{}\n    {}\n",
        moment(one.received, style),
        printable(&one.id),
        one.state.as_str(),
        about(one.tenant.as_deref()),
        fit(&printable(&one.why), 160)
    );
    for clock in &one.clocks {
        text.push_str(&format!("    {}\n", clock_words(clock, style)));
    }
    text
}

fn clock_words(clock: &ComplaintClock, style: &Style) -> String {
    let name = printable(&clock.clock);
    match (clock.due, clock.done) {
        (_, Some(done)) => format!("{name}: done {}", moment(done, style)),
        (Some(due), None) => format!("{name} by {}", moment(due, style)),
        (None, None) => format!("{name}: OVERDUE"),
    }
}

fn details(found: &ComplaintDetails, style: &Style) -> String {
    let one = &found.complaint;
    let mut text = line(one, style);
    let mut set = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!("  {name:<12} {}\n", printable(&value)));
        }
    };
    let report = &found.facts["report"];
    let word = |value: &serde_json::Value| match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    set("reporter", one.reporter.clone());
    set("kind", one.feedback.clone());
    for (name, key) in [
        ("format", "format"),
        ("arrived", "arrival"),
        ("source", "source"),
        ("port", "source_port"),
        ("received by", "destination"),
        ("mail from", "mail_from"),
    ] {
        set(name, word(&report[key]));
    }
    let original = &report["original"];
    set("message id", word(&original["message_id"]));
    set("subject", word(&original["subject"]));
    let candidates = found.facts["attribution"]["ambiguous"]["candidates"].as_array();
    for candidate in candidates.into_iter().flatten() {
        let tenant = word(&candidate["tenant"]).unwrap_or_default();
        set(
            "may be",
            Some(format!("{tenant}: {}", candidate["grounds"])),
        );
    }
    for saying in found.facts["said"].as_array().into_iter().flatten() {
        let user = word(&saying["by"]["user"]).unwrap_or_else(|| saying["by"]["uid"].to_string());
        let said = word(&saying["said"]).unwrap_or_default();
        let what = word(&saying["what"]).map_or_else(String::new, |what| format!(" {what}"));
        let why = word(&saying["reason"]).unwrap_or_default();
        set("said", Some(format!("{user}: {said}{what}: {why}")));
    }
    for line in &found.followed {
        set("followed", Some(line.clone()));
    }
    text.push('\n');
    for line in found.raw.lines() {
        text.push_str(&format!("  | {}\n", printable(line)));
    }
    let shown = u64::try_from(found.raw.len()).unwrap_or(u64::MAX);
    if let Some(bytes) = found.bytes.filter(|bytes| *bytes > shown) {
        text.push_str(&format!(
            "  … of {bytes} bytes; the Maildir has all of it\n"
        ));
    }
    text
}
