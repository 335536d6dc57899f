//! The listener, spoken to over real sockets: who takes mail on hold over his own connection (ATRN).
#![cfg(feature = "listener")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use support::certificates::Authority;
use support::listener::{Client, SOON, add_user, start_on};
use support::place::{BASE, Place, message};
use support::wait_until;

/// One who takes mail over his own connection (ATRN): whom it was for, and whether it ended with QUIT.
fn take_mail<S: Read + Write>(wire: &mut BufReader<S>) -> (Vec<String>, bool) {
    fn say<S: Read + Write>(wire: &mut BufReader<S>, words: &str) {
        wire.get_mut().write_all(words.as_bytes()).unwrap();
        wire.get_mut().flush().unwrap();
    }
    let mut recipients = Vec::new();
    say(wire, "220 branch.test\r\n");
    loop {
        let mut line = String::new();
        if wire.read_line(&mut line).unwrap_or(0) == 0 {
            return (recipients, false);
        }
        match line.get(..4).unwrap() {
            "RCPT" => {
                recipients.push(line.split(['<', '>']).nth(1).unwrap().to_owned());
                say(wire, "250 OK\r\n");
            }
            "DATA" => {
                say(wire, "354 go on\r\n");
                while line != ".\r\n" {
                    line.clear();
                    assert!(wire.read_line(&mut line).unwrap() > 0);
                }
                say(wire, "250 taken\r\n");
            }
            "QUIT" => {
                say(wire, "221 bye\r\n");
                recipients.sort();
                return (recipients, true);
            }
            _ => say(wire, "250 OK\r\n"),
        }
    }
}

/// Domains on hold that users may take.
fn with_takers(port: u16) -> String {
    let held = |name: &str, user: &str| {
        format!(
            "[[remote]]\nname = \"{name}\"\nroute = \"smart_host\"\nhold = true\natrn_users = [\"{user}\"]\n"
        )
    };
    let entries = held("kept.test", "app") + &held("*.kept.test", "app") + &held("own.kept.test", "eve");
    let one_each = "[messages]\nmax_per_connection = 1\n";
    support::place::to_smart_host(port, &format!("retry = [\"1h\"]\n{one_each}{entries}"))
}

const LOGIN: &str = "AUTH PLAIN AGFwcABhIHNlY3JldA=="; // app, a secret

