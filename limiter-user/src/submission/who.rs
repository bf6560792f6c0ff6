//! Whose mail is, by what the policy and the machine say of logins, users, cgroups and addresses.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::{
    mta::{Mail, Tenants},
    policy::{
        image::{Holder, Image, TenantRef},
        model::{Policy, UidRange},
    },
    system::Users,
};

/// Whose identities are, as far as mail servers write them down. What the kernel leaves to
/// `(default)` is nobody's here: a sanction of `(default)` holds no mail.
#[derive(Clone, Debug, Default)]
pub struct MailTenants {
    names: Vec<String>,
    /// Sorted, not overlapping.
    uids: Vec<(UidRange, TenantRef)>,
    /// Users of the system that are a tenant's.
    users: HashMap<String, TenantRef>,
    /// The same by their names in lower case, where those have capitals and nobody else has them; `None`:
    /// several have.
    folded: HashMap<String, Option<TenantRef>>,
    /// By their names in lower case.
    domains: HashMap<String, Domain>,
    /// The accounts that have any, and the tenants that those are.
    domains_of: HashMap<TenantRef, Vec<TenantRef>>,
    /// By their paths: whatever is below one is its tenant's.
    cgroups: HashMap<String, TenantRef>,
    /// Whose processes are the mail server itself. Sorted, not overlapping.
    mta: Vec<UidRange>,
    /// The users of `services.filters`; root is none, and nobody who is a tenant.
    filters: HashSet<u32>,
    /// The same, of `services.lists`.
    lists: HashSet<u32>,
    addresses: HashMap<IpNet, TenantRef>,
    /// The lengths of the prefixes among them.
    lengths: BTreeSet<u8>,
    own_addresses: HashSet<IpAddr>,
}

/// A domain of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    /// The account that it belongs to.
    pub account: TenantRef,
    /// Its own tenant, below the account.
    pub tenant: TenantRef,
}

impl MailTenants {
    /// By this policy, put together with the machine into `image`, whose users are `users`.
    pub fn of(policy: &Policy, image: &Image, users: &Users) -> Self {
        let names: Vec<String> = image.tenants.iter().map(|it| it.name.clone()).collect();
        let mut found = Self {
            uids: image
                .uids
                .iter()
                .filter_map(|binding| match binding.holder {
                    Holder::Mta => None,
                    Holder::Tenant(tenant) => Some((binding.range, tenant)),
                })
                .collect(),
            mta: image
                .uids
                .iter()
                .filter(|binding| binding.holder == Holder::Mta)
                .map(|binding| binding.range)
                .collect(),
            cgroups: image
                .cgroups
                .iter()
                .map(|binding| (binding.path.clone(), binding.tenant))
                .collect(),
            addresses: image
                .addresses
                .iter()
                .map(|binding| (binding.net.trunc(), binding.tenant))
                .collect(),
            own_addresses: image
                .own_addresses
                .iter()
                .map(IpAddr::to_canonical)
                .collect(),
            ..Self::default()
        };
        found.lengths = found.addresses.keys().map(IpNet::prefix_len).collect();
        for user in users.iter() {
            if let Some(tenant) = found.by_uid(user.uid) {
                found.users.insert(user.name.clone(), tenant);
            }
            let name = user.name.to_lowercase();
            if name != user.name {
                let tenant = found.by_uid(user.uid);
                let several = found.folded.contains_key(&name);
                found.folded.insert(name, tenant.filter(|_| !several));
            }
        }
        for user in users.iter() {
            if let Some(other) = found.folded.get_mut(&user.name) {
                *other = None;
            }
        }
        let programs = |names: &[String]| {
            let uids = names.iter().filter_map(|name| users.uid_of(name));
            uids.filter(|uid| *uid != 0 && found.by_uid(*uid).is_none())
                .collect()
        };
        let services = &policy.node.services;
        let (filters, lists) = (programs(&services.filters), programs(&services.lists));
        (found.filters, found.lists) = (filters, lists);
        let by_name: HashMap<&str, TenantRef> = names
            .iter()
            .enumerate()
            .map(|(tenant, name)| (name.as_str(), tenant))
            .collect();
        for domain in policy.tenants.iter().filter(|tenant| tenant.is_domain) {
            let account = domain.parent.as_deref().and_then(|name| by_name.get(name));
            // `account/domain`.
            let name = domain.name.rsplit('/').next().unwrap_or(&domain.name);
            let tenant = by_name.get(domain.name.as_str());
            if let (Some(&account), Some(&tenant)) = (account, tenant) {
                let domain = Domain { account, tenant };
                found.domains.insert(name.to_lowercase(), domain);
                found.domains_of.entry(account).or_default().push(tenant);
            }
        }
        found.names = names;
        found
    }

