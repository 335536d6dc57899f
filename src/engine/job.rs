//! A message in hand: its claim, its bytes, what it says, and the record of what became of it.

use super::hold::Held;
use super::shared::{Settings, Shared, lock};
use super::tell;
use crate::clock::{self, Millis};
use crate::mail::id::Ulid;
use crate::mail::{MessageId, Outcome, ReadAt};
use crate::mailroot::hanging::asking;
use crate::mailroot::spool::ClaimState;
use crate::pickup::Submission;
use crate::pickup::read::{ReadRules, Reading};
use crate::queue::env;
use crate::queue::record::Record;
use crate::route::Destination;
use crate::smtp::content::{Stamps, stamps};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Messages up to this many bytes are kept in memory from the claim on …
pub const SMALL: u64 = 64 * 1024;
/// … and up to this many while there is room for them; larger ones are read as they are sent.
const MEDIUM: u64 = 256 * 1024;

/// One claimed message. Shared by the parts of its attempt; dropped when it is released or removed.
pub struct Job {
    /// Who it is.
    pub id: MessageId,
    /// Its bytes.
    pub source: Source,
    /// What they say. The envelope in it is as the file has it; the truth per recipient is in `state.record`.
    pub submission: Submission,
    /// Header fields that are added, the same at every attempt.
    pub stamps: Stamps,
    /// The heartbeat epoch it was claimed in: an owner that missed its own heartbeat has lost it.
    pub epoch: u64,
    /// What was held had been set free so many times ([`Shared::free_held`]) when it was taken up.
    pub generation: u64,
    /// An operator touched it: every open recipient is tried, whatever the schedule says.
    pub forced: bool,
    /// A DSN was due when it was taken up: whoever had it before may have put that one.
    pub owed_before: bool,
    /// Parts of the present attempt that are not settled.
    pub parts_left: AtomicUsize,
    /// What changes.
    pub state: Mutex<JobState>,
    /// What of it is on the disk; held while that is changed.
    pub saved: Mutex<Saved>,
}

/// What is on the disk.
#[derive(Default)]
pub struct Saved {
    /// The version of the record that ENV holds.
    pub version: u64,
    /// The message file was released or removed: nothing more is written for this claim.
    pub ended: bool,
}

/// What changes while a message is in hand.
pub struct JobState {
    /// The truth per recipient.
    pub record: Record,
    /// Grows with each change of `record`.
    pub version: u64,
    /// Recipients tried in this attempt and by which means.
    pub tried: Vec<(usize, Means)>,
    /// It was taken from Pickup just now: LTR begins with that.
    pub taken: Option<Taken>,
    /// Lines for LTR and RTR, not yet written.
    pub ltr: String,
    /// See `ltr`.
    pub rtr: String,
    /// ENV or transcripts of this message may be on the disk.
    pub has_remains: bool,
    /// The message file has been synced.
    pub durable: bool,
    /// Syncing the message file failed: its pages may pass for clean and be lost all the same.
    pub doubtful: bool,
    /// An outcome that is final could not be recorded yet: nothing more is sent until it is.
    pub unsaved: bool,
    /// It waits for room in Badmail, not for the time.
    pub awaits_badmail: bool,
    /// When it was looked who of its recipients goes.
    pub planned: Millis,
    /// A recipient's domain was on hold then.
    pub on_hold: bool,
    /// It lies in Badmail: only its removal is left.
    pub buried: bool,
    /// A DSN of it may lie in Queue though its put reported an error.
    pub report_tried: bool,
    /// Its DSNs, put and in hand. They go when what follows from them stands on the disk.
    pub reports: Vec<Arc<Job>>,
    /// Not to be taken up again before this time: its destination is slow and others need the room.
    pub parked: Millis,
    /// It is called earlier when one of these moves.
    pub put_off_for: Vec<Arc<Destination>>,
}

/// How a message came here.
pub struct Taken {
    /// When.
    pub at: Millis,
    /// Why we think that it was whole.
    pub evidence: &'static str,
}

impl JobState {
    /// Puts the first lines into LTR, of what was taken from Pickup. Most messages leave none, so they are made late.
    pub fn open_ltr(&mut self, submission: &Submission) {
        if let Some(taken) = self.taken.take() {
            let lines = tell::first_lines(&taken, &self.record, submission);
            self.ltr.insert_str(0, &lines);
        }
    }
}

