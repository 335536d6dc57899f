//! The heartbeat of this node, and the judge of the others (contract §6).
//!
//! Reads and writes: `Status/nodes`. Threads: heart, which beats, and judge, which looks at the others when heart has
//! beaten: a look at many nodes on slow storage must not keep our own heartbeat. Not here: what is done with a dead
//! node's claims (keeper).

use super::shared::{Mode, Shared, lock};
use crate::mailroot::node::{self, Node};
use crate::mailroot::{NodeName, Result as DiskResult};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tracing::{error, info, warn};

/// The last heartbeat as the fence sees it.
pub struct Pulse {
    last: Mutex<(Instant, SystemTime)>,
    lease: Duration,
    /// Grows when this node missed its own heartbeat for half a lease: claims of an older epoch are lost.
    epoch: AtomicU64,
}

impl Pulse {
    /// Fresh from now.
    pub fn new(lease: Duration) -> Self {
        Self {
            last: Mutex::new((Instant::now(), SystemTime::now())),
            lease,
            epoch: AtomicU64::new(0),
        }
    }

    /// Whether the last heartbeat is younger than half a lease, by the larger of monotonic and wall clock: either
    /// may stand still while a machine sleeps.
    pub fn is_fresh(&self) -> bool {
        self.age() < self.lease / 2
    }

    /// The present epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    fn age(&self) -> Duration {
        let (monotonic, wall) = *lock(&self.last);
        // A wall clock that was set back says nothing.
        monotonic.elapsed().max(wall.elapsed().unwrap_or(Duration::ZERO))
    }

    /// Notes a heartbeat; when it came too late, what was in hand is lost.
    fn beat(&self) {
        if !self.is_fresh() {
            self.epoch.fetch_add(1, Ordering::SeqCst);
        }
        *lock(&self.last) = (Instant::now(), SystemTime::now());
    }
}

/// What we know of another node.
struct Watched {
    text: Option<String>,
    unchanged: u32,
    /// It was seen to change, or is a process of this boot that lives.
    alive: bool,
}

/// Beats until the end; has the others judged after each successful beat of our own.
pub fn run(shared: &Shared, presence: &mut Node) {
    let bench = Bench::default();
    let (call, called) = bounded(1);
    std::thread::scope(|scope| {
        let call = call; // dropped at the end: nobody calls any more
        bench.anew.store(true, Ordering::SeqCst);
        let _ = call.try_send(());
        let judge = std::thread::Builder::new().name("judge".into());
        if let Err(error) = judge.spawn_scoped(scope, || judge_when_called(shared, &bench, &called)) {
            error!(%error, "cannot start a thread: what dead nodes left is not taken over");
        }
        beat_until_the_end(shared, presence, &bench, &call);
    });
}

/// What heart tells the judge.
#[derive(Default)]
struct Bench {
    /// Earlier looks do not count: we have just started, were frozen, or were blind.
    anew: AtomicBool,
}

fn beat_until_the_end(shared: &Shared, presence: &mut Node, bench: &Bench, call: &Sender<()>) {
    let mut failing = false;
    let mut next = Instant::now();
    loop {
        let cluster = shared.settings().config.cluster.clone();
        next = next_beat(next, cluster.heartbeat, Instant::now());
        if shared.stop.sleep(next.saturating_duration_since(Instant::now())) {
            // What is on the wire is still ours until the engine has ended.
            let mut last = Instant::now();
            while !shared.in_hand.is_empty() && !shared.stop_patience_over() {
                std::thread::sleep(Duration::from_millis(5));
                if last.elapsed() >= cluster.heartbeat {
                    last = Instant::now();
                    if presence.beat().is_ok() {
                        shared.pulse.beat();
                    }
                }
            }
            return;
        }
        let mut late = !shared.pulse.is_fresh();
        let mut beat = if late {
            begin_anew(shared, presence)
        } else {
            presence.beat()
        };
        // The storage may have kept that write for longer than half a lease.
        if beat.is_ok() && !late && !shared.pulse.is_fresh() {
            late = true;
            beat = begin_anew(shared, presence);
        }
        match beat {
            Err(error) => {
                if !failing {
                    warn!(%error, "no heartbeat: sending stops when half a lease has passed");
                }
                failing = true;
                bench.anew.store(true, Ordering::SeqCst); // a judge that was blind starts counting anew
                continue;
            }
            Ok(()) if failing => {
                failing = false;
                info!("heartbeat is back");
            }
            Ok(()) => {}
        }
        shared.pulse.beat();
        if late {
            bench.anew.store(true, Ordering::SeqCst);
        }
        let _ = call.try_send(()); // one that is still looking has missed this beat: it counts fewer, never more
    }
}

/// When to beat after the beat that was due at `due` and has ended by `now`. What a beat takes on slow storage does not
/// put off the next: a lease is a number of beats.
fn next_beat(due: Instant, heartbeat: Duration, now: Instant) -> Instant {
    (due + heartbeat).max(now + heartbeat / 2)
}

