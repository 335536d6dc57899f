//! Every file of `spool-fixtures/pickup` is read as its README says: envelope, verdict on periods, body bytes.

use super::*;
use crate::config::DotsSetting;
use crate::mail::ReadAt;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("spool-fixtures/pickup")
}

fn rules() -> ReadRules {
    ReadRules {
        default_domain: "default.example".to_owned(),
        default_sender: String::new(),
        dots: DotsSetting::Auto,
        max_size: 32 * 1024 * 1024,
    }
}

fn load(name: &str) -> (Vec<u8>, Reading) {
    let bytes = std::fs::read(folder().join(name)).unwrap();
    let reading = read(&bytes, &rules()).unwrap();
    (bytes, reading)
}

/// The text that offsets refer to.
fn text_of(bytes: Vec<u8>, reading: &Reading) -> Vec<u8> {
    reading.transcoded.as_ref().map_or(bytes, |text| text.to_vec())
}

fn slice<'a>(text: &'a [u8], range: &std::ops::Range<u64>) -> &'a [u8] {
    &text[range.start as usize..range.end as usize]
}

/// The body as its recipient gets it, line ends aside: by the layout, without the code under test.
fn body_as_meant(text: &[u8], layout: &Layout) -> String {
    let body = String::from_utf8_lossy(slice(text, &layout.body)).into_owned();
    let unstuffed = |line: &str| line.strip_prefix('.').unwrap_or(line).to_owned();
    let lines = body.split_inclusive('\n');
    lines
        .map(|line| {
            if layout.dots.stuffed {
                unstuffed(line)
            } else {
                line.to_owned()
            }
        })
        .collect()
}

/// The header without what is left out.
fn header_as_sent(text: &[u8], layout: &Layout) -> Vec<u8> {
    let mut out = Vec::new();
    let mut from = layout.header.start;
    for gap in &layout.omit {
        assert!(from <= gap.start && gap.end <= layout.header.end, "{gap:?}");
        out.extend_from_slice(slice(text, &(from..gap.start)));
        from = gap.end;
    }
    out.extend_from_slice(slice(text, &(from..layout.header.end)));
    out
}

/// Bytes of header and body with every LF, CRLF and, in the body, bare CR as CRLF.
fn wire_len(header: &[u8], body: &str) -> u64 {
    let header = String::from_utf8_lossy(header)
        .replace("\r\n", "\n")
        .replace('\r', " ");
    let body = body.replace("\r\n", "\n").replace('\r', "\n");
    let whole = |text: &str| {
        let end = if text.is_empty() || text.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        format!("{text}{end}").replace('\n', "\r\n").len() as u64
    };
    whole(&header) + 2 + whole(&body)
}

struct Good {
    name: &'static str,
    sender: &'static str,
    recipients: &'static [&'static str],
    dots: &'static str,
    body: &'static str,
}

const fn good(
    name: &'static str,
    sender: &'static str,
    recipients: &'static [&'static str],
    dots: &'static str,
    body: &'static str,
) -> Good {
    Good {
        name,
        sender,
        recipients,
        dots,
        body,
    }
}

const A: &str = "a@example.com";
const ALICE: &str = "alice@example.com";
const B: &[&str] = &["b@example.net"];
const BOB: &[&str] = &["bob@example.net"];
const BOB_CAROL: &[&str] = &["bob@example.net", "carol@example.net"];
const BOB_DAVE: &[&str] = &["bob@example.net", "dave@example.org"];

const ATT: &str = "\r\n----boundary_0_8bfe2afa-370d-4f83-8852-adaa6e68d0a5\r\nContent-Type: text/plain; charset=us-ascii\r\n\
    Content-Transfer-Encoding: quoted-printable\r\n\r\nbody\r\n----boundary_0_8bfe2afa-370d-4f83-8852-adaa6e68d0a5\r\n\
    Content-Type: text/plain; name=f.txt\r\nContent-Transfer-Encoding: 7bit\r\nContent-Disposition: attachment\r\n\r\n\
    .x\r\n.\r\ny\r\n----boundary_0_8bfe2afa-370d-4f83-8852-adaa6e68d0a5--\r\n\r\n";

