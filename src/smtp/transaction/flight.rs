//! What is known of one transaction while it is on its way: who was asked for, what was answered, who has an outcome.
//!
//! Pure: replies in, outcomes out. Used by [`super::Exchange`] for a transaction alone on its connection, and by
//! `pipeline` for several.

use crate::mail::{EnhancedStatus, Outcome, Verdict};
use crate::smtp::reply::Reply;
use crate::smtp::verdict::{Stage, is_too_many, judge};
use crate::smtp::wire::Broken;

/// Why a transaction ends before its end.
pub(in crate::smtp) enum Stop {
    Broken(Broken),
    /// 421: the host closes.
    Leaving(Outcome),
    /// Our own disk, while the message was on its way.
    Disk(std::io::Error),
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// What is left of a transaction.
pub(in crate::smtp) struct Done {
    pub outcomes: Vec<Outcome>,
    pub left_over: Vec<usize>,
    pub uncertain: bool,
}

/// See above. An index is a place in the recipients of the transaction.
#[derive(Debug, Default)]
pub(in crate::smtp) struct Flight {
    /// Per recipient; `None`: still open.
    outcomes: Vec<Option<Outcome>>,
    /// Who was not asked for, or is worth asking again, in a further transaction.
    left_over: Vec<usize>,
    /// Who gets a RCPT, in this order.
    pub going: Vec<usize>,
    /// Commands among MAIL and RCPT … that were queued, and whose replies were read.
    pub asked: usize,
    pub answered: usize,
    pub mail_refused: bool,
    pub accepted: usize,
    /// The whole message, with its end, is on its way.
    pub content_sent: bool,
    /// … and the connection broke before the host said what became of it.
    uncertain: bool,
    /// 503: the host found the commands out of order.
    out_of_order: bool,
    /// The host gave the reply that ends a transaction, and it was positive: no RSET is due.
    pub ended_well: bool,
}

impl Flight {
    pub fn new(recipients: usize) -> Self {
        Self {
            outcomes: vec![None; recipients],
            going: Vec::with_capacity(recipients),
            ..Self::default()
        }
    }

    /// Which reply of MAIL and RCPT … comes next.
    pub fn due_of_envelope(&self) -> Option<&'static str> {
        (self.answered < self.asked).then_some(match self.answered {
            0 => "the reply to MAIL",
            _ => "the reply to RCPT",
        })
    }

    /// The next reply to MAIL and RCPT …
    pub fn on_envelope(&mut self, reply: &Reply, host: &str) -> Result<(), Stop> {
        match self.answered {
            0 => self.on_mail(reply, host)?,
            place => self.on_rcpt(place - 1, reply, host)?,
        }
        self.answered += 1;
        Ok(())
    }

    fn on_mail(&mut self, reply: &Reply, host: &str) -> Result<(), Stop> {
        stay_in_step(Stage::Mail, reply, host, "the reply to MAIL")?;
        if !reply.is_positive() {
            self.out_of_order |= reply.code == 503;
            self.mail_refused = true;
            self.settle(&judge(Stage::Mail, reply, host));
        }
        Ok(())
    }

    fn on_rcpt(&mut self, place: usize, reply: &Reply, host: &str) -> Result<(), Stop> {
        stay_in_step(Stage::Recipient, reply, host, "the reply to RCPT")?;
        if self.mail_refused {
            return Ok(());
        }
        if reply.is_positive() {
            self.accepted += 1;
            return Ok(());
        }
        self.out_of_order |= reply.code == 503;
        if let Some(&index) = self.going.get(place) {
            if self.accepted > 0 && is_too_many(reply) {
                self.left_over.push(index);
            }
            self.set(index, judge(Stage::Recipient, reply, host));
        }
        Ok(())
    }

    /// What DATA or BDAT itself was refused with.
    pub fn on_refused_content(&mut self, reply: &Reply, host: &str) {
        self.out_of_order |= reply.code == 503 && self.accepted > 0;
        self.settle(&judge(Stage::Content, reply, host));
    }

