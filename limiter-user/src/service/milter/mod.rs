//! The milter: asked by Postfix for every message, from SMTP (`smtpd_milters`) and from `sendmail`
//! (`non_smtpd_milters`).
//!
//! The protocol is read here and not by a crate. `indymilter` is GPL-3.0. `miltr-server` 0.2 (MIT) bounds
//! its frames and is looked after, but answers every command whatever was agreed on, so that each
//! recipient costs a round trip; cannot tell the mail server that it is still at work on a message; has no
//! bound on time; speaks the traits of another async runtime; and brings a dozen crates along for what is
//! a few hundred lines here.
//!
//! A message is decided at its end, when all recipients are known; the mail server then has it whole, and
//! has answered nobody yet. The gate is told before the mail server is that it was taken: what the mail
//! server does next may be heard over another protocol first. Where the answer then does not arrive,
//! the mail server does what its `milter_default_action` says, and what was counted stays.
//!
//! Mail from `sendmail` comes one at a time, through a process that waits for the answer: who goes too
//! fast is put off there instead of being made to wait, so that neighbours need not.

mod command;
mod frame;
mod limits;
mod message;
mod negotiate;
mod reply;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader},
    time::{self, Instant},
};

use self::{
    command::{Command, CommandError, Step},
    frame::{Frame, FrameError},
    message::{Conversation, Whole, bare},
    negotiate::Agreed,
};
use super::{listen::Caller, watch::Watch};
use crate::{
    mta::Submissions,
    policy::services::OnFailure,
    service::ask::Settings,
    submission::{Answer, Gate},
};

pub use self::limits::Limits;

/// What the mail server is told.
const CONTINUE: u8 = b'c';
const PROGRESS: u8 = b'p';
const REPLY: u8 = b'y';

