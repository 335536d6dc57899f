//! What intake remembers of files in Pickup that it has seen and not taken: why, since when they are unchanged, when
//! to look again. A memory of observations only; losing it costs time, never mail.
//!
//! Thread: intake.

use super::look::Glance;
use crate::config::Pickup;
use crate::log::EACH;
use crate::mailroot::spool::mtime_nanos;
use crate::mailroot::{DiskError, shown};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// Size and times: the same twice means that nobody wrote.
pub type Print = (u64, i128, i128);

/// Why a file was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Written to less than `pickup.quiet` ago; so much is missing.
    Quiet(Print, Duration),
    /// Nobody can be asked: size and times must stay the same for so much longer.
    Settling(Print, Duration),
    /// A process has it open for writing.
    BeingWritten(Print),
    /// A process holds an advisory lock on it.
    Locked(Print),
    /// Its closing boundary or the end of its header block has not come; it has so much time left.
    Incomplete(Print, Duration),
    /// Others look at it, which takes time.
    BeingRead(Print),
    /// It takes time to read or to bury, and so do many others.
    Crowded(Print),
    /// It would only wait for this destination, and others need the room.
    Outside(Print, String),
    /// More than one link.
    Linked,
    /// Nothing in it.
    Empty,
    /// A symbolic link, folder, FIFO …
    NotAFile(&'static str),
    /// No permission, or the disk fails.
    Unreadable(String),
    /// It cannot be renamed; what cannot be renamed is not sent.
    Unclaimable(String),
}

impl Why {
    /// The print of a file.
    pub fn print(meta: &Metadata) -> Print {
        let ctime = i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec());
        (meta.len(), mtime_nanos(meta), ctime)
    }

    fn its_print(&self) -> Option<Print> {
        match self {
            Self::Quiet(print, _)
            | Self::Settling(print, _)
            | Self::BeingWritten(print)
            | Self::Locked(print)
            | Self::BeingRead(print)
            | Self::Crowded(print)
            | Self::Outside(print, _)
            | Self::Incomplete(print, _) => Some(*print),
            _ => None,
        }
    }

    /// Whether the time alone makes it ready: what a drain waits for.
    fn is_soon(&self) -> bool {
        matches!(
            self,
            Self::Quiet(..) | Self::Settling(..) | Self::BeingRead(_) | Self::Crowded(_) | Self::Outside(..)
        )
    }

    /// Whether it is mail that waits, and not something that lies in the wrong place.
    fn is_mail(&self) -> bool {
        !matches!(self, Self::Empty | Self::NotAFile(_))
    }
}

struct Sighting {
    why: Why,
    unchanged_since: Instant,
    first_seen: Instant,
    look_again: Instant,
    renamed_in: bool,
    told: bool,
    scan: u64,
}

/// All sightings.
#[derive(Default)]
pub struct Sightings {
    files: HashMap<OsString, Sighting>,
    /// Renamed in, not looked at yet.
    fresh: HashMap<OsString, bool>,
    scan: u64,
    told: usize,
    folder_missing: bool,
    /// Of the last listing: mail that there was no room to remember.
    unremembered: bool,
}

/// More are not remembered: they are looked at anew in each scan. What is no mail leaves room for mail, which would have to
/// wait for the next scan.
const MOST: usize = 100_000;
const MOST_WITH_MAIL: usize = 2 * MOST;
/// Strange files that are named in the log; further ones are only counted.
const MOST_TOLD: usize = 100;
/// A file that stays strange is looked at ever more seldom, at least this often.
const SELDOM: Duration = Duration::from_secs(60);
/// Not before somebody says so.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

impl Sightings {
    /// A notification named this file.
    pub fn touched(&mut self, name: &OsStr, renamed_in: bool) {
        if let Some(seen) = self.files.get_mut(name) {
            if !matches!(seen.why, Why::BeingRead(_) | Why::Outside(..)) {
                seen.look_again = Instant::now();
            }
            seen.renamed_in = renamed_in;
        } else if self.fresh.len() < MOST {
            self.fresh.insert(name.to_owned(), renamed_in);
        }
    }

