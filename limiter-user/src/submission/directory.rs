//! Who is who for the gate, at one moment: tenants, their places in the kernel, and what their mail is
//! held to beside the kernel's limits.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use limiter_common::verdict::PortGroup;

use super::{Envelope, distinct::DistinctLimit, who::MailTenants};
use crate::{
    policy::{
        image::{DEFAULT_NAME, Image, TenantRef},
        model::{Limit, Policy},
        services::Services,
    },
    system::interfaces::Way,
};

/// A socket's owner, as the kernel knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The uid; `None` for a socket that no process holds any more.
    pub uid: Option<u32>,
    /// The path of its cgroup below the cgroup v2 mount.
    pub cgroup: Option<String>,
}

/// Who holds the socket of a client in another network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inside {
    /// A process.
    Owner(Owner),
    /// Nobody, or not any more, or it cannot be found out.
    Unknown,
    /// It can be asked after so long.
    Later(Duration),
    /// Nothing can be seen of that namespace.
    Closed,
}

/// Knows the owners of the node's sockets, and where its neighbours are: nothing of those, where
/// somebody does not say otherwise.
pub trait Owners: Send + Sync {
    /// Who connected from `client` to `server` on this node; `None` if there is no such socket.
    fn owner_of(&self, client: SocketAddr, server: SocketAddr) -> Option<Owner>;

    /// The way to a client that has an address of its own; `None` if it cannot be found out.
    fn way_to(&self, _client: IpAddr) -> Option<Way> {
        None
    }

    /// The way through an interface; `None` if it cannot be found out.
    fn way_through(&self, _interface: u32) -> Option<Way> {
        None
    }

    /// By which interface the guest layer saw the connection from `client` to a mail port of this node
    /// begin; `None` if it did not.
    fn visited(&self, _client: SocketAddr, _port: u16) -> Option<u32> {
        None
    }

    /// Who connected from `client` to `server` in a network namespace of this node.
    fn owner_inside(&self, _namespace: i32, _client: SocketAddr, _server: SocketAddr) -> Inside {
        Inside::Unknown
    }
}

/// Whose the machine's interfaces are, and which lead out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// Names of tenants, by the indexes of interfaces.
    pub owners: HashMap<u32, String>,
    /// Whoever is behind these is not on this node.
    pub uplinks: HashSet<u32>,
    /// Where the guest layer sees what comes in.
    pub judged: HashSet<u32>,
}

/// Who is who.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    who: MailTenants,
    /// By [`TenantRef`]: the place in the kernel.
    places: Vec<Option<u32>>,
    /// By [`TenantRef`], where there are any: its own and those above.
    distinct: HashMap<TenantRef, Vec<DistinctLimit>>,
    default: Option<TenantRef>,
    interfaces: HashMap<u32, TenantRef>,
    uplinks: HashSet<u32>,
    judged: HashSet<u32>,
    /// The ports of mail, which the guest layer looks at.
    ports: HashSet<u16>,
    /// Whether anything is refused on this node at all.
    enforces: bool,
    /// The node's own names: whoever writes from them forges nobody.
    hosts: Vec<String>,
    /// What the configuration says.
    pub rules: Services,
}

/// Who pays for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payer {
    /// The tenant that is counted: a domain, or the account itself.
    pub tenant: TenantRef,
    /// Its place in the kernel.
    pub place: u32,
    /// Its name.
    pub name: String,
    /// The uid behind it, where one is known.
    pub uid: Option<u32>,
    /// The sender's domain is not the account's.
    pub mismatch: bool,
    /// The places of the account's domains where it may be any one's: what holds one of those back, holds
    /// it back.
    pub any_of: Vec<u32>,
}

/// Whose a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A tenant's.
    Payer(Payer),
    /// Nobody's on this node: it comes in from outside, or is the mail server's own.
    Nobodys,
    /// Somebody's on this node, and nobody knows whose: why not.
    Unknown(&'static str),
    /// It can be asked after so long.
    Later(Duration),
}

