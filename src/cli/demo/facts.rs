//! What became of each file: found in the tree, in its log, and at the host; then held against what was expected.

use super::events::{self, Event};
use super::ground::Ground;
use super::samples::Sample;
use crate::mail::MessageId;
use crate::mailroot::names::QueueName;
use crate::practice::Accepted;
use crate::queue::env;
use crate::queue::record::{Record, State};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A message that waits longer than this rests.
const SOON: u64 = 60_000;

/// Everything.
pub struct Facts<'a> {
    /// In the order of the samples.
    pub fates: Vec<Fate<'a>>,
    /// What mailroot did against SMTP, as the host saw it.
    pub violations: Vec<String>,
}

/// What became of one file.
pub struct Fate<'a> {
    /// The file.
    pub sample: &'a Sample,
    /// The line of the log that tells of its arrival; without one it was not taken.
    taken: Option<Event>,
    /// Each "not now", in order.
    pub deferred: Vec<Event>,
    /// What the host received of it.
    pub accepted: Vec<Arc<Accepted>>,
    /// Its files in Drop.
    pub dropped: Vec<PathBuf>,
    /// Reports on it in Drop.
    pub reports: Vec<PathBuf>,
    /// Its `.BDR`.
    pub badmail: Option<PathBuf>,
    /// Its message file in Queue and what its `.ENV` says.
    pub queued: Option<(PathBuf, Record)>,
}

impl Fate<'_> {
    /// `none`, `literal`, `stuffed`, maybe with `end marker`: how leading periods were judged.
    pub fn dots(&self) -> &str {
        self.taken.as_ref().map_or("", |event| event.get("dots"))
    }
}

impl<'a> Facts<'a> {
    /// Looks at everything once; the engine has ended.
    pub fn gather(ground: &Ground, samples: &'a [Sample]) -> io::Result<Self> {
        let mut log = events::read(&ground.dir.join("Logs"))?;
        let accepted = ground.internet.accepted();
        let drop = list(&ground.dir.join("Drop"))?;
        let mut fates = Vec::new();
        for sample in samples {
            fates.push(Self::fate(ground, sample, &mut log, &accepted, &drop)?);
        }
        Ok(Self {
            fates,
            violations: ground.internet.violations(),
        })
    }

    fn fate(
        ground: &Ground,
        sample: &'a Sample,
        log: &mut Vec<Event>,
        accepted: &[Arc<Accepted>],
        drop: &[PathBuf],
    ) -> io::Result<Fate<'a>> {
        let mut of = |what: &str, key: &str, value: &str| -> Vec<Event> {
            log.extract_if(.., |event| event.message == what && event.get(key) == value)
                .collect()
        };
        let taken = of("taken", "file", sample.name).pop();
        let id = taken.as_ref().map_or("", |event| event.get("id")).to_owned();
        let reports = of("reported to the sender", "id", &id);
        let in_drop = |id: &str| -> Vec<PathBuf> {
            drop.iter()
                .filter(|path| !id.is_empty() && name(path).starts_with(id))
                .cloned()
                .collect()
        };
        let badmail = ground.dir.join("Badmail").join(format!("{id}.BDR"));
        Ok(Fate {
            sample,
            deferred: of("deferred", "id", &id),
            accepted: accepted
                .iter()
                .filter(|message| carries(message, &id))
                .cloned()
                .collect(),
            dropped: in_drop(&id),
            reports: reports
                .iter()
                .flat_map(|event| in_drop(event.get("report")))
                .collect(),
            badmail: badmail.exists().then_some(badmail),
            queued: queued(&ground.dir.join("Queue"), &id)?,
            taken,
        })
    }

    /// One sentence for each thing that is not as it should be.
    pub fn differences(&self, rested: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        if !rested {
            wrong.push("something was still under way when the demo had to end".to_owned());
        }
        for fate in &self.fates {
            fate.compare(&mut |what: String| wrong.push(format!("{}: {what}", fate.sample.name)));
        }
        wrong.extend(
            self.violations
                .iter()
                .map(|what| format!("the SMTP host complained: {what}")),
        );
        wrong
    }
}

