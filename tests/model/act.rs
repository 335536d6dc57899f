//! What can happen, in words, and how a step makes the next state.

use super::disk::{Fate, Kind, Name, Record, Ulid};
use super::state::{Fault, MESSAGES, Phase, REPORT, State};
use std::fmt;

/// One thing that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Act {
    pub verb: Verb,
    pub n: u8,
    pub m: u8,
    x: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    ClaimPickup,
    ClaimWaiting,
    ClaimUnheard,
    Copy,
    CopyRefused,
    CopyUnheard,
    UnlinkFormer,
    UnlinkCopy,
    UnlinkOlder,
    ReadEnv,
    UnlinkEmpty,
    Deposit,
    SyncDrop,
    SendTaken,
    SendRefused,
    SendDeferred,
    Record,
    SyncEnv,
    Look,
    ReportFound,
    PutReport,
    PutUnheard,
    PutRefused,
    PutReason,
    PutBad,
    SyncBadmail,
    SyncQueue,
    SyncPickup,
    Release,
    ReleaseRefused,
    Remove,
    RemoveRefused,
    LetGo,
    TakeOver,
    FinishHalf,
    Flush,
    Sweep,
    SweepOrphan,
    Judge,
    Crash,
    Freeze,
    Thaw,
    PowerCut,
    OperatorRemoves,
    OperatorTouches,
    OperatorHolds,
    OperatorReleases,
    OperatorResubmits,
}

impl Act {
    pub fn new(verb: Verb, n: usize, m: u8) -> Self {
        Self {
            verb,
            n: n as u8,
            m,
            x: 0,
        }
    }
    /// Tells apart what would read alike.
    pub fn with(self, x: u16) -> Self {
        Self { x, ..self }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = ["A", "B", "the report"][usize::from(self.m)];
        let node = ["first", "second", "third"][usize::from(self.n)];
        let x = self.x;
        let doing = match self.verb {
            Verb::ClaimPickup => format!("claims {what} from Pickup"),
            Verb::ClaimWaiting => format!("claims {what}, life {x}"),
            Verb::ClaimUnheard => format!("claims {what}, and is told that it failed"),
            Verb::Copy => format!("copies {what} into Queue"),
            Verb::CopyRefused => format!("cannot copy {what} into Queue"),
            Verb::CopyUnheard => format!("copies {what} into Queue, and is told that it failed"),
            Verb::UnlinkFormer => format!("unlinks {what} in Pickup"),
            Verb::UnlinkCopy => format!("has lost {what}: unlinks its copy"),
            Verb::UnlinkOlder => format!("unlinks an older copy of {what}, life {x}"),
            Verb::ReadEnv => format!("reads the record of {what}"),
            Verb::UnlinkEmpty => format!("finds {what} empty and unlinks that name"),
            Verb::Deposit => format!("puts {what} into Drop"),
            Verb::SyncDrop => format!("syncs Drop: {what} is delivered there"),
            Verb::SendTaken => format!("sends {what}: taken"),
            Verb::SendRefused => format!("sends {what}: refused"),
            Verb::SendDeferred => format!("sends {what}: not now"),
            Verb::Record => format!("puts the record of {what}"),
            Verb::SyncEnv => format!("syncs Queue: {what} is recorded"),
            Verb::Look => format!("begins to look for the report on {what}"),
            Verb::ReportFound => format!("finds the report on {what}"),
            Verb::PutReport => format!("puts the report on {what}"),
            Verb::PutUnheard => format!("puts the report on {what}, and is told that it failed"),
            Verb::PutRefused => format!("cannot put a file for {what}"),
            Verb::PutReason => format!("puts the reason of {what} into Badmail"),
            Verb::PutBad => format!("puts {what} into Badmail"),
            Verb::SyncBadmail => format!("syncs Badmail for {what}"),
            Verb::SyncQueue => format!("syncs Queue for {what}"),
            Verb::SyncPickup => format!("syncs Pickup for {what}"),
            Verb::Release => format!("releases {what}"),
            Verb::ReleaseRefused => format!("cannot release {what}"),
            Verb::Remove => format!("removes {what}"),
            Verb::RemoveRefused => format!("cannot remove {what}"),
            Verb::LetGo => format!("sees that {what} is no longer its own"),
            Verb::TakeOver => format!("takes {what} over, life {}", x & 7),
            Verb::FinishHalf => format!("goes on with the half-made claim of {what}"),
            Verb::Flush => "flushes".into(),
            Verb::Sweep => format!("sweeps what {what} left"),
            Verb::SweepOrphan => format!("sweeps the remains of {what}, alone for ten minutes"),
            Verb::Judge => "judges that another node is dead".into(),
            Verb::Crash => "crashes and is started again".into(),
            Verb::Freeze => "is frozen".into(),
            Verb::Thaw => "thaws".into(),
            Verb::PowerCut => return write!(f, "power is cut; of the steps not synced there survive {x:b}"),
            Verb::OperatorRemoves => return write!(f, "operator: rm {what}"),
            Verb::OperatorTouches => return write!(f, "operator: touch {what}"),
            Verb::OperatorHolds => return write!(f, "operator: holds {what}"),
            Verb::OperatorReleases => return write!(f, "operator: releases {what}"),
            Verb::OperatorResubmits => return write!(f, "operator: mv {what} from Badmail to Pickup"),
        };
        write!(f, "the {node} node {doing}")
    }
}

