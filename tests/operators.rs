//! What operators do with a tree while the service runs, and what restarts, crashes and a second process do to it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use mailroot::practice::{Host, Script};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use support::place::{PATIENCE, Place, arrivals, message, to_smart_host};
use support::{process, tree};

const LATER: &str = "mail -> 451 4.3.0 later";

fn host(script: &str) -> Host {
    Host::start(script.parse().unwrap()).unwrap()
}

fn deferred(place: &Place) -> PathBuf {
    place.wait("the message was deferred", || {
        place.text("Queue", "ENV").contains("\nlast deferred")
            && !place.files("Queue", "EML")[0].to_str().unwrap().contains('@')
    });
    place.files("Queue", "EML").pop().unwrap()
}

/// The service with one message that its host has deferred for an hour.
fn with_deferred(host: &Host, more: &str) -> (Place, PathBuf) {
    let mut place = Place::new(&to_smart_host(host.port(), &format!("retry = [\"1h\"]\n{more}")));
    place.start();
    place.put(
        "order.eml",
        message("app@local.test", &["bob@example.net"], "order"),
    );
    let file = deferred(&place);
    (place, file)
}

fn touch(path: &std::path::Path) {
    let file = fs::File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(30))
        .unwrap();
}

#[test]
fn touch_tries_again_now() {
    let host = host(LATER);
    // A host follows another script from its next connection on.
    let (place, file) = with_deferred(&host, "[messages]\nmax_per_connection = 1\n");
    host.follow(Script::new());
    touch(&file);
    place.wait_until_empty();
    assert_eq!(arrivals(&host), BTreeMap::from([("order".into(), 1)]));
}

#[test]
fn rm_cancels_and_nobody_is_told() {
    let host = host(LATER);
    let (mut place, file) = with_deferred(&host, "");
    fs::remove_file(&file).unwrap();
    host.follow(Script::new());
    place.stop();
    assert_eq!(place.drain().code, Some(0), "nothing waits");
    assert_eq!(arrivals(&host), BTreeMap::new());
    assert_eq!(tree::files(&place.root(), "Drop"), Vec::<PathBuf>::new());
    assert_eq!(tree::files(&place.root(), "Badmail"), Vec::<PathBuf>::new());
}

#[test]
fn a_held_message_is_moved_to_another_mailroot_and_goes_on_there_with_its_record() {
    let first = host("rcpt later@* -> 451 4.3.0 later");
    let mut here = Place::new(&to_smart_host(first.port(), "retry = [\"1h\"]\n"));
    here.start();
    here.put(
        "order.eml",
        message(
            "app@local.test",
            &["bob@example.net", "later@example.net"],
            "order",
        ),
    );
    let file = deferred(&here);
    let held = file.with_extension("HOLD");
    fs::rename(&file, &held).unwrap();

    let second = host("");
    let mut there = Place::new(&to_smart_host(second.port(), ""));
    there.start();
    let mut rest = tree::files(&here.root(), "Queue");
    rest.retain(|path| *path != held);
    for path in rest.iter().chain([&held]) {
        fs::rename(path, there.root().join("Queue").join(path.file_name().unwrap())).unwrap();
    }
    let arrived = there.root().join("Queue").join(held.file_name().unwrap());
    touch(&arrived);
    fs::rename(&arrived, arrived.with_extension("EML")).unwrap();
    there.wait("the second mailroot has sent it", || {
        second.counts().messages == 1
    });
    let recipients: Vec<String> = second.accepted()[0]
        .recipients
        .iter()
        .map(|r| r.address.clone())
        .collect();
    assert_eq!(
        recipients,
        ["later@example.net"],
        "the first had sent it to the other"
    );
    here.stop();
    there.stop();
}

#[test]
fn the_schedule_survives_a_restart() {
    let host = host(LATER);
    let (mut place, file) = with_deferred(&host, "");
    let env = place.text("Queue", "ENV");
    place.stop();
    let connections = host.counts().connections;
    place.start();
    // Something that the service does after its first look at Queue.
    place.put(
        "local.eml",
        message("app@local.test", &["ann@local.test"], "local"),
    );
    place.wait("the service works", || {
        !tree::files(&place.root(), "Drop").is_empty()
    });
    place.stop();
    assert_eq!(
        place.text("Queue", "ENV"),
        env,
        "neither tried again nor forgotten"
    );
    assert_eq!(host.counts().connections, connections);
    assert!(file.exists());
}