    /// Names whose time to be looked at has come, so many at most.
    pub fn ripe(&self, now: Instant, most: usize) -> Vec<OsString> {
        self.files
            .iter()
            .filter(|(_, seen)| seen.look_again <= now)
            .map(|(name, _)| name.clone())
            .take(most)
            .collect()
    }

    /// Of these, the mail that only needed a little time.
    pub fn ripe_mail(&self, now: Instant, most: usize) -> Vec<OsString> {
        let is_ripe = |seen: &Sighting| seen.why.is_soon() && seen.look_again <= now;
        let ripe = self.files.iter().filter(|(_, seen)| is_ripe(seen));
        ripe.map(|(name, _)| name.clone()).take(most).collect()
    }

    /// When the next one is ripe.
    pub fn next(&self) -> Option<Instant> {
        self.files.values().map(|seen| seen.look_again).min()
    }

    /// Whether a look at this name is worth the system calls; notes that it is still there.
    pub fn wants_a_look(&mut self, name: &OsStr, now: Instant) -> bool {
        let scan = self.scan;
        self.files.get_mut(name).is_none_or(|seen| {
            seen.scan = scan;
            seen.look_again <= now
        })
    }

    /// What is known before a look.
    pub fn of(&mut self, name: OsString, listed_as_file: bool, now: Instant) -> Glance {
        match self.files.get(&name) {
            Some(seen) => {
                let time = now.saturating_duration_since(seen.unchanged_since);
                Glance {
                    renamed_in: seen.renamed_in,
                    seen: seen.why.its_print().map(|print| (print, time)),
                    incomplete: matches!(seen.why, Why::Incomplete(..)),
                    listed_as_file: false,
                    crowded: matches!(seen.why, Why::Crowded(_)),
                    name,
                }
            }
            None => Glance {
                renamed_in: self.fresh.remove(&name).unwrap_or(false),
                seen: None,
                incomplete: false,
                listed_as_file,
                crowded: false,
                name,
            },
        }
    }

    /// Some of those that wait for their burial, to be looked at now.
    pub fn crowded(&mut self, most: usize) -> Vec<OsString> {
        let now = Instant::now();
        let crowded = |(name, seen): (&OsString, &mut Sighting)| {
            matches!(seen.why, Why::Crowded(_)).then(|| {
                seen.look_again = now;
                name.clone()
            })
        };
        self.files.iter_mut().filter_map(crowded).take(most).collect()
    }

    /// These are to be looked at now.
    pub fn are_ripe(&mut self, names: &[OsString]) {
        let now = Instant::now();
        for name in names {
            if let Some(seen) = self.files.get_mut(name) {
                seen.look_again = now;
            }
        }
    }

    /// It was taken, or it is gone.
    pub fn forget(&mut self, name: &OsStr) {
        self.files.remove(name);
    }

    /// It was looked at and not taken.
    pub fn note(&mut self, name: OsString, why: Why, settings: &Pickup, renamed_in: bool) {
        let now = Instant::now();
        let before = self.files.get(&name);
        let same = before.is_some_and(|seen| seen.why.its_print() == why.its_print());
        let first_seen = before.map_or(now, |seen| seen.first_seen);
        let told = before.is_some_and(|seen| {
            seen.told && std::mem::discriminant(&seen.why) == std::mem::discriminant(&why)
        });
        let unchanged_since = before.filter(|_| same).map_or(now, |seen| seen.unchanged_since);
        let seldom = settings
            .poll
            .max((now - first_seen) / 4)
            .min(SELDOM.max(settings.poll));
        let wait = match &why {
            // Never longer than to the next listing: that is the truth, notifications are not.
            Why::Quiet(_, left) => (*left).min(settings.poll),
            Why::Settling(_, left) if same => *left,
            Why::Settling(..) => settings.settle,
            Why::Incomplete(_, left) => (*left).min(settings.poll),
            Why::BeingWritten(_) | Why::Locked(_) | Why::Linked | Why::Crowded(_) => settings.poll,
            Why::BeingRead(_) | Why::Outside(..) => FAR, // until it is called
            Why::Empty | Why::NotAFile(_) | Why::Unreadable(_) | Why::Unclaimable(_) => seldom,
        };
        // Each file is empty between its creation and its first bytes, and some writers link it into its place.
        let may_pass = matches!(why, Why::Empty | Why::Linked) && now - first_seen < settings.poll;
        let told = told || (!may_pass && self.tell(&name, &why));
        let must_be_known = matches!(why, Why::BeingRead(_) | Why::Crowded(_) | Why::Outside(..));
        let most = if why.is_mail() { MOST_WITH_MAIL } else { MOST };
        if self.files.len() < most || must_be_known || self.files.contains_key(&name) {
            let look_again = now + wait.max(Duration::from_millis(1));
            let scan = self.scan;
            let seen = Sighting {
                why,
                unchanged_since,
                first_seen,
                look_again,
                renamed_in,
                told,
                scan,
            };
            self.files.insert(name, seen);
        } else {
            self.unremembered |= why.is_mail();
        }
    }

