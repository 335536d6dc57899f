//! What cannot be delivered: a DSN to its sender, or the three files in Badmail (contract §3, arrows 5 and 6).
//!
//! Reads: the message, its transcripts. Writes: Queue (the DSN, a message of its own), Badmail. Thread: whichever
//! concludes the attempt.

use super::admit::{Admitted, admit};
use super::job::{Job, Source};
use super::settle::{Halt, persist};
use super::shared::{Settings, Shared, lock};
use super::tell;
use crate::badmail::{Case, Reason, bdp, bdr};
use crate::clock;
use crate::clock::Millis;
use crate::mail::id::Ulid;
use crate::mail::{Address, Envelope, MessageId, Outcome, ReadAt, Recipient, leading};
use crate::mailroot::{NodeName, Result as DiskResult, Shelf};
use crate::pickup::{Layout, Malformed};
use crate::queue::env::timestamp;
use crate::queue::record::{Owed, Record, ReportState};
use crate::queue::schedule;
use crate::report::{self, About, Kind};
use crate::smtp::content::{Abilities, Content};
use md5::{Digest, Md5};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use tracing::{error, warn};

/// Larger originals come back as headers only.
const MAX_RETURNED: u64 = 1024 * 1024;
/// Of each transcript, its last part stands in reports.
const TRANSCRIPT_SHOWN: usize = 256 * 1024;

/// Arrow 5: puts every DSN that the record owes, and one for the delays in `delayed`. The record was saved before.
/// Adds the reports, in hand, to those to be sent.
pub fn report(
    shared: &Shared,
    settings: &Settings,
    job: &Arc<Job>,
    delayed: &[usize],
    reports: &mut Vec<Arc<Job>>,
) -> Result<(), Halt> {
    for (owed, kind) in [
        (Owed::Failure, Kind::Failure),
        (Owed::Success, Kind::Success),
        (Owed::Relay, Kind::Relay),
    ] {
        let about = lock(&job.state).record.owed(owed);
        if !about.is_empty() {
            reports.extend(put_report(shared, settings, job, kind, &about)?);
            let mut state = lock(&job.state);
            for &index in &about {
                if let Some(entry) = state.record.recipients.get_mut(index) {
                    entry.report = ReportState::Done;
                }
            }
            state.version += 1;
        }
    }
    if !delayed.is_empty() {
        reports.extend(put_report(shared, settings, job, Kind::Delay, delayed)?);
        let mut state = lock(&job.state);
        for &index in delayed {
            if let Some(entry) = state.record.recipients.get_mut(index) {
                entry.delay_told = true;
            }
        }
        state.version += 1;
    }
    Ok(())
}

fn put_report(
    shared: &Shared,
    settings: &Settings,
    job: &Arc<Job>,
    kind: Kind,
    recipients: &[usize],
) -> Result<Option<Arc<Job>>, Halt> {
    let record = lock(&job.state).record.clone();
    let Some(sender) = record.sender.clone() else {
        return Ok(None);
    };
    let id = report_id(settings, &record, kind, recipients);
    if !shared.in_hand.enter(id.ulid) {
        return Ok(None);
    }
    let bytes = match compose(shared, settings, job, &record, &sender, kind, id, recipients) {
        Ok(bytes) => bytes,
        Err(error) => {
            warn!(id = %job.id, %error, "the original cannot be read for its report");
            shared.in_hand.leave(id.ulid);
            return Err(Halt::Stopped);
        }
    };
    let name = format!("{id}@{}.EML", shared.spool.node());
    let mut new = true;
    let mut nodes: Vec<NodeName> = lock(&shared.claimants).iter().cloned().collect();
    nodes.push(shared.spool.node().clone());
    let put = persist(shared, job, || {
        // A crash may have come between the report and its record: then it is there already.
        if shared.spool.is_in_queue(id, &nodes) {
            new = false;
            return Ok(());
        }
        shared
            .spool
            .put(Shelf::Queue, &name, &mut |file| file.write_all(&bytes))
    });
    if put.is_err() || !new {
        shared.in_hand.leave(id.ulid);
        return put.map(|()| None);
    }
    match admit(shared, settings, id, String::new(), None, false) {
        Admitted::Job(report) => {
            tell::report(job, kind.as_str(), id);
            Ok(Some(report))
        }
        _ => {
            shared.in_hand.leave(id.ulid); // the next scan takes it up
            Ok(None)
        }
    }
}

/// Named from parent, kind and recipients, so that the same report is the same message: after a crash it is found,
/// not sent twice. Its time is that of the event, which the record keeps.
fn report_id(settings: &Settings, record: &Record, kind: Kind, recipients: &[usize]) -> MessageId {
    let of = |index: &usize| record.recipients.get(*index);
    let event: Millis = match kind {
        Kind::Delay => {
            let notice = settings.config.delivery.schedule.delay_notice.as_millis();
            record
                .arrived
                .saturating_add(u64::try_from(notice).unwrap_or(0))
                .min(clock::now())
        }
        _ => recipients
            .iter()
            .filter_map(of)
            .filter_map(|r| r.last.as_ref())
            .map(|g| g.at)
            .max()
            .unwrap_or(0),
    };
    let addresses = recipients
        .iter()
        .filter_map(of)
        .map(|r| r.recipient.address.as_str());
    let parent = record.id.ulid.to_string();
    let digest = digest([parent.as_str(), kind.as_str()].into_iter().chain(addresses));
    MessageId {
        ulid: Ulid::from_parts(event, digest),
        life: 0,
    }
}

