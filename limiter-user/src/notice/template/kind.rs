//! Which template speaks for which notice.

use crate::{
    notice::facts::{EventKind, Facts},
    offence::Audience,
};

/// Declares the templates: their names, and the defaults inside the binary.
macro_rules! kinds {
    ($($(#[$meta:meta])* $kind:ident => $name:literal,)+) => {
        /// A template.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($(#[$meta])* $kind,)+ }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)+];

            /// The name of its file.
            #[must_use]
            pub const fn file(self) -> &'static str {
                match self { $(Self::$kind => concat!($name, ".txt"),)+ }
            }

            /// What stands in its place where there is no such file.
            #[must_use]
            pub const fn default_text(self) -> &'static str {
                match self { $(Self::$kind => include_str!(concat!("defaults/", $name, ".txt")),)+ }
            }
        }
    };
}

kinds! {
    /// A warning, for the customer or its reseller.
    Warned => "warned",
    /// A sanction, for the customer or its reseller.
    Sanctioned => "sanctioned",
    /// A warning or sanction, for the operator.
    SanctionedOperator => "sanctioned.operator",
    /// The end of a sanction, for all.
    Lifted => "lifted",
    /// The end of a proposal that was never in force.
    Dropped => "dropped",
    /// A proposal.
    Proposed => "proposed",
    /// A proposal that nobody decided.
    Undecided => "undecided",
    /// A complaint that nobody handled.
    Overdue => "overdue",
    /// A notice that did not arrive.
    Undelivered => "undelivered",
    /// Complaints of which nobody knows whose mail they are about.
    Unassigned => "unassigned",
    /// Several notices in one.
    Digest => "digest",
}

impl Kind {
    /// The one for these facts.
    #[must_use]
    pub const fn of(facts: &Facts) -> Self {
        match (facts.event, facts.audience) {
            (EventKind::Warned | EventKind::Sanctioned, Audience::Operator) => {
                Self::SanctionedOperator
            }
            (EventKind::Warned, _) => Self::Warned,
            (EventKind::Sanctioned, _) => Self::Sanctioned,
            (EventKind::Lifted, _) => Self::Lifted,
            (EventKind::Dropped, _) => Self::Dropped,
            (EventKind::Proposed, _) => Self::Proposed,
            (EventKind::Undecided, _) => Self::Undecided,
            (EventKind::Overdue, _) => Self::Overdue,
            (EventKind::Undelivered, _) => Self::Undelivered,
            (EventKind::Unassigned, _) => Self::Unassigned,
        }
    }
}
