//! Each kind of failure against the text that people get, in `spool-fixtures/badmail/`. `UPDATE_EXPECT=1` rewrites.

use super::*;
use crate::mail::{EnhancedStatus, Verdict};
use std::path::Path;

const LTR: &str = "2026-11-23T08:00:00Z NODE-AB12 complete: lease free, last written 0.3 s ago\n\
    2026-11-23T08:00:00Z NODE-AB12 x-receiver, line 2: bob@example.net\n";
const RTR: &str = "2026-11-23T08:00:01Z NODE-AB12 mx.example.net[192.0.2.1]:25\r\n\
    < 220 mx.example.net ESMTP\r\n> RCPT TO:<bob@example.net>\r\n< 550 5.1.1 no such user\r\n";

fn malformed(
    rule: &'static str,
    line: Option<usize>,
    text: Option<&str>,
    what: &str,
    advice: &str,
) -> Malformed {
    Malformed {
        rule,
        line,
        text: text.map(str::to_owned),
        what: what.to_owned(),
        advice: advice.to_owned(),
    }
}

fn case(reason: Reason<'_>) -> Case<'_> {
    Case {
        id: "01J9ZK3V5M6N7P8Q9R0S1T2V3W".parse().unwrap(),
        pickup_file: "email.txt",
        reason,
        sender: Some("alice@example.com"),
        recipients: vec![("bob@example.net".to_owned(), None)],
        arrived: Timestamp::from_second(1_795_420_800).unwrap(),
        now: Timestamp::from_second(1_795_420_805).unwrap(),
        attempts: 0,
        message_id: Some("order-42@app.example.com"),
        ltr: LTR,
        rtr: "",
    }
}

fn tried<'a>(reason: Reason<'a>, outcomes: &'a [(&str, Outcome)]) -> Case<'a> {
    Case {
        recipients: outcomes.iter().map(|(a, o)| ((*a).to_owned(), Some(o))).collect(),
        attempts: 1,
        rtr: RTR,
        ..case(reason)
    }
}

fn refused(text: &str) -> Outcome {
    let status = EnhancedStatus::new(5, 1, 1);
    Outcome::reply(Verdict::Failed, status, text, "mx.example.net[192.0.2.1]:25")
}

fn expired() -> Outcome {
    let status = EnhancedStatus::new(4, 4, 7);
    Outcome::failed(
        status,
        "not delivered within 2 days; the last attempt ended with: connection refused",
    )
    .at("mx.example.net[192.0.2.1]:25")
}

/// Compares with `spool-fixtures/badmail/NAME.bdr`, and checks what holds for every `.BDR`.
fn expect(name: &str, case: &Case<'_>) {
    let text = String::from_utf8(bdr(case)).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("spool-fixtures/badmail/{name}.bdr"));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == golden,
        "{} differs (UPDATE_EXPECT=1 rewrites it):\n{text}",
        path.display()
    );

    assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "bare line end");
    let first = text.lines().next().unwrap();
    assert!(
        first.starts_with("Unable to deliver this message because the following error was encountered: \"")
    );
    assert!(first.ends_with(".\"") && !first.contains(".."), "{first}");
    for told in [
        case.pickup_file,
        "What to change",
        "mv Badmail/01J9ZK3V5M6N7P8Q9R0S1T2V3W.BAD Pickup/",
    ] {
        assert!(text.contains(told), "{told:?} is missing");
    }
}

#[test]
fn no_sender() {
    let why = malformed(
        "no-sender",
        None,
        None,
        "The file names no sender.",
        "Add a From field, or an x-sender line on top of the file, or set pickup.default_sender in mailroot.toml.",
    );
    expect(
        "no-sender",
        &Case {
            sender: Some(""),
            ..case(Reason::Malformed(&why))
        },
    );
}

#[test]
fn no_recipient() {
    let why = malformed(
        "no-recipient",
        None,
        None,
        "The file names no recipient.",
        "Add a To, Cc or Bcc field, or an x-receiver line on top of the file.",
    );
    expect(
        "no-recipient",
        &Case {
            recipients: vec![],
            ..case(Reason::Malformed(&why))
        },
    );
}

#[test]
fn header_line_without_a_colon() {
    let why = malformed(
        "header-line",
        Some(4),
        Some("Hello Bob,\tthis is"),
        "Line 4 is neither a header field nor the continuation of one.",
        "If the text of the message begins there, put an empty line before it; else write the line as Name: value.",
    );
    expect("header-line", &case(Reason::Malformed(&why)));
}

#[test]
fn bad_charset() {
    let why = malformed(
        "charset",
        Some(1),
        None,
        "The file begins like UTF-16 text but is not.",
        "Save the file as UTF-8 or plain ASCII.",
    );
    expect("charset", &case(Reason::Malformed(&why)));
}

#[test]
fn too_large() {
    let why = malformed(
        "too-large",
        None,
        None,
        "The file has 41943040 bytes, more than the 33554432 that are allowed.",
        "Send less at once, or raise messages.max_size in mailroot.toml.",
    );
    expect("too-large", &case(Reason::Malformed(&why)));
}

#[test]
fn incomplete() {
    let why = malformed(
        "incomplete",
        Some(21),
        Some("--boundary_0_5f"),
        "The message ends before its closing boundary.",
        "The program that wrote it failed half-way: look into its own log, and let it write the message again.",
    );
    expect("incomplete", &case(Reason::Malformed(&why)));
}

#[test]
fn hop_count() {
    expect(
        "hop-count",
        &Case {
            sender: None,
            message_id: None,
            ..case(Reason::HopCount { hops: 31, limit: 30 })
        },
    );
}

