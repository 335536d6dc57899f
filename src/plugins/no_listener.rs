//! What stands in the place of the listener in a build without it: settings that ask for it are refused.

use super::Trouble;
use crate::config::{Config, Listener};
use crate::stop::Stop;

const NOT_HERE: &str = "this mailroot was built without the listener; use a build with it";

/// What would become of an entry.
pub fn judge(_: &Config, _: &Listener) -> Result<String, String> {
    Err(NOT_HERE.to_owned())
}

/// None.
pub struct Listeners;

impl Listeners {
    /// Refused when one is enabled.
    pub fn start(config: &Config, _: Stop) -> Result<Self, Trouble> {
        match config.listeners.is_empty() {
            false => Err(Trouble::Settings(format!(
                "{NOT_HERE}, or set enabled = false below [listener]"
            ))),
            true => Ok(Self),
        }
    }

    /// Nothing to do.
    pub fn reload(&self, _: &Config) {}

    /// Nothing to wait for.
    pub fn finish(&self) {}
}
