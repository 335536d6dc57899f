//! No message can make a second command, a second message or a second header line: seen on the raw bytes that reach a
//! host, by DATA and by BDAT, as they are and re-encoded.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use mailroot::practice::{Host, Script};
use support::place::{Place, message, nested, to_smart_host};
use support::tree;

/// Passes connections on to a host and keeps what the client sent, each connection by itself.
struct Tap {
    port: u16,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Tap {
    fn before(host: &Host) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (target, heard) = (host.address(), Arc::new(Mutex::new(Vec::new())));
        let all = Arc::clone(&heard);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, host) = (client.unwrap(), TcpStream::connect(target).unwrap());
                let number = {
                    let mut all = all.lock().unwrap();
                    all.push(Vec::new());
                    all.len() - 1
                };
                let (from_host, to_client) = (host.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || pass(from_host, to_client, |_| {}));
                let all = Arc::clone(&all);
                std::thread::spawn(move || {
                    pass(client, host, |bytes| {
                        all.lock().unwrap()[number].extend_from_slice(bytes)
                    })
                });
            }
        });
        Self { port, heard }
    }

    fn heard(&self) -> Vec<Vec<u8>> {
        self.heard.lock().unwrap().clone()
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, keep: impl Fn(&[u8])) {
    let mut block = [0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut block) {
        keep(&block[..n]);
        if to.write_all(&block[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// What a client said, read as strictly as the RFCs allow.
#[derive(Default)]
struct Said {
    commands: Vec<String>,
    contents: Vec<Vec<u8>>,
}

fn read(stream: &[u8]) -> Said {
    let mut said = Said::default();
    let mut rest = stream;
    let mut chunk = Vec::new();
    while !rest.is_empty() {
        let end = find(rest, b"\r\n").unwrap_or_else(|| panic!("no line end: {:?}", lossy(rest)));
        let line = lossy(&rest[..end]);
        rest = &rest[end + 2..];
        let word = line.split(' ').next().unwrap().to_ascii_uppercase();
        if word == "DATA" {
            let content = if rest.starts_with(b".\r\n") {
                0
            } else {
                find(rest, b"\r\n.\r\n").expect("DATA has an end") + 2
            };
            said.contents.push(rest[..content].to_vec());
            rest = &rest[content + 3..];
        } else if word == "BDAT" {
            let size: usize = line.split(' ').nth(1).unwrap().parse().unwrap();
            chunk.extend_from_slice(&rest[..size]);
            rest = &rest[size..];
            if line.ends_with("LAST") {
                said.contents.push(std::mem::take(&mut chunk));
            }
        }
        said.commands.push(line);
    }
    said
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|w| w == part)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn only_crlf(bytes: &[u8]) -> Result<(), String> {
    for (at, byte) in bytes.iter().enumerate() {
        let fine = match byte {
            b'\n' => at > 0 && bytes[at - 1] == b'\r',
            b'\r' => bytes.get(at + 1) == Some(&b'\n'),
            _ => true,
        };
        if !fine {
            let from = at.saturating_sub(30);
            return Err(format!("{:?}", lossy(&bytes[from..bytes.len().min(at + 30)])));
        }
    }
    Ok(())
}

const EVIL: &str = "MAIL FROM:<evil@evil.example>\r\nRCPT TO:<victim@evil.example>\r\nDATA\r\n\
    From: <evil@evil.example>\r\nSubject: smuggled\r\n\r\nsmuggled\r\n.\r\n";

/// Whole files, each of which tries to be more than one message.
fn files() -> Vec<Vec<u8>> {
    let top = "x-sender: <app@local.test>\r\nx-receiver: <bob@example.net>\r\n";
    let header = "From: <app@local.test>\r\nSubject: plain\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\
        Message-ID: <one@local.test>\r\n";
    let mut files: Vec<Vec<u8>> = Vec::new();
    // The end of a message, as one host or another would see it.
    let ends = [
        "\n.\n",
        "\r.\r",
        "\n.\r\n",
        "\r\n.\n",
        "\r\n.\r",
        "\r.\r\n",
        "\r.\n",
        "\n.\r",
        "\r\n.\r\n",
        "\r\r\n.\r\r\n",
        "\n\n.\n\n",
        "\r\n\0.\r\n",
        "\0\r\n.\r\n\0",
        "\r\n.\0\r\n",
        "\n\r.\n\r",
        "\r\n..\n",
        "\n..\r\n",
        "\r..\r",
        "\x0b.\x0b",
        "\x0c.\x0c",
        "\u{85}.\u{85}",
        "\u{2028}.\u{2028}",
    ];
    for dots in ["", "x-dots: literal\r\n", "x-dots: stuffed\r\n"] {
        for end in ends {
            files.push(format!("{top}{dots}{header}\r\ntext{end}{EVIL}").into_bytes());
            // split by the block in which it is read, and longer than what is kept in memory
            let long = "x".repeat(76) + "\r\n";
            let body = long.repeat(65_536 / 78) + end + EVIL;
            files.push(format!("{top}{dots}{header}\r\n{body}").into_bytes());
        }
    }
    // In header fields: the line ends early, and what follows is a field, or the body, of the attacker's making.
    for value in [
        "a\rX-Evil: 1",
        "a\r\rX-Evil: 1",
        "a\r \rX-Evil: 1",
        "a\r\r\n b",
        "=?utf-8?Q?a=0D=0AX-Evil:_1?=",
        "=?utf-8?B?DQpYLUV2aWw6IDENCg0KYm9keQ==?=",
        "a\0b\r\0X-Evil: 1",
        "grüße\rX-Evil: 1",
        "a\u{85}X-Evil: 1",
    ] {
        for field in [
            "Subject",
            "X-Any",
            "To",
            "Cc",
            "Content-Type",
            "Message-ID",
            "Content-Type: text/plain; name",
        ] {
            files.push(format!("{top}{header}{field}: {value}\r\n\r\ntext\r\n").into_bytes());
        }
    }
    // In the envelope.
    for receiver in [
        "<bob@example.net>\rRCPT TO:<evil@evil.example>",
        "<bob@example.net\rx>",
        "<bob@example.net>\r\n\tRCPT TO:<evil@evil.example>",
        "<\"bob\rx\"@example.net>",
        "<\"bob\r\n x\"@example.net>",
        "<bob@example.net\0>",
        "<bob@example.net> NOTIFY=NEVER>\rRCPT",
        "<bob@example.net> ORCPT=rfc822;a\rRCPT",
        "<bob@example.net> ORCPT=rfc822;a+0D+0ARCPT",
        "<bob@example.net> ORCPT=rfc822;a@b>\tRCPT",
        "<bob@example.net> NOTIFY=FAILURE\rORCPT=rfc822;x",
        "<bob@example.net>> SIZE=1",
        "<<bob@example.net>",
        "<bob@example.net\u{85}>",
        "=?utf-8?Q?=0D=0ARCPT_TO:<evil@evil.example>?= <bob@example.net>",
        "<=?utf-8?Q?=0D=0A?=@example.net>",
    ] {
        let text = format!(
            "x-sender: <app@local.test>\r\nx-receiver: <carol@example.net>\r\nx-receiver: {receiver}\r\n{header}\r\ntext\r\n"
        );
        files.push(text.into_bytes());
    }
    for sender in [
        "<app@local.test> ENVID=a\rRCPT",
        "<app@local.test> ENVID=a+0D+0AMAIL",
        "<app@local.test> BODY=8BITMIME\rX",
        "<app@local.test> RET=FULL AUTH=<>\rRSET",
        "<\"app\rx\"@local.test>",
        "<app@local.test\r>",
        "<> \rMAIL FROM:<evil@evil.example>",
    ] {
        files.push(
            format!("x-sender: {sender}\r\nx-receiver: <bob@example.net>\r\n{header}\r\ntext\r\n")
                .into_bytes(),
        );
    }
    files
}

#[test]
fn only_whole_lines_and_only_our_commands_reach_a_host() {
    let files = files();
    for offers in [
        &["PIPELINING", "8BITMIME", "DSN", "SMTPUTF8"][..],
        &["8BITMIME", "DSN", "SIZE 100000000"],
        &[],
        &["PIPELINING", "CHUNKING", "8BITMIME", "SMTPUTF8", "DSN"],
        &["CHUNKING"],
    ] {
        let host = Host::start(Script::new().offering(offers)).unwrap();
        let tap = Tap::before(&host);
        let mut place = Place::new(&to_smart_host(tap.port, ""));
        for (number, bytes) in files.iter().enumerate() {
            place.put(format!("{number}.eml"), bytes);
        }
        place.drain();
        assert!(tree::files(&place.root(), "Pickup").is_empty());
        let bad = tree::count(&place.root(), "Badmail", "BAD") as u64;
        let messages = host.counts().messages;
        println!(
            "{offers:?}: {} files, {messages} messages, {bad} in Badmail",
            files.len()
        );
        assert!(messages > files.len() as u64 / 2, "{messages}");
        // One message each, and those that were not sent failed: a report of theirs is mail for Drop.
        let reports = tree::count(&place.root(), "Drop", "EML") as u64;
        assert!(messages + bad + reports >= files.len() as u64);
        assert!(messages + bad <= files.len() as u64 + reports);
        let mut contents = 0;
        for stream in tap.heard() {
            if let Err(near) = only_crlf(&stream) {
                panic!("{offers:?}: a bare CR or LF near {near}");
            }
            let said = read(&stream);
            contents += said.contents.len() as u64;
            for command in &said.commands {
                let verb = command.split([' ', ':']).next().unwrap();
                let known = ["EHLO", "HELO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "QUIT"];
                assert!(known.contains(&verb), "{command:?}");
                assert!(!command.contains("evil"), "{command:?}");
                assert!(command.chars().all(|c| !c.is_control()), "{command:?}");
                let names = |start: &str| command.starts_with(start);
                assert!(
                    !names("MAIL") || names("MAIL FROM:<app@local.test>") || names("MAIL FROM:<>"),
                    "{command:?}"
                );
            }
            for content in said.contents {
                let text = lossy(&content);
                let header = text.split("\r\n\r\n").next().unwrap();
                assert!(!header.contains("\r\nX-Evil:"), "{header}");
            }
        }
        assert_eq!(contents, messages, "{offers:?}");
        assert_eq!(host.violations(), Vec::<String>::new());
        for message in host.accepted() {
            assert!(!message.bare_cr && !message.bare_lf);
        }
    }
}

#[test]
fn what_is_nested_ten_thousand_deep_reaches_hosts_of_every_kind() {
    for offers in [&[][..], &["8BITMIME", "PIPELINING"]] {
        let host = Host::start(Script::new().offering(offers)).unwrap();
        let mut place = Place::new(&to_smart_host(host.port(), ""));
        place.put("nested.eml", nested(10_000));
        place.put(
            "plain.eml",
            message("app@local.test", &["bob@example.net"], "plain"),
        );
        place.drain();
        let accepted = host.accepted();
        let text = |part: &str| {
            let found = accepted
                .iter()
                .map(|message| lossy(&message.content))
                .find(|text| text.contains(part));
            found.unwrap_or_else(|| {
                panic!(
                    "{part:?} is not among {} messages\n{}",
                    accepted.len(),
                    place.log()
                )
            })
        };
        text("Subject: plain");
        let nested = text("Subject: nested");
        if offers.is_empty() {
            assert!(nested.is_ascii());
            assert!(nested.contains("\r\nGr=C3=BC=C3=9Fe\r\n"), "{}", &nested[..2000]);
        } else {
            assert!(nested.contains("\r\nGrüße\r\n"));
        }
        let closed = (0..10_000)
            .rev()
            .all(|level| nested.contains(&format!("\r\n--b{level}--\r\n")));
        assert!(closed, "a boundary is missing");
        assert_eq!(host.violations(), Vec::<String>::new());
    }
}

#[test]
fn addresses_name_no_place_outside_of_drop() {
    let host = Host::start(Script::new()).unwrap();
    let mut place = Place::new(&to_smart_host(host.port(), ""));
    let locals = [
        "../../etc/passwd",
        "\"../../../../tmp/x\"",
        "..",
        "/etc/passwd",
        "\"a/b\"",
        "\"..\\..\\x\"",
        "con",
        "\"NUL:\"",
        "\"a b\"",
        &"l".repeat(200),
    ];
    for (number, local) in locals.iter().enumerate() {
        let head = "From: <app@local.test>\r\nSubject: x\r\n";
        place.put(
            format!("{number}.eml"),
            format!("x-sender: <app@local.test>\r\nx-receiver: <{local}@local.test>\r\n{head}\r\ntext\r\n"),
        );
        place.put(
            format!("{number}-header.eml"),
            format!("To: <{local}@local.test>\r\n{head}\r\ntext\r\n"),
        );
    }
    let before: Vec<_> = std::fs::read_dir(place.beside())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(place.drain().code, Some(0), "{}", place.log());
    let drop = tree::files(&place.root(), "Drop");
    assert_eq!(drop.len(), 2 * locals.len());
    for file in drop {
        let name = file.file_name().unwrap().to_str().unwrap();
        let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || "-.".contains(c);
        assert!(name.chars().all(plain) && name.ends_with(".EML"), "{name}");
    }
    let mut after: Vec<_> = std::fs::read_dir(place.beside())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    after.retain(|name| !before.contains(name) && name != "notes");
    assert!(after.is_empty(), "{after:?}");
    assert_eq!(host.counts().messages, 0);
}

#[test]
fn mail_between_two_local_addresses_does_not_go_round() {
    let host = Host::start(Script::new()).unwrap();
    let mut place = Place::new(&to_smart_host(host.port(), ""));
    // Reports on reports, receipts for receipts, and a message that has passed too many hosts, to itself.
    let loops = "Received: from a by b; Tue, 24 Nov 2026 10:00:00 +0000\r\n".repeat(40);
    for (number, (from, to)) in [
        ("<a@local.test>", "<b@local.test> NOTIFY=SUCCESS,FAILURE,DELAY"),
        ("<a@local.test>", "<a@local.test> NOTIFY=SUCCESS"),
        ("<>", "<a@local.test> NOTIFY=SUCCESS"),
        (
            "<postmaster@local.test>",
            "<postmaster@local.test> NOTIFY=SUCCESS",
        ),
    ]
    .iter()
    .enumerate()
    {
        for (kind, more) in [("plain", ""), ("looping", loops.as_str())] {
            place.put(
                format!("{number}-{kind}.eml"),
                format!("x-sender: {from}\r\nx-receiver: {to}\r\n{more}From: <a@local.test>\r\nSubject: x\r\n\r\ntext\r\n"),
            );
        }
    }
    place.drain();
    assert!(place.is_empty(), "{}", tree::listing(&place.root()));
    let drop = tree::files(&place.root(), "Drop").len();
    let bad = tree::count(&place.root(), "Badmail", "BAD");
    // four messages, three receipts, a report of one loop; and three loops that nobody wants to be told of
    assert_eq!((drop, bad), (8, 3), "{}", tree::listing(&place.root()));
    place.drain();
    assert_eq!(tree::files(&place.root(), "Drop").len(), drop);
}
