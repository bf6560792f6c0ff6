//! How the tenants in a list stand with the node.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{Global, ask::agent_or_pins};
use crate::{
    control::client::Client,
    report::status::{Standing, Status, TenantStatus},
};

/// How old an answer may be where events are followed.
const HOLDS: Duration = Duration::from_secs(2);
/// How many tenants are remembered where events are followed.
const MOST: usize = 10_000;

/// How tenants stand, as far as it can be told: a list is shown without it, too.
#[derive(Debug, Default)]
pub struct Standings(HashMap<String, (Instant, Option<TenantStatus>)>);

impl Standings {
    /// All of them, or the one that is asked for; by the agent, else by pins and files.
    pub fn now(global: &Global, tenant: Option<&str>) -> Self {
        let answer = agent_or_pins(
            global,
            async |client| client.status(tenant).await,
            |node| node.status(tenant),
        );
        let mut standings = Self::default();
        match answer {
            Ok(answer) => standings.add(answer.answer),
            // Of a tenant that is gone, and of a node that enforces nothing, there is nothing to tell.
            Err(error) => log::debug!("{error}"),
        }
        standings
    }

    fn add(&mut self, status: Status) {
        let now = Instant::now();
        let tenants = status.tenants.into_iter();
        self.0
            .extend(tenants.map(|tenant| (tenant.tenant.clone(), (now, Some(tenant)))));
    }

    /// Asks for this tenant, unless that was done just now.
    pub async fn refresh(&mut self, client: &Client, tenant: &str) {
        if self
            .0
            .get(tenant)
            .is_some_and(|(at, _)| at.elapsed() < HOLDS)
        {
            return;
        }
        if self.0.len() >= MOST {
            self.0.clear();
        }
        match client.status(Some(tenant)).await {
            Ok(status) => self.add(status),
            Err(error) => {
                log::debug!("{error}");
                self.0.insert(tenant.to_owned(), (Instant::now(), None));
            }
        }
    }

    /// How this tenant stands.
    pub fn of(&self, tenant: &str) -> Option<&TenantStatus> {
        self.0.get(tenant)?.1.as_ref()
    }

    /// Of these tenants those against whom anything is held.
    pub fn held_against<'s>(
        &'s self,
        tenants: impl IntoIterator<Item = &'s String>,
    ) -> impl Iterator<Item = &'s TenantStatus> {
        let known = tenants.into_iter().filter_map(|tenant| self.of(tenant));
        known.filter(|tenant| tenant.standing > Standing::Good)
    }
}
