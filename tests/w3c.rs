//! The W3C log of real sessions, both ways, read by a parser that is not ours to please.
#![cfg(feature = "listener")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::collections::BTreeMap;
use std::fs;

use support::hosts::{APP, host};
use support::listener::{Client, SOON, start_on};
use support::place::{Place, message, to_smart_host};
use support::{process, wait_until};

/// A line by its fields.
type Entry = BTreeMap<String, String>;

/// Reads a log as the W3C draft says: directives, then as many fields on a line as the last `#Fields:` names.
fn parse(text: &str) -> Vec<Entry> {
    let mut fields: Vec<String> = Vec::new();
    let mut entries = Vec::new();
    assert!(text.ends_with('\n'), "the last line has no end");
    for line in text.split_terminator('\n') {
        assert!(!line.chars().any(char::is_control), "{line:?}");
        if let Some(directive) = line.strip_prefix('#') {
            let (name, value) = directive.split_once(": ").expect(line);
            match name {
                "Fields" => fields = value.split(' ').map(str::to_owned).collect(),
                "Version" => assert_eq!(value, "1.0"),
                "Software" => assert!(
                    value.contains("Microsoft Internet Information Services"),
                    "{value}"
                ),
                "Date" => assert!(
                    value.replace(' ', "T").parse::<jiff::civil::DateTime>().is_ok(),
                    "{value}"
                ),
                _ => panic!("{line}"),
            }
            continue;
        }
        let values: Vec<&str> = line.split(' ').collect();
        assert_eq!(values.len(), fields.len(), "{line}");
        assert!(values.iter().all(|value| !value.is_empty()), "{line}");
        let named = fields.iter().cloned().zip(values.into_iter().map(str::to_owned));
        entries.push(named.collect());
    }
    entries
}

