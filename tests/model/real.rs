//! The same walk on the model and on the real tree: every step that a node of the model does on its disk is done with
//! the arrow of `mailroot::mailroot::Spool` that bears its name, in a folder of its own, by a `Spool` for each node.
//! After each step the real folders must show what the model shows, name by name; records go through `queue::env`.
//!
//! So a step in an order that only the checker thinks of, by a node that has lost the message for instance, is tried
//! on the code. Not here: power cuts and refused steps (nothing real can be cut here), Pickup on another volume (the
//! `Spool` does that in one call), and what the engine decides.

use super::act::{Act, Verb};
use super::checker::Model;
use super::disk::{Entry, Fate, Kind, Name, Record, Told, Ulid, What};
use super::state::{Job, Protocol, REPORT_ID, State, in_pickup};
use mailroot::config::Folders;
use mailroot::mail::id::Ulid as RealUlid;
use mailroot::mail::{Address, EnhancedStatus, Envelope, MessageId, Outcome, Recipient, Verdict};
use mailroot::mailroot::spool::ClaimState;
use mailroot::mailroot::{NodeName, QueueName, Shelf, Spool};
use mailroot::queue::{ReportState, State as RealState, env, record::Record as RealRecord};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Which verbs a walk has come by.
pub type Seen = BTreeSet<String>;

struct Tree {
    root: PathBuf,
    /// One for each name that a node of the model can have.
    spools: Vec<Spool>,
}

/// Walks from the start to an end, or for `steps` steps, wherever `choose` leads.
pub fn walk(
    root: &Path,
    model: &Protocol,
    steps: usize,
    mut choose: impl FnMut(usize) -> usize,
    seen: &mut Seen,
) {
    let tree = Tree::new(root);
    let mut state = model.start();
    for entry in state.disk.entries() {
        tree.write(entry.name, b"message");
    }
    let mut told = format!("{}\n", model.show(&state));
    let mut next = Vec::new();
    for _ in 0..steps {
        model.next(&state, &mut next);
        if next.is_empty() {
            break;
        }
        let (act, _, after) = next.swap_remove(choose(next.len()));
        next.clear();
        told.push_str(&format!("{act}\n      {}\n", model.show(&after)));
        if let Err(why) = tree.follow(act, &state, &after) {
            panic!("{why}\n{told}");
        }
        let (real, expected) = (tree.names(), tree.expected(&after));
        assert_eq!(real, expected, "the real tree shows something else\n{told}");
        seen.insert(format!("{:?}", act.verb));
        state = after;
    }
}

impl Tree {
    fn new(root: &Path) -> Self {
        let folder = |name: &str| {
            let path = root.join(name);
            fs::create_dir_all(&path).unwrap();
            path
        };
        let folders = Folders {
            pickup: folder("Pickup"),
            queue: folder("Queue"),
            drop: folder("Drop"),
            badmail: folder("Badmail"),
            status: folder("Status"),
            logs: folder("Logs"),
        };
        let spool = |n| Spool::new(folders.clone(), node(n));
        Self {
            root: root.to_owned(),
            spools: (0..8).map(spool).collect(),
        }
    }