impl Directory {
    /// By this policy; `place_of` knows the kernel's numbers of tenants.
    pub fn new(
        policy: &Policy,
        image: &Image,
        who: MailTenants,
        interfaces: &Interfaces,
        hosts: Vec<String>,
        place_of: impl Fn(&str) -> Option<u32>,
    ) -> Self {
        let places = who.names().iter().map(|name| place_of(name)).collect();
        let default = who.names().iter().position(|name| name == DEFAULT_NAME);
        let own: HashMap<&str, &[Limit]> = policy
            .tenants
            .iter()
            .map(|tenant| (tenant.name.as_str(), tenant.rules.limits.as_slice()))
            .filter(|(_, limits)| limits.iter().any(Limit::is_of_distinct_recipients))
            .collect();
        let mut distinct: HashMap<TenantRef, Vec<DistinctLimit>> = HashMap::new();
        for (at, tenant) in image.tenants.iter().enumerate() {
            // Parents stand before their children.
            let above = tenant.parent.and_then(|parent| distinct.get(&parent));
            let mut limits = above.cloned().unwrap_or_default();
            let added = own.get(tenant.name.as_str()).copied().unwrap_or_default();
            let added = added.iter().filter(|it| it.is_of_distinct_recipients());
            limits.extend(added.map(|limit| DistinctLimit {
                owner: tenant.name.clone(),
                max: limit.max,
                window: limit.window,
                enforced: tenant.enforce,
            }));
            if !limits.is_empty() {
                distinct.insert(at, limits);
            }
        }
        let at: HashMap<&str, TenantRef> = if interfaces.owners.is_empty() {
            HashMap::new()
        } else {
            let names = who.names().iter().enumerate();
            names.map(|(at, name)| (name.as_str(), at)).collect()
        };
        let owned = interfaces.owners.iter();
        let owned = owned
            .filter_map(|(index, name)| Some((*index, *at.get(name.as_str())?)))
            .collect();
        Self {
            who,
            places,
            distinct,
            default,
            interfaces: owned,
            uplinks: interfaces.uplinks.clone(),
            judged: interfaces.judged.clone(),
            ports: image
                .ports
                .iter()
                .filter(|(_, group)| matches!(group, PortGroup::Smtp | PortGroup::Submission))
                .map(|(port, _)| *port)
                .collect(),
            enforces: image.enforce,
            hosts: hosts.iter().map(|host| host.to_lowercase()).collect(),
            rules: policy.node.services.clone(),
        }
    }

    /// The limits of different recipients of a tenant, its own and those above.
    #[must_use]
    pub fn distinct(&self, tenant: TenantRef) -> &[DistinctLimit] {
        self.distinct.get(&tenant).map_or(&[], Vec::as_slice)
    }

    /// Who has a limit of different recipients, in which windows.
    #[must_use]
    pub fn all_distinct(&self) -> HashSet<(&str, Duration)> {
        let all = self.distinct.values().flatten();
        all.map(|limit| (limit.owner.as_str(), limit.window))
            .collect()
    }

    /// The places in the kernel of whom a login belongs to: the account, and the domain in it, or the only
    /// one that it has.
    pub fn places_of_login(&self, login: &str) -> impl Iterator<Item = u32> {
        let account = self.who.by_login(login);
        let domain = account.and_then(|account| {
            let named = login.rsplit_once('@').map(|(_, domain)| domain);
            let named = named.and_then(|domain| self.who.domain(domain));
            named.map_or_else(|| self.only_domain(account), |domain| Some(domain.tenant))
        });
        let both = account.into_iter().chain(domain);
        both.filter_map(|tenant| self.places.get(tenant).copied().flatten())
    }

    /// The domain of an account that has one and no more: all its mail is that one's.
    fn only_domain(&self, account: TenantRef) -> Option<TenantRef> {
        match self.who.domains_of(account) {
            [domain] => Some(*domain),
            _ => None,
        }
    }

    /// Whether processes of this uid serve everybody: root's, and the mail server's.
    #[must_use]
    pub fn is_servers(&self, uid: u32) -> bool {
        uid == 0 || self.who.is_mta(uid)
    }

