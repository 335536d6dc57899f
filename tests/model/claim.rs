//! Arrow 1 of contract §3: a message becomes ours; from Pickup, from Queue, from another volume.

use super::act::{Act, Moves, Verb};
use super::arrows::Hand;
use super::disk::{File, Folder, Kind, Name, Told, Ulid, What};
use super::state::{Fault, Job, Phase, Protocol, REPORT, Rule, State, in_pickup};

impl Protocol {
    /// Arrow 1. `Pickup/x`, or what waits in Queue, becomes ours.
    pub fn claim(&self, s: &State, n: usize, m: u8, out: &mut Moves) {
        let node = s.slots[n].name;
        if let Some(file) = s.disk.get(in_pickup(m)) {
            let claim = |s: &mut State| {
                let turn = s.truth[usize::from(m)].turns + 1;
                s.truth[usize::from(m)].turns = turn;
                let id = Ulid { m, turn };
                let kind = if self.bounds.apart {
                    Kind::Half
                } else {
                    Kind::Taken
                };
                s.disk.rename(in_pickup(m), Name::new(kind, id, 0, node));
                id
            };
            out.work(s, Act::new(Verb::ClaimPickup, n, m), |s| {
                let id = claim(s);
                let phase = if self.bounds.apart {
                    self.decided()
                } else {
                    Phase::Work
                };
                s.jobs[n][usize::from(m)] = Job {
                    phase,
                    id,
                    node,
                    durable: file.synced,
                    ..Job::of(file.record)
                };
            });
            // The disk did it and said that it failed: it lies under our name and is in no session.
            out.refused(s, Act::new(Verb::ClaimUnheard, n, m), |s| {
                claim(s);
            });
        }
        let waiting: Vec<Name> = s.disk.entries().iter().map(|e| e.name).collect();
        for name in waiting {
            if name.kind() == Kind::Waiting && name.m() == m {
                self.claim_waiting(s, n, name, out);
            }
        }
    }

    /// After the rename that decides a claim across volumes.
    pub fn decided(&self) -> Phase {
        if self.holds(Rule::HalfIsSynced) {
            Phase::Decided
        } else {
            Phase::Half
        }
    }

    /// Also called without [`Rule::NotInHand`] while the node has the message in hand.
    pub fn claim_waiting(&self, s: &State, n: usize, name: Name, out: &mut Moves) {
        let (id, life, m) = (name.id(), name.life(), name.m());
        // A hint, before anything is renamed: a report that may not go yet stays where its parent's owner finds it.
        if self.must_wait(s, m) {
            return;
        }
        let to = Name::new(Kind::Taken, id, life, s.slots[n].name);
        let act = Act::new(Verb::ClaimWaiting, n, m).with(u16::from(life));
        let replaced = s.disk.get(to).is_some_and(|file| file.what == What::Message);
        if replaced && self.holds(Rule::NothingReplaced) {
            return;
        }
        out.work(s, act, |s| {
            s.disk.rename(name, to);
            s.report_moved(m);
            if replaced {
                s.fault = Fault::Replaced;
            }
            s.jobs[n][usize::from(m)] = Job {
                phase: Phase::Claimed,
                id,
                life,
                node: s.slots[n].name,
                ..Job::default()
            };
        });
        out.refused(s, Act::new(Verb::ClaimUnheard, n, m).with(u16::from(life)), |s| {
            s.disk.rename(name, to);
            s.report_moved(m);
        });
    }

    /// A report, while its parent's record says that it is owed: the parent's owner is about to look for it, and must
    /// find it where it is.
    pub fn must_wait(&self, s: &State, m: u8) -> bool {
        if m != REPORT || !self.holds(Rule::ReportWaits) {
            return false;
        }
        let parent = s
            .disk
            .entries()
            .iter()
            .filter(|e| e.name.kind() == Kind::Env && e.name.m() == 0)
            .max_by_key(|e| (e.name.id().turn, e.name.life()));
        parent.is_some_and(|e| e.file.record.told == Told::Owed)
    }

    /// Pickup on another volume, after the rename that decides: copy, sync, rename into Queue, unlink the former,
    /// sync its folder.
    pub fn bring_in(&self, s: &State, at: Hand, out: &mut Moves) {
        let Hand { n, m, job } = at;
        let half = Name::new(Kind::Half, job.id, job.life, job.node);
        let taken = at.taken();
        let step = |verb| Act::new(verb, n, m);
        match job.phase {
            Phase::Decided => out.work(s, step(Verb::SyncPickup), |s| {
                s.disk.sync(Folder::Pickup);
                at.job(s).phase = Phase::Half;
            }),
            Phase::Half => {
                let there = s.disk.get(half);
                if there.is_none() && !job.armed {
                    return at.let_go(s, out);
                }
                let older =
                    |name: Name| name.kind() == Kind::Taken && name != taken && name.life() <= job.life;
                let older = s.in_queue(job.id).map(|e| e.name).find(|name| older(*name));
                if let Some(older) = older.filter(|_| there.is_some() && self.holds(Rule::OlderCopiesGo)) {
                    let act = step(Verb::UnlinkOlder).with(u16::from(older.life()));
                    return out.work(s, act, |s| {
                        s.disk.remove(older);
                        at.job(s).armed = false;
                    });
                }
                let synced = self.holds(Rule::CopyIsSynced);
                let copy = |s: &mut State| {
                    let record = s.jobs[n][usize::from(m)].record;
                    let file = File {
                        what: What::Message,
                        synced,
                        record,
                    };
                    s.disk.put(taken, file);
                };
                out.work(s, step(Verb::Copy), |s| {
                    copy(s);
                    let job = at.job(s);
                    job.armed = false;
                    job.durable = true;
                    job.phase = if synced { Phase::Copied } else { Phase::CopySure };
                });
                out.refused(s, step(Verb::CopyRefused), |s| *at.job(s) = Job::default());
                out.refused(s, step(Verb::CopyUnheard), |s| {
                    copy(s);
                    *at.job(s) = Job::default();
                });
            }
            Phase::Copied => out.work(s, step(Verb::SyncQueue), |s| {
                s.disk.sync(Folder::Queue);
                at.job(s).phase = Phase::CopySure;
            }),
            Phase::CopySure => out.work(s, step(Verb::UnlinkFormer), |s| {
                let was_there = s.disk.remove(half);
                let lost = self.holds(Rule::LostCopyGoes);
                match (was_there, lost) {
                    (true, _) => at.job(s).phase = Phase::FormerGone,
                    (false, true) => at.job(s).phase = Phase::CopyLost,
                    (false, false) => *at.job(s) = Job::default(),
                }
            }),
            Phase::FormerGone => out.work(s, step(Verb::SyncPickup), |s| {
                s.disk.sync(Folder::Pickup);
                // What was claimed under a former name is left to whoever takes that over.
                let lost = job.node != s.slots[n].name;
                let job = at.job(s);
                (job.lost, job.armed) = (lost, false);
                job.phase = if job.life > 0 { Phase::Claimed } else { Phase::Work };
            }),
            _ => out.work(s, step(Verb::UnlinkCopy), |s| {
                let node = if self.holds(Rule::OneName) {
                    job.node
                } else {
                    s.slots[n].name
                };
                s.disk.remove(Name::new(Kind::Taken, job.id, job.life, node));
                *at.job(s) = Job::default();
            }),
        }
    }
}
