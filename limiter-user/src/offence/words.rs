//! The words of policies: sanctions, severities, whom to tell, who pays.

use serde::{Deserialize, Serialize};

/// Declares an enum of words, ordered as they stand.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every word and what it means, in order.
            pub const WORDS: &'static [(&'static str, Self)] = &[$(($text, Self::$variant),)+];

            /// The word in files, JSON and messages.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}
pub(super) use words;

words! {
    /// What a tenant suffers, weakest first; each includes those before it.
    Sanction {
        /// A notice.
        Warn => "warn",
        /// None of its mail leaves.
        BlockSmtp => "block_smtp",
        /// Also no mailbox logins.
        SuspendMail => "suspend_mail",
        /// No traffic but loopback and management.
        SuspendNetwork => "suspend_network",
        /// Also no packet to or from its addresses.
        NullRoute => "null_route",
        /// The account is over.
        Terminate => "terminate",
    }
}

impl Sanction {
    /// What stands for a sanction of the kernel's.
    #[must_use]
    pub const fn of_kernel(sanction: limiter_common::sanction::Sanction) -> Self {
        use limiter_common::sanction::Sanction as Kernel;
        match sanction {
            Kernel::BlockSmtp => Self::BlockSmtp,
            Kernel::SuspendMail => Self::SuspendMail,
            Kernel::SuspendNetwork => Self::SuspendNetwork,
            Kernel::NullRoute => Self::NullRoute,
        }
    }

    /// What the kernel enforces for it, if anything.
    #[must_use]
    pub const fn in_kernel(self) -> Option<limiter_common::sanction::Sanction> {
        use limiter_common::sanction::Sanction as Kernel;
        match self {
            Self::Warn => None,
            Self::BlockSmtp => Some(Kernel::BlockSmtp),
            Self::SuspendMail => Some(Kernel::SuspendMail),
            Self::SuspendNetwork | Self::Terminate => Some(Kernel::SuspendNetwork),
            Self::NullRoute => Some(Kernel::NullRoute),
        }
    }
}

words! {
    /// How grave an offence is.
    Severity {
        /// A nuisance.
        Minor => "minor",
        /// Confirmed spam.
        Moderate => "moderate",
        /// A danger to the node's reputation.
        Severe => "severe",
        /// Botnets, snowshoe.
        Critical => "critical",
    }
}

words! {
    /// Who is told.
    Audience {
        /// The tenant's contacts.
        Contact => "contact",
        /// The contacts of its parent: the reseller.
        Parent => "parent",
        /// Whoever runs the node.
        Operator => "operator",
    }
}

words! {
    /// Who pays.
    Bill {
        /// The tenant itself.
        Tenant => "tenant",
        /// Its parent (a domain's owner, a customer's reseller); itself where it has none.
        Parent => "parent",
    }
}

words! {
    /// What a report of abuse holds.
    Part {
        /// All header fields of the message.
        Headers => "headers",
        /// The whole message.
        Message => "message",
        /// When it was received.
        Received => "received",
        /// What was violated.
        Violated => "violated",
    }
}