impl Fate<'_> {
    fn compare(&self, wrong: &mut dyn FnMut(String)) {
        let expected = &self.sample.expected;
        if self.taken.is_none() {
            return wrong("it was not taken from Pickup".to_owned());
        }
        let mut sent: Vec<_> = self
            .accepted
            .iter()
            .flat_map(|message| &message.recipients)
            .collect();
        sent.sort_by(|a, b| a.address.cmp(&b.address));
        if !sent
            .iter()
            .map(|to| to.address.as_str())
            .eq(expected.sent_to.iter().copied())
        {
            wrong(format!(
                "the SMTP host has it for {:?} instead of {:?}",
                addresses(&sent),
                expected.sent_to
            ));
        }
        let dropped: Vec<u8> = self
            .dropped
            .iter()
            .flat_map(|path| std::fs::read(path).unwrap_or_default())
            .collect();
        let dropped = String::from_utf8_lossy(&dropped);
        for to in expected.dropped_for {
            if !dropped.contains(&format!("x-receiver: <{to}>")) {
                wrong(format!("there is no file for {to} in Drop"));
            }
        }
        let mut whether = |is: bool, should: bool, what: &str| match (is, should) {
            (false, true) => wrong(format!("it should have {what}, and has not")),
            (true, false) => wrong(format!("it has {what}, and should not have")),
            _ => {}
        };
        whether(
            !self.dropped.is_empty(),
            !expected.dropped_for.is_empty(),
            "a file in Drop",
        );
        whether(
            !self.deferred.is_empty(),
            expected.deferred,
            "been put off by the host",
        );
        whether(self.queued.is_some(), expected.waits, "stayed in Queue");
        whether(
            !self.reports.is_empty(),
            expected.returned,
            "been reported to its sender",
        );
        whether(self.badmail.is_some(), expected.badmail, "gone to Badmail");
    }
}

fn addresses<'t>(recipients: &[&'t crate::practice::AcceptedRecipient]) -> Vec<&'t str> {
    recipients.iter().map(|to| to.address.as_str()).collect()
}

/// Our `Received` field names the message.
fn carries(message: &Accepted, id: &str) -> bool {
    let mark = format!("mailroot id {id};");
    !id.is_empty() && memchr::memmem::find(&message.content, mark.as_bytes()).is_some()
}

fn queued(queue: &Path, id: &str) -> io::Result<Option<(PathBuf, Record)>> {
    let message = queue.join(format!("{id}.EML"));
    if id.is_empty() || !message.exists() {
        return Ok(None);
    }
    let record = record(queue, id)?;
    Ok(record.map(|record| (message, record)))
}

fn record(queue: &Path, id: &str) -> io::Result<Option<Record>> {
    match std::fs::read_to_string(queue.join(format!("{id}.ENV"))) {
        Ok(text) => Ok(env::read(&text).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether all is done, or waits for a while: Pickup is empty, and in Queue lies nothing but messages with a date.
pub fn is_at_rest(dir: &Path) -> bool {
    let queue = dir.join("Queue");
    let now = crate::clock::now();
    let (Ok(pickup), Ok(names)) = (list(&dir.join("Pickup")), list(&queue)) else {
        return false;
    };
    let waiting = |id: MessageId| {
        let record = record(&queue, &id.to_string()).ok().flatten();
        record.is_some_and(|record| {
            let mut open = record
                .recipients
                .iter()
                .filter(|to| to.state == State::Open)
                .peekable();
            open.peek().is_some() && open.all(|to| to.next > now + SOON)
        })
    };
    let names: Vec<_> = names
        .iter()
        .map(|path| QueueName::parse(&OsString::from(name(path))))
        .collect();
    let here = |id: MessageId| names.contains(&Some(QueueName::Waiting(id)));
    pickup.is_empty()
        && names.iter().all(|name| match name {
            Some(QueueName::Waiting(id)) => waiting(*id),
            Some(QueueName::Env(id) | QueueName::LocalTranscript(id) | QueueName::RemoteTranscript(id)) => {
                here(*id)
            }
            _ => false,
        })
}

/// The files of a folder, by name.
pub fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The last part of a path.
pub fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
