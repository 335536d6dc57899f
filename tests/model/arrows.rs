//! The arrows of contract §3 as one node walks them, step by step. Between any two steps anything else can happen.
//!
//! Not here: what befalls nodes and disk, what operators and other nodes do (`world`).

use super::act::{Act, Moves, Verb};
use super::disk::{Fate, File, Folder, Kind, Name, Record, Told, What};
use super::state::{Job, Part, Phase, Protocol, REPORT, REPORT_ID, Rule, State};

impl Protocol {
    /// What node `n` can do for message `m`: begin with it, or go on.
    pub fn arrows(&self, s: &State, n: usize, m: u8, out: &mut Moves) {
        if s.slots[n].frozen {
            return;
        }
        let job = s.jobs[n][usize::from(m)];
        let at = Hand { n, m, job };
        match job.phase {
            Phase::Nothing if s.has_in_hand(n, m) => {}
            Phase::Nothing => self.claim(s, n, m, out),
            Phase::Decided
            | Phase::Half
            | Phase::Copied
            | Phase::CopySure
            | Phase::FormerGone
            | Phase::CopyLost => {
                self.bring_in(s, at, out);
            }
            _ if job.lost && !job.armed => at.let_go(s, out),
            _ if !job.lost && self.holds(Rule::Fence) && s.disk.get(at.taken()).is_none() => {
                at.let_go(s, out);
            }
            _ => self.go_on(s, at, out),
        }
    }

    /// In hand: read, parts, record, report, bury, release or remove.
    fn go_on(&self, s: &State, at: Hand, out: &mut Moves) {
        let job = at.job;
        match job.phase {
            Phase::Claimed => self.read(s, at, out),
            Phase::Looking => self.put_report(s, at, out),
            Phase::ReportNamed => out.work(s, at.act(Verb::SyncQueue), |s| {
                s.disk.sync(Folder::Queue);
                at.done(s, |job| {
                    job.phase = Phase::Work;
                    job.record.told = Told::Reported;
                    job.dirty = true;
                });
                if !job.lost {
                    at.take_report_in_hand(s);
                }
            }),
            Phase::ReasonNamed => {
                let bad = Name::new(Kind::Bad, job.id, 0, 0);
                let file = self.text(Record {
                    remote: Fate::Open,
                    ..Record::default()
                });
                out.work(s, at.act(Verb::PutBad), |s| {
                    s.disk.sync(Folder::Badmail);
                    s.disk.put(bad, file);
                    s.truth[usize::from(job.id.m)].given_up |= !job.lost;
                    at.done(s, |job| job.phase = Phase::BadNamed);
                });
                out.refused(s, at.act(Verb::PutRefused), |s| {
                    at.done(s, |job| job.phase = Phase::Work)
                });
            }
            Phase::BadNamed => out.work(s, at.act(Verb::SyncBadmail), |s| {
                s.disk.sync(Folder::Badmail);
                at.done(s, |job| job.phase = Phase::Buried);
            }),
            Phase::Buried => self.remove(s, at, out),
            _ => self.work(s, at, out),
        }
    }

    /// What is read after the claim is the truth.
    fn read(&self, s: &State, at: Hand, out: &mut Moves) {
        let Hand { m, job, .. } = at;
        let taken = at.taken();
        let file = s.disk.get(taken).unwrap_or_default();
        if file.what == What::Empty {
            return out.work(s, at.act(Verb::UnlinkEmpty), |s| {
                s.disk.remove(taken);
                if !self.holds(Rule::EmptyIsNoMessage) {
                    s.sweep(job.id, job.life);
                }
                *at.job(s) = Job::default();
            });
        }
        // The hint was old: back where it was.
        if self.must_wait(s, m) {
            return self.release(s, at, out);
        }
        out.work(s, at.act(Verb::ReadEnv), |s| {
            if job.life > 0 && self.holds(Rule::InheritedIsSynced) {
                s.disk.sync(Folder::Queue);
            }
            let record = s.read_env(job.id, job.life);
            let durable = record.is_some() || file.synced;
            let inherited = s.disk.get(Name::new(Kind::Env, job.id, job.life, 0)).is_none();
            let owes = record.is_some_and(|record| record.told == Told::Owed);
            let dirty = inherited && owes && self.holds(Rule::ReadAgain);
            let job = at.job(s);
            *job = Job {
                phase: Phase::Work,
                id: job.id,
                life: job.life,
                node: job.node,
                dirty,
                durable,
                lost: job.lost,
                ..Job::of(record.unwrap_or(file.record))
            };
        });
    }

