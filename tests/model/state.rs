//! The world of the model: the tree, what each node has in its memory, what may still go wrong, and what really happened.

use super::disk::{Disk, Entry, Fate, File, Kind, Name, Record, Told, Ulid, What};
use std::fmt::Write;

/// At most so many processes at once.
pub const NODES: usize = 3;
/// Two messages and the report on the first.
pub const MESSAGES: usize = 3;
/// The report on message 0.
pub const REPORT: u8 = 2;

/// One rule of the protocol. Without any of them the promise breaks: the table in `tests/model.rs` shows how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// A takeover raises the life.
    LifeIsRaised,
    /// `failed` is recorded before the report is put.
    RecordBeforeReport,
    /// ... and before the message is put into Badmail.
    RecordBeforeBury,
    /// ENV goes after the next sync of the folder.
    FlushBeforeEnvGoes,
    /// A record is durable before anything follows.
    RecordIsSynced,
    /// The bytes of a message that stays are synced before its record.
    BytesBeforeRecord,
    /// What is put is synced before it gets its name.
    PutIsSynced,
    /// A Drop file has a sure name before its message goes.
    DropIsSynced,
    /// An owner that missed its own heartbeat, or whose claim is gone, does nothing more.
    Fence,
    /// Who claimed an empty file unlinks that one name, nothing else.
    EmptyIsNoMessage,
    /// A release goes over an empty file.
    ReleaseOverEmpty,
    /// A report that was taken up from Queue waits, unclaimed, while its parent's record says that it is owed.
    ReportWaits,
    /// Who puts a report looks for it before, also when he tries again.
    LookAgain,
    /// Who inherited a report that is owed records that under his own life, then reads the former record again.
    ReadAgain,
    /// What a record of a former life says is made sure before anything follows from it.
    InheritedIsSynced,
    /// Badmail first, then the message goes.
    BuryBeforeRemove,
    /// The reason is there before the message is.
    ReasonFirst,
    /// No node claims a ULID that it has in hand.
    NotInHand,
    /// Neither a claim nor a takeover replaces a file.
    NothingReplaced,
    /// A scan takes over what lies under its own name only when it is in no session.
    StrayIsInNoSession,
    /// The rename that decides a claim across volumes is sure before the copy has its name.
    HalfIsSynced,
    /// The copy of a claim across volumes is sure before the former goes.
    CopyIsSynced,
    /// Half-made claims are finished before their copies are taken over.
    HalfFirst,
    /// Before a copy is taken over it is sure that its half has gone.
    PickupBeforeTakeover,
    /// The rename of the half decides; a copy whose life is not above the half's is not believed.
    HalfDecides,
    /// Whoever has the half unlinks every copy that was made before.
    OlderCopiesGo,
    /// Who finds the former gone has lost the claim: his copy goes.
    LostCopyGoes,
    /// Remains without a message go after ten minutes of listings, not after one.
    OrphansWait,
    /// ... and after a sync.
    OrphansAfterSync,
    /// A node that missed its own heartbeat goes on under a new name: no verdict on the old one hits what it claims
    /// from then on.
    NewName,
    /// What was begun under one name is ended under it.
    OneName,
}

/// What happens in one exploration, and how often.
#[derive(Clone, Copy, Default)]
pub struct Bounds {
    pub nodes: usize,
    /// Message 0 has a local recipient, a remote one; message 1 has.
    pub local: [bool; 2],
    pub remote: [bool; 2],
    /// The remote host may refuse message 0, message 1, the report.
    pub refusals: [bool; MESSAGES],
    /// Nobody is told of what fails: it goes to Badmail.
    pub null_sender: bool,
    pub crashes: u8,
    pub freezes: u8,
    pub cuts: u8,
    pub deferrals: u8,
    /// Steps that the disk refuses, or that it does and reports as failed.
    pub refused_steps: u8,
    pub operator: u8,
    /// Pickup is another volume.
    pub apart: bool,
    /// The application did not sync what it wrote.
    pub unsynced: bool,
}

/// The part of one recipient in an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Part {
    #[default]
    Nothing,
    Todo,
    /// Its file has its name in Drop.
    Named,
}