    /// The names, by [`TenantRef`].
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The domain of this name.
    #[must_use]
    pub fn domain(&self, name: &str) -> Option<Domain> {
        self.domains.get(&name.to_lowercase()).copied()
    }

    /// The domains that an account has of its own.
    #[must_use]
    pub fn domains_of(&self, account: TenantRef) -> &[TenantRef] {
        self.domains_of.get(&account).map_or(&[], Vec::as_slice)
    }

    /// Whether processes of this uid are the mail server itself.
    #[must_use]
    pub fn is_mta(&self, uid: u32) -> bool {
        let behind = self.mta.partition_point(|range| range.first <= uid);
        let range = behind.checked_sub(1).and_then(|at| self.mta.get(at));
        range.is_some_and(|range| uid <= range.last)
    }

    /// Whether this uid is a content filter's: it hands back what was judged when it came in.
    #[must_use]
    pub fn is_filter(&self, uid: u32) -> bool {
        self.filters.contains(&uid)
    }

    /// Whether this uid is a list manager's: the sender's domain says who pays.
    #[must_use]
    pub fn is_list_manager(&self, uid: u32) -> bool {
        self.lists.contains(&uid)
    }

    /// By the nearest cgroup that is claimed, from this path upwards.
    #[must_use]
    pub fn by_cgroup(&self, path: &str) -> Option<TenantRef> {
        let mut path = path;
        loop {
            if let Some(tenant) = self.cgroups.get(path) {
                return Some(*tenant);
            }
            path = &path[..path.rfind('/')?];
        }
    }

    /// By the user, sub-uids included; root is nobody's.
    #[must_use]
    pub fn by_uid(&self, uid: u32) -> Option<TenantRef> {
        let behind = self.uids.partition_point(|(range, _)| range.first <= uid);
        let (range, tenant) = self.uids.get(behind.checked_sub(1)?)?;
        (uid != 0 && uid <= range.last).then_some(*tenant)
    }

    /// By the name that somebody logged in with: a system user's, or an address in a domain.
    #[must_use]
    pub fn by_login(&self, login: &str) -> Option<TenantRef> {
        match login.rsplit_once('@') {
            // Dovecot gives every login in lower case.
            None => self
                .users
                .get(login)
                .copied()
                .or_else(|| self.folded.get(login).copied().flatten()),
            Some((_, domain)) => self.domain(domain).map(|domain| domain.account),
        }
    }

    /// Whether an address is the node's own: whoever connects from it is on the node.
    #[must_use]
    pub fn is_own(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || self.own_addresses.contains(&address)
    }

    /// By the narrowest prefix. What the node itself has, several may send from.
    #[must_use]
    pub fn by_address(&self, address: IpAddr) -> Option<TenantRef> {
        let address = address.to_canonical();
        if self.is_own(address) {
            return None;
        }
        self.lengths.iter().rev().find_map(|length| {
            let net = IpNet::new(address, *length).ok()?.trunc();
            self.addresses.get(&net).copied()
        })
    }
}

impl Tenants for MailTenants {
    fn tenant_of(&self, mail: &Mail) -> Option<String> {
        let origin = &mail.origin;
        let tenant = origin
            .login
            .as_deref()
            .and_then(|login| self.by_login(login))
            .or_else(|| origin.uid.and_then(|uid| self.by_uid(uid)))
            .or_else(|| {
                origin
                    .client
                    .and_then(|client| self.by_address(client.ip()))
            })?;
        self.names.get(tenant).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mta::{MailKey, Origin},
        policy::compile::{
            compile_what_holds,
            testing::{located, policy, tenant},
        },
        system::System,
    };

