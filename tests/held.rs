//! Domains on hold: their mail waits in Queue until somebody comes for it, and goes once for each time somebody does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use mailroot::practice::{Host, Script};
use rustix::process::Signal;
use std::fs;
use support::hosts::{host, recipients, who};
use support::place::{Place, message, to_smart_host};
use support::process;

/// Two domains on hold, and all below a third; nothing is tried again by itself.
fn settings(host: &Host, more: &str) -> String {
    let held =
        |name: &str| format!("[[remote]]\nname = \"{name}\"\nroute = \"smart_host\"\nhold = true\n{more}\n");
    let entries = held("example.net") + &held("example.org") + &held("*.example.com");
    to_smart_host(
        host.port(),
        &format!("retry = [\"1h\"]\ndelay_notice = \"1ms\"\n{entries}"),
    )
}

/// Puts a message to each into Pickup.
fn put(place: &Place, recipients: &[&str]) {
    for to in recipients {
        place.put(format!("{to}.eml"), message("app@local.test", &[to], to));
    }
}

/// So many recipients wait for their domain and for nothing else.
fn on_hold(place: &Place) -> usize {
    place
        .text("Queue", "ENV")
        .matches("its domain is on hold")
        .count()
}

/// A service that has one message to example.net.
fn with_one_on_hold(settings: &str) -> Place {
    let mut place = Place::new(settings);
    place.start();
    put(&place, &["a@example.net"]);
    place.wait("it is on hold", || on_hold(&place) == 1);
    place
}

fn release(place: &Place, domain: &str) -> process::Finished {
    let root = place.root().display().to_string();
    let notes = place.beside().join("asking");
    process::mailroot(&notes, &["queue", "release", "--domain", domain, &root])
}

#[track_caller]
fn come_for(place: &Place, domain: &str) {
    let done = release(place, domain);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.starts_with("asked: "), "{}", done.stdout);
}

fn attempts(host: &Host) -> usize {
    let dialogue = host.dialogue();
    dialogue
        .iter()
        .filter(|(_, line)| line.contains("MAIL FROM"))
        .count()
}

#[test]
fn only_the_domain_that_is_asked_for_and_only_what_had_come() {
    let host = host("");
    let mut place = Place::new(&settings(&host, ""));
    place.start();
    put(
        &place,
        &[
            "a@example.net",
            "b@example.org",
            "c@x.example.com",
            "d@y.example.com",
        ],
    );
    place.put(
        "both.eml",
        message(
            "app@local.test",
            &["e@example.net", "f@example.org", "g@free.test"],
            "both",
        ),
    );
    place.wait("all but one are on hold", || {
        on_hold(&place) == 6 && host.counts().messages == 1
    });
    come_for(&place, "Example.NET.");
    place.wait("those of that domain are there", || host.counts().messages == 3);
    assert_eq!(who(&host), ["a@example.net", "e@example.net", "g@free.test"]);

    put(&place, &["late@example.net"]);
    place.wait("what came later waits", || on_hold(&place) == 5);
    assert_eq!(host.counts().messages, 3);

    come_for(&place, "@example.com");
    place.wait("a domain and all below it", || host.counts().messages == 5);
    come_for(&place, "example.org");
    place.wait("the other half of the one to two domains too", || {
        host.counts().messages == 7
    });
    come_for(&place, "example.net");
    place.wait_until_empty();
    assert_eq!(host.counts().messages, 8);
    place.stop();
    assert_eq!(place.log().matches("asked for: ").count(), 4, "{}", place.log());
}

#[test]
fn each_request_is_one_attempt_and_is_seen_once() {
    let host = host("mail -> 451 4.3.0 not today");
    let mut place = with_one_on_hold(&settings(&host, ""));
    assert_eq!(attempts(&host), 0);
    come_for(&place, "example.net");
    place.wait("it was tried", || {
        place.text("Queue", "ENV").contains("451 4.3.0 not today")
    });
    let record = place.text("Queue", "ENV");
    assert!(record.contains("rcpt open tries=1 "), "{record}");
    place.stop();
    // The request lies there yet; a restart, and a drain, find that it has been served.
    assert!(place.root().join("Status/release/=example.net").exists());
    assert_eq!(place.drain().code, Some(75));
    assert_eq!(attempts(&host), 1);

    host.follow(Script::new());
    put(&place, &["b@example.net"]);
    assert_eq!(place.drain().code, Some(75), "it came after the request");
    assert_eq!(host.counts().messages, 0);
    come_for(&place, "example.net");
    put(&place, &["c@example.net"]);
    assert_eq!(
        place.drain().code,
        Some(75),
        "the third came after the second request"
    );
    assert_eq!(who(&host), ["a@example.net", "b@example.net"]);
    assert!(
        !place.text("Drop", "EML").contains("delayed"),
        "nobody is told that mail on hold takes long"
    );
}

#[test]
fn each_node_sees_it() {
    let host = host("");
    let debug = format!("{}[log]\nlevel = \"debug\"\n", settings(&host, ""));
    let mut place = with_one_on_hold(&debug);
    let root = place.root().display().to_string();
    let other = process::start(&place.beside().join("other"), &["run", &root]);
    place.wait("the other node knows of it", || {
        other.stderr().contains("Queue was listed waiting=1")
    });
    place.service().signal(Signal::STOP);
    come_for(&place, "example.net");
    place.wait("the other node has sent it", || host.counts().messages == 1);
    place.service().signal(Signal::CONT);
    place.wait_until_empty();
    place.stop();
    other.stop();
    assert_eq!(host.counts().messages, 1);
    assert_eq!(recipients(&host.accepted()[0]), ["a@example.net"]);
}