    /// Does for real what `act` did between the two states.
    fn follow(&self, act: Act, before: &State, after: &State) -> Result<(), String> {
        let (n, m) = (usize::from(act.n), usize::from(act.m));
        let slot = before.slots[n];
        let job = before.jobs[n][m];
        let spool = &self.spools[usize::from(job.node)];
        let here = &self.spools[usize::from(slot.name)];
        let id = message_id(job.id, job.life);
        let words = |error: mailroot::mailroot::DiskError| error.to_string();
        let is = |what: &str, real: bool, expected: bool| {
            if real == expected {
                Ok(())
            } else {
                Err(format!("{what}: {real}"))
            }
        };
        let owned = before.disk.get(taken(job)).is_some();
        match act.verb {
            Verb::ClaimPickup => {
                let claimed = after.jobs[n][m];
                let id = message_id(claimed.id, claimed.life);
                let name = shown(in_pickup(act.m));
                is(
                    "claimed from Pickup",
                    here.claim_from_pickup(name.as_ref(), id).map_err(words)?,
                    true,
                )?;
                is("the fence", here.claim_state(id) == ClaimState::Ours, true)
            }
            Verb::ClaimWaiting => {
                let claimed = after.jobs[n][m];
                let id = message_id(claimed.id, claimed.life);
                is("claimed", here.claim_waiting(id).map_err(words)?, true)
            }
            Verb::ReadEnv => self.read(spool, job, before, id),
            Verb::UnlinkEmpty => is("unlinked", spool.remove(id).map_err(words)?, true),
            Verb::Deposit => spool
                .put(Shelf::Drop, &format!("{}.EML", id.ulid), &mut text)
                .map_err(words),
            Verb::Record => {
                // Who has lost it cannot sync its bytes, and does not have to.
                if let Err(error) = spool.make_durable(id)
                    && owned
                {
                    return Err(error.to_string());
                }
                spool
                    .record(id, env_text(id, job.record).as_bytes())
                    .map_err(words)
            }
            Verb::PutReport => {
                let name = QueueName::Taken(message_id(REPORT_ID, 0), node(job.node)).to_string();
                spool.put(Shelf::Queue, &name, &mut text).map_err(words)
            }
            Verb::PutReason => spool
                .put(Shelf::Badmail, &format!("{}.BDR", id.ulid), &mut text)
                .map_err(words),
            Verb::PutBad => spool
                .put(Shelf::Badmail, &format!("{}.BAD", id.ulid), &mut text)
                .map_err(words),
            Verb::Release => is("released", spool.release(id).is_ok(), owned),
            Verb::Remove => is("removed", spool.remove(id).map_err(words)?, owned),
            Verb::LetGo => is("the fence", spool.claim_state(id) == ClaimState::Ours, owned),
            Verb::TakeOver => {
                let gone = |e: &&Entry| e.name.kind() == Kind::Taken && after.disk.get(e.name).is_none();
                let from = before.disk.entries().iter().find(gone).unwrap().name;
                let id = message_id(from.id(), from.life());
                is(
                    "taken over",
                    here.take_over(id, &node(from.node())).map_err(words)?,
                    true,
                )
            }
            Verb::Flush => here.sync_removals().map_err(words),
            Verb::Sweep => {
                let (swept, life) = slot.synced[m].unwrap();
                here.sweep(&[message_id(swept, life)]).map_err(words)
            }
            Verb::SweepOrphan => {
                let gone = |e: &&Entry| e.name.kind() == Kind::Env && after.disk.get(e.name).is_none();
                let env = before.disk.entries().iter().find(gone).unwrap().name;
                here.unlink(&self.path(env)).map_err(words)
            }
            Verb::OperatorRemoves
            | Verb::OperatorHolds
            | Verb::OperatorReleases
            | Verb::OperatorTouches
            | Verb::OperatorResubmits => {
                self.operate(before, after);
                Ok(())
            }
            // What happens in a memory, on the wire or on a disk that was synced by the real arrow already.
            _ => Ok(()),
        }
    }

    /// The real record must say what the model's says, read by the same rule: the highest life not above our own.
    fn read(&self, spool: &Spool, job: Job, before: &State, id: MessageId) -> Result<(), String> {
        let real = spool.read_env(id).map_err(|error| error.to_string())?;
        let real = real.map(|bytes| {
            let record = env::read(std::str::from_utf8(&bytes).unwrap()).unwrap();
            assert!(env::is_valid_for(record.id, id));
            as_model(&record)
        });
        let expected = before.read_env(job.id, job.life);
        if real == expected {
            return Ok(());
        }
        Err(format!("the record says {real:?}, in the model {expected:?}"))
    }

    /// One `mv`, `rm` or `touch`: what is gone and what is new tells which.
    fn operate(&self, before: &State, after: &State) {
        let missing = |a: &State, b: &State| {
            let gone = |e: &&Entry| b.disk.get(e.name).is_none();
            a.disk.entries().iter().find(gone).map(|e| self.path(e.name))
        };
        match (missing(before, after), missing(after, before)) {
            (Some(from), Some(to)) => fs::rename(from, to).unwrap(),
            (Some(from), None) => fs::remove_file(from).unwrap(),
            (None, Some(to)) => fs::write(to, b"").unwrap(),
            (None, None) => {}
        }
    }

