//! Whole reports, read back by two parsers that are not ours: mail-parser and Python's `email`.

use super::*;
use crate::mail::{EnhancedStatus, Notify, Verdict};
use mail_parser::{Message, MessageParser, MimeHeaders, PartType};
use std::io::Write as _;
use std::process::{Command, Stdio};

const HEADER: &[u8] = b"From: Alice <alice@example.com>\r\nTo: bob@example.net\r\nSubject: Order 42\r\n\
    Date: Mon, 23 Nov 2026 08:00:00 +0000\r\nMessage-ID: <order-42@app.example.com>\r\n";
const WHOLE: &[u8] = b"From: Alice <alice@example.com>\r\nTo: bob@example.net\r\nSubject: Order 42\r\n\
    Date: Mon, 23 Nov 2026 08:00:00 +0000\r\nMessage-ID: <order-42@app.example.com>\r\n\r\n\
    Hello Bob\r\n..two dots\r\n--=_DSN_01J9ZK3V5M6N7P8Q9R0S1T2V3X--\r\n";

/// What the tests change; everything else is the same for all of them.
struct Facts {
    to: Address,
    postmaster: Address,
    recipients: Vec<(Recipient, Outcome)>,
    header: Vec<u8>,
    whole: Option<Vec<u8>>,
    envid: Option<&'static str>,
    ret: Option<Ret>,
    transcript: String,
}

impl Facts {
    fn new() -> Self {
        Self {
            to: address("alice@example.com"),
            postmaster: address("postmaster@example.com"),
            recipients: vec![(Recipient::plain(address("bob@example.net")), refused("bob"))],
            header: HEADER.to_vec(),
            whole: Some(WHOLE.to_vec()),
            envid: None,
            ret: None,
            transcript: "> RCPT TO:<bob@example.net>\n< 550 5.1.1 no such user\n".into(),
        }
    }

    fn dsn(&self, kind: Kind) -> Vec<u8> {
        let bytes = dsn(
            kind,
            &About {
                hostname: "relay.example.com",
                postmaster: &self.postmaster,
                to: &self.to,
                dsn_id: "01J9ZK3V5M6N7P8Q9R0S1T2V3X".parse().unwrap(),
                parent_id: "01J9ZK3V5M6N7P8Q9R0S1T2V3W-1".parse().unwrap(),
                pickup_file: "order 42.eml",
                envid: self.envid,
                ret: self.ret,
                arrived: jiff::Timestamp::from_second(1_795_420_800).unwrap(),
                now: jiff::Timestamp::from_second(1_795_420_805).unwrap(),
                will_retry_until: Some(jiff::Timestamp::from_second(1_795_593_600).unwrap()),
                recipients: self.recipients.iter().map(|(r, o)| (r, o)).collect(),
                transcript: &self.transcript,
                original_header: &self.header,
                original_whole: self.whole.as_deref(),
                subject: Some("Order 42".into()),
            },
        );
        assert_fit_for_the_wire(&bytes);
        bytes
    }
}

fn address(text: &str) -> Address {
    Address::parse(text, "example.com").unwrap()
}

fn refused(user: &str) -> Outcome {
    Outcome::reply(
        Verdict::Failed,
        EnhancedStatus::new(5, 1, 1),
        format!("550 5.1.1 <{user}@example.net>: no such user"),
        "mx.example.net[192.0.2.1]:25",
    )
}

fn assert_fit_for_the_wire(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    assert!(bytes.ends_with(b"\r\n"));
    assert!(
        !text.replace("\r\n", "").contains(['\r', '\n', '\0']),
        "bare line end or NUL"
    );
    for line in bytes.split(|b| *b == b'\n') {
        assert!(line.len() <= 999, "long line: {}", String::from_utf8_lossy(line));
    }
}

fn part(message: &Message<'_>, n: u32) -> String {
    let part = message.part(n).unwrap();
    let raw = message.raw_message();
    match &part.body {
        PartType::Text(text) => text.to_string(),
        _ => String::from_utf8_lossy(&raw[part.raw_body_offset() as usize..part.raw_end_offset() as usize])
            .into(),
    }
}

fn parse(bytes: &[u8]) -> Message<'_> {
    MessageParser::new().parse(bytes).unwrap()
}

