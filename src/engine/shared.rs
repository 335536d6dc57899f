//! What all threads of the engine hold: the spool, the settings in force, what is in hand, the ways to each other.

use super::dispatch::Event;
use super::heart::Pulse;
use super::job::Released;
use super::{Ending, MAX_IN_HAND};
use crate::config::Config;
use crate::dns::Dns;
use crate::mail::id::Ulid;
use crate::mailroot::{NodeName, Spool};
use crate::pickup::read::ReadRules;
use crate::route::Routes;
use crate::smtp::TlsContext;
use crate::stop::Stop;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tracing::error;

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The service: until it is told to stop.
    Run,
    /// Everything that is complete and due, once.
    Drain,
}

/// The settings and what is derived from them; replaced as a whole at a reload.
pub struct Settings {
    /// As read.
    pub config: Config,
    /// Where recipients go.
    pub routes: Routes,
    /// How files in Pickup are read.
    pub rules: ReadRules,
    /// How a message is read again whose record exists: it was judged when it came, later settings do not undo that.
    pub rules_again: ReadRules,
    /// Trusted roots and session cache.
    pub tls: TlsContext,
    /// Questions to the name servers.
    pub dns: Dns,
}

impl Settings {
    /// Derives the rest from the settings. Cheap: roots and name servers are looked at when first needed.
    /// An error is one sentence: `delivery.tls_ca_file` cannot be read.
    pub fn new(config: Config) -> Result<Self, String> {
        Ok(Self {
            routes: Routes::new(&config),
            rules: ReadRules::from_config(&config),
            rules_again: ReadRules {
                max_size: 0,
                default_sender: config.reports.postmaster.to_string(),
                ..ReadRules::from_config(&config)
            },
            tls: TlsContext::new(config.delivery.tls_ca_file.as_deref())?,
            dns: Dns::new(&config.dns.servers),
            config,
        })
    }
}

/// Shared by all threads of one engine.
pub struct Shared {
    /// The tree.
    pub spool: Spool,
    /// What the run is for.
    pub mode: Mode,
    /// The end.
    pub stop: Stop,
    /// Messages claimed by this process.
    pub in_hand: InHand,
    /// The heartbeat as seen by the fence.
    pub pulse: Pulse,
    /// Nodes whose names stand in Queue, or in Pickup on another volume; written by keeper, judged by heart.
    pub claimants: Mutex<HashSet<NodeName>>,
    /// Nodes that heart knows to live: they were seen beating, or are processes of this boot. `None` before its
    /// first look. What others hold in hand is theirs to finish; of the rest a drain waits for the verdict.
    pub living: Mutex<Option<HashSet<NodeName>>>,
    /// Nodes that heart found dead; taken over by keeper.
    pub dead: Mutex<HashSet<NodeName>>,
    /// Messages removed, whose remains go after the next sync.
    pub removed: Mutex<Vec<crate::mail::MessageId>>,
    /// Set while removals are not yet synced.
    pub flush_due: AtomicBool,
    /// To dispatch.
    pub events: Sender<Event>,
    /// To keeper.
    pub released: Sender<Released>,
    /// Wakes flush.
    pub flush_wake: Sender<()>,
    /// Something was finished, released or found empty.
    pub progress: Progress,
    /// Intake has seen an empty Pickup (or only what waits for its grace) and knows of nothing to come.
    pub pickup_idle: AtomicBool,
    /// Keeper has taken everything that was due.
    pub queue_idle: AtomicBool,
    /// Files that lie in Pickup and were not taken.
    pub pickup_waiting: AtomicBool,
    /// A sync failed: that disk is no longer believed, nothing is claimed any more.
    pub distrusted: AtomicBool,
    /// Bytes in Drop, for the quota.
    pub drop_usage: crate::drop::Usage,
    /// Wakes keeper before its time.
    pub keeper_wake: (Sender<()>, Receiver<()>),
    stopping_since: Mutex<Option<Instant>>,
    badmailed: AtomicU64,
    settings: RwLock<Arc<Settings>>,
    /// Counts reloads, so that held domains are looked at again.
    pub generation: AtomicU64,
}

