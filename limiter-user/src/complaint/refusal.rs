//! Why a report cannot be used, and what a person does with it.

use thiserror::Error;

/// Why bytes are no report that can be handled without a person. Nothing is thrown away: whoever
/// refuses a report keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Longer than what is read.
    #[error("it is longer than {limit} bytes")]
    TooLarge {
        /// The most that is read.
        limit: usize,
    },
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// It has no header fields and is no JSON.
    #[error("it is neither a mail nor an XARF report")]
    NotMail,
    /// Parts inside parts.
    #[error("its parts are nested deeper than {limit} levels")]
    TooDeep {
        /// The most levels.
        limit: usize,
    },
    /// Too many parts.
    #[error("it has more than {limit} parts")]
    TooManyParts {
        /// The most.
        limit: usize,
    },
    /// A header block that is too long, or has too many fields.
    #[error("a header block in it has more than {fields} fields or {bytes} bytes")]
    TooManyHeaders {
        /// The most fields.
        fields: usize,
        /// The most bytes.
        bytes: usize,
    },
    /// The machine-readable part says nothing.
    #[error("its message/feedback-report part has no Feedback-Type")]
    NoFeedbackType,
    /// A field that can stand only once says two things.
    #[error("its field {field} stands in it twice and says different things")]
    Contradiction {
        /// The field.
        field: &'static str,
    },
    /// A report inside a mail that is none.
    #[error("it passes on a mail that is a report itself, or looks like one")]
    Nested,
    /// XARF that does not follow its schema.
    #[error("it is no valid XARF report: {problem}")]
    Xarf {
        /// What is wrong with it.
        problem: String,
    },
    /// Another version of XARF.
    #[error("it is an XARF report of version {found}; version 4 is read")]
    XarfVersion {
        /// Its version, cut.
        found: String,
    },
    /// A report of something that is no mail.
    #[error("it is an XARF report about {category}, not about mail")]
    NotAboutMail {
        /// What it is about.
        category: String,
    },
    /// Several messages are complained about.
    #[error("it holds {count} messages; a report is about one")]
    Several {
        /// How many.
        count: usize,
    },
    /// A bounce or a receipt.
    #[error("it is a notice about a delivery, not a report of abuse")]
    DeliveryNotice,
    /// A DMARC aggregate report.
    #[error("it is a DMARC aggregate report: statistics, not a report of abuse")]
    Aggregate,
    /// An ordinary mail.
    #[error("it holds no report and no message that is complained about")]
    NoReport,
    /// A fault of the parser, stopped before it could do harm.
    #[error("the parser failed on it")]
    Internal,
}

impl Refusal {
    /// A word for the reason, for machines.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::Empty => "empty",
            Self::NotMail => "not_mail",
            Self::TooDeep { .. } => "too_deep",
            Self::TooManyParts { .. } => "too_many_parts",
            Self::TooManyHeaders { .. } => "too_many_headers",
            Self::NoFeedbackType => "no_feedback_type",
            Self::Contradiction { .. } => "contradiction",
            Self::Nested => "nested",
            Self::Xarf { .. } => "bad_xarf",
            Self::XarfVersion { .. } => "xarf_version",
            Self::NotAboutMail { .. } => "not_about_mail",
            Self::Several { .. } => "several",
            Self::DeliveryNotice => "delivery_notice",
            Self::Aggregate => "aggregate",
            Self::NoReport => "no_report",
            Self::Internal => "internal",
        }
    }

    /// What a person should do.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => {
                "look at it with a mail program; if it is a complaint, pass on its report and the headers \
                 alone, or raise complaints.max_size"
            }
            Self::Empty => "nothing; look at what delivers into the Maildir if there are more",
            Self::NotMail => {
                "read it; if it is a complaint, ask for it as ARF (RFC 5965), XARF 4 or with the mail \
                 attached"
            }
            Self::TooDeep { .. } | Self::TooManyParts { .. } | Self::TooManyHeaders { .. } => {
                "it was probably made to do harm; read it as plain text, and pass on by hand what is true \
                 in it"
            }
            Self::NoFeedbackType | Self::Contradiction { .. } | Self::Xarf { .. } => {
                "read it and, if it is right, record it by hand (limiter offence add); tell its sender what \
                 is wrong"
            }
            Self::XarfVersion { .. } => {
                "read it and record it by hand (limiter offence add); ask its sender for version 4 or ARF"
            }
            Self::NotAboutMail { .. } => {
                "pass it to whoever handles that kind of abuse; record it by hand if it is an offence"
            }
            Self::Nested => {
                "look whether the inner report is genuine (a spam can be made to look like one); if so, save \
                 it and hand it over by itself (limiter complaint FILE)"
            }
            Self::Several { .. } => {
                "save each message and hand it over by itself (limiter complaint FILE)"
            }
            Self::DeliveryNotice => {
                "nothing, unless many come: then somebody sends with this address as sender"
            }
            Self::Aggregate => "pass it to whoever reads DMARC statistics",
            Self::NoReport => {
                "read it: if it is a complaint, ask for the whole mail with all headers, attached"
            }
            Self::Internal => "keep it and report it as a fault of limiter; read it by hand",
        }
    }
}
