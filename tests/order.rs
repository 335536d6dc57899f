//! In which order the engine asks the disk, where only a power cut would show another one. `scripts/power-cut` makes
//! those cuts; here the calls are listed by `scripts/faults` (it needs a C compiler, as `cargo` does).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use mailroot::mail::MessageId;
use mailroot::practice::{Host, Script};
use std::fs;
use std::path::Path;
use std::process::Command;
use support::place::{Place, message, to_smart_host};
use support::process;

const ID: &str = "01JDE0Z7M4Y3Q2V1W0X9Y8Z7A6";
const DEAD: &str = "GONE-AB12";

/// Drains a mailroot where these message files lie, on storage with such faults. Returns the calls after the proof of the
/// storage, each as `call path`, with the second path of a rename, and the log; `None` where there is no C compiler.
fn calls_of_a_drain(left: &[String], faults: &str) -> Option<(Vec<String>, String)> {
    let host = Host::start(Script::new()).unwrap();
    let settings = to_smart_host(
        host.port(),
        "[cluster]\nheartbeat = \"100ms\"\nlease = \"600ms\"\n",
    );
    let place = Place::new(&settings);
    let (library, log) = (place.beside().join("faults.so"), place.beside().join("calls"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/faults/faults.c");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source]);
    if !compiler.arg("-ldl").status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: there is no C compiler to list calls with");
        return None;
    }
    for name in left {
        let text = message("app@local.test", &["bob@example.net"], "order");
        fs::write(place.root().join(name), text).unwrap();
    }
    let mut drain = Command::new(env!("CARGO_BIN_EXE_mailroot"));
    drain.arg("drain").arg(place.root());
    drain
        .env("LD_PRELOAD", &library)
        .env("FAULTS_ROOT", place.root())
        .env("FAULTS_LOG", &log)
        .env("FAULTS_FAIL", faults);
    let mut running = process::start_command(&place.beside().join("notes"), drain);
    let status = running
        .ends_within(process::DEADLINE)
        .and_then(|status| status.code());
    assert_eq!(status, Some(0), "{}", running.stderr());
    assert_eq!(host.accepted().len(), left.len());
    let root = format!("{}/", place.root().display());
    let log = fs::read_to_string(log).unwrap().replace(&root, "");
    // Of a line: number, phases, call, path, second path.
    let call = |line: &str| line.split(' ').skip(2).take(3).collect::<Vec<_>>().join(" ");
    let calls: Vec<String> = log.lines().map(|line| call(line).replace(" -", "")).collect();
    let proven = calls
        .iter()
        .rposition(|call| call.contains("PROBE"))
        .map_or(0, |at| at + 1);
    Some((calls[proven..].to_vec(), running.stderr()))
}

/// Asserts that all of these were called, in this order; others may stand between.
fn in_order(calls: &[String], wanted: &[&str]) {
    let mut rest = calls.iter();
    for one in wanted {
        assert!(
            rest.any(|call| call == one),
            "no `{one}` where it must be in:\n{}",
            calls.join("\n")
        );
    }
}

/// The dead node may have brought the message in from another volume: that it is gone there must be durable.
#[test]
fn what_left_pickup_stays_away_before_a_takeover() {
    let Some((calls, _)) = calls_of_a_drain(&[format!("Queue/{ID}@{DEAD}.EML")], "") else {
        return;
    };
    let takeover = format!("rename Queue/{ID}@{DEAD}.EML Queue/{ID}-1.EML");
    in_order(&calls, &["fsync Pickup", &takeover]);
}

/// What only an older record says must not count again, when the newest is gone already.
#[test]
fn the_newest_record_goes_last() {
    let Some((calls, _)) = calls_of_a_drain(&[format!("Queue/{ID}@{DEAD}.EML")], "") else {
        return;
    };
    let (older, newest) = (
        format!("unlink Queue/{ID}.ENV"),
        format!("unlink Queue/{ID}-1.ENV"),
    );
    in_order(&calls, &[&older, "fsync Queue", &newest]);
}

/// On storage far away each sync is a long wait: those who are taken up together wait together.
#[test]
fn messages_of_the_dead_share_their_syncs() {
    const COUNT: usize = 64;
    let waiting: Vec<String> = (0..COUNT)
        .map(|_| format!("Queue/{}-1.EML", MessageId::generate().ulid))
        .collect();
    let Some((calls, _)) = calls_of_a_drain(&waiting, "fsync@Queue=SLOW") else {
        return;
    };
    let claimed = calls
        .iter()
        .filter(|call| call.starts_with("rename Queue/"))
        .count();
    let synced = calls.iter().filter(|call| *call == "fsync Queue").count();
    assert!(claimed >= COUNT, "{claimed}");
    assert!(
        (1..=COUNT / 2).contains(&synced),
        "{synced} syncs of Queue for {COUNT} messages"
    );
}

/// Of many files the first go on their way while the others are taken, however long each claim takes.
#[test]
fn what_was_taken_does_not_wait_for_its_neighbours() {
    let files: Vec<String> = (0..128).map(|n| format!("Pickup/{n}.eml")).collect();
    let Some((_, log)) = calls_of_a_drain(&files, "rename@Pickup=SLOW") else {
        return;
    };
    let lines: Vec<&str> = log.lines().collect();
    let first = lines
        .iter()
        .position(|line| line.contains(" delivered id="))
        .unwrap();
    let last = lines
        .iter()
        .rposition(|line| line.contains(" taken id="))
        .unwrap();
    let before = lines
        .iter()
        .take(first)
        .filter(|line| line.contains(" taken id="))
        .count();
    assert!(
        first < last && before <= 64,
        "{before} were taken before the first was delivered"
    );
}
