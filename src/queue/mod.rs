//! Floor 2: what is known of a message while we answer for it. [`record`] is the ENV file as a value,
//! [`schedule`] says when the next attempt is due. Pure: no disk, no clock.

pub mod env;
pub mod record;
pub mod schedule;

pub use record::{Given, RecipientRecord, Record, ReportState, State};

#[cfg(test)]
mod frozen_test;