    /// Brings a payer up to date by its name; `false` if there is no such tenant any more.
    pub fn follow(&self, payer: &mut Payer) -> bool {
        let names = self.who.names();
        if names.get(payer.tenant) != Some(&payer.name) {
            // It was compiled anew since.
            let Some(tenant) = names.iter().position(|name| *name == payer.name) else {
                return false;
            };
            payer.tenant = tenant;
        }
        let place = self.places.get(payer.tenant).copied().flatten();
        if !payer.any_of.is_empty() {
            let domains = self.who.domains_of(payer.tenant).iter();
            let places = domains.filter_map(|domain| self.places.get(*domain).copied().flatten());
            payer.any_of = places.collect();
        }
        payer.place = place.unwrap_or(payer.place);
        place.is_some()
    }

    /// The name of the tenant at a place in the kernel.
    #[must_use]
    pub fn name_at(&self, place: u32) -> Option<&str> {
        let at = self.places.iter().position(|it| *it == Some(place))?;
        self.who.names().get(at).map(String::as_str)
    }

    /// Whether anything is refused on this node at all.
    #[must_use]
    pub const fn enforces(&self) -> bool {
        self.enforces
    }

    /// Whose a message is. In this order: the login; the uid that ran `sendmail`; of a client on this node
    /// the owner of its socket, by its cgroup, then its uid; of one elsewhere the container or virtual
    /// machine of this node that it comes from, then its address. The sender's address only says which of the account's domains it is, where the
    /// login does not.
    #[must_use]
    pub fn whose(&self, envelope: &Envelope, owners: &dyn Owners) -> Whose {
        if let Some(login) = envelope.login.as_deref().filter(|login| !login.is_empty()) {
            // What nobody claims is the default's, here too.
            let account = self.who.by_login(login).or(self.default);
            return account.map_or(Whose::Unknown("unknown_login"), |account| {
                let domain = login.rsplit_once('@').map(|(_, domain)| domain);
                self.payer(account, domain, envelope, None)
            });
        }
        if let Some(uid) = envelope.uid {
            return self.by_uid(uid, envelope);
        }
        let Some(client) = envelope.client else {
            return Whose::Nobodys;
        };
        let server = envelope.server.unwrap_or_else(|| beside(client.ip()));
        if !self.who.is_own(client.ip()) {
            return self.beside_us(client, server, envelope, owners);
        }
        let Some(owner) = owners.owner_of(client, server) else {
            return Whose::Unknown("unknown_connection");
        };
        if owner.uid.is_some_and(|uid| self.who.is_mta(uid)) {
            return Whose::Nobodys;
        }
        let by_cgroup = owner.cgroup.as_deref();
        if let Some(account) = by_cgroup.and_then(|path| self.who.by_cgroup(path)) {
            return self.payer(account, None, envelope, owner.uid);
        }
        match owner.uid {
            Some(uid) => self.by_uid(uid, envelope),
            None => Whose::Unknown("unknown_connection"),
        }
    }

    /// Whose it is where the client has an address of its own: of containers and virtual machines of this
    /// node by the interface where it began, then by the address, then by the cgroup of the process in
    /// there.
    fn beside_us(
        &self,
        client: SocketAddr,
        server: SocketAddr,
        envelope: &Envelope,
        owners: &dyn Owners,
    ) -> Whose {
        const UNKNOWN: Whose = Whose::Unknown("unknown_connection");
        let pays = |account: TenantRef| self.payer(account, None, envelope, None);
        let by_address = || self.who.by_address(client.ip());
        let visited = owners.visited(client, server.port());
        let found = match visited {
            Some(index) => owners.way_through(index),
            None => owners.way_to(client.ip()),
        };
        let Some(way) = found else {
            return UNKNOWN;
        };
        if visited.is_none() {
            if way.is_lost {
                return UNKNOWN;
            }
            let nearest = way.interfaces.first();
            if nearest.is_none_or(|index| self.uplinks.contains(index)) {
                return by_address().map_or(Whose::Nobodys, pays);
            }
            let is_judged = nearest.is_some_and(|index| self.judged.contains(index));
            if is_judged && way.bridged && self.ports.contains(&server.port()) {
                // It began before anybody looked, or was forgotten among many.
                return UNKNOWN;
            }
        }
        let mut interfaces = way.interfaces.iter();
        let owner = interfaces.find_map(|index| self.interfaces.get(index));
        if let Some(account) = owner.copied().or_else(by_address) {
            return pays(account);
        }
        if visited.is_none() && !way.to_guest {
            return Whose::Nobodys;
        }
        let inside = way.namespace.map_or(Inside::Closed, |namespace| {
            owners.owner_inside(namespace, client, server)
        });
        // A uid in there means nothing here.
        let account = match inside {
            Inside::Owner(owner) => owner
                .cgroup
                .as_deref()
                .and_then(|path| self.who.by_cgroup(path)),
            Inside::Closed => None,
            Inside::Unknown => return UNKNOWN,
            Inside::Later(wait) => return Whose::Later(wait),
        };
        match account.or(self.default) {
            Some(account) => pays(account),
            None => Whose::Unknown("no_tenant"),
        }
    }

