//! What cannot be delivered: a DSN to its sender, or the three files in Badmail (contract §3, arrows 5 and 6).
//!
//! Reads: the message, its transcripts. Writes: Queue (the DSN, a message of its own), Badmail. Thread: whichever
//! concludes the attempt.

use super::admit::{Admitted, Origin, admit};
use super::job::{Job, Source};
use super::settle::{Halt, MAX_CRASHES, step};
use super::shared::{Settings, Shared, lock};
use super::{burial, tell, waiting};
use crate::badmail::{Case, Reason, bdp, bdr};
use crate::clock;
use crate::clock::Millis;
use crate::mail::id::Ulid;
use crate::mail::{Address, Envelope, MessageId, Outcome, ReadAt, Recipient, leading};
use crate::mailroot::spool::ClaimState;
use crate::mailroot::{DiskError, Result as DiskResult, Shelf};
use crate::pickup::Layout;
use crate::queue::env::{self, timestamp};
use crate::queue::record::{Owed, Record};
use crate::queue::schedule;
use crate::report::{self, About, Kind};
use crate::smtp::content::{Abilities, Content};
use md5::{Digest, Md5};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::Arc;
use tracing::{debug, error};

/// Larger originals come back as headers only.
const MAX_RETURNED: u64 = 1024 * 1024;
/// Of each transcript, its last part stands in reports.
const TRANSCRIPT_SHOWN: usize = 256 * 1024;

/// Arrow 5: puts every DSN that the record owes, each a message of its own in the parent's hand. The record was saved
/// before.
pub fn report(shared: &Shared, settings: &Settings, job: &Arc<Job>) -> Result<(), Halt> {
    believe_the_former_owner(shared, job)?;
    for (owed, kind) in [
        (Owed::Failure, Kind::Failure),
        (Owed::Success, Kind::Success),
        (Owed::Relay, Kind::Relay),
        (Owed::Delay, Kind::Delay),
    ] {
        let about = lock(&job.state).record.owed(owed);
        if !about.is_empty() {
            let report = put_report(shared, settings, job, kind, &about)?;
            let mut state = lock(&job.state);
            state.reports.extend(report);
            state.record.note_reported(owed, &about);
            state.version += 1;
        }
    }
    Ok(())
}

/// A former owner that was frozen may have recorded "reported" after we read its record, and with that let its report
/// go. Our own record stands now, so no later word of his lets anything go: one more look is enough.
fn believe_the_former_owner(shared: &Shared, job: &Job) -> Result<(), Halt> {
    let Some(life) = job.id.life.checked_sub(1).filter(|_| job.owed_before) else {
        return Ok(());
    };
    let former = MessageId { life, ..job.id };
    let Some(bytes) = step(shared, job, || shared.spool.read_env(former))? else {
        return Ok(());
    };
    if let Ok(former) = waiting::parse(&bytes, former) {
        let mut state = lock(&job.state);
        if state.record.believe_reported(&former) {
            state.version += 1;
        }
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
    let id = report_id(&record, kind, recipients);
    // A crash may have come between the report and its record: then it is there already, and has not left (keeper). Its
    // own record is a sign of it too: a listing can miss a file that is being renamed.
    let may_be_there = job.owed_before || std::mem::replace(&mut lock(&job.state).report_tried, true);
    let is_there = may_be_there
        && step(shared, job, || {
            let there = shared.spool.messages(|ulid| ulid == id.ulid)?;
            Ok(!there.is_empty() || shared.spool.newest_env(id.ulid)?.is_some())
        })?;
    if is_there || !shared.in_hand.enter(id.ulid) {
        return Ok(None);
    }
    let put = compose(shared, settings, job, &record, &sender, kind, id, recipients)
        .map_err(|error| Halt::Trouble(Some(DiskError::when("read", &shared.spool.taken(job.id))(error))))
        .and_then(|bytes| {
            let name = format!("{id}@{}.EML", shared.spool.node());
            step(shared, job, || {
                shared
                    .spool
                    .put(Shelf::Queue, &name, &mut |file| file.write_all(&bytes))
            })
        });
    if let Err(halt) = put {
        shared.in_hand.leave(id.ulid);
        return Err(halt);
    }
    match admit(shared, settings, id, String::new(), None, Origin::OwnReport) {
        Admitted::Job(report) => {
            tell::report(job, kind.as_str(), id);
            Ok(Some(report))
        }
        Admitted::Unread(unread) => {
            burial::bury(shared, &unread);
            Ok(None)
        }
        _ => {
            shared.in_hand.leave(id.ulid); // the next scan takes it up
            Ok(None)
        }
    }
}

/// The parent is not ours any more: whoever has it looks whether its reports are there, so they must not leave before.
pub fn let_go_of_reports(shared: &Shared, job: &Job) {
    let reports = std::mem::take(&mut lock(&job.state).reports);
    for report in reports {
        if let Err(error) = shared.spool.release(report.id) {
            debug!(id = %report.id, %error, "taken up by the next scan");
        }
        shared.in_hand.leave(report.id.ulid);
    }
}

/// The message that this one reports on, if it is a report of ours: its ENVID names it.
pub fn parent_of(sender: Option<&Address>, envid: Option<&str>) -> Option<Ulid> {
    match (sender, envid) {
        (None, Some(envid)) => envid.parse::<MessageId>().ok().map(|id| id.ulid),
        _ => None,
    }
}

/// Whether a report must not leave yet: the message that it is about still owes it. After a crash both are taken up by
/// whoever comes first, and a report that had left would be made a second time.
pub fn is_still_owed(shared: &Shared, parent: Ulid) -> DiskResult<bool> {
    // Judged by the record alone: it is never renamed, so no look can miss it.
    let record = shared.spool.newest_env(parent)?;
    let record = record
        .as_deref()
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .and_then(|text| env::read(text).ok());
    Ok(record.is_some_and(|record| record.owes()))
}

/// Named from parent, kind and recipients, so that the same report is the same message: after a crash it is found,
/// not sent twice. Its time is that of the event, which the record keeps.
fn report_id(record: &Record, kind: Kind, recipients: &[usize]) -> MessageId {
    let of = |index: &usize| record.recipients.get(*index);
    let event: Millis = recipients
        .iter()
        .filter_map(of)
        .filter_map(|r| r.last.as_ref())
        .map(|given| given.at)
        .max()
        .unwrap_or(0);
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
        envid: Some(job.id.ulid.to_string()), // see `parent_of`
        ..Envelope::default()
    };
    let mut bytes = leading::write(&envelope, Some("literal"));
    bytes.extend_from_slice(&report::dsn(kind, &about));
    Ok(bytes)
}

