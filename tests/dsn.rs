//! Delivery status notifications from end to end (contract §5, RFC 3461, RFC 3464), read by another parser than our
//! own: Python's `email`, part by part.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::path::PathBuf;
use std::process::Command;

use mailroot::practice::{Host, Script};
use serde_json::Value;
use support::place::{Place, message, to_smart_host};

/// Prints each DSN of the given Drop files as one JSON value per line.
const READER: &str = r#"
import email, email.policy, json, sys
for path in sys.argv[1:]:
    data = open(path, 'rb').read()
    receivers = []
    while data.lower().startswith((b'x-sender:', b'x-receiver:', b'x-dots:')):
        line, _, data = data.partition(b'\r\n')
        if line.lower().startswith(b'x-receiver:'):
            receivers.append(line.split(b':', 1)[1].strip().decode())
    m = email.message_from_bytes(data, policy=email.policy.default)
    parts = list(m.iter_parts())
    status = parts[1].get_payload()
    def fields(block):
        return {k.lower(): str(v) for k, v in block.items()}
    returned = parts[2]
    if returned.get_content_type() == 'message/rfc822':
        inner = returned.get_payload(0)
        returned_text = inner.as_string()
    else:
        returned_text = returned.get_payload()
    defects = [str(d) for p in m.walk() for d in p.defects]
    print(json.dumps({
        'receivers': receivers, 'defects': defects,
        'subject': m['subject'], 'from': m['from'], 'to': m['to'], 'return_path': m['return-path'],
        'auto': m['auto-submitted'], 'type': m.get_content_type(), 'report': m.get_param('report-type'),
        'parts': [p.get_content_type() for p in parts],
        'human': parts[0].get_content(),
        'message': fields(status[0]), 'recipients': [fields(b) for b in status[1:]],
        'returned': returned_text,
    }))
"#;

/// All DSNs in Drop, by subject and first recipient; `None` when there is no Python.
fn reports(place: &Place) -> Option<Vec<Value>> {
    let files: Vec<PathBuf> = place.files("Drop", "EML");
    let output = Command::new("python3")
        .arg("-c")
        .arg(READER)
        .args(&files)
        .output();
    let Ok(output) = output else {
        eprintln!("SKIPPED: no python3 to read the DSNs with");
        return None;
    };
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        place.text("Drop", "EML")
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let mut all: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    for report in &all {
        assert_eq!(report["type"], "multipart/report", "{report:#}");
        assert_eq!(report["report"], "delivery-status");
        assert_eq!(report["parts"][0], "text/plain");
        assert_eq!(report["parts"][1], "message/delivery-status");
        assert_eq!(report["parts"].as_array().unwrap().len(), 3);
        assert_eq!(report["return_path"], "<>");
        assert_eq!(report["from"], "postmaster@local.test");
        assert_eq!(report["auto"], "auto-replied");
        assert_eq!(report["defects"], Value::Array(vec![]), "{report:#}");
        assert_eq!(report["message"]["reporting-mta"], "dns;mail.example.test");
        assert!(report["message"]["arrival-date"].is_string());
    }
    all.sort_by_key(|r| r["recipients"][0]["final-recipient"].to_string());
    all.sort_by_key(|r| r["recipients"][0]["action"].to_string());
    Some(all)
}

/// Final recipients without their type.
fn who(report: &Value) -> Vec<&str> {
    let all = report["recipients"].as_array().unwrap();
    all.iter()
        .map(|r| {
            let text = r["final-recipient"].as_str().unwrap();
            text.strip_prefix("rfc822;").unwrap().trim()
        })
        .collect()
}

fn host(talk: &str) -> Host {
    Host::start(talk.parse::<Script>().unwrap()).unwrap()
}

const RECEIVERS: &str = "x-receiver: <bad-default@example.net>\n\
    x-receiver: <bad-never@example.net> NOTIFY=NEVER\n\
    x-receiver: <bad-failure@example.net> NOTIFY=FAILURE ORCPT=rfc822;Original+2Bbox@example.org\n\
    x-receiver: <bad-success@example.net> NOTIFY=SUCCESS\n\
    x-receiver: <bad-delay@example.net> NOTIFY=DELAY\n\
    x-receiver: <good-default@example.net>\n\
    x-receiver: <good-never@example.net> NOTIFY=NEVER\n\
    x-receiver: <good-success@example.net> NOTIFY=SUCCESS,FAILURE\n";

fn with_parameters(sender: &str) -> String {
    let plain = message("app@local.test", &["x@y"], "matrix");
    let (_, rest) = plain.split_once("<x@y>\n").unwrap();
    format!("x-sender: <app@local.test>{sender}\n{RECEIVERS}{rest}")
}

