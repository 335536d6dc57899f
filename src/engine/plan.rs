//! The parts of an attempt: which recipients of a message are due, and which way each goes.
//!
//! Reads the record, the routes, and who has come for mail on hold; touches nothing. Thread: dispatch. Not here: where
//! the hosts of a destination are (route), in which order parts go (dispatch).

use super::hold::{Asked, Holds};
use super::job::Job;
use super::settle;
use super::shared::{Settings, lock};
use crate::clock::Millis;
use crate::mail::{EnhancedStatus, Outcome};
use crate::queue::State;
use crate::route::{Destination, Route};
use std::collections::HashMap;
use std::sync::Arc;

/// How a part goes.
pub enum Way {
    /// Into Drop.
    Local,
    /// To a mail server; of mail on hold, when it was asked for.
    Remote(Arc<Destination>, Option<Millis>),
    /// Nowhere, until somebody comes for it.
    Held(Arc<Destination>),
    /// Nowhere: this is the outcome.
    Refused(Outcome),
}

/// The parts of an attempt: who is due, by where they go; remote parts split at `messages.max_recipients`.
pub fn plan(settings: &Settings, holds: &Holds, job: &Job) -> Vec<(Way, Vec<usize>)> {
    let now = crate::clock::now();
    let config = &settings.config;
    let mut state = lock(&job.state);
    (state.planned, state.on_hold) = (now, false);
    let record = &state.record;
    if (job.owed_before && record.owes()) || record.crashes >= settle::MAX_CRASHES {
        return Vec::new(); // first what is due from the last attempt
    }
    let hops = job.submission.hops;
    let mut local = Vec::new();
    let mut remote: Vec<(Arc<Destination>, Option<Millis>, Vec<usize>)> = Vec::new();
    let mut by_key: HashMap<String, usize> = HashMap::new();
    let mut plan = Vec::new();
    let (mut planned, mut on_hold) = (now, false);
    for (index, entry) in record.recipients.iter().enumerate() {
        if entry.state != State::Open {
            continue;
        }
        let hold = settings.routes.hold_of(&entry.recipient.address);
        on_hold |= hold.is_some();
        let asked = hold.and_then(|hold| holds.asked_for(&hold, record, entry.last.as_ref(), now));
        // Whatever the clock says: this attempt is later than the request.
        planned = asked.as_ref().map_or(planned, |asked| planned.max(asked.at));
        if entry.next > now && !job.forced && asked.is_none() {
            continue;
        }
        if hops > config.messages.max_hops {
            let words = format!(
                "it has passed {hops} hosts (messages.max_hops is {}): a mail loop",
                config.messages.max_hops
            );
            plan.push((
                Way::Refused(Outcome::failed(EnhancedStatus::new(5, 4, 6), words)),
                vec![index],
            ));
            continue;
        }
        match settings.routes.of(&entry.recipient.address) {
            Route::Local => local.push(index),
            Route::Impossible(outcome) => plan.push((Way::Refused(outcome), vec![index])),
            Route::Remote(to) => {
                let to = match &asked {
                    Some(asked) if to.hold => Arc::new(asked.way(&to)),
                    _ => to,
                };
                let at = *by_key.entry(to.key.clone()).or_insert_with(|| {
                    remote.push((to, None, Vec::new()));
                    remote.len() - 1
                });
                if let Some((_, when, indices)) = remote.get_mut(at) {
                    *when = asked.map(|Asked { at, .. }| at).max(*when);
                    indices.push(index);
                }
            }
        }
    }
    (state.planned, state.on_hold) = (planned, on_hold);
    if !local.is_empty() {
        plan.push((Way::Local, local));
    }
    for (to, asked, indices) in remote {
        if to.hold {
            plan.push((Way::Held(to), indices));
            continue;
        }
        for chunk in indices.chunks(config.messages.max_recipients.max(1)) {
            plan.push((Way::Remote(Arc::clone(&to), asked), chunk.to_vec()));
        }
    }
    if plan.is_empty() && state.record.is_open() && !job.forced {
        // Taken before its time (a clock that was set back): wait again.
        plan.push((
            Way::Refused(Outcome::deferred(EnhancedStatus::new(4, 3, 2), "not due yet")),
            vec![],
        ));
    }
    plan
}
