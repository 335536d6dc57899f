//! What befalls nodes and disk, what nodes do about each other, what operators do.

use super::act::{Act, Moves, Verb};
use super::checker::Model;
use super::disk::{Fate, File, Folder, Kind, Name, Record, What};
use super::state::{Fault, Job, MESSAGES, Phase, Protocol, REPORT, Rule, State, in_pickup};

impl Model for Protocol {
    type State = State;
    type Act = Act;

    fn start(&self) -> State {
        self.start_state()
    }

    fn next(&self, s: &State, out: &mut Vec<(Act, bool, State)>) {
        let out = &mut Moves(out);
        for n in 0..self.bounds.nodes {
            for m in 0..MESSAGES as u8 {
                self.arrows(s, n, m, out);
            }
            if s.slots[n].frozen {
                out.work(s, Act::new(Verb::Thaw, n, 0), |s| self.thaw(s, n));
            } else {
                self.keep(s, n, out);
                self.flush(s, n, out);
            }
            self.trouble(s, n, out);
        }
        self.power_cut(s, out);
        self.operator(s, out);
    }

    fn broken(&self, s: &State) -> Option<&'static str> {
        self.broken_promise(s)
    }

    fn is_end(&self, s: &State) -> bool {
        self.all_done(s)
    }

    fn show(&self, s: &State) -> String {
        s.show(self.bounds.nodes)
    }
}

impl Protocol {
    /// Keeper: what the dead left, and what finished messages left.
    fn keep(&self, s: &State, n: usize, out: &mut Moves) {
        let entries = s.disk.entries().to_vec();
        for entry in &entries {
            let name = entry.name;
            match name.kind() {
                Kind::Taken => self.take_over(s, n, name, out),
                Kind::Half => self.finish_half(s, n, name, out),
                Kind::Env => self.sweep_orphan(s, n, name, out),
                Kind::Waiting if !self.holds(Rule::NotInHand) && s.has_in_hand(n, name.m()) => {
                    self.claim_waiting(s, n, name, out);
                }
                _ => {}
            }
        }
        if !self.holds(Rule::NewName) {
            for peer in (0..self.bounds.nodes).filter(|peer| s.slots[*peer].frozen) {
                if s.slots[n].verdict & 1 << peer == 0 {
                    let act = Act::new(Verb::Judge, n, 0).with(peer as u16);
                    out.event(s, act, |s| s.slots[n].verdict |= 1 << peer);
                }
            }
        }
    }

    /// Of a dead node, or under our own name and in no session.
    fn is_left(&self, s: &State, n: usize, name: Name) -> bool {
        if name.kind() == Kind::Taken && self.is_bringing_in(s, n, name) {
            return false;
        }
        let in_hand = s.has_in_hand(n, name.m());
        if name.node() == s.slots[n].name {
            return !in_hand || !self.holds(Rule::StrayIsInNoSession);
        }
        if self.holds(Rule::NewName) {
            return !s.beats(self.bounds.nodes, name.node());
        }
        let owner = (0..self.bounds.nodes).find(|peer| s.slots[*peer].name == name.node());
        owner.is_none_or(|owner| s.slots[n].verdict & 1 << owner != 0)
    }

    /// Somebody who was frozen has just made this copy, and is about to see whether it counts. A peer that lists it for
    /// the first time needs a whole lease to judge it; we ourselves ask what we have in hand, under any name.
    fn is_bringing_in(&self, s: &State, n: usize, copy: Name) -> bool {
        let m = usize::from(copy.m());
        let busy = |job: &Job| {
            job.node == copy.node() && matches!(job.phase, Phase::Copied | Phase::CopySure | Phase::CopyLost)
        };
        let asks = |peer: usize| peer != n || self.holds(Rule::StrayIsInNoSession);
        (0..self.bounds.nodes).any(|peer| asks(peer) && !s.slots[peer].frozen && busy(&s.jobs[peer][m]))
    }

    /// `ID@PEER.EML` → `ID-1.EML`
    fn take_over(&self, s: &State, n: usize, name: Name, out: &mut Moves) {
        let id = name.id();
        let half = |e: &super::disk::Entry| e.name.kind() == Kind::Half && e.name.id() == id;
        let has_half = s.disk.entries().iter().any(half);
        if !self.is_left(s, n, name) || (has_half && self.holds(Rule::HalfFirst)) {
            return;
        }
        let life = if self.holds(Rule::LifeIsRaised) {
            name.life() + 1
        } else {
            name.life()
        };
        let to = Name::new(Kind::Waiting, id, life, 0);
        if life > 6 || s.disk.get(to).is_some() {
            return; // neither claim nor takeover replaces a file
        }
        let act = Act::new(Verb::TakeOver, n, name.m()).with(u16::from(life) | u16::from(name.node()) << 3);
        out.work(s, act, |s| {
            if self.bounds.apart && self.holds(Rule::PickupBeforeTakeover) {
                s.disk.sync(Folder::Pickup);
            }
            s.disk.rename(name, to);
            if name.node() != s.slots[n].name && s.beats(self.bounds.nodes, name.node()) {
                s.fault = Fault::TakenFromLiving;
            }
        });
    }

