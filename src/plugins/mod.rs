//! Beside the building: what adds a way in without the engine knowing of it. A plug-in touches the tree only.

#[cfg(feature = "listener")]
pub mod listener;
#[cfg(not(feature = "listener"))]
mod no_listener;

#[cfg(feature = "listener")]
pub use listener::{Listeners, judge};
#[cfg(not(feature = "listener"))]
pub use no_listener::{Listeners, judge};

use std::fmt;

/// Why there is no listening, in one sentence.
#[derive(Debug)]
pub enum Trouble {
    /// The settings, or the files that they name, have to be changed.
    Settings(String),
    /// A port cannot be opened.
    Port(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Settings(words) | Self::Port(words)) = self;
        f.write_str(words)
    }
}