#[test]
fn a_failure_is_a_report_of_three_parts() {
    let mut facts = Facts::new();
    facts.envid = Some("ORDER+2B42");
    facts.recipients[0].0.orcpt = Some("rfc822;Bob+2Bx@example.net".into());
    let bytes = facts.dsn(Kind::Failure);
    let message = parse(&bytes);
    assert_eq!(message.subject(), Some("Delivery Status Notification (Failure)"));
    assert_eq!(
        message.from().unwrap().first().unwrap().address(),
        Some("postmaster@example.com")
    );
    assert_eq!(
        message.to().unwrap().first().unwrap().address(),
        Some("alice@example.com")
    );
    assert_eq!(
        message.message_id(),
        Some("01J9ZK3V5M6N7P8Q9R0S1T2V3X@relay.example.com")
    );
    assert_eq!(message.in_reply_to().as_text(), Some("order-42@app.example.com"));
    assert_eq!(message.references().as_text(), Some("order-42@app.example.com"));
    assert_eq!(
        message.header_raw("Auto-Submitted").unwrap().trim(),
        "auto-replied"
    );
    assert_eq!(message.date().unwrap().to_timestamp(), 1_795_420_805);
    let kind = message.content_type().unwrap();
    assert_eq!(kind.attribute("report-type"), Some("delivery-status"));
    assert_eq!(message.parts.len(), 4);

    let text = part(&message, 1);
    let expected = "This is an automatically generated Delivery Status Notification.\r\n\r\n\
        Delivery to the following recipients failed.\r\n\r\n       bob@example.net\r\n\r\n  \
        The mail server mx.example.net[192.0.2.1]:25 said:\r\n      \
        550 5.1.1 <bob@example.net>: no such user\r\n";
    assert!(text.starts_with(expected), "{text}");
    for told in [
        "Check the address for typing mistakes",
        "order 42.eml",
        "Order 42",
        "<order-42@app.example.com>",
        "01J9ZK3V5M6N7P8Q9R0S1T2V3W-1",
        "Mon, 23 Nov 2026 08:00:00 +0000",
        "< 550 5.1.1 no such user",
        "Your message is attached",
    ] {
        assert!(text.contains(told), "{told:?} is not in {text}");
    }

    assert_eq!(
        part(&message, 2),
        "Original-Envelope-Id: ORDER+42\r\nReporting-MTA: dns;relay.example.com\r\n\
         Arrival-Date: Mon, 23 Nov 2026 08:00:00 +0000\r\n\r\n\
         Original-Recipient: rfc822;Bob+x@example.net\r\nFinal-Recipient: rfc822;bob@example.net\r\n\
         Action: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns;mx.example.net\r\n\
         Diagnostic-Code: smtp;550 5.1.1 <bob@example.net>: no such user\r\n\
         Last-Attempt-Date: Mon, 23 Nov 2026 08:00:05 +0000\r\n"
    );
    assert_eq!(
        part(&message, 3).as_bytes(),
        WHOLE,
        "the original came back changed"
    );
}

#[test]
fn the_same_facts_make_the_same_bytes() {
    assert_eq!(Facts::new().dsn(Kind::Failure), Facts::new().dsn(Kind::Failure));
}

#[test]
fn the_kinds_differ_where_they_must() {
    let facts = Facts::new();
    for (kind, subject, action, sentence) in [
        (
            Kind::Failure,
            "(Failure)",
            "Action: failed\r\n",
            "Delivery to the following recipients failed.",
        ),
        (
            Kind::Delay,
            "(Delay)",
            "Action: delayed\r\n",
            "THIS IS A WARNING MESSAGE ONLY.",
        ),
        (
            Kind::Success,
            "(Success)",
            "Action: delivered\r\n",
            "Your message was delivered",
        ),
        (
            Kind::Relay,
            "(Relay)",
            "Action: relayed\r\n",
            "makes no reports of delivery",
        ),
    ] {
        let bytes = facts.dsn(kind);
        let message = parse(&bytes);
        assert_eq!(
            message.subject(),
            Some(format!("Delivery Status Notification {subject}").as_str())
        );
        assert!(part(&message, 2).contains(action));
        assert!(part(&message, 1).contains(sentence), "{}", part(&message, 1));
        assert_eq!(
            part(&message, 2).contains("Will-Retry-Until"),
            kind == Kind::Delay
        );
        // RFC 3461 §4.3: the whole message only where something failed
        let third = message
            .part(3)
            .unwrap()
            .content_type()
            .unwrap()
            .subtype()
            .unwrap()
            .to_owned();
        assert_eq!(third == "rfc822", kind == Kind::Failure, "{kind:?} {third}");
    }
}

#[test]
fn headers_only_when_asked_or_when_it_must_be() {
    let mut facts = Facts::new();
    facts.ret = Some(Ret::Hdrs);
    let asked = facts.dsn(Kind::Failure);
    assert_eq!(part(&parse(&asked), 3).as_bytes(), HEADER);
    facts.ret = None;
    for unfit in [&b"A: b\r\n\r\nx\ny\r\n"[..], &[b'x'; 2000], b"A: b\r\n\r\n\0\r\n"] {
        facts.whole = Some(unfit.to_vec());
        let bytes = facts.dsn(Kind::Failure);
        assert_eq!(part(&parse(&bytes), 3).as_bytes(), HEADER);
        assert!(part(&parse(&bytes), 1).contains("or its lines are"));
    }
}

