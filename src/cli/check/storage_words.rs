//! What a proof of the storage showed, as a sentence; and what to do when it is not as it should be.

use crate::config::units;
use crate::mailroot::probe::{Handover, Locking, Proof, Question, Reads, Seen, Tally, Visible};
use std::collections::BTreeMap;
use std::time::Duration;

/// The answer in a sentence, and what to do when it is not as it should be.
pub fn words(proof: &Proof, lease: Duration) -> (String, &'static str) {
    let between = if proof.through_peer {
        " between the two mounts"
    } else {
        ""
    };
    let folder = proof.folder;
    match &proof.seen {
        Seen::Raced(tally) if proof.question == Question::Create => (creations(tally, folder, between), ""),
        Seen::Raced(tally) => (renames(proof.question, tally, between), ""),
        Seen::Read(reads) => (replacing(reads, folder, between), ""),
        Seen::HandedOver(seen) => (handover(seen), ""),
        Seen::Keeps(Some(true)) => ("a rename can be told to replace nothing".to_owned(), ""),
        Seen::Keeps(Some(false)) => (
            "a rename cannot be told to replace nothing; mailroot looks before it renames".to_owned(),
            "",
        ),
        Seen::Keeps(None) => (
            "a rename that was told to replace nothing did replace a file".to_owned(),
            "do not give the names of Queue to files of your own",
        ),
        Seen::Locked(locking) => (locks(locking, between, lease), ""),
        Seen::Told(Some(after)) => (
            format!(
                "a file renamed into Pickup is told of{between} after {}",
                millis(*after)
            ),
            "",
        ),
        Seen::Told(None) => (
            format!(
                "a file renamed into Pickup is not told of{between}: it is found by looking every pickup.poll"
            ),
            "",
        ),
        Seen::Synced(syncs) => (
            format!(
                "sync is answered: a file after {}, a folder after {}",
                millis(syncs.file),
                millis(syncs.folder)
            ),
            "",
        ),
        Seen::Stamped(stamps) => {
            let grain = if stamps.whole_seconds {
                "in whole seconds"
            } else {
                "with fractions of a second"
            };
            let how = if stamps.ahead { "ahead of" } else { "behind" };
            if stamps.off < Duration::from_millis(50) {
                (format!("time stamps are those of our clock, {grain}"), "")
            } else {
                (
                    format!(
                        "time stamps are {} {how} our clock, {grain}",
                        units::show_duration(stamps.off)
                    ),
                    if stamps.off > Duration::from_secs(1) {
                        "set both clocks by NTP: pickup.quiet and the age of files are judged by them"
                    } else {
                        ""
                    },
                )
            }
        }
        Seen::Folds(folds) => (
            if *folds {
                "names that differ in case only are one file: two applications must not use both".to_owned()
            } else {
                "names that differ in case only are two files".to_owned()
            },
            "",
        ),
        Seen::Visible(seen) => visible(seen, lease),
        Seen::Failed(error) => (format!("{}: {error}", asked(proof.question, folder, between)), ""),
        Seen::Hangs(after) => (
            format!(
                "{}: no answer within {}",
                asked(proof.question, folder, between),
                units::show_duration(*after)
            ),
            "look after the storage",
        ),
    }
}

fn asked(question: Question, folder: &str, between: &str) -> String {
    let what = match question {
        Question::ClaimFromPickup => "renaming from Pickup",
        Question::ClaimInQueue => "renaming in Queue",
        Question::Create => "making files",
        Question::Replace => "replacing a file",
        Question::HandOver => "handing a message over",
        Question::KeepExisting => "renaming without replacing",
        Question::Lock => "locking a file",
        Question::Notify => "watching Pickup",
        Question::Sync => "syncing",
        Question::Stamp => "the time stamp of a file",
        Question::Case => "the case of names",
        Question::See => "seeing a new file",
    };
    format!("{what} in {folder}{between} could not be tried")
}

fn renames(question: Question, tally: &Tally, between: &str) -> String {
    let way = match (question, tally.other_volume) {
        (Question::ClaimFromPickup, false) => "from Pickup to Queue",
        (Question::ClaimFromPickup, true) => {
            "inside Pickup (Queue is on another volume: each message is copied)"
        }
        _ => "in Queue",
    };
    let racers = tally.wins.len();
    let files = tally.files;
    if tally.doubled > 0 {
        return format!(
            "rename {way} does not decide{between}: of {files} files {} were given to more than one of {racers} racers",
            tally.doubled
        );
    }
    if tally.lies > 0 {
        return format!(
            "rename {way} says what is not so{between}: of {files} files {} are not where they were said to be",
            tally.lies
        );
    }
    if tally.vanished + tally.refused >= files {
        return match tally.errors.keys().next() {
            Some(error) => format!("rename {way} does not work{between}: {error}"),
            None => format!("rename {way} loses the file{between}"),
        };
    }
    let shares: Vec<String> = tally.wins.iter().map(usize::to_string).collect();
    let mut text = format!(
        "rename {way} decides{between}: {racers} racers after {files} files, one got each ({})",
        shares.join(", ")
    );
    if tally.mistold > 0 {
        text.push_str(&format!(
            "; {} times it reported an error and was done, as the names showed",
            tally.mistold
        ));
    }
    text + hardly(tally) + &errors(&tally.errors)
}

