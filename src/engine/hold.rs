//! Domains on hold (`hold = true`): which messages wait for which of them, who has come for them, how long they may wait.
//!
//! A message goes when its domain was asked for after it came, and after it was last tried or looked at: so each request
//! is one attempt, whoever makes it, and one that is seen a second time does nothing. The times are those of this
//! machine's clock, but for requests that lay there before this process did.
//!
//! Pure, but for [`Holds`], which all threads share.

use super::job::Means;
use super::shared::{Settings, lock};
use crate::clock::Millis;
use crate::config::units::show_duration;
use crate::mail::{EnhancedStatus, Outcome};
use crate::mailroot::release::{Door, Request, Wanted};
use crate::queue::State;
use crate::queue::record::Record;
use crate::route::{self, Destination, OnHold};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What dispatch gives to whom waits for its domain.
pub const ON_HOLD: EnhancedStatus = EnhancedStatus::new(4, 3, 2);
/// So many domains of one message are told apart.
const MOST_DOMAINS: usize = 4;
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

#[derive(Default)]
struct Requests {
    /// Files as they were last seen.
    seen: HashMap<(Wanted, Option<Arc<Door>>), SystemTime>,
    /// When each was asked for, and by which way.
    asked: HashMap<Wanted, Asked>,
    has_looked: bool,
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
                None => freed |= last.is_some_and(|last| last.status == ON_HOLD && last.host.is_none()),
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
                self.asked_for(&hold, record, entry.last.as_ref().map(|last| last.at))
                    .is_some()
            })
        })
    }

    /// When the domain of this recipient was asked for, if that counts: after it came and after `last`.
    pub fn asked_for(&self, hold: &OnHold, record: &Record, last: Option<Millis>) -> Option<Asked> {
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
        let counts = asked.at >= record.arrived && last.is_none_or(|last| asked.at >= last);
        counts.then(|| asked.clone())
    }

    /// Takes note of the requests that lie there; returns what is new. What lay there before the first look was asked
    /// for when its file says, else now.
    pub fn note(&self, all: Vec<Request>, now: Millis) -> Vec<Wanted> {
        let mut requests = lock(&self.requests);
        let is_first = !std::mem::replace(&mut requests.has_looked, true);
        let mut seen = HashMap::with_capacity(all.len());
        let mut new = Vec::new();
        for Request { wanted, at, door } in all {
            let file = (wanted, door.map(Arc::new));
            if requests.seen.get(&file) != Some(&at) {
                let when = if is_first { millis(at).min(now) } else { now };
                let (wanted, door) = file.clone();
                new.push(wanted.clone());
                requests.asked.insert(wanted, Asked { at: when, door });
            }
            seen.insert(file, at);
        }
        requests.seen = seen;
        if requests.asked.len() > MOST_REQUESTS {
            let mut times: Vec<Millis> = requests.asked.values().map(|asked| asked.at).collect();
            times.sort_unstable_by(|a, b| b.cmp(a));
            let oldest = times.get(MOST_REQUESTS / 2).copied().unwrap_or(0);
            requests.asked.retain(|_, asked| asked.at > oldest);
        }
        if !new.is_empty() {
            self.version.fetch_add(1, Ordering::SeqCst);
        }
        new
    }

    /// How many requests were seen so far.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// After the clock was set no time that was noted means anything.
    pub fn forget(&self) {
        lock(&self.requests).asked.clear();
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
pub fn next(
    hold: &OnHold,
    means: Means,
    last: Option<&Outcome>,
    arrived: Millis,
    now: Millis,
    wait: Millis,
) -> Next {
    let expires = arrived.saturating_add(u64::try_from(hold.expire.as_millis()).unwrap_or(u64::MAX));
    if now < expires {
        return Next::At(now.saturating_add(wait).min(expires));
    }
    let mut words = format!(
        "its time is over: its domain is on hold, and nobody has come to fetch it within {}",
        show_duration(hold.expire)
    );
    let last = last.filter(|_| means != Means::Hold);
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
mod tests {
    use super::*;
    use crate::mail::{Address, Envelope, MessageId, Recipient};

    fn request(wanted: &Wanted, at: Millis) -> Request {
        let wanted = wanted.clone();
        let at = UNIX_EPOCH + Duration::from_millis(at);
        Request {
            wanted,
            at,
            door: None,
        }
    }

    fn record(arrived: Millis) -> Record {
        let envelope = Envelope {
            sender: None,
            ret: None,
            envid: None,
            body: None,
            recipients: vec![Recipient::plain(Address::parse("a@x.test", "d").unwrap())],
        };
        Record::new(MessageId::generate(), String::new(), arrived, 0, envelope)
    }

    fn hold(domain: &str) -> OnHold {
        let domain = domain.to_owned();
        let expire = Duration::from_secs(100);
        let entry = "*.test".into();
        OnHold {
            domain,
            entry,
            expire,
        }
    }

    #[test]
    fn a_request_counts_for_what_came_before_it_and_once() {
        let holds = Holds::default();
        let one = Wanted::Domain("x.test".to_owned());
        let tree = Wanted::Tree("test".to_owned());
        let at = |domain: &str, arrived, last| {
            let asked = holds.asked_for(&hold(domain), &record(arrived), last);
            asked.map(|asked| asked.at)
        };
        assert_eq!(at("x.test", 1, None), None);
        // before this process: when the file says, but never in the future
        let new = holds.note(vec![request(&one, 500)], 1000);
        assert_eq!(new, std::slice::from_ref(&one));
        assert_eq!(at("x.test", 500, Some(400)), Some(500));
        assert_eq!(at("x.test", 501, None), None, "it came later");
        assert_eq!(at("x.test", 400, Some(501)), None, "it was tried since");
        assert_eq!(at("y.test", 400, None), None);
        // seen again, it is nothing new; renewed it is, and then our clock counts
        assert_eq!(holds.note(vec![request(&one, 500)], 2000), []);
        assert_eq!(holds.version(), 1);
        assert_eq!(
            holds
                .note(vec![request(&one, 7), request(&tree, 9999)], 3000)
                .len(),
            2
        );
        assert_eq!(holds.version(), 2);
        assert_eq!(at("x.test", 3000, Some(2999)), Some(3000));
        assert_eq!(at("y.test", 3000, None), Some(3000));
        assert_eq!(at("y.tests", 3000, None), None);
        // gone, it still counts for what has not had its turn; after the clock was set nothing does
        assert_eq!(holds.note(Vec::new(), 4000), []);
        assert_eq!(at("x.test", 1, None), Some(3000));
        holds.forget();
        assert_eq!(at("x.test", 1, None), None);

        // who comes last says where it goes, and an entry is for what goes by it
        let door = Door {
            id: "1".to_owned(),
            port: 2525,
            knock: String::new(),
            answer: String::new(),
        };
        let entry = Wanted::Entry("*.test".to_owned());
        let mut through = request(&entry, 1);
        through.door = Some(door.clone());
        holds.note(vec![through], 5000);
        let asked = holds.asked_for(&hold("x.test"), &record(1), None).unwrap();
        assert_eq!(asked.door.as_deref(), Some(&door));
        holds.note(vec![request(&one, 8)], 6000);
        let asked = holds.asked_for(&hold("x.test"), &record(1), None).unwrap();
        assert_eq!((asked.at, asked.door), (6000, None));

        let holds = Holds::default();
        holds.note(vec![request(&one, 9000)], 1000);
        assert_eq!(holds.asked_for(&hold("x.test"), &record(1001), None), None);
        for n in 0..=MOST_REQUESTS {
            let wanted = Wanted::Domain(format!("d{n}.test"));
            holds.note(vec![request(&wanted, 1)], 2000 + n as Millis);
        }
        assert!(lock(&holds.requests).asked.len() <= MOST_REQUESTS);
    }

    #[test]
    fn numbers_stand_for_sets_of_domains() {
        let holds = Holds::default();
        let number = |names: &[&str]| holds.number(names.iter().map(|&name| name.to_owned()).collect());
        assert_eq!(number(&[]), Held::NOT);
        let (a, ab) = (number(&["a.test", "a.test"]), number(&["b.test", "a.test"]));
        assert_eq!(number(&["a.test", "b.test"]), ab);
        assert!(a != ab && a.is_for_domain() && !Held::BADMAIL.is_for_domain() && Held::BADMAIL.is_any());
        let many = number(&["a", "b", "c", "d", "e"]);
        assert_eq!(many, Held::OTHERS);
        let is_concerned = |name: &str| holds.concerned(&[Wanted::Domain(name.to_owned())]);
        let of = |name| [Held::NOT, Held::BADMAIL, many, a, ab].map(is_concerned(name));
        assert_eq!(of("a.test"), [false, false, true, true, true]);
        assert_eq!(of("b.test"), [false, false, true, false, true]);
        for n in 0..70_000 {
            number(&[&format!("d{n}.test")]);
        }
        assert_eq!(number(&["new.test"]), Held::OTHERS, "two bytes are full");
        assert_eq!(number(&["a.test"]), a);
    }

    #[test]
    fn what_nobody_comes_for_expires() {
        let hold = hold("x.test");
        let refused = Outcome::deferred(EnhancedStatus::new(4, 3, 0), "not today");
        let at = |now, means| next(&hold, means, Some(&refused), 1000, now, 60_000);
        assert!(matches!(at(2000, Means::Hold), Next::At(62_000)));
        assert!(matches!(at(90_000, Means::Host), Next::At(101_000)));
        let words = |means| match at(101_000, means) {
            Next::Expired(outcome) => outcome.text,
            Next::At(_) => panic!(),
        };
        assert!(words(Means::Hold).ends_with("nobody has come to fetch it within 1m40s"));
        assert!(words(Means::Host).ends_with("ended with: not today"));
    }
}
