//! Floor 2: reading what an application wrote. A file's bytes → [`Submission`], or [`Malformed`] in words.

pub mod submission;

pub use submission::{Completeness, Dots, Layout, Malformed, Origin, Submission};