    /// `Pickup/.ID@NODE.EML` of a dead node, or of ourselves and in no session.
    fn finish_half(&self, s: &State, n: usize, half: Name, out: &mut Moves) {
        let (id, m) = (half.id(), usize::from(half.m()));
        if !self.is_left(s, n, half) || s.jobs[n][m].phase != Phase::Nothing {
            return;
        }
        let file = s.disk.get(half).unwrap_or_default();
        let decides = self.holds(Rule::HalfDecides);
        let brought_in = s.in_queue(id).any(|e| !decides || e.name.life() > half.life());
        let x = u16::from(half.life()) | u16::from(half.node()) << 3;
        if brought_in {
            out.work(s, Act::new(Verb::FinishHalf, n, half.m()).with(x), |s| {
                s.disk.sync(Folder::Queue);
                s.disk.remove(half);
                s.disk.sync(Folder::Pickup);
            });
            return;
        }
        // Raised only when it is another's: a full disk is no crash.
        let own = half.node() == s.slots[n].name;
        let life = half.life() + u8::from(!own);
        let ours = Name::new(Kind::Half, id, life, s.slots[n].name);
        out.work(s, Act::new(Verb::FinishHalf, n, half.m()).with(x), |s| {
            s.disk.rename(half, ours);
            s.jobs[n][m] = Job {
                phase: self.decided(),
                id,
                life,
                node: s.slots[n].name,
                ..Job::of(file.record)
            };
        });
    }

    /// ENV without a message: when no listing has shown one for ten minutes. Whoever removed the message has flushed
    /// or is dead by then.
    fn sweep_orphan(&self, s: &State, n: usize, env: Name, out: &mut Moves) {
        let id = env.id();
        let has_file = s
            .disk
            .entries()
            .iter()
            .any(|e| e.name.id() == id && e.name.is_message());
        let wait = self.holds(Rule::OrphansWait);
        let slots = &s.slots[..self.bounds.nodes];
        let m = usize::from(env.m());
        let in_hand = s.has_in_hand(n, env.m());
        let flushing = slots
            .iter()
            .any(|slot| slot.removed[m].is_some() || slot.synced[m].is_some());
        if (wait && (has_file || flushing)) || in_hand {
            return;
        }
        let act = Act::new(Verb::SweepOrphan, n, env.m()).with(u16::from(env.life()));
        out.work(s, act, |s| {
            if self.holds(Rule::OrphansAfterSync) {
                s.disk.sync(Folder::Queue);
            }
            s.disk.remove(env);
        });
    }

    /// Removals reach the disk, then their remains go.
    fn flush(&self, s: &State, n: usize, out: &mut Moves) {
        let slot = s.slots[n];
        if slot.removed != [None; MESSAGES] && slot.synced == [None; MESSAGES] {
            out.work(s, Act::new(Verb::Flush, n, 0), |s| {
                if self.holds(Rule::FlushBeforeEnvGoes) {
                    s.disk.sync(Folder::Queue);
                    s.disk.sync(Folder::Pickup);
                }
                for m in (0..MESSAGES).filter(|m| slot.removed[*m].is_some()) {
                    let gone = s.files(m as u8).next().is_none();
                    s.truth[m].gone |= gone;
                }
                s.slots[n].synced = slot.removed;
                s.slots[n].removed = [None; MESSAGES];
            });
        }
        for m in 0..MESSAGES {
            if let Some((id, life)) = slot.synced[m] {
                out.work(s, Act::new(Verb::Sweep, n, m as u8), |s| {
                    s.sweep(id, life);
                    s.slots[n].synced[m] = None;
                });
            }
        }
    }

    fn trouble(&self, s: &State, n: usize, out: &mut Moves) {
        if s.crashes > 0 {
            out.event(s, Act::new(Verb::Crash, n, 0), |s| {
                s.crashes -= 1;
                self.lose_process(s, n);
            });
        }
        if s.freezes > 0 && !s.slots[n].frozen {
            out.event(s, Act::new(Verb::Freeze, n, 0), |s| {
                s.freezes -= 1;
                self.explain_all(s, n);
                s.slots[n].frozen = true;
            });
        }
    }

    /// Copies that were taken and stand nowhere yet.
    fn explain_all(&self, s: &mut State, n: usize) {
        for m in 0..MESSAGES {
            let job = s.jobs[n][m];
            let half = Name::new(Kind::Half, job.id, job.life, job.node);
            let copied = matches!(job.phase, Phase::Copied | Phase::CopySure | Phase::CopyLost);
            if copied && job.lost && s.disk.get(half).is_none() {
                s.frozen_step(m as u8); // frozen before it made the copy, and ended before it could unlink it
            }
            if job.phase == Phase::Nothing || job.lost || job.record.remote != Fate::Delivered {
                continue;
            }
            let on_disk = s.read_env(job.id, job.life).map(|record| record.remote);
            if on_disk != Some(Fate::Delivered) {
                s.explain(m as u8);
            }
        }
    }

