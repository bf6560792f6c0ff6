//! `limiter status`

use std::process::ExitCode;

use clap::Args;
use jiff::tz::TimeZone;

use super::{
    Global,
    ask::{Answer, agent_or_pins},
    error::{CliError, FAILED},
    output::Output,
};
use crate::{
    control::client::ClientError,
    report::{
        problem::Problem,
        status::Status,
        status_text::{self, Style},
    },
};

/// How the node and its tenants are.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Everything about this tenant
    #[arg(value_name = "TENANT")]
    tenant: Option<String>,
    /// Every tenant and problem, however many
    #[arg(long)]
    all: bool,
}

pub fn run(args: Arguments, global: &Global) -> Result<ExitCode, CliError> {
    let tenant = args.tenant.as_deref();
    let Answer {
        answer: mut status,
        without_agent,
    } = agent_or_pins(
        global,
        async |client| client.status(tenant).await,
        |node| node.status(tenant),
    )?;
    if let Some(why) = without_agent {
        say_no_agent(&mut status, &why);
    }
    let mut out = Output::new();
    let style = Style {
        zone: TimeZone::system(),
        all: args.all,
    };
    if global.json {
        out.json(&status)?;
    } else if tenant.is_some() {
        out.text(&status_text::details(&status, &style))?;
    } else {
        out.text(&status_text::node(&status, &style))?;
    }
    out.flush()?;
    Ok(if status.healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    })
}

/// What runs without an agent is enforced, but not whole.
fn say_no_agent(status: &mut Status, why: &ClientError) {
    status.agent = None;
    status.add_problem(match why {
        ClientError::NotRunning { .. } => Problem::error(
            format!(
                "{why}: the kernel goes on enforcing the last policy, but nothing is recorded, \
                 and new users and containers are not bound"
            ),
            "systemctl start limiter",
        ),
        other => Problem::error(
            format!("{other}; the kernel goes on enforcing the last policy"),
            "systemctl restart limiter",
        ),
    });
}
