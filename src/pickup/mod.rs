//! Floor 2: reading what an application wrote. A file's bytes → [`Submission`], or [`Malformed`] in words.
//!
//! [`read()`] is the whole of it; the other modules are its steps, in this order: `text` (how bytes become text),
//! `split` (where the header block ends), `envelope` (who it is from and for), `layout` (what the header says
//! of the message), `body` with `stretch`, `dots` and `closing` (one pass over the rest), `malformed` (the words).
//! [`names`] tells which files are no messages at all.
//!
//! Reads through [`ReadAt`](crate::mail::ReadAt) only and writes nothing; runs on any thread; keeps the header block
//! and one block of the body in memory. Not here: claiming, and the evidence that a writer is done.

mod body;
mod closing;
mod dots;
mod envelope;
#[cfg(test)]
mod fixtures_test;
#[cfg(test)]
mod giants_test;
mod layout;
mod malformed;
pub mod names;
pub mod read;
mod split;
mod stretch;
pub mod submission;
mod text;

pub use names::{DEFAULT_IGNORE, ignored};
pub use read::{ReadRules, Reading, read};
pub use split::MAX_HEADER;
pub use submission::{Completeness, Dots, Encoding, Layout, Malformed, Missing, Origin, Submission};
