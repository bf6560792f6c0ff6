//! Looking at a node: what `status` and `explain` say, from the maps in the kernel and the
//! compiled policy. The running agent and the commands without one answer from the same code.

pub mod coverage;
mod explain;
mod layers;
mod pinned;
pub mod record;
mod status;
mod subject;

use limiter_common::{limit::Kind, sanction::WITHOUT_END, settings::Settings, verdict::PortGroup};

use crate::{
    control::node::NodeError,
    kernel::{KernelError, SanctionError, clock, limits::KnownLimit, maps::Maps, read::LimitUse},
    policy::{
        Amount,
        image::Image,
        model::{Limit, Mode, Pace, Policy},
    },
    report::{duration::Seconds, event::Clock, problem::Problem, status::Usage},
};

pub use pinned::{PinnedNode, book_of};

/// What there is to look at.
pub struct View<'a> {
    /// The maps.
    pub maps: &'a Maps,
    /// The compiled policy, for which match names whom; without it identities are only numbers.
    pub image: Option<&'a Image>,
    /// The checked policy, for which policy file asks for what.
    pub policy: &'a Policy,
    /// The cgroup v2 mount.
    pub cgroup_mount: &'a std::path::Path,
}

/// A moment, in both clocks.
#[derive(Clone, Copy, Debug)]
struct Moment {
    now_ns: u64,
    clock: Clock,
}

impl Moment {
    fn now() -> Self {
        let now_ns = clock::monotonic_ns();
        Self {
            now_ns,
            clock: Clock::new(clock::timestamp(), now_ns),
        }
    }

    /// A whole second of the kernel's clock, for people: to the second, so that it reads the same
    /// each time although the two clocks drift.
    fn second(self, at_s: u32) -> jiff::Timestamp {
        let exact = self.clock.wall(u64::from(at_s) * 1_000_000_000);
        exact.round(jiff::Unit::Second).unwrap_or(exact)
    }

    /// A moment of the kernel's clock that lies ahead, for people; `None` if it has passed.
    fn ahead(self, at_ns: u64) -> Option<jiff::Timestamp> {
        (at_ns > self.now_ns).then(|| self.clock.wall(at_ns))
    }
}

/// When a sanction ends, for people; `None` for one without end.
#[must_use]
pub fn end_of(until_s: u32) -> Option<jiff::Timestamp> {
    (until_s != WITHOUT_END).then(|| Moment::now().second(until_s))
}

/// A limit and where it stands, for people.
fn usage(limit: &LimitUse, moment: Moment) -> Usage {
    let known = &limit.limit;
    let span = Seconds(std::time::Duration::from_nanos(known.span_ns));
    Usage {
        kind: known.kind,
        unit: known.unit,
        max: known.max,
        window: (known.kind == Kind::Window).then_some(span),
        every: (known.kind == Kind::Pace).then_some(span),
        used: limit.used(moment.now_ns),
        free_at: limit
            .admits_at(moment.now_ns)
            .and_then(|at| moment.ahead(at)),
        ports: [PortGroup::Smtp, PortGroup::Submission]
            .into_iter()
            .filter(|group| known.concerns(*group))
            .collect(),
    }
}

/// The limit as the policy writes it.
fn amount(limit: &LimitUse) -> Amount {
    let KnownLimit {
        unit,
        kind,
        max,
        span_ns,
        groups,
    } = limit.limit;
    let span = std::time::Duration::from_nanos(span_ns);
    match kind {
        Kind::Window => Amount::Limit(Limit {
            unit,
            max,
            window: span,
            groups,
        }),
        Kind::Pace => Amount::Pace(Pace {
            unit,
            every: span,
            burst: max,
            groups,
        }),
    }
}

/// What it means that other limiters judge the same connections.
#[must_use]
pub fn other_limiters(others: &[String]) -> Vec<Problem> {
    others
        .iter()
        .map(|other| {
            Problem::warning(
                format!(
                    "another limiter judges the same connections, and refuses on its own: {other}"
                ),
                "if it was left behind by another `pin_dir`: `limiter detach` with that \
                 configuration",
            )
        })
        .collect()
}

fn mode(enforces: bool) -> Mode {
    if enforces {
        Mode::Enforce
    } else {
        Mode::Observe
    }
}

impl View<'_> {
    fn settings(&self) -> Result<Settings, KernelError> {
        self.maps.settings.get(0)
    }
}

impl From<SanctionError> for NodeError {
    fn from(error: SanctionError) -> Self {
        match error {
            SanctionError::UnknownTenant { name } => Self::UnknownTenant { name },
            SanctionError::Kernel(error) => Self::Failed {
                what: format!("the sanction may not be in force everywhere: {error}"),
                remedy: "look at `limiter status` and try again; `limiter doctor` says what is \
                         missing"
                    .to_owned(),
            },
            SanctionError::Node | SanctionError::Default { .. } | SanctionError::Length => {
                Self::Invalid {
                    what: error.to_string(),
                }
            }
        }
    }
}

impl From<KernelError> for NodeError {
    fn from(error: KernelError) -> Self {
        Self::Failed {
            what: error.to_string(),
            remedy: "`limiter doctor` says what is missing".to_owned(),
        }
    }
}
