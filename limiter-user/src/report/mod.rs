//! What people and programs are told: the JSON models, their text form, and the history of events.

pub mod advice;
pub mod attempt;
pub mod case;
pub mod case_text;
pub mod complaint;
pub mod dossier;
pub mod dossier_html;
pub mod dossier_text;
pub mod duration;
pub mod episode;
pub mod event;
pub mod event_text;
pub mod explain;
pub mod faults;
pub mod names;
pub mod outcome;
pub mod problem;
pub mod status;
pub mod status_text;
pub mod store;
pub mod text;
pub mod time;

#[cfg(test)]
mod tests;
