//! For tests: somebody who tells everybody by every way there is.

use super::{Herald, Told};
use crate::{
    notice::{Channel, Context, Facts, Planned},
    offence::Book,
};

/// Tells by mail to `AUDIENCE@example`, and by the webhook.
pub struct Everywhere;

impl Herald for Everywhere {
    fn plan(&self, told: &[Told<'_>], _: &Book) -> Vec<(i64, Planned)> {
        told.iter()
            .flat_map(|told| {
                let context = Context {
                    id: "1",
                    sequence: 1,
                    node: "node",
                    parent: None,
                    operator: &[],
                    evidence: &[],
                    at: told.at,
                    time: jiff::Timestamp::UNIX_EPOCH,
                };
                let facts = Facts::new(told.notice, &context);
                let to = format!("{}@example", told.notice.to.as_str());
                [Channel::Mail { to }, Channel::Webhook].map(|channel| {
                    let facts = facts.clone();
                    (told.number, Planned { channel, facts })
                })
            })
            .collect()
    }
}
