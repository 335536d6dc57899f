//! Domains on hold (`hold = true`): which messages wait for which of them, who has come for them, how long they may wait.
//!
//! A message goes when its domain was asked for after it came, and after its last attempt began: so each request is one
//! attempt, whoever makes it, and one that is seen a second time, by another node or after a restart, does nothing. A
//! request's time is that of its file, unless that cannot be: a storage may have a clock of its own.
//!
//! Pure, but for [`Holds`], which all threads share.

use super::shared::{Settings, lock};
use crate::clock::{self, Millis};
use crate::config::units::show_duration;
use crate::mail::{EnhancedStatus, Outcome};
use crate::mailroot::release::{Door, KEPT, Request, Wanted};
use crate::queue::State;
use crate::queue::record::{Given, Record};
use crate::route::{self, Destination, OnHold};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What dispatch gives to whom waits for its domain.
pub const ON_HOLD: EnhancedStatus = EnhancedStatus::new(4, 3, 2);
/// So many domains of one message are told apart.
const MOST_DOMAINS: usize = 4;
/// Storage keeps times so coarsely.
const GRAIN: Millis = 10;
/// A time so far ahead is of a clock that was wrong.
const FUTURE: Millis = 10_000;
/// By so much the time of a new request may lie before the last look for such.
const LATE: Millis = 2_000;
/// A request that seems old, for the storage's clock is wrong, is left there so long for other nodes.
const EVERYBODY: Duration = Duration::from_secs(600);
/// So many requests are remembered; the oldest are forgotten.
const MOST_REQUESTS: usize = 10_000;

/// What a message waits for beside the time, in two bytes: there may be a million of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held(u16);

impl Held {
    /// For nothing.
    pub const NOT: Self = Self(0);
    /// For room in Badmail.
    pub const BADMAIL: Self = Self(1);
    /// For domains that have no number: there are too many.
    const OTHERS: Self = Self(2);
    /// Those with numbers begin here.
    const FIRST: usize = 3;

    /// Whether it waits for anything.
    pub fn is_any(self) -> bool {
        self != Self::NOT
    }

    /// Whether it waits for a domain.
    pub fn is_for_domain(self) -> bool {
        self.0 >= Self::OTHERS.0
    }
}

/// Which sets of domains messages wait for, and which domains have been asked for.
#[derive(Default)]
pub struct Holds {
    sets: Mutex<Sets>,
    requests: Mutex<Requests>,
    /// Counts requests.
    version: AtomicU64,
}

/// Each set has a number.
#[derive(Default)]
struct Sets {
    numbers: HashMap<Box<str>, u16>,
    /// Names with spaces between them.
    names: Vec<Box<str>>,
}

/// What is wanted, and through which door.
type RequestFile = (Wanted, Option<Arc<Door>>);

#[derive(Default)]
struct Requests {
    /// Files as they were last seen, and since when; 0: they lay there at the first look.
    seen: HashMap<RequestFile, (SystemTime, Millis)>,
    /// When each was asked for, and by which way.
    asked: HashMap<Wanted, Asked>,
    looked: Option<Millis>,
}

/// Somebody came for a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// When.
    pub at: Millis,
    /// Where he takes it; `None`: by the route of the domain.
    pub door: Option<Arc<Door>>,
}

impl Asked {
    /// Where mail of this destination goes then.
    pub fn way(&self, to: &Destination) -> Destination {
        match self.door.as_deref() {
            None => to.released(),
            Some(door) => to.through(route::Door {
                id: door.id.clone(),
                port: door.port,
                words: (door.knock.clone(), door.answer.clone()),
            }),
        }
    }
}

impl Holds {
    /// The number of this set of domains.
    fn number(&self, mut domains: Vec<String>) -> Held {
        domains.sort_unstable();
        domains.dedup();
        if domains.is_empty() {
            return Held::NOT;
        }
        if domains.len() > MOST_DOMAINS {
            return Held::OTHERS;
        }
        let key: Box<str> = domains.join(" ").into();
        let mut sets = lock(&self.sets);
        if let Some(number) = sets.numbers.get(&key) {
            return Held(*number);
        }
        let Ok(number) = u16::try_from(sets.names.len() + Held::FIRST) else {
            return Held::OTHERS;
        };
        sets.numbers.insert(key.clone(), number);
        sets.names.push(key);
        Held(number)
    }