#[test]
fn a_delay_is_told_once_also_across_restarts_and_expiry_ends_the_wait() {
    let host = host(LATER);
    let settings = to_smart_host(
        host.port(),
        "retry = [\"200ms\"]\ndelay_notice = \"300ms\"\nexpire = \"4s\"\n",
    );
    let mut place = Place::new(&settings);
    place.start();
    place.put(
        "order.eml",
        message("app@local.test", &["bob@example.net"], "order"),
    );
    let reports = |place: &Place, kind: &str| {
        place
            .text("Drop", "EML")
            .matches(&format!("Subject: Delivery Status Notification ({kind})"))
            .count()
    };
    place.wait("the delay is told", || reports(&place, "Delay") == 1);
    place.stop();
    place.start();
    place.wait("its time is over", || reports(&place, "Failure") == 1);
    place.wait("it is gone", || place.files("Queue", "EML").is_empty());
    assert_eq!(reports(&place, "Delay"), 1);
    assert!(place.text("Drop", "EML").contains("Status: 4.4.7"));
    place.stop();
}

#[test]
fn a_drain_beside_a_service_and_two_drains_at_once_double_nothing() {
    const MESSAGES: usize = 200;
    let host = host("");
    let mut place = Place::new(&to_smart_host(host.port(), ""));
    for n in 0..MESSAGES {
        let text = message("app@local.test", &["bob@example.net"], &format!("m{n}"));
        place.put(format!("{n}.eml"), text);
    }
    let root = place.root().display().to_string();
    let notes: Vec<PathBuf> = ["a", "b"].iter().map(|n| place.beside().join(n)).collect();
    place.start();
    let mut drains: Vec<_> = notes
        .iter()
        .map(|notes| process::start(notes, &["drain", &root]))
        .collect();
    for drain in &mut drains {
        let status = drain.ends_within(PATIENCE).expect("a drain ends");
        assert!(
            matches!(status.code(), Some(0 | 75)),
            "{status:?}: {}",
            drain.stderr()
        );
    }
    place.wait_until_empty();
    place.stop();
    let arrived = arrivals(&host);
    assert_eq!(arrived.len(), MESSAGES, "none is lost");
    assert!(arrived.values().all(|&n| n == 1), "none is doubled");
}

#[test]
fn sigterm_finishes_what_is_on_the_wire() {
    let host = host("end -> stall 1s then 250 2.0.0 taken");
    let mut place = Place::new(&to_smart_host(host.port(), ""));
    place.start();
    place.put(
        "order.eml",
        message("app@local.test", &["bob@example.net"], "order"),
    );
    place.wait("it is on the wire", || {
        host.dialogue()
            .iter()
            .any(|(_, line)| line.starts_with("DATA") || line.starts_with("BDAT"))
    });
    place.stop();
    assert_eq!(arrivals(&host), BTreeMap::from([("order".into(), 1)]));
    assert_eq!(place.drain().code, Some(0));
    assert_eq!(
        arrivals(&host),
        BTreeMap::from([("order".into(), 1)]),
        "it is not sent again"
    );
}

#[test]
fn kills_lose_nothing_and_double_at_most_what_was_on_the_wire() {
    kills(1);
    kills(16);
}

/// One connection on which so many messages may be under way.
fn kills(in_flight: usize) {
    const MESSAGES: usize = 150;
    const KILLS: usize = 5;
    let host = host("reply delay 2ms");
    let settings = format!("max_connections = 1\nmax_in_flight = {in_flight}\n");
    let mut place = Place::new(&to_smart_host(host.port(), &settings));
    for n in 0..MESSAGES {
        place.put(
            format!("{n}.eml"),
            message("app@local.test", &["bob@example.net"], &format!("m{n}")),
        );
    }
    for round in 1..=KILLS {
        let root = place.root().display().to_string();
        let service = process::start(&place.beside().join(format!("run{round}")), &["run", &root]);
        let goal = (MESSAGES * round / (KILLS + 2)) as u64;
        place.wait("some are sent", || host.counts().messages >= goal);
        service.crash();
    }
    assert_eq!(place.drain().code, Some(0), "{}", place.log());
    let arrived = arrivals(&host);
    assert_eq!(arrived.len(), MESSAGES, "none is lost");
    let extra: usize = arrived.values().map(|n| n - 1).sum();
    let most = KILLS * in_flight;
    assert!(
        extra <= most,
        "{extra} extra copies after {KILLS} kills, {in_flight} in flight"
    );
    assert!(place.is_empty(), "{}", tree::listing(&place.root()));
}

