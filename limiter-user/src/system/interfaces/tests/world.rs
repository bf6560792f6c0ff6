//! Made-up interfaces and policies, written down shortly.

use super::*;
use crate::policy::compile::testing::located;

/// Interfaces, numbered from 1 in the order in which they were added.
#[derive(Default)]
pub struct World(pub Interfaces);

impl World {
    /// The loopback interface and an uplink, `eth0`, that carries the default route.
    pub fn new() -> Self {
        let mut world = Self::default();
        world.add("lo", Kind::Loopback);
        world.add("eth0", Kind::Physical);
        world.route("eth0");
        world
    }

    /// Adds an interface that is up and leads to no one else.
    pub fn add(&mut self, name: &str, kind: Kind) -> u32 {
        let index = u32::try_from(self.0.links.len()).unwrap() + 1;
        let is_ethernet = !matches!(kind, Kind::Loopback | Kind::Tunnel(_));
        self.0.links.insert(
            index,
            Interface {
                index,
                name: name.to_owned(),
                kind,
                is_ethernet,
                master: None,
                lower: None,
                peer_elsewhere: false,
                up: true,
                mac: None,
            },
        );
        index
    }

    pub fn edit(&mut self, name: &str) -> &mut Interface {
        let index = self.index(name);
        self.0.links.get_mut(&index).unwrap()
    }

    pub fn index(&self, name: &str) -> u32 {
        self.0.named(name).unwrap_or_else(|| panic!("{name}")).index
    }

    /// Adds the host's end of a container's cable.
    pub fn veth(&mut self, name: &str) {
        self.add(name, Kind::Veth);
        self.edit(name).peer_elsewhere = true;
    }

    /// Adds a cable with both ends here.
    pub fn cable(&mut self, one: &str, other: &str) {
        let (first, second) = (self.add(one, Kind::Veth), self.add(other, Kind::Veth));
        self.edit(one).lower = Some(second);
        self.edit(other).lower = Some(first);
    }

    /// Adds a bridge or bond with ports that are there already.
    pub fn master(&mut self, name: &str, kind: Kind, ports: &[&str]) {
        let index = self.add(name, kind);
        for port in ports {
            self.edit(port).master = Some(index);
        }
    }

    /// Adds what stands on another device.
    pub fn above(&mut self, name: &str, kind: Kind, lower: &str) {
        self.add(name, kind);
        self.edit(name).lower = Some(self.index(lower));
    }

    /// The default route goes by it alone.
    pub fn route(&mut self, name: &str) {
        self.0.outward = BTreeSet::from([self.index(name)]);
    }

    pub fn names(&self, indexes: impl IntoIterator<Item = u32>) -> Vec<&str> {
        let names = indexes.into_iter();
        names
            .map(|index| self.0.get(index).unwrap().name.as_str())
            .collect()
    }

    pub fn resolve(&self, wanted: &Wanted) -> Resolved<'_> {
        Resolved {
            world: self,
            coverage: resolve(&self.0, wanted),
        }
    }
}

/// What came out, by names.
pub struct Resolved<'a> {
    world: &'a World,
    pub coverage: Coverage,
}

impl Resolved<'_> {
    pub fn guests(&self) -> Vec<&str> {
        self.coverage
            .guests
            .iter()
            .map(|at| at.name.as_str())
            .collect()
    }

    pub fn uplinks(&self) -> Vec<&str> {
        self.coverage
            .uplinks
            .iter()
            .map(|at| at.name.as_str())
            .collect()
    }

    pub fn judged(&self) -> Vec<&str> {
        self.world.names(self.coverage.judged.iter().copied())
    }

    pub fn covered(&self) -> Vec<&str> {
        self.world.names(self.coverage.covered.iter().copied())
    }

    pub fn owners(&self) -> Vec<(&str, usize)> {
        let owners = self.coverage.owners.iter();
        owners
            .map(|(index, tenant)| (self.world.0.get(*index).unwrap().name.as_str(), *tenant))
            .collect()
    }

    /// What is missing, and the warnings' problems.
    pub fn problems(&self) -> Vec<&str> {
        let warnings = self.coverage.warnings.iter();
        let missing = self.coverage.missing.iter();
        missing
            .map(String::as_str)
            .chain(warnings.map(|warning| warning.problem.as_str()))
            .collect()
    }
}

/// The guests of the default configuration, and tenants with their globs: the first is at place 0.
pub fn wanted(tenants: &[(&str, &[&str])]) -> Wanted {
    Wanted {
        config: "/etc/limiter/limiter.yaml".into(),
        uplinks: None,
        guests: ["veth*", "tap*", "vnet*", "macvtap*", "vif*"]
            .map(str::to_owned)
            .to_vec(),
        tenants: tenants
            .iter()
            .enumerate()
            .map(|(index, (name, globs))| WantedTenant {
                index,
                name: (*name).to_owned(),
                interfaces: globs
                    .iter()
                    .map(|glob| located((*glob).to_owned()))
                    .collect(),
            })
            .collect(),
    }
}

/// As [`wanted`], without tenants and with uplinks that are named.
pub fn with_uplinks(uplinks: &[&str]) -> Wanted {
    Wanted {
        uplinks: Some(uplinks.iter().map(|name| (*name).to_owned()).collect()),
        ..wanted(&[])
    }
}
