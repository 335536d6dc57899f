//! What all threads of the engine hold: the spool, the settings in force, what is in hand, the ways to each other.

use super::aside::{Aside, BadmailDoor, Trust};
use super::dispatch::Event;
use super::gate::Gate;
use super::heart::Pulse;
use super::hold::Holds;
use super::job::{Released, ToKeeper};
pub use super::progress::Progress;
use super::put_off::PutOff;
use super::quota::Turns;
use super::{Ending, MAX_IN_HAND};
use crate::config::Config;
use crate::dns::Dns;
use crate::mail::id::Ulid;
use crate::mailroot::{DiskError, NodeName, Spool};
use crate::pickup::read::ReadRules;
use crate::route::Routes;
use crate::smtp::TlsContext;
use crate::stop::Stop;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tracing::{debug, info};

/// After the death of a process files are claimed before they are read, for so long.
const CAREFUL_FOR: Duration = Duration::from_secs(10);

/// More destinations are not remembered for wanting one message after the other.
const MOST_IN_LOCK_STEP: usize = 10_000;

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
    /// Nodes of whom heart knows that they are dead, or that they live: seen beating, or processes of this boot.
    /// `None` before its first look. A drain waits for the verdict on all that hold messages.
    pub judged: Mutex<Option<HashSet<NodeName>>>,
    /// Nodes that heart found dead; taken over by keeper.
    pub dead: Mutex<HashSet<NodeName>>,
    /// Messages removed, whose remains go after the next sync.
    pub removed: Mutex<Vec<crate::mail::MessageId>>,
    /// Set while removals are not yet synced.
    pub flush_due: AtomicBool,
    /// To dispatch.
    pub events: Sender<Event>,
    /// To keeper.
    pub to_keeper: Sender<ToKeeper>,
    /// What waits for its destination to move.
    pub put_off: PutOff,
    /// What has to wait in Pickup for that.
    pub gate: Gate,
    /// Wakes flush.
    pub flush_wake: Sender<()>,
    /// Something was finished, released or found empty.
    pub progress: Progress,
    /// Intake has seen an empty Pickup (or only what waits for its grace) and knows of nothing to come.
    pub pickup_idle: AtomicBool,
    /// Keeper has taken everything that was due.
    pub queue_idle: AtomicBool,
    /// Released messages that keeper does not know of yet.
    pub unheard: AtomicUsize,
    /// Files that lie in Pickup and were not taken.
    pub pickup_waiting: AtomicBool,
    /// Sessions that are to make room for other destinations.
    pub turns: Turns,
    /// Whether the disk is believed.
    pub trust: Trust,
    /// Whether Badmail takes files.
    pub badmail: BadmailDoor,
    /// Messages whose next step waits for the disk.
    pub aside: Aside,
    /// Domains on hold.
    pub holds: Holds,
    /// Bytes in Drop, for the quota.
    pub drop_usage: crate::drop::Usage,
    /// Wakes keeper before its time.
    pub keeper_wake: (Sender<()>, Receiver<()>),
    /// Panics of ours by the message that was being handled.
    crashes: Mutex<HashMap<Ulid, u32>>,
    /// Messages of which a trial has shown that they take the process down.
    condemned: Mutex<HashSet<Ulid>>,
    careful_until: Mutex<Option<Instant>>,
    /// The names that this process had before its present one.
    former_names: Mutex<HashSet<NodeName>>,
    /// Destinations whose hosts want one message after the other, whatever they offer.
    lock_step: Mutex<HashSet<String>>,
    stopping_since: Mutex<Option<Instant>>,
    badmailed: AtomicU64,
    settings: RwLock<Arc<Settings>>,
    /// Other domains are on hold than before: what waits for them has to be found out anew.
    pub holds_others: AtomicBool,
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
        to_keeper: Sender<ToKeeper>,
        flush_wake: Sender<()>,
    ) -> Self {
        Self {
            spool,
            mode,
            stop: Stop::default(),
            in_hand: InHand::default(),
            pulse: Pulse::new(settings.config.cluster.lease),
            claimants: Mutex::default(),
            judged: Mutex::default(),
            dead: Mutex::default(),
            removed: Mutex::default(),
            flush_due: AtomicBool::new(false),
            events,
            to_keeper,
            put_off: PutOff::default(),
            gate: Gate::default(),
            flush_wake,
            progress: Progress::default(),
            pickup_idle: AtomicBool::new(false),
            queue_idle: AtomicBool::new(false),
            unheard: AtomicUsize::new(0),
            pickup_waiting: AtomicBool::new(false),
            turns: Turns::default(),
            trust: Trust::default(),
            badmail: BadmailDoor::default(),
            aside: Aside::default(),
            crashes: Mutex::default(),
            condemned: Mutex::default(),
            holds: Holds::default(),
            drop_usage: crate::drop::Usage::default(),
            keeper_wake: bounded(1),
            careful_until: Mutex::default(),
            former_names: Mutex::default(),
            lock_step: Mutex::default(),
            stopping_since: Mutex::default(),
            badmailed: AtomicU64::new(0),
            settings: RwLock::new(Arc::new(settings)),
            holds_others: AtomicBool::new(false),
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
        let on_hold = |config: &Config| -> Vec<String> {
            let entries = config.remote.iter().filter(|entry| entry.hold);
            entries.map(|entry| entry.name.clone()).collect()
        };
        let holds_others = on_hold(&config) != on_hold(&self.settings().config);
        let settings = Arc::new(Settings::new(config)?);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
        let _ = self.events.try_send(Event::Reloaded);
        self.holds_others.fetch_or(holds_others, Ordering::SeqCst);
        self.free_held();
        Ok(())
    }

    /// Whether of every node that holds a message it is known whether it lives.
    pub fn claimants_judged(&self) -> bool {
        let judged = lock(&self.judged);
        let Some(judged) = judged.as_ref() else {
            return false;
        };
        lock(&self.claimants).iter().all(|node| judged.contains(node))
    }

    /// Something could not be buried. When it was not Badmail that failed, others say what it was.
    pub fn badmail_failed(&self, error: &DiskError) {
        if self.is_in_badmail(error) {
            self.badmail.failed(error);
        } else {
            debug!(%error, "not buried; tried again");
        }
    }

    /// Whether the trouble is one of Badmail.
    pub fn is_in_badmail(&self, error: &DiskError) -> bool {
        error.path.starts_with(&self.spool.folders().badmail)
    }

    /// Counts a message that went to Badmail.
    pub fn count_badmail(&self) {
        self.badmailed.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes note of trouble: a failed sync costs the disk our trust.
    pub fn distrust(&self, why: &crate::mailroot::DiskError) {
        if why.is_failed_sync() {
            self.trust.lose(why);
        }
    }

    /// Lets what waits for its domain, or for room in Badmail, go again.
    pub fn free_held(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.poke_keeper();
    }

    /// Notes that handling this message made us fail.
    pub fn note_crash(&self, ulid: Ulid) {
        *lock(&self.crashes).entry(ulid).or_insert(0) += 1;
    }

    /// Goes on under another name: verdicts on the former one are about what was claimed under it.
    pub fn rename_node(&self, name: NodeName) {
        let former = self.spool.node();
        lock(&self.former_names).insert(former.clone());
        self.spool.rename_node(name);
        lock(&self.dead).insert(former);
        self.poke_keeper();
    }

    /// Whether this process has, or had, this name.
    pub fn is_own_name(&self, name: &NodeName) -> bool {
        *name == self.spool.node() || lock(&self.former_names).contains(name)
    }

    /// Notes that the hosts of this destination do not get on with several messages under way.
    pub fn note_lock_step(&self, destination: &str) {
        let mut all = lock(&self.lock_step);
        if all.len() >= MOST_IN_LOCK_STEP {
            all.clear(); // they are found out once more
        }
        if all.insert(destination.to_owned()) {
            info!(
                destination,
                "does not get on with several messages under way; it gets one after the other"
            );
        }
    }

    /// Whether that was noted.
    pub fn wants_lock_step(&self, destination: &str) -> bool {
        lock(&self.lock_step).contains(destination)
    }

    /// Notes that a process has died on this mailroot.
    pub fn be_careful(&self) {
        *lock(&self.careful_until) = Some(Instant::now() + CAREFUL_FOR);
    }

    /// Whether a process has died here a short while ago, perhaps of what it was reading.
    pub fn is_careful(&self) -> bool {
        lock(&self.careful_until).is_some_and(|until| Instant::now() < until)
    }

    /// Notes that these messages take down the process that reads them.
    pub fn condemn(&self, guilty: &[crate::mail::MessageId]) {
        lock(&self.condemned).extend(guilty.iter().map(|id| id.ulid));
    }

    /// Whether this message takes down the process that reads it.
    pub fn is_condemned(&self, ulid: Ulid) -> bool {
        lock(&self.condemned).contains(&ulid)
    }

    /// How often handling this message has made this process fail.
    pub fn crashes(&self, ulid: Ulid) -> u32 {
        lock(&self.crashes).get(&ulid).copied().unwrap_or(0)
    }

    /// Whether claiming is allowed at present.
    pub fn may_claim(&self) -> bool {
        !self.stop.is_set() && !self.trust.is_lost() && self.pulse.is_fresh()
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

    /// Tells keeper of a message that has been released. What keeper says of Queue is out of date until it has heard of it.
    pub fn tell_of_release(&self, message: Released) {
        self.unheard.fetch_add(1, Ordering::SeqCst);
        if self.to_keeper.try_send(ToKeeper::Released(message)).is_err() {
            self.unheard.fetch_sub(1, Ordering::SeqCst); // the next listing shows it
        }
    }

    /// Whether a drain has nothing left to do.
    pub fn drained(&self) -> bool {
        let nothing_to_come = self.pickup_idle.load(Ordering::SeqCst)
            && self.unheard.load(Ordering::SeqCst) == 0
            && self.queue_idle.load(Ordering::SeqCst);
        // A disk that is no longer believed gives us nothing more to do.
        (nothing_to_come || self.trust.is_lost()) && self.in_hand.is_empty()
    }

    /// How the run went when nobody can look: then something waits.
    pub fn ending_unseen(&self) -> Ending {
        Ending {
            badmailed: self.badmailed.load(Ordering::Relaxed),
            waiting: true,
        }
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
            waiting: queue_waits || self.pickup_waiting.load(Ordering::SeqCst) || self.trust.is_lost(),
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
    /// Given up at the end of the process: their files are still ours by name.
    left: Mutex<HashSet<Ulid>>,
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

    /// Takes a message out whose file stays as it is, at the end of the process.
    pub fn leave_behind(&self, ulid: Ulid) {
        lock(&self.left).insert(ulid);
        self.leave(ulid);
    }

    /// Whether this process has it.
    pub fn has(&self, ulid: Ulid) -> bool {
        self.lock().contains(&ulid) || lock(&self.left).contains(&ulid)
    }

    /// Whether nothing was left behind either.
    pub fn has_let_go_of_all(&self) -> bool {
        self.is_empty() && lock(&self.left).is_empty()
    }

    /// How many messages are in hand.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nothing is in hand.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Whether there is less room left than is taken.
    pub fn is_half_full(&self) -> bool {
        self.len() > MAX_IN_HAND / 2
    }

    /// How many more may be claimed until there is less room left than is taken.
    pub fn room_to_half(&self) -> usize {
        (MAX_IN_HAND / 2).saturating_sub(self.len())
    }

    /// Whether next to no room is left.
    pub fn is_short(&self) -> bool {
        self.room() < MAX_IN_HAND / 8
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

/// A lock whose holder may have panicked: the data behind it is plain and stays usable.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