    /// Whether the last listing met mail that only the next one will find again.
    pub fn has_forgotten_mail(&self) -> bool {
        self.unremembered
    }

    /// Names a strange file once; returns whether it was worth a line.
    fn tell(&mut self, name: &OsStr, why: &Why) -> bool {
        let file = shown(name);
        let strange = match why {
            Why::Quiet(..) | Why::Settling(..) | Why::BeingRead(_) | Why::Crowded(_) | Why::Outside(..) => {
                return false;
            }
            Why::BeingWritten(_) | Why::Locked(_) | Why::Incomplete(..) => {
                debug!(file, ?why, "not complete yet");
                return true;
            }
            Why::Linked => "waits: it has more than one link".to_owned(),
            Why::Empty => "left alone: it is empty".to_owned(),
            Why::NotAFile(what) => format!("left alone: it is {what}"),
            // Trouble of the disk meets all files alike, and ends: the log counts such lines.
            Why::Unreadable(error) => {
                warn!(file, error, "waits: it cannot be read");
                return true;
            }
            Why::Unclaimable(error) => {
                warn!(file, error, "waits: it cannot be taken");
                return true;
            }
        };
        self.told += 1;
        if self.told <= MOST_TOLD {
            warn!(target: EACH, file, "{strange}");
        }
        if self.told == MOST_TOLD {
            warn!("further such files in Pickup are not named");
        }
        true
    }

    /// A whole listing begins.
    pub fn begin_scan(&mut self) {
        self.scan += 1;
        self.unremembered = false;
        self.fresh.retain(|_, renamed_in| *renamed_in);
    }

    /// A whole listing has ended: what it did not show is gone.
    pub fn end_scan(&mut self) {
        let scan = self.scan;
        self.files.retain(|_, seen| seen.scan == scan);
        self.fresh.clear();
    }

    /// Mail that lies in Pickup and was not taken.
    pub fn waiting(&self) -> usize {
        self.files.values().filter(|seen| seen.why.is_mail()).count()
    }

    /// Whether some file only needs a little time.
    pub fn expects_soon(&self) -> bool {
        self.files.values().any(|seen| seen.why.is_soon())
    }

    /// Pickup cannot be listed, or nothing can be claimed from it.
    pub fn folder_is_gone(&mut self, error: &DiskError) {
        if !std::mem::replace(&mut self.folder_missing, true) {
            warn!(%error, "nothing is taken from Pickup; tried again every pickup.poll");
        }
    }

    /// Whether that is so at present.
    pub fn is_folder_gone(&self) -> bool {
        self.folder_missing
    }