/// The recipients of one message that go the same way.
pub struct Part {
    /// The message.
    pub job: Arc<Job>,
    /// Indices into its record.
    pub recipients: Vec<usize>,
    /// Where they go; `None` for Drop.
    pub destination: Option<Arc<Destination>>,
}

/// What a recipient waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Means {
    /// A remote host: the schedule of `[delivery]`.
    #[default]
    Host,
    /// Drop: the schedule of `[drop]`.
    Drop,
    /// Somebody who comes for its domain (`hold = true`): no attempt is counted.
    Hold,
}

/// What became of a part.
#[derive(Default)]
pub struct Settled {
    /// Index into the record, outcome.
    pub outcomes: Vec<(usize, Outcome)>,
    /// How it was tried.
    pub means: Means,
    /// The host promised to report successes itself.
    pub offered_dsn: bool,
    /// For LTR.
    pub notes: String,
    /// For RTR.
    pub dialogue: String,
}

/// What keeper is told.
pub enum ToKeeper {
    /// A message is back in Queue.
    Released(Released),
    /// These were put off, and their turn has come.
    Called(Vec<Ulid>),
}

/// Told to keeper when a message is back in Queue.
#[derive(Debug, Clone, Copy)]
pub struct Released {
    /// Who.
    pub id: MessageId,
    /// When it is due.
    pub due: Millis,
    /// Its file's time.
    pub file_time: i128,
    /// What it waits for beside the time …
    pub held: Held,
    /// … or did, until the settings changed.
    pub freed: bool,
    /// As of its job.
    pub generation: u64,
    /// So many requests for mail on hold had been seen ([`super::hold::Holds::version`]).
    pub requests: u64,
    /// An operator touched it.
    pub forced: bool,
    /// It was let go of before anything was tried.
    pub untried: bool,
    /// It waits to be called, not only for the time.
    pub put_off: bool,
    /// It is a report of ours on this message.
    pub parent: Option<Ulid>,
}

/// Where the bytes are.
pub enum Source {
    /// A small one, or one for which there was room.
    Memory(Vec<u8>, Option<Room>),
    /// What was made of one that is not UTF-8.
    Transcoded(Arc<[u8]>),
    /// A large one.
    File(File, u64),
}

/// Room that one message between [`SMALL`] and `MEDIUM` takes.
pub struct Room(usize);

impl Room {
    /// Of all of them together.
    const MOST: usize = 32 * 1024 * 1024;

    fn take(len: u64) -> Option<Self> {
        let wanted = usize::try_from(len).ok().filter(|_| len <= MEDIUM)?;
        let more = |taken: usize| Some(taken + wanted).filter(|sum| *sum <= Self::MOST);
        let taken = ROOM_TAKEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then_some(Self(wanted))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        ROOM_TAKEN.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// In bytes.
static ROOM_TAKEN: AtomicUsize = AtomicUsize::new(0);

impl Source {
    /// Reads a small file whole, and a larger one where there is room; else keeps it open, by a descriptor of its own.
    pub fn open(file: &File, len: u64) -> io::Result<Self> {
        let room = if len > SMALL { Room::take(len) } else { None };
        if len > SMALL && room.is_none() {
            return Ok(Self::File(file.try_clone()?, len));
        }
        let _asking = asking("read", Path::new("a message"));
        let len = usize::try_from(len).unwrap_or(0);
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = bytes.len() as u64;
            match rustix::io::pread(file, spare_capacity(&mut bytes), at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bytes.truncate(len); // it may have grown
        Ok(Self::Memory(bytes, room))
    }

    /// Where the next byte lies that somebody wrote, from `offset` on. What lies before it are zeros without a place
    /// on the disk: a file of many terabytes may be made of nothing else.
    pub fn next_written(&self, offset: u64) -> u64 {
        let Self::File(file, len) = self else {
            return offset;
        };
        match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset)) {
            Ok(at) => at.max(offset),
            Err(Errno::NXIO) => (*len).max(offset), // zeros up to the end
            Err(_) => offset,
        }
    }
}

impl ReadAt for Source {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::Memory(bytes, _) => bytes.as_slice().read_at(buf, offset),
            Self::Transcoded(bytes) => bytes.read_at(buf, offset),
            Self::File(file, _) => {
                let _asking = asking("read", Path::new("a large message"));
                file.read_at(buf, offset)
            }
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes, _) => bytes.len() as u64,
            Self::Transcoded(bytes) => ReadAt::len(bytes),
            Self::File(_, len) => *len,
        }
    }

    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Memory(bytes, _) => Some(bytes),
            Self::Transcoded(bytes) => Some(bytes),
            Self::File(..) => None,
        }
    }
}

