//! The policy service: Postfix and Exim, over one socket.
//!
//! Exim opens a connection for each question, Postfix keeps its own for many messages. A connection that
//! asks for another message, or ends, ends the one before: [`messages`](super::messages).

use std::{io, sync::Arc, time::Duration};

use tokio::{io::AsyncWriteExt as _, sync::Semaphore, time};

use super::{
    ask::{self, Asker},
    callers::Callers,
    doors::Doors,
    exim,
    lines::{Line, Lines},
    listen::{Caller, Stream},
    messages::Messages,
    postfix,
    watch::Watch,
};
use crate::{
    policy::services::ServiceAddress,
    submission::{Answer, Envelope, Key},
};

/// How long a connection may be silent between two questions. Postfix ends its own after at most 1000
/// seconds, Exim's never are.
const SILENCE: Duration = Duration::from_secs(1_800);
/// How long a question may take to arrive, and an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many long questions are read at a time.
const LONG_QUESTIONS: usize = 8;

/// What all connections share.
#[derive(Debug)]
pub struct PolicyService {
    asker: Asker,
    messages: Messages,
    long: Semaphore,
    watch: Arc<Watch>,
}

/// How a conversation goes on.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Question,
    End,
}

impl PolicyService {
    /// A service that asks `asker`.
    #[must_use]
    pub fn new(asker: Asker) -> Arc<Self> {
        Self::watched(asker, Arc::default())
    }

    /// The same, that tells who asks with a sign.
    #[must_use]
    pub fn watched(asker: Asker, watch: Arc<Watch>) -> Arc<Self> {
        Arc::new(Self {
            watch,
            asker,
            messages: Messages::default(),
            long: Semaphore::new(LONG_QUESTIONS),
        })
    }

    /// Opens its doors: [`Doors::open`].
    #[must_use]
    pub fn open(self: &Arc<Self>, addresses: &[ServiceAddress], callers: &Arc<Callers>) -> Doors {
        let service = Arc::clone(self);
        Doors::open(
            addresses,
            "services.policy",
            callers,
            move |stream, caller| Arc::clone(&service).converse(stream, caller),
        )
    }

    /// Answers one connection until it ends.
    pub async fn converse(self: Arc<Self>, stream: Box<dyn Stream>, caller: Caller) {
        let mut conversation = Conversation {
            lines: Lines::new(stream),
            number: caller.connection,
            caller,
            current: None,
            service: &self,
        };
        if let Err(error) = conversation.run().await {
            log::debug!("a mail server's connection ended early: {error}");
        }
    }
}

/// One connection.
struct Conversation<'s> {
    lines: Lines<Box<dyn Stream>>,
    number: u64,
    caller: Caller,
    /// The message of Postfix's that was asked about last.
    current: Option<String>,
    service: &'s PolicyService,
}

impl Drop for Conversation<'_> {
    /// Also when the agent stops: the next one counts the whole message when it is asked at its end.
    fn drop(&mut self) {
        self.leave();
    }
}