    fn write(&self, name: Name, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn path(&self, name: Name) -> PathBuf {
        let folder = match name.kind() {
            Kind::Pickup | Kind::Half => "Pickup",
            Kind::Drop => "Drop",
            Kind::Reason | Kind::Bad => "Badmail",
            _ => "Queue",
        };
        self.root.join(folder).join(shown(name))
    }

    /// Every name in the four folders; an empty file is marked.
    fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for folder in ["Pickup", "Queue", "Drop", "Badmail"] {
            for entry in fs::read_dir(self.root.join(folder)).unwrap() {
                let entry = entry.unwrap();
                let empty = if entry.metadata().unwrap().len() == 0 {
                    " (empty)"
                } else {
                    ""
                };
                names.insert(format!(
                    "{folder}/{}{empty}",
                    entry.file_name().into_string().unwrap()
                ));
            }
        }
        names
    }

    fn expected(&self, state: &State) -> BTreeSet<String> {
        let name = |e: &Entry| {
            let path = self.path(e.name);
            let empty = if e.file.what == What::Empty {
                " (empty)"
            } else {
                ""
            };
            format!("{}{empty}", path.strip_prefix(&self.root).unwrap().display())
        };
        state.disk.entries().iter().map(name).collect()
    }
}

/// The real name of what the model calls so.
fn shown(name: Name) -> String {
    let id = message_id(name.id(), name.life());
    match name.kind() {
        Kind::Pickup => format!("{}.eml", ["a", "b", "c"][usize::from(name.m())]),
        Kind::Half => format!(".{}", QueueName::Taken(id, node(name.node()))),
        Kind::Waiting => QueueName::Waiting(id).to_string(),
        Kind::Taken => QueueName::Taken(id, node(name.node())).to_string(),
        Kind::Held => QueueName::Held(id).to_string(),
        Kind::Env => QueueName::Env(id).to_string(),
        Kind::Drop => format!("{}.EML", id.ulid),
        Kind::Reason => format!("{}.BDR", id.ulid),
        Kind::Bad => format!("{}.BAD", id.ulid),
    }
}

fn taken(job: Job) -> Name {
    Name::new(Kind::Taken, job.id, job.life, job.node)
}

fn node(number: u8) -> NodeName {
    format!("HOST-AAA{number}").parse().unwrap()
}

fn message_id(id: Ulid, life: u8) -> MessageId {
    MessageId {
        ulid: RealUlid::from_parts(1_795_300_127_123, u128::from(id.m) << 8 | u128::from(id.turn)),
        life: u32::from(life),
    }
}

fn text(file: &mut fs::File) -> std::io::Result<()> {
    file.write_all(b"text")
}

/// The model's record as a real one: a local and a remote recipient.
fn env_text(id: MessageId, record: Record) -> String {
    let address = |text: &str| Recipient::plain(Address::parse(text, "").unwrap());
    let mut recipients = Vec::new();
    let mut fates = Vec::new();
    for (fate, to) in [
        (record.local, "local@here.test"),
        (record.remote, "remote@there.test"),
    ] {
        if fate != Fate::Nobody {
            recipients.push(address(to));
            fates.push(fate);
        }
    }
    let envelope = Envelope {
        sender: Some(Address::parse("app@here.test", "").unwrap()),
        recipients,
        ..Envelope::default()
    };
    let mut real = RealRecord::new(id, "a.eml".into(), 1, 1, envelope);
    let status = EnhancedStatus::new(5, 0, 0);
    for (index, fate) in fates.into_iter().enumerate() {
        let outcome = match fate {
            Fate::Delivered => Outcome::ours(Verdict::Delivered, status, "taken"),
            Fate::Failed => Outcome::failed(status, "refused"),
            _ => continue,
        };
        real.note(index, outcome, 2, index == 0, false);
        if fate == Fate::Failed && record.told != Told::Owed {
            real.recipients[index].report = match record.told {
                Told::Reported => ReportState::Done,
                _ => ReportState::None,
            };
        }
    }
    env::write(&real)
}

fn as_model(real: &RealRecord) -> Record {
    let mut record = Record::default();
    for entry in &real.recipients {
        let fate = match entry.state {
            RealState::Open => Fate::Open,
            RealState::Delivered => Fate::Delivered,
            RealState::Failed => Fate::Failed,
        };
        if entry.recipient.address.as_str().starts_with("local") {
            record.local = fate;
        } else {
            record.remote = fate;
        }
        match entry.report {
            ReportState::Owed(_) => record.told = Told::Owed,
            ReportState::Done => record.told = Told::Reported,
            ReportState::None => {}
        }
    }
    record
}