/// Complete files, and what is right for each.
#[rustfmt::skip]
const GOOD: &[Good] = &[
    good("writers/dotnetcore31-basic.eml", ALICE, &["bob@example.net", "carol@example.net", "dave@example.org"],
        "none", "Hello=0D=0A.=0D=0A.hidden=0D=0A..two=0D=0AEnd\r\n"),
    good("writers/dotnetcore31-att.eml", A, B, "stuffed", ATT),
    good("writers/dotnetcore31-wrap.eml", A, B, "stuffed",
        "<html><body>123456789 123456789 123456789 123456789 123456789 123=\r\n.</body></html>\r\n"),
    good("writers/dotnetcore31-empty.eml", A, B, "none", "\r\n"),
    good("writers/dotnetcore31-long.eml", ALICE, &["bob@example.net", "eve@example.net"], "none",
        "123456789 123456789 123456789 123456789 123456789 123456789 12345=\r\n6789 12345.678 tail\r\n"),
    good("writers/mono68-1.eml", ALICE, BOB_CAROL, "literal", "Hello\r\n.\r\n.hidden\r\n..two\r\nEnd\r\n"),
    good("writers/raw-writer-net5-style.eml", A, B, "literal", "first\r\n.gitignore\r\n.\r\n..\r\nlast\r\n"),
    good("writers/mailkit-faq-style.eml", ALICE, BOB_DAVE, "stuffed", "Hello\r\n.hidden\r\n..two\r\nEnd\r\n"),
    good("writers/cdosys-style-{6F9619FF-8B86-D011-B42D-00CF4FC964FF}.eml", ALICE, BOB_DAVE, "literal",
        "Hello\r\n.hidden\r\nEnd\r\n"),
    good("iis-and-exchange/exchange-replay-style.eml", ALICE, BOB, "none", "This is the body text.\r\n"),
    good("iis-and-exchange/iis-drop-style.eml", ALICE, &["bob@web1.example.net", "carol@web1.example.net"],
        "none", "Hello\r\n"),
    good("by-hand/kb221384-style.txt", "Sender@default.example", &["user@example.net"], "none", "This is a test\r\n"),
    good("by-hand/seed-email.txt", "blog@yourdomain.com", &["email@yourdomain.com"], "end marker",
        "This is the test body of the email\r\n\r\n"),
    good("forgiven/utf8-bom.eml", ALICE, BOB, "none", "Grüße\r\n"),
    good("forgiven/utf16le-bom.txt", ALICE, BOB, "none", "Grüße 😀\r\n"),
    good("forgiven/utf16be-bom.txt", ALICE, BOB, "stuffed", ".Grüße\r\n"),
    good("forgiven/nbsp-around-names.eml", ALICE, BOB, "none", "Hello\r\n"),
    good("forgiven/lf-only.eml", ALICE, BOB, "none", "Hello\nWorld\n"),
    good("forgiven/mixed-line-ends.eml", ALICE, BOB, "none", "Hello\nWorld\r\nEnd\n"),
    good("forgiven/last-line-without-end.eml", ALICE, BOB, "none", "Hello\r\nEnd"),
    good("forgiven/no-body.eml", ALICE, BOB, "none", ""),
    good("forgiven/mbox-from-line.eml", ALICE, BOB, "none", "Hello\r\n"),
    good("forgiven/bare-cr-in-body.eml", ALICE, BOB, "literal", "progress 1\rprogress 2\r\n.done\r\n"),
    good("forgiven/eight-bit-header.eml", "dörte@bücher.example", BOB, "none", "Hello\r\n"),
    good("forgiven/nul-in-body.eml", ALICE, BOB, "none", "a\0b\r\n"),
    good("forgiven/one-bad-recipient.eml", ALICE, &["!bob example.net", "carol@example.net"], "none", "Hello\r\n"),
    good("forgiven/duplicates.eml", ALICE, &["bob@example.net", "carol@example.net", "BOB@example.net"], "none", "Hello\r\n"),
    good("forgiven/null-sender.eml", "<>", BOB, "none", "Hello\r\n"),
    good("forgiven/sender-wins-over-from.eml", "office@example.com", BOB, "none", "Hello\r\n"),
    good("forgiven/x-dots-literal.eml", ALICE, BOB, "literal", "..one\r\n.\r\n"),
    good("forgiven/x-dots-stuffed.eml", ALICE, BOB, "stuffed + end marker", ".one\r\ntwo\r\n"),
];