    fn lose_process(&self, s: &mut State, n: usize) {
        self.explain_all(s, n);
        s.forget(n);
        s.slots[n].frozen = false;
        s.slots[n].name = 7;
        let name = s.new_node_name();
        s.slots[n].name = name;
    }

    /// The lease is over. Who had looked has one step more; all that was in hand is lost.
    fn thaw(&self, s: &mut State, n: usize) {
        s.slots[n].frozen = false;
        if self.holds(Rule::NewName) {
            s.slots[n].name = s.new_node_name();
        }
        let in_hand = |job: &&mut Job| job.phase != Phase::Nothing && !job.lost;
        for job in s.jobs[n].iter_mut().filter(in_hand) {
            job.lost = self.holds(Rule::Fence);
            job.armed = job.lost;
        }
    }

    /// All nodes lose it at once; of the steps that are not synced any subset is lost, and so is what was never
    /// synced of a file.
    fn power_cut(&self, s: &State, out: &mut Moves) {
        if s.cuts == 0 {
            return;
        }
        let steps = s.disk.steps().len();
        for kept in 0..1_u16 << steps {
            for torn in [false, true] {
                let cut = |s: &mut State| {
                    s.cuts -= 1;
                    for m in 0..MESSAGES {
                        let truth = s.truth[m];
                        if truth.sent > 0 && !truth.recorded && !truth.gone {
                            s.explain(m as u8);
                        }
                        let drops = self.drops(s, m as u8);
                        if !truth.recorded_local && !truth.gone {
                            s.truth[m].drops_allowed = drops;
                        }
                    }
                    s.disk.cut(kept, torn);
                    self.note_damage(s);
                    if s.cuts == 0 {
                        s.disk.never_forgets_again();
                    }
                    for n in 0..self.bounds.nodes {
                        s.forget(n);
                        s.slots[n].frozen = false;
                    }
                    for n in 0..self.bounds.nodes {
                        s.slots[n].name = 7;
                        let name = s.new_node_name();
                        s.slots[n].name = name;
                    }
                };
                let act = Act::new(Verb::PowerCut, 0, u8::from(torn)).with(kept);
                out.event(s, act, cut);
            }
        }
    }

    /// An application that did not sync may find its file torn, as long as we have promised nothing about it. What
    /// was given up and has left no trace on the disk was not given up.
    fn note_damage(&self, s: &mut State) {
        for entry in s.disk.entries().to_vec() {
            let promised = s.truth[usize::from(entry.name.m())].promised;
            if entry.file.what == What::Torn
                && (!self.bounds.unsynced || !entry.name.is_message() || promised)
            {
                s.fault = Fault::Damaged;
            }
        }
        for m in 0..MESSAGES as u8 {
            let bad = |e: &super::disk::Entry| e.name.kind() == Kind::Bad && e.name.m() == m;
            let trace = s.disk.entries().iter().any(bad)
                || (m == 0 && (s.files(REPORT).next().is_some() || s.truth[usize::from(REPORT)].sent > 0));
            s.truth[usize::from(m)].given_up &= trace;
        }
    }

    fn operator(&self, s: &State, out: &mut Moves) {
        if s.operator == 0 {
            return;
        }
        for entry in s.disk.entries() {
            let name = entry.name;
            let (id, life, m) = (name.id(), name.life(), usize::from(name.m()));
            let waiting = Name::new(Kind::Waiting, id, life, 0);
            let mut event = |verb, change: &mut dyn FnMut(&mut State)| {
                out.event(s, Act::new(verb, 0, name.m()).with(u16::from(life)), |s| {
                    s.operator -= 1;
                    change(s);
                });
            };
            match name.kind() {
                Kind::Waiting if entry.file.what == What::Message => {
                    event(Verb::OperatorRemoves, &mut |s| {
                        s.disk.remove(name);
                        s.truth[m].cancelled = true;
                    });
                    event(Verb::OperatorHolds, &mut |s| {
                        s.disk.rename(name, Name::new(Kind::Held, id, life, 0));
                    });
                }
                Kind::Held if s.disk.get(waiting).is_none() => {
                    event(Verb::OperatorReleases, &mut |s| {
                        s.disk.rename(name, waiting);
                    });
                }
                Kind::Taken if s.disk.get(waiting).is_none() => {
                    event(Verb::OperatorTouches, &mut |s| {
                        let file = File {
                            what: What::Empty,
                            synced: true,
                            ..File::default()
                        };
                        s.disk.put(waiting, file);
                    });
                }
                Kind::Bad if m < 2 && s.files(name.m()).next().is_none() => {
                    event(Verb::OperatorResubmits, &mut |s| {
                        s.disk.rename(name, in_pickup(name.m()));
                        let file = File {
                            what: What::Message,
                            synced: true,
                            record: Record {
                                remote: Fate::Open,
                                ..Record::default()
                            },
                        };
                        s.disk.put(in_pickup(name.m()), file);
                        let truth = &mut s.truth[m];
                        (truth.recorded, truth.gone, truth.given_up) = (false, false, false);
                    });
                }
                _ => {}
            }
        }
    }
}