    /// Pickup can be listed.
    pub fn folder_is_back(&mut self, folder: &Path) {
        if std::mem::replace(&mut self.folder_missing, false) {
            info!(folder = %folder.display(), "Pickup is back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Pickup {
        Pickup {
            poll: Duration::from_secs(2),
            quiet: Duration::from_millis(100),
            settle: Duration::from_secs(1),
            incomplete_grace: Duration::from_secs(60),
            dots: crate::config::DotsSetting::Auto,
            ignore: vec![],
            default_sender: String::new(),
        }
    }

    #[test]
    fn of_those_whose_time_has_come_no_more_are_named_than_asked_for() {
        let mut sightings = Sightings::default();
        let why = Why::Settling((1, 2, 3), Duration::ZERO);
        for name in ["a", "b", "c"] {
            sightings.note(name.into(), why.clone(), &settings(), false);
        }
        assert_eq!(sightings.ripe(Instant::now(), 9), Vec::<OsString>::new());
        let later = Instant::now() + Duration::from_secs(2);
        assert_eq!(sightings.ripe(later, 2).len(), 2);
        assert_eq!(sightings.ripe(later, 9).len(), 3);
    }

    #[test]
    fn a_change_begins_the_wait_anew() {
        let mut sightings = Sightings::default();
        let name = OsString::from("a");
        let left = Duration::from_secs(1);
        sightings.note(name.clone(), Why::Settling((1, 1, 1), left), &settings(), false);
        std::thread::sleep(Duration::from_millis(5));
        sightings.note(name.clone(), Why::Settling((1, 1, 1), left), &settings(), false);
        let unchanged = sightings.of(name.clone(), false, Instant::now()).seen;
        assert!(unchanged.unwrap().1 >= Duration::from_millis(5));
        sightings.note(name.clone(), Why::Settling((2, 1, 1), left), &settings(), false);
        let unchanged = sightings.of(name.clone(), false, Instant::now()).seen;
        assert!(unchanged.unwrap().1 < Duration::from_millis(5));
    }

    #[test]
    fn what_a_whole_listing_does_not_show_is_forgotten() {
        let mut sightings = Sightings::default();
        sightings.begin_scan();
        sightings.note("a".into(), Why::Empty, &settings(), false);
        sightings.note("b".into(), Why::Linked, &settings(), false);
        assert_eq!(sightings.waiting(), 1, "an empty file is not mail");
        sightings.begin_scan();
        sightings.wants_a_look(OsStr::new("a"), Instant::now());
        sightings.end_scan();
        assert_eq!((sightings.files.len(), sightings.waiting()), (1, 0));
    }

    #[test]
    fn mail_whose_time_has_come_is_told_from_what_is_strange() {
        let mut sightings = Sightings::default();
        let soon = Why::Quiet((1, 1, 1), Duration::ZERO);
        sightings.note("mail".into(), soon, &settings(), false);
        sightings.note("empty".into(), Why::Empty, &settings(), false);
        let later = Instant::now() + SELDOM * 2;
        assert_eq!(sightings.ripe_mail(later, 9), ["mail"]);
        assert_eq!(sightings.ripe(later, 9).len(), 2);
        assert!(sightings.ripe_mail(later - SELDOM * 3, 9).is_empty());
    }

    #[test]
    fn mail_that_there_is_no_room_for_is_known_to_be_somewhere() {
        let mut sightings = Sightings::default();
        let mut note = |name: String, why| sightings.note(name.into(), why, &settings(), false);
        (0..=MOST).for_each(|n| note(format!("empty {n}"), Why::Empty));
        (0..MOST).for_each(|n| note(format!("mail {n}"), Why::Locked((1, 1, 1))));
        assert_eq!(sightings.files.len(), MOST_WITH_MAIL);
        assert!(!sightings.has_forgotten_mail());
        sightings.note("one more".into(), Why::Locked((1, 1, 1)), &settings(), false);
        assert!(sightings.has_forgotten_mail());
        sightings.begin_scan();
        assert!(!sightings.has_forgotten_mail());
    }

    #[test]
    fn a_file_is_empty_for_a_moment_without_a_word() {
        let mut sightings = Sightings::default();
        let mut settings = settings();
        sightings.note("a".into(), Why::Empty, &settings, false);
        sightings.note("a".into(), Why::Empty, &settings, false);
        assert_eq!(sightings.told, 0);
        settings.poll = Duration::ZERO;
        sightings.note("a".into(), Why::Empty, &settings, false);
        sightings.note("a".into(), Why::Empty, &settings, false);
        assert_eq!(sightings.told, 1, "once, when it stays so");
    }

    #[test]
    fn only_a_little_time_is_waited_for_by_a_drain() {
        let mut sightings = Sightings::default();
        sightings.note(
            "a".into(),
            Why::Incomplete((1, 1, 1), Duration::from_secs(60)),
            &settings(),
            false,
        );
        assert!(!sightings.expects_soon());
        sightings.note(
            "b".into(),
            Why::Quiet((1, 1, 1), Duration::from_millis(50)),
            &settings(),
            false,
        );
        assert!(sightings.expects_soon());
    }
}