impl Shared {
    /// Everything at rest.
    pub fn new(
        spool: Spool,
        settings: Settings,
        mode: Mode,
        events: Sender<Event>,
        released: Sender<Released>,
        flush_wake: Sender<()>,
    ) -> Self {
        Self {
            spool,
            mode,
            stop: Stop::default(),
            in_hand: InHand::default(),
            pulse: Pulse::new(settings.config.cluster.lease),
            claimants: Mutex::default(),
            living: Mutex::default(),
            dead: Mutex::default(),
            removed: Mutex::default(),
            flush_due: AtomicBool::new(false),
            events,
            released,
            flush_wake,
            progress: Progress::default(),
            pickup_idle: AtomicBool::new(false),
            queue_idle: AtomicBool::new(false),
            pickup_waiting: AtomicBool::new(false),
            distrusted: AtomicBool::new(false),
            drop_usage: crate::drop::Usage::default(),
            keeper_wake: bounded(1),
            stopping_since: Mutex::default(),
            badmailed: AtomicU64::new(0),
            settings: RwLock::new(Arc::new(settings)),
            generation: AtomicU64::new(0),
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts new settings in force. Folders and node stay: they are what this process is.
    pub fn reload(&self, mut config: Config) -> Result<(), String> {
        config.folders = self.spool.folders().clone();
        let settings = Arc::new(Settings::new(config)?);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
        self.generation.fetch_add(1, Ordering::SeqCst);
        let _ = self.events.try_send(Event::Reloaded);
        self.poke_keeper();
        Ok(())
    }

    /// Whether every node that holds a message is known to live. Those that are dead are taken over before.
    pub fn claimants_live(&self) -> bool {
        let living = lock(&self.living);
        living
            .as_ref()
            .is_some_and(|living| lock(&self.claimants).iter().all(|node| living.contains(node)))
    }

    /// Counts a message that went to Badmail.
    pub fn count_badmail(&self) {
        self.badmailed.fetch_add(1, Ordering::Relaxed);
    }

    /// "If a sync fails, that disk is no longer believed: intake stops, loudly."
    pub fn distrust(&self, why: &crate::mailroot::DiskError) {
        if why.doing.starts_with("sync") && !self.distrusted.swap(true, Ordering::SeqCst) {
            error!(error = %why, "a sync failed: nothing more is claimed until mailroot is started again");
        }
    }

    /// Whether claiming is allowed at present.
    pub fn may_claim(&self) -> bool {
        !self.stop.is_set() && !self.distrusted.load(Ordering::Relaxed) && self.pulse.is_fresh()
    }

    /// Makes keeper look at Queue now.
    pub fn poke_keeper(&self) {
        let _ = self.keeper_wake.0.try_send(());
    }

    /// Whether the time that the end may take is over.
    pub fn stop_patience_over(&self) -> bool {
        let mut since = lock(&self.stopping_since);
        since.get_or_insert_with(Instant::now).elapsed() > super::STOP_PATIENCE
    }

    /// Notes that a message has been removed; its remains go after the next sync.
    pub fn note_removed(&self, id: crate::mail::MessageId, has_remains: bool) {
        if has_remains {
            lock(&self.removed).push(id);
        }
        if !self.flush_due.swap(true, Ordering::SeqCst) {
            let _ = self.flush_wake.try_send(());
        }
    }

    /// Whether a drain has nothing left to do.
    pub fn drained(&self) -> bool {
        let nothing_to_come =
            self.pickup_idle.load(Ordering::SeqCst) && self.queue_idle.load(Ordering::SeqCst);
        // A disk that is no longer believed gives us nothing more to do.
        (nothing_to_come || self.distrusted.load(Ordering::SeqCst)) && self.in_hand.is_empty()
    }

    /// How the run went.
    pub fn ending(&self) -> Ending {
        // Of a Queue that cannot be listed nobody may think that it is empty.
        let queue_waits = std::fs::read_dir(&self.spool.folders().queue).map_or(true, |entries| {
            entries.flatten().any(|entry| {
                use crate::mailroot::QueueName::{Held, Taken, Waiting};
                let name = crate::mailroot::QueueName::parse(&entry.file_name());
                matches!(name, Some(Waiting(_) | Taken(..) | Held(_)))
            })
        });
        Ending {
            badmailed: self.badmailed.load(Ordering::Relaxed),
            waiting: queue_waits || self.pickup_waiting.load(Ordering::SeqCst),
        }
    }
}

/// Who waits for room is woken when there is this much, so that claiming goes on in batches; less room is used after
/// a while all the same.
const ROOM_WORTH_WAKING: usize = 64;

/// The messages that this process has claimed: nobody claims a ULID that it has in hand.
#[derive(Default)]
pub struct InHand {
    set: Mutex<HashSet<Ulid>>,
    room: Condvar,
}

impl InHand {
    /// Enters a message before its claim; `false` when it is in hand already.
    pub fn enter(&self, ulid: Ulid) -> bool {
        self.lock().insert(ulid)
    }

    /// Takes a message out after its file was released or removed; returns whether it was the last.
    pub fn leave(&self, ulid: Ulid) -> bool {
        let mut set = self.lock();
        let removed = set.remove(&ulid);
        let left = set.len();
        drop(set);
        // Each wake-up is a system call: one when room has come to be, none for each message.
        if removed && left == MAX_IN_HAND - ROOM_WORTH_WAKING {
            self.room.notify_all();
        }
        left == 0
    }

    /// Whether this process has it.
    pub fn has(&self, ulid: Ulid) -> bool {
        self.lock().contains(&ulid)
    }

    /// Whether nothing is in hand.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// How many more may be claimed.
    pub fn room(&self) -> usize {
        MAX_IN_HAND.saturating_sub(self.lock().len())
    }

    /// Waits for room for some, at most for `patience`; returns how much there is, be it for one.
    pub fn wait_for_room(&self, patience: Duration) -> usize {
        let set = self.lock();
        let full = |set: &mut HashSet<Ulid>| set.len() > MAX_IN_HAND - ROOM_WORTH_WAKING;
        let (set, _) = self
            .room
            .wait_timeout_while(set, patience, full)
            .unwrap_or_else(PoisonError::into_inner);
        MAX_IN_HAND.saturating_sub(set.len())
    }

    /// At the end: nobody waits for room any more.
    pub fn wake_all(&self) {
        self.room.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Ulid>> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets `main` wait for "something happened" without polling hard.
#[derive(Default)]
pub struct Progress {
    moved: Mutex<bool>,
    signal: Condvar,
}

impl Progress {
    /// Something happened.
    pub fn note(&self) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.signal.notify_all();
    }

    /// Until something happens, at most for `patience`.
    pub fn wait(&self, patience: Duration) {
        let moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut moved, _) = self
            .signal
            .wait_timeout_while(moved, patience, |m| !*m)
            .unwrap_or_else(PoisonError::into_inner);
        *moved = false;
    }
}

/// A lock whose holder may have panicked: the data behind it is plain and stays usable.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
