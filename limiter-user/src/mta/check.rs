//! Whether the mail server really asks: a session with it that sends nothing, and what can stand in the way.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde::Serialize;

use super::command::run;
use crate::{report::problem::Problem, service::watch::Asked};

/// How long the mail server may take for an answer; some make strangers wait.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer answers are cut off.
const MOST_ANSWER: usize = 64;
/// How long `test` may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What came of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The mail server.
    pub server: String,
    /// Whether all is as it should be.
    pub asks: bool,
    /// Who asked.
    pub asked: Vec<Asked>,
    /// The session: what was said, and what was answered.
    pub session: Vec<String>,
    /// What is wrong, and what to do.
    pub problems: Vec<Problem>,
    /// What was only read in the configuration, and not tried.
    pub not_tried: Vec<String>,
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.asks { "asks" } else { "DOES NOT ASK" };
        writeln!(f, "{}: {end}", self.server)?;
        for Asked {
            service,
            by,
            door,
            uid,
        } in &self.asked
        {
            writeln!(
                f,
                "  {by} (uid {uid}) asked the {service} service at {door}"
            )?;
        }
        for what in &self.not_tried {
            writeln!(f, "  not tried: {what}")?;
        }
        for Problem {
            problem, remedy, ..
        } in &self.problems
        {
            writeln!(f, "  {problem}\n    do: {remedy}")?;
        }
        if !self.asks {
            for line in &self.session {
                writeln!(f, "  | {line}")?;
            }
        }
        Ok(())
    }
}

/// A session in words.
#[derive(Debug, Default)]
pub struct Session {
    /// What was said and answered, in order.
    pub lines: Vec<String>,
    /// Why it broke off.
    pub broken: Option<io::Error>,
}

/// Begins a message with `sign` in its sender and its recipient, and takes it back: nothing is sent. Where
/// strangers' recipients are refused, the postmaster is tried.
#[must_use]
pub fn smtp(server: SocketAddr, host: &str, sign: &str) -> Session {
    let mut session = Session::default();
    if let Err(error) = talk_smtp(server, host, sign, &mut session.lines) {
        session.broken = Some(error);
    }
    session
}

fn talk_smtp(
    server: SocketAddr,
    host: &str,
    sign: &str,
    lines: &mut Vec<String>,
) -> io::Result<()> {
    let mut talk = Talk::open(server)?;
    talk.answer(lines)?;
    // Whatever the node is called, this is a name.
    talk.say("EHLO [127.0.0.1]", lines)?;
    talk.say(&format!("MAIL FROM:<{sign}@{host}>"), lines)?;
    let code = talk.say(&format!("RCPT TO:<{sign}@{host}>"), lines)?;
    if code >= 400 {
        talk.say("RCPT TO:<postmaster>", lines)?;
    }
    talk.say("RSET", lines)?;
    talk.say("QUIT", lines)?;
    Ok(())
}

/// Logs in by IMAP, and out. The password is not among the lines.
#[must_use]
pub fn imap(server: SocketAddr, name: &str, password: &str) -> Session {
    let mut session = Session::default();
    if let Err(error) = talk_imap(server, name, password, &mut session.lines) {
        session.broken = Some(error);
    }
    session
}

fn talk_imap(
    server: SocketAddr,
    name: &str,
    password: &str,
    lines: &mut Vec<String>,
) -> io::Result<()> {
    let mut talk = Talk::open(server)?;
    lines.push(talk.line()?);
    let quoted = |text: &str| {
        let text = text.replace('\\', r"\\").replace('"', "\\\"");
        format!("\"{text}\"")
    };
    if name.contains(char::is_control) || password.contains(char::is_control) {
        return Err(io::Error::other("a name or password of other characters"));
    }
    lines.push(format!("a LOGIN {} ***", quoted(name)));
    talk.send(&format!("a LOGIN {} {}", quoted(name), quoted(password)))?;
    loop {
        let line = talk.line()?;
        let over = line.starts_with("a ");
        lines.push(line);
        if over || lines.len() > MOST_ANSWER {
            break;
        }
    }
    talk.send("b LOGOUT")?;
    lines.push(talk.line()?);
    Ok(())
}

struct Talk(BufReader<TcpStream>);