/// The one W3C log of a place.
fn log(place: &Place) -> String {
    let files: Vec<_> = fs::read_dir(place.root().join("Logs"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let name = files[0].file_name().into_string().unwrap();
    assert!(name.starts_with("ex") && name.ends_with(".log"), "{name}");
    fs::read_to_string(files[0].path()).unwrap()
}

fn shown(entry: &Entry, names: &[&str]) -> String {
    names
        .iter()
        .map(|name| entry[*name].as_str())
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn both_ways_are_written_as_in_iis() {
    let far = host("offer PIPELINING, SIZE 1000000\nrcpt refused@* -> 550 5.1.1 no such user");
    let place = Place::new("");
    let base = format!("{}[log]\nw3c = true\n", to_smart_host(far.port(), ""));
    let relay = "relay_list = [\"127.0.0.1\"]\nmax_errors = 50";
    let (running, address) = start_on(&place, "run", &base, relay);
    let mut client = Client::greeted(address);
    client.expect("MAIL FROM:<app@client.test> SIZE=20", 250);
    client.expect("RCPT TO:<bob@far.test>", 250);
    client.expect("RCPT TO:<refused@far.test>", 250);
    let reply = client.data("Subject: a\r\n\r\nx\r\n");
    let id = reply
        .split_whitespace()
        .find(|word| word.starts_with('<'))
        .unwrap()
        .to_owned();
    client.expect("QUIT", 221);
    wait_until("it is there", SOON, || far.counts().messages == 1);
    assert_eq!(running.stop().code, Some(0));
    let entries = parse(&log(&place));
    let (out, come): (Vec<Entry>, Vec<Entry>) = entries
        .into_iter()
        .partition(|entry| entry["cs-username"].starts_with("OutboundConnection"));

    let port = address.port().to_string();
    for entry in &come {
        let same = [
            "c-ip",
            "s-sitename",
            "s-ip",
            "s-port",
            "cs-uri-stem",
            "cs-version",
            "cs-host",
        ];
        assert_eq!(
            shown(entry, &same),
            format!("127.0.0.1 SMTPSVC1 127.0.0.1 {port} - SMTP -"),
            "{entry:?}"
        );
    }
    let said = [
        "cs-username",
        "cs-method",
        "cs-uri-query",
        "sc-status",
        "cs-bytes",
    ];
    let come: Vec<String> = come.iter().map(|entry| shown(entry, &said)).collect();
    assert_eq!(
        come,
        [
            "client.test EHLO +client.test 250 16",
            "client.test MAIL +FROM:<app@client.test>+SIZE=20 250 35",
            "client.test RCPT +TO:<bob@far.test> 250 22",
            "client.test RCPT +TO:<refused@far.test> 250 26",
            &format!("client.test DATA {id} 250 17"),
            "client.test QUIT client.test 240 4",
        ]
    );

    let first: Vec<String> = out
        .iter()
        .map(|entry| shown(entry, &["cs-username", "cs-method", "cs-uri-query"]))
        .collect();
    let has = |wanted: &str| {
        assert!(first.iter().any(|line| line == wanted), "{wanted}\n{first:#?}");
    };
    has("OutboundConnectionCommand EHLO mail.example.test");
    has("OutboundConnectionCommand RCPT TO:<bob@far.test>");
    has("OutboundConnectionCommand DATA -");
    has("OutboundConnectionResponse - 550+5.1.1+no+such+user");
    assert!(
        first[0].starts_with("OutboundConnectionResponse - 220+"),
        "{first:#?}"
    );
    assert!(
        first
            .iter()
            .any(|line| line.starts_with("OutboundConnectionCommand MAIL FROM:<app@client.test>+SIZE="))
    );
    assert!(
        first
            .last()
            .unwrap()
            .starts_with("OutboundConnectionResponse - 221+"),
        "{first:#?}"
    );
    for entry in &out {
        assert_eq!(
            shown(entry, &["c-ip", "s-ip", "sc-status"]),
            "127.0.0.1 - 0",
            "{entry:?}"
        );
        assert_eq!(entry["s-port"], far.port().to_string());
    }
}

#[test]
fn a_client_forges_nothing_and_its_password_is_not_kept() {
    let place = Place::new("");
    let base = format!("{}[log]\nw3c = true\n", support::place::BASE);
    let (running, address) = start_on(&place, "listen", &base, "max_errors = 100");
    let mut client = Client::greeted(address);
    for line in [
        "NOOP 2026-01-01 00:00:00 192.0.2.1 forged SMTPSVC1 X 192.0.2.1 25 MAIL - -",
        "NOOP a\tb\u{b}#Fields: date",
        "NOOP \u{a0}\u{2028}\u{85}",
        "#Fields: date time",
        "\u{1b}[31mNOOP",
        "AUTH PLAIN AGFwcABzZWNyZXQ=",
        "AGFwcABzZWNyZXQ=",
        "AUTH LOGIN c2VjcmV0",
        "c2VjcmV0",
        "HELO a\u{1}b",
    ] {
        client.say(line);
    }
    client.send(b"NOOP a\r2026-01-01 00:00:00 forged\r\n");
    assert!(client.reply().starts_with("500"));
    assert_eq!(client.reply(), "", "it is hung up on");
    assert_eq!(running.stop().code, Some(0));
    let text = log(&place);
    let entries = parse(&text);
    let methods: Vec<&str> = entries.iter().map(|entry| entry["cs-method"].as_str()).collect();
    let wanted = "EHLO NOOP NOOP NOOP xxxx xxxx AUTH xxxx AUTH xxxx HELO xxxx QUIT"
        .split(' ')
        .collect::<Vec<_>>();
    assert_eq!(methods, wanted, "{text}");
    assert!(
        entries.iter().all(|entry| entry["cs-username"] == "client.test"),
        "{text}"
    );
    assert!(entries[1]["cs-uri-query"].starts_with("+2026-01-01+00:00:00+192.0.2.1+forged"));
    for secret in ["AGFw", "c2Vj", "secret"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn it_is_off_unless_it_is_wanted_and_has_the_fields_that_are() {
    let place = Place::new("");
    let (running, address) = start_on(&place, "listen", support::place::BASE, "");
    let mut client = Client::greeted(address);
    client.expect("QUIT", 221);
    assert_eq!(running.stop().code, Some(0));
    assert!(fs::read_dir(place.root().join("Logs")).unwrap().next().is_none());

    // a drain writes too, and to the same file
    let far = host("");
    let fields = "w3c = true\nw3c_fields = [\"cs-method\", \"c-ip\", \"time\"]\n";
    place.settings(&format!("{}[log]\n{fields}", to_smart_host(far.port(), "")));
    let root = place.root().display().to_string();
    for n in 0..2 {
        place.put(
            format!("{n}.eml"),
            message(APP, &["bob@far.test"], &format!("m{n}")),
        );
        let done = process::mailroot(&place.beside().join("notes"), &["drain", &root]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }
    let text = log(&place);
    assert_eq!(
        text.matches("#Fields: cs-method c-ip time\n").count(),
        2,
        "{text}"
    );
    let mails = parse(&text)
        .into_iter()
        .filter(|entry| entry["cs-method"] == "MAIL");
    assert_eq!(mails.count(), 2, "{text}");
}
