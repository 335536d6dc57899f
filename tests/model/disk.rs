//! A disk that forgets: names as programs see them, names that are sure to be there after a power cut, and the steps in
//! between, of which a cut may drop any subset. A rename is one step: it survives whole or not at all.

use std::fmt;

/// Room for entries and for steps that are not synced; the model says so when it runs out.
const ENTRIES: usize = 14;
const STEPS: usize = 12;

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// `Pickup/m`
    Pickup,
    /// `Pickup/.ID@NODE.EML`
    Half,
    /// `Queue/ID.EML`
    Waiting,
    /// `Queue/ID@NODE.EML`
    Taken,
    /// `Queue/ID.HOLD`
    Held,
    /// `Queue/ID.ENV`
    Env,
    /// `Drop/ID-RECIPIENTS.EML`
    Drop,
    /// `Badmail/ID.BDR`
    Reason,
    /// `Badmail/ID.BAD`
    Bad,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Folder {
    Pickup,
    Queue,
    Drop,
    Badmail,
}

/// A message of the model: its number, and which ULID it has: a new one whenever it is claimed from Pickup.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Ulid {
    pub m: u8,
    pub turn: u8,
}

/// Kind, ULID, life and node in one number: quick to compare.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Name(u16);

const KINDS: [Kind; 9] = [
    Kind::Pickup,
    Kind::Half,
    Kind::Waiting,
    Kind::Taken,
    Kind::Held,
    Kind::Env,
    Kind::Drop,
    Kind::Reason,
    Kind::Bad,
];

impl Name {
    pub fn new(kind: Kind, id: Ulid, life: u8, node: u8) -> Self {
        assert!(
            id.turn < 4 && life < 8 && node < 8,
            "the bounds of the model are too narrow"
        );
        let number = |n: u8| u16::from(n);
        Self(
            (kind as u16) << 12
                | number(id.m) << 10
                | number(id.turn) << 8
                | number(life) << 5
                | number(node) << 2
                | 1,
        )
    }
    pub fn kind(self) -> Kind {
        KINDS[usize::from(self.0 >> 12)]
    }
    pub fn id(self) -> Ulid {
        Ulid {
            m: (self.0 >> 10 & 3) as u8,
            turn: (self.0 >> 8 & 3) as u8,
        }
    }
    pub fn m(self) -> u8 {
        (self.0 >> 10 & 3) as u8
    }
    pub fn life(self) -> u8 {
        (self.0 >> 5 & 7) as u8
    }
    pub fn node(self) -> u8 {
        (self.0 >> 2 & 7) as u8
    }
    pub fn folder(self) -> Folder {
        match self.kind() {
            Kind::Pickup | Kind::Half => Folder::Pickup,
            Kind::Waiting | Kind::Taken | Kind::Held | Kind::Env => Folder::Queue,
            Kind::Drop => Folder::Drop,
            Kind::Reason | Kind::Bad => Folder::Badmail,
        }
    }
    /// Whether a message lies under it that somebody still has to deal with.
    pub fn is_message(self) -> bool {
        self.kind() <= Kind::Held
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (turn, life) = (self.id().turn, self.life());
        let mut id = ["A", "B", "DSN"][usize::from(self.m())].to_owned();
        if turn > 1 {
            id += &"'".repeat(usize::from(turn) - 1);
        }
        if life > 0 {
            id += &format!("-{life}");
        }
        let node = self.node();
        match self.kind() {
            Kind::Pickup => write!(f, "Pickup/{}", ["a", "b", "dsn"][usize::from(self.m())]),
            Kind::Half => write!(f, "Pickup/.{id}@N{node}.EML"),
            Kind::Waiting => write!(f, "{id}.EML"),
            Kind::Taken => write!(f, "{id}@N{node}.EML"),
            Kind::Held => write!(f, "{id}.HOLD"),
            Kind::Env => write!(f, "{id}.ENV"),
            Kind::Drop => write!(f, "Drop/{id}"),
            Kind::Reason => write!(f, "Badmail/{id}.BDR"),
            Kind::Bad => write!(f, "Badmail/{id}.BAD"),
        }
    }
}

