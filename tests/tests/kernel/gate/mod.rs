//! The gate before the real kernel.
//!
//! - [`whose`]: who pays for a mail.
//! - [`counted`]: counted once however often a mail server asks, and given back when it does not go out.
//! - [`refused`]: over a limit, or too fast.

mod counted;
mod refused;
mod whose;

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use limiter_user::{
    kernel::{maps::Maps, pins::Pins},
    policy::{self, compile::compile_what_holds},
    submission::{
        Envelope, Key,
        directory::{Directory, Interfaces, Owner, Owners},
        distinct::Distinct,
        gate::NodeGate,
        till::Till,
        who::MailTenants,
    },
    system::{System, Users, interfaces::Way},
};

use crate::lab::Lab;

const CONFIG: &str = "\
mta: {users: [postfix]}
";

const TENANTS: &str = "\
tenant: reseller
limits: [{unit: recipients, max: 1000, window: 1h}]
---
tenant: alice
parent: reseller
match: {users: [alice], cgroups: [], addresses: [192.0.2.7]}
limits: [{unit: messages, max: 50, window: 1h}]
domains:
  - {name: shop.example, limits: [{unit: recipients, max: 300, window: 1h}]}
  - {name: blog.example, limits: [{unit: recipients, max: 10, window: 1h}]}
---
tenant: bob
match: {users: [bob]}
domains: [{name: bob.example}]
limits:
  - {unit: recipients, max: 500, window: 1h}
  - {unit: distinct_recipients, max: 100, window: 30d}
---
tenant: watched
mode: observe
limits: [{unit: distinct_recipients, max: 2, window: 30d}]
---
tenant: carol
parent: watched
mode: enforce
match: {users: [carol]}
---
tenant: dave
match: {users: [dave]}
pace: [{unit: recipients, every: 50s, burst: 1}]
---
tenant: slow
match: {users: [slow]}
pace: [{unit: messages, every: 50s, burst: 2}]
";

/// Whose sockets on this node are, by the client's port.
#[derive(Clone, Default)]
struct Sockets(Arc<Mutex<HashMap<u16, Owner>>>);

impl Owners for Sockets {
    fn owner_of(&self, client: SocketAddr, _: SocketAddr) -> Option<Owner> {
        self.0.lock().unwrap().get(&client.port()).cloned()
    }

    fn way_to(&self, _: IpAddr) -> Option<Way> {
        Some(Way::default())
    }
}

struct Place {
    gate: NodeGate,
    sockets: Sockets,
    policy: policy::model::Policy,
    image: policy::image::Image,
    users: Users,
}

impl Place {
    /// Who is who, if tenants had these places in the kernel.
    fn directory(&self, place_of: impl Fn(&str) -> Option<u32>) -> Directory {
        directory(&self.policy, &self.image, &self.users, place_of)
    }
}

fn directory(
    policy: &policy::model::Policy,
    image: &policy::image::Image,
    users: &Users,
    place_of: impl Fn(&str) -> Option<u32>,
) -> Directory {
    let who = MailTenants::of(policy, image, users);
    let hosts = vec!["node.example".to_owned()];
    Directory::new(policy, image, who, &Interfaces::default(), hosts, place_of)
}

/// A gate in a lab, by [`CONFIG`] and [`TENANTS`].
fn place(lab: &mut Lab, services: &str) -> Place {
    place_in(lab, services, "enforce")
}

/// The same in another mode of the node.
fn place_in(lab: &mut Lab, services: &str, mode: &str) -> Place {
    let files = tempfile::tempdir().unwrap();
    let config = files.path().join("limiter.yaml");
    fs::create_dir(files.path().join("tenants.d")).unwrap();
    fs::write(
        &config,
        format!("mode: {mode}\n{CONFIG}services: {{{services}}}\n"),
    )
    .unwrap();
    fs::write(files.path().join("tenants.d/all.yaml"), TENANTS).unwrap();
    let loaded = policy::load(&config);
    let policy = loaded
        .policy
        .unwrap_or_else(|| panic!("{:?}", loaded.faults));
    let mut users = Users::default();
    for (name, uid) in [
        ("root", 0),
        ("postfix", 109),
        ("alice", 2001),
        ("bob", 2002),
        ("slow", 2003),
        ("carol", 2004),
        ("dave", 2005),
    ] {
        users.insert(name, uid);
    }
    let system = System {
        users: users.clone(),
        ..System::default()
    };
    let (image, _) = compile_what_holds(&policy, &system);
    lab.apply(&image);
    let directory = directory(&policy, &image, &users, |name| Some(lab.index(name)));
    let maps = Maps::open(&Pins::new(lab.pin_dir())).unwrap();
    let till = Till::new(lab.loaded().charger().unwrap(), maps);
    let sockets = Sockets::default();
    let gate = NodeGate::new(
        till,
        Box::new(sockets.clone()),
        Distinct::new([1; 32]),
        Box::new(|| Duration::from_secs(1_700_000_000)),
    );
    gate.set_directory(directory);
    Place {
        gate,
        sockets,
        policy,
        image,
        users,
    }
}

fn by_login(login: &str, sender: &str) -> Envelope {
    Envelope {
        login: Some(login.to_owned()),
        client: Some("203.0.113.5:40000".parse().unwrap()),
        sender: Some(sender.to_owned()),
        ..Envelope::default()
    }
}

fn by_uid(uid: u32, sender: &str) -> Envelope {
    Envelope {
        uid: Some(uid),
        sender: Some(sender.to_owned()),
        ..Envelope::default()
    }
}

fn by_socket(port: u16, sender: &str) -> Envelope {
    Envelope {
        client: Some(([127, 0, 0, 1], port).into()),
        server: Some(([127, 0, 0, 1], 25).into()),
        sender: Some(sender.to_owned()),
        ..Envelope::default()
    }
}

fn instance(name: &str) -> Key {
    Key::Instance(name.to_owned())
}

fn queued(name: &str) -> Key {
    Key::Queued(name.to_owned())
}

/// What is used of the first limit of a tenant.
fn used(lab: &Lab, name: &str) -> u32 {
    lab.used(name)[0]
}