/// Files that are not all there: as they stand, and what is said when no more comes (`None`: they are sent).
const CUT: &[(&str, Completeness, Option<&str>)] = &[
    (
        "cut-short/dotnetcore31-fail.eml",
        Completeness::NoClosingBoundary,
        Some("incomplete"),
    ),
    (
        "cut-short/multipart-cut-in-its-closing-boundary.eml",
        Completeness::NoClosingBoundary,
        Some("incomplete"),
    ),
    (
        "cut-short/multipart-header-only.eml",
        Completeness::InsideHeader,
        Some("incomplete"),
    ),
    (
        "cut-short/header-only-cut-in-a-line.eml",
        Completeness::InsideHeader,
        Some("incomplete"),
    ),
    ("cut-short/header-only.eml", Completeness::InsideHeader, None),
    ("malformed/empty.eml", Completeness::Empty, Some("incomplete")),
    (
        "malformed/only-a-bom.txt",
        Completeness::Empty,
        Some("incomplete"),
    ),
];

/// Files that cannot be understood: rule, line, a part of what is said, a part of the advice.
#[rustfmt::skip]
const MALFORMED: &[(&str, &str, Option<usize>, &str, &str)] = &[
    ("malformed/no-sender.eml", "no-sender", None, "no x-sender, no Sender and no From", "From: me@example.com"),
    ("malformed/no-recipient.eml", "no-recipient", None, "names no recipient", "To: you@example.net"),
    ("malformed/no-good-recipient.eml", "no-recipient", Some(2),
        "line 2 (To) \"Bob Smith\", because it holds a space outside quotes; line 3 (To) \"\"Carol\"\", because it is a display name",
        "separated by commas"),
    ("malformed/bad-x-sender.eml", "no-sender", Some(1), "line 1 (x-sender) is not an address: \"alice at example.com\"",
        "plain address"),
    ("malformed/no-empty-line-before-body.txt", "header-line", Some(4),
        "Line 4 stands before the first empty line but is no header line (a name and a colon): \"This is the test body of the email\"",
        "put an empty line before it"),
    ("malformed/spaces-in-the-empty-line.txt", "header-line", Some(4), "This is the test body", "line 3 must be really empty"),
    ("malformed/empty-line-at-the-top.txt", "no-sender", Some(1), "begins with an empty line", "Remove the empty line"),
    ("malformed/text-only.txt", "header-line", Some(1), "Hello Bob,", "begins with header lines"),
    ("malformed/line-ends-of-bare-cr.txt", "header-line", Some(1), "end in a bare CR", "CRLF or LF"),
    ("malformed/utf16le-without-bom.txt", "charset", Some(1), "without a byte order mark", "PowerShell"),
    ("malformed/utf16-cut-in-a-character.txt", "charset", Some(6), "line 6 is not valid UTF-16", "PowerShell"),
    ("malformed/utf32.txt", "charset", Some(1), "UTF-32", "UTF-8 or ASCII"),
];