#[test]
fn eight_bit_originals_and_addresses_come_through() {
    let mut facts = Facts::new();
    facts.whole = Some("Subject: größer\r\n\r\nschön\r\n".into());
    facts.header = "Subject: größer\r\n".into();
    facts.to = address("dörte@bücher.example");
    facts.recipients = vec![(
        Recipient::plain(address("jörg+x@bücher.example")),
        refused("jörg"),
    )];
    for kind in [Kind::Failure, Kind::Delay] {
        let bytes = facts.dsn(kind);
        let message = parse(&bytes);
        let outer = message.header_raw("Content-Transfer-Encoding").unwrap().trim();
        assert_eq!(outer, "8bit");
        let status = part(&message, 2);
        assert!(status.is_ascii());
        assert!(
            status.contains("Final-Recipient: utf-8;j\\x{F6}rg\\x{2B}x@b\\x{FC}cher.example\r\n"),
            "{status}"
        );
        assert!(
            status.contains("Diagnostic-Code: smtp;550 5.1.1 <j?rg@example.net>"),
            "{status}"
        );
        assert!(part(&message, 1).contains("jörg+x@bücher.example"));
        assert!(part(&message, 3).contains("größer"));
    }
}

#[test]
fn nothing_hostile_breaks_out() {
    let mut facts = Facts::new();
    facts.envid = Some("x+0D+0AAction: delivered");
    facts.to = address("\"a b\"@example.com");
    facts.recipients = vec![
        (
            Recipient::plain(Address::unroutable("a b\r\nAction: delivered\r\n\u{7}@ö")),
            refused("x"),
        ),
        (
            Recipient::plain(address("c@example.net")),
            refused(&"long ".repeat(2000)),
        ),
    ];
    facts.transcript = format!(
        "{}\n.\n--=_DSN_01J9ZK3V5M6N7P8Q9R0S1T2V3X\na\rb\n",
        "x".repeat(5000)
    );
    facts.header = format!("Subject: {}\nMessage-ID: <a@b\r\nX: y>\r\n", "y".repeat(3000)).into();
    facts.whole = None;
    let bytes = facts.dsn(Kind::Failure);
    let message = parse(&bytes);
    assert_eq!(message.parts.len(), 4);
    assert!(message.in_reply_to().as_text().is_none());
    let status = part(&message, 2);
    assert!(!status.contains("\nAction: delivered"), "{status}");
    assert_eq!(status.matches("\r\nAction: failed\r\n").count(), 2);
    assert_eq!(
        message.to().unwrap().first().unwrap().address(),
        Some("\"a b\"@example.com")
    );
}

#[test]
fn a_hundred_thousand_recipients_are_linear() {
    let mut bytes = Vec::new();
    crate::effort::is_linear("a report", 100_000, |many| {
        let mut facts = Facts::new();
        let recipient = |n| Recipient::plain(address(&format!("user{n}@example.net")));
        facts.recipients = (0..many)
            .map(|n| (recipient(n), refused(&format!("user{n}"))))
            .collect();
        bytes = facts.dsn(Kind::Failure);
    });
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(text.matches("\r\nFinal-Recipient: ").count(), 100_000);
    assert_eq!(
        text.matches("\r\n       user").count(),
        100,
        "people are shown the first hundred"
    );
    assert!(text.contains("and 99900 more recipients"));
}

#[test]
fn recipients_with_one_outcome_are_told_together() {
    let mut facts = Facts::new();
    let same = Outcome::failed(EnhancedStatus::new(4, 4, 7), "not delivered within 2 days");
    facts.recipients = ["a", "b", "c"]
        .map(|user| {
            (
                Recipient::plain(address(&format!("{user}@example.net"))),
                same.clone(),
            )
        })
        .into();
    facts.recipients[1].1 = refused("b");
    let bytes = facts.dsn(Kind::Failure);
    let text = part(&parse(&bytes), 1);
    assert!(
        text.contains("       a@example.net\r\n       c@example.net\r\n\r\n  What happened: not delivered"),
        "{text}"
    );
    facts.recipients.remove(1);
    let bytes = facts.dsn(Kind::Failure);
    assert!(part(&parse(&bytes), 1).contains("before its time was over"));
    facts.recipients[0].1.status = EnhancedStatus::new(4, 4, 1);
    facts.recipients.truncate(1);
    let bytes = facts.dsn(Kind::Failure);
    assert!(part(&parse(&bytes), 1).contains("due to being unable to connect"));
    facts.recipients[0].1.status = EnhancedStatus::new(5, 4, 6);
    facts.recipients.truncate(1);
    let bytes = facts.dsn(Kind::Failure);
    assert!(part(&parse(&bytes), 1).contains("could indicate a mail loop"));
}

