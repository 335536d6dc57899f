//! Destinations that are dead, silent or slow beside others, and several messages under way on one connection.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use mailroot::practice::{Host, Script};
use support::dns::DnsServer;
use support::hosts::{APP, by_mx, host, hosts, script};
use support::place::{Place, arrivals, message, to_smart_host};

#[test]
fn a_dead_destination_does_not_delay_a_good_one() {
    const STALL: Duration = Duration::from_secs(20);
    let [good, dead] = hosts(["", "stall after connect 20s"]);
    let dns = DnsServer::start("good.example A 127.0.0.1\ndead.example A 127.0.0.2");
    let mut place = Place::new(&by_mx(
        &dns,
        good.port(),
        "timeout = \"20s\"\nmax_connections = 30\n",
    ));
    for n in 0..60 {
        place.put(
            format!("dead-{n}"),
            message(APP, &["bob@dead.example"], &format!("d{n}")),
        );
    }
    place.start();
    place.wait("the dead one is tried", || dead.counts().connections > 0);
    let begun = Instant::now();
    for n in 0..20 {
        let both = message(APP, &["bob@good.example"], &format!("g{n}"));
        place.put(format!("good-{n}"), both);
    }
    place.wait("the good ones arrive", || good.counts().messages == 20);
    assert!(begun.elapsed() < STALL, "{:?}", begun.elapsed());
    assert_eq!(dead.counts().messages, 0);
    assert!(dead.counts().connections <= 20, "{:?}", dead.counts());
    drop(dead); // ends the pauses
    place.stop();
}

#[test]
fn what_waits_for_an_unreachable_destination_is_deferred_together() {
    let host = host("connect -> 421 4.3.2 closed for today");
    let mut place = Place::new(&to_smart_host(host.port(), ""));
    for n in 0..50 {
        place.put(
            format!("{n}"),
            message(APP, &["bob@example.net"], &format!("m{n}")),
        );
    }
    assert_eq!(place.drain().code, Some(75));
    assert_eq!(place.files("Queue", "ENV").len(), 50);
    assert_eq!(place.files("Queue", "EML").len(), 50);
    let connections = host.counts().connections;
    assert!(
        connections <= 8,
        "{connections} connections for 50 messages to a host that refuses"
    );

    // and when it is back, all of it goes
    host.follow(Script::new());
    place.settings(&to_smart_host(host.port(), "retry = [\"100ms\"]"));
    for file in place.files("Queue", "EML") {
        let later = std::time::SystemTime::now() + Duration::from_secs(60); // as `touch` in a minute
        fs::File::options()
            .write(true)
            .open(file)
            .unwrap()
            .set_modified(later)
            .unwrap();
    }
    assert_eq!(place.drain().code, Some(0), "{}", place.log());
    assert_eq!(host.counts().messages, 50);
    assert!(place.is_empty());
}

