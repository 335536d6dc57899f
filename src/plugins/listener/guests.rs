//! Who is here: the sessions of one process, counted against the limits, shown in Status and ended on request.
//!
//! Reads and writes: `Status/listener/` through [`Reception`]. Thread: any; `listen-status` shows them and looks what is asked.

use super::client::Client;
use crate::mailroot::NodeName;
use crate::mailroot::reception::Reception;
use crate::stop::Stop;
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How often it is shown who is here, and looked what is asked.
const LOOK: Duration = Duration::from_secs(1);

/// All sessions of this process.
#[derive(Default)]
pub(super) struct Guests {
    /// No new ones; looked at every second, so that no client waits for the storage.
    pub paused: AtomicBool,
    here: Mutex<Here>,
    gone: Condvar,
}

#[derive(Default)]
struct Here {
    last: u64,
    sessions: BTreeMap<u64, Arc<Facts>>,
    /// Sessions by door, and of those by client.
    counts: HashMap<SocketAddr, HashMap<IpAddr, usize>>,
}

/// What is known of a session.
pub(super) struct Facts {
    since: Timestamp,
    client: SocketAddr,
    /// Ends it.
    pub stop: Stop,
    now: Mutex<Now>,
}

/// Of that, what changes.
#[derive(Clone, Default)]
struct Now {
    helo: String,
    user: String,
    tls: String,
    state: &'static str,
    messages: usize,
}

impl Facts {
    /// Notes how far it is; called twice for each command, so no room is asked for again.
    pub fn note(&self, client: &Client, state: &'static str, messages: usize) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        (now.state, now.messages) = (state, messages);
        now.helo.clone_from(&client.name);
        let Now { user, tls, .. } = &mut *now;
        for (known, is) in [(user, &client.user), (tls, &client.tls)] {
            known.clear();
            known.push_str(is.as_deref().unwrap_or_default());
        }
    }
}

/// A session, as long as it is here.
pub(super) struct Guest {
    of: Arc<Guests>,
    number: u64,
    door: SocketAddr,
    pub facts: Arc<Facts>,
}

impl Guests {
    /// A session at this door; `limits`: in all, and of one client (0: none). `None`: there are as many as may be.
    pub fn enter(
        guests: &Arc<Self>,
        door: SocketAddr,
        client: SocketAddr,
        limits: (usize, usize),
    ) -> Option<Guest> {
        let mut here = guests.lock();
        let address = client.ip().to_canonical();
        let at_door = here.counts.entry(door).or_default();
        let all: usize = at_door.values().sum();
        let of_client = at_door.entry(address).or_default();
        if all >= limits.0 || (limits.1 > 0 && *of_client >= limits.1) {
            if *of_client == 0 {
                at_door.remove(&address);
            }
            return None;
        }
        *of_client += 1;
        here.last += 1;
        let number = here.last;
        let facts = Arc::new(Facts {
            since: Timestamp::now(),
            client,
            stop: Stop::default(),
            now: Mutex::default(),
        });
        here.sessions.insert(number, Arc::clone(&facts));
        drop(here);
        Some(Guest {
            of: Arc::clone(guests),
            number,
            door,
            facts,
        })
    }

    /// Asks all, or one, to leave.
    pub fn end(&self, number: Option<u64>) {
        for (this, facts) in &self.lock().sessions {
            if number.is_none_or(|number| number == *this) {
                facts.stop.set();
            }
        }
    }

    /// How many are left then.
    pub fn wait_until_gone(&self, until: Instant) -> usize {
        let mut here = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if here.sessions.is_empty() || left.is_zero() {
                return here.sessions.len();
            }
            let waited = self.gone.wait_timeout(here, left);
            here = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// As JSON; `None`: nobody is here.
    fn shown(&self, node: &str) -> Option<String> {
        let here = self.lock();
        let sessions = here.sessions.iter().map(|(number, facts)| {
            let now = facts.now.lock().unwrap_or_else(PoisonError::into_inner).clone();
            serde_json::json!({
                "id": format!("{node}.{number}"),
                "since": format!("{:.0}", facts.since),
                "client": facts.client.to_string(),
                "helo": now.helo, "user": now.user, "tls": now.tls, "state": now.state, "messages": now.messages,
            })
        });
        let sessions: Vec<serde_json::Value> = sessions.collect();
        (!sessions.is_empty()).then(|| serde_json::json!({ "sessions": sessions }).to_string())
    }

    fn lock(&self) -> MutexGuard<'_, Here> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut here = self.of.lock();
        here.sessions.remove(&self.number);
        let address = self.facts.client.ip().to_canonical();
        if let Some(at_door) = here.counts.get_mut(&self.door)
            && let Some(count) = at_door.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                at_door.remove(&address);
            }
        }
        drop(here);
        self.of.gone.notify_all();
    }
}

/// Shows who is here until the end, and does what is asked.
pub(super) fn keep_reception(guests: &Guests, reception: &Reception, node: &NodeName, stop: &Stop) {
    reception.sweep();
    let mut is_shown = false;
    let mut told = false;
    while !stop.sleep(LOOK) {
        guests.paused.store(reception.is_paused(), Ordering::Relaxed);
        for which in reception.asked(node.as_str()) {
            info!(
                session = which.unwrap_or(0),
                "asked to end {}",
                if which.is_some() {
                    "a session"
                } else {
                    "all sessions"
                }
            );
            guests.end(which);
        }
        let sessions = guests.shown(node.as_str());
        if sessions.is_some() || is_shown {
            is_shown = sessions.is_some();
            let done = reception.show(node.as_str(), sessions.as_deref());
            if let Err(error) = &done
                && !told
            {
                warn!(%error, "sessions are not shown");
            }
            told = done.is_err();
        }
    }
    let _ = reception.show(node.as_str(), None);
}
