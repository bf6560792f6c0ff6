//! What is wrong with the files that `notices` names, before anybody has to be told.

use std::path::Path;

use super::{exec, template, webhook};
use crate::policy::{fault::Fault, model::Origin, notices::Notices};

/// Every fault of the templates, the webhook's key and the program, as this process finds them.
/// All are warnings: a policy is not refused because somebody cannot be told.
#[must_use]
pub fn check(notices: &Notices) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some(directory) = &notices.templates {
        faults.extend(template::check(directory));
    }
    if let Some(file) = notices.webhook.as_ref().and_then(|w| w.key_file.as_ref())
        && let Err(problem) = webhook::read_key(file)
    {
        let advice = "nothing is posted until it is right";
        faults.push(warning(file, problem, advice));
    }
    if let Some(settings) = &notices.exec {
        let checked =
            exec::user(&settings.user).and_then(|(uid, _)| exec::check(&settings.path, uid));
        if let Err(problem) = checked {
            let advice = "it is not run until that is right";
            faults.push(warning(&settings.path, problem, advice));
        }
    }
    faults
}

fn warning(path: &Path, problem: String, advice: &str) -> Fault {
    let origin = Origin {
        file: path.into(),
        line: 0,
        column: 0,
    };
    Fault::warning(&origin, problem, advice)
}
