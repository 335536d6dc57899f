//! Ways into this module for the fuzzing targets and their seeds.

use super::command::{self, Command};
use super::content::{Fed, Head, Undotter};
use crate::mail::{Envelope, Recipient};

/// What DATA makes of these bytes when they come in pieces: the content, and how much of them it took; `None`: they
/// hold no end.
pub fn data(bytes: &[u8], piece: usize) -> Option<(Vec<u8>, usize)> {
    let (mut undotter, mut content) = (Undotter::new(), Vec::new());
    let (mut from, mut to) = (0, 0);
    loop {
        let input = bytes.get(from..to)?;
        let taken = undotter.take(input, |run| content.extend_from_slice(run));
        from += taken.used;
        if taken.ended {
            return Some((content, from));
        }
        if to == bytes.len() {
            return None;
        }
        to = bytes.len().min(to + piece.max(1));
    }
}

/// The message that content comes to, in pieces; `None`: it is refused.
pub fn message(content: &[u8], piece: usize) -> Option<Vec<u8>> {
    let mut head = Head::default();
    let mut pieces = content.chunks(piece.max(1));
    for one in pieces.by_ref() {
        match head.feed(one) {
            Fed::More => {}
            Fed::Over => {
                let mut message = head.into_bytes();
                pieces.for_each(|rest| message.extend_from_slice(rest));
                return Some(message);
            }
            Fed::TooLarge => return None,
        }
    }
    Some(head.finish())
}

/// The envelope that command lines come to; lines that are refused are left out.
pub fn envelope(lines: &[u8]) -> Option<Envelope> {
    let mut envelope: Option<Envelope> = None;
    for line in lines.split(|byte| *byte == b'\n') {
        match (command::parse(line, "default.test"), &mut envelope) {
            (Ok(Command::Mail(mail)), None) => {
                envelope = Some(Envelope {
                    sender: mail.sender,
                    ret: mail.ret,
                    envid: mail.envid,
                    body: mail.body,
                    recipients: Vec::new(),
                });
            }
            (Ok(Command::Rcpt(rcpt)), Some(envelope)) => envelope.recipients.push(Recipient {
                address: rcpt.address,
                notify: rcpt.notify,
                orcpt: rcpt.orcpt,
            }),
            (Err(reply), _) => {
                let mut said = Vec::new();
                reply.write(&mut said);
                assert!(said.ends_with(b"\r\n") && said.iter().filter(|b| **b < b' ').count() == 2);
            }
            _ => {}
        }
    }
    envelope.filter(|envelope| !envelope.recipients.is_empty())
}
