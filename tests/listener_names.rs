//! Who a client of the listener is by its name, what that opens and closes, and whether Drop has room for its mail.
#![cfg(feature = "listener")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::fs;
use std::net::SocketAddr;

use support::listener::{Client, SOON, listening, start_on};
use support::place::{BASE, Place};
use support::process;
use support::wait_until;

/// Whatever DNS says, addresses of this machine itself are `localhost` (RFC 6761), which leads back to the first alone.
const LOCALHOST: [u8; 4] = [127, 0, 0, 1];
const OTHER: [u8; 4] = [127, 0, 0, 2];

/// After MAIL.
fn sender(source: [u8; 4], address: SocketAddr) -> Client {
    let (mut client, greeting) = Client::connect_from(source, address);
    assert!(greeting.starts_with("220"), "{source:?}: {greeting}");
    client.expect("EHLO client.test", 250);
    client.expect("MAIL FROM:<a@client.test>", 250);
    client
}

fn count(log: &str, words: &str) -> usize {
    log.lines().filter(|line| line.contains(words)).count()
}

#[test]
fn a_name_that_leads_back_may_relay() {
    let (_place, running, address) = listening("relay_list = [\"192.0.2.1\", \"localhost\"]");
    sender(LOCALHOST, address).expect("RCPT TO:<bob@far.test>", 250);
    let mut other = sender(OTHER, address);
    let told = other.expect("RCPT TO:<bob@far.test>", 550);
    assert_eq!(told, "550 5.7.1 Unable to relay for bob@far.test");
    other.expect("RCPT TO:<bob@local.test>", 250);
    other.expect("QUIT", 221);
    let log = running.stop().stderr;
    assert_eq!(count(&log, "refused"), 1, "{log}");
    assert_eq!(
        (count(&log, "rdns=localhost"), count(&log, "rdns=unverified")),
        (1, 1),
        "{log}"
    );
}

#[test]
fn a_name_opens_the_door_or_shuts_it() {
    for (rule, codes) in [("only", ["220", "554"]), ("all_except", ["554", "220"])] {
        let settings = format!("clients = \"{rule}\"\nclients_list = [\"localhost\"]");
        let (_place, running, address) = listening(&settings);
        for (source, code) in [LOCALHOST, OTHER].into_iter().zip(codes) {
            let (_client, greeting) = Client::connect_from(source, address);
            assert!(greeting.starts_with(code), "{rule} {source:?}: {greeting}");
        }
        let log = running.stop().stderr;
        assert_eq!(
            (count(&log, "refused"), count(&log, "session ended")),
            (1, 1),
            "{log}"
        );
    }
}

#[test]
fn received_says_who_dns_says_it_is() {
    let (place, _running, address) = listening("reverse_dns = true");
    for (source, origin) in [
        (LOCALHOST, "(localhost [127.0.0.1])"),
        (OTHER, "([127.0.0.2] unverified)"),
    ] {
        let mut client = sender(source, address);
        client.expect("RCPT TO:<bob@local.test>", 250);
        assert!(client.data("Subject: x\r\n\r\nx\r\n").starts_with("250"));
        let file = place.files("Pickup", "EML").remove(0);
        let text = fs::read_to_string(&file).unwrap();
        let wanted = format!("Received: from client.test {origin}\r\n\tby mail.example.test ");
        assert!(text.contains(&wanted), "{text}");
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn names_that_strangers_can_have_make_an_open_relay() {
    let place = Place::new(BASE);
    let root = place.root().display().to_string();
    for (list, code, words) in [
        ("*.com", 78, "an open relay"),
        ("*.example.com", 0, "1 host name may relay"),
        ("*.lan", 0, "1 host name may relay"),
        ("*", 78, "that would be everybody with a name"),
    ] {
        place.settings(&format!(
            "{BASE}[listener]\nenabled = true\naddress = \"127.0.0.1\"\nport = 0\nrelay_list = [\"{list}\"]\n"
        ));
        let check = process::mailroot(&place.beside().join("notes"), &["check", &root]);
        let said = format!("{}{}", check.stdout, check.stderr);
        assert!(said.contains(words), "{list}: {said}");
        assert!(code == 0 || check.code == Some(code), "{list}: {:?}", check.code);
    }
}

#[test]
fn a_full_drop_is_told_at_rcpt_and_only_for_what_goes_there() {
    let place = Place::new(BASE);
    let lump = place.root().join("Drop/lump");
    fs::write(&lump, [b'x'; 900]).unwrap();
    let base = format!("{BASE}[drop]\nquota = 1000\n\n");
    let (running, address) = start_on(&place, "listen", &base, "relay_list = [\"127.0.0.1\"]");
    let rcpt = |size: &str, to: &str| {
        let mut client = Client::greeted(address);
        client.expect(&format!("MAIL FROM:<a@client.test>{size}"), 250);
        client.say(&format!("RCPT TO:<{to}>"))
    };
    let full = "452 4.2.2 Mailbox full; try again later";
    assert!(rcpt(" SIZE=100", "bob@local.test").starts_with("250"));
    assert_eq!(rcpt(" SIZE=101", "bob@local.test"), full);
    // Who does not say how much comes hears of it when it has come.
    let mut client = Client::sending(address);
    client.expect("DATA", 354);
    assert_eq!(client.say(&format!("A: b\r\n\r\n{}\r\n.", "x".repeat(100))), full);
    assert!(place.files("Pickup", "EML").is_empty());
    fs::write(&lump, [b'x'; 1000]).unwrap();
    wait_until("it is seen", SOON, || rcpt("", "bob@local.test") == full);
    assert!(rcpt("", "bob@far.test").starts_with("250"));
    fs::remove_file(&lump).unwrap();
    wait_until("there is room", SOON, || {
        rcpt("", "bob@local.test").starts_with("250")
    });
    let log = running.stop().stderr;
    assert!(log.contains("refused") && log.contains(full), "{log}");
}