/// One look for each call, until nobody calls any more.
fn judge_when_called(shared: &Shared, bench: &Bench, called: &Receiver<()>) {
    let nodes = shared.spool.folders().status.join("nodes");
    let mut watched: HashMap<NodeName, Watched> = HashMap::new();
    let (mut first, mut told) = (true, false);
    while called.recv().is_ok() {
        judge(shared, &nodes, &mut watched, bench);
        told = told || tell_of_another_host(shared, &watched);
        // What waits for a verdict need not wait for the next listing; but a listing of a million names is no trifle.
        let is_awaited = shared.mode == Mode::Drain || !lock(&shared.claimants).is_empty();
        if std::mem::replace(&mut first, false) && is_awaited {
            shared.poke_keeper();
        }
    }
}

/// Says that two living nodes go by different names. Reports and Message-IDs that we stamp bear that name: what two
/// nodes send after a takeover would not be recognized as the same.
fn tell_of_another_host(shared: &Shared, watched: &HashMap<NodeName, Watched>) -> bool {
    let settings = shared.settings();
    let ours = &settings.config.server.hostname;
    let host = |watched: &Watched| node::host(watched.text.as_deref()?);
    let other = watched
        .iter()
        .filter(|(_, watched)| watched.alive)
        .filter_map(|(name, watched)| Some((name, host(watched)?)))
        .find(|(_, host)| !host.eq_ignore_ascii_case(ours));
    let Some((node, host)) = other.filter(|_| !settings.config.server.hostname_is_set) else {
        return false;
    };
    warn!(
        %node, %host, %ours,
        "another node on this mailroot goes by another host name, so a report that both send bears two Message-IDs; set \
         server.hostname in mailroot.toml, which they share"
    );
    true
}

/// We have missed our own heartbeat: others may have judged us dead and be about to take what bears our name. So what
/// we claim from now on bears another one, and what we had is taken over like a peer's.
fn begin_anew(shared: &Shared, presence: &mut Node) -> DiskResult<()> {
    let host = shared.settings().config.server.hostname.clone();
    let former = shared.spool.node();
    let name = NodeName::generate(&host);
    *presence = presence.anew(name.clone())?;
    warn!(%former, now = %name, "this node missed its own heartbeat; it goes on under a new name, and what it had in hand is taken up anew");
    shared.rename_node(name);
    Ok(())
}

/// One look at every other node.
fn judge(shared: &Shared, nodes: &std::path::Path, watched: &mut HashMap<NodeName, Watched>, bench: &Bench) {
    let (anew, epoch) = (bench.anew.swap(false, Ordering::SeqCst), shared.pulse.epoch());
    let cluster = &shared.settings().config.cluster;
    let beat = cluster.heartbeat.as_millis().max(1);
    let looks = u32::try_from(cluster.lease.as_millis() / beat)
        .unwrap_or(u32::MAX)
        .max(1);
    let Ok(mut names) = node::known(nodes) else {
        return; // no look: our next beat tells of the trouble
    };
    names.extend(lock(&shared.claimants).iter().cloned());
    names.sort();
    names.dedup();
    let own = shared.spool.node();
    names.retain(|name| *name != own);
    watched.retain(|name, _| names.contains(name));
    let look = |name: NodeName| {
        let text = node::heartbeat_text(nodes, &name);
        let gone = text
            .as_deref()
            .is_some_and(|text| node::is_gone_from_here(nodes, &name, text));
        (name, text, gone)
    };
    let seen: Vec<(NodeName, Option<String>, bool)> = names.into_iter().map(look).collect();
    if !shared.pulse.is_fresh() || shared.pulse.epoch() != epoch {
        bench.anew.store(true, Ordering::SeqCst); // the storage, or we, stood still while we looked
        return;
    }
    for (name, text, gone) in seen {
        let entry = watched.entry(name.clone()).or_insert(Watched {
            text: text.clone(),
            unchanged: 0,
            alive: false,
        });
        let same = text.is_none() || entry.text == text;
        entry.unchanged = if anew || !same { 0 } else { entry.unchanged + 1 };
        entry.alive = !same
            || text.as_deref().is_some_and(node::lives_here)
            || (entry.alive && entry.unchanged < looks);
        entry.text = text;
        if (gone || entry.unchanged >= looks) && lock(&shared.dead).insert(name.clone()) {
            info!(node = %name, "a node has ended without saying so; its messages are taken over");
            shared.be_careful();
            shared.poke_keeper();
        }
    }
    let judged = watched
        .iter()
        .filter(|(_, watched)| watched.alive || watched.unchanged >= looks);
    *lock(&shared.judged) = Some(judged.map(|(name, _)| name.clone()).collect());
    if shared.mode == Mode::Drain && !shared.claimants_judged() {
        shared.poke_keeper(); // it waits for this verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_beats_are_as_frequent_as_quick_ones_and_never_follow_at_once() {
        let (start, heartbeat) = (Instant::now(), Duration::from_secs(2));
        for (took, eight) in [(0, 16), (900, 16), (1000, 16), (3000, 32)] {
            let mut due = start;
            for _ in 0..8 {
                due = next_beat(due, heartbeat, due + Duration::from_millis(took));
            }
            assert_eq!((due - start).as_secs(), eight, "each took {took} ms");
        }
    }
}