    /// What a message waits for, and whether it waited for a domain that is no longer on hold: settings can change
    /// while nothing runs.
    pub fn of(&self, settings: &Settings, record: &Record) -> (Held, bool) {
        let (mut domains, mut freed) = (Vec::new(), false);
        for entry in record.recipients.iter().filter(|r| r.state == State::Open) {
            let last = entry.last.as_ref().map(|given| &given.outcome);
            match settings.routes.hold_of(&entry.recipient.address) {
                Some(hold) => domains.push(hold.domain),
                None => freed |= last.is_some_and(is_look),
            }
        }
        (self.number(domains), freed)
    }

    /// Whether an open recipient of this message may go now, because its domain has been asked for.
    pub fn free_any(&self, settings: &Settings, record: &Record) -> bool {
        let mut open = record.recipients.iter().filter(|r| r.state == State::Open);
        open.any(|entry| {
            let hold = settings.routes.hold_of(&entry.recipient.address);
            hold.is_some_and(|hold| {
                self.asked_for(&hold, record, entry.last.as_ref(), clock::now())
                    .is_some()
            })
        })
    }

    /// When the domain of this recipient was asked for, if that counts: after it came and after `last`, unless that was
    /// no attempt.
    pub fn asked_for(
        &self,
        hold: &OnHold,
        record: &Record,
        last: Option<&Given>,
        now: Millis,
    ) -> Option<Asked> {
        let requests = lock(&self.requests);
        if requests.asked.is_empty() {
            return None;
        }
        let one = Wanted::Domain(hold.domain.clone());
        let above = std::iter::successors(Some(hold.domain.as_str()), |name| Some(name.split_once('.')?.1));
        let trees = above.map(|name| Wanted::Tree(name.to_owned()));
        let entry = Wanted::Entry(hold.entry.to_string());
        let asked = [one, entry]
            .into_iter()
            .chain(trees)
            .filter_map(|wanted| requests.asked.get(&wanted))
            .max_by_key(|asked| asked.at)?;
        let is_wrong = |time: Millis| time > now.saturating_add(FUTURE);
        let was_there = has_come(record.arrived, asked.at, now);
        let is_new = |last: &Given| asked.at > last.at || is_look(&last.outcome) || is_wrong(last.at);
        (was_there && last.is_none_or(is_new)).then(|| asked.clone())
    }

    /// Takes note of the requests that lie there; returns what is new. They were made when their files say; one that
    /// has come since the last look and says something else was made now.
    pub fn note(&self, all: Vec<Request>, now: Millis) -> Vec<Wanted> {
        let mut requests = lock(&self.requests);
        let looked = requests.looked.replace(now);
        let made = |at: Millis| match looked {
            Some(looked) if at < looked.saturating_sub(LATE) => now,
            _ => at.min(now),
        };
        let mut seen = HashMap::with_capacity(all.len());
        let mut new = Vec::new();
        for Request { wanted, at, door } in all {
            let file = (wanted, door.map(Arc::new));
            let known = requests.seen.get(&file).filter(|(time, _)| *time == at);
            let since = known.map_or(looked.map_or(0, |_| now), |(_, since)| *since);
            if known.is_none() {
                let when = made(millis(at));
                let (wanted, door) = file.clone();
                new.push(wanted.clone());
                requests.asked.insert(wanted, Asked { at: when, door });
            }
            seen.insert(file, (at, since));
        }
        requests.seen = seen;
        if requests.asked.len() > MOST_REQUESTS {
            let mut all: Vec<(Millis, Wanted)> = requests
                .asked
                .iter()
                .map(|(wanted, asked)| (asked.at, wanted.clone()))
                .collect();
            all.sort_unstable();
            for (_, oldest) in all.iter().take(all.len() - MOST_REQUESTS / 2) {
                requests.asked.remove(oldest);
            }
        }
        if !new.is_empty() {
            self.version.fetch_add(1, Ordering::SeqCst);
        }
        new
    }