/// Why a conversation was ended on this side.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct MilterError(#[from] Fault);

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("milter: {0}")]
    Frame(#[from] FrameError),
    #[error("milter: {0}")]
    Command(#[from] CommandError),
    #[error("milter: something was said before the negotiation")]
    Early,
    #[error("milter: a message ended that never began")]
    Nothing,
    #[error("milter: the mail server did not wait for the answer")]
    Gone,
}

impl Fault {
    /// The mail server ended the conversation, and the message with it.
    fn is_theirs(&self) -> bool {
        matches!(self, Self::Frame(FrameError::Broken(_)) | Self::Gone)
    }
}

/// The milter. Any number of conversations may go on at once; how many, whoever accepts them decides.
pub struct Milter {
    gate: Arc<dyn Gate>,
    submissions: Arc<dyn Submissions>,
    settings: Arc<Settings>,
    limits: Limits,
    conversations: AtomicU64,
    watch: Arc<Watch>,
}

impl Milter {
    /// A milter that asks `gate`, and finds out by `submissions` who ran `sendmail`.
    #[must_use]
    pub fn new(
        gate: Arc<dyn Gate>,
        submissions: Arc<dyn Submissions>,
        settings: Arc<Settings>,
        limits: Limits,
    ) -> Self {
        Self {
            gate,
            submissions,
            settings,
            limits,
            conversations: AtomicU64::new(0),
            watch: Arc::default(),
        }
    }

    /// The same, that tells who asks with a sign.
    #[must_use]
    pub fn watched(self, watch: Arc<Watch>) -> Self {
        Self { watch, ..self }
    }

    /// Answers one connection of a mail server, until it ends. Who is at its other end is known to
    /// whoever accepted it: everything said there is believed. A conversation may be dropped at any
    /// moment: its message is given back, unless it came to DATA and goes out without an answer.
    ///
    /// # Errors
    /// The connection broke, or what came is not the protocol.
    pub async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
        caller: &Caller,
    ) -> Result<(), MilterError> {
        Ok(self.converse(stream, caller).await?)
    }

    async fn converse(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
        caller: &Caller,
    ) -> Result<(), Fault> {
        let limits = self.limits;
        let number = self.conversations.fetch_add(1, Ordering::Relaxed);
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reader = BufReader::new(reader);
        let gate = self.gate.as_ref();
        let mut conversation = Conversation::new(gate, &limits, &self.settings, number);
        let ended = self
            .talk(&mut conversation, &mut reader, &mut writer, caller)
            .await;
        // Else the conversation itself knows what becomes of the message.
        if ended.as_ref().err().is_none_or(Fault::is_theirs) {
            conversation.drop_message();
        }
        ended
    }

    async fn talk(
        &self,
        conversation: &mut Conversation<'_>,
        reader: &mut (impl AsyncBufRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
        caller: &Caller,
    ) -> Result<(), Fault> {
        let limits = self.limits;
        let mut agreed = None::<Agreed>;
        let mut frame = Frame::default();
        while frame::read(reader, &mut frame, limits.idle, limits.frame).await? {
            let command = Command::read(&frame)?;
            let answered = match (command, agreed) {
                (Command::Quit, _) => break,
                (Command::Negotiate(offer), _) => {
                    let (steps, answer) = Agreed::on(offer);
                    agreed = Some(steps);
                    frame::write(writer, b'O', &answer, limits.frame).await?;
                    false
                }
                (_, None) => return Err(Fault::Early),
                (Command::Macros(macros), _) => {
                    conversation.hear(macros);
                    false
                }
                (Command::Connect(client), Some(agreed)) => {
                    conversation.connect(client);
                    agreed.answers_connect()
                }
                (Command::Mail(sender), Some(agreed)) => {
                    let name = bare(sender);
                    self.watch.is_sign(&name, "milter", "Postfix", caller);
                    conversation.mail(name);
                    agreed.answers_mail()
                }
                (Command::Recipient(recipient), Some(agreed)) => {
                    conversation.recipient(recipient);
                    agreed.answers_recipient()
                }
                (Command::Step(step), Some(agreed)) => {
                    if matches!(
                        step,
                        Step::Data | Step::Header | Step::EndOfHeaders | Step::Body
                    ) {
                        conversation.begin();
                    }
                    agreed.answers(step)
                }
                (Command::Abort, _) => {
                    conversation.drop_message();
                    false
                }
                (Command::QuitAndReuse, _) => {
                    conversation.disconnect();
                    false
                }
                (Command::EndOfMessage, _) => {
                    conversation.begin();
                    let whole = conversation.whole().ok_or(Fault::Nothing)?;
                    let answer = self.decide(whole, reader, writer).await?;
                    if let Some(refusal) = answer {
                        conversation.drop_message();
                        frame::write(writer, REPLY, &refusal, limits.frame).await?;
                        false
                    } else {
                        conversation.take_message();
                        true
                    }
                }
            };
            if answered {
                frame::write(writer, CONTINUE, &[], limits.frame).await?;
            }
        }
        Ok(())
    }

    /// Asks the gate about a message, as often as it wants; none: it may go.
    async fn decide(
        &self,
        mut whole: Whole,
        reader: &mut (impl AsyncBufRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<Option<Vec<u8>>, Fault> {
        if whole.too_many {
            return Ok(Some(reply::too_many(self.limits.recipients)));
        }
        if whole.local {
            match self.find_submitter(&mut whole).await {
                Submitter::Known => {}
                Submitter::Unknown if self.settings.now().on_failure == OnFailure::Open => {
                    whole.is_unfound();
                }
                Submitter::Unknown | Submitter::Unreadable => return Ok(Some(reply::unknown())),
            }
        }
        let until = Instant::now() + self.limits.patience;
        loop {
            let answer = self
                .gate
                .whole(&whole.key, &whole.envelope, &whole.recipients, None);
            let pause = match answer {
                Answer::Accept => return Ok(None),
                Answer::Defer(refusal) | Answer::Refuse(refusal) => {
                    return Ok(Some(reply::refusal(&refusal)));
                }
                Answer::Wait(pause) => pause,
            };
            let left = until.saturating_duration_since(Instant::now());
            if whole.local || pause > left || left.is_zero() {
                return Ok(Some(reply::too_fast(pause)));
            }
            self.pause(pause, reader, writer).await?;
        }
    }

    /// Waits, and says so now and then.
    async fn pause(
        &self,
        pause: Duration,
        reader: &mut (impl AsyncBufRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), Fault> {
        // However short a pause the gate wants, others get their turn.
        let until = Instant::now() + pause.max(Duration::from_millis(1));
        loop {
            let next = until.min(Instant::now() + self.limits.progress);
            tokio::select! {
                () = time::sleep_until(next) => {}
                // Whoever waits for an answer says nothing, except by leaving.
                _ = reader.fill_buf() => return Err(Fault::Gone),
            }
            if next == until {
                return Ok(());
            }
            frame::write(writer, PROGRESS, &[], self.limits.frame).await?;
        }
    }

    /// Finds out who brought a message that no client brought.
    async fn find_submitter(&self, whole: &mut Whole) -> Submitter {
        // The connection was made up, and so are its ends.
        let made_up = (whole.envelope.client.take(), whole.envelope.server.take());
        let Some(id) = whole.queue_id.clone() else {
            log::warn!("milter: a message that was submitted here has no queue id");
            return Submitter::Unknown;
        };
        let submissions = Arc::clone(&self.submissions);
        let name = id.clone();
        let look = tokio::task::spawn_blocking(move || submissions.submitted(&name));
        let found = match time::timeout(self.limits.lookup, look).await {
            Ok(Ok(Ok(Some(found)))) => found,
            Ok(Ok(Ok(None))) => {
                log::warn!("milter: {id} is in no mail server's queue");
                return Submitter::Unknown;
            }
            Ok(Ok(Err(error))) => {
                log::warn!("milter: who submitted {id} cannot be read: {error}");
                return match error.kind() {
                    io::ErrorKind::InvalidData => Submitter::Unreadable,
                    _ => Submitter::Unknown,
                };
            }
            Ok(Err(_)) | Err(_) => {
                log::warn!("milter: who submitted {id} cannot be read in time");
                return Submitter::Unknown;
            }
        };
        let envelope = &mut whole.envelope;
        envelope.uid = found.uid;
        envelope.login = found.login.or(envelope.login.take());
        if found.client.is_some() {
            (envelope.client, envelope.server) = (found.client, made_up.1);
        }
        Submitter::Known
    }
}

/// What is known of a message that no client brought.
enum Submitter {
    /// What the mail server wrote down.
    Known,
    /// Nothing, for now.
    Unknown,
    /// What the mail server wrote down is like nothing that it writes. Senders write some of it, and must
    /// not hide behind that: it is never let through.
    Unreadable,
}