/// Gathers what can follow from one state.
pub struct Moves<'a>(pub &'a mut Vec<(Act, bool, State)>);

impl Moves<'_> {
    /// The program does it.
    pub fn work(&mut self, s: &State, act: Act, change: impl FnOnce(&mut State)) {
        let mut after = *s;
        change(&mut after);
        self.0.push((act, true, after));
    }
    /// It befalls the program.
    pub fn event(&mut self, s: &State, act: Act, change: impl FnOnce(&mut State)) {
        let mut after = *s;
        change(&mut after);
        self.0.push((act, false, after));
    }
    /// The disk refuses a step, or does it and reports a failure.
    pub fn refused(&mut self, s: &State, act: Act, change: impl FnOnce(&mut State)) {
        if s.refused_steps > 0 {
            self.event(s, act, |s| {
                s.refused_steps -= 1;
                change(s);
            });
        }
    }
}

impl State {
    /// The remote host took a copy. `late`: from a node that had looked before it was frozen.
    pub fn note_sent(&mut self, m: u8, late: bool) {
        let truth = &mut self.truth[usize::from(m)];
        if late {
            truth.late = 1;
            return;
        }
        if truth.repeated > 0 {
            // there is a second file of it: the number of copies is bounded, not their order
        } else if truth.recorded || truth.gone {
            self.fault = Fault::SentAgain;
        } else if truth.given_up {
            self.fault = Fault::SentAfterAll;
        }
        truth.sent += 1;
    }
    /// A step that a frozen node had looked for makes a further copy possible.
    pub fn frozen_step(&mut self, m: u8) {
        let truth = &mut self.truth[usize::from(m)];
        truth.repeated += 1;
    }
    /// What crashes, freezes or is cut now may repeat what was taken and is not recorded.
    pub fn explain(&mut self, m: u8) {
        let truth = &mut self.truth[usize::from(m)];
        truth.allowed = truth.allowed.max(truth.sent);
    }
    /// The program takes it for sure.
    pub fn believe(&mut self, m: u8, record: Record) {
        let truth = &mut self.truth[usize::from(m)];
        truth.recorded |= record.remote == Fate::Delivered;
        truth.recorded_local |= record.local == Fate::Delivered;
        truth.promised = true;
    }
    /// A file of the report was renamed: whoever lists Queue at this time may miss it.
    pub fn report_moved(&mut self, m: u8) {
        if m == REPORT {
            for jobs in &mut self.jobs {
                jobs[0].missed |= jobs[0].phase == Phase::Looking;
            }
        }
    }
    /// Removes the records of all lives up to this one.
    pub fn sweep(&mut self, id: Ulid, life: u8) {
        for life in 0..=life {
            self.disk.remove(Name::new(Kind::Env, id, life, 0));
        }
    }
    /// Everything that the process had in its memory.
    pub fn forget(&mut self, n: usize) {
        self.jobs[n] = Default::default();
        self.slots[n].removed = [None; MESSAGES];
        self.slots[n].synced = [None; MESSAGES];
        self.slots[n].verdict = 0;
    }
}