    fn by_uid(&self, uid: u32, envelope: &Envelope) -> Whose {
        if self.who.is_mta(uid) {
            return Whose::Nobodys;
        }
        match self.who.by_uid(uid) {
            Some(account) => self.payer(account, None, envelope, Some(uid)),
            // It was judged when it came in.
            None if self.who.is_filter(uid) => Whose::Nobodys,
            // Root's, and that of services: what nobody claims.
            None => match self.of_list(uid, envelope).or(self.default) {
                Some(account) => self.payer(account, None, envelope, Some(uid)),
                None => Whose::Unknown("no_tenant"),
            },
        }
    }

    /// The account that a list belongs to, by the sender's domain: a list manager does not forge it.
    fn of_list(&self, uid: u32, envelope: &Envelope) -> Option<TenantRef> {
        let (_, domain) = envelope.sender.as_deref()?.rsplit_once('@')?;
        let domain = self.who.domain(domain)?;
        self.who.is_list_manager(uid).then_some(domain.account)
    }

    /// Who pays where `account` is known: the domain of the login; or of the sender's address, if it is the
    /// account's; or the only domain that the account has. Else the account itself, which senders can
    /// choose: it may be any domain's.
    fn payer(
        &self,
        account: TenantRef,
        login_domain: Option<&str>,
        envelope: &Envelope,
        uid: Option<u32>,
    ) -> Whose {
        let sender = envelope.sender.as_deref().unwrap_or_default();
        let sender = sender.rsplit_once('@').map(|(_, domain)| domain);
        let of_sender = sender.and_then(|domain| self.who.domain(domain));
        let (domain, mismatch) = match (of_sender, sender) {
            (Some(domain), _) if domain.account == account => (Some(domain), false),
            (Some(_), _) => (None, true),
            (None, Some(name)) => (None, self.is_foreign(account, name)),
            (None, None) => (None, false),
        };
        // Whose login it is, the sender does not choose.
        let of_login = login_domain.and_then(|name| self.who.domain(name));
        let of_login = of_login.filter(|domain| domain.account == account);
        let domain = of_login.or(domain);
        let domain = domain.map(|domain| domain.tenant);
        let domain = domain.or_else(|| self.only_domain(account));
        let any_of = match domain {
            Some(_) => &[],
            None => self.who.domains_of(account),
        };
        let any_of = any_of.iter();
        let any_of = any_of.filter_map(|domain| self.places.get(*domain).copied().flatten());
        let any_of = any_of.collect();
        let tenant = domain.unwrap_or(account);
        let place = self.places.get(tenant).copied().flatten();
        let name = self.who.names().get(tenant);
        match (place, name) {
            (Some(place), Some(name)) => Whose::Payer(Payer {
                tenant,
                place,
                name: name.clone(),
                uid,
                mismatch,
                any_of,
            }),
            _ => Whose::Unknown("no_tenant"),
        }
    }

    /// Whether an account must not write from a domain that is no tenant's: it has its own.
    fn is_foreign(&self, account: TenantRef, domain: &str) -> bool {
        let domain = domain.to_lowercase();
        !self.hosts.contains(&domain) && !self.who.domains_of(account).is_empty()
    }
}