impl Conversation<'_> {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            let first = match time::timeout(SILENCE, self.lines.next(postfix::MOST_LINE)).await {
                Err(_) => return Ok(()),
                Ok(line) => line?,
            };
            let next = match first {
                Line::End => return Ok(()),
                Line::Whole(line) if line.starts_with(exim::GREETING) => self.exim(&line).await?,
                // Only Exim asks in long lines. What was received is still there.
                Line::TooLong => self.long_line().await?,
                Line::Whole(line) => self.postfix(line).await?,
            };
            if next == Next::End {
                return Ok(());
            }
        }
    }

    /// A question of Exim's that is longer than a line of Postfix's.
    async fn long_line(&mut self) -> io::Result<Next> {
        let soon = time::Instant::now() + PATIENCE;
        let mut line = time::timeout_at(soon, self.lines.next(exim::LONG_LINE))
            .await
            .map_err(io::Error::from)??;
        if line == Line::TooLong {
            let service = self.service;
            let place = time::timeout(PATIENCE, service.long.acquire()).await;
            let _place = place.map_err(io::Error::from)?;
            let soon = time::Instant::now() + PATIENCE;
            line = time::timeout_at(soon, self.lines.next(exim::MOST_LINE))
                .await
                .map_err(io::Error::from)??;
            return match line {
                Line::Whole(line) => self.exim(&line).await,
                _ => self.malformed("a line that is too long").await,
            };
        }
        match line {
            Line::Whole(line) => self.exim(&line).await,
            _ => self.malformed("a line that is too long").await,
        }
    }

    /// One question, one answer, and the connection is over.
    async fn exim(&mut self, line: &[u8]) -> io::Result<Next> {
        let answer = match exim::question(line) {
            Ok(question) => self.ask_for_exim(question).await,
            Err(error) => {
                log::warn!("a question of Exim's cannot be understood: {error}");
                ask::not_understood()
            }
        };
        self.say(&format!("{}\n", exim::answer(&answer))).await?;
        self.lines.inner().shutdown().await?;
        Ok(Next::End)
    }

    async fn ask_for_exim(&mut self, question: exim::Question) -> Answer {
        let asker = &self.service.asker;
        match question {
            exim::Question::Recipient {
                key,
                envelope,
                recipient,
            } => {
                if self.is_sign(&envelope, &recipient, "Exim") {
                    return Answer::Accept;
                }
                asker
                    .ask(|gate| gate.recipient(&key, &envelope, &recipient))
                    .await
            }
            exim::Question::Message {
                key,
                envelope,
                recipients,
                queued,
            } => {
                let answer = asker
                    .ask(|gate| gate.message(&key, &envelope, Some(recipients), queued.as_ref()))
                    .await;
                self.end(&key, &answer);
                answer
            }
            exim::Question::Whole {
                key,
                envelope,
                recipients,
                count,
            } => {
                let answer = asker
                    .ask(|gate| gate.whole(&key, &envelope, &recipients, Some(count)))
                    .await;
                self.end(&key, &answer);
                answer
            }
            exim::Question::Drop { key } => {
                asker.tell(|gate| gate.dropped(&key));
                Answer::Accept
            }
        }
    }

    /// Whether somebody only wants to know whether the mail server asks.
    fn is_sign(&self, envelope: &Envelope, recipient: &str, by: &str) -> bool {
        let sender = envelope.sender.as_deref().unwrap_or_default();
        [recipient, sender]
            .iter()
            .any(|name| self.service.watch.is_sign(name, "policy", by, &self.caller))
    }

    /// Exim asks last about a message when nothing else stands against it.
    fn end(&self, key: &Key, answer: &Answer) {
        self.service.asker.tell(|gate| match answer {
            Answer::Accept => gate.taken(key),
            _ => gate.dropped(key),
        });
    }

    async fn postfix(&mut self, first: Vec<u8>) -> io::Result<Next> {
        let soon = time::Instant::now() + PATIENCE;
        let mut request = postfix::Request::default();
        let mut line = first;
        while !line.is_empty() {
            if let Err(error) = request.take(&line) {
                return self.malformed(&error.to_string()).await;
            }
            let next = time::timeout_at(soon, self.lines.next(postfix::MOST_LINE));
            line = match next.await.map_err(io::Error::from)?? {
                Line::Whole(line) => line,
                Line::TooLong => return self.malformed("a line that is too long").await,
                // Nobody waits for an answer to half a question.
                Line::End => return Ok(Next::End),
            };
        }
        let answer = match request.question() {
            Ok(question) => self.ask_for_postfix(question).await,
            Err(error) => return self.malformed(&error.to_string()).await,
        };
        self.say(&postfix::answer(&answer)).await?;
        Ok(Next::Question)
    }

    async fn ask_for_postfix(&mut self, question: postfix::Question) -> Answer {
        match question {
            postfix::Question::Recipient {
                instance,
                envelope,
                recipient,
            } => {
                if self.is_sign(&envelope, &recipient, "Postfix") {
                    return Answer::Accept;
                }
                let key = self.under_way(instance);
                let asker = &self.service.asker;
                asker
                    .ask(|gate| gate.recipient(&key, &envelope, &recipient))
                    .await
            }
            postfix::Question::Message {
                instance,
                envelope,
                recipients,
                queued,
            } => {
                let key = self.under_way(instance);
                let asker = &self.service.asker;
                asker
                    .ask(|gate| gate.message(&key, &envelope, recipients, queued.as_ref()))
                    .await
            }
            postfix::Question::Other { instance } => {
                self.under_way(instance);
                Answer::Accept
            }
        }
    }

    /// This message is asked about now; another one is over.
    fn under_way(&mut self, instance: String) -> Key {
        if self.current.as_ref() != Some(&instance) {
            self.leave();
            self.current = Some(instance.clone());
        }
        self.service.messages.asked(&instance, self.number);
        Key::Instance(instance)
    }

    fn leave(&mut self) {
        if let Some(instance) = self.current.take()
            && self.service.messages.left(&instance, self.number)
        {
            let key = Key::Instance(instance);
            self.service.asker.tell(|gate| gate.dropped(&key));
        }
    }

    /// Answers what is no question; where the next one begins is not known any more.
    async fn malformed(&mut self, why: &str) -> io::Result<Next> {
        log::warn!("a mail server's question cannot be understood: {why}");
        self.say(&postfix::answer(&ask::not_understood())).await?;
        Ok(Next::End)
    }

    async fn say(&mut self, text: &str) -> io::Result<()> {
        let written = async {
            self.lines.inner().write_all(text.as_bytes()).await?;
            self.lines.inner().flush().await
        };
        time::timeout(PATIENCE, written)
            .await
            .map_err(io::Error::from)?
    }
}

#[cfg(test)]
mod tests;