/// Where a node is with a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Phase {
    #[default]
    Nothing,
    /// `Pickup/.ID@NODE.EML` has its name.
    Decided,
    /// ... for sure.
    Half,
    /// The copy has its name.
    Copied,
    /// The copy is sure.
    CopySure,
    /// The former is gone.
    FormerGone,
    /// The former was gone: the copy must go.
    CopyLost,
    /// In Queue, and ours; ENV not read.
    Claimed,
    /// In hand.
    Work,
    /// Looking whether the report is there.
    Looking,
    /// The report has its name.
    ReportNamed,
    /// `.BDR` has its name.
    ReasonNamed,
    /// `.BAD` has its name.
    BadNamed,
    /// In Badmail.
    Buried,
}

/// A message in the hand of a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Job {
    pub phase: Phase,
    pub id: Ulid,
    pub life: u8,
    /// The name that our node had when it claimed.
    pub node: u8,
    pub record: Record,
    /// ENV does not say all of it.
    pub dirty: bool,
    /// This record has its name, not yet for sure.
    pub saving: Option<Record>,
    /// The bytes are synced.
    pub durable: bool,
    /// A step failed: nothing more before it is recorded.
    pub must_save: bool,
    pub local: Part,
    pub remote: Part,
    /// Its epoch is over.
    pub lost: bool,
    /// It looked before it was frozen: one step more.
    pub armed: bool,
    /// A file of the report was renamed while we looked.
    pub missed: bool,
}

/// One process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Slot {
    pub frozen: bool,
    pub name: u8,
    /// Removed, per message: which ULID and life; its remains go after the next sync.
    pub removed: [Option<(Ulid, u8)>; MESSAGES],
    /// ... and synced since.
    pub synced: [Option<(Ulid, u8)>; MESSAGES],
    /// Slots that it has judged dead (only without [`Rule::NewName`]).
    pub verdict: u8,
}

/// What really happened, whatever anybody remembers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Truth {
    /// Copies that the remote host took.
    pub sent: u8,
    /// ... from a node that was frozen between look and step.
    pub late: u8,
    /// Files that a frozen node put once more.
    pub repeated: u8,
    /// Copies that crashes, freezes and cuts explain.
    pub allowed: u8,
    /// Files in Drop that a power cut explains.
    pub drops_allowed: u8,
    /// A sure record says that the remote recipient has it.
    pub recorded: bool,
    /// A sure record says that the local recipient has it.
    pub recorded_local: bool,
    /// It was removed, and the removal was flushed.
    pub gone: bool,
    /// An operator removed it.
    pub cancelled: bool,
    /// Its sender was told that it failed, or it was put into Badmail.
    pub given_up: bool,
    /// It was recorded, so it must stay whole.
    pub promised: bool,
    /// ULIDs that it has had.
    pub turns: u8,
}

/// What was broken by the step that led here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Fault {
    #[default]
    None,
    SentAgain,
    SentAfterAll,
    Replaced,
    TakenFromLiving,
    Damaged,
}

/// Everything.
#[derive(Clone, Copy, Hash)]
pub struct State {
    pub disk: Disk,
    pub slots: [Slot; NODES],
    pub jobs: [[Job; MESSAGES]; NODES],
    pub truth: [Truth; MESSAGES],
    pub crashes: u8,
    pub freezes: u8,
    pub cuts: u8,
    pub deferrals: u8,
    pub refused_steps: u8,
    pub operator: u8,
    pub fault: Fault,
}

/// What is checked: the bounds, and the rules that are switched off.
pub struct Protocol {
    pub bounds: Bounds,
    pub off: &'static [Rule],
}

impl Protocol {
    pub fn holds(&self, rule: Rule) -> bool {
        !self.off.contains(&rule)
    }

    pub fn start_state(&self) -> State {
        let b = &self.bounds;
        let mut disk = Disk::new(b.cuts > 0);
        for m in 0..2_u8 {
            let to = |there: bool| if there { Fate::Open } else { Fate::Nobody };
            let record = Record {
                local: to(b.local[usize::from(m)]),
                remote: to(b.remote[usize::from(m)]),
                told: Told::Nothing,
            };
            if record.is_open() {
                let file = File {
                    what: What::Message,
                    synced: !b.unsynced,
                    record,
                };
                disk.lay(in_pickup(m), file);
            }
        }
        let mut slots = [Slot::default(); NODES];
        for (number, slot) in slots.iter_mut().enumerate() {
            slot.name = number as u8;
        }
        State {
            disk,
            slots,
            jobs: Default::default(),
            truth: Default::default(),
            crashes: b.crashes,
            freezes: b.freezes,
            cuts: b.cuts,
            deferrals: b.deferrals,
            refused_steps: b.refused_steps,
            operator: b.operator,
            fault: Fault::None,
        }
    }
}