/// Where a recipient stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug)]
pub enum Fate {
    /// There is no such recipient.
    #[default]
    Nobody,
    Open,
    Delivered,
    Failed,
}

/// What its sender is told of a failed recipient.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug)]
pub enum Told {
    #[default]
    Nothing,
    Owed,
    Reported,
}

/// The record of a message with at most one local and one remote recipient.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug)]
pub struct Record {
    pub local: Fate,
    pub remote: Fate,
    pub told: Told,
}

impl Record {
    pub fn is_open(self) -> bool {
        self.local == Fate::Open || self.remote == Fate::Open
    }
}

/// What is in a file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug)]
pub enum What {
    #[default]
    Message,
    /// What `touch` makes.
    Empty,
    /// What a power cut leaves of data that was never synced.
    Torn,
    /// ENV, a Drop file, the texts in Badmail.
    Text,
}

/// A file: for a message `record` is whom it is for, for an ENV what it says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug)]
pub struct File {
    pub what: What,
    pub synced: bool,
    pub record: Record,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Entry {
    pub name: Name,
    pub file: File,
}

/// One step that changes names: `to` becomes `from` (a rename), or this file (a put), or nothing (a removal).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Step {
    pub from: Option<Name>,
    pub to: Option<Name>,
    pub file: File,
}

impl Step {
    fn names(self, name: Name) -> bool {
        self.from == Some(name) || self.to == Some(name)
    }
    fn shares(self, other: Step) -> bool {
        self.from.is_some_and(|n| other.names(n)) || self.to.is_some_and(|n| other.names(n))
    }
    fn is_in(self, folder: Folder) -> bool {
        let there = |name: Option<Name>| name.is_some_and(|n| n.folder() == folder);
        there(self.from) || there(self.to)
    }
}

/// A short list that is copied and hashed by value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct List<T, const N: usize> {
    len: u8,
    items: [T; N],
}

impl<T: Copy + Default, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self {
            len: 0,
            items: [T::default(); N],
        }
    }
}

impl<T: Copy + Default + Ord, const N: usize> List<T, N> {
    pub fn all(&self) -> &[T] {
        &self.items[..usize::from(self.len)]
    }
    fn all_mut(&mut self) -> &mut [T] {
        &mut self.items[..usize::from(self.len)]
    }
    fn push(&mut self, item: T) {
        assert!(
            usize::from(self.len) < N,
            "the bounds of the model are too narrow"
        );
        self.items[usize::from(self.len)] = item;
        self.len += 1;
    }
    fn take(&mut self, at: usize) -> T {
        let item = self.items[at];
        let last = usize::from(self.len) - 1;
        self.items.copy_within(at + 1..=last, at);
        self.items[last] = T::default();
        self.len -= 1;
        item
    }
}

type Names = List<Entry, ENTRIES>;

impl Names {
    fn at(&self, name: Name) -> Option<usize> {
        self.all().iter().position(|entry| entry.name == name)
    }
    fn get(&self, name: Name) -> Option<File> {
        self.at(name).map(|at| self.items[at].file)
    }
    fn put(&mut self, name: Name, file: File) {
        if let Some(at) = self.at(name) {
            self.items[at].file = file;
            return;
        }
        self.push(Entry { name, file });
        let mut at = usize::from(self.len) - 1;
        while at > 0 && self.items[at - 1].name > name {
            self.items.swap(at - 1, at);
            at -= 1;
        }
    }
    /// Does one step; `false` when what it takes is not there.
    fn apply(&mut self, step: Step) -> bool {
        let file = match step.from {
            None => step.file,
            Some(from) => match self.at(from) {
                None => return false,
                Some(at) => self.take(at).file,
            },
        };
        if let Some(to) = step.to {
            self.put(to, file);
        }
        true
    }
}

/// The tree.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Disk {
    now: Names,
    /// What a power cut would leave if it dropped all of `steps`; kept only while a cut may come.
    sure: Names,
    steps: List<Step, STEPS>,
    forgets: bool,
}

