//! Which interfaces should have a program, by the policy, and have none.

use limiter_common::{abi::programs, verdict::Layer};

use crate::{
    kernel::{LayerState, attach::How},
    system::interfaces::{Attach, Coverage, Interfaces, InterfacesError, Wanted, resolve},
};

/// What belongs where on this machine, as it is now.
///
/// # Errors
///
/// The interfaces cannot be listed.
pub fn expected(wanted: &Wanted) -> Result<Coverage, InterfacesError> {
    Ok(resolve(&Interfaces::snapshot()?, wanted))
}

/// What belongs somewhere and is not among `layers`, each as a program that is not attached.
#[must_use]
pub fn missing(coverage: &Coverage, layers: &[LayerState]) -> Vec<LayerState> {
    let of = |places: &[Attach], layer, programs: [&'static str; 2]| -> Vec<LayerState> {
        let known = |index| {
            layers
                .iter()
                .any(|state| state.layer == layer && state.index == index)
        };
        places
            .iter()
            .filter(|place| !known(place.index))
            .map(|place| LayerState {
                layer,
                program: programs[usize::from(!place.ethernet)],
                target: place.name.clone(),
                index: place.index,
                attached: false,
                how: How::Tcx,
                problem: Some("no program of limiter's is there".to_owned()),
            })
            .collect()
    };
    let mut all = of(
        &coverage.uplinks,
        Layer::Uplink,
        [programs::UPLINK, programs::UPLINK_L3],
    );
    all.extend(of(
        &coverage.guests,
        Layer::Guest,
        [programs::GUEST, programs::GUEST_L3],
    ));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::interfaces::Side;

    fn place(index: u32, name: &str, ethernet: bool) -> Attach {
        Attach {
            index,
            name: name.to_owned(),
            ethernet,
            side: Side::Egress,
        }
    }

    #[test]
    fn what_is_attached_or_known_to_be_lost_is_not_missing() {
        let coverage = Coverage {
            guests: vec![place(3, "veth0", true), place(4, "veth1", true)],
            uplinks: vec![place(2, "eth0", true), place(5, "tun0", false)],
            ..Coverage::default()
        };
        let all = missing(&coverage, &[]);
        let names: Vec<&str> = all.iter().map(|state| state.target.as_str()).collect();
        assert_eq!(names, ["eth0", "tun0", "veth0", "veth1"]);
        assert_eq!(all[1].program, programs::UPLINK_L3);
        assert!(all.iter().all(|state| !state.attached));

        let mut lost = all[2].clone();
        lost.problem = Some("the kernel says no".to_owned());
        let mut there = all[0].clone();
        there.attached = true;
        let rest = missing(&coverage, &[lost, there]);
        let names: Vec<&str> = rest.iter().map(|state| state.target.as_str()).collect();
        assert_eq!(names, ["tun0", "veth1"]);
        assert_eq!(missing(&coverage, &all), []);
    }
}