/// The name of message `m` before it is claimed.
pub fn in_pickup(m: u8) -> Name {
    Name::new(Kind::Pickup, Ulid { m, turn: 0 }, 0, 0)
}

/// The ULID of the report, made from its parent, kind and recipients.
pub const REPORT_ID: Ulid = Ulid { m: REPORT, turn: 1 };

impl State {
    /// Message files of `m` under any name.
    pub fn files(&self, m: u8) -> impl Iterator<Item = &Entry> {
        let mine = move |e: &&Entry| e.name.m() == m && e.name.is_message() && e.file.what != What::Empty;
        self.disk.entries().iter().filter(mine)
    }
    /// Message files of this ULID in Queue, empty ones too.
    pub fn in_queue(&self, id: Ulid) -> impl Iterator<Item = &Entry> {
        let there = move |e: &&Entry| {
            e.name.id() == id && matches!(e.name.kind(), Kind::Waiting | Kind::Taken | Kind::Held)
        };
        self.disk.entries().iter().filter(there)
    }
    /// The valid record: of the highest life that is not above this one.
    pub fn read_env(&self, id: Ulid, life: u8) -> Option<Record> {
        (0..=life)
            .rev()
            .find_map(|life| self.disk.get(Name::new(Kind::Env, id, life, 0)))
            .map(|file| file.record)
    }
    /// Whether a node has this message in a session. A report is entered before it is put.
    pub fn has_in_hand(&self, n: usize, m: u8) -> bool {
        let putting = matches!(self.jobs[n][0].phase, Phase::Looking | Phase::ReportNamed);
        self.jobs[n][usize::from(m)].phase != Phase::Nothing || (m == REPORT && putting)
    }
    /// Whether a process of this name is up and beats.
    pub fn beats(&self, nodes: usize, name: u8) -> bool {
        self.slots[..nodes]
            .iter()
            .any(|slot| slot.name == name && !slot.frozen)
    }
    /// A name that no process has and no file bears.
    pub fn new_node_name(&self) -> u8 {
        let in_use = |job: &Job, name| job.phase != Phase::Nothing && job.node == name;
        let used = |name: u8| {
            self.slots.iter().any(|slot| slot.name == name)
                || self.jobs.iter().flatten().any(|job| in_use(job, name))
                || self.disk.knows_node(name)
        };
        (0..8)
            .find(|name| !used(*name))
            .expect("more names than the model has")
    }
    /// For people: the tree as `ls` shows it, and who works on what.
    pub fn show(&self, nodes: usize) -> String {
        let mut text = String::new();
        for entry in self.disk.entries() {
            let _ = write!(text, "{} ", entry.name);
            let r = entry.file.record;
            if entry.name.kind() == Kind::Env {
                let _ = write!(text, "({:?}/{:?}/{:?}) ", r.local, r.remote, r.told);
            } else if entry.file.what == What::Empty || entry.file.what == What::Torn {
                let _ = write!(text, "({:?}) ", entry.file.what);
            }
        }
        for n in 0..nodes {
            let slot = &self.slots[n];
            let _ = write!(
                text,
                "| N{}{} ",
                slot.name,
                if slot.frozen { " frozen" } else { "" }
            );
            for job in self.jobs[n].iter().filter(|job| job.phase != Phase::Nothing) {
                let lost = if job.lost { " lost" } else { "" };
                let letter = ["A", "B", "DSN"][usize::from(job.id.m)];
                let _ = write!(text, "{letter}-{}:{:?}{lost} ", job.life, job.phase);
            }
        }
        let unsynced = self.disk.steps().len();
        if unsynced > 0 {
            let _ = write!(text, "| {unsynced} steps not synced");
        }
        text
    }
}