#[test]
fn expired_with_nobody_to_tell() {
    let outcomes = [("bob@example.net", expired())];
    let after = Duration::from_secs(172_800);
    expect(
        "expired",
        &Case {
            attempts: 17,
            ..tried(Reason::Expired { after }, &outcomes)
        },
    );
}

#[test]
fn refused_with_null_sender() {
    let outcomes = [
        ("bob@example.net", refused("550 5.1.1 no such user")),
        ("carol@example.net", refused("550 5.1.1 no such user")),
        (
            "dave@example.org",
            Outcome::failed(
                EnhancedStatus::new(5, 1, 10),
                "example.org accepts no mail (null MX)",
            ),
        ),
    ];
    expect(
        "null-sender",
        &Case {
            sender: None,
            ..tried(Reason::NullSender, &outcomes)
        },
    );
}

#[test]
fn refused_with_notify_never() {
    let outcomes = [("bob@example.net", refused("550 5.1.1 no such user"))];
    expect("notify-never", &tried(Reason::ReportRefused, &outcomes));
}

#[test]
fn a_report_that_cannot_be_delivered() {
    let outcomes = [("noreply@example.com", refused("550 5.1.1 no such user"))];
    expect(
        "dsn-undeliverable",
        &Case {
            sender: None,
            ..tried(Reason::DsnUndeliverable, &outcomes)
        },
    );
}

#[test]
fn damaged_env() {
    expect(
        "env-damaged",
        &case(Reason::EnvDamaged {
            why: "line 4 has no colon",
        }),
    );
}

#[test]
fn crashed_twice() {
    let why = "index out of bounds: the len is 3 but the index is 7";
    expect(
        "crashed-twice",
        &Case {
            attempts: 2,
            ..case(Reason::TwiceCrashed { why })
        },
    );
}

#[test]
fn properties_are_one_line_each_and_complete() {
    let outcomes = [
        ("bob@example.net", refused("550 5.1.1 no such user")),
        ("carol@example.net", expired()),
    ];
    let case = Case {
        pickup_file: "a\r\nrule: x\\y\u{7}",
        sender: None,
        ..tried(Reason::NullSender, &outcomes)
    };
    let text = String::from_utf8(bdp(&case)).unwrap();
    assert_eq!(
        text,
        "version: 1\r\nid: 01J9ZK3V5M6N7P8Q9R0S1T2V3W\r\nrule: null-sender\r\n\
         what: The message could not be delivered, and nobody can be told, because its sender is the null sender <>\r\n\
         file: a\\r\\nrule: x\\\\y\\u{7}\r\nmessage-id: order-42@app.example.com\r\n\
         arrived: 2026-11-23T08:00:00Z\r\ngiven-up: 2026-11-23T08:00:05Z\r\nattempts: 1\r\nsender: <>\r\n\
         recipients: 2\r\nrecipient: bob@example.net\r\nstatus: 5.1.1\r\nhost: mx.example.net[192.0.2.1]:25\r\n\
         reply: 550 5.1.1 no such user\r\nrecipient: carol@example.net\r\nstatus: 4.4.7\r\n\
         host: mx.example.net[192.0.2.1]:25\r\n\
         reply: not delivered within 2 days; the last attempt ended with: connection refused\r\n"
    );
}

#[test]
fn every_key_is_documented() {
    let why = malformed("header-line", Some(4), Some("x"), "w", "a");
    let outcomes = [("bob@example.net", refused("550"))];
    let text = String::from_utf8(bdp(&tried(Reason::Malformed(&why), &outcomes))).unwrap();
    let head = include_str!("mod.rs");
    for line in text.lines() {
        let key = line.split(':').next().unwrap();
        assert!(
            head.contains(&format!("`{key}`")),
            "{key} is not in the head of badmail/mod.rs"
        );
    }
}

#[test]
fn a_hundred_thousand_recipients_are_linear() {
    let outcome = refused("550 5.1.1 no such user");
    let (mut reason, mut properties) = (String::new(), String::new());
    crate::effort::is_linear("reason and properties", 100_000, |many| {
        let many = Case {
            recipients: (0..many)
                .map(|n| (format!("user{n}@example.net"), Some(&outcome)))
                .collect(),
            ..case(Reason::NullSender)
        };
        reason = String::from_utf8(bdr(&many)).unwrap();
        properties = String::from_utf8(bdp(&many)).unwrap();
    });
    assert_eq!(reason.matches("\r\n    user").count(), 100);
    assert!(reason.contains("… and 99900 more"));
    assert_eq!(
        reason.matches("550 5.1.1 no such user (status").count(),
        1,
        "one reply for all of them"
    );
    assert_eq!(properties.matches("\r\nrecipient: ").count(), 100_000);
}

#[test]
fn nothing_hostile_breaks_out() {
    let why = malformed("header-line", Some(1), Some("x\r\nRule: y"), "w\r\nz.", "a\n\nb");
    let hostile = Case {
        pickup_file: "\u{1b}[2J\r\n.\r\n",
        recipients: vec![("a b\r\n@c".to_owned(), None)],
        sender: Some("x\ny"),
        message_id: Some("a\rb"),
        ltr: "one\r\ntwo\rthree\u{0}",
        ..case(Reason::Malformed(&why))
    };
    for text in [bdr(&hostile), bdp(&hostile)] {
        let text = String::from_utf8(text).unwrap();
        let left = text.replace("\r\n", "");
        assert!(!left.chars().any(char::is_control), "{text:?}");
    }
}
