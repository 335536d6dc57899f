//! Doors for the fuzzing targets (`tests/fuzz_targets/`): the reply codec and the commands are private to this module,
//! and hostile hosts and hostile envelopes reach exactly them. Compiled for tests and for the fuzzing crate
//! (`tests/fuzz`, which is built with `--cfg fuzzing`) only; no build of the program has it.
//!
//! Pure. Not here: what must hold (that is in the targets).

use super::body::{Body, Outlet, Transaction};
use super::commands;
use super::offers::Offers;
use super::reply::Decoder;
use super::verdict::{Stage, judge};
use crate::mail::{Address, EnhancedStatus, Envelope, Outcome, Recipient};
use std::io;

/// One reply, and all that is made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Three digits.
    pub code: u16,
    /// The lines as they stand in a transcript.
    pub lines: Vec<String>,
    /// As it stands in an outcome.
    pub one_line: String,
    /// RFC 2034
    pub status: Option<EnhancedStatus>,
    /// What follows from it at each stage.
    pub outcomes: Vec<Outcome>,
    /// What it offers, should it answer EHLO.
    pub offers: Offers,
    /// The same with this secret blotted out.
    pub blotted: String,
}

/// The secret of [`Heard::blotted`].
pub const SECRET: &str = "hunter2";

/// What a host said that never waits: its replies, then why it was no reply, if it was none. The codec gets at most
/// `step` bytes at a time.
pub fn replies(said: &[u8], step: usize) -> (Vec<Heard>, Option<String>) {
    let (mut decoder, mut heard) = (Decoder::default(), Vec::new());
    let mut rest = said;
    while !rest.is_empty() {
        let piece = rest.get(..step.clamp(1, rest.len())).unwrap_or(rest);
        match decoder.feed(piece) {
            Err(not_a_reply) => return (heard, Some(not_a_reply.why)),
            Ok((used, reply)) => {
                rest = rest.get(used..).unwrap_or_default();
                heard.extend(reply.map(|reply| {
                    Heard {
                        code: reply.code,
                        lines: reply.raw_lines().map(str::to_owned).collect(),
                        one_line: reply.one_line(),
                        status: reply.enhanced(),
                        outcomes: [Stage::Opening, Stage::Mail, Stage::Recipient, Stage::Content]
                            .map(|stage| judge(stage, &reply, "host.example[192.0.2.1]:25"))
                            .to_vec(),
                        offers: Offers::read(&reply),
                        blotted: reply.without(&[SECRET]).one_line(),
                    }
                }));
            }
        }
    }
    (heard, None)
}

struct NoBody;

impl Body for NoBody {
    fn size(&self) -> u64 {
        42
    }

    fn needs_eight_bit(&self) -> bool {
        true
    }

    fn write_data(&self, _: &mut dyn Outlet) -> io::Result<()> {
        Ok(())
    }

    fn write_plain(&self, _: &mut dyn Outlet) -> io::Result<()> {
        Ok(())
    }
}

/// The commands of a transaction, without their line ends, for a host that offers everything, or everything but
/// SMTPUTF8. An address that cannot go there has none.
pub fn commands(envelope: &Envelope, smtputf8: bool) -> Vec<String> {
    let offers = Offers {
        extended: true,
        eight_bit: true,
        size: true,
        dsn: true,
        smtputf8,
        ..Offers::default()
    };
    let transaction = Transaction {
        sender: envelope.sender.as_ref(),
        ret: envelope.ret,
        envid: envelope.envid.as_deref(),
        utf8: smtputf8,
        recipients: &[],
        before_partial: None,
    };
    let wire = |address: &Address| commands::wire_form(address, &offers).map(|a| a.into_owned()).ok();
    let mut lines = Vec::new();
    if let Some(sender) = envelope.sender.as_ref().map_or(Some(String::new()), wire) {
        let sender = Some(sender.as_str());
        lines.push(commands::mail(sender, &transaction, &NoBody, smtputf8, &offers));
    }
    let rcpt = |recipient: &Recipient| {
        let mut line = String::new();
        commands::rcpt(&mut line, &wire(&recipient.address)?, recipient, &offers);
        Some(line)
    };
    lines.extend(envelope.recipients.iter().filter_map(rcpt));
    lines
}