#[test]
fn complete_files_are_read_right() {
    for want in GOOD {
        let name = want.name;
        let (bytes, reading) = load(name);
        assert_eq!(reading.completeness, Completeness::Complete, "{name}");
        assert_eq!(reading.incomplete, None, "{name}");
        let text = text_of(bytes, &reading);
        let found = reading.submission.unwrap_or_else(|m| panic!("{name}: {m:?}"));
        let sender = found.envelope.sender.as_ref().map_or("<>", |a| a.as_str());
        assert_eq!(sender, want.sender, "{name}");
        let recipients: Vec<String> = found
            .envelope
            .recipients
            .iter()
            .map(|r| format!("{}{}", if r.address.is_routable() { "" } else { "!" }, r.address))
            .collect();
        assert_eq!(recipients, want.recipients, "{name}");
        assert_eq!(found.recipient_origins.len(), recipients.len(), "{name}");
        let layout = &found.layout;
        assert_eq!(layout.dots.as_str(), want.dots, "{name}");
        let body = body_as_meant(&text, layout);
        assert_eq!(body, want.body, "{name}");
        assert_eq!(layout.leading.end, layout.header.start, "{name}");
        let header = header_as_sent(&text, layout);
        assert_eq!(layout.wire_size, wire_len(&header, &body), "{name}");
        assert_eq!(layout.eight_bit_header, !header.is_ascii(), "{name}");
        assert_eq!(layout.eight_bit_body, !body.is_ascii(), "{name}");
        for gone in [
            "x-receiver:",
            "x-sender:",
            "x-dots:",
            "bcc:",
            "x-endofinjectedxheaders:",
            "from alice@",
        ] {
            let header = String::from_utf8_lossy(&header).to_ascii_lowercase();
            assert!(
                !header.lines().any(|line| line.starts_with(gone)),
                "{name}: {gone}"
            );
        }
    }
}

#[test]
fn files_that_are_not_all_there_are_told_apart() {
    for (name, completeness, rule) in CUT {
        let (_, reading) = load(name);
        assert_eq!(reading.completeness, *completeness, "{name}");
        assert_eq!(reading.when_final().err().map(|m| m.rule), *rule, "{name}");
    }
    let fail = load("cut-short/dotnetcore31-fail.eml")
        .1
        .when_final()
        .unwrap_err();
    assert!(
        fail.what.contains("closing boundary") && fail.what.contains("----boundary_0_fcb1a164-"),
        "{fail:?}"
    );
}

#[test]
fn files_that_cannot_be_understood_say_where_and_what_to_change() {
    for (name, rule, line, what, advice) in MALFORMED {
        let (_, reading) = load(name);
        let found = reading.submission.expect_err(name);
        assert_eq!((found.rule, found.line), (*rule, *line), "{name}: {found:?}");
        assert!(found.what.contains(what), "{name}: {}", found.what);
        assert!(found.advice.contains(advice), "{name}: {}", found.advice);
        for sentence in [&found.what, &found.advice] {
            assert!(
                sentence.ends_with('.') && !sentence.contains('\n'),
                "{name}: {sentence}"
            );
        }
    }
}

#[test]
fn every_fixture_is_in_a_table_and_in_the_readme() {
    let tables = GOOD.iter().map(|g| g.name);
    let tables = tables
        .chain(CUT.iter().map(|c| c.0))
        .chain(MALFORMED.iter().map(|m| m.0));
    let tables: BTreeSet<String> = tables.map(str::to_owned).collect();
    let mut files = BTreeSet::new();
    for sub in std::fs::read_dir(folder()).unwrap().map(Result::unwrap) {
        if sub.file_type().unwrap().is_dir() {
            for file in std::fs::read_dir(sub.path()).unwrap().map(Result::unwrap) {
                let (sub, file) = (sub.file_name(), file.file_name());
                files.insert(format!("{}/{}", sub.to_str().unwrap(), file.to_str().unwrap()));
            }
        }
    }
    assert_eq!(tables, files);
    let readme = std::fs::read_to_string(folder().join("README.md")).unwrap();
    for name in &files {
        let file = name.split('/').nth(1).unwrap();
        assert!(readme.contains(&format!("| {file} |")), "README.md lacks {file}");
    }
}

fn submission(name: &str) -> Submission {
    load(name).1.submission.unwrap()
}

