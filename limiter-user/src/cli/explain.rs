//! `limiter explain`

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    process::ExitCode,
};

use clap::{ArgGroup, Args};
use jiff::tz::TimeZone;

use super::{Global, ask::agent_or_pins, error::CliError, output::Output};
use crate::report::{
    explain::{self, ExplainQuery, Subject},
    status_text::Style,
};
use crate::system::mounts::find_cgroup2;

/// Whose a connection would be, which rule decides, and the verdict.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("subject").required(true)))]
pub struct Arguments {
    /// A process of this uid, in no container and no cgroup of a tenant
    #[arg(long, group = "subject", value_name = "N", value_parser = uid)]
    uid: Option<u32>,
    /// This process, as it is now
    #[arg(long, group = "subject", value_name = "N")]
    pid: Option<u32>,
    /// A process in this cgroup, below the cgroup v2 mount: /user.slice/…
    #[arg(long, group = "subject", value_name = "PATH", value_parser = cgroup)]
    cgroup: Option<String>,
    /// A guest behind this interface
    #[arg(long, group = "subject", value_name = "IF")]
    interface: Option<String>,
    /// Whoever sends from this address
    #[arg(long, group = "subject", value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// Where to: 203.0.113.5:25, [2001:db8::5]:25
    #[arg(long, value_name = "ADDR:PORT", value_parser = destination)]
    to: SocketAddr,
}

fn destination(text: &str) -> Result<SocketAddr, String> {
    let hint = "an address and a port, such as 203.0.113.5:25 or [2001:db8::5]:25";
    match text.parse::<SocketAddr>() {
        Ok(to) if to.port() == 0 => Err(format!("there is no port 0; {hint}")),
        Ok(to) => Ok(to),
        Err(_) => Err(hint.to_owned()),
    }
}

fn uid(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| format!("a number; for a user's name: --uid $(id -u {text})"))
}

fn cgroup(text: &str) -> Result<String, String> {
    let mount = find_cgroup2().ok();
    let below = mount
        .and_then(|mount| Path::new(text).strip_prefix(mount).ok().map(Path::to_owned))
        .map_or_else(|| text.to_owned(), |below| format!("/{}", below.display()));
    if below.starts_with('/') {
        Ok(below)
    } else {
        Err("a path below the cgroup v2 mount, starting with /".to_owned())
    }
}

impl Arguments {
    /// The question; exactly one subject is given, as clap has checked.
    fn question(self) -> Option<ExplainQuery> {
        let subject = self
            .uid
            .map(Subject::Uid)
            .or(self.pid.map(Subject::Pid))
            .or(self.cgroup.map(Subject::Cgroup))
            .or(self.interface.map(Subject::Interface))
            .or(self.from.map(Subject::From))?;
        Some(ExplainQuery {
            subject,
            to: self.to,
        })
    }
}

pub fn run(args: Arguments, global: &Global) -> Result<ExitCode, CliError> {
    let Some(question) = args.question() else {
        return Err(CliError::Node(crate::control::node::NodeError::Invalid {
            what: "nobody is asked about".to_owned(),
        }));
    };
    let answer = agent_or_pins(
        global,
        async |client| client.explain(&question).await,
        |node| node.explain(&question),
    )?;
    let mut out = Output::new();
    if global.json {
        out.json(&answer.answer)?;
    } else {
        let style = Style {
            zone: TimeZone::system(),
            all: false,
        };
        out.text(&explain::text(&answer.answer, &style))?;
        if answer.without_agent.is_some() {
            out.text("  (no agent answers: told from the kernel and the files)\n")?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