    fn work(&self, s: &State, at: Hand, out: &mut Moves) {
        let job = at.job;
        if let Some(record) = job.saving {
            return out.work(s, at.act(Verb::SyncEnv), |s| {
                s.disk.sync(Folder::Queue);
                s.believe(job.id.m, record);
                at.done(s, |job| job.saving = None);
                // From now on the report stays where it is; it may have been sent away by its former owner before.
                let owes = record.told == Told::Owed && job.life > 0 && self.holds(Rule::ReadAgain);
                let former = s.read_env(job.id, job.life.saturating_sub(1));
                if owes && former.is_some_and(|former| former.told == Told::Reported) {
                    let job = at.job(s);
                    job.record.told = Told::Reported;
                    job.dirty = true;
                }
            });
        }
        let parts_left = job.local != Part::Nothing || job.remote != Part::Nothing;
        if !job.must_save {
            self.deposit(s, at, out);
            self.send(s, at, out);
        }
        let record = job.record;
        let owes = record.told == Told::Owed;
        let final_fates = [record.local, record.remote].iter().any(|f| *f > Fate::Open);
        if parts_left {
            if job.dirty && final_fates {
                self.save(s, at, out);
            }
            return;
        }
        let buries = record.remote == Fate::Failed && record.told == Told::Nothing && !record.is_open();
        let must_record = job.must_save
            || (owes && self.holds(Rule::RecordBeforeReport))
            || (buries && self.holds(Rule::RecordBeforeBury))
            || (record.is_open() && !owes);
        if job.dirty && must_record {
            self.save(s, at, out);
        } else if owes {
            out.work(s, at.act(Verb::Look), |s| {
                let job = at.job(s);
                job.phase = Phase::Looking;
                job.missed = false;
            });
        } else if record.is_open() {
            self.release(s, at, out);
        } else if buries && self.holds(Rule::BuryBeforeRemove) {
            self.bury(s, at, out);
        } else {
            self.remove(s, at, out);
        }
    }

    /// Arrow 4.
    fn deposit(&self, s: &State, at: Hand, out: &mut Moves) {
        let name = Name::new(Kind::Drop, at.job.id, 0, 0);
        match at.job.local {
            Part::Todo => {
                let file = self.text(at.job.record);
                out.work(s, at.act(Verb::Deposit), |s| {
                    s.disk.put(name, file);
                    at.done(s, |job| job.local = Part::Named);
                });
                out.refused(s, at.act(Verb::PutRefused).with(1), |s| {
                    at.done(s, |job| {
                        job.local = Part::Nothing;
                        job.dirty = true;
                    });
                });
            }
            Part::Named => out.work(s, at.act(Verb::SyncDrop), |s| {
                if self.holds(Rule::DropIsSynced) {
                    s.disk.sync(Folder::Drop);
                }
                at.done(s, |job| {
                    job.local = Part::Nothing;
                    job.record.local = Fate::Delivered;
                    job.dirty = true;
                });
            }),
            Part::Nothing => {}
        }
    }

