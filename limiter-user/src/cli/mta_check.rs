//! `limiter mta check`

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use nix::unistd::User;

use super::{
    Global,
    ask::{block_on, client},
    error::{CliError, FAILED},
    mta::{Server, Target, policy_of},
    output::Output,
};
use crate::{
    control::{client::Client, routes_watch::WatchRequest},
    mta::{
        check::{self, Checked, Session, cannot_reach},
        setup::{DovecotFacts, EximFacts, Forwards, PostfixFacts},
    },
    policy::{model::Policy, services::ServiceAddress},
    report::problem::Problem,
    service::watch::Asked,
};

/// How long is waited for a question after the session.
const WAIT: Duration = Duration::from_millis(1_500);

/// Whether the mail server really asks, by a session that sends nothing.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Where it listens [default: 127.0.0.1:25, for Dovecot 127.0.0.1:143]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listens: Option<SocketAddr>,
    /// For Dovecot: an account to log in to, which is not counted; its password is the first line of the
    /// standard input
    #[arg(long, value_name = "NAME")]
    login: Option<String>,
}

pub fn run(args: &Arguments, global: &Global) -> Result<ExitCode, CliError> {
    let policy = policy_of(global)?;
    let agent = client(global);
    let checked = match args.target.server {
        Server::Postfix => postfix(args, &policy, &agent)?,
        Server::Exim => exim(args, &policy, &agent)?,
        Server::Dovecot => dovecot(args, &policy, &agent)?,
    };
    let mut out = Output::new();
    if global.json {
        out.json(&checked)?;
    } else {
        out.text(&checked.to_string())?;
    }
    out.flush()?;
    Ok(if checked.asks {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    })
}

/// What was seen of a session.
struct Tried {
    asked: Vec<Asked>,
    shut: Vec<String>,
    session: Session,
}