#[test]
fn origins_name_field_and_line() {
    let told = |name: &str| -> Vec<String> {
        let found = submission(name);
        let all = std::iter::once(&found.sender_origin).chain(&found.recipient_origins);
        all.map(|o| format!("{} {}", o.field, o.line)).collect()
    };
    assert_eq!(
        told("writers/dotnetcore31-long.eml"),
        ["X-Sender 1", "X-Receiver 3", "X-Receiver 4"]
    );
    assert_eq!(told("writers/mailkit-faq-style.eml"), ["From 1", "To 5", "Bcc 6"]);
    assert_eq!(
        told("forgiven/duplicates.eml"),
        ["From 1", "To 2", "Cc 3", "Bcc 4"]
    );
    assert_eq!(told("forgiven/mbox-from-line.eml"), ["From 2", "To 3"]);
    assert_eq!(told("forgiven/sender-wins-over-from.eml"), ["Sender 2", "To 3"]);
}

#[test]
fn parameters_of_exchange() {
    let found = submission("iis-and-exchange/exchange-replay-style.eml");
    let bob = &found.envelope.recipients[0];
    assert_eq!(found.envelope.ret, Some(crate::mail::Ret::Hdrs));
    assert_eq!(found.envelope.envid.as_deref(), Some("12345ABCD"));
    assert_eq!(bob.notify, Some(crate::mail::Notify::NEVER));
    assert_eq!(bob.orcpt.as_deref(), Some("rfc822;bob@example.net"));
    assert_eq!(found.remarks, ["line 1: auth=<someAuth> is not known; ignored"]);
}

#[test]
fn what_else_the_header_says() {
    let drop = submission("iis-and-exchange/iis-drop-style.eml");
    assert_eq!(drop.hops, 1);
    assert_eq!(
        drop.internet_message_id.as_deref(),
        Some("order42@client7.example.com")
    );
    assert_eq!(drop.layout.missing, Missing::default());
    let seed = submission("by-hand/seed-email.txt");
    assert_eq!((seed.hops, seed.internet_message_id), (0, None));
    assert!(seed.layout.missing.date && seed.layout.missing.message_id && !seed.layout.missing.from);
    let nbsp = submission("forgiven/nbsp-around-names.eml");
    assert!(!nbsp.layout.missing.from);
    let bom = submission("forgiven/utf8-bom.eml").layout;
    assert_eq!((bom.encoding, bom.leading), (Encoding::Utf8Bom, 3..3));
    let utf16 = submission("forgiven/utf16le-bom.txt").layout;
    assert_eq!((utf16.encoding, utf16.leading.start), (Encoding::Utf16Le, 0));
}

fn read_with(text: &[u8], change: impl FnOnce(&mut ReadRules)) -> Reading {
    let mut rules = rules();
    change(&mut rules);
    read(&text, &rules).unwrap()
}

#[test]
fn settings_are_followed() {
    let no_sender = b"To: bob@example.net\n\n..a\n";
    let found = read_with(no_sender, |r| {
        r.default_sender = "app".into();
        r.dots = DotsSetting::Literal;
    });
    let found = found.submission.unwrap();
    assert_eq!(found.envelope.sender.unwrap().as_str(), "app@default.example");
    assert_eq!(
        (found.sender_origin.field.as_str(), found.sender_origin.line),
        ("pickup.default_sender", 0)
    );
    assert!(!found.layout.dots.stuffed);
    let size = no_sender.len() as u64;
    let large = read_with(no_sender, |r| r.max_size = size - 1)
        .submission
        .unwrap_err();
    assert_eq!(large.rule, "too-large");
    assert!(large.what.contains(&size.to_string()) && large.what.contains(&(size - 1).to_string()));
    assert!(
        read_with(b"From: a@b\nTo: c@d\n\n", |r| r.max_size = 0)
            .submission
            .is_ok()
    );
}

#[test]
fn a_bad_from_falls_back_with_a_remark() {
    let text = b"Sender: <alice\nFrom: bob smith\nTo: c@d\nResent-To: e@f\n\n";
    let bad = read_with(text, |_| {}).submission.unwrap_err();
    assert_eq!(
        (bad.rule, bad.line, bad.text.as_deref()),
        ("no-sender", Some(1), Some("<alice"))
    );
    let found = read_with(text, |r| r.default_sender = "app@x.example".into())
        .submission
        .unwrap();
    assert_eq!(found.envelope.sender.unwrap().as_str(), "app@x.example");
    assert_eq!(
        found.remarks,
        [
            "line 1: \"<alice\" in Sender is not an address, because a bracket is opened and not closed",
            "line 2: \"bob smith\" in From is not an address, because it holds a space outside quotes",
            "line 4: Resent-To is not read; To, Cc and Bcc count",
        ]
    );
}