#[test]
fn sighup_takes_good_settings_and_leaves_broken_ones() {
    let (old, new) = (host(LATER), host(""));
    let (mut place, file) = with_deferred(&old, "");
    place.settings("[delivery]\nsmart_hots = \"x\"\n");
    place.service().signal(Signal::HUP);
    place.wait("the mistake is told", || place.log().contains("smart_hots"));
    place.settings(&to_smart_host(new.port(), ""));
    place.service().signal(Signal::HUP);
    place.wait("the new settings are told", || {
        place.log().contains("settings read again")
    });
    touch(&file);
    place.wait("the new host has it", || new.counts().messages == 1);
    assert_eq!(old.counts().messages, 0);
    place.stop();
}

#[test]
fn a_domain_on_hold_waits_and_goes_when_it_is_set_free() {
    let host = host("");
    let held = |hold: bool| {
        let entry = format!("[[remote]]\nname = \"example.net\"\nroute = \"smart_host\"\nhold = {hold}\n");
        to_smart_host(host.port(), &format!("retry = [\"1h\"]\n{entry}"))
    };
    let mut place = Place::new(&held(true));
    place.start();
    place.put(
        "order.eml",
        message("app@local.test", &["bob@example.net", "eve@example.org"], "order"),
    );
    place.wait("the other recipient has it", || host.counts().messages == 1);
    deferred(&place);
    assert!(
        place.text("Queue", "ENV").contains("rcpt open tries=0 "),
        "waiting for its domain is no attempt"
    );
    place.settings(&held(false));
    place.service().signal(Signal::HUP);
    place.wait("it has gone", || host.counts().messages == 2);
    place.stop();
}

#[test]
fn a_message_out_of_badmail_goes_to_exactly_those_who_did_not_get_it() {
    let host = host("rcpt bad@* -> 550 5.1.1 no");
    let mut place = Place::new(&to_smart_host(host.port(), ""));
    let text =
        "x-sender: <>\nx-receiver: <good@example.net>\nx-receiver: <bad@example.net>\nSubject: s\n\nhello\n";
    place.put("notice.eml", text);
    assert_eq!(place.drain().code, Some(65));
    host.follow(Script::new());
    let bad = place.files("Badmail", "BAD").pop().unwrap();
    fs::rename(&bad, place.pickup("again.eml")).unwrap();
    assert_eq!(place.drain().code, Some(0));
    let recipients: Vec<Vec<String>> = host
        .accepted()
        .iter()
        .map(|m| m.recipients.iter().map(|r| r.address.clone()).collect())
        .collect();
    assert_eq!(recipients, [["good@example.net"], ["bad@example.net"]]);
}

#[test]
fn a_copied_mailroot_goes_on_and_takes_over_what_its_former_node_held() {
    let host = host("end -> stall 60s then 250 ok");
    let cluster = "[cluster]\nheartbeat = \"200ms\"\nlease = \"1s\"\n";
    let mut place = Place::new(&to_smart_host(host.port(), cluster));
    place.start();
    place.put(
        "order.eml",
        message("app@local.test", &["bob@example.net"], "order"),
    );
    place.wait("it is in hand", || {
        place
            .files("Queue", "EML")
            .iter()
            .any(|f| f.to_str().unwrap().contains('@'))
    });
    // While it runs: what a crash of the whole machine leaves for another one.
    let copy = place.beside().join("copy");
    let status = std::process::Command::new("cp")
        .arg("-r")
        .arg(place.root())
        .arg(&copy)
        .status()
        .unwrap();
    assert!(status.success());
    // The other machine has another boot, so only the lease tells.
    for entry in fs::read_dir(copy.join("Status/nodes")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "json") {
            let text = fs::read_to_string(&path)
                .unwrap()
                .replace("\"boot\":\"", "\"boot\":\"elsewhere-");
            fs::write(&path, text).unwrap();
        }
    }
    host.follow(Script::new());
    let service = process::start(&place.beside().join("there"), &["run", copy.to_str().unwrap()]);
    place.wait("the copy has taken it over and sent it", || {
        tree::files(&copy, "Queue").is_empty()
    });
    assert!(host.counts().messages >= 1);
    service.stop();
}
