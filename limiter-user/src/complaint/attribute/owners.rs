//! Whose addresses, domains and accounts are, by the policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::facts::Owner;
use crate::{complaint::log::Account, policy::model::Policy};

/// Whose addresses, domains and accounts are. Made anew when the policy or the machine changes.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    /// The narrowest first.
    addresses: Vec<(IpNet, String)>,
    own_addresses: BTreeSet<IpAddr>,
    /// Names of hosts, lower case.
    names: BTreeSet<String>,
    domains: BTreeMap<String, String>,
    parents: BTreeMap<String, String>,
    uids: BTreeMap<u32, String>,
    users: BTreeMap<String, String>,
}

impl Owners {
    /// Reads them from `policy`.
    ///
    /// `own_addresses` are those of this machine's interfaces; those that the policy names for the
    /// MTA are added. `users` are the names and uids of all users that send, with the tenant that
    /// the machine's identities give them to (the agent knows: accounts and sub-uids are in there).
    /// `names` is what the mail server calls itself beside the node's name.
    #[must_use]
    pub fn new(
        policy: &Policy,
        own_addresses: impl IntoIterator<Item = IpAddr>,
        names: &[String],
        users: impl IntoIterator<Item = (u32, Option<String>, String)>,
    ) -> Self {
        let mut owners = Self::default();
        for tenant in &policy.tenants {
            if let Some(parent) = &tenant.parent {
                owners.parents.insert(tenant.name.clone(), parent.clone());
            }
            if tenant.is_domain {
                // `tenant/domain`.
                let domain = tenant.name.rsplit('/').next().unwrap_or(&tenant.name);
                owners
                    .domains
                    .insert(domain.to_lowercase(), tenant.name.clone());
            }
            for prefix in &tenant.matches.addresses {
                owners.addresses.push((prefix.value, tenant.name.clone()));
            }
        }
        owners
            .addresses
            .sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.prefix_len()));
        owners.own_addresses = own_addresses
            .into_iter()
            .chain(policy.node.mta.addresses.iter().copied())
            .map(|address| address.to_canonical())
            .collect();
        owners.names = names
            .iter()
            .chain([&policy.node.name])
            .map(|name| name.trim_end_matches('.').to_lowercase())
            .collect();
        for (uid, name, tenant) in users {
            if let Some(name) = name {
                owners.users.insert(name, tenant.clone());
            }
            owners.uids.insert(uid, tenant);
        }
        owners
    }

    /// Whose an address is.
    #[must_use]
    pub fn owner(&self, address: IpAddr) -> Owner {
        let address = address.to_canonical();
        let narrowest = self
            .addresses
            .iter()
            .find(|(prefix, _)| prefix.contains(&address));
        match narrowest {
            Some((_, tenant)) => Owner::Tenant(tenant.clone()),
            None if self.own_addresses.contains(&address) => Owner::Node,
            None => Owner::Foreign,
        }
    }

    /// The tenant whose domain it is.
    #[must_use]
    pub fn tenant_of_domain(&self, domain: &str) -> Option<String> {
        self.domains.get(&domain.to_lowercase()).cloned()
    }

    /// The tenant that an account of the mail server belongs to.
    #[must_use]
    pub fn tenant_of_account(&self, account: &Account) -> Option<String> {
        match account {
            Account::Uid(uid) => self.uids.get(uid).cloned(),
            Account::User(user) => self.users.get(user).cloned(),
            Account::Login(login) => match login.rsplit_once('@') {
                Some((_, domain)) => self.tenant_of_domain(domain),
                None => self.users.get(login).cloned(),
            },
            Account::Address(address) => match self.owner(*address) {
                Owner::Tenant(tenant) => Some(tenant),
                Owner::Node | Owner::Foreign => None,
            },
        }
    }

    /// Who is above a tenant.
    #[must_use]
    pub fn parent(&self, tenant: &str) -> Option<String> {
        self.parents.get(tenant).cloned()
    }

    /// Whether this node's mail server calls itself so.
    #[must_use]
    pub fn is_own_name(&self, host: &str) -> bool {
        self.names
            .contains(&host.trim_end_matches('.').to_lowercase())
    }
}