/// Where the racers did not meet.
fn hardly(tally: &Tally) -> &'static str {
    if tally.was_close() {
        ""
    } else {
        "; but one was always first, so this shows little: check again when the machine is less busy"
    }
}

fn creations(tally: &Tally, folder: &str, between: &str) -> String {
    let (files, racers) = (tally.files, tally.wins.len());
    if tally.doubled + tally.lies > 0 {
        return format!(
            "making a file in {folder} does not exclude others{between}: of {files} files {} were made more than once",
            tally.doubled + tally.lies
        );
    }
    if tally.vanished + tally.refused >= files {
        let error = tally
            .errors
            .keys()
            .next()
            .map_or("they are gone at once", String::as_str);
        return format!("files cannot be made in {folder}{between}: {error}");
    }
    format!(
        "making a file in {folder} excludes others{between}: {racers} racers after {files} names, one made each{}{}",
        hardly(tally),
        errors(&tally.errors)
    )
}

fn replacing(reads: &Reads, folder: &str, between: &str) -> String {
    let times = format!("{} reads beside {} replacements", reads.reads, reads.replaced);
    if reads.mixed > 0 {
        return format!(
            "a file in {folder} that is replaced by rename is not whole{between}: {} of {times} showed parts",
            reads.mixed
        );
    }
    if reads.nothing > 0 {
        return format!(
            "a file in {folder} that is replaced by rename is missing{between}: {} of {times} found nothing, also \
             after several looks",
            reads.nothing
        );
    }
    if reads.outdated > 0 {
        return format!(
            "a file in {folder} that was replaced by rename is still read as it was{between} after 3s"
        );
    }
    let mut text =
        format!("a file in {folder} is replaced whole by rename{between}: {times}, each old or new");
    if reads.backward > 0 {
        text.push_str(&format!("; {} showed an older one after a newer", reads.backward));
    }
    if reads.unreadable > 0 {
        text.push_str(&format!("; {} could not be read for a second", reads.unreadable));
    }
    text + &errors(&reads.gaps)
}

fn handover(seen: &Handover) -> String {
    let rounds = seen.rounds;
    if seen.old > 0 {
        return format!(
            "who takes a message through the other mount reads an old record: {} of {rounds} times",
            seen.old
        );
    }
    if seen.nothing > 0 {
        return format!(
            "who takes a message through the other mount finds no record: {} of {rounds} times",
            seen.nothing
        );
    }
    if seen.refused > 0 {
        return "a message that was released cannot be taken through the other mount within 5s".to_owned();
    }
    format!(
        "who takes a message through the other mount reads what was recorded before: {rounds} times, at most {} ms \
         after the release{}{}",
        seen.slowest,
        if seen.unreadable > 0 {
            "; sometimes it cannot be read for a second, then the message waits"
        } else {
            ""
        },
        errors(&seen.gaps)
    )
}

fn locks(locking: &Locking, between: &str, lease: Duration) -> String {
    let lease = units::show_duration(lease);
    match locking {
        Locking::Works if between.is_empty() => {
            "locks work: a node that died on this machine is noticed at once".to_owned()
        }
        Locking::Works => format!("locks work{between}"),
        Locking::Ignored if between.is_empty() => {
            format!("locks have no effect on this storage: a dead node is noticed after {lease}")
        }
        Locking::Ignored => format!("locks have no effect{between}: a dead node is noticed after {lease}"),
        Locking::Refused(error) => {
            format!("this storage knows no locks ({error}): a dead node is noticed after {lease}")
        }
    }
}

fn visible(seen: &Visible, lease: Duration) -> (String, &'static str) {
    let time = |time: Option<Duration>| {
        time.map_or_else(
            || format!("not within {}", units::show_duration(lease)),
            |time| format!("after {}", millis(time)),
        )
    };
    let text = format!(
        "through the other mount a new file is seen {}, a renamed one is seen gone {}, a heartbeat {}",
        time(seen.made),
        time(seen.gone),
        time(seen.rewritten)
    );
    (
        text,
        "mount it with shorter cache times, or set a longer cluster.lease",
    )
}

fn errors(errors: &BTreeMap<String, usize>) -> String {
    let all: Vec<String> = errors
        .iter()
        .map(|(error, count)| format!("{count} x {error}"))
        .collect();
    if all.is_empty() {
        String::new()
    } else {
        format!("; errors at the first look: {}", all.join(", "))
    }
}

fn millis(time: Duration) -> String {
    if time < Duration::from_millis(1) {
        format!("{} us", time.as_micros())
    } else {
        format!("{} ms", time.as_millis())
    }
}
