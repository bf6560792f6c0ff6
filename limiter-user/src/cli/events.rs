//! `limiter events`

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use bytes::Bytes;
use clap::Args;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{
    Global,
    ask::{block_on, client},
    error::CliError,
    output::Output,
    places::places,
    standings::Standings,
};
use crate::{
    control::{client::ClientError, node::NodeError},
    report::{
        duration::{Seconds, parse},
        episode::Joiner,
        event::EventRecord,
        event_text::Lines,
        status::{Sanction, Standing},
        status_text::{self, Style},
        store::{EventFilter, Reader},
    },
};

/// What is shown unless told since when.
const DEFAULT_SINCE: Duration = Duration::from_secs(3600);

/// What was refused, redirected or would have been.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Go on showing what comes
    #[arg(short, long)]
    follow: bool,
    /// Only of this tenant
    #[arg(long, value_name = "T")]
    tenant: Option<String>,
    /// How far back: 90s, 1h, 30d [default: 1h; with --follow: only what comes]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    since: Option<Duration>,
    /// Every record; without it a run without a minute's pause is one line
    #[arg(long)]
    each: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse(text).map_err(|error| error.to_string())
}

pub fn run(args: Arguments, global: &Global) -> Result<ExitCode, CliError> {
    let since = match args.since {
        None if args.follow => None,
        since => Some(since.unwrap_or(DEFAULT_SINCE)),
    };
    let filter = EventFilter {
        since: since.map(before),
        tenant: args.tenant.clone(),
    };
    let standings = if args.follow {
        Standings::default()
    } else {
        Standings::now(global, args.tenant.as_deref())
    };
    let mut show = Show::new(&args, global, standings);
    match block_on(from_agent(global, &filter, args.follow, &mut show)) {
        Err(CliError::Client(ClientError::NotRunning { .. })) if !args.follow => {
            from_files(global, &filter, &mut show)?;
        }
        outcome => outcome?,
    }
    show.finish(since)?;
    Ok(ExitCode::SUCCESS)
}

/// So long ago; the beginning of time if that is too long.
fn before(span: Duration) -> Timestamp {
    let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
    Timestamp::now().checked_sub(span).unwrap_or(Timestamp::MIN)
}

async fn from_agent(
    global: &Global,
    filter: &EventFilter,
    follow: bool,
    show: &mut Show,
) -> Result<(), CliError> {
    let mut lines = client(global).events(filter, follow).await?;
    let asked = client(global);
    while let Some(line) = lines.next().await? {
        if follow
            && show.json
            && let Ok(event) = serde_json::from_slice::<EventRecord>(&line)
            && let Some(tenant) = &event.tenant
        {
            show.standings.refresh(&asked, tenant).await;
        }
        show.line(&line)?;
    }
    Ok(())
}

fn from_files(global: &Global, filter: &EventFilter, show: &mut Show) -> Result<(), CliError> {
    let state_dir = places(global)?.state_dir;
    let history = Reader::new(&state_dir).history(filter);
    for event in history.map_err(NodeError::from)? {
        show.event(event.map_err(NodeError::from)?)?;
    }
    Ok(())
}

/// An event, and how its tenant stands with the node now.
#[derive(Serialize)]
struct Shown<'e> {
    #[serde(flatten)]
    event: &'e EventRecord,
    /// Null where nobody can tell.
    standing: Option<Standing>,
    /// The strongest sanction that it is under, and until when.
    sanction: Option<Sanction>,
    until: Option<Timestamp>,
}

/// What the agent says between events.
#[derive(Deserialize)]
struct Missed {
    missed: u64,
}

/// Shows events as they come, or gathers them into episodes.
struct Show {
    out: Output,
    json: bool,
    follow: bool,
    lines: Lines,
    /// Joins the records; `None` where every record is shown at once.
    joiner: Option<Joiner>,
    shown: bool,
    standings: Standings,
    /// Whose events were shown.
    tenants: BTreeSet<String>,
}

impl Show {
    fn new(args: &Arguments, global: &Global, standings: Standings) -> Self {
        let each = args.each || args.follow || global.json;
        Self {
            out: Output::new(),
            json: global.json,
            follow: args.follow,
            lines: Lines::new(TimeZone::system()),
            joiner: (!each).then(Joiner::default),
            shown: false,
            standings,
            tenants: BTreeSet::new(),
        }
    }

    fn line(&mut self, line: &Bytes) -> Result<(), CliError> {
        if let Ok(event) = serde_json::from_slice::<EventRecord>(line) {
            return self.event(event);
        }
        if self.json {
            self.out.line(line)?;
            return self.see();
        }
        match serde_json::from_slice::<Missed>(line) {
            Ok(Missed { missed }) => {
                let said = format!("… {missed} more came too fast to show (limiter events)\n");
                self.out.text(&said)?;
                self.see()
            }
            Err(_) => Ok(()),
        }
    }

    fn event(&mut self, event: EventRecord) -> Result<(), CliError> {
        self.shown = true;
        if self.json {
            let tenant = event.tenant.as_deref();
            let tenant = tenant.and_then(|tenant| self.standings.of(tenant));
            self.out.json(&Shown {
                event: &event,
                standing: tenant.map(|tenant| tenant.standing),
                sanction: tenant.and_then(|tenant| tenant.sanction),
                until: tenant.and_then(|tenant| tenant.until),
            })?;
            return self.see();
        }
        self.tenants.extend(event.tenant.clone());
        if let Some(joiner) = &mut self.joiner {
            joiner.add(event);
            return Ok(());
        }
        let line = self.lines.event(&event);
        self.out.text(&line)?;
        self.see()
    }

    fn see(&mut self) -> Result<(), CliError> {
        if self.follow {
            self.out.flush()
        } else {
            Ok(())
        }
    }

    fn finish(mut self, since: Option<Duration>) -> Result<(), CliError> {
        for episode in self.joiner.take().unwrap_or_default().finish() {
            let line = self.lines.episode(&episode);
            self.out.text(&line)?;
        }
        if !self.shown && !self.json {
            let span = since.map(Seconds).unwrap_or_default();
            self.out.text(&format!("nothing in the last {span}\n"))?;
        }
        let style = Style {
            zone: TimeZone::system(),
            all: false,
        };
        for tenant in self.standings.held_against(&self.tenants) {
            self.out.text(&status_text::standing(tenant, &style))?;
        }
        self.out.flush()
    }
}
