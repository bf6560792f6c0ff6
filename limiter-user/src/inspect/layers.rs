//! What `status` says of the places where the kernel looks.

use std::collections::BTreeMap;

use limiter_common::verdict::Layer;

use crate::{
    kernel::LayerState,
    report::{problem::Problem, status::LayerStatus, text::few},
};

/// One entry for a layer at a place, however many programs it has there.
pub fn of(states: &[LayerState]) -> Vec<LayerStatus> {
    let mut all: Vec<LayerStatus> = Vec::with_capacity(states.len());
    // By layer and target: where in `all` its entry is.
    let mut places = BTreeMap::new();
    for state in states {
        let entry = LayerStatus {
            layer: state.layer,
            target: state.target.clone(),
            attached: state.attached,
            how: state.how.to_string(),
        };
        let key = (state.layer as u8, state.target.as_str());
        match places.get(&key).and_then(|at: &usize| all.get_mut(*at)) {
            // The worst counts.
            Some(known) if known.attached && !entry.attached => *known = entry,
            Some(_) => {}
            None => {
                places.insert(key, all.len());
                all.push(entry);
            }
        }
    }
    all
}

/// What is wrong with layers: one problem for all places with the same.
pub fn problems(states: &[LayerState]) -> Vec<Problem> {
    let mut alike: BTreeMap<(bool, u8, &str, Option<&str>), Vec<&LayerState>> = BTreeMap::new();
    for state in states {
        if state.attached && state.problem.is_none() {
            continue;
        }
        let key = (
            state.attached,
            state.layer as u8,
            state.program,
            state.problem.as_deref(),
        );
        alike.entry(key).or_default().push(state);
    }
    alike
        .into_values()
        .filter_map(|states| problem(&states))
        .collect()
}

/// What is wrong with a program at some places.
fn problem(states: &[&LayerState]) -> Option<Problem> {
    let first = states.first()?;
    let names: Vec<&str> = states.iter().map(|state| state.target.as_str()).collect();
    let mut whom = first.program.to_owned();
    if names.iter().any(|name| !name.is_empty()) {
        whom = format!("{whom} at {}", few(&names));
    }
    let why = first.problem.as_deref();
    if first.attached {
        return Some(Problem::warning(
            format!("{whom}: {}", why.unwrap_or_default()),
            "`limiter doctor` says more",
        ));
    }
    let (what, remedy) = match first.layer {
        Layer::Connect => ("connections are not judged", RESTART),
        Layer::Socket => (
            "raw sockets, live sessions of whoever is suspended, and mail in direct sessions of \
             the node's users are not judged",
            RESTART,
        ),
        Layer::Guest => (
            "what comes in there is judged at the uplinks only, and connections of containers are \
             counted at connect() meanwhile",
            MEND,
        ),
        Layer::Uplink => (
            "what leaves there past the other layers is not judged, and connections of containers \
             are counted at connect() meanwhile",
            MEND,
        ),
        // Nothing of it is attached.
        Layer::Mta => ("the node's own mail server is not answered", RESTART),
        Layer::Mailbox => (
            "blocked prefixes, null routes and mailbox clients are not held off there",
            MEND,
        ),
    };
    let why = why.map_or_else(String::new, |why| format!(" ({why})"));
    Some(Problem::error(
        format!("{whom} is not attached: {what}{why}"),
        remedy,
    ))
}

const RESTART: &str = "restart the agent: systemctl restart limiter";
const MEND: &str = "a running agent tries again every two seconds; `limiter doctor` says what \
                    interfaces need; without an agent: systemctl start limiter";

#[cfg(test)]
mod tests {
    use limiter_common::abi::programs;

    use super::*;
    use crate::{kernel::attach::How, report::problem::Severity};

    fn state(layer: Layer, program: &'static str, target: &str, attached: bool) -> LayerState {
        LayerState {
            layer,
            program,
            target: target.to_owned(),
            index: u32::from(layer != Layer::Connect),
            attached,
            how: if layer == Layer::Connect {
                How::CgroupLink
            } else {
                How::Tcx
            },
            problem: (!attached).then(|| "no room".to_owned()),
        }
    }

    #[test]
    fn two_programs_at_one_place_are_one_and_the_worst_counts() {
        let all = of(&[
            state(Layer::Connect, programs::CONNECT4, "/sys/fs/cgroup", true),
            state(Layer::Connect, programs::CONNECT6, "/sys/fs/cgroup", false),
            state(Layer::Guest, programs::GUEST, "veth0", true),
            state(Layer::Uplink, programs::UPLINK, "veth0", true),
        ]);
        let told: Vec<_> = all
            .iter()
            .map(|layer| (layer.layer, layer.target.as_str(), layer.attached))
            .collect();
        assert_eq!(
            told,
            [
                (Layer::Connect, "/sys/fs/cgroup", false),
                (Layer::Guest, "veth0", true),
                (Layer::Uplink, "veth0", true),
            ]
        );
    }

    #[test]
    fn many_places_with_the_same_problem_are_one_error_that_names_them() {
        let mut states: Vec<LayerState> = (0..50)
            .map(|n| state(Layer::Guest, programs::GUEST, &format!("veth{n}"), false))
            .collect();
        states.push(state(Layer::Uplink, programs::UPLINK, "eth0", true));
        let [problem] = &problems(&states)[..] else {
            panic!("{:?}", problems(&states))
        };
        assert_eq!(problem.severity, Severity::Error);
        assert!(
            problem.problem.starts_with(
                "limiter_guest at veth0, veth1, veth2, veth3, veth4 and 45 more is not attached: "
            ),
            "{problem:?}"
        );
        assert!(problem.problem.ends_with("(no room)"), "{problem:?}");
    }

    #[test]
    fn what_is_worth_knowing_of_what_is_attached_is_a_warning() {
        let mut generic = state(Layer::Mailbox, programs::EDGE, "eth0", true);
        assert_eq!(problems(&[generic.clone()]), []);
        generic.problem = Some("not by the driver: busy".to_owned());
        let [problem] = &problems(&[generic])[..] else {
            panic!("one")
        };
        assert_eq!(problem.severity, Severity::Warning);
        assert_eq!(
            problem.problem,
            "limiter_edge at eth0: not by the driver: busy"
        );
    }
}
