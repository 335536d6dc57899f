//! `mailroot check FILE…` on real files, with a reader that makes of them what their first word says.

use super::*;
use crate::cli::check::tests::{check, made};
use crate::cli::tests::{Fake, mailroot};
use crate::mail::Notify;
use crate::pickup::submission::{Dots, Layout, Missing};

fn layout() -> Layout {
    Layout {
        encoding: Encoding::Utf8Bom,
        leading: 0..0,
        header: 0..0,
        omit: Vec::new(),
        body: 0..0,
        dots: Dots {
            stuffed: true,
            end_marker: true,
            present: true,
        },
        dots_said: false,
        complete_said: false,
        missing: Missing {
            date: true,
            message_id: true,
            from: false,
        },
        eight_bit_header: false,
        eight_bit_body: false,
        longest_line: 10,
        wire_size: 2048,
    }
}

/// Reads the first word of a "message" as what it is to be.
fn reader(text: &str) -> Read {
    let address = |text: &str| Address::parse(text, "d.example").unwrap();
    let from = |field: &str, line| Origin {
        field: field.into(),
        line,
    };
    let submission = Submission {
        envelope: Envelope {
            sender: Some(address("app@example.com")),
            ret: Some(crate::mail::Ret::Hdrs),
            recipients: vec![
                Recipient {
                    notify: Some(Notify::NEVER),
                    ..Recipient::plain(address("bob@example.net"))
                },
                Recipient::plain(address("carol@mail.example.com")),
                Recipient::plain(Address::unroutable("not an address")),
            ],
            ..Envelope::default()
        },
        sender_origin: from("pickup.default_sender", 0),
        recipient_origins: vec![from("X-Receiver", 2), from("Cc", 7), from("To", 8)],
        layout: layout(),
        internet_message_id: None,
        hops: 31,
        remarks: vec!["line 3: \"NOTIFY=SOMETIMES\" is not known; ignored".into()],
    };
    let malformed = Malformed {
        rule: "header-line",
        line: Some(4),
        text: Some("Sub ject".into()),
        what: "line 4 is neither a header field nor the continuation of one".into(),
        advice: "put a colon after the field name".into(),
    };
    let (completeness, submission) = match text.split_whitespace().next().unwrap() {
        "good" => (Completeness::Complete, Ok(submission)),
        "cut" => (Completeness::NoClosingBoundary, Ok(submission)),
        "given-up" => (
            Completeness::NoClosingBoundary,
            Err(Malformed {
                rule: "incomplete",
                ..malformed
            }),
        ),
        "header" => (Completeness::InsideHeader, Ok(submission)),
        _ => (Completeness::Complete, Err(malformed)),
    };
    Read {
        completeness,
        submission,
    }
}

#[test]
fn a_dry_run_tells_everything() {
    let dir = made("");
    let fake = Fake {
        reader,
        ..Fake::default()
    };
    let file = dir.path().join("a b.eml");
    std::fs::write(&file, "good").unwrap();
    let (exit, out) = check(&fake, dir.path(), &[file.to_str().unwrap()]);
    assert_eq!(exit, Exit::Ok, "{out}");
    let wanted = format!(
        "with the settings of {settings}\n\n\
         {file} (4 bytes): would be taken\n\
         \x20 sender     app@example.com RET=HDRS  (from the setting pickup.default_sender)\n\
         \x20 recipient  bob@example.net NOTIFY=NEVER  (from X-Receiver, line 2) => mx:example.net\n\
         \x20 recipient  carol@mail.example.com  (from Cc, line 7) => Drop\n\
         \x20 recipient  not an address  (from To, line 8) => fails at once: that is not an address (5.1.3)\n\
         \x20 dots       stuffed + end marker\n\
         \x20 size       2KiB on the wire, before stamps\n\
         \x20 encoding   UTF-8 with a byte order mark, which is removed\n\
         \x20 adds       Date, Message-ID (the file has none)\n\
         \x20 problem    31 Received lines, more than messages.max_hops (30): returned as looping\n\
         \x20 note       line 3: \"NOTIFY=SOMETIMES\" is not known; ignored\n",
        settings = dir.path().join("mailroot.toml").display(),
        file = file.display()
    );
    assert_eq!(out, wanted);
}

#[test]
fn each_fate_has_its_headline_and_exit_code() {
    let dir = made("");
    let fake = Fake {
        reader,
        ..Fake::default()
    };
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for (name, text) in [
        ("good", "good"),
        ("bad", "bad"),
        ("cut", "cut"),
        ("given-up", "given-up"),
        ("header", "header"),
        ("empty", ""),
        ("x.tmp", "good"),
        ("two", "good"),
    ] {
        std::fs::write(path(name), text).unwrap();
    }
    std::fs::hard_link(path("two"), path("second")).unwrap();
    std::os::unix::fs::symlink(path("good"), path("link")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, path("fifo").as_str(), fifo, 0o600.into(), 0).unwrap();
    for (name, exit, words) in [
        ("good", Exit::Ok, ": would be taken"),
        ("bad", Exit::BadData, "would go to Badmail: line 4 is neither"),
        (
            "bad",
            Exit::BadData,
            "\n  line       4: Sub ject\n  change     put a colon",
        ),
        ("cut", Exit::BadData, "would wait 1m, then go to Badmail"),
        ("given-up", Exit::BadData, "would wait 1m, then go to Badmail"),
        ("header", Exit::BadData, "would wait: it ends inside its header"),
        ("empty", Exit::BadData, "would be left alone: it is empty"),
        ("x.tmp", Exit::BadData, "would be left alone: its name says"),
        ("two", Exit::BadData, "would be left alone: it has 2 names"),
        ("link", Exit::BadData, "symbolic links are not followed"),
        ("fifo", Exit::BadData, "it is not a regular file"),
    ] {
        let (got, out) = check(&fake, dir.path(), &[&path(name)]);
        assert_eq!(got, exit, "{name}: {out}");
        assert!(out.contains(words), "{name}: {out}");
    }
    let (exit, _, err) = mailroot(
        &fake,
        None,
        &["check", &path("bad"), &path("nothing"), &path("good")],
    );
    assert_eq!(exit, Exit::NoInput);
    assert!(
        err.starts_with(&format!(
            "mailroot: cannot read {}: No such file",
            path("nothing")
        )),
        "{err}"
    );
}