/// A short, stable name for a list of texts. A name, no protection: whoever could forge it can write anyway.
pub fn digest<'a>(texts: impl Iterator<Item = &'a str>) -> u128 {
    let mut hash = Md5::new();
    for text in texts {
        hash.update(text);
        hash.update([0]);
    }
    u128::from_be_bytes(hash.finalize().into())
}

#[allow(clippy::too_many_arguments)] // each is one fact of the report
fn compose(
    shared: &Shared,
    settings: &Settings,
    job: &Job,
    record: &Record,
    sender: &Address,
    kind: Kind,
    id: MessageId,
    recipients: &[usize],
) -> io::Result<Vec<u8>> {
    let config = &settings.config;
    let layout = &job.submission.layout;
    let can = Abilities {
        eight_bit: true,
        utf8_headers: true,
        max_line: 998,
    };
    let mut original = Vec::new();
    let header_only = Layout {
        body: layout.body.start..layout.body.start,
        ..layout.clone()
    };
    let whole = layout.wire_size <= MAX_RETURNED && kind == Kind::Failure;
    let shown = if whole { layout } else { &header_only };
    Content::plan(&job.source, shown, &job.stamps, can)?.write_plain(&mut original)?;
    let header_end = original
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .map_or(original.len(), |at| at + 2);
    let (ltr, rtr) = transcripts(shared, job);
    let transcript = format!("{rtr}{ltr}");
    let about = About {
        hostname: &config.server.hostname,
        postmaster: &config.reports.postmaster,
        to: sender,
        dsn_id: id,
        parent_id: job.id,
        pickup_file: &record.file,
        envid: record.envid.as_deref(),
        ret: record.ret,
        arrived: timestamp(record.arrived),
        now: timestamp(id.arrived_ms()),
        will_retry_until: (kind == Kind::Delay)
            .then(|| timestamp(schedule::expires(&config.delivery.schedule, record.arrived))),
        recipients: recipients
            .iter()
            .filter_map(|&index| record.recipients.get(index))
            .filter_map(|r| Some((&r.recipient, &r.last.as_ref()?.outcome)))
            .collect(),
        transcript: &transcript,
        original_header: original.get(..header_end).unwrap_or(&original),
        original_whole: whole.then_some(original.as_slice()),
        subject: None,
    };
    let mut to = vec![Recipient::plain(sender.clone())];
    if kind == Kind::Failure {
        to.extend(
            config
                .reports
                .copy_to
                .clone()
                .filter(|copy| copy != sender)
                .map(Recipient::plain),
        );
    }
    let envelope = Envelope {
        recipients: to,
        ..Envelope::default()
    };
    let mut bytes = leading::write(&envelope, Some("literal"));
    bytes.extend_from_slice(&report::dsn(kind, &about));
    Ok(bytes)
}

fn transcripts(shared: &Shared, job: &Job) -> (String, String) {
    let (mut ltr, mut rtr) = shared.spool.transcripts(job.id, TRANSCRIPT_SHOWN);
    let state = lock(&job.state);
    ltr.push_str(&state.ltr);
    rtr.push_str(&state.rtr);
    (ltr, rtr)
}

/// Arrow 6: once, when no recipient is open any more. `recipients`: whom nobody is told about.
pub fn bury(shared: &Shared, settings: &Settings, job: &Job, recipients: &[usize]) -> Result<(), Halt> {
    let (record, crash) = {
        let state = lock(&job.state);
        (state.record.clone(), state.record.crashes)
    };
    let (ltr, rtr) = transcripts(shared, job);
    let entries: Vec<_> = recipients
        .iter()
        .filter_map(|&index| record.recipients.get(index))
        .collect();
    let case = Case {
        id: job.id,
        pickup_file: &record.file,
        reason: reason(
            settings,
            job,
            &record,
            crash,
            &entries
                .iter()
                .map(|r| r.last.as_ref().map(|g| &g.outcome))
                .collect::<Vec<_>>(),
        ),
        sender: record.sender.as_ref().map(Address::as_str),
        recipients: entries
            .iter()
            .map(|r| {
                (
                    r.recipient.address.as_str().to_owned(),
                    r.last.as_ref().map(|g| &g.outcome),
                )
            })
            .collect(),
        arrived: timestamp(record.arrived),
        now: timestamp(clock::now()),
        attempts: entries
            .iter()
            .map(|r| r.tries.saturating_add(1))
            .max()
            .unwrap_or(0),
        message_id: Some(job.internet_message_id()),
        ltr: &ltr,
        rtr: &rtr,
    };
    let envelope = Envelope {
        sender: record.sender.clone(),
        ret: record.ret,
        envid: record.envid.clone(),
        body: record.body,
        recipients: entries.iter().map(|r| r.recipient.clone()).collect(),
    };
    let layout = &job.submission.layout;
    let dots = layout
        .dots_said
        .then_some(if layout.dots.stuffed { "stuffed" } else { "literal" });
    let rest = layout.leading.end..job.source.len();
    let mut beginning = [0; 256];
    let read = job.source.read_at(&mut beginning, rest.start);
    // what cannot be read now is kept apart in any case
    let header = read.map_or(b"?".as_slice(), |n| beginning.get(..n).unwrap_or_default());
    let top = leading::write_above(header, &envelope, dots);
    persist(shared, job, || {
        put_three(shared, &case, &top, &job.source, rest.clone())
    })?;
    shared.count_badmail();
    tell::buried(job.id, &record.file, case.reason.rule());
    Ok(())
}

