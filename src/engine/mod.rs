//! Floor 3: the only module that knows the order of things.
//!
//! # Threads
//!
//! ```text
//! main       signals, then Stop; SIGHUP → new settings
//! watch      notify's callback ── names + wake-up ─▶ intake, which follows the folder when it is made again
//! intake     lists Pickup; a rayon pool looks at, claims and parses a batch ── Event::Jobs ─▶ dispatch
//! keeper     lists Queue: what is due, what an operator did, what a dead node left; a rayon pool claims and reads
//!            ── Event::Jobs ─▶ dispatch
//! dispatch   owns the destinations: per-destination lines, sessions, which are down; one Event enum, one select!
//! session-n  one connection each: takes parts from its destination's line, sends, settles
//! desk-n     Drop, and parts that end without a connection; settles
//! medium-n, large-n   read long files of Pickup, so that short ones do not wait behind them
//! burial-n   files that cannot be understood, on their way to Badmail
//! mender     tries again what the disk did not take; proves a disk that has failed
//! heart      heartbeat of this node; calls judge, which looks at the others
//! flush      syncs Queue and Pickup while removals are outstanding, then sweeps what removed messages left
//! dns        in `dns`, the only async
//! ```
//!
//! # Channels (crossbeam)
//!
//! | from → to | bound | when full |
//! |---|---|---|
//! | watch → intake | 1, no data | dropped: one wake-up is as good as many |
//! | intake, keeper, session, desk → dispatch (`Event`) | 1024 | the sender waits; dispatch never waits for anyone |
//! | dispatch → sessions of a destination ([`mod@line`], no crossbeam: it chooses whom it wakes) | [`MAX_IN_HAND`] | – |
//! | dispatch → desk | [`dispatch::LINE`] | the rest waits in dispatch's own overflow |
//! | settle → keeper (released messages) | 4096 | dropped: the next scan finds the file |
//! | dispatch → keeper (messages that are called) | the same | called later |
//! | dispatch → intake ([`gate`]: what waits in Pickup may come in) | 1, no data | dropped |
//! | settle → flush | 1, no data | dropped |
//!
//! What is in memory is bounded by [`MAX_IN_HAND`] messages; above it nobody claims: the rest waits in Pickup and
//! Queue, where other nodes can take it.

pub mod admit;
pub mod aside;
mod attempt;
pub mod burial;
pub mod course;
mod deposit;
pub mod desk;
pub mod dispatch;
pub mod due;
pub mod flush;
pub mod gate;
pub mod heart;
pub mod hold;
pub mod intake;
pub mod job;
pub mod keeper;
pub mod lane;
pub mod later;
pub mod line;
pub mod listing;
pub mod look;
pub mod order;
pub mod orphans;
pub mod plan;
mod pool;
mod progress;
pub mod put_off;
pub mod quota;
pub mod session;
pub mod settle;
pub mod shared;
pub mod sightings;
pub mod takeover;
pub mod tell;
pub mod told;
pub mod trial;
pub mod undelivered;
pub mod waiting;

pub use shared::{Mode, Settings};

use crate::config::Config;
use crate::mailroot::{self, NodeName, Spool};
use crate::stop::Stop;
use crossbeam_channel::bounded;
use shared::Shared;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// Messages claimed by this process at any time. With [`job::SMALL`], and the room for larger ones there, it bounds the
/// memory that mail takes.
pub const MAX_IN_HAND: usize = 1024;
/// How long the end may take once it was asked for; what is still on the wire then is left to the next start.
pub const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How long the last steps may take beyond that.
const LAST_STEPS: Duration = Duration::from_secs(2);

/// How a run ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ending {
    /// Messages that went to Badmail in this run.
    pub badmailed: u64,
    /// Something still waits in Pickup or Queue.
    pub waiting: bool,
}