impl Talk {
    fn open(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    fn send(&mut self, line: &str) -> io::Result<()> {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut bytes = Vec::new();
        let mut limited = io::Read::take(&mut self.0, 4_096);
        if limited.read_until(b'\n', &mut bytes)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&bytes);
        let printable = |c: char| if c.is_control() { '?' } else { c };
        Ok(text.trim_end().chars().map(printable).collect())
    }

    /// An answer of SMTP's, and its code.
    fn answer(&mut self, lines: &mut Vec<String>) -> io::Result<u16> {
        for _ in 0..MOST_ANSWER {
            let line = self.line()?;
            let code = line.get(..3).and_then(|code| code.parse().ok());
            let more = line.as_bytes().get(3) == Some(&b'-');
            lines.push(line);
            match code {
                Some(code) if !more => return Ok(code),
                Some(_) => {}
                None => break,
            }
        }
        Err(io::Error::other("that is not SMTP"))
    }

    fn say(&mut self, line: &str, lines: &mut Vec<String>) -> io::Result<u16> {
        lines.push(line.to_owned());
        self.send(line)?;
        self.answer(lines)
    }
}

/// Why a user may not use a socket; none if it may, or that cannot be found out.
#[must_use]
pub fn cannot_reach(socket: &Path, uid: u32, gid: u32) -> Option<Problem> {
    let name = socket.display();
    if !socket.exists() {
        return Some(Problem::error(
            format!("there is no socket {name}"),
            "restart limiter, which opens it at the start; `limiter status` says why if it cannot",
        ));
    }
    let may = |what: &str, path: &Path| {
        let mut command = Command::new("/usr/bin/test");
        command.arg(what).arg(path).uid(uid).gid(gid);
        run(&mut command, b"", LIMIT).map_or(true, |ended| ended.code == 0)
    };
    let mut above: Vec<PathBuf> = socket.ancestors().skip(1).map(Path::to_path_buf).collect();
    above.reverse();
    if let Some(closed) = above.iter().find(|directory| !may("-x", directory)) {
        return Some(Problem::error(
            format!(
                "uid {uid} may not enter {}, and so not use {name}",
                closed.display()
            ),
            format!("chmod o+x {}", closed.display()),
        ));
    }
    if !may("-w", socket) {
        return Some(Problem::error(
            format!("uid {uid} may not use {name}"),
            "add its user to services.allowed_users, or to mta.users, and `limiter reload`",
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// A server that answers each line so, and what it was told.
    fn server(answers: &'static [&'static str]) -> (SocketAddr, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let heard = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut heard = Vec::new();
            for answer in answers {
                stream.write_all(answer.as_bytes()).unwrap();
                match lines.next() {
                    Some(Ok(line)) => heard.push(line),
                    _ => break,
                }
            }
            heard
        });
        (at, heard)
    }

    #[test]
    fn nothing_is_sent() {
        let (at, heard) = server(&[
            "220-a\r\n220 b\r\n",
            "250-x\r\n250 y\r\n",
            "250 ok\r\n",
            "554 5.7.1 no\r\n",
            "250 ok\r\n",
            "250 ok\r\n",
            "221 bye\r\n",
        ]);
        let session = smtp(at, "node.example", "sign");
        assert!(session.broken.is_none(), "{session:?}");
        let said = [
            "EHLO [127.0.0.1]",
            "MAIL FROM:<sign@node.example>",
            "RCPT TO:<sign@node.example>",
            "RCPT TO:<postmaster>",
            "RSET",
            "QUIT",
        ];
        assert_eq!(heard.join().unwrap(), said);
    }

    #[test]
    fn who_says_nonsense_is_left() {
        for answers in [
            &["hello\r\n"][..],
            &["\r\n"],
            &[],
            &["220 a\r\n", "\x1b[0m\n"],
        ] {
            let (at, _heard) = server(answers);
            let session = smtp(at, "node.example", "sign");
            assert!(session.broken.is_some(), "{session:?}");
            assert!(!session.lines.iter().any(|line| line.contains('\x1b')));
        }
    }

    #[test]
    fn a_password_is_not_repeated() {
        let (at, heard) = server(&["* OK ready\r\n", "* CAP\r\na OK in\r\n", "* BYE\r\n"]);
        let session = imap(at, "a\"b", "p\\w");
        assert_eq!(heard.join().unwrap()[0], r#"a LOGIN "a\"b" "p\\w""#);
        assert!(!session.lines.concat().contains("p\\"), "{session:?}");
        assert!(session.lines.contains(&"a OK in".to_owned()));
    }
}