    /// The remote recipient's part: taken, refused for good, or deferred.
    fn send(&self, s: &State, at: Hand, out: &mut Moves) {
        let Hand { n, m, job } = at;
        // A report in the hand of its parent's owner goes when that one has finished with the parent.
        let parent_in_hand = m == REPORT && s.jobs[n][0].phase != Phase::Nothing;
        if job.remote != Part::Todo || (parent_in_hand && self.holds(Rule::ReportWaits)) {
            return;
        }
        let noted = |s: &mut State, fate: Fate, told: Told| {
            at.done(s, |job| {
                job.remote = Part::Nothing;
                job.record.remote = fate;
                job.record.told = told;
                job.dirty = true;
            });
        };
        let late = job.lost;
        out.work(s, at.act(Verb::SendTaken), |s| {
            s.note_sent(m, late);
            noted(s, Fate::Delivered, Told::Nothing);
        });
        if self.bounds.refusals[usize::from(m)] {
            let told = if m == 0 && !self.bounds.null_sender {
                Told::Owed
            } else {
                Told::Nothing
            };
            out.work(s, at.act(Verb::SendRefused), |s| noted(s, Fate::Failed, told));
        }
        if s.deferrals > 0 {
            out.event(s, at.act(Verb::SendDeferred), |s| {
                s.deferrals -= 1;
                noted(s, Fate::Open, Told::Nothing);
            });
        }
    }

    /// Arrow 2.
    fn save(&self, s: &State, at: Hand, out: &mut Moves) {
        let Hand { m, job, .. } = at;
        let name = Name::new(Kind::Env, job.id, job.life, 0);
        let mut file = self.text(job.record);
        file.record = job.record;
        let synced = self.holds(Rule::RecordIsSynced);
        out.work(s, at.act(Verb::Record), |s| {
            if !job.durable && self.holds(Rule::BytesBeforeRecord) {
                s.disk.sync_data(m);
            }
            s.disk.put(name, file);
            if !synced {
                s.believe(m, job.record);
            }
            at.done(s, |job| {
                job.durable = true;
                job.dirty = false;
                job.must_save = false;
                job.saving = synced.then_some(job.record);
            });
        });
        out.refused(s, at.act(Verb::PutRefused), |s| at.done(s, |_| ()));
    }

    /// Arrow 5, after the record: unless it is there, the report gets its name.
    fn put_report(&self, s: &State, at: Hand, out: &mut Moves) {
        let in_hand = s.jobs[at.n][usize::from(REPORT)].phase != Phase::Nothing;
        let there = s.in_queue(REPORT_ID).next().is_some() && self.holds(Rule::LookAgain);
        let name = Name::new(Kind::Taken, REPORT_ID, 0, at.job.node);
        let file = File {
            what: What::Message,
            synced: self.holds(Rule::PutIsSynced),
            record: Record {
                remote: Fate::Open,
                ..Record::default()
            },
        };
        if in_hand || there {
            out.work(s, at.act(Verb::ReportFound), |s| {
                at.done(s, |job| {
                    job.phase = Phase::Work;
                    job.record.told = Told::Reported;
                    job.dirty = true;
                });
            });
        }
        if !in_hand && (!there || at.job.missed) {
            let put = |s: &mut State| {
                s.disk.put(name, file);
                s.truth[0].given_up = true;
                if at.job.lost {
                    s.frozen_step(REPORT);
                }
            };
            out.work(s, at.act(Verb::PutReport), |s| {
                put(s);
                at.done(s, |job| job.phase = Phase::ReportNamed);
            });
            out.refused(s, at.act(Verb::PutUnheard), |s| {
                put(s);
                at.done(s, |job| job.phase = Phase::Work);
            });
            out.refused(s, at.act(Verb::PutRefused), |s| {
                at.done(s, |job| job.phase = Phase::Work)
            });
        }
    }