/// The mail server's end, where it does not say so.
fn beside(client: IpAddr) -> SocketAddr {
    SocketAddr::new(client, 25)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{
        policy::{
            compile::{
                compile_what_holds,
                testing::{located, policy, tenant},
            },
            model::UidRange,
        },
        system::{System, Users},
    };

    /// Every client on the node is this uid's, in no tenant's cgroup.
    struct OneOwner(u32);

    impl Owners for OneOwner {
        fn owner_of(&self, _: SocketAddr, _: SocketAddr) -> Option<Owner> {
            Some(Owner {
                uid: Some(self.0),
                cgroup: Some("/sys/fs/cgroup/system.slice/x.service".to_owned()),
            })
        }
    }

    #[test]
    fn what_a_filter_hands_back_is_nobodys_and_a_list_is_its_domains() {
        let mut policy = policy();
        let mut users = Users::default();
        for (name, uid) in [
            ("amavis", 120),
            ("list", 121),
            ("www", 33),
            ("alice", 2_001),
        ] {
            users.insert(name, uid);
        }
        let mut alice = tenant("alice");
        alice.matches.users = vec![located("alice".to_owned())];
        let mut domain = tenant("alice/shop.example");
        domain.parent = Some("alice".to_owned());
        domain.is_domain = true;
        policy.tenants = vec![alice, domain];
        // A tenant who is named stays one.
        policy.node.services.filters = vec!["amavis".to_owned(), "alice".to_owned()];
        policy.node.services.lists = vec!["list".to_owned()];
        let system = System {
            users: users.clone(),
            ..System::default()
        };
        let (image, _) = compile_what_holds(&policy, &system);
        let who = MailTenants::of(&policy, &image, &users);
        let interfaces = Interfaces::default();
        let directory = Directory::new(&policy, &image, who, &interfaces, Vec::new(), |_| Some(2));
        let payer = |whose: Whose| match whose {
            Whose::Payer(payer) => payer.name,
            other => format!("{other:?}"),
        };
        for (uid, sender, whose) in [
            (120, "x@shop.example", "Nobodys"),
            (120, "stranger@elsewhere.example", "Nobodys"),
            (121, "offers-bounces@Shop.example", "alice/shop.example"),
            (121, "x@elsewhere.example", DEFAULT_NAME),
            (121, "", DEFAULT_NAME),
            (33, "x@shop.example", DEFAULT_NAME),
            (2_001, "x@shop.example", "alice/shop.example"),
        ] {
            let client = Envelope {
                client: Some("127.0.0.1:40000".parse().unwrap()),
                sender: Some(sender.to_owned()),
                ..Envelope::default()
            };
            let found = payer(directory.whose(&client, &OneOwner(uid)));
            assert_eq!(found, whose, "{uid} {sender}");
            // By `sendmail`.
            let command = Envelope {
                uid: Some(uid),
                client: None,
                ..client
            };
            let found = payer(directory.whose(&command, &OneOwner(0)));
            assert_eq!(found, whose, "{uid} {sender}");
        }
    }

    /// It is made anew whenever users, cgroups or addresses change, as the compiled policy is.
    #[test]
    fn who_is_who_among_a_hundred_thousand_is_soon_known() {
        let mut policy = policy();
        let mut users = Users::default();
        for number in 0..100_000 {
            let name = format!("u{number}");
            let uid = 10_000 + number;
            users.insert(&name, uid);
            let mut account = tenant(&name);
            account.matches.uids = vec![located(UidRange {
                first: uid,
                last: uid,
            })];
            policy.tenants.push(account);
        }
        let system = System {
            users: users.clone(),
            ..System::default()
        };
        let start = Instant::now();
        let (image, _) = compile_what_holds(&policy, &system);
        let compiled = start.elapsed();
        let start = Instant::now();
        let who = MailTenants::of(&policy, &image, &users);
        let interfaces = Interfaces::default();
        let directory = Directory::new(&policy, &image, who, &interfaces, Vec::new(), |_| Some(2));
        let known = start.elapsed();
        drop(directory);
        eprintln!("compiled in {compiled:?}, known in {known:?}");
        assert!(known < compiled * 2, "{known:?} after {compiled:?}");
    }
}
