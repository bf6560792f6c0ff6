//! The node without an agent: told from pins and files.

use std::path::PathBuf;

use super::{
    View, coverage,
    record::{Shelf, add_to_explanation, add_to_status, stranded},
};
use crate::{
    control::node::{Node, NodeError},
    court::Study,
    kernel::{
        KernelError, LayerState,
        attach::{How, other_limiters, pinned_layers},
        clock,
        maps::Maps,
        pins::Pins,
    },
    ledger::held_counts,
    offence::Book,
    policy::{book::book, compile::compile_what_holds, image::Image, model::Policy},
    report::{
        dossier::Counters,
        explain::{ExplainQuery, Explanation},
        problem::Problem,
        status::Status,
        store::{EventFilter, History, Reader},
    },
    system::{
        Sources, System,
        clock::MachineClock,
        interfaces::{Coverage, Wanted},
    },
};

/// Who is bound by which policies, on this machine as it is now; nobody where it cannot be looked at.
#[must_use]
pub fn book_of(policy: &Policy) -> Book {
    let sources = Sources::find().ok();
    let system = sources.and_then(|sources| System::snapshot(policy, &sources).ok());
    system.map_or_else(Book::default, |system| {
        book(policy, &compile_what_holds(policy, &system).0)
    })
}

/// The node without an agent.
pub struct PinnedNode {
    maps: Maps,
    pins: Pins,
    image: Option<Image>,
    policy: Policy,
    cgroup_mount: PathBuf,
    attach_point: PathBuf,
    /// What belongs on the interfaces; none if they cannot be listed.
    coverage: Option<Coverage>,
    events: Reader,
    state_dir: PathBuf,
    /// Who is bound by which policies; nobody where the machine cannot be looked at.
    book: Book,
}

impl PinnedNode {
    /// Opens what is pinned. The policy names matches; what is in force is what the kernel says.
    ///
    /// # Errors
    ///
    /// Nothing is pinned, or the pins are not safe or of another version.
    pub fn open(policy: &Policy) -> Result<Self, KernelError> {
        let pins = Pins::new(&policy.places.pin_dir);
        let maps = Maps::open(&pins)?;
        // By the programs' clock, also if a test put it forward.
        clock::set_offset_ns(maps.settings.get(0)?.clock_offset_ns);
        let sources = Sources::find();
        let image = sources
            .as_ref()
            .ok()
            .and_then(|sources| System::snapshot(policy, sources).ok())
            .map(|system| compile_what_holds(policy, &system).0);
        let cgroup_mount = sources?.cgroup_mount;
        let book = image.as_ref().map(|image| book(policy, image));
        Ok(Self {
            state_dir: policy.places.state_dir.clone(),
            book: book.unwrap_or_default(),
            maps,
            pins,
            image,
            policy: policy.clone(),
            attach_point: policy.places.attach_point(&cgroup_mount),
            cgroup_mount,
            coverage: coverage::expected(&Wanted::of(policy)).ok(),
            events: Reader::new(&policy.places.state_dir),
        })
    }

    /// The record book, if there is one.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn shelf(&self) -> Result<Option<Shelf>, NodeError> {
        let reading = MachineClock::new(None).reading();
        Shelf::alone(&self.state_dir, self.book.clone(), &reading)
    }

    /// What the kernel counted of a tenant, if it knows it.
    #[must_use]
    pub fn counters(&self, tenant: &str) -> Option<Counters> {
        let status = self.view().status(Some(tenant), &[]).ok()?;
        status.tenants.first().map(Counters::from)
    }

    /// Has `look` look at all records, if there are any; what keeps it from that is a problem.
    fn study(&self, look: impl FnOnce(&Study<'_>)) -> Option<Problem> {
        let studied = self.shelf().and_then(|shelf| {
            let Some(shelf) = shelf else {
                return Ok(());
            };
            let records = shelf.records()?;
            shelf.study_all(&records, look);
            Ok(())
        });
        studied.err().map(|error| {
            let what = format!("why who is sanctioned cannot be told: {error}");
            Problem::warning(what, error.remedy())
        })
    }

    /// What is attached, and what should be.
    fn layers(&self) -> Vec<LayerState> {
        let mut layers = pinned_layers(&self.pins);
        for state in layers
            .iter_mut()
            .filter(|state| state.how == How::CgroupLink)
        {
            if state.target.is_empty() {
                state.target = self.attach_point.display().to_string();
            }
        }
        if let Some(coverage) = &self.coverage {
            layers.extend(coverage::missing(coverage, &layers));
        }
        layers
    }

    fn view(&self) -> View<'_> {
        View {
            maps: &self.maps,
            image: self.image.as_ref(),
            policy: &self.policy,
            cgroup_mount: &self.cgroup_mount,
        }
    }
}

impl Node for PinnedNode {
    fn status(&self, tenant: Option<&str>) -> Result<Status, NodeError> {
        let mut status = self.view().status(tenant, &self.layers())?;
        let others = other_limiters(&self.attach_point, &self.cgroup_mount, &self.pins);
        status.problems.extend(super::other_limiters(&others));
        let one = tenant.is_some();
        let unread = self.study(|study| {
            add_to_status(&mut status, study, one);
            if let (Some(image), false) = (&self.image, one) {
                let stranded = stranded::stranded(study.records, image.names());
                status.problems.extend(stranded::problem(&stranded));
            }
        });
        status.problems.extend(unread);
        if let Ok(counts) = held_counts(&self.policy.places.state_dir) {
            status.count_held_mail(&counts);
        }
        status.judge();
        Ok(status)
    }

    fn explain(&self, query: &ExplainQuery) -> Result<Explanation, NodeError> {
        let mut answer = self.view().explain(query)?;
        if let Some(unread) = self.study(|study| add_to_explanation(&mut answer, study)) {
            answer.notes.push(unread.problem);
        }
        Ok(answer)
    }

    fn history(&self, filter: &EventFilter) -> Result<History, NodeError> {
        Ok(self.events.history(filter)?)
    }
}
