//! A session in which one message follows the other, and a mail server that takes them all.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    Namespace,
    load::{cpu_time, stay_on_one_cpu},
};

/// The port of the mail server.
pub const MAIL_PORT: u16 = 25;
/// Bytes of a message.
const MESSAGE: usize = 4_096;
/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// One end of a session in which messages are sent, by pipelining.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    body: Vec<u8>,
}

impl Session {
    /// Connects, is greeted and greets.
    ///
    /// # Errors
    /// What the system says, or that the server does not answer.
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let line = b"All of it is text, and none of it is a dot at the beginning of a line.\r\n";
        let mut body = b"Subject: one of many\r\n\r\n".to_vec();
        while body.len() < MESSAGE {
            body.extend_from_slice(line);
        }
        body.extend_from_slice(b".\r\n");
        let mut session = Self { stream, body };
        session.answers(1)?;
        session.stream.write_all(b"EHLO bulk.example\r\n")?;
        session.answers(2)?;
        Ok(session)
    }

    /// Sends a message, and has it taken.
    ///
    /// # Errors
    /// What the system says, or that the server does not answer.
    pub fn message(&mut self) -> io::Result<()> {
        let envelope =
            b"MAIL FROM:<bulk@bulk.example>\r\nRCPT TO:<all@outside.example>\r\nDATA\r\n";
        self.stream.write_all(envelope)?;
        self.answers(3)?;
        self.stream.write_all(&self.body)?;
        self.answers(1)
    }

    /// Waits for so many lines.
    fn answers(&mut self, lines: usize) -> io::Result<()> {
        let mut buffer = [0; 512];
        let mut seen = 0;
        while seen < lines {
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::Error::other("the server ended it")),
                length => seen += newlines(&buffer[..length]),
            }
        }
        Ok(())
    }
}

/// A mail server that takes everything on [`MAIL_PORT`], both families, on the CPU that
/// [`crate::Loader`]s send on, one session at a time.
#[derive(Debug)]
pub struct MailSink {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    messages: AtomicU64,
    cpu_ns: AtomicU64,
    stop: AtomicBool,
}

impl MailSink {
    /// Begins to listen in a network namespace.
    #[must_use]
    pub fn listen(namespace: &Namespace) -> Self {
        let listener = namespace.enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, MAIL_PORT)));
        let listener = listener.expect("nobody else is here");
        listener
            .set_nonblocking(true)
            .expect("any socket can be non-blocking");
        let seen = Arc::new(Seen::default());
        let of_thread = Arc::clone(&seen);
        let thread = thread::spawn(move || {
            stay_on_one_cpu().expect("any thread may choose its CPU");
            while !of_thread.stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    // Whoever is cut off is for the sender to notice.
                    Ok((stream, _)) => drop(serve(stream, &of_thread)),
                    Err(_) => thread::sleep(Duration::from_micros(200)),
                }
            }
        });
        Self {
            seen,
            thread: Some(thread),
        }
    }

    /// Messages that came so far.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.seen.messages.load(Ordering::SeqCst)
    }

    /// For how long it had a CPU.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.seen.cpu_ns.load(Ordering::SeqCst))
    }
}

impl Drop for MailSink {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        // A panic inside shows in what did not come.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Answers everything, until the other side ends it.
fn serve(mut stream: TcpStream, seen: &Seen) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"220 outside.example\r\n")?;
    let mut buffer = vec![0; 65_536];
    let (mut held, mut greeted) = (Vec::new(), false);
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        held.extend_from_slice(&buffer[..length]);
        // What is sent at once ends in one of these: a greeting, an envelope, a message.
        if !greeted && held.ends_with(b"\r\n") {
            stream.write_all(b"250-outside.example\r\n250 PIPELINING\r\n")?;
            greeted = true;
        } else if held.ends_with(b"\r\nDATA\r\n") {
            stream.write_all(b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 Go\r\n")?;
        } else if held.ends_with(b"\r\n.\r\n") {
            seen.messages.fetch_add(1, Ordering::SeqCst);
            let cpu = cpu_time()?.as_nanos();
            let cpu = u64::try_from(cpu).unwrap_or(u64::MAX);
            seen.cpu_ns.store(cpu, Ordering::SeqCst);
            stream.write_all(b"250 2.0.0 Ok\r\n")?;
        } else {
            continue;
        }
        held.clear();
    }
}

fn newlines(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'\n').count()
}
