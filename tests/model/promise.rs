//! What must hold in every state, and when all is done.

use super::disk::Kind;
use super::state::{Fault, MESSAGES, Phase, Protocol, REPORT, State};

pub const LOST: &str = "a recipient is lost";
pub const DAMAGED: &str = "what was promised is damaged";
pub const REPEATED: &str = "sent more often than crashes, freezes and cuts explain";
pub const AGAIN: &str = "recorded as delivered, and sent again";
pub const TWO_REPORTS: &str = "two reports";
pub const GIVEN_UP: &str = "given up, and sent again";
pub const DOUBLED: &str = "doubled in Drop";
pub const DOUBLED_IN_BADMAIL: &str = "doubled in Badmail";
pub const NO_REASON: &str = "in Badmail without its reason";
pub const REPLACED: &str = "a message file was replaced";
pub const ROBBED: &str = "taken from a living node";

impl Protocol {
    pub fn broken_promise(&self, s: &State) -> Option<&'static str> {
        match s.fault {
            Fault::None => {}
            Fault::SentAgain => return Some(AGAIN),
            Fault::SentAfterAll => return Some(GIVEN_UP),
            Fault::Replaced => return Some(REPLACED),
            Fault::TakenFromLiving => return Some(ROBBED),
            Fault::Damaged => return Some(DAMAGED),
        }
        for m in 0..MESSAGES {
            let truth = s.truth[m];
            if truth.sent > 1 + truth.allowed + truth.repeated {
                return Some(if m == usize::from(REPORT) {
                    TWO_REPORTS
                } else {
                    REPEATED
                });
            }
            if self.drops(s, m as u8) > 1 + truth.drops_allowed {
                return Some(DOUBLED);
            }
        }
        let badmail = |kind, m| {
            s.disk
                .entries()
                .iter()
                .filter(move |e| e.name.kind() == kind && e.name.m() == m)
        };
        for m in 0..MESSAGES as u8 {
            if badmail(Kind::Bad, m).count() > 1 {
                return Some(DOUBLED_IN_BADMAIL);
            }
            let has_reason =
                |e: &super::disk::Entry| badmail(Kind::Reason, m).any(|r| r.name.id() == e.name.id());
            if badmail(Kind::Bad, m).any(|e| !has_reason(e)) {
                return Some(NO_REASON);
            }
        }
        (0..MESSAGES as u8).any(|m| self.is_lost(s, m)).then_some(LOST)
    }

    /// Files in Drop for this message.
    pub fn drops(&self, s: &State, m: u8) -> u8 {
        let drops = s
            .disk
            .entries()
            .iter()
            .filter(|e| e.name.kind() == Kind::Drop && e.name.m() == m);
        drops.count() as u8
    }

    /// No message file of it is left, and somebody has nothing.
    fn is_lost(&self, s: &State, m: u8) -> bool {
        // The loss of a report is its parent's.
        if m == REPORT || s.truth[usize::from(m)].cancelled || s.files(m).next().is_some() {
            return false;
        }
        let at = usize::from(m);
        let (local, remote) = (self.bounds.local[at], self.bounds.remote[at]);
        let has = |kind| {
            s.disk
                .entries()
                .iter()
                .any(|e| e.name.kind() == kind && e.name.m() == m)
        };
        let truth = s.truth[usize::from(m)];
        // A report answers for its parent until it has arrived.
        let report = s.truth[usize::from(REPORT)];
        let reported = m == 0
            && (s.files(REPORT).next().is_some()
                || report.sent + report.late > 0
                || report.cancelled
                || has_bad_report(s));
        (local && !has(Kind::Drop))
            || (remote && truth.sent + truth.late == 0 && !has(Kind::Bad) && !reported)
    }

    /// Nothing lies in Pickup, nothing in Queue but what an operator holds, and nobody has anything in hand.
    pub fn all_done(&self, s: &State) -> bool {
        let rests = |kind| matches!(kind, Kind::Held | Kind::Drop | Kind::Reason | Kind::Bad);
        let held = |m| {
            s.disk
                .entries()
                .iter()
                .any(|e| e.name.m() == m && e.name.kind() == Kind::Held)
        };
        s.disk.entries().iter().all(|e| {
            rests(e.name.kind()) || (e.name.kind() == Kind::Env && held(e.name.m()))
                // a report waits for what an operator holds
                || (e.name.m() == REPORT && held(0))
        }) && s.jobs.iter().flatten().all(|job| job.phase == Phase::Nothing)
    }
}

fn has_bad_report(s: &State) -> bool {
    s.disk
        .entries()
        .iter()
        .any(|e| e.name.kind() == Kind::Bad && e.name.m() == REPORT)
}
