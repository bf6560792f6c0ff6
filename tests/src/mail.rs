//! The programs with which real people send mail straight to a server.

use std::{
    net::{IpAddr, SocketAddr},
    process::Command,
};

use crate::{Output, Place, process::run};

/// A message.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipient.
    pub to: String,
    /// The subject: by it a test finds the message again.
    pub subject: String,
}

impl Letter {
    /// A message to somebody at `outside.example`.
    #[must_use]
    pub fn outside(subject: &str) -> Self {
        Self {
            from: "web@node.example".to_owned(),
            to: "somebody@outside.example".to_owned(),
            subject: subject.to_owned(),
        }
    }

    /// The message with its headers.
    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "From: <{}>\nTo: <{}>\nSubject: {}\n\nBuy now.\n",
            self.from, self.to, self.subject
        )
    }
}

/// A program that sends mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mailer {
    /// Postfix's `smtp-source`.
    SmtpSource,
    /// swaks, in Perl.
    Swaks,
    /// PHP with a socket of its own: what most hacked sites do.
    PhpSocket,
    /// PHP with PHPMailer.
    PhpMailer,
    /// Python's smtplib.
    Python,
    /// curl.
    Curl,
}

impl Mailer {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::SmtpSource,
        Self::Swaks,
        Self::PhpSocket,
        Self::PhpMailer,
        Self::Python,
        Self::Curl,
    ];

    /// Sends `letter` to the server at `to`. The exit code is 0 if the server took it.
    #[must_use]
    pub fn send(self, place: &Place, to: SocketAddr, letter: &Letter) -> Output {
        let host = match to.ip() {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        };
        let port = to.port().to_string();
        let mut input = String::new();
        let mut command: Command;
        match self {
            Self::SmtpSource => {
                command = place.command("smtp-source");
                command.args(["-f", &letter.from, "-t", &letter.to, "-S", &letter.subject]);
                command.arg(format!("inet:{host}:{port}"));
            }
            Self::Swaks => {
                command = place.command("swaks");
                command.args(["--server", &to.ip().to_string(), "--port", &port]);
                command.args(["--from", &letter.from, "--to", &letter.to]);
                command.args(["--header", &format!("Subject: {}", letter.subject)]);
                command.args(["--timeout", "10", "--silent", "2", "--helo", "web.example"]);
            }
            Self::PhpSocket | Self::PhpMailer => {
                command = place.command("php");
                let script = if self == Self::PhpSocket {
                    PHP_SOCKET
                } else {
                    PHP_MAILER
                };
                command.args(["-r", script, "--", &host, &port]);
                command.args([&letter.from, &letter.to, &letter.subject]);
            }
            Self::Python => {
                command = place.command("/usr/bin/python3");
                command.args(["-c", PYTHON, &to.ip().to_string(), &port]);
                command.args([&letter.from, &letter.to]);
                input = letter.text();
            }
            Self::Curl => {
                command = place.command("curl");
                command.args(["--silent", "--show-error", "--max-time", "10"]);
                command.args(["--mail-from", &letter.from, "--mail-rcpt", &letter.to]);
                command.args(["--upload-file", "-", "--crlf"]);
                command.arg(format!("smtp://{host}:{port}/web.example"));
                input = letter.text();
            }
        }
        run(&mut command, &input)
    }
}

const PHP_SOCKET: &str = r#"
[$_, $host, $port, $from, $to, $subject] = $argv;
$socket = @fsockopen($host, (int)$port, $errno, $error, 10);
if (!$socket) { fwrite(STDERR, "$errno $error\n"); exit(1); }
$ask = function ($line, $wanted) use ($socket) {
    if ($line !== null) { fwrite($socket, "$line\r\n"); }
    do { $answer = fgets($socket); } while ($answer !== false && substr($answer, 3, 1) === "-");
    if (substr((string)$answer, 0, 1) !== $wanted) { fwrite(STDERR, "$line: $answer\n"); exit(2); }
};
$ask(null, "2");
$ask("EHLO web.example", "2");
$ask("MAIL FROM:<$from>", "2");
$ask("RCPT TO:<$to>", "2");
$ask("DATA", "3");
$ask("From: <$from>\r\nTo: <$to>\r\nSubject: $subject\r\n\r\nBuy now.\r\n.", "2");
$ask("QUIT", "2");
"#;

const PHP_MAILER: &str = r#"
require "/usr/share/php/libphp-phpmailer/autoload.php";
[$_, $host, $port, $from, $to, $subject] = $argv;
$mail = new PHPMailer\PHPMailer\PHPMailer(true);
$mail->isSMTP();
$mail->SMTPAutoTLS = false;
$mail->Host = $host;
$mail->Port = (int)$port;
$mail->Hostname = "web.example";
$mail->Timeout = 10;
$mail->setFrom($from);
$mail->addAddress($to);
$mail->Subject = $subject;
$mail->Body = "Buy now.";
try { $mail->send(); } catch (Exception $e) {
    fwrite(STDERR, $e->getMessage() . " " . implode(" ", $mail->getSMTPInstance()->getError()));
    exit(1);
}
"#;

const PYTHON: &str = r#"
import smtplib, sys
host, port, sender, recipient = sys.argv[1:]
with smtplib.SMTP(host, int(port), local_hostname="web.example", timeout=10) as server:
    server.sendmail(sender, [recipient], sys.stdin.read())
"#;
