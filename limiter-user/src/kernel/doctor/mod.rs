//! `limiter doctor`: what the machine offers, what is missing, what else filters mail, and who is
//! outside the promise. Looks, changes nothing, and needs no agent.

mod clsact;
mod filters;
mod interfaces;
mod layers;
mod mta;
mod neighbours;
mod offers;
mod owners;
mod places;
mod processes;
mod report;

pub use interfaces::Interfaces;
pub use report::{Finding, Level, Report};

use crate::policy::{image::Image, model::Places};

/// Examines the machine. It runs `nft` and `iptables-save` where they exist, and loads the
/// programs once without attaching or pinning anything.
///
/// `image` is the policy compiled for this machine, which says whose a process is; without one
/// nobody's is a tenant's. `interfaces` are where traffic of tenants can pass.
#[must_use]
pub fn examine(places: &Places, image: Option<&Image>, interfaces: &Interfaces) -> Report {
    let mut findings = Vec::new();
    offers::examine(&mut findings);
    let cgroup = places::examine(places, &mut findings);
    if let Some(cgroup) = &cgroup {
        neighbours::examine(places, cgroup, &mut findings);
    }
    mta::examine(places, &mut findings);
    filters::examine(&mut findings);
    interfaces::examine(interfaces, &mut findings);
    processes::examine(image, &mut findings);
    Report::new(findings)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn this_machine_is_examined() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not tested, only root can: the whole examination");
            return;
        }
        let places = Places {
            config: PathBuf::from("/nonexistent/limiter.yaml"),
            cgroup: PathBuf::from("/"),
            uplinks: None,
            guests: Vec::new(),
            tenants: String::new(),
            state_dir: PathBuf::from("/nonexistent"),
            pin_dir: PathBuf::from("/sys/fs/bpf/limiter-doctor-test"),
            control: PathBuf::from("/nonexistent/control.sock"),
            services: crate::policy::services::ServicePlaces::default(),
        };
        let uncovered = Interfaces {
            uncovered: vec![("veth9".to_owned(), "nothing is attached".to_owned())],
            ..Interfaces::default()
        };
        let report = examine(&places, None, &uncovered);
        let text = report.to_string();
        for area in [
            "kernel",
            "places",
            "in force",
            "MTA",
            "mail filters",
            "layers",
            "interfaces",
        ] {
            assert!(report.findings.iter().any(|f| f.area == area), "{area}");
            assert!(text.contains(&format!("\n{area}\n")), "{text}");
        }
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        let missing = report.findings.iter().any(|f| f.level == Level::Missing);
        assert_eq!(report.healthy, !missing);
        assert!(!places.pin_dir.exists(), "it looks and changes nothing");
        for finding in &report.findings {
            let bad = matches!(finding.level, Level::Missing | Level::Warning);
            assert!(!bad || finding.remedy.is_some(), "{finding:?}");
        }
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["healthy"], report.healthy);
        assert!(json["findings"][0]["level"].is_string());
    }
}