/// Has the agent look out, talks with the mail server, and waits until so many services were asked.
fn try_it(
    agent: &Client,
    account: Option<&str>,
    services: usize,
    talk: impl FnOnce(&str) -> Session,
) -> Result<Tried, CliError> {
    let request = WatchRequest {
        sign: None,
        account: account.map(str::to_owned),
        end: false,
    };
    let armed = block_on(async { Ok(agent.watch(&request).await?) })?;
    let session = talk(&armed.sign);
    let request = |end| WatchRequest {
        sign: Some(armed.sign.clone()),
        account: None,
        end,
    };
    let start = Instant::now();
    loop {
        let over = start.elapsed() >= WAIT || session.broken.is_some();
        let outcome = block_on(async { Ok(agent.watch(&request(over)).await?) })?;
        if outcome.seen.len() >= services || over {
            if !over {
                let _ = block_on(async { Ok(agent.watch(&request(true)).await?) })?;
            }
            return Ok(Tried {
                asked: outcome.seen,
                shut: armed.shut,
                session,
            });
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn smtp(args: &Arguments, host: &str, agent: &Client, services: usize) -> Result<Tried, CliError> {
    let server = args
        .listens
        .unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 25).into());
    try_it(agent, None, services, |sign| {
        check::smtp(server, host, sign)
    })
}

/// What a session tells without looking at any configuration.
fn begin(server: &str, tried: Tried, listens: Option<SocketAddr>) -> Checked {
    let mut checked = Checked {
        server: server.to_owned(),
        asked: tried.asked,
        session: tried.session.lines,
        ..Checked::default()
    };
    if let Some(error) = tried.session.broken {
        let at = listens.map_or_else(String::new, |at| format!(" at {at}"));
        checked.problems.push(Problem::error(
            format!("the session with {server}{at} broke off: {error}"),
            "see whether it runs; --listens says where",
        ));
    }
    for shut in tried.shut {
        checked.problems.push(Problem::error(
            shut,
            "`limiter status` says more; a socket's directory has to be there",
        ));
    }
    checked
}

fn was_asked(checked: &Checked, service: &str) -> bool {
    checked.asked.iter().any(|asked| asked.service == service)
}

fn postfix(args: &Arguments, policy: &Policy, agent: &Client) -> Result<Checked, CliError> {
    let postconf = args.target.program(&["postconf"])?;
    let at = args.target.postfix();
    let facts = PostfixFacts::read(&postconf, &at)?;
    let wants_milter = !policy.places.services.milter.is_empty();
    let tries_milter = wants_milter && facts.asks_milter_by_smtp(policy);
    let tried = smtp(
        args,
        &policy.node.name,
        agent,
        1 + usize::from(tries_milter),
    )?;
    let mut checked = begin("Postfix", tried, args.listens);
    let (lacks_policy, lacks_milter) = facts.lacks(policy);
    let (policy_asked, milter_asked) = (
        was_asked(&checked, "policy"),
        was_asked(&checked, "milter") || !tries_milter,
    );
    let problems = &mut checked.problems;
    for path in facts.out_of_reach(policy) {
        problems.push(Problem::error(
            format!(
                "Postfix is told to ask at {}, which is outside its queue directory: what runs in a chroot \
                 does not reach it",
                path.display()
            ),
            "`limiter mta config postfix` says where instead",
        ));
    }
    if lacks_policy {
        problems.push(Problem::error(
            "Postfix is not told to ask the policy service for every recipient and message",
            "`limiter mta config postfix` prints what to run",
        ));
    }
    if lacks_milter {
        problems.push(Problem::error(
            "Postfix is not told to ask the milter: mail from sendmail(1) is not counted, or what a filter \
             refuses stays counted",
            "`limiter mta config postfix` prints what to run",
        ));
    }
    if !policy_asked || !milter_asked {
        if let Ok(Some(user)) = User::from_name("postfix") {
            let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
            let sockets = facts.sockets(policy);
            problems.extend(
                sockets
                    .iter()
                    .filter_map(|socket| cannot_reach(socket, uid, gid)),
            );
        }
        if problems.is_empty() {
            problems.push(Problem::error(
                "the configuration looks right, and still Postfix did not ask",
                "postfix reload; then look at its log for `limiter`: what refuses the recipient earlier \
                 (smtpd_relay_restrictions, smtpd_client_restrictions) keeps it from asking",
            ));
        }
    } else if wants_milter && !lacks_milter {
        checked
            .not_tried
            .push("mail from sendmail(1): non_smtpd_milters names the milter".to_owned());
    }
    checked.asks = policy_asked && milter_asked && checked.problems.is_empty();
    checked.problems.extend(facts.forwards().map(warning));
    Ok(checked)
}

fn exim(args: &Arguments, policy: &Policy, agent: &Client) -> Result<Checked, CliError> {
    let exim = args.target.program(&["exim4", "exim"])?;
    let facts = EximFacts::read(&exim, args.target.at.as_deref())?;
    let tried = smtp(args, &policy.node.name, agent, 1)?;
    let mut checked = begin("Exim", tried, args.listens);
    let asked = was_asked(&checked, "policy");
    let problems = &mut checked.problems;
    let lacks = facts.lacks();
    if !lacks.is_empty() {
        problems.push(Problem::error(
            format!("Exim is not told to ask in {}", lacks.join(", ")),
            "`limiter mta config exim` prints what to put where",
        ));
    }
    if !asked {
        let user = exim_user(&exim, args.target.at.as_deref());
        for address in &policy.places.services.policy {
            if let (ServiceAddress::Unix(path), Some((uid, gid))) = (address, user) {
                problems.extend(cannot_reach(path, uid, gid));
            }
        }
        if problems.is_empty() {
            problems.push(Problem::error(
                "the configuration looks right, and still Exim did not ask",
                "restart Exim, then look at its main log; what denies the recipient earlier keeps it \
                 from asking",
            ));
        }
    } else if lacks.is_empty() {
        checked
            .not_tried
            .push("mail from the command line: acl_not_smtp is limiter's".to_owned());
    }
    checked.asks = asked && checked.problems.is_empty();
    checked.problems.extend(facts.forwards().map(warning));
    Ok(checked)
}

/// It asks all the same.
fn warning(Forwards { problem, remedy }: Forwards) -> Problem {
    Problem::warning(problem, remedy)
}

/// The user that Exim runs as.
fn exim_user(program: &Path, configuration: Option<&Path>) -> Option<(u32, u32)> {
    let mut command = Command::new(program);
    if let Some(configuration) = configuration {
        command.arg("-C").arg(configuration);
    }
    let out = command.args(["-bP", "exim_user"]).output().ok()?;
    let text = String::from_utf8_lossy(&out.stdout);
    let name = text.split_once('=')?.1.trim().to_owned();
    let user = match name.parse::<u32>() {
        Ok(uid) => User::from_uid(uid.into()).ok()??,
        Err(_) => User::from_name(&name).ok()??,
    };
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

fn dovecot(args: &Arguments, policy: &Policy, agent: &Client) -> Result<Checked, CliError> {
    let doveconf = args.target.program(&["doveconf"])?;
    let facts = DovecotFacts::read(&doveconf, args.target.at.as_deref())?;
    let told = facts.asks(policy);
    let mut checked = match &args.login {
        Some(name) => {
            let server = args
                .listens
                .unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 143).into());
            let mut line = String::new();
            std::io::stdin()
                .read_line(&mut line)
                .map_err(|source| CliError::Io {
                    doing: "read the password",
                    source,
                })?;
            let password = line.trim_end_matches(['\r', '\n']);
            let tried = try_it(agent, Some(name), 1, |_| {
                check::imap(server, name, password)
            })?;
            begin("Dovecot", tried, args.listens)
        }
        None => Checked {
            server: "Dovecot".to_owned(),
            not_tried: vec![
                "a login: Dovecot asks only about passwords that are right; --login NAME tries one"
                    .to_owned(),
            ],
            ..Checked::default()
        },
    };
    let asked = was_asked(&checked, "dovecot");
    if !told {
        checked.problems.push(Problem::error(
            "Dovecot is not told to ask, or not as it should",
            "`limiter mta config dovecot` prints what to put where",
        ));
    } else if args.login.is_some() && !asked && checked.problems.is_empty() {
        checked.problems.push(Problem::error(
            "the configuration looks right, and still Dovecot did not ask",
            "was the password right? else reload Dovecot, and look at its log for `policy`",
        ));
    }
    checked.asks = told && (asked || args.login.is_none()) && checked.problems.is_empty();
    Ok(checked)
}
