//! Who a message is from and for: the leading block wins, the missing half comes from the headers (contract §4).

use super::malformed;
use super::read::ReadRules;
use super::submission::{Malformed, Origin};
use crate::mail::header::Field;
use crate::mail::leading::{Bad, Leading, Place, SenderLine, address_of};
use crate::mail::remarks::Remarks;
use crate::mail::{Address, Envelope, Recipient, mailbox};
use std::collections::HashSet;

/// A file may name so many recipients, duplicates folded: they are held in memory.
pub const MAX_RECIPIENTS: usize = 250_000;

/// An envelope and where each address comes from.
#[derive(Debug)]
pub(super) struct Addressed {
    pub envelope: Envelope,
    pub sender_origin: Origin,
    pub recipient_origins: Vec<Origin>,
}

/// `fields` are those after the leading block; `block` is what they were scanned from, as it is sent.
pub(super) fn addressed(
    leading: Leading,
    fields: &[Field<'_>],
    block: &[u8],
    rules: &ReadRules,
    remarks: &mut Remarks,
) -> Result<Addressed, Malformed> {
    let headers = Headers { fields, block, rules };
    let Leading {
        sender, receivers, ..
    } = leading;
    let (sender, sender_origin) = match sender {
        Some(line) => from_leading(line)?,
        None => headers.sender(remarks)?,
    };
    let mut gathered = Gathered::default();
    if receivers.is_empty() {
        headers.recipients(&mut gathered, remarks)?;
    } else {
        for line in receivers {
            gathered.take(line.place, line.address, |recipient| {
                recipient.notify = line.notify;
                recipient.orcpt = line.orcpt;
            })?;
        }
    }
    if !gathered.any_good {
        return Err(malformed::no_recipient(&gathered.bad, gathered.bad_count));
    }
    Ok(Addressed {
        envelope: Envelope {
            recipients: gathered.recipients,
            ..sender
        },
        sender_origin,
        recipient_origins: gathered.origins,
    })
}

/// The sender's half of an envelope.
fn from_leading(line: SenderLine) -> Result<(Envelope, Origin), Malformed> {
    match line.address {
        Ok(sender) => Ok((
            Envelope {
                sender,
                ret: line.ret,
                envid: line.envid,
                body: line.body,
                recipients: Vec::new(),
            },
            origin(line.place),
        )),
        Err(bad) => Err(malformed::no_sender(Some((line.place, bad)), false)),
    }
}

struct Headers<'a> {
    fields: &'a [Field<'a>],
    block: &'a [u8],
    rules: &'a ReadRules,
}

impl Headers<'_> {
    /// `Sender`, else the first mailbox of `From`, else the setting.
    fn sender(&self, remarks: &mut Remarks) -> Result<(Envelope, Origin), Malformed> {
        let half = |address, origin| {
            let sender = Some(address);
            Ok((
                Envelope {
                    sender,
                    ..Envelope::default()
                },
                origin,
            ))
        };
        let mut first_bad = None;
        for field in [["Sender"], ["From"]].iter().flat_map(|names| self.named(names)) {
            let Some((place, found)) = self.mailboxes(field).next() else {
                continue;
            };
            match found {
                Ok(Some(address)) => return half(address, origin(place)),
                Ok(None) => remarks.add(|| format!("line {}: {} names nobody", place.line, place.field)),
                Err(bad) => {
                    remarks.add(|| told_bad(&place, &bad));
                    first_bad.get_or_insert((place, bad));
                }
            }
        }
        match Address::parse(&self.rules.default_sender, &self.rules.default_domain) {
            Ok(address) => half(
                address,
                Origin {
                    field: "pickup.default_sender".to_owned(),
                    line: 0,
                },
            ),
            Err(_) => Err(malformed::no_sender(first_bad, self.block.is_empty())),
        }
    }

    /// All mailboxes of `To`, `Cc` and `Bcc`, in the order of the file.
    fn recipients(&self, gathered: &mut Gathered, remarks: &mut Remarks) -> Result<(), Malformed> {
        for field in self.named(&["To", "Cc", "Bcc"]) {
            for (place, found) in self.mailboxes(field) {
                match found.transpose() {
                    Some(address) => gathered.take(place, address, |_| {})?,
                    None => {
                        remarks.add(|| format!("line {}: <> in {} names nobody", place.line, place.field))
                    }
                }
            }
        }
        if let Some(field) = self.named(&["Resent-To", "Resent-Cc", "Resent-Bcc"]).next() {
            let name = field.shown_name();
            remarks.add(|| format!("line {}: {name} is not read; To, Cc and Bcc count", field.line));
        }
        Ok(())
    }

    fn named<'b>(&'b self, names: &'b [&str]) -> impl Iterator<Item = &'b Field<'b>> {
        self.fields
            .iter()
            .filter(|field| names.iter().any(|name| field.is(name)))
    }

    /// Each mailbox with its line; `Ok(None)` is `<>`.
    fn mailboxes<'b>(
        &'b self,
        field: &'b Field<'b>,
    ) -> impl Iterator<Item = (Place, Result<Option<Address>, Bad>)> + 'b {
        mailbox::list(field.value_in(self.block)).map(|mailbox| {
            let place = Place {
                field: field.shown_name(),
                line: field.line + mailbox.lines_down,
            };
            if mailbox.is_null() {
                return (place, Ok(None));
            }
            let found = address_of(&mailbox, &self.rules.default_domain);
            (place, found.map(Some))
        })
    }
}

/// Recipients with their origins, duplicates folded.
#[derive(Default)]
struct Gathered {
    recipients: Vec<Recipient>,
    origins: Vec<Origin>,
    seen: HashSet<Address>,
    any_good: bool,
    /// The first few that are no addresses.
    bad: Vec<(Place, Bad)>,
    bad_count: usize,
}

impl Gathered {
    /// So many bad ones are named in a report.
    const BAD_NAMED: usize = 10;

    /// One more; one that is no address is kept, to fail alone.
    fn take(
        &mut self,
        place: Place,
        found: Result<Address, Bad>,
        complete: impl FnOnce(&mut Recipient),
    ) -> Result<(), Malformed> {
        self.any_good |= found.is_ok();
        let address = found.unwrap_or_else(|bad| {
            let address = Address::unroutable(&bad.text);
            self.bad_count += 1;
            if self.bad.len() < Self::BAD_NAMED {
                self.bad.push((place.clone(), bad));
            }
            address
        });
        if !self.seen.insert(address.clone()) {
            return Ok(());
        }
        if self.recipients.len() == MAX_RECIPIENTS {
            return Err(malformed::too_many_recipients(MAX_RECIPIENTS));
        }
        let mut recipient = Recipient::plain(address);
        complete(&mut recipient);
        self.recipients.push(recipient);
        self.origins.push(origin(place));
        Ok(())
    }
}

fn told_bad(place: &Place, bad: &Bad) -> String {
    format!(
        "line {}: \"{}\" in {} is not an address, because {}",
        place.line, bad.text, place.field, bad.why
    )
}

fn origin(place: Place) -> Origin {
    Origin {
        field: place.field,
        line: place.line,
    }
}
