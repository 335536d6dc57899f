//! Beside the building: what adds a way in without the engine knowing of it. A plug-in touches the tree only.

#[cfg(feature = "listener")]
pub mod listener;
#[cfg(not(feature = "listener"))]
mod no_listener;

#[cfg(feature = "listener")]
pub use listener::{Listeners, Trouble, judge};
#[cfg(not(feature = "listener"))]
pub use no_listener::{Listeners, Trouble, judge};
