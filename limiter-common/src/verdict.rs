//! What is decided about an attempt, why, and where.

/// Declares a fieldless enum that travels through maps as a `u8`, with its names for people.
macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $value:literal => $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant = $value,)+ }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The value that travels as `wire`, if there is one.
            #[must_use]
            pub const fn from_wire(wire: u8) -> Option<Self> {
                match wire { $($value => Some(Self::$variant),)+ _ => None }
            }

            /// The name in configuration, JSON and messages.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}
pub(crate) use wire_enum;

wire_enum! {
    /// What became of an attempt.
    Verdict {
        /// It went out.
        Allowed = 0 => "allowed",
        /// It was refused.
        Denied = 1 => "denied",
        /// It was sent to the local MTA instead.
        Redirected = 2 => "redirected",
        /// It went out, and would have been refused under `mode: enforce`.
        WouldDeny = 3 => "would_deny",
    }
}

wire_enum! {
    /// Why an attempt was not simply allowed.
    Reason {
        /// None: it was allowed.
        None = 0 => "none",
        /// Direct SMTP is blocked or redirected for the tenant.
        DirectSmtp = 1 => "direct_smtp",
        /// Submission to other hosts is blocked for the tenant.
        Submission = 2 => "submission",
        /// A limit of the tenant, an ancestor or the node is used up.
        Limit = 3 => "limit",
        /// It came too soon after the last one.
        Pace = 4 => "pace",
        /// The tenant is under a sanction.
        Suspended = 5 => "suspended",
        /// The tenant's addresses are null-routed.
        NullRoute = 6 => "null_route",
        /// Nobody could be named as the sender.
        Unattributed = 7 => "unattributed",
        /// It could not be parsed and could have been SMTP.
        Unparsable = 8 => "unparsable",
        /// The other address is blocked on this node.
        BlockedAddress = 9 => "blocked_address",
        /// Too many mailbox logins.
        MailboxLimit = 10 => "mailbox_limit",
        /// The sender's domain is not the tenant's.
        SenderMismatch = 11 => "sender_mismatch",
        /// A map or a helper failed: refused to be safe.
        Internal = 12 => "internal",
    }
}

wire_enum! {
    /// Where the kernel looked.
    Layer {
        /// `cgroup/connect4` and `connect6`.
        Connect = 0 => "connect",
        /// `cgroup_skb/egress`.
        Socket = 1 => "socket",
        /// tc ingress on guests' interfaces.
        Guest = 2 => "guest",
        /// tc egress on the ways out.
        Uplink = 3 => "uplink",
        /// `sock_ops` and XDP for mailbox logins.
        Mailbox = 4 => "mailbox",
        /// The node's own mail server, asked by the agent.
        Mta = 5 => "mta",
    }
}

wire_enum! {
    /// What a port is used for.
    PortGroup {
        /// None that limiter looks at.
        Other = 0 => "other",
        /// Mail from server to server.
        Smtp = 1 => "smtp",
        /// Mail from user to server.
        Submission = 2 => "submission",
        /// POP3 and IMAP.
        Mailbox = 3 => "mailbox",
    }
}

impl PortGroup {
    /// The bit that stands for this group in a set of groups.
    #[must_use]
    pub const fn bit(self) -> u8 {
        1 << self as u8
    }
}

wire_enum! {
    /// What a tenant may do with a group of ports, weakest first: the higher of two is stricter.
    Permission {
        /// Limits and pace apply.
        Allow = 0 => "allow",
        /// To the local MTA instead.
        Redirect = 1 => "redirect",
        /// Refused.
        Block = 2 => "block",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_values_round_trip() {
        for verdict in Verdict::ALL {
            assert_eq!(Verdict::from_wire(*verdict as u8), Some(*verdict));
        }
        for reason in Reason::ALL {
            assert_eq!(Reason::from_wire(*reason as u8), Some(*reason));
        }
        assert_eq!(Reason::from_wire(200), None);
        assert_eq!(Verdict::from_wire(4), None);
    }

    #[test]
    fn stricter_permissions_are_greater() {
        assert!(Permission::Block > Permission::Redirect);
        assert!(Permission::Redirect > Permission::Allow);
    }
}