#[test]
fn what_nobody_comes_for_is_returned_in_time() {
    let host = host("");
    let mut place = Place::new(&settings(&host, "hold_expire = \"1s\""));
    place.start();
    put(&place, &["a@example.net"]);
    place.wait("its sender is told", || !place.files("Drop", "EML").is_empty());
    place.wait_until_empty();
    let text = place.text("Drop", "EML");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("Status: 4.4.7") && text.contains("nobody has come to fetch it within 1s"),
        "{text}"
    );
    assert_eq!(
        place.files("Drop", "EML").len(),
        1,
        "one report, and no notice of a delay"
    );
    place.stop();
    assert_eq!(attempts(&host), 0);
}

#[test]
fn who_asks_for_something_else_is_told_what_there_is() {
    let host = host("");
    let place = Place::new(&settings(&host, ""));
    assert_eq!(
        release(&place, "example.net").code,
        Some(66),
        "nothing ever ran there"
    );
    fs::create_dir(place.root().join("Status")).unwrap();
    for (domain, words) in [
        ("example.edu", "example.edu is not on hold: "),
        (
            "example.com",
            "has hold = true for example.net, example.org, @example.com",
        ),
        ("*.example.com", "write @example.com"),
        ("a b", "\"a b\" is not a domain"),
    ] {
        let done = release(&place, domain);
        assert_eq!(done.code, Some(64), "{domain}: {}", done.stderr);
        assert!(done.stderr.contains(words), "{domain}: {}", done.stderr);
    }
    place.settings(&to_smart_host(host.port(), ""));
    let done = release(&place, "example.net");
    assert!(
        done.code == Some(64) && done.stderr.contains("no [[remote]] entry of "),
        "{}",
        done.stderr
    );
    assert!(!place.root().join("Status/release").exists(), "nothing was asked");
}

#[test]
fn who_comes_during_an_attempt_is_served_after_it() {
    let host = host("mail first 1 -> stall 2s then 451 4.3.0 not yet");
    let mut place = with_one_on_hold(&settings(&host, ""));
    come_for(&place, "example.net");
    place.wait("it is being tried", || attempts(&host) == 1);
    std::thread::sleep(std::time::Duration::from_millis(20)); // a time of its own, however coarse the storage's are
    come_for(&place, "example.net");
    place.wait("it is tried again", || host.counts().messages == 1);
    place.stop();
    assert_eq!(attempts(&host), 2);
}

#[test]
fn several_nodes_try_once_for_each_request() {
    let host = host("mail -> 451 4.3.0 not today");
    let debug = format!("{}[log]\nlevel = \"debug\"\n", settings(&host, ""));
    let mut place = with_one_on_hold(&debug);
    let root = place.root().display().to_string();
    let others = ["one", "two"].map(|name| process::start(&place.beside().join(name), &["run", &root]));
    place.wait("the others know of it", || {
        let mut logs = others.iter().map(|other| other.stderr());
        logs.all(|log| log.contains("Queue was listed waiting=1"))
    });
    for tries in 1..=4 {
        come_for(&place, "example.net");
        place.wait("each node has seen the request", || {
            let logs = [place.log(), others[0].stderr(), others[1].stderr()];
            logs.iter().all(|log| seen(log) >= tries)
        });
        place.wait("it was tried", || attempts(&host) == tries);
    }
    place.stop();
    for other in others {
        other.stop();
    }
    assert_eq!(attempts(&host), 4);
}

/// Requests that a node has seen: before its first listing, or since.
fn seen(log: &str) -> usize {
    log.matches("asked for").count()
}

#[test]
fn what_was_deferred_before_its_domain_was_on_hold_is_found_too() {
    let host = host("mail first 1 -> 451 4.3.0 not today");
    let mut place = Place::new(&to_smart_host(host.port(), "retry = [\"1h\"]\n"));
    place.start();
    put(&place, &["a@example.net"]);
    place.wait("it is deferred", || {
        place.text("Queue", "ENV").contains("not today")
    });
    place.settings(&settings(&host, ""));
    place.service().signal(Signal::HUP);
    place.wait("the settings are read", || {
        place.log().contains("settings read again")
    });
    come_for(&place, "example.net");
    place.wait("it is there", || host.counts().messages == 1);
    place.stop();
}

#[test]
fn a_report_says_what_the_host_said_and_not_that_nobody_came() {
    let host = host("mail -> 451 4.3.0 not today");
    let mut place = with_one_on_hold(&settings(&host, "hold_expire = \"3s\""));
    come_for(&place, "example.net");
    place.wait("its sender is told", || !place.files("Drop", "EML").is_empty());
    let text = place.text("Drop", "EML");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("the last attempt to deliver it ended with: 451 4.3.0 not today")
            && !text.contains("nobody has come"),
        "{text}"
    );
    place.stop();
    assert_eq!(attempts(&host), 1);
}
