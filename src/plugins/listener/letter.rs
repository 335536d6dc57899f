//! A message on its way from the wire into Pickup: leading block, `Received` (RFC 5321 §4.4), what the client sent.
//!
//! The client's own header block can add nobody: between our leading block and its first field stands our `Received`,
//! and what is sent is literal, whatever its periods. Writes: Pickup, through [`Inbox`]. Thread: the session's.

use super::client::Client;
use super::content::{Fed, Head, MAX_HEADER};
use super::reply::Reply;
use super::rules::Rules;
use crate::mail::{Envelope, MessageId, leading};
use crate::mailroot::DiskError;
use crate::mailroot::inbox::{Inbox, Incoming};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::io::{self, BufWriter, Write};
use tracing::warn;

/// Small messages are one write.
const BUFFER: usize = 64 * 1024;
/// After so many bytes it is looked again whether there is room.
const LOOK_AGAIN: u64 = 8 * 1024 * 1024;

/// See above.
pub(super) struct Letter<'h> {
    id: MessageId,
    file: BufWriter<Incoming<'h>>,
    /// Until the header block is over.
    head: Option<Head>,
    /// Of what the client sent.
    size: u64,
    limits: Limits,
    max_hops: usize,
    inbox: &'h Inbox,
    min_free: u64,
    /// All of its recipients are local.
    is_for_drop: bool,
    /// Of `size`, when it was last looked how much room there is.
    looked_at: u64,
}

/// How large it may be, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub message: u64,
    /// What is left of the session's.
    pub session: u64,
}

impl<'h> Letter<'h> {
    /// Begins with what we put on top.
    pub fn begin(
        inbox: &'h Inbox,
        rules: &Rules,
        client: &Client,
        utf8: bool,
        envelope: &Envelope,
        limits: Limits,
    ) -> Result<Self, Reply> {
        let id = MessageId::generate();
        let file = inbox.open().map_err(|error| disk(&error, error.source.kind()))?;
        let mut letter = Self {
            id,
            file: BufWriter::with_capacity(BUFFER, file),
            head: Some(Head::default()),
            size: 0,
            limits,
            max_hops: rules.max_hops,
            inbox,
            min_free: rules.listener.min_free,
            is_for_drop: envelope.recipients.iter().all(|to| rules.is_local(&to.address)),
            looked_at: 0,
        };
        let mut top = leading::write(envelope, Some("literal"));
        // The end was seen, whatever its boundaries say.
        top.extend_from_slice(leading::COMPLETE);
        top.extend_from_slice(received(id, rules, client, utf8).as_bytes());
        letter.write(&top)?;
        Ok(letter)
    }

    pub fn id(&self) -> MessageId {
        self.id
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next part. What is refused is refused for good.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), Reply> {
        self.size = self.size.saturating_add(bytes.len() as u64);
        if self.size > self.limits.message {
            return Err(Reply::new(
                552,
                "5.3.4",
                "Message size exceeds fixed maximum message size",
            ));
        }
        if self.size > self.limits.session {
            // In another session it may have its place.
            return Err(Reply::new(
                452,
                "4.3.4",
                "Session size exceeds fixed maximum session size",
            ));
        }
        if self.size - self.looked_at >= LOOK_AGAIN {
            self.looked_at = self.size;
            there_is_room(self.inbox, self.min_free, 0)?;
        }
        let Some(head) = &mut self.head else {
            return self.write(bytes);
        };
        match head.feed(bytes) {
            Fed::More => Ok(()),
            Fed::Over => {
                self.hops_are_few()?;
                let head = self.head.take().map(Head::into_bytes).unwrap_or_default();
                self.write(&head)
            }
            Fed::TooLarge => {
                let words = format!("The header block is larger than {MAX_HEADER} bytes");
                Err(Reply::new(552, "5.3.4", words))
            }
        }
    }

    /// Whether it is only for Drop.
    pub fn is_for_drop(&self) -> bool {
        self.is_for_drop
    }

    /// Returns when the message is in Pickup, and no power cut takes it away.
    pub fn publish(mut self) -> Result<(), Reply> {
        self.hops_are_few()?;
        if let Some(head) = self.head.take() {
            self.write(&head.finish())?;
        }
        let file = self.file.into_inner().map_err(|error| trouble(error.error()))?;
        file.publish(self.id)
            .map_err(|error| disk(&error, error.source.kind()))
    }

    fn hops_are_few(&self) -> Result<(), Reply> {
        match &self.head {
            Some(head) if head.hops() >= self.max_hops => Err(Reply::new(
                554,
                "5.4.6",
                "Too many hops: the message goes round in circles",
            )),
            _ => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Reply> {
        self.file.write_all(bytes).map_err(|error| trouble(&error))
    }
}

/// Whether so many bytes fit in beside what is to stay free; else the reply.
pub(super) fn there_is_room(inbox: &Inbox, min_free: u64, size: u64) -> Result<(), Reply> {
    match inbox.free() {
        Ok(free) if free >= min_free.saturating_add(size) => Ok(()),
        Ok(free) => {
            warn!(free, "too little room on the volume of Pickup: no mail is taken");
            Err(Reply::new(452, "4.3.1", "Insufficient system storage"))
        }
        Err(error) => {
            warn!(%error, "no mail is taken");
            Err(Reply::new(451, "4.3.0", "Pickup cannot be reached now"))
        }
    }
}

fn disk(error: &DiskError, kind: io::ErrorKind) -> Reply {
    warn!(%error, "a message could not be taken");
    refusal(kind)
}

fn trouble(error: &io::Error) -> Reply {
    warn!(%error, "a message could not be written");
    refusal(error.kind())
}

/// Nothing of the message is left; the client tries again.
fn refusal(kind: io::ErrorKind) -> Reply {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Reply::new(452, "4.3.1", "Insufficient system storage")
        }
        _ => Reply::new(451, "4.3.0", "The message could not be stored"),
    }
}

/// One field, folded.
fn received(id: MessageId, rules: &Rules, client: &Client, utf8: bool) -> String {
    let name = match client.name.as_str() {
        "" => "unknown",
        name => name,
    };
    let origin = client.origin(rules);
    let with = protocol(client, utf8);
    let tls = client
        .tls
        .as_ref()
        .map_or(String::new(), |tls| format!("\r\n\t({tls})"));
    let user = client.user.as_ref().filter(|_| rules.listener.received_user);
    let user = user.map_or(String::new(), |user| {
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '(' | ')' | '\\');
        let shown: String = user.chars().map(|c| if plain(c) { c } else { '?' }).collect();
        format!("\r\n\t(authenticated as {shown})")
    });
    let date = jiff::fmt::rfc2822::to_string(&Timestamp::now().to_zoned(TimeZone::UTC)).unwrap_or_default();
    format!(
        "Received: from {name} {origin}\r\n\tby {} with {with} id {id}{tls}{user};\r\n\t{date}\r\n",
        rules.hostname
    )
}

/// RFC 3848, RFC 6531 §4.3.
fn protocol(client: &Client, utf8: bool) -> String {
    if !client.extended {
        return "SMTP".to_owned();
    }
    let base = if utf8 { "UTF8SMTP" } else { "ESMTP" };
    let tls = if client.tls.is_some() { "S" } else { "" };
    let user = if client.user.is_some() { "A" } else { "" };
    format!("{base}{tls}{user}")
}
