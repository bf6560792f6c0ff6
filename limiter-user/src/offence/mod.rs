//! From signals to sanctions: (state, signal, now) → (state, actions). Pure: no clock, no disk, no
//! chance. What happened comes in as [`Signal`], what is to be done goes out as [`Action`].
//!
//! Whatever order signals of one moment arrive in, the state is the same: a signal only adds
//! (counts, marks, holds, words), and what takes away (a lift, the end of a case) happens when time
//! passes, before the signals of a moment are heard.

mod action;
mod advance;
mod book;
mod case;
mod charge;
mod clock;
mod complaint;
mod convict;
mod ends;
mod engine;
mod evidence;
mod hear;
mod hold;
mod judge;
mod ladder;
mod next;
mod record;
mod signal;
mod state;
mod steps;
mod tally;
mod time;
mod void;
mod words;

pub use action::{Action, How, Notice, NoticeEvent, Pending};
pub use book::{Book, DEFAULT_NAME, NODE_NAME, Subject};
pub use case::{Case, Mark};
pub use clock::{Clock, Reading};
pub use engine::{Outcome, step};
pub use evidence::{Evidence, Ids, Seen};
pub use hold::{Hold, Status, Why};
pub use ladder::{
    Charge, ComplaintRules, Condition, Ladder, Length, Lift, OffenceRule, Per, Rate,
    RefusedAttempts, Step, When,
};
pub use next::Next;
pub use record::{LadderRecord, OwnHold, Record, Standing};
pub use signal::{Circumstances, Complaint, MAILING_LISTS, Signal, Word};
pub use state::State;
pub use time::{Moment, Span};
pub use void::Voided;
pub use words::{Audience, Bill, Part, Sanction, Severity};

#[cfg(test)]
mod tests;
