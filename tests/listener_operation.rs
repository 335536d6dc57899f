//! The listener, spoken to over real sockets: its limits and its sessions, and what its 250 is worth.
#![cfg(feature = "listener")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::time::Duration;

use support::listener::{Client, SOON, in_pickup, listening};
use support::process::{self, Running};
use support::wait_until;

#[test]
fn commands_out_of_order_are_refused_and_do_no_harm() {
    let (place, _running, address) = listening("");
    let (mut client, _) = Client::connect(address);
    for (line, code) in [
        ("MAIL FROM:<a@b.test>", 503),
        ("RCPT TO:<bob@local.test>", 503),
        ("DATA", 503),
        ("BDAT 0 LAST", 503),
        ("AUTH PLAIN", 503),
        ("HELO", 250),
        ("AUTH PLAIN", 503),
        ("EHLO x", 250),
        ("STARTTLS", 502),
        ("AUTH PLAIN", 502),
        ("RCPT TO:<bob@local.test>", 503),
        ("DATA", 503),
        ("MAIL FROM:<a@b.test>", 250),
        ("MAIL FROM:<a@b.test>", 503),
        ("DATA", 554),
        ("RCPT TO:<bob@local.test>", 250),
        ("VRFY bob", 252),
        ("HELP", 214),
        ("NOOP", 250),
        ("EXPN list", 500),
        ("RSET", 250),
        ("DATA", 503),
    ] {
        client.expect(line, code);
    }
    // a session ends all the same as it would have
    client.expect("MAIL FROM:<>", 250);
    client.expect("RCPT TO:<bob@local.test>", 250);
    assert!(client.data("A: b\r\n\r\n").starts_with("250"));
    assert!(in_pickup(&place).starts_with("x-sender: <>\r\nx-receiver: <bob@local.test>\r\n"));
}

#[test]
fn limits_hold_to_the_byte() {
    let (place, _running, address) = listening(
        "max_recipients = 2\nmax_messages = 2\nmax_errors = 3\n[messages]\nmax_size = 5048\nmax_hops = 2\n",
    );
    let mut client = Client::greeted(address);
    client.expect("MAIL FROM:<a@b.test> SIZE=3001", 552);
    client.expect("MAIL FROM:<a@b.test> SIZE=3000", 250);
    client.expect("RCPT TO:<1@local.test>", 250);
    client.expect("RCPT TO:<2@local.test>", 250);
    client.expect("RCPT TO:<3@local.test>", 452);
    let of = |size: usize| format!("A: b\r\n\r\n{}\r\n", "x".repeat(size - 10));
    assert!(client.data(&of(3001)).starts_with("552"));
    client.expect("MAIL FROM:<a@b.test>", 250);
    client.expect("RCPT TO:<1@local.test>", 250);
    assert!(client.data(&of(3000)).starts_with("250"));
    // the third mistake is the last
    client.send("BOO\r\n");
    assert!(client.reply().starts_with("500"));
    assert!(client.reply().starts_with("421"));
    assert_eq!(client.reply(), "");

    let mut client = Client::greeted(address);
    for hops in [2, 1] {
        client.expect("MAIL FROM:<a@b.test>", 250);
        client.expect("RCPT TO:<1@local.test>", 250);
        let reply = client.data(&format!("{}A: b\r\n\r\n", "Received: x\r\n".repeat(hops)));
        assert!(
            reply.starts_with(if hops > 1 { "554 5.4.6" } else { "250" }),
            "{reply}"
        );
    }
    client.expect("MAIL FROM:<a@b.test>", 250);
    client.expect("RCPT TO:<1@local.test>", 250);
    assert!(client.data(&of(20)).starts_with("250"));
    client.expect("MAIL FROM:<a@b.test>", 421);
    assert_eq!(client.reply(), "");

    // who is turned away for now makes no mistake: those who were taken get their mail (RFC 5321 §4.5.3.1.10)
    let mut client = Client::greeted(address);
    client.expect("MAIL FROM:<a@b.test>", 250);
    for number in 0..20 {
        client.expect(
            &format!("RCPT TO:<{number}@local.test>"),
            if number < 2 { 250 } else { 452 },
        );
    }
    assert!(client.data(&of(20)).starts_with("250"));

    // a line of 2048 bytes with its end, and one more
    let mut client = Client::greeted(address);
    client.expect(&format!("NOOP {}", "x".repeat(2048 - 7)), 250);
    client.expect(&format!("NOOP {}", "x".repeat(2048 - 6)), 500);
    assert_eq!(place.files("Pickup", "EML").len(), 4);
}