fn reason<'a>(
    settings: &Settings,
    job: &Job,
    record: &Record,
    crashes: u32,
    outcomes: &[Option<&Outcome>],
) -> Reason<'a> {
    let status = |class, subject, detail| {
        !outcomes.is_empty()
            && outcomes.iter().all(|o| {
                o.is_some_and(|o| {
                    (o.status.class, o.status.subject, o.status.detail) == (class, subject, detail)
                })
            })
    };
    let config = &settings.config;
    if crashes >= 2 {
        Reason::TwiceCrashed {
            why: "an internal error; the log has its words",
        }
    } else if record.sender.is_none() && record.file.is_empty() {
        Reason::DsnUndeliverable
    } else if status(4, 4, 7) {
        Reason::Expired {
            after: config.delivery.schedule.expire,
        }
    } else if job.submission.hops > config.messages.max_hops {
        Reason::HopCount {
            hops: job.submission.hops,
            limit: config.messages.max_hops,
        }
    } else if record.sender.is_none() {
        Reason::NullSender
    } else {
        Reason::ReportRefused
    }
}

/// Buries a file that was never understood, byte for byte. It is claimed and in hand; afterwards it is neither.
/// `why`: `Ok` a malformed file, `Err` a damaged ENV.
pub fn bury_unread(
    shared: &Shared,
    id: MessageId,
    file: &str,
    source: &Source,
    why: Result<&Malformed, &str>,
    ltr: &str,
) -> DiskResult<()> {
    let (reason, sender) = match why {
        Ok(malformed) => (Reason::Malformed(malformed), Some("")),
        Err(why) => (Reason::EnvDamaged { why }, Some("")),
    };
    let (old_ltr, rtr) = shared.spool.transcripts(id, TRANSCRIPT_SHOWN);
    let case = Case {
        id,
        pickup_file: file,
        reason,
        sender,
        recipients: Vec::new(),
        arrived: timestamp(id.arrived_ms()),
        now: timestamp(clock::now()),
        attempts: 0,
        message_id: None,
        ltr: &format!("{old_ltr}{ltr}"),
        rtr: &rtr,
    };
    put_three(shared, &case, b"", source, 0..source.len())?;
    shared.count_badmail();
    tell::buried(id, file, case.reason.rule());
    match shared.spool.remove(id) {
        Ok(true) => shared.note_removed(id, true),
        Ok(false) => {}
        Err(error) => {
            error!(%id, %error, "it lies in Badmail and in Queue; the next start buries it again under the same name");
            return Err(error);
        }
    }
    Ok(())
}

/// `.BDR` and `.BDP` first, `.BAD` last: who sees the message sees its reason. A repeat replaces itself.
fn put_three(
    shared: &Shared,
    case: &Case<'_>,
    top: &[u8],
    source: &Source,
    rest: Range<u64>,
) -> DiskResult<()> {
    let stem = case.id.ulid;
    let spool = &shared.spool;
    let reason = bdr(case);
    let properties = bdp(case);
    spool.put(Shelf::Badmail, &format!("{stem}.BDR"), &mut |file| {
        file.write_all(&reason)
    })?;
    spool.put(Shelf::Badmail, &format!("{stem}.BDP"), &mut |file| {
        file.write_all(&properties)
    })?;
    spool.put(Shelf::Badmail, &format!("{stem}.BAD"), &mut |file| {
        file.write_all(top)?;
        copy_range(source, rest.clone(), file)
    })
}

fn copy_range(source: &dyn ReadAt, range: Range<u64>, to: &mut File) -> io::Result<()> {
    let mut block = vec![0; 64 * 1024];
    let mut at = range.start;
    while at < range.end {
        let want = usize::try_from(range.end - at).map_or(block.len(), |left| left.min(block.len()));
        let n = source.read_at(block.get_mut(..want).unwrap_or_default(), at)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all(block.get(..n).unwrap_or_default())?;
        at += n as u64;
    }
    Ok(())
}