#[test]
fn a_text_that_grows_is_never_complete_too_early() {
    let whole = std::fs::read(folder().join("writers/dotnetcore31-att.eml")).unwrap();
    let closing = b"a5--";
    let closed_at = whole.windows(4).rposition(|w| w == closing).unwrap() + 4;
    for len in 0..whole.len() {
        let part = &whole[..len];
        let reading = read(&part, &rules()).unwrap();
        assert_eq!(
            reading.completeness == Completeness::Complete,
            len >= closed_at,
            "{len}"
        );
    }
}

#[test]
fn a_disk_error_is_no_verdict() {
    struct Broken;
    impl ReadAt for Broken {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
            let text = b"From: a@b\nTo: c@d\n\n";
            if offset == 0 {
                text[..].read_at(buf, 0)
            } else {
                Err(std::io::Error::other("gone"))
            }
        }
        fn len(&self) -> u64 {
            1000
        }
    }
    assert!(read(&Broken, &rules()).is_err());
}

mod properties {
    use super::*;
    use crate::mail::{Address, Envelope, Recipient, leading};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_make_read_panic(bytes: Vec<u8>) {
            read(&bytes, &rules()).unwrap().when_final().ok();
        }

        /// Pieces of mail in any order come nearer to what breaks a reader than random bytes.
        #[test]
        fn no_pieces_of_mail_make_read_panic(
            pieces in proptest::collection::vec(prop_oneof![
                Just("From: a@b\r\n"), Just("To: c@d,"), Just("x-sender: <a@b>\n"), Just("x-receiver: c@d\n"),
                Just("\r\n"), Just("\n"), Just("\r"), Just(" "), Just("\t"), Just("."), Just(".."), Just("\""), Just("<"),
                Just("Content-Type: multipart/mixed; boundary=b\r\n"), Just("--b--\r\n"), Just("--b"), Just("\u{feff}"),
                Just("\u{a0}"), Just("\0"), Just("Bcc: x@y\n"), Just("x-dots: literal\n"), Just("From x\n"),
            ], 0..20)
        ) {
            let bytes = pieces.concat().into_bytes();
            let reading = read(&bytes, &rules()).unwrap();
            if let Ok(found) = &reading.submission {
                let layout = &found.layout;
                prop_assert!(!found.envelope.recipients.is_empty());
                prop_assert_eq!(found.envelope.recipients.len(), found.recipient_origins.len());
                prop_assert!(layout.leading.end == layout.header.start && layout.header.end <= layout.body.start);
                prop_assert!(layout.body.start <= layout.body.end && layout.body.end <= bytes.len() as u64);
                let header = header_as_sent(&bytes, layout);
                let body = body_as_meant(&bytes, layout);
                prop_assert_eq!(layout.wire_size, wire_len(&header, &body));
            }
        }

        #[test]
        fn a_written_block_on_top_gives_its_envelope(
            sender in proptest::option::of("[a-z]{1,8}@[a-z]{1,8}"),
            recipients in proptest::collection::btree_set("[a-z]{1,8}@[a-z]{1,8}", 1..9),
        ) {
            let address = |text: &String| Address::parse(text, "d").unwrap();
            let envelope = Envelope {
                sender: sender.as_ref().map(address),
                recipients: recipients.iter().map(|text| Recipient::plain(address(text))).collect(),
                ..Envelope::default()
            };
            let mut file = leading::write(&envelope, None);
            let block = file.len() as u64;
            file.extend(b"From: x@y\r\nTo: z@z\r\n\r\nHello\r\n");
            let found = read(&file, &rules()).unwrap().submission.unwrap();
            prop_assert_eq!(found.layout.leading, 0..block);
            prop_assert_eq!(found.envelope, envelope);
        }
    }
}