#[test]
fn a_session_has_a_size_too() {
    let (_place, _running, address) = listening("max_session_size = 100\n");
    let mut client = Client::sending(address);
    assert!(
        client
            .data(&format!("A: b\r\n\r\n{}\r\n", "x".repeat(50)))
            .starts_with("250")
    );
    client.expect("MAIL FROM:<a@b.test> SIZE=50", 421);
    // what is too much for what is left of this session may come in another one
    let mut client = Client::sending(address);
    let of = |size: usize| format!("A: b\r\n\r\n{}\r\n", "x".repeat(size - 10));
    assert!(client.data(&of(60)).starts_with("250"));
    client.expect("MAIL FROM:<a@b.test>", 250);
    client.expect("RCPT TO:<bob@local.test>", 250);
    assert!(client.data(&of(41)).starts_with("452"));
    client.expect("MAIL FROM:<a@b.test>", 250);
    client.expect("RCPT TO:<bob@local.test>", 250);
    assert!(client.data(&of(40)).starts_with("250"));
    let mut client = Client::greeted(address);
    client.expect("MAIL FROM:<a@b.test> SIZE=101", 552);
}

#[test]
fn too_little_room_is_told_before_anything_is_sent() {
    let (place, _running, address) = listening("min_free = \"1000000GiB\"\n");
    let mut client = Client::greeted(address);
    let reply = client.expect("MAIL FROM:<a@b.test>", 452);
    assert!(reply.starts_with("452 4.3.1"), "{reply}");
    assert!(
        fs::read_dir(place.root().join("Pickup"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn hundreds_that_say_nothing_keep_nobody_out() {
    let (place, running, address) = listening("");
    let idle: Vec<Client> = (0..500).map(|_| Client::connect(address).0).collect();
    let mut client = Client::sending(address);
    assert!(client.data("A: b\r\n\r\n").starts_with("250"));
    assert_eq!(place.files("Pickup", "EML").len(), 1);
    assert!(
        running.most_memory() < 200 * 1024,
        "{} KiB",
        running.most_memory()
    );
    let ended = running.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    drop(idle);
}

/// Replies that nobody reads do not pile up, and such a session can be ended.
#[test]
fn who_does_not_listen_costs_little() {
    let (_place, running, address) = listening("");
    let before = running.most_memory();
    let deaf: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = Client::connect(address).0;
            let tcp = client.input.get_mut();
            tcp.set_nonblocking(true).unwrap();
            let flood = b"EHLO a\r\n".repeat(20_000);
            let mut sent = 0;
            let begun = std::time::Instant::now();
            while sent < flood.len() && begun.elapsed() < Duration::from_millis(200) {
                sent += tcp.write(&flood[sent..]).unwrap_or(0);
            }
            client
        })
        .collect();
    let grown = running.most_memory() - before;
    assert!(grown < 16 * 1024, "{grown} KiB for 20 of them");
    let ended = running.stop();
    assert_eq!(ended.code, Some(0));
    assert!(!ended.stderr.contains("cut off"), "{}", ended.stderr);
    drop(deaf);
}

#[test]
fn a_client_that_says_nothing_or_drips_is_shown_out() {
    let (_place, _running, address) = listening("timeout = \"1s\"\n");
    let mut client = Client::greeted(address);
    assert!(client.reply().starts_with("421 4.4.2"));
    assert_eq!(client.reply(), "");
    let mut client = Client::sending(address);
    client.expect("DATA", 354);
    let began = std::time::Instant::now();
    while client.input.get_mut().write_all(b"x").is_ok() {
        assert!(began.elapsed() < SOON, "a client that drips may stay");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What eight senders were promised and what lies in Pickup, whole, when `end` has ended the listener while they send.
fn ended_while_many_send(end: impl FnOnce(Running)) -> (BTreeSet<String>, BTreeSet<String>) {
    let (place, running, address) = listening("");
    let senders: Vec<_> = (0..8)
        .map(|sender| {
            std::thread::spawn(move || {
                let mut promised = Vec::new();
                let mut client = Client::greeted(address);
                for number in 0..10_000 {
                    let subject = format!("{sender}-{number}");
                    client.send("MAIL FROM:<a@b.test>\r\nRCPT TO:<bob@local.test>\r\nDATA\r\n");
                    let asked = [client.reply(), client.reply(), client.reply()];
                    if !asked[2].starts_with("354") {
                        break;
                    }
                    client.send(format!("Subject: {subject}\r\n\r\nthe end\r\n.\r\n"));
                    if !client.reply().starts_with("250") {
                        break;
                    }
                    promised.push(subject);
                }
                promised
            })
        })
        .collect();
    wait_until("some have come", SOON, || place.files("Pickup", "EML").len() > 40);
    end(running);
    let promised = senders
        .into_iter()
        .flat_map(|sender| sender.join().unwrap())
        .collect();
    let mut there = BTreeSet::new();
    for entry in fs::read_dir(place.root().join("Pickup")).unwrap() {
        let path = entry.unwrap().path();
        assert!(
            path.extension().is_some_and(|e| e == "EML"),
            "a trace: {}",
            path.display()
        );
        let mut text = String::new();
        fs::File::open(&path).unwrap().read_to_string(&mut text).unwrap();
        assert!(text.ends_with("\r\n\r\nthe end\r\n"), "half of it: {text}");
        let subject = text.lines().find_map(|line| line.strip_prefix("Subject: "));
        there.insert(subject.unwrap().to_owned());
    }
    (promised, there)
}

/// Killed at some moment while many send: what got 250 is there and whole, of the rest there is no trace.
#[test]
fn a_promise_outlives_a_crash() {
    for _ in 0..5 {
        let (promised, there) = ended_while_many_send(|running| drop(running.crash()));
        let lost: Vec<&String> = promised.difference(&there).collect();
        assert!(lost.is_empty(), "promised and gone: {lost:?}");
        // at most the one that each was waiting for
        assert!(
            there.len() - promised.len() <= 8,
            "{} of {}",
            promised.len(),
            there.len()
        );
    }
}

/// Asked to end: who is not told 250 sends again, so nothing lies there that was not promised.
#[test]
fn an_orderly_end_leaves_nothing_that_comes_twice() {
    for _ in 0..5 {
        let (promised, there) = ended_while_many_send(|running| assert_eq!(running.stop().code, Some(0)));
        let unheard: Vec<&String> = there.symmetric_difference(&promised).collect();
        assert!(unheard.is_empty(), "{unheard:?}");
    }
}

#[test]
fn sessions_can_be_seen_and_ended_and_new_ones_turned_away() {
    let (place, running, address) = listening("");
    let root = place.root().display().to_string();
    let notes = place.beside().join("notes");
    let command = |args: &[&str]| {
        let done = process::mailroot(&notes, args);
        assert_eq!(done.code, Some(0), "{args:?}: {}", done.stderr);
        done.stdout
    };
    let (mut first, mut second) = (Client::sending(address), Client::greeted(address));
    let mut listed = String::new();
    wait_until("both are shown", SOON, || {
        listed = command(&["sessions", &root]);
        listed.lines().count() == 2 && listed.contains("state=RCPT")
    });
    let id = |state: &str| {
        let line = listed.lines().find(|line| line.contains(state)).unwrap();
        assert!(
            line.contains("client=127.0.0.1:") && line.contains("helo=client.test"),
            "{line}"
        );
        line.split_whitespace().next().unwrap().to_owned()
    };
    let unknown = process::mailroot(
        &notes,
        &["sessions", "end", &format!("{}9", id("state=RCPT")), &root],
    );
    assert_eq!(unknown.code, Some(66), "{}", unknown.stderr);
    command(&["sessions", "end", &id("state=RCPT"), &root]);
    assert!(first.reply().starts_with("421"));
    assert_eq!(first.reply(), "");
    second.expect("NOOP", 250);

    command(&["pause", &root]);
    wait_until("new ones are turned away", SOON, || {
        Client::connect(address).1.starts_with("421 4.3.2")
    });
    second.expect("NOOP", 250);
    assert!(command(&["sessions", &root]).starts_with("paused"));
    command(&["resume", &root]);
    wait_until("new ones are taken", SOON, || {
        Client::connect(address).1.starts_with("220")
    });

    command(&["sessions", "end", "--all", &root]);
    assert!(second.reply().starts_with("421"));
    wait_until("nobody is shown", SOON, || {
        command(&["sessions", &root]).is_empty()
    });
    assert_eq!(running.stop().code, Some(0));
    assert!(
        fs::read_dir(place.root().join("Status/listener"))
            .unwrap()
            .next()
            .is_none()
    );
}