#[test]
fn many_that_never_answer_leave_room_for_those_that_do() {
    const DEAD: u8 = 40;
    let good = host("");
    // It is spoken to, and never speaks: the system accepts for it, on every address of loopback.
    let silent = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let dns = DnsServer::start("nobody.example A 127.0.0.1");
    let delivery = "timeout = \"40s\"\nconnect_timeout = \"40s\"\nmax_connections = 8\n";
    let remote = format!(
        "[[remote]]\nname = \"good.example\"\nroute = \"smart_host\"\nsmart_host = \"[127.0.0.1]:{}\"\n",
        good.port()
    );
    let settings = by_mx(
        &dns,
        silent.local_addr().unwrap().port(),
        &format!("{delivery}\n{remote}"),
    );
    let mut place = Place::new(&settings);
    place.put("first", message(APP, &["bob@good.example"], "first"));
    place.start();
    place.wait("the good one is reached, and left again", || {
        good.counts().messages == 1 && place.log().contains("delivered") && good.counts().open == 0
    });
    let to: Vec<String> = (1..=DEAD).map(|n| format!("x@[127.1.0.{n}]")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    place.put("dead", message(APP, &to, "dead"));
    let mut held = Vec::new();
    silent.set_nonblocking(true).unwrap();
    place.wait("the dead ones have all the sessions that they get", || {
        held.extend(silent.accept().ok());
        held.len() == 4
    });
    std::thread::sleep(Duration::from_millis(500)); // time to take more, if they could
    let begun = Instant::now();
    for n in 0..10 {
        place.put(
            format!("good-{n}"),
            message(APP, &["bob@good.example"], &format!("g{n}")),
        );
    }
    place.wait("the good ones arrive", || good.counts().messages == 11);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    held.extend(std::iter::from_fn(|| silent.accept().ok()));
    assert_eq!(held.len(), 4, "sessions of those that were never reached");
    drop((held, silent)); // what waits for them ends
    place.stop();
}

/// How many messages of Queue are in a hand, and how many wait.
fn taken_and_waiting(place: &Place) -> (usize, usize) {
    let files = place.files("Queue", "EML");
    let taken = files.iter().filter(|file| file.to_string_lossy().contains('@'));
    let taken = taken.count();
    (taken, files.len() - taken)
}

#[test]
fn more_mail_than_fits_for_hosts_that_never_answer_leaves_room_for_other_mail() {
    const DEAD: usize = 40;
    const EACH: usize = 30;
    let good = host("");
    let silent = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let dns = DnsServer::start("nobody.example A 127.0.0.1");
    let remote = format!(
        "[[remote]]\nname = \"good.example\"\nroute = \"smart_host\"\nsmart_host = \"[127.0.0.1]:{}\"\n",
        good.port()
    );
    let port = silent.local_addr().unwrap().port();
    let mut place = Place::new(&by_mx(
        &dns,
        port,
        &format!("timeout = \"5m\"\nconnect_timeout = \"5m\"\n\n{remote}"),
    ));
    for n in 0..DEAD * EACH {
        let to = format!("x@[127.1.0.{}]", n % DEAD + 1);
        place.put(format!("dead-{n}.eml"), message(APP, &[&to], &format!("d{n}")));
    }
    place.start();
    place.wait("as many are in hand as may be", || {
        taken_and_waiting(&place).0 > 500
    });
    for n in 0..50 {
        let text = message(APP, &["bob@good.example"], &format!("g{n}"));
        place.put(format!("good-{n}"), text);
    }
    place.wait("the good ones arrive", || good.counts().messages == 50);
    // Names that change while a folder is listed can be seen twice or not at all.
    place.wait("all others are accounted for", || {
        let (taken, waiting) = taken_and_waiting(&place);
        let outside = place.files("Pickup", "eml").len();
        outside > 400 && taken < 700 && taken + waiting + outside == DEAD * EACH
    });
    drop(silent); // what waits for them ends
    place.stop();
}

/// A host that opens the conversation late, and so many files for it.
fn more_than_fits_for_a_slow_host(all: usize) -> (Host, Place) {
    let slow = host("connect -> stall 3s then accept");
    let place = Place::new(&to_smart_host(slow.port(), ""));
    for n in 0..all {
        place.put(
            format!("{n}.eml"),
            message(APP, &["bob@example.net"], &format!("m{n}")),
        );
    }
    (slow, place)
}

/// The same, and all of them lie in Queue: it was not there when they came.
fn more_than_fits_waits_for_a_slow_host(all: usize) -> (Host, Place) {
    let (slow, mut place) = more_than_fits_for_a_slow_host(all);
    slow.follow(script("connect -> 421 4.3.2 closed for today"));
    place.settings(&to_smart_host(slow.port(), "retry = [\"100ms\"]"));
    assert_eq!(place.drain().code, Some(75));
    assert_eq!(taken_and_waiting(&place), (0, all));
    std::thread::sleep(Duration::from_millis(200)); // all are due
    slow.follow(script("connect -> stall 3s then accept"));
    (slow, place)
}

/// Each of so many messages, soon, and that ends the service.
fn all_arrive_once(all: usize, slow: &Host, place: &mut Place) {
    let begun = Instant::now();
    place.wait_until_empty();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let arrived = arrivals(slow);
    assert_eq!(arrived.len(), all);
    assert!(arrived.values().all(|n| *n == 1), "{arrived:?}");
    place.stop();
}

#[test]
fn what_would_only_wait_for_a_slow_host_stays_in_pickup_and_goes_when_that_begins_to_speak() {
    const ALL: usize = 1500;
    let (slow, mut place) = more_than_fits_for_a_slow_host(ALL);
    place.start();
    place.wait("as many are in hand as may be", || {
        taken_and_waiting(&place).0 > 500
    });
    assert!(place.files("Pickup", "eml").len() > ALL / 2);
    all_arrive_once(ALL, &slow, &mut place);
}

#[test]
fn what_was_put_off_goes_when_its_host_begins_to_speak() {
    const ALL: usize = 1500;
    let (slow, mut place) = more_than_fits_waits_for_a_slow_host(ALL);
    place.start();
    place.wait("it leaves room for others", || {
        taken_and_waiting(&place).1 > ALL / 2
    });
    all_arrive_once(ALL, &slow, &mut place);
}

#[test]
fn a_drain_waits_for_what_stays_in_pickup_and_for_what_was_put_off() {
    const ALL: usize = 1500;
    for lay in [
        more_than_fits_for_a_slow_host,
        more_than_fits_waits_for_a_slow_host,
    ] {
        let (slow, mut place) = lay(ALL);
        assert_eq!(place.drain().code, Some(0), "{}", place.log());
        assert_eq!(slow.counts().messages as usize, ALL);
        assert!(place.is_empty());
    }
}

#[test]
fn a_stop_waits_for_no_greeting_and_counts_no_attempt() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut place = Place::new(&to_smart_host(silent.local_addr().unwrap().port(), ""));
    place.put("x", message(APP, &["bob@example.net"], "x"));
    place.start();
    let _held = silent.accept().unwrap();
    let begun = Instant::now();
    place.stop();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(taken_and_waiting(&place), (0, 1));
    assert!(place.files("Queue", "ENV").is_empty(), "{}", place.log());
}