#[test]
fn who_is_told_of_what() {
    for (parameters, envid, full) in [
        ("", None, true),
        (" RET=FULL ENVID=QQ314+2B159", Some("QQ314+159"), true),
        (" RET=HDRS", None, false),
    ] {
        let host = host("offer PIPELINING, 8BITMIME\nrcpt bad-*@* -> 550 5.1.1 no such user");
        let mut place = Place::new(&to_smart_host(host.port(), ""));
        place.put("x.eml", with_parameters(parameters));
        assert_eq!(
            place.drain().code,
            Some(65),
            "who may not be told goes to Badmail"
        );
        let Some(reports) = reports(&place) else { return };
        assert_eq!(reports.len(), 2, "one failure, one relay: {reports:#?}");
        let [failure, relay] = [&reports[0], &reports[1]];

        assert_eq!(failure["subject"], "Delivery Status Notification (Failure)");
        assert_eq!(failure["receivers"], serde_json::json!(["<app@local.test>"]));
        assert_eq!(
            who(failure),
            ["bad-default@example.net", "bad-failure@example.net"]
        );
        for recipient in failure["recipients"].as_array().unwrap() {
            assert_eq!(recipient["action"], "failed");
            assert_eq!(recipient["status"], "5.1.1");
            assert_eq!(recipient["diagnostic-code"], "smtp;550 5.1.1 no such user");
            assert!(
                recipient["remote-mta"].as_str().unwrap().starts_with("dns;"),
                "{recipient:#}"
            );
        }
        assert!(failure["recipients"][0]["original-recipient"].is_null());
        assert_eq!(
            failure["recipients"][1]["original-recipient"],
            "rfc822;Original+box@example.org"
        );
        assert_eq!(failure["message"]["original-envelope-id"].as_str(), envid);
        let returned = failure["returned"].as_str().unwrap();
        assert!(returned.contains("Subject: matrix"), "{returned}");
        assert_eq!(
            returned.contains("This is matrix."),
            full,
            "{parameters}: {returned}"
        );
        let kind = if full {
            "message/rfc822"
        } else {
            "text/rfc822-headers"
        };
        assert_eq!(failure["parts"][2], kind);
        let human = failure["human"].as_str().unwrap();
        assert!(human.contains("550 5.1.1 no such user"), "{human}");
        for unlisted in ["bad-success", "bad-delay", "bad-never"] {
            let told = human.split("What was tried").next().unwrap();
            assert!(!told.contains(unlisted), "{human}");
        }

        assert_eq!(who(relay), ["good-success@example.net"]);
        assert_eq!(relay["recipients"][0]["action"], "relayed");
        assert!(
            relay["recipients"][0]["status"]
                .as_str()
                .unwrap()
                .starts_with("2.")
        );
        assert!(!relay["returned"].as_str().unwrap().contains("This is matrix."));

        let bad = place.text("Badmail", "BAD");
        let kept: Vec<&str> = bad.lines().filter(|l| l.starts_with("x-receiver")).collect();
        assert_eq!(kept.len(), 3, "{kept:?}");
        for unlisted in ["bad-never", "bad-success", "bad-delay"] {
            assert!(kept.iter().any(|l| l.contains(unlisted)), "{kept:?}");
        }
        assert!(place.is_empty());
    }
}

#[test]
fn a_host_that_offers_dsn_gets_the_parameters_and_reports_success_itself() {
    let host = host("rcpt bad-*@* -> 550 5.1.1 no such user");
    let mut place = Place::new(&to_smart_host(host.port(), ""));
    place.put("x.eml", with_parameters(" RET=HDRS ENVID=QQ314+2B159"));
    assert_eq!(place.drain().code, Some(65));
    let message = &host.accepted()[0];
    let parameters = &message.sender_parameters;
    assert!(
        parameters.contains("RET=HDRS") && parameters.contains("ENVID=QQ314+2B159"),
        "{parameters}"
    );
    let of = |name: &str| {
        let found = message.recipients.iter().find(|r| r.address.starts_with(name));
        found.unwrap().parameters.clone()
    };
    assert_eq!(of("good-default"), "");
    assert_eq!(of("good-never"), "NOTIFY=NEVER");
    assert_eq!(of("good-success"), "NOTIFY=SUCCESS,FAILURE");
    let said = host.dialogue();
    let original =
        |l: &str| l.contains("bad-failure@") && l.contains("ORCPT=rfc822;Original+2Bbox@example.org");
    assert!(said.iter().any(|(_, l)| original(l)), "{said:?}");
    assert_eq!(host.violations(), Vec::<String>::new());
    let Some(reports) = reports(&place) else { return };
    assert_eq!(reports.len(), 1, "no relay report: {reports:#?}");
    assert_eq!(reports[0]["recipients"][0]["action"], "failed");
}