#[test]
fn who_may_takes_mail_over_his_own_connection() {
    let host = support::hosts::host("");
    let place = Place::new(BASE);
    let settings = "users_file = \"users\"\nallow_plaintext_auth = true\n";
    let (running, address) = start_on(&place, "run", &with_takers(host.port()), settings);
    add_user(&place.root().display().to_string(), "app", "a secret");
    let put = |to: &str| place.put(format!("{to}.eml"), message("app@local.test", &[to], to));
    for to in ["a@kept.test", "b@x.kept.test", "c@own.kept.test"] {
        put(to);
    }
    let record = || place.text("Queue", "ENV");
    let on_hold = || record().matches("its domain is on hold").count();
    wait_until("all are on hold", SOON, || on_hold() == 3);
    let mut client = Client::greeted(address);
    assert!(client.say("EHLO x").contains("ATRN"));
    client.expect("ATRN", 530);
    client.expect(LOGIN, 235);
    for (line, code) in [
        ("ATRN own.kept.test", 450),
        ("ATRN kept.test,own.kept.test", 450),
        ("ATRN elsewhere.test", 450),
        ("ATRN @kept.test", 501),
        ("ATRN a/b", 501),
        ("MAIL FROM:<a@b.test>", 250),
        ("ATRN kept.test", 503),
        ("RSET", 250),
    ] {
        client.expect(line, code);
    }
    // he vanishes in the middle of it
    assert_eq!(
        client.say("ATRN kept.test"),
        "250 2.0.0 OK now reversing the connection"
    );
    client.send("220 branch.test\r\n");
    for verb in ["EHLO ", "MAIL "] {
        let mut line = String::new();
        client.input.read_line(&mut line).unwrap();
        assert!(line.starts_with(verb), "{line}");
        client.send("250 OK\r\n");
    }
    drop(client);
    wait_until("it waits again", SOON, || record().contains("rcpt open tries=1 "));

    // all that is his, over one connection
    let mut client = Client::greeted(address);
    client.expect(LOGIN, 235);
    client.expect("ATRN", 250);
    let (recipients, in_good_order) = take_mail(&mut client.input);
    assert_eq!(
        recipients,
        ["a@kept.test", "b@x.kept.test"],
        "{}",
        running.stderr()
    );
    assert!(in_good_order);
    assert_eq!(client.reply(), "", "the connection is at its end");
    wait_until("they are gone", SOON, || {
        place.files("Queue", "EML").len() == 1 && on_hold() == 1
    });

    // there is nothing more for him; meanwhile nobody else comes through the door
    let mut client = Client::greeted(address);
    client.expect(LOGIN, 235);
    client.send("ATRN\r\n");
    let folder = place.root().join("Status/release");
    let mut door = None;
    wait_until("the door is open", SOON, || {
        let entries = fs::read_dir(&folder).unwrap().flatten();
        door = entries.map(|entry| entry.path()).find(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with('+')
        });
        door.is_some()
    });
    let text = fs::read_to_string(door.unwrap()).unwrap();
    let opened: serde_json::Value = serde_json::from_str(&text).unwrap();
    let port = u16::try_from(opened["door"]["port"].as_u64().unwrap()).unwrap();
    let mut stranger = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stranger
        .write_all(b"EHLO stranger, who does not know the word for this door at all\r\n")
        .unwrap();
    let mut heard = Vec::new();
    let _ = stranger.read_to_end(&mut heard);
    assert_eq!(heard, b"");
    assert_eq!(client.reply(), "453 4.0.0 You have no mail");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "the door is shut");
    assert_eq!(running.stop().code, Some(0));
    assert_eq!(host.counts().messages, 0, "nothing went by the route");
}

#[test]
fn mail_is_taken_through_tls() {
    let place = Place::new(BASE);
    let authority = Authority::new(place.beside());
    let pem = place.beside().join("mail.pem");
    fs::write(&pem, authority.pem(&["127.0.0.1"])).unwrap();
    let settings = format!("certificate = \"{}\"\nusers_file = \"users\"\n", pem.display());
    let (running, address) = start_on(&place, "run", &with_takers(9), &settings);
    add_user(&place.root().display().to_string(), "app", "a secret");
    let long = message("app@local.test", &["a@kept.test"], "long") + &"0123456789\n".repeat(50_000);
    place.put("long.eml", long);
    for n in 0..20 {
        let to = format!("b{n:02}@kept.test");
        place.put(format!("{n}.eml"), message("app@local.test", &[&to], "short"));
    }
    wait_until("they are on hold", SOON, || {
        place
            .text("Queue", "ENV")
            .matches("its domain is on hold")
            .count()
            == 21
    });
    let client = Client::greeted(address);
    let mut wire = client.start_tls(&authority).input;
    for (line, code) in [("EHLO x", "250"), (LOGIN, "235"), ("ATRN kept.test", "250")] {
        wire.get_mut()
            .write_all(format!("{line}\r\n").as_bytes())
            .unwrap();
        let mut reply = String::new();
        while reply.as_bytes().get(3) != Some(&b' ') {
            reply.clear();
            assert!(wire.read_line(&mut reply).unwrap() > 0, "{line}");
        }
        assert!(reply.starts_with(code), "{line}: {reply}");
    }
    let (recipients, in_good_order) = take_mail(&mut wire);
    assert!(in_good_order, "{}", running.stderr());
    assert_eq!(recipients.len(), 21, "{recipients:?}");
    wait_until("Queue is empty", SOON, || place.files("Queue", "EML").is_empty());
    assert_eq!(running.stop().code, Some(0));
}