#[test]
fn one_connection_is_shared_by_turns() {
    let busy = host("end -> stall 200ms then accept");
    let other = host("");
    let settings = format!(
        "{}[[remote]]\nname = \"other.example\"\nroute = \"smart_host\"\nsmart_host = \"[127.0.0.1]:{}\"\n",
        to_smart_host(busy.port(), "max_connections = 1\n"),
        other.port()
    );
    let mut place = Place::new(&settings);
    for n in 0..100 {
        place.put(
            format!("busy-{n}"),
            message(APP, &["bob@busy.example"], &format!("b{n}")),
        );
    }
    place.start();
    place.wait("the busy one is served", || busy.counts().messages > 0);
    place.put("other", message(APP, &["bob@other.example"], "other"));
    place.wait("the other one is served", || other.counts().messages == 1);
    let before = busy.counts().messages;
    assert!(before < 60, "it waited for {before} of 100 messages");
    place.wait("the busy one goes on", || busy.counts().messages > before + 3);
    place.stop();
}

#[test]
fn several_under_way_end_each_as_the_host_says() {
    const GOOD: usize = 40;
    for offers in ["", "offer PIPELINING, 8BITMIME, ENHANCEDSTATUSCODES\n"] {
        let host = host(&format!(
            "{offers}mail over 7 -> 421 4.7.0 enough for one connection\nrcpt no@* -> 550 5.1.1 nobody\n"
        ));
        let mut place = Place::new(&to_smart_host(host.port(), "max_connections = 1\n"));
        for n in 0..GOOD {
            place.put(
                format!("good-{n}"),
                message(APP, &["bob@example.net"], &format!("g{n}")),
            );
            if n % 5 == 0 {
                place.put(
                    format!("bad-{n}"),
                    message("", &["no@example.net"], &format!("b{n}")),
                );
            }
        }
        let began = Instant::now();
        assert_eq!(place.drain().code, Some(65), "{}", place.log());
        let arrived = arrivals(&host);
        assert_eq!(arrived.len(), GOOD, "{arrived:?}");
        assert!(arrived.values().all(|n| *n == 1), "{arrived:?}");
        assert_eq!(place.files("Badmail", "BAD").len(), GOOD / 5);
        assert!(place.is_empty(), "{}", place.log());
        // What a 421 left untouched was not put off to a later attempt.
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    }
}

#[test]
fn what_needs_a_record_is_settled_when_nothing_is_under_way_with_it() {
    let host = host("connect -> stall 500ms then accept\nrcpt no@* -> 550 5.1.1 nobody\n");
    let mut place = Place::new(&to_smart_host(host.port(), "max_connections = 1\n"));
    for n in 0..9 {
        let to = if n == 4 {
            "no@example.net"
        } else {
            "bob@example.net"
        };
        place.put(format!("m{n}"), message("", &[to], &format!("m{n}")));
    }
    assert_eq!(place.drain().code, Some(65), "{}", place.log());
    let log = place.log();
    let settled: Vec<&str> = log
        .lines()
        .filter_map(|line| {
            let is_one = |word: &&&str| line.contains(&format!(" {word} "));
            ["delivered", "failed"].iter().find(is_one).copied()
        })
        .collect();
    // All stand in line when the host greets; after the first three the window has room for the rest.
    assert_eq!(settled.len(), 9, "{log}");
    assert_eq!(settled.last(), Some(&"failed"), "{log}");
}