    fn tenants() -> MailTenants {
        let mut policy = policy();
        policy.node.mta.users = Some(vec!["postfix".to_owned()]);
        let mut alice = tenant("alice");
        alice.matches.users = vec![located("alice".to_owned())];
        alice.matches.addresses = vec![
            located("192.0.2.0/24".parse().unwrap()),
            located("2001:db8:1::/48".parse().unwrap()),
            located("198.51.100.1/32".parse().unwrap()),
        ];
        let mut domain = tenant("alice/Shop.example");
        domain.parent = Some("alice".to_owned());
        domain.is_domain = true;
        let mut bob = tenant("bob");
        bob.matches.uids = vec![located(UidRange {
            first: 2002,
            last: 2010,
        })];
        bob.matches.addresses = vec![located("192.0.2.128/25".parse().unwrap())];
        policy.tenants = vec![alice, domain, bob];
        let mut users = Users::default();
        users.insert("root", 0);
        users.insert("postfix", 109);
        users.insert("www", 33);
        users.insert("alice", 2001);
        users.insert("bobs-friend", 2003);
        users.insert("Bob", 2004);
        users.insert("TWIN", 2005);
        users.insert("Twin", 2001);
        users.insert("Www", 2006);
        users.insert_sub_uids(
            "alice",
            UidRange {
                first: 100_000,
                last: 165_535,
            },
        );
        let system = System {
            users: users.clone(),
            own_addresses: vec!["198.51.100.1".parse().unwrap()],
            ..System::default()
        };
        let (image, _) = compile_what_holds(&policy, &system);
        MailTenants::of(&policy, &image, &users)
    }

    fn of(origin: Origin) -> Option<String> {
        tenants().tenant_of(&Mail {
            key: MailKey {
                queue: "q".to_owned(),
                id: "1".to_owned(),
                inode: 0,
                arrived_us: 0,
            },
            place: String::new(),
            origin,
        })
    }

    #[test]
    fn by_uid() {
        let of = |uid| {
            of(Origin {
                uid: Some(uid),
                ..Origin::default()
            })
        };
        for (uid, whose) in [
            (2001, Some("alice")),
            (100_000, Some("alice")),
            (165_535, Some("alice")),
            (165_536, None),
            (2002, Some("bob")),
            (2010, Some("bob")),
            (2011, None),
            (0, None),
            (109, None),
            (33, None),
        ] {
            assert_eq!(of(uid).as_deref(), whose, "{uid}");
        }
    }

    #[test]
    fn by_login() {
        let of = |login: &str| {
            of(Origin {
                login: Some(login.to_owned()),
                ..Origin::default()
            })
        };
        for (login, whose) in [
            ("alice", Some("alice")),
            ("bobs-friend", Some("bob")),
            ("info@shop.EXAMPLE", Some("alice")),
            ("info@sub.shop.example", None),
            ("alice@elsewhere.example", None),
            ("root", None),
            ("postfix", None),
            ("www", None),
            ("Bob", Some("bob")),
            ("bob", Some("bob")),
            ("BOB", None),
            ("Twin", Some("alice")),
            ("twin", None),
            ("Www", Some("bob")),
            ("", None),
            ("@", None),
        ] {
            assert_eq!(of(login).as_deref(), whose, "{login}");
        }
    }

    #[test]
    fn by_address() {
        let of = |client: &str| {
            of(Origin {
                client: Some((client.parse::<IpAddr>().unwrap(), 0).into()),
                ..Origin::default()
            })
        };
        for (client, whose) in [
            ("192.0.2.7", Some("alice")),
            ("192.0.2.129", Some("bob")),
            ("::ffff:192.0.2.129", Some("bob")),
            ("2001:db8:1::5", Some("alice")),
            ("2001:db8:2::5", None),
            ("127.0.0.1", None),
            ("::1", None),
            // Hers by the policy, and the node's.
            ("198.51.100.1", None),
            ("203.0.113.1", None),
        ] {
            assert_eq!(of(client).as_deref(), whose, "{client}");
        }
    }

    #[test]
    fn the_login_counts_before_the_uid_and_that_before_the_address() {
        let mut origin = Origin {
            uid: Some(2002),
            login: Some("alice".to_owned()),
            client: Some("192.0.2.129:5".parse().unwrap()),
        };
        assert_eq!(of(origin.clone()).as_deref(), Some("alice"));
        // A login that nobody knows takes nobody out of it.
        origin.login = Some("alice@elsewhere.example".to_owned());
        origin.uid = Some(2001);
        assert_eq!(of(origin.clone()).as_deref(), Some("alice"));
        origin.uid = None;
        assert_eq!(of(origin).as_deref(), Some("bob"));
    }
}
