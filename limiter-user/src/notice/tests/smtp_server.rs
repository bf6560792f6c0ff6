//! A mail server that says what the test wants.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::policy::notices::Smtp;

/// What it does in a session.
#[derive(Clone, Copy, Debug)]
pub enum Mood {
    /// Takes the mail.
    Takes,
    /// Answers RCPT so.
    Says(&'static str),
    /// Accepts the connection, and says nothing for a while.
    Hangs,
    /// Breaks off in the middle of the message, having taken it.
    BreaksOff,
}

#[derive(Clone, Debug)]
pub struct SmtpServer {
    pub address: SocketAddr,
    moods: Arc<Mutex<VecDeque<Mood>>>,
    mails: Arc<Mutex<Vec<Received>>>,
}

#[derive(Clone, Debug, Default)]
pub struct Received {
    pub helo: String,
    pub from: String,
    pub to: Vec<String>,
    pub text: String,
}

impl SmtpServer {
    /// Listens; the last of `moods` holds for ever.
    pub fn start(moods: &[Mood]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            moods: Arc::new(Mutex::new(moods.iter().copied().collect())),
            mails: Arc::default(),
        };
        let own = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, own) = (stream.unwrap(), own.clone());
                std::thread::spawn(move || own.talk(stream));
            }
        });
        server
    }

    pub fn smtp(&self) -> Smtp {
        Smtp::Server {
            host: self.address.ip().to_string(),
            port: self.address.port(),
        }
    }

    pub fn mails(&self) -> Vec<Received> {
        self.mails.lock().unwrap().clone()
    }

    fn talk(&self, mut stream: TcpStream) {
        let mood = {
            let mut moods = self.moods.lock().unwrap();
            if moods.len() > 1 {
                moods.pop_front()
            } else {
                moods.front().copied()
            }
        };
        let mood = mood.unwrap();
        if matches!(mood, Mood::Hangs) {
            std::thread::sleep(Duration::from_secs(60));
            return;
        }
        let mut lines = BufReader::new(stream.try_clone().unwrap())
            .lines()
            .map_while(Result::ok);
        let mut say = |text: &str| stream.write_all(format!("{text}\r\n").as_bytes()).is_ok();
        say("220 sink.example ESMTP");
        let mut mail = Received::default();
        while let Some(line) = lines.next() {
            let word = line
                .split([' ', ':'])
                .next()
                .unwrap_or_default()
                .to_uppercase();
            let answer = match word.as_str() {
                "EHLO" | "HELO" => {
                    mail.helo = line;
                    "250-sink.example\r\n250 8BITMIME"
                }
                "MAIL" => {
                    mail.from = line;
                    "250 2.1.0 Ok"
                }
                "RCPT" => {
                    mail.to.push(line);
                    match mood {
                        Mood::Says(answer) => answer,
                        _ => "250 2.1.5 Ok",
                    }
                }
                "DATA" => {
                    say("354 go on");
                    let text: Vec<String> = lines.by_ref().take_while(|line| line != ".").collect();
                    mail.text = text.join("\n");
                    self.mails.lock().unwrap().push(mail.clone());
                    if matches!(mood, Mood::BreaksOff) {
                        return;
                    }
                    "250 2.0.0 Ok: queued as 4F"
                }
                "QUIT" => {
                    say("221 bye");
                    return;
                }
                _ => "250 Ok",
            };
            if !say(answer) {
                return;
            }
        }
    }
}
