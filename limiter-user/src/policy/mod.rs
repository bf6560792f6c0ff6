//! From YAML files to what the kernel needs: read → check → compile. Nothing here touches the
//! kernel.

pub mod book;
pub mod bounces;
pub mod compile;
pub mod complaints;
pub mod describe;
mod domains;
pub mod expand;
pub mod fault;
pub mod glance;
pub mod glob;
pub mod image;
pub mod last_good;
pub mod model;
pub mod notices;
pub mod prefix_set;
pub mod read;
pub mod services;

mod bind;
mod bounds;
mod check;
mod claims;
mod findings;
mod item;
mod kept;
mod ladder;
mod load;
pub mod mailman;
mod node;
mod parallel;
mod policy_files;
mod prefix_file;
mod section_bounces;
mod section_complaints;
mod section_estimate;
mod section_later;
mod section_mailman;
mod section_networks;
mod section_node;
mod section_notices;
mod section_places;
mod section_policies;
mod section_rules;
mod section_services;
mod section_tenant;
mod tree;
mod value;
mod value_net;
mod yaml;
mod yaml_frame;

pub use bind::said;
pub use bounds::Amount;
pub use kept::Kept;
pub use ladder::{LoadedLadder, load_ladder};
pub use load::{Loaded, load, load_changed};

#[cfg(test)]
mod tests;