    /// Arrow 3.
    fn release(&self, s: &State, at: Hand, out: &mut Moves) {
        let Hand { m, job, .. } = at;
        let (from, to) = (at.taken(), Name::new(Kind::Waiting, job.id, job.life, 0));
        match s.disk.get(to) {
            Some(file) if file.what == What::Empty && self.holds(Rule::ReleaseOverEmpty) => {}
            Some(_) => return, // tried again
            None => {}
        }
        out.work(s, at.act(Verb::Release), |s| {
            s.disk.rename(from, to);
            s.report_moved(m);
            *at.job(s) = Job::default();
        });
        out.refused(s, at.act(Verb::ReleaseRefused), |s| at.done(s, |_| ()));
    }

    /// Arrow 6.
    fn bury(&self, s: &State, at: Hand, out: &mut Moves) {
        let kinds = [(Kind::Reason, Phase::ReasonNamed), (Kind::Bad, Phase::BadNamed)];
        let (kind, phase) = kinds[usize::from(!self.holds(Rule::ReasonFirst))];
        let name = Name::new(kind, at.job.id, 0, 0);
        let file = self.text(Record::default());
        out.work(s, at.act(Verb::PutReason), |s| {
            s.disk.put(name, file);
            at.done(s, |job| job.phase = phase);
        });
        out.refused(s, at.act(Verb::PutRefused), |s| at.done(s, |_| ()));
    }

    /// Arrow 7.
    fn remove(&self, s: &State, at: Hand, out: &mut Moves) {
        let Hand { n, m, job } = at;
        let taken = at.taken();
        let slot = usize::from(m);
        out.work(s, at.act(Verb::Remove), |s| {
            let ours = s.disk.remove(taken);
            *at.job(s) = Job::default();
            if ours {
                s.slots[n].removed[slot] = Some((job.id, job.life));
            }
            // Without the rule it is put into Badmail when it has gone.
            if ours && job.record.remote == Fate::Failed && !self.holds(Rule::BuryBeforeRemove) {
                *at.job(s) = Job {
                    phase: Phase::ReasonNamed,
                    ..job
                };
            }
        });
        out.refused(s, at.act(Verb::RemoveRefused), |s| {
            at.done(s, |job| {
                job.phase = Phase::Work;
                job.must_save = job.dirty;
            });
        });
    }

    /// A put writes and syncs its TMP before the rename.
    fn text(&self, record: Record) -> File {
        File {
            what: What::Text,
            synced: self.holds(Rule::PutIsSynced),
            record,
        }
    }
}

impl Job {
    /// An attempt for whoever is open.
    pub fn of(record: Record) -> Self {
        let part = |fate| {
            if fate == Fate::Open {
                Part::Todo
            } else {
                Part::Nothing
            }
        };
        Self {
            local: part(record.local),
            remote: part(record.remote),
            record,
            ..Self::default()
        }
    }
}

/// A message in the hand of a node.
#[derive(Clone, Copy)]
pub struct Hand {
    pub n: usize,
    pub m: u8,
    pub job: Job,
}

impl Hand {
    pub fn taken(&self) -> Name {
        Name::new(Kind::Taken, self.job.id, self.job.life, self.job.node)
    }
    pub fn act(&self, verb: Verb) -> Act {
        Act::new(verb, self.n, self.m)
    }
    pub fn job<'a>(&self, s: &'a mut State) -> &'a mut Job {
        &mut s.jobs[self.n][usize::from(self.m)]
    }
    /// A step was done; who had looked before he was frozen has no further one.
    pub fn done(&self, s: &mut State, change: impl FnOnce(&mut Job)) {
        let job = self.job(s);
        change(job);
        job.armed = false;
    }
    pub fn let_go(&self, s: &State, out: &mut Moves) {
        let at = *self;
        out.work(s, at.act(Verb::LetGo), |s| *at.job(s) = Job::default());
    }
    /// The report that was just put is sent by us.
    fn take_report_in_hand(&self, s: &mut State) {
        let record = Record {
            remote: Fate::Open,
            ..Record::default()
        };
        s.jobs[self.n][usize::from(REPORT)] = Job {
            phase: Phase::Work,
            id: REPORT_ID,
            node: self.job.node,
            durable: true,
            ..Job::of(record)
        };
    }
}
