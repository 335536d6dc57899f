//! One attempt at one part: the hosts of its destination in turn, until no recipient is pending.
//!
//! Reads: routes, MX. Thread: session-n. Not here: which part is next, and in what company (session); the protocol
//! (smtp); where a destination's hosts are (route); what follows from outcomes (settle).

use super::dispatch::Event;
use super::job::{Part, Settled};
use super::order::Order;
use super::shared::{Settings, Shared};
use super::{settle, tell};
use crate::clock;
use crate::mail::{EnhancedStatus, Outcome, Verdict};
use crate::queue::env;
use crate::route::{self, Destination, HostAddress};
use crate::smtp::{self, Peer, RefusedKind, Sent, Session};
use std::sync::Arc;
use std::time::Instant;

/// The conversation broke: closed, or no reply in time.
const BROKEN: EnhancedStatus = EnhancedStatus::new(4, 4, 2);

/// Who serves one destination, over one connection at a time.
pub(super) struct Sender<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) to: &'a Arc<Destination>,
    pub(super) begun: Instant,
    pub(super) link: Option<Link>,
    pub(super) hosts: Vec<HostAddress>,
    pub(super) resolved: bool,
    /// Dispatch knows that this destination is reached.
    pub(super) reached: bool,
}

/// An open connection.
pub(super) struct Link {
    pub(super) session: Session,
    /// Which of the hosts.
    pub(super) host: usize,
    pub(super) shown: String,
    pub(super) messages: usize,
    /// How many messages may be under way: more as they get on.
    pub(super) window: usize,
}

/// What one part has come to so far.
pub(super) struct Progress {
    /// Index, and what the last host said of it.
    pub(super) pending: Vec<(usize, Option<Outcome>)>,
    /// What holds for all that are pending and of whom no host spoke.
    pub(super) last: Option<Outcome>,
    pub(super) outcomes: Vec<(usize, Outcome)>,
    pub(super) offered_dsn: bool,
    pub(super) text: String,
    pub(super) notes: String,
    pub(super) connected: bool,
    /// A host greeted us under our own name: what comes after it in the list is behind us.
    pub(super) looped: bool,
    /// The host has the whole content and has not said what it does with it: at another host it might be a second
    /// copy, so this attempt ends.
    pub(super) uncertain: bool,
    /// This host has been asked, in company; the others are next.
    pub(super) asked: Option<usize>,
}

impl Progress {
    pub(super) fn of(part: &Part) -> Self {
        Self {
            pending: part.recipients.iter().map(|&index| (index, None)).collect(),
            last: None,
            outcomes: Vec::with_capacity(part.recipients.len()),
            offered_dsn: true,
            text: String::new(),
            notes: String::new(),
            connected: false,
            looped: false,
            uncertain: false,
            asked: None,
        }
    }

    /// Whether more follows from it than that the message file goes.
    pub(super) fn needs_record(&self) -> bool {
        let mut outcomes = self.outcomes.iter();
        !self.pending.is_empty() || outcomes.any(|(_, outcome)| outcome.verdict != Verdict::Delivered)
    }
}