fn transcripts(shared: &Shared, job: &Job) -> (String, String) {
    let (mut ltr, mut rtr) = shared.spool.transcripts(job.id, TRANSCRIPT_SHOWN);
    let mut state = lock(&job.state);
    state.open_ltr(&job.submission);
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
    let top = leading::write_above(header, &envelope, dots, layout.complete_said);
    for part in Three::IN_ORDER {
        step(shared, job, || {
            put_one(shared, part, &case, &top, &job.source, rest.clone())
        })?;
    }
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
    if crashes >= MAX_CRASHES {
        Reason::TwiceCrashed {
            why: "an internal error; the log has its words",
        }
    } else if parent_of(record.sender.as_ref(), record.envid.as_deref()).is_some() {
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
pub fn bury_unread(
    shared: &Shared,
    id: MessageId,
    file: &str,
    source: &Source,
    reason: Reason<'_>,
    ltr: &str,
) -> DiskResult<()> {
    let (old_ltr, rtr) = shared.spool.transcripts(id, TRANSCRIPT_SHOWN);
    let case = Case {
        id,
        pickup_file: file,
        reason,
        sender: Some(""),
        recipients: Vec::new(),
        arrived: timestamp(id.arrived_ms()),
        now: timestamp(clock::now()),
        attempts: 0,
        message_id: None,
        ltr: &format!("{old_ltr}{ltr}"),
        rtr: &rtr,
    };
    // Else a power cut could bring its former name back, to be buried under another ID.
    shared.spool.sync_queue()?;
    for part in Three::IN_ORDER {
        if shared.spool.claim_state(id) == ClaimState::Gone {
            return Ok(()); // whoever has it now buries it
        }
        put_one(shared, part, &case, b"", source, 0..source.len())?;
    }
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

/// The files of a message in Badmail.
#[derive(Clone, Copy)]
enum Three {
    Reason,
    Properties,
    Message,
}

impl Three {
    /// `.BAD` last: who sees the message sees its reason.
    const IN_ORDER: [Self; 3] = [Self::Reason, Self::Properties, Self::Message];
}

/// Puts one of them. A repeat replaces itself.
fn put_one(
    shared: &Shared,
    part: Three,
    case: &Case<'_>,
    top: &[u8],
    source: &Source,
    rest: Range<u64>,
) -> DiskResult<()> {
    let (extension, text) = match part {
        Three::Reason => ("BDR", bdr(case)),
        Three::Properties => ("BDP", bdp(case)),
        Three::Message => ("BAD", top.to_vec()),
    };
    let name = format!("{}.{extension}", case.id.ulid);
    shared.spool.put(Shelf::Badmail, &name, &mut |file| {
        file.write_all(&text)?;
        match part {
            Three::Message => copy_range(source, rest.clone(), file),
            Three::Reason | Three::Properties => Ok(()),
        }
    })
}

/// What nobody wrote takes no place in the copy either.
fn copy_range(source: &Source, range: Range<u64>, to: &mut File) -> io::Result<()> {
    let mut block = vec![0; 64 * 1024];
    let mut at = range.start;
    let before = to.stream_position()?;
    while at < range.end {
        let written = source.next_written(at);
        // the last byte is written: it makes the file as long as it is
        let written = written.min(range.end - 1);
        if written > at {
            at = written;
            to.seek(SeekFrom::Start(before + (at - range.start)))?;
            continue;
        }
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
