//! What the node knows by itself.

use std::net::IpAddr;

use jiff::Timestamp;
use thiserror::Error;

use crate::{
    complaint::log::{Account, LogError, LogFound, LogQuery},
    report::{event::Endpoint, store::StoreError},
};

/// What this node knows, whatever a report says.
pub trait Facts {
    /// Whose an address is.
    fn owner(&self, address: IpAddr) -> Owner;
    /// The tenant whose domain it is; for a domain that is a tenant itself, that one.
    fn tenant_of_domain(&self, domain: &str) -> Option<String>;
    /// The tenant that an account of the mail server belongs to.
    fn tenant_of_account(&self, account: &Account) -> Option<String>;
    /// Who is above a tenant.
    fn parent(&self, tenant: &str) -> Option<String>;
    /// Whether this node's mail server calls itself so in Received fields.
    fn is_own_name(&self, host: &str) -> bool;
    /// The connections for mail that the kernel let out between two moments; of those that a report is
    /// not `about`, and of one tenant's, not all where there are very many.
    ///
    /// # Errors
    /// Records that cannot be read, or are too many.
    fn sightings(
        &self,
        when: (Timestamp, Timestamp),
        about: &About,
    ) -> Result<Vec<Sighting>, FactsError>;
    /// What the mail server's logs say of a message.
    ///
    /// # Errors
    /// A log that cannot be read.
    fn log(&self, query: &LogQuery) -> Result<LogFound, FactsError>;
}

/// What a report says of the connection, for looking for it among many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The port that the mail came from.
    pub port: Option<u16>,
    /// The host that received it.
    pub destination: Option<IpAddr>,
}

/// Whose an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This tenant's alone.
    Tenant(String),
    /// The node's: several tenants send from it.
    Node,
    /// Not of this node.
    Foreign,
}

/// A connection for mail that was let out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// When.
    pub time: Timestamp,
    /// Whose; `None` where the name is lost.
    pub tenant: Option<String>,
    /// From where, if the layer that saw it knew.
    pub source: Option<Endpoint>,
    /// Where to.
    pub destination: Endpoint,
}

/// Why the node cannot say what it knows.
#[derive(Debug, Error)]
pub enum FactsError {
    /// The history.
    #[error(transparent)]
    History(#[from] StoreError),
    /// A log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// More than can be looked through.
    #[error("more than {most} connections at that time")]
    TooMany {
        /// How many are looked through.
        most: usize,
    },
}