impl Sender<'_> {
    /// Tries the hosts in turn until no recipient is pending.
    pub(super) fn attempt(&mut self, part: &Part, settings: &Settings, progress: &mut Progress) {
        if let Err(outcome) = self.resolve(settings, progress) {
            progress.last = Some(outcome);
            return;
        }
        let first = self.link.as_ref().map_or(0, |link| link.host);
        let mut refused_by: Option<String> = None;
        // From the host of a kept connection on; those before it are asked when it has nothing good to say.
        for host in (first..self.hosts.len()).chain(0..first) {
            let name = self.hosts.get(host).map(|h| h.name.clone());
            // Another address of a host that has answered would say the same.
            if refused_by.is_some() && refused_by == name {
                continue;
            }
            if progress.asked == Some(host) {
                refused_by = name;
                continue;
            }
            if !self.connect(host, settings, progress, part) {
                if progress
                    .last
                    .as_ref()
                    .is_some_and(|outcome| outcome.verdict == Verdict::Failed)
                {
                    return; // a loop: the other hosts are behind us
                }
                if progress.looped || self.shared.stop.is_set() {
                    return;
                }
                continue;
            }
            progress.connected = true;
            self.transact_all(host, part, settings, progress);
            if progress.pending.is_empty() || progress.uncertain {
                break;
            }
            refused_by = name;
        }
        if self.hosts.len() > 1 && !progress.pending.is_empty() {
            self.hang_up(); // the next message begins with the preferred host again
        }
    }

    /// On one connection; 0: no limit. Through a door there is but one.
    pub(super) fn most_messages(&self, settings: &Settings) -> usize {
        match self.to.door {
            Some(_) => 0,
            None => settings.config.messages.max_per_connection,
        }
    }

    fn resolve(&mut self, settings: &Settings, progress: &mut Progress) -> Result<(), Outcome> {
        if self.link.is_some() && self.resolved {
            return Ok(());
        }
        let result = route::hosts(self.to, &settings.dns, &settings.config.server.hostname);
        let (found, notes) = match result {
            Ok(found) => (Ok(found.list), found.notes),
            Err((outcome, notes)) => (Err(outcome), notes),
        };
        progress.notes = format!(
            "{} route: {} ({})\n",
            env::time(clock::now()),
            self.to.key,
            self.to.rule
        );
        for note in notes {
            progress.notes.push_str(&format!("  {note}\n"));
        }
        self.hosts = found?;
        self.resolved = true;
        Ok(())
    }

    /// Makes sure that the link is to this host; `false` when it cannot be opened.
    fn connect(&mut self, host: usize, settings: &Settings, progress: &mut Progress, part: &Part) -> bool {
        if self.link.as_ref().is_some_and(|link| link.host == host) {
            return true;
        }
        self.record_so_far(part, progress);
        self.hang_up();
        let Some(address) = self.hosts.get(host) else {
            return false;
        };
        let delivery = &settings.config.delivery;
        let hostname = &settings.config.server.hostname;
        let peer = Peer {
            name: address.name.clone(),
            address: address.address,
            helo_name: hostname.clone(),
            helo_only: self.to.helo_only,
            tls: self.to.tls,
            implicit_tls: self.to.implicit_tls_at(address),
            auth: self.to.auth_at(address).cloned(),
            allow_plaintext_auth: delivery.allow_plaintext_auth,
            connect_timeout: delivery.connect_timeout,
            timeout: delivery.timeout,
            knock: self.to.door.as_ref().map(|door| door.words.clone()),
            own_name: address.from_mx.then(|| hostname.clone()),
            stop: self.shared.stop.clone(),
        };
        match smtp::connect(&peer, &settings.tls) {
            Ok(session) => {
                let shown = peer.shown();
                self.link = Some(Link {
                    session,
                    host,
                    shown,
                    messages: 0,
                    window: 1,
                });
                true
            }
            Err(refused) => {
                let node = self.shared.spool.node();
                let said = refused.dialogue.contains(&refused.outcome.text);
                let why = if said {
                    String::new()
                } else {
                    format!("* {}\n", refused.outcome.text)
                };
                let dialogue = format!("{}{why}", refused.dialogue);
                let text = tell::remote_attempt(
                    &part.job,
                    &node,
                    &peer.shown(),
                    &self.to.rule,
                    "no session",
                    &dialogue,
                    &Settled::default(),
                );
                progress.text.push_str(&text);
                // A host that speaks is there: only its line is of no use at present.
                let loops = refused.kind == RefusedKind::Loop;
                if loops && progress.last.is_some() {
                    // A better host is only down: we are its backup, and wait for it (RFC 5321 §5.1).
                    progress.looped = true;
                    return false;
                }
                if loops || progress.last.is_none() || refused.kind != RefusedKind::Unreachable {
                    progress.last = Some(refused.outcome);
                }
                false
            }
        }
    }

    /// Transactions at one host, as long as they get on: a host may take only some recipients at a time, and a kept
    /// connection may turn out to be closed, which is no word of the host about the message.
    fn transact_all(&mut self, host: usize, part: &Part, settings: &Settings, progress: &mut Progress) {
        let mut reconnected = false;
        while !progress.pending.is_empty() {
            let before = progress.pending.len();
            let again = self.transact(part, settings, progress);
            if !again || progress.pending.is_empty() {
                return;
            }
            if self.link.is_none() {
                if std::mem::replace(&mut reconnected, true) || !self.connect(host, settings, progress, part)
                {
                    return;
                }
            } else if progress.pending.len() == before {
                return; // a host that takes nobody
            }
        }
    }

    /// One transaction for the pending recipients; `true` when a further one at this host makes sense.
    fn transact(&mut self, part: &Part, settings: &Settings, progress: &mut Progress) -> bool {
        self.record_so_far(part, progress);
        let worn_after = self.most_messages(settings);
        let Some(link) = self.link.as_mut() else {
            return false;
        };
        let window = settings.config.delivery.max_in_flight;
        let sent = Order::of(self.shared, part, &progress.pending, settings).and_then(|order| {
            let can = link.session.abilities();
            order.send(self.shared, part, can, |tx, content| {
                link.session.send(tx, content)
            })
        });
        let sent = match sent {
            Ok(sent) => sent,
            Err(outcome) => {
                progress.last = Some(outcome);
                return false;
            }
        };
        link.messages += 1;
        // The first has shown that the host gets on with us.
        if link.session.in_step() && !self.shared.wants_lock_step(&self.to.key) {
            link.window = link.window.max(2).min(window);
        }
        let again = self.digest(part, progress, sent);
        let Some(link) = self.link.as_mut() else {
            return false;
        };
        if !link.session.in_step() || (worn_after > 0 && link.messages >= worn_after && !again) {
            self.hang_up();
        }
        again
    }

    /// Notes what a transaction came to; `true` when a further one at this host makes sense.
    pub(super) fn digest(&mut self, part: &Part, progress: &mut Progress, sent: Sent) -> bool {
        let Some(link) = self.link.as_ref() else {
            return false;
        };
        let job = &part.job;
        let offered_dsn = link.session.offers().dsn;
        progress.offered_dsn &= offered_dsn;
        progress.uncertain = sent.uncertain;

        let asked = std::mem::take(&mut progress.pending);
        let outcomes = Vec::with_capacity(asked.len());
        let mut settled = Settled {
            outcomes,
            offered_dsn,
            ..Settled::default()
        };
        for ((index, _), outcome) in asked.into_iter().zip(sent.outcomes) {
            if outcome.verdict == Verdict::Deferred {
                progress.pending.push((index, Some(outcome.clone())));
            }
            settled.outcomes.push((index, outcome));
        }
        let all_delivered = settled
            .outcomes
            .iter()
            .all(|(_, outcome)| outcome.verdict == Verdict::Delivered);
        if !all_delivered || job.parts_left.load(std::sync::atomic::Ordering::Relaxed) > 1 {
            let opening = if link.messages > 1 {
                "* connection reused\n"
            } else {
                link.session.opening()
            };
            let dialogue = format!("{opening}{}", sent.dialogue);
            let tls = link.session.tls_facts().unwrap_or("not encrypted");
            let node = self.shared.spool.node();
            let text = tell::remote_attempt(job, &node, &link.shown, &self.to.rule, tls, &dialogue, &settled);
            progress.text.push_str(&text);
        }
        settled
            .outcomes
            .retain(|(_, outcome)| outcome.verdict != Verdict::Deferred);
        progress.outcomes.append(&mut settled.outcomes);
        let again = !sent.left_over.is_empty();
        self.tell_dispatch(&progress.pending, again);
        again
    }

    /// What the transactions before have settled for good goes on record.
    fn record_so_far(&self, part: &Part, progress: &mut Progress) {
        if !progress.outcomes.is_empty() {
            let settled = Settled {
                outcomes: std::mem::take(&mut progress.outcomes),
                offered_dsn: progress.offered_dsn,
                ..Settled::default()
            };
            settle::part_so_far(self.shared, &part.job, settled);
        }
    }

    /// A host that is reached and then stalls or closes is as much trouble as one that is not reached. A kept
    /// connection that was closed meanwhile is none: it is opened anew.
    fn tell_dispatch(&mut self, pending: &[(usize, Option<Outcome>)], again: bool) {
        let broke = pending.iter().filter_map(|(_, outcome)| outcome.as_ref());
        let broke = broke
            .filter(|outcome| outcome.status == BROKEN)
            .find(|outcome| !outcome.remote);
        if let Some(outcome) = broke.filter(|_| !again) {
            self.reached = false;
            let event = Event::Broke(Arc::clone(self.to), outcome.clone());
            let _ = self.shared.events.send(event);
        } else if !self.reached && self.link.as_ref().is_some_and(|link| link.session.in_step()) {
            self.reached = true;
            let _ = self.shared.events.send(Event::Reached(Arc::clone(self.to)));
        }
    }

    pub(super) fn hang_up(&mut self) {
        if let Some(link) = self.link.take() {
            link.session.quit();
        }
    }
}
