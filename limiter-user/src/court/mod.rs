//! The court: hears what happened, writes it into the record book together with what follows from
//! it, has that carried out in the kernel, and only then lets people be told.
//!
//! What was committed is carried out again after a crash: the kernel is made to agree with the
//! record of each tenant, whatever it held before. What could not be committed did not happen; whoever
//! said it is told so, and says it again. But whom an operator suspends or reinstates, is so at once: what
//! cannot be recorded is owed to the book (`later`), kept beside it (`slate`), and told by `status`.
//!
//! A disk may also hang. Whoever looks is shown what was committed last (`shown`) and waits for nobody;
//! what an operator says is waited for only so long (`sitting`).
//!
//! Everybody comes in by the `door`; what is written is heard at the `bench`.

mod adopting;
mod announcing;
mod bailiff;
mod bench;
mod carrying_out;
mod door;
mod foresight;
mod hearing;
mod later;
mod setting;
mod shown;
mod sitting;
mod slate;
pub mod spare;

pub use adopting::{SAME_END, told, wanted};
pub use bailiff::{Bailiff, BailiffError, Found, Wanted};
pub use door::Court;
pub use foresight::Foreseen;
pub use hearing::{Submission, Verdict};
pub use later::Owed;
pub use setting::{Clocks, CourtError, Herald, Now, Setting, Study, Told};
pub use slate::owed;

#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
