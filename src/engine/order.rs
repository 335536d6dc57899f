//! What one transaction is made of: the envelope of the recipients that are asked for, and the message as this host can
//! take it.
//!
//! Reads: the record of a message in hand. Thread: session-n. Not here: the connection (session), the bytes (content).

use super::job::Part;
use super::settle;
use super::shared::{Settings, Shared, lock};
use crate::mail::{Address, EnhancedStatus, Outcome, Recipient, Ret};
use crate::smtp::Transaction;
use crate::smtp::content::{Abilities, Content};

/// See above. A copy: the record is not locked while a host answers.
pub struct Order {
    sender: Option<Address>,
    ret: Option<Ret>,
    envid: Option<String>,
    recipients: Vec<Recipient>,
}

impl Order {
    /// For these recipients of a message, if it may be sent now; the error is the outcome for all of them.
    pub fn of(
        shared: &Shared,
        part: &Part,
        pending: &[(usize, Option<Outcome>)],
        settings: &Settings,
    ) -> Result<Self, Outcome> {
        settle::may_send(shared, part)?;
        let record = &lock(&part.job.state).record;
        let recipients = pending
            .iter()
            .filter_map(|(index, _)| record.recipients.get(*index))
            .map(|entry| entry.recipient.clone())
            .collect();
        Ok(Self {
            sender: masqueraded(settings, record.sender.clone()),
            ret: record.ret,
            envid: record.envid.clone(),
            recipients,
        })
    }

    /// Hands transaction and content to `send`. The error is the outcome for all: the message cannot be read.
    pub fn send<T>(
        &self,
        shared: &Shared,
        part: &Part,
        can: Abilities,
        send: impl FnOnce(&Transaction<'_>, &Content<'_>) -> T,
    ) -> Result<T, Outcome> {
        let job = &*part.job;
        let layout = &job.submission.layout;
        let content = Content::plan(&job.source, layout, &job.stamps, can).map_err(|error| {
            let words = format!("the message cannot be read: {error}");
            Outcome::deferred(EnhancedStatus::new(4, 3, 0), words)
        })?;
        let recipients: Vec<&Recipient> = self.recipients.iter().collect();
        let before_record = || {
            let _ = settle::before_record(shared, job); // what cannot be done now is asked again with the record
        };
        let may_be_recorded = recipients.len() > 1 || settle::will_be_recorded(part);
        let transaction = Transaction {
            sender: self.sender.as_ref(),
            ret: self.ret,
            envid: self.envid.as_deref(),
            utf8: layout.eight_bit_header,
            recipients: &recipients,
            before_partial: may_be_recorded.then_some(&before_record as &dyn Fn()),
        };
        Ok(send(&transaction, &content))
    }
}

/// `delivery.masquerade_domain` replaces a local domain in MAIL FROM.
fn masqueraded(settings: &Settings, sender: Option<Address>) -> Option<Address> {
    let domain = &settings.config.delivery.masquerade_domain;
    let sender = sender?;
    if domain.is_empty() || !settings.routes.is_local(&sender) {
        return Some(sender);
    }
    Some(sender.at_domain(domain).unwrap_or(sender))
}