/// What a job is made from.
pub struct Material {
    /// Who it is.
    pub id: MessageId,
    /// Its name in Pickup, escaped; empty for our own.
    pub file: String,
    /// Its file's time.
    pub file_time: i128,
    /// Its bytes.
    pub source: Source,
    /// Its text as UTF-8, when the bytes are not.
    pub transcoded: Option<Arc<[u8]>>,
    /// What they say.
    pub submission: Submission,
    /// What an ENV file said, for a message that was tried before.
    pub record: Option<Record>,
    /// An operator touched it.
    pub forced: bool,
}

impl Job {
    /// Takes a message in hand. Its claim has been made.
    pub fn new(shared: &Shared, settings: &Settings, material: Material) -> Arc<Self> {
        let Material {
            id,
            file,
            file_time,
            source,
            transcoded,
            mut submission,
            record,
            forced,
        } = material;
        let has_record = record.is_some();
        let has_remains = has_record || id.life > 0;
        let record = record.unwrap_or_else(|| {
            let envelope = std::mem::take(&mut submission.envelope);
            Record::new(id, file, id.arrived_ms(), file_time, envelope)
        });
        let owed_before = record.owes();
        let config = &settings.config;
        let stamps = stamps(
            id,
            &config.server.hostname,
            env::timestamp(record.arrived),
            record.sender.as_ref(),
            &config.reports.postmaster,
            submission.layout.missing,
        );
        Arc::new(Self {
            id,
            source: transcoded.map_or(source, Source::Transcoded),
            submission,
            stamps,
            epoch: shared.pulse.epoch(),
            generation: shared.generation.load(Ordering::SeqCst),
            forced,
            owed_before,
            parts_left: AtomicUsize::new(0),
            state: Mutex::new(JobState {
                record: Record {
                    id,
                    file_time,
                    crashes: record.crashes.max(shared.crashes(id.ulid)),
                    ..record
                },
                version: 1,
                tried: Vec::new(),
                taken: None,
                ltr: String::new(),
                rtr: String::new(),
                has_remains,
                durable: has_record, // a record is put after the bytes were synced, never before
                doubtful: false,
                unsaved: false,
                awaits_badmail: false,
                planned: 0,
                on_hold: false,
                buried: false,
                report_tried: false,
                reports: Vec::new(),
                parked: 0,
                put_off_for: Vec::new(),
            }),
            saved: Mutex::default(),
        })
    }

    /// The fence: whether this process may still act for the message. A look can be old, a rename cannot; see
    /// contract §3.
    pub fn is_ours(&self, shared: &Shared) -> bool {
        self.is_in_time(shared) && shared.spool.claim_state(self.id) == ClaimState::Ours
    }

    /// The part of the fence that asks no disk: our heartbeat is fresh, and the claim was made in its time.
    pub fn is_in_time(&self, shared: &Shared) -> bool {
        shared.pulse.is_fresh() && shared.pulse.epoch() == self.epoch
    }

    /// The Message-ID without angle brackets: the file's own, else the one we stamp.
    pub fn internet_message_id(&self) -> &str {
        let stamped = || {
            let field = self.stamps.message_id.as_deref();
            field
                .and_then(|field| field.split(['<', '>']).nth(1))
                .unwrap_or("")
        };
        self.submission
            .internet_message_id
            .as_deref()
            .unwrap_or_else(stamped)
    }

    /// It was taken from Pickup just now.
    pub fn note_taken(&self, evidence: &'static str) {
        let at = clock::now();
        lock(&self.state).taken = Some(Taken { at, evidence });
    }
}

/// Reads and judges the bytes of a file.
pub fn read_source(source: &Source, rules: &ReadRules) -> io::Result<Reading> {
    crate::pickup::read::read(source, rules)
}