#[test]
fn notify_is_honoured() {
    let with = |notify: Option<&str>| Recipient {
        notify: notify.map(|text| Notify::parse(text).unwrap()),
        ..Recipient::plain(address("a@b"))
    };
    for (notify, told) in [
        (None, [true, true, false, false]),
        (Some("NEVER"), [false; 4]),
        (Some("SUCCESS"), [false, false, true, true]),
        (Some("FAILURE"), [true, false, false, false]),
        (Some("DELAY"), [false, true, false, false]),
    ] {
        let recipient = with(notify);
        let asked =
            [Kind::Failure, Kind::Delay, Kind::Success, Kind::Relay].map(|kind| due(kind, &recipient));
        assert_eq!(asked, told, "{notify:?}");
    }
}

/// Prints what Python's `email` makes of a report, one JSON object.
const READ_WITH_PYTHON: &str = r#"
import email, email.policy, json, sys
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
text, status, third = m.get_payload()
defects = [repr(d) for p in m.walk() for d in p.defects]
print(json.dumps({
    "type": m.get_content_type(), "report": m.get_param("report-type"),
    "subject": m["subject"], "from": m["from"], "to": m["to"], "auto": m["auto-submitted"], "reply": m["in-reply-to"],
    "text_type": text.get_content_type(), "charset": text.get_content_charset(), "text": text.get_content(),
    "status_type": status.get_content_type(),
    "groups": [[[k, str(v)] for k, v in g.items()] for g in status.get_payload()],
    "third_type": third.get_content_type(),
    "third": third.get_payload(0).as_bytes(policy=email.policy.SMTP).decode("utf-8", "replace")
             if third.is_multipart() else third.get_payload(decode=True).decode("utf-8", "replace"),
    "defects": defects,
}))
"#;

fn python_reads(bytes: &[u8]) -> Option<serde_json::Value> {
    let python = Command::new("python3")
        .args(["-c", READ_WITH_PYTHON])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut python) = python else {
        eprintln!("SKIPPED: no python3 on this machine, so no second opinion on our reports");
        return None;
    };
    python.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "python could not read the report:\n{}",
        String::from_utf8_lossy(bytes)
    );
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn python_reads_a_failure_part_by_part() {
    let mut facts = Facts::new();
    facts
        .recipients
        .push((Recipient::plain(address("carol@example.net")), refused("carol")));
    facts.transcript = format!("dörte\n{}\n", "= .\n".repeat(9));
    let Some(seen) = python_reads(&facts.dsn(Kind::Failure)) else {
        return;
    };
    assert_eq!(seen["defects"], serde_json::json!([]));
    for (key, value) in [
        ("type", "multipart/report"),
        ("report", "delivery-status"),
        ("subject", "Delivery Status Notification (Failure)"),
        ("from", "postmaster@example.com"),
        ("to", "alice@example.com"),
        ("auto", "auto-replied"),
        ("reply", "<order-42@app.example.com>"),
        ("text_type", "text/plain"),
        ("charset", "utf-8"),
        ("status_type", "message/delivery-status"),
        ("third_type", "message/rfc822"),
    ] {
        assert!(
            seen[key].as_str().unwrap().contains(value),
            "{key}: {}",
            seen[key]
        );
    }
    assert_eq!(seen["third"].as_str().unwrap(), String::from_utf8_lossy(WHOLE));
    let text = seen["text"].as_str().unwrap().replace("\r\n", "\n");
    assert!(
        text.starts_with("This is an automatically generated Delivery Status Notification.\n\nDelivery to"),
        "{text}"
    );
    assert!(text.contains("\n  dörte\n  = .\n"), "{text}");
    let groups = seen["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 3);
    assert_eq!(
        groups[0][0],
        serde_json::json!(["Reporting-MTA", "dns;relay.example.com"])
    );
    assert_eq!(
        groups[2][0],
        serde_json::json!(["Final-Recipient", "rfc822;carol@example.net"])
    );
    assert_eq!(groups[2][2], serde_json::json!(["Status", "5.1.1"]));
}

#[test]
fn python_reads_headers_only_and_eight_bit() {
    let mut facts = Facts::new();
    facts.header = "Subject: größer\r\nX: y\r\n".into();
    facts.ret = Some(Ret::Hdrs);
    facts.recipients = vec![(Recipient::plain(address("jörg@bücher.example")), refused("jörg"))];
    let Some(seen) = python_reads(&facts.dsn(Kind::Failure)) else {
        return;
    };
    assert_eq!(seen["defects"], serde_json::json!([]));
    assert_eq!(seen["third_type"], "text/rfc822-headers");
    assert!(
        seen["third"]
            .as_str()
            .unwrap()
            .starts_with("Subject: größer\r\nX: y")
    );
    assert_eq!(seen["groups"][1][0][1], "utf-8;j\\x{F6}rg@b\\x{FC}cher.example");
}
