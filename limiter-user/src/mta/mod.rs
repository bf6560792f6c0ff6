//! The mail that tenants have in the queue of the node's mail server: held while they may not send,
//! released when they may again.
//!
//! Whose a message is, is said by what the mail server itself wrote down ([`Origin`]), never by
//! anything that the sender could write. What nobody can be made responsible for is left alone, and
//! counted. What limiter holds is written down ([`HoldBook`]) before it is held, so that it
//! never releases what an administrator holds.
//!
//! Messages that come while a tenant is held are found by looking again ([`QueueKeeper::sweep`]).
//! A mail server delivers at once if it can, so that what it takes in the meantime may go out: the
//! way to stop new mail is to refuse it there. This is for what has been taken.

mod book;
pub mod bounce;
pub mod check;
mod command;
mod error;
mod exim;
mod find;
mod keeper;
mod mail;
pub mod mailman;
mod postfix;
mod queue;
pub mod setup;
mod submissions;
mod thread;
mod walk;

pub use self::{
    book::{BookError, HeldMail, HoldBook, MemoryBook},
    error::MtaError,
    exim::{Exim, HOLD_QUEUE},
    find::{Places, Servers},
    keeper::{QueueKeeper, Report},
    mail::{Mail, MailKey, Origin, Tenants},
    postfix::Postfix,
    queue::{MailQueue, Released},
    submissions::{PostfixSubmissions, Submissions},
    thread::{KeeperHandle, KeeperThread},
};