/// A running engine.
pub struct Engine {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Engine {
    /// Makes what is missing of the tree and starts all threads.
    ///
    /// An error is one sentence: what cannot be made, read or written.
    pub fn start(config: Config, mode: Mode) -> Result<Self, String> {
        let words = |error: mailroot::DiskError| error.to_string();
        mailroot::tree::make(&config.folders).map_err(words)?;
        let settings = Settings::new(config)?;
        let config = &settings.config;
        let node = NodeName::generate(&config.server.hostname);
        let spool = Spool::new(config.folders.clone(), node.clone());
        let mut presence = mailroot::node::Node::enter(&config.folders.status, node, &config.server.hostname)
            .map_err(words)?;
        let (events, event_line) = bounded(1024);
        let (to_keeper, keeper_line) = bounded(4096);
        let (flush_wake, flush_line) = bounded(1);
        let shared = Arc::new(Shared::new(spool, settings, mode, events, to_keeper, flush_wake));
        prepare_process();

        let mut threads = Vec::new();
        let mut spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(body);
            match spawned {
                Ok(handle) => threads.push(handle),
                Err(error) => error!(%error, thread = name, "cannot start a thread"),
            }
        };
        let s = Arc::clone(&shared);
        spawn(
            "heart",
            Box::new(move || {
                heart::run(&s, &mut presence);
                if s.in_hand.has_let_go_of_all() {
                    presence.leave();
                } // else its files stay: they tell the next process at once that this one has ended
            }),
        );
        let s = Arc::clone(&shared);
        spawn("flush", Box::new(move || flush::run(&s, &flush_line)));
        let s = Arc::clone(&shared);
        spawn("mender", Box::new(move || aside::run(&s)));
        let s = Arc::clone(&shared);
        spawn("dispatch", Box::new(move || dispatch::run(&s, &event_line)));
        let s = Arc::clone(&shared);
        spawn("keeper", Box::new(move || keeper::run(&s, &keeper_line)));
        let s = Arc::clone(&shared);
        spawn("intake", Box::new(move || intake::run(&s)));
        Ok(Self {
            shared,
            threads: Mutex::new(threads),
        })
    }

    /// What ends it.
    pub fn stop(&self) -> &Stop {
        &self.shared.stop
    }

    /// Puts new settings in force for everything that begins from now on.
    /// An error is one sentence; then the former ones stay in force.
    pub fn reload(&self, config: Config) -> Result<(), String> {
        self.shared.reload(config)
    }

    /// Waits until a drain has nothing left to do, or the end was asked for.
    pub fn wait_until_drained(&self) {
        while !self.shared.stop.is_set() && !self.shared.drained() {
            self.shared.progress.wait(Duration::from_millis(20));
        }
    }

    /// What is done on the disk when all threads have ended. A storage that hangs does not keep us: what it keeps from
    /// being done is done by the next start.
    fn last_steps(&self, deadline: Instant) -> Ending {
        let (done, wait) = bounded(1);
        let shared = Arc::clone(&self.shared);
        let steps = move || {
            takeover::give_back_the_rest(&shared);
            if let Err(error) = shared.spool.sync_removals() {
                warn!(%error, "the last removals may come back after a power cut");
            }
            let _ = done.send(shared.ending());
        };
        let began = std::thread::Builder::new().name("last-steps".into()).spawn(steps);
        match began.map(|_| wait.recv_deadline(deadline)) {
            Ok(Ok(ending)) => ending,
            _ => {
                warn!("the storage does not answer; the rest is done at the next start");
                self.shared.ending_unseen()
            }
        }
    }

    /// Ends all threads and says how it went.
    pub fn finish(&self) -> Ending {
        self.shared.stop.set();
        self.shared.in_hand.wake_all();
        let deadline = Instant::now() + STOP_PATIENCE;
        let threads = std::mem::take(&mut *shared::lock(&self.threads));
        for thread in threads {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
            if !thread.is_finished() {
                warn!(
                    thread = thread.thread().name(),
                    "still busy; what it has in hand is taken up at the next start"
                );
            } else if thread.join().is_err() {
                error!("a thread ended by a panic");
            }
        }
        let ending = self.last_steps(deadline + LAST_STEPS);
        info!(node = %self.shared.spool.node(), "stopped");
        ending
    }
}

/// What a process that serves a mailroot wants of the system.
pub fn prepare_process() {
    survive_signals();
    raise_file_limit();
}

/// Signals whose default is to end the process: SIGIO tells the holder of a lease that somebody wants to write, SIGXFSZ
/// tells that a file may not be so large, which the write says too.
fn survive_signals() {
    for signal in [libc::SIGIO, libc::SIGXFSZ] {
        let unused = Arc::new(std::sync::atomic::AtomicBool::new(false));
        if let Err(error) = signal_hook::flag::register(signal, unused) {
            warn!(%error, signal, "cannot take a signal");
        }
    }
}

/// Large messages keep their file open, connections take a descriptor each.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