    /// Requests that everybody has seen by now.
    pub fn old(&self, now: Millis) -> Vec<(Wanted, SystemTime)> {
        let is_past = |time: Millis, wait: Duration| {
            now.saturating_sub(time) > u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
        };
        let requests = lock(&self.requests);
        let old = requests.seen.iter().filter(|((_, door), (at, since))| {
            door.is_none() && is_past(millis(*at), KEPT) && is_past(*since, EVERYBODY)
        });
        old.map(|((wanted, _), (at, _))| (wanted.clone(), *at)).collect()
    }

    /// How many requests were seen so far.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// After the clock was set no time that was noted means anything: what lies there is looked at as if for the first
    /// time.
    pub fn forget(&self) {
        *lock(&self.requests) = Requests::default();
    }

    /// Says of what messages wait for whether that is wanted.
    pub fn concerned(&self, wanted: &[Wanted]) -> impl Fn(Held) -> bool + use<> {
        let includes = |set: &str| {
            set.split(' ')
                .any(|name| wanted.iter().any(|one| one.includes(name)))
        };
        let sets: Vec<bool> = lock(&self.sets).names.iter().map(|set| includes(set)).collect();
        move |held| {
            let number = usize::from(held.0).checked_sub(Held::FIRST);
            held == Held::OTHERS || number.is_some_and(|number| sets.get(number).copied().unwrap_or(false))
        }
    }
}

/// Whether a message that came at `arrived` was there when its domain was asked for.
pub fn has_come(arrived: Millis, asked: Millis, now: Millis) -> bool {
    arrived <= asked.saturating_add(GRAIN) || arrived > now.saturating_add(FUTURE)
}

/// Whether it was only seen that the domain is on hold.
fn is_look(outcome: &Outcome) -> bool {
    outcome.status == ON_HOLD && outcome.host.is_none()
}

/// Of a recipient whose domain is on hold. That is no attempt, and it hides nothing that a host has said.
pub fn note_look(record: &mut Record, index: usize, outcome: Outcome, at: Millis) {
    let open = record
        .recipients
        .get_mut(index)
        .filter(|r| r.state == State::Open);
    if let Some(entry) = open
        && entry.last.as_ref().is_none_or(|last| is_look(&last.outcome))
    {
        entry.last = Some(Given { outcome, at });
    }
}

fn millis(at: SystemTime) -> Millis {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// What the schedule says of a recipient whose domain is on hold, after an attempt or none.
pub enum Next {
    /// Looked at again then, unless somebody asks before.
    At(Millis),
    /// Nobody came in time.
    Expired(Outcome),
}

/// Of a recipient that was just looked at, or tried once because somebody asked; `wait`: until the next look.
pub fn next(hold: &OnHold, last: Option<&Outcome>, arrived: Millis, now: Millis, wait: Millis) -> Next {
    let expires = arrived.saturating_add(u64::try_from(hold.expire.as_millis()).unwrap_or(u64::MAX));
    if now < expires {
        return Next::At(now.saturating_add(wait).min(expires));
    }
    let mut words = format!(
        "its time is over: its domain is on hold, and nobody has come to fetch it within {}",
        show_duration(hold.expire)
    );
    let last = last.filter(|last| !is_look(last));
    if let Some(last) = last {
        words = format!(
            "its time is over: its domain is on hold, and the last attempt to deliver it ended with: {}",
            last.text
        );
    }
    let mut outcome = Outcome::failed(EnhancedStatus::new(4, 4, 7), words);
    outcome.host = last.and_then(|last| last.host.clone());
    Next::Expired(outcome)
}

/// A held domain is looked at again this often, and at once when it is asked for and after SIGHUP.
pub fn wait(retry: &[Duration]) -> Millis {
    retry
        .last()
        .map_or(60_000, |last| u64::try_from(last.as_millis()).unwrap_or(60_000))
}

#[cfg(test)]
mod tests;
