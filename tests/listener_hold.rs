//! The listener, spoken to over real sockets: who comes for mail on hold (ETRN).
#![cfg(feature = "listener")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::fs;

use support::listener::{Client, SOON, add_user, listening, start_on};
use support::place::{BASE, Place, message};
use support::wait_until;

/// A domain on hold, by way of the smart host at this port.
fn with_hold(port: u16) -> String {
    let held = |name: &str| format!("[[remote]]\nname = \"{name}\"\nroute = \"smart_host\"\nhold = true\n");
    let entries = held("kept.test") + &held("*.kept.test") + &held("other.test");
    support::place::to_smart_host(port, &format!("retry = [\"1h\"]\n{entries}"))
}

#[test]
fn who_comes_for_mail_on_hold_gets_it_by_its_route() {
    let host = support::hosts::host("");
    let place = Place::new(BASE);
    let allowed = "etrn_list = [\"127.0.0.0/8\"]\n";
    let (running, address) = start_on(&place, "run", &with_hold(host.port()), allowed);
    for to in ["a@kept.test", "b@x.kept.test", "c@other.test"] {
        place.put(format!("{to}.eml"), message("app@local.test", &[to], to));
    }
    let on_hold = || {
        place
            .text("Queue", "ENV")
            .matches("its domain is on hold")
            .count()
    };
    wait_until("all are on hold", SOON, || on_hold() == 3);
    let (mut client, _) = Client::connect(address);
    client.expect("ETRN kept.test", 503);
    assert!(client.expect("EHLO x", 250).contains("ETRN"));
    for (line, code) in [
        ("ETRN", 501),
        ("ETRN kept.test other.test", 501),
        ("ETRN a/b", 501),
        ("ETRN *.kept.test", 501),
        ("ETRN #queue", 458),
        ("ETRN elsewhere.test", 459),
        ("ETRN @elsewhere.test", 459),
        ("MAIL FROM:<a@b.test>", 250),
        ("ETRN kept.test", 503),
        ("RSET", 250),
    ] {
        client.expect(line, code);
    }
    assert!(
        !place.root().join("Status/release").exists(),
        "nothing was asked yet"
    );
    assert_eq!(
        client.say("etrn Kept.Test"),
        "250 2.0.0 Queuing for node Kept.Test started"
    );
    wait_until("it is there", SOON, || host.counts().messages == 1);
    assert_eq!(support::hosts::who(&host), ["a@kept.test"]);
    client.expect("ETRN @kept.test", 250);
    wait_until("and what was below it", SOON, || host.counts().messages == 2);
    wait_until("nobody came for the third", SOON, || on_hold() == 1);
    let log = running.stderr();
    assert!(
        log.contains("domain=@kept.test") && log.contains("asked for: "),
        "{log}"
    );
    assert_eq!(running.stop().code, Some(0));
    assert_eq!(support::hosts::who(&host), ["a@kept.test", "b@x.kept.test"]);
}

#[test]
fn only_who_may_comes_for_mail_on_hold() {
    // nobody, unless he has logged in
    let place = Place::new(BASE);
    let (running, address) = start_on(
        &place,
        "listen",
        &with_hold(9),
        "users_file = \"users\"\nallow_plaintext_auth = true",
    );
    add_user(&place.root().display().to_string(), "app", "a secret");
    let mut client = Client::greeted(address);
    let refused = client.expect("ETRN kept.test", 459);
    assert_eq!(
        refused,
        "459 4.7.1 Node kept.test not allowed: you may not come for it"
    );
    assert!(!place.root().join("Status/release").exists());
    // \0app\0a secret
    client.expect("AUTH PLAIN AGFwcABhIHNlY3JldA==", 235);
    client.expect("ETRN kept.test", 250);
    let asked = fs::read_to_string(place.root().join("Status/release/=kept.test")).unwrap();
    assert!(asked.ends_with("ETRN from 127.0.0.1 as app\n"), "{asked}");
    running.stop();

    // where no domain is on hold there is nothing to come for
    let (_place, _running, address) = listening("etrn = \"all_except\"");
    let mut client = Client::greeted(address);
    assert!(!client.say("EHLO x").contains("ETRN"));
    client.expect("ETRN kept.test", 502);
}