    /// The reply that decides for all who were accepted.
    pub fn on_end(&mut self, reply: &Reply, host: &str) -> Result<(), Stop> {
        stay_in_step(Stage::Content, reply, host, "the reply to the message")?;
        self.ended_well = reply.is_positive();
        if self.accepted > 0 {
            self.out_of_order |= reply.code == 503;
            self.settle(&judge(Stage::Content, reply, host));
        }
        Ok(())
    }

    pub fn set(&mut self, index: usize, outcome: Outcome) {
        if let Some(open) = self.outcomes.get_mut(index) {
            *open = Some(outcome);
        }
    }

    /// For all who have no outcome yet.
    pub fn settle(&mut self, outcome: &Outcome) {
        for open in self.outcomes.iter_mut().filter(|open| open.is_none()) {
            *open = Some(outcome.clone());
        }
    }

    /// Whether the host disliked the order of the commands, be it the company that the message was in. Then it goes once
    /// more, alone.
    pub fn is_worth_going_alone(&mut self) -> bool {
        if self.out_of_order {
            let is_deferred = |index: &usize| {
                let outcome = self.outcomes.get(*index).and_then(Option::as_ref);
                outcome.is_none_or(|outcome| outcome.verdict == Verdict::Deferred)
            };
            self.left_over = self.going.iter().copied().filter(is_deferred).collect();
        }
        self.out_of_order
    }

    /// The host ended a connection that had served others (421) before it had a word to say about this one.
    pub fn is_turned_away(&mut self, outcome: Outcome, had_served: bool) {
        if had_served && self.answered == 0 {
            self.was_not_judged(&outcome);
        } else {
            self.is_cut_off(outcome, false);
        }
    }

    /// The connection ended under it.
    pub fn is_cut_off(&mut self, mut outcome: Outcome, may_be_accepted: bool) {
        if may_be_accepted && self.content_sent {
            self.uncertain = true;
            outcome
                .text
                .push_str("; it may have been accepted, so a second copy is possible");
        }
        self.settle(&outcome);
        self.left_over.clear();
    }

    /// The host has not judged it: it can go in a further transaction. `outcome` says why not in this one.
    pub fn was_not_judged(&mut self, outcome: &Outcome) {
        self.left_over = (0..self.outcomes.len())
            .filter(|&index| matches!(self.outcomes.get(index), Some(None)))
            .collect();
        self.settle(outcome);
    }

    pub fn done(self, host: &str) -> Done {
        let forgotten = || {
            let words = "the transaction ended without a word about this recipient";
            Outcome::ours(Verdict::Deferred, EnhancedStatus::new(4, 5, 0), words).at(host)
        };
        Done {
            outcomes: self
                .outcomes
                .into_iter()
                .map(|outcome| outcome.unwrap_or_else(forgotten))
                .collect(),
            left_over: self.left_over,
            uncertain: self.uncertain,
        }
    }
}

/// 421 ends everything; an intermediate reply where none belongs means that replies and commands are out of step.
pub(in crate::smtp) fn stay_in_step(
    stage: Stage,
    reply: &Reply,
    host: &str,
    due: &'static str,
) -> Result<(), Stop> {
    if reply.code == 421 {
        return Err(Stop::Leaving(judge(stage, reply, host)));
    }
    let to_data = due == "the reply to DATA";
    let strange = if to_data {
        reply.is_positive() || (reply.class() == 3 && reply.code != 354)
    } else {
        reply.class() == 3
    };
    if strange {
        return Err(Stop::Broken(Broken::Nonsense {
            why: format!("{} where {due} was due", reply.one_line()),
            raw: String::new(),
        }));
    }
    Ok(())
}

pub(in crate::smtp) fn disk_trouble(error: &std::io::Error) -> Outcome {
    Outcome::deferred(
        EnhancedStatus::new(4, 3, 0),
        format!("local disk: the message could not be read ({error})"),
    )
}