#[test]
fn local_delivery_is_reported_to_who_asked_for_it() {
    let host = host("");
    let mut place = Place::new(&to_smart_host(host.port(), ""));
    let plain = message("app@remote.example", &["x@y"], "local");
    let (_, rest) = plain.split_once("<x@y>\n").unwrap();
    place.put(
        "x.eml",
        format!(
            "x-sender: <app@remote.example>\nx-receiver: <silent@local.test>\n\
             x-receiver: <told@local.test> NOTIFY=SUCCESS\n{rest}"
        ),
    );
    assert_eq!(place.drain().code, Some(0));
    assert_eq!(place.files("Drop", "EML").len(), 1);
    let accepted = host.accepted();
    assert_eq!(accepted.len(), 1, "one report");
    assert_eq!(accepted[0].sender, "");
    assert_eq!(accepted[0].recipients[0].address, "app@remote.example");
    let text = String::from_utf8(accepted[0].content.clone()).unwrap();
    assert!(
        text.contains("Action: delivered") && text.contains("told@local.test"),
        "{text}"
    );
    assert!(
        !text.contains("Final-Recipient: rfc822;silent@local.test"),
        "{text}"
    );
}

#[test]
fn a_delay_is_told_once_and_only_to_who_wants_to_know() {
    let host = host("rcpt *@* -> 451 4.7.1 come back later");
    let settings = to_smart_host(
        host.port(),
        "retry = [\"100ms\"]\ndelay_notice = \"400ms\"\nexpire = \"1h\"",
    );
    let mut place = Place::new(&settings);
    let plain = message("app@local.test", &["x@y"], "delay");
    let (_, rest) = plain.split_once("<x@y>\n").unwrap();
    place.put(
        "x.eml",
        format!(
            "x-sender: <app@local.test> ENVID=E1\nx-receiver: <plain@example.net>\n\
             x-receiver: <never@example.net> NOTIFY=NEVER\nx-receiver: <failure@example.net> NOTIFY=FAILURE\n\
             x-receiver: <delay@example.net> NOTIFY=DELAY\n{rest}"
        ),
    );
    place.start();
    place.wait("the delay is told", || !place.files("Drop", "EML").is_empty());
    let tries = || {
        host.dialogue()
            .iter()
            .filter(|(_, l)| l.contains("plain@"))
            .count()
    };
    let before = tries();
    place.wait("it is tried several times more", || tries() >= before + 4);
    place.stop();
    let Some(reports) = reports(&place) else { return };
    let mut told: Vec<&str> = reports.iter().flat_map(who).collect();
    told.sort();
    assert_eq!(told, ["delay@example.net", "plain@example.net"], "{reports:#?}");
    for report in &reports {
        assert_eq!(report["subject"], "Delivery Status Notification (Delay)");
        assert_eq!(report["message"]["original-envelope-id"], "E1");
        for recipient in report["recipients"].as_array().unwrap() {
            assert_eq!(recipient["action"], "delayed");
            assert!(recipient["status"].as_str().unwrap().starts_with("4."));
            assert!(recipient["will-retry-until"].is_string(), "{recipient:#}");
        }
    }
    assert_eq!(
        place.files("Queue", "EML").len(),
        1,
        "the message goes on waiting"
    );
}

#[test]
fn a_failure_report_is_copied_and_a_report_is_never_reported_on() {
    let host = host("rcpt bad@* -> 550 5.1.1 no such user\nrcpt gone@* -> 550 5.1.1 the sender is gone");
    let settings = to_smart_host(host.port(), "");
    let mut place = Place::new(&format!("{settings}\n[reports]\ncopy_to = \"ops@local.test\"\n"));
    place.put(
        "local.eml",
        message("app@local.test", &["bad@example.net"], "copied"),
    );
    assert_eq!(place.drain().code, Some(0));
    let Some(all) = reports(&place) else { return };
    let mut receivers: Vec<&str> = all
        .iter()
        .flat_map(|r| r["receivers"].as_array().unwrap())
        .map(|r| r.as_str().unwrap())
        .collect();
    receivers.sort();
    assert_eq!(receivers, ["<app@local.test>", "<ops@local.test>"]);

    // its report is refused too: Badmail, and only the copy of the first report
    place.put(
        "gone.eml",
        message("gone@example.org", &["bad@example.net"], "gone"),
    );
    // the null sender: nobody is to be told
    place.put("null.eml", message("", &["bad@example.net"], "null"));
    assert_eq!(place.drain().code, Some(65));
    assert_eq!(place.files("Badmail", "BAD").len(), 2);
    let Some(all) = reports(&place) else { return };
    let copies: Vec<String> = all.iter().map(|r| r["recipients"].to_string()).collect();
    assert_eq!(copies.len(), 2, "{all:#?}");
    assert!(
        copies
            .iter()
            .all(|c| c.contains("bad@example.net") && !c.contains("gone@")),
        "{copies:?}"
    );
    let from: Vec<String> = host
        .dialogue()
        .iter()
        .map(|(_, l)| l.clone())
        .filter(|l| l.starts_with("MAIL"))
        .collect();
    assert_eq!(
        from.len(),
        4,
        "two messages, one report, one null sender: {from:?}"
    );
    assert!(place.is_empty());
}