impl Disk {
    pub fn new(forgets: bool) -> Self {
        Self {
            forgets,
            ..Self::default()
        }
    }
    /// No power cut will come any more.
    pub fn never_forgets_again(&mut self) {
        self.forgets = false;
        self.sure = Names::default();
        self.steps = List::default();
    }
    pub fn entries(&self) -> &[Entry] {
        self.now.all()
    }
    pub fn steps(&self) -> &[Step] {
        self.steps.all()
    }
    pub fn get(&self, name: Name) -> Option<File> {
        self.now.get(name)
    }
    /// Whether a node's name stands anywhere.
    pub fn knows_node(&self, node: u8) -> bool {
        let owned = |name: Name| matches!(name.kind(), Kind::Half | Kind::Taken) && name.node() == node;
        self.now
            .all()
            .iter()
            .chain(self.sure.all())
            .any(|e| owned(e.name))
            || self
                .steps
                .all()
                .iter()
                .any(|s| s.from.is_some_and(owned) || s.to.is_some_and(owned))
    }

    /// Lies there from the beginning, as after a sync.
    pub fn lay(&mut self, name: Name, file: File) {
        self.now.put(name, file);
        if self.forgets {
            self.sure.put(name, file);
        }
    }
    /// The rename of a put: its TMP was written before.
    pub fn put(&mut self, name: Name, file: File) {
        self.step(Step {
            from: None,
            to: Some(name),
            file,
        });
    }
    /// `false`: `from` is not there.
    pub fn rename(&mut self, from: Name, to: Name) -> bool {
        self.step(Step {
            from: Some(from),
            to: Some(to),
            file: File::default(),
        })
    }
    pub fn remove(&mut self, name: Name) -> bool {
        self.step(Step {
            from: Some(name),
            to: None,
            file: File::default(),
        })
    }
    fn step(&mut self, step: Step) -> bool {
        if !self.now.apply(step) {
            return false;
        }
        if self.forgets {
            self.steps.push(step);
            // Steps that have nothing to do with each other stand in one order only: fewer states.
            let steps = self.steps.all_mut();
            let mut at = steps.len() - 1;
            while at > 0 && steps[at - 1] > step && !steps[at - 1].shares(step) {
                steps.swap(at - 1, at);
                at -= 1;
            }
        }
        true
    }

    /// Makes the names of a folder sure, and what they follow from.
    pub fn sync(&mut self, folder: Folder) {
        let mut chosen = [false; STEPS];
        let steps = self.steps.all();
        for at in (0..steps.len()).rev() {
            let later = (at + 1..steps.len()).any(|l| chosen[l] && steps[at].shares(steps[l]));
            chosen[at] = steps[at].is_in(folder) || later;
        }
        let before = self.steps;
        self.steps = List::default();
        for (at, step) in before.all().iter().enumerate() {
            if chosen[at] {
                self.sure.apply(*step);
            } else {
                self.steps.push(*step);
            }
        }
    }
    /// Makes the bytes of a message sure, wherever it lies.
    pub fn sync_data(&mut self, m: u8) {
        let mark = |entry: &mut Entry| {
            if entry.name.m() == m && entry.file.what == What::Message {
                entry.file.synced = true;
            }
        };
        self.now.all_mut().iter_mut().for_each(mark);
        self.sure.all_mut().iter_mut().for_each(mark);
        for step in self.steps.all_mut() {
            if step.from.is_none() && step.to.is_some_and(|n| n.m() == m) && step.file.what == What::Message {
                step.file.synced = true;
            }
        }
    }
    /// The steps in `kept` survive; of what was never synced nothing is left when `torn`.
    pub fn cut(&mut self, kept: u16, torn: bool) {
        let mut left = self.sure;
        for (at, step) in self.steps.all().iter().enumerate() {
            if kept & 1 << at != 0 {
                left.apply(*step);
            }
        }
        if torn {
            for entry in left.all_mut() {
                if !entry.file.synced {
                    entry.file.what = What::Torn;
                }
            }
        }
        self.now = left;
        self.sure = left;
        self.steps = List::default();
    }
}
