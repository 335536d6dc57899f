//! The listener, tortured: commands in any order, every limit and its neighbours, floods, connections that are cut off at
//! every stage, random bytes, and all that could pass for an end of a message.
//!
//! Whatever a client does, in Pickup lie the messages for which it read a 250, each whole, and nothing else; and the next
//! client is served.
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
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use argon2::password_hash::{PasswordHasher, SaltString};
use rustix::process::Signal;

use support::certificates::Authority;
use support::listener::{Both, Client, SOON, start};
use support::place::{BASE, Place};
use support::process::Running;
use support::wait_until;

/// "app" and "a secret", as PLAIN wants them.
const RIGHT: &str = "AGFwcABhIHNlY3JldA==";
const WRONG: &str = "AGFwcABhIGd1ZXNz";

/// A place in memory with a listener and nothing else.
fn listening(settings: &str) -> (Place, Running, SocketAddr) {
    let place = Place::in_memory(BASE);
    let (running, address) = start(&place, "listen", settings);
    (place, running, address)
}

/// A listener with everything, and the authority that its certificate is from.
fn with_everything() -> (Place, Running, SocketAddr, Authority) {
    let place = Place::in_memory(BASE);
    let authority = Authority::new(place.beside());
    let pem = place.beside().join("mail.pem");
    fs::write(&pem, authority.pem(&["127.0.0.1"])).unwrap();
    // as cheap as a hash can be: what it costs is not looked at here
    let params = argon2::Params::new(8, 1, 1, None).unwrap();
    let cheap = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let salt = SaltString::from_b64("c29tZXNhbHQ").unwrap();
    let hash = cheap.hash_password(b"a secret", &salt).unwrap().to_string();
    fs::write(place.root().join("users"), format!("app:{hash}\n")).unwrap();
    let settings = format!(
        "certificate = \"{}\"\nusers_file = \"users\"\nallow_plaintext_auth = true\n",
        pem.display()
    );
    let (running, address) = start(&place, "listen", &settings);
    (place, running, address, authority)
}

/// All that lies in Pickup, hidden names too.
fn lying(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.root().join("Pickup")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What a client sent, of a file in Pickup: below our leading block and our Received field.
fn sent(file: &[u8]) -> Vec<u8> {
    let at = memchr::memmem::find(file, b"\r\nReceived: from ").expect("our Received field") + 2;
    let mut rest = &file[at..];
    loop {
        let end = memchr::memchr(b'\n', rest).unwrap() + 1;
        rest = &rest[end..];
        if !rest.starts_with(b"\t") {
            return rest.to_vec();
        }
    }
}

/// Takes the one file out of Pickup.
fn take(place: &Place) -> Vec<u8> {
    let names = lying(place);
    assert_eq!(names.len(), 1, "{names:?}");
    let path = place.root().join("Pickup").join(&names[0]);
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(path).unwrap();
    bytes
}

// ---- (1) every command in every state ------------------------------------------------------------------------------

const STATES: [&str; 11] = [
    "fresh",
    "HELO",
    "EHLO",
    "MAIL",
    "RCPT",
    "BDAT",
    "AUTH",
    "STARTTLS",
    "TLS, EHLO",
    "message",
    "broken",
];

/// Each command and the code of the reply in each of the states.
const ORDER: &[(&str, [u16; 11])] = &[
    ("NOOP", [250; 11]),
    ("HELP", [214; 11]),
    ("VRFY bob", [252; 11]),
    ("RSET", [250; 11]),
    ("HELO again.test", [250; 11]),
    ("EHLO again.test", [250; 11]),
    ("EXPN list", [500; 11]),
    ("", [500; 11]),
    ("TURN", [500; 11]),
    ("EHLO", [501; 11]),
    ("QUIT", [221; 11]),
    (
        "MAIL FROM:<other@client.test>",
        [503, 250, 250, 503, 503, 503, 250, 503, 250, 250, 503],
    ),
    (
        "RCPT TO:<eve@local.test>",
        [503, 503, 503, 250, 250, 503, 503, 503, 503, 503, 503],
    ),
    ("DATA", [503, 503, 503, 554, 354, 503, 503, 503, 503, 503, 503]),
    ("BDAT 9", [503, 503, 503, 554, 250, 250, 503, 503, 503, 503, 503]),
    (
        "BDAT 9 LAST",
        [503, 503, 503, 554, 250, 250, 503, 503, 503, 503, 503],
    ),
    (
        "BDAT 0 LAST",
        [503, 503, 503, 554, 250, 250, 503, 503, 503, 503, 503],
    ),
    (
        "STARTTLS",
        [220, 220, 220, 220, 220, 220, 220, 503, 503, 220, 220],
    ),
    (
        "AUTH PLAIN (right)",
        [503, 503, 235, 503, 503, 503, 503, 503, 235, 235, 503],
    ),
    (
        "AUTH PLAIN (wrong)",
        [503, 503, 535, 503, 503, 503, 503, 503, 535, 535, 503],
    ),
    (
        "AUTH CRAM-MD5",
        [503, 503, 504, 503, 503, 503, 503, 503, 504, 504, 503],
    ),
    (
        "AUTH LOGIN",
        [503, 503, 334, 503, 503, 503, 503, 503, 334, 334, 503],
    ),
];

/// The bytes of every chunk of the table.
const CHUNK: &str = "A: bcde\r\n";

/// A client in this state, in clear as long as it can be.
enum Way {
    Clear(Client),
    Other(Client<Box<dyn Both>>),
}

fn in_state(place: &Place, address: SocketAddr, authority: &Authority, state: &str) -> Way {
    let (mut client, greeting) = Client::connect(address);
    assert!(greeting.starts_with("220"), "{greeting}");
    let says: &[(&str, u16)] = match state {
        "fresh" => &[],
        "HELO" => &[("HELO client.test", 250)],
        _ => &[("EHLO client.test", 250)],
    };
    let mail: &[(&str, u16)] = &[
        ("MAIL FROM:<app@client.test>", 250),
        ("RCPT TO:<bob@local.test>", 250),
    ];
    let then: &[(&str, u16)] = match state {
        "MAIL" | "broken" => &mail[..1],
        "RCPT" | "BDAT" | "message" => mail,
        _ => &[],
    };
    for (line, code) in says.iter().chain(then) {
        client.expect(line, *code);
    }
    match state {
        "BDAT" => drop(client.expect(&format!("BDAT 9\r\n{}", CHUNK.trim_end()), 250)),
        // a chunk that is refused: nobody gets the message
        "broken" => drop(client.expect(&format!("BDAT 9\r\n{}", CHUNK.trim_end()), 554)),
        "message" => {
            assert!(client.data("A: b\r\n\r\n").starts_with("250"));
            take(place);
        }
        "AUTH" => drop(client.expect(&format!("AUTH PLAIN {RIGHT}"), 235)),
        "STARTTLS" => return Way::Other(client.start_tls(authority).any()),
        "TLS, EHLO" => {
            let mut client = client.start_tls(authority).any();
            client.expect("EHLO client.test", 250);
            return Way::Other(client);
        }
        _ => {}
    }
    Way::Clear(client)
}

/// Says the command and what belongs to it; the message that comes of it must be whole, and is taken out of Pickup.
fn one_command<S: Read + Write>(
    client: &mut Client<S>,
    place: &Place,
    command: &str,
    code: u16,
    state: &str,
) {
    let at = format!("{command:?} in state {state:?}");
    let line = command.replace("(right)", RIGHT).replace("(wrong)", WRONG);
    let body = if command.starts_with("BDAT 9") { CHUNK } else { "" };
    client.send(format!("{line}\r\n{body}"));
    let reply = client.reply();
    assert!(
        reply.starts_with(&code.to_string()),
        "{at}: {reply:?}, not {code}"
    );
    match (command, code) {
        ("DATA", 354) => {
            client.send("A: b\r\n\r\nby DATA\r\n.\r\n");
            let reply = client.reply();
            assert!(reply.starts_with("250"), "{at}: {reply}");
            assert!(sent(&take(place)).ends_with(b"by DATA\r\n"), "{at}");
        }
        ("BDAT 9 LAST" | "BDAT 0 LAST", 250) => {
            let before = if state == "BDAT" { CHUNK } else { "" };
            let all = sent(&take(place));
            let wanted = format!("{before}{body}\r\n");
            assert_eq!(String::from_utf8_lossy(&all), wanted, "{at}");
        }
        ("AUTH LOGIN", 334) => assert!(client.say("*").starts_with("501"), "{at}"),
        ("QUIT", _) => assert_eq!(client.reply(), "", "{at}"),
        _ => {}
    }
    assert!(lying(place).is_empty(), "{at}: {:?}", lying(place));
}

/// After whatever was said a message can be sent, and it is that message and no other.
fn is_of_use<S: Read + Write>(client: &mut Client<S>, place: &Place, at: &str) {
    client.expect("EHLO probe.test", 250);
    client.expect("MAIL FROM:<probe@client.test>", 250);
    client.expect("RCPT TO:<probed@local.test>", 250);
    let reply = client.data("Subject: probe\r\n\r\nprobe\r\n");
    assert!(reply.starts_with("250"), "{at}: {reply}");
    let file = take(place);
    assert_eq!(sent(&file), b"Subject: probe\r\n\r\nprobe\r\n", "{at}");
    let top = "x-sender: <probe@client.test>\r\nx-receiver: <probed@local.test>\r\nx-dots: literal\r\nx-complete: yes\r\nReceived: ";
    assert!(
        file.starts_with(top.as_bytes()),
        "{at}: {}",
        String::from_utf8_lossy(&file)
    );
}

#[test]
fn every_command_in_every_state() {
    let (place, running, address, authority) = with_everything();
    for (command, codes) in ORDER {
        for (state, code) in STATES.iter().zip(codes) {
            let at = format!("{command:?} in state {state:?}");
            match in_state(&place, address, &authority, state) {
                Way::Clear(client) if *command == "STARTTLS" => {
                    let mut client = client.start_tls(&authority);
                    client.expect("MAIL FROM:<app@client.test>", 503);
                    is_of_use(&mut client, &place, &at);
                }
                Way::Clear(mut client) => {
                    one_command(&mut client, &place, command, *code, state);
                    if *command != "QUIT" {
                        is_of_use(&mut client, &place, &at);
                    }
                }
                Way::Other(mut client) => {
                    one_command(&mut client, &place, command, *code, state);
                    if *command != "QUIT" {
                        is_of_use(&mut client, &place, &at);
                    }
                }
            }
        }
    }
    assert_eq!(running.stop().code, Some(0));
}

// ---- (2) every limit and its neighbours ----------------------------------------------------------------------------

fn envelope(client: &mut Client) {
    client.expect("MAIL FROM:<app@client.test>", 250);
    client.expect("RCPT TO:<bob@local.test>", 250);
}

/// A message of so many bytes.
fn of_size(size: usize) -> String {
    format!("A: b\r\n\r\n{}\r\n", "x".repeat(size - 10))
}

/// By one or by two chunks; the code of the last reply.
fn by_bdat(client: &mut Client, content: &str, cut: usize) -> String {
    let (first, second) = content.split_at(cut);
    if cut > 0 {
        client.send(format!("BDAT {cut}\r\n{first}"));
        let reply = client.reply();
        if !reply.starts_with("250") {
            client.expect("RSET", 250);
            return reply;
        }
    }
    client.send(format!("BDAT {} LAST\r\n{second}", second.len()));
    client.reply()
}

#[test]
fn sizes_and_their_neighbours() {
    // of which 2048 are ours
    let (place, _running, address) = listening("max_errors = 100\n[messages]\nmax_size = 7048\n");
    let mut client = Client::greeted(address);
    assert!(client.say("EHLO x").contains("SIZE 5000|"));
    for (size, code) in [(4999, 250), (5000, 250), (5001, 552), (u64::MAX, 552)] {
        client.expect(&format!("MAIL FROM:<app@client.test> SIZE={size}"), code);
        client.expect("RSET", 250);
    }
    client.expect("MAIL FROM:<app@client.test> SIZE=18446744073709551616", 501);
    for (size, code) in [(4999, "250"), (5000, "250"), (5001, "552")] {
        let content = of_size(size);
        for way in ["DATA", "one chunk", "two chunks", "a chunk too many"] {
            envelope(&mut client);
            let reply = match way {
                "DATA" => client.data(&content),
                "one chunk" => by_bdat(&mut client, &content, 0),
                "two chunks" => by_bdat(&mut client, &content, 2500),
                _ => by_bdat(&mut client, &content, size),
            };
            assert!(reply.starts_with(code), "{size} by {way}: {reply}");
            if code == "250" {
                assert_eq!(sent(&take(&place)), content.as_bytes(), "{size} by {way}");
            }
            assert!(lying(&place).is_empty(), "{size} by {way}");
        }
    }
    // what was doubled on the way does not count twice
    envelope(&mut client);
    let content = format!("A: b\r\n\r\n{}", ".\r\n".repeat(1664));
    let reply = client.data(&content.replace("\n.", "\n.."));
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(sent(&take(&place)), content.as_bytes());
}

#[test]
fn the_size_of_a_session_and_its_neighbours() {
    let (place, _running, address) = listening("max_session_size = 1000\n");
    for (size, code) in [(399, "250"), (400, "250"), (401, "452")] {
        for way in ["DATA", "one chunk", "two chunks"] {
            let mut client = Client::sending(address);
            assert!(client.data(&of_size(600)).starts_with("250"));
            take(&place);
            client.expect(
                &format!("MAIL FROM:<app@client.test> SIZE={}", size.min(400)),
                250,
            );
            client.expect("RCPT TO:<bob@local.test>", 250);
            let content = of_size(size);
            let reply = match way {
                "DATA" => client.data(&content),
                "one chunk" => by_bdat(&mut client, &content, 0),
                _ => by_bdat(&mut client, &content, 200),
            };
            assert!(reply.starts_with(code), "{size} by {way}: {reply}");
            assert_eq!(lying(&place).len(), usize::from(code == "250"), "{size} by {way}");
            if code == "250" {
                assert_eq!(sent(&take(&place)), content.as_bytes());
            }
        }
    }
    let mut client = Client::sending(address);
    assert!(client.data(&of_size(600)).starts_with("250"));
    client.expect("MAIL FROM:<app@client.test> SIZE=401", 421);
    assert_eq!(client.reply(), "");
}

#[test]
fn numbers_and_their_neighbours() {
    let settings = "max_recipients = 3\nmax_messages = 3\nmax_errors = 4\n[messages]\nmax_hops = 3\n";
    let (place, _running, address) = listening(settings);
    for count in [2, 3, 4] {
        let mut client = Client::greeted(address);
        client.expect("MAIL FROM:<app@client.test>", 250);
        for number in 1..=count {
            // the same one twice is one
            let again = client.say(&format!("RCPT TO:<{number}@local.test>"));
            assert!(
                again.starts_with(if number > 3 { "452" } else { "250" }),
                "{again}"
            );
        }
        assert!(client.data("A: b\r\n\r\n").starts_with("250"));
        let file = String::from_utf8(take(&place)).unwrap();
        assert_eq!(file.matches("x-receiver: ").count(), count.min(3), "{file}");
    }
    for count in [2, 3, 4] {
        let mut client = Client::greeted(address);
        for number in 1..=count {
            if number > 3 {
                client.expect("MAIL FROM:<app@client.test>", 421);
                assert_eq!(client.reply(), "");
                continue;
            }
            envelope(&mut client);
            assert!(client.data("A: b\r\n\r\n").starts_with("250"));
            take(&place);
        }
    }
    for count in [3, 4, 5] {
        let mut client = Client::greeted(address);
        client.send("BOO\r\n".repeat(count));
        client.send("NOOP\r\n");
        let replies: Vec<String> =
            std::iter::from_fn(|| Some(client.reply()).filter(|reply| !reply.is_empty()))
                .take(count + 1)
                .collect();
        let codes: Vec<&str> = replies.iter().map(|reply| &reply[..3]).collect();
        let wanted = match count {
            3 => vec!["500", "500", "500", "250"],
            _ => vec!["500", "500", "500", "500", "421"],
        };
        assert_eq!(codes, wanted, "after {count} mistakes");
    }
    for (count, code) in [(2, "250"), (3, "554 5.4.6"), (4, "554 5.4.6")] {
        for way in ["DATA", "BDAT"] {
            let mut client = Client::sending(address);
            let content = format!("{}A: b\r\n\r\n", "Received: x\r\n\ty\r\n".repeat(count));
            let reply = match way {
                "DATA" => client.data(&content),
                _ => by_bdat(&mut client, &content, 20),
            };
            assert!(reply.starts_with(code), "{count} hops by {way}: {reply}");
            if code == "250" {
                assert_eq!(sent(&take(&place)), content.as_bytes());
            }
            assert!(lying(&place).is_empty());
        }
    }
}

#[test]
fn lines_and_their_neighbours() {
    let (place, _running, address, _authority) = with_everything();
    let mut client = Client::greeted(address);
    for (size, code) in [(2047, 250), (2048, 250), (2049, 500), (70_000, 500)] {
        client.expect(&format!("NOOP {}", "x".repeat(size - 7)), code);
    }
    // an answer to AUTH: 12288 bytes with its end
    for (size, code) in [
        (12_286, "501 5.5.2"),
        (12_290, "500 5.5.6"),
        (70_002, "500 5.5.6"),
    ] {
        client.expect("AUTH PLAIN", 334);
        let reply = client.say(&"A".repeat(size - 2));
        assert!(reply.starts_with(code), "{size}: {reply}");
    }
    // a text line may be of any length, and is taken as it is
    for size in [998, 999, 1000, 1001, 65_535, 65_536, 65_537, 1_000_000] {
        let content = format!("A: b\r\n\r\n{}\r\n.\r\nend\r\n", "x".repeat(size - 2));
        envelope(&mut client);
        let reply = client.data(&content.replace("\r\n.", "\r\n.."));
        assert!(reply.starts_with("250"), "{size}: {reply}");
        assert!(sent(&take(&place)) == content.as_bytes(), "{size}");
    }
}

#[test]
fn connections_and_their_neighbours() {
    for (settings, most) in [
        ("max_connections = 3\n", 3),
        ("max_connections = 9\nmax_connections_per_client = 2\n", 2),
    ] {
        let (_place, _running, address) = listening(settings);
        let mut here: Vec<Client> = (0..most).map(|_| Client::greeted(address)).collect();
        for _ in 0..2 {
            let (mut client, greeting) = Client::connect(address);
            assert!(greeting.starts_with("421 4.3.2"), "{greeting}");
            assert_eq!(client.reply(), "");
        }
        for client in &mut here {
            client.expect("NOOP", 250);
        }
        here.pop().unwrap().expect("QUIT", 221);
        wait_until("a place is free", SOON, || {
            Client::connect(address).1.starts_with("220")
        });
    }
}

#[test]
fn time_and_its_neighbours() {
    let (place, _running, address) = listening("timeout = \"1s\"\n");
    // longer than the limit in all, and never silent for so long
    let mut client = Client::greeted(address);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        std::thread::sleep(Duration::from_millis(250));
        client.expect("NOOP", 250);
    }
    // silent for longer: at every stage the client is told and goes, and nothing is left
    let stages: [&[&str]; 5] = [
        &[],
        &["MAIL FROM:<a@b.test>"],
        &["MAIL FROM:<a@b.test>", "RCPT TO:<bob@local.test>"],
        &["MAIL FROM:<a@b.test>", "RCPT TO:<bob@local.test>", "DATA"],
        &["MAIL FROM:<a@b.test>", "RCPT TO:<bob@local.test>", "BDAT 4\r\nA:"],
    ];
    let mut silent: Vec<Client> = stages.iter().map(|_| Client::greeted(address)).collect();
    let began = Instant::now();
    for (client, stage) in silent.iter_mut().zip(stages) {
        for line in stage {
            client.say(line);
        }
    }
    for (client, stage) in silent.iter_mut().zip(stages) {
        let reply = client.reply();
        assert!(reply.starts_with("421 4.4.2"), "{stage:?}: {reply}");
        assert!(began.elapsed() > Duration::from_millis(900), "{stage:?}");
        assert_eq!(client.reply(), "");
    }
    assert!(lying(&place).is_empty());
}

// ---- (3) floods ----------------------------------------------------------------------------------------------------

/// Sends all of it in one go while the replies are read; the codes of all replies.
fn flooded(address: SocketAddr, flood: Vec<u8>) -> BTreeMap<String, usize> {
    let mut client = Client::greeted(address);
    let mut tcp = client.input.get_ref().try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        // who is hung up on sees it in the replies
        let _ = tcp.write_all(&flood);
        let _ = tcp.shutdown(Shutdown::Write);
    });
    let mut codes = BTreeMap::new();
    loop {
        let reply = client.reply();
        if reply.is_empty() {
            break;
        }
        *codes.entry(reply[..3].to_owned()).or_insert(0) += 1;
    }
    sending.join().unwrap();
    codes
}

fn codes<const N: usize>(wanted: [(&str, usize); N]) -> BTreeMap<String, usize> {
    wanted.map(|(code, count)| (code.to_owned(), count)).into()
}

#[test]
fn floods_are_answered_one_by_one_and_cost_no_memory() {
    let (place, running, address) = listening("");
    // one recipient, named again and again
    let named = move |count: usize| {
        let mut flood = b"MAIL FROM:<app@client.test>\r\n".to_vec();
        flood.extend_from_slice(&b"RCPT TO:<bob@local.test>\r\n".repeat(count));
        flooded(address, flood)
    };
    assert_eq!(named(999), codes([("250", 1000)]));
    let before = running.most_memory();
    let same = std::thread::spawn(move || named(79_999));
    let mut rcpts = b"MAIL FROM:<app@client.test>\r\n".to_vec();
    for number in 0..10_000 {
        write!(rcpts, "RCPT TO:<{number}@local.test>\r\n").unwrap();
    }
    let rcpts = std::thread::spawn(move || flooded(address, rcpts));
    // others are served meanwhile
    let mut client = Client::greeted(address);
    is_of_use(&mut client, &place, "beside floods");
    assert_eq!(same.join().unwrap(), codes([("250", 80_000)]));
    assert_eq!(rcpts.join().unwrap(), codes([("250", 101), ("452", 9_900)]));
    assert!(lying(&place).is_empty());

    let mut messages = Vec::new();
    for number in 0..1000 {
        let content = format!("Subject: {number}\r\n\r\n..{number}\r\n");
        messages.extend_from_slice(b"MAIL FROM:<app@client.test>\r\nRCPT TO:<bob@local.test>\r\n");
        match number % 2 {
            0 => write!(messages, "DATA\r\n{content}.\r\n").unwrap(),
            _ => write!(messages, "BDAT {} LAST\r\n{content}", content.len()).unwrap(),
        }
    }
    assert_eq!(flooded(address, messages), codes([("250", 3000), ("354", 500)]));
    let mut subjects: Vec<usize> = Vec::new();
    for name in lying(&place) {
        let text =
            String::from_utf8(sent(&fs::read(place.root().join("Pickup").join(name)).unwrap())).unwrap();
        let number: usize = text["Subject: ".len()..]
            .split_once('\r')
            .unwrap()
            .0
            .parse()
            .unwrap();
        let dots = if number.is_multiple_of(2) { "." } else { ".." };
        assert_eq!(text, format!("Subject: {number}\r\n\r\n{dots}{number}\r\n"));
        subjects.push(number);
    }
    subjects.sort_unstable();
    assert!(subjects.into_iter().eq(0..1000));
    let grown = running.most_memory().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB more");
}

#[test]
fn who_talks_and_sends_nothing_is_hung_up_on() {
    let (place, running, address) = listening("");
    // EHLO counts as well
    assert_eq!(flooded(address, b"NOOP\r\n".repeat(99)), codes([("250", 99)]));
    let all = codes([("250", 99), ("421", 1)]);
    assert_eq!(flooded(address, b"NOOP\r\n".repeat(101)), all);
    assert_eq!(
        flooded(address, b"RSET\r\nEHLO a\r\n".repeat(51)).get("421"),
        Some(&1)
    );
    assert_eq!(flooded(address, b"NOOP\r\n".repeat(100_000)), all);
    // mail between them makes them mail's
    let mut client = Client::greeted(address);
    for _ in 0..3 {
        (0..95).for_each(|_| drop(client.expect("NOOP", 250)));
        is_of_use(&mut client, &place, "among idle commands");
    }
    assert_eq!(running.stop().code, Some(0));
}

#[test]
fn who_never_reads_is_stopped_and_disturbs_nobody() {
    let (place, running, address) = listening("");
    let mut first = Client::greeted(address);
    is_of_use(&mut first, &place, "alone");
    let before = running.most_memory();
    let mut deaf = Vec::new();
    for flood in [
        "EHLO a\r\n",
        "HELP\r\n",
        "BDAT 4\r\nA: b",
        "RCPT TO:<bob@local.test>\r\n",
    ] {
        let mut client = Client::greeted(address);
        let tcp = client.input.get_mut();
        tcp.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        // so that RCPT is no mistake, and goes on for long
        tcp.write_all(b"MAIL FROM:<app@client.test>\r\n").unwrap();
        let flood = flood.repeat(10_000);
        // until nothing is taken any more; an end of it is no harm either (mistakes, idle commands)
        for _ in 0..200 {
            if tcp.write_all(flood.as_bytes()).is_err() {
                break;
            }
        }
        deaf.push(client);
    }
    let mut client = Client::greeted(address);
    is_of_use(&mut client, &place, "beside the deaf");
    is_of_use(&mut first, &place, "beside the deaf");
    let grown = running.most_memory().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB more");
    let ended = running.stop();
    assert_eq!(ended.code, Some(0));
    assert!(!ended.stderr.contains("cut off"), "{}", ended.stderr);
}

// ---- (4) cut off at every stage ------------------------------------------------------------------------------------

/// What a client says before it is gone, and whether that is a whole message.
const STAGES: &[(&str, bool)] = &[
    ("", false),
    ("EH", false),
    ("EHLO a\r", false),
    ("EHLO a\r\n", false),
    ("EHLO a\r\nMAIL FROM:<a@b.test>\r\n", false),
    (
        "EHLO a\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<bob@local.test>\r\n",
        false,
    ),
    (
        "EHLO a\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<bob@local.test>\r\nDATA\r\n",
        false,
    ),
    (
        "EHLO a\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<bob@local.test>\r\nDATA\r\nA: b\r\n\r\nhalf",
        false,
    ),
    (
        "EHLO a\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<bob@local.test>\r\nDATA\r\nA: b\r\n\r\nhalf\r\n",
        false,
    ),
    (
        "EHLO a\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<bob@local.test>\r\nDATA\r\nA: b\r\n\r\nhalf\r\n.",
        false,
    ),
    (
        "EHLO a\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<bob@local.test>\r\nDATA\r\nA: b\r\n\r\nhalf\r\n.\r",
        false,
    ),
    (
        "EHLO a\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<bob@local.test>\r\nBDAT 9\r\nA:",
        false,
    ),
    (
        "EHLO a\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<bob@local.test>\r\nBDAT 9\r\nA: bcde\r\n",
        false,
    ),
    (
        "EHLO a\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<bob@local.test>\r\nBDAT 9 LAST\r\nA: bcde\r",
        false,
    ),
    ("EHLO a\r\nAUTH LOGIN\r\n", false),
    ("EHLO a\r\nSTARTTLS\r\n", false),
    (
        "EHLO a\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<bob@local.test>\r\nBDAT 9 LAST\r\nA: bcde\r\n",
        true,
    ),
    (
        "EHLO a\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<bob@local.test>\r\nDATA\r\nA: b\r\n\r\nwhole\r\n.\r\n",
        true,
    ),
];

/// `Status/listener` shows nobody.
fn wait_until_alone(place: &Place) {
    let folder = place.root().join("Status/listener");
    wait_until("all sessions are gone", SOON, || {
        fs::read_dir(&folder).map_or(true, |mut entries| entries.next().is_none())
    });
}

/// They are shown while they are here.
fn wait_until_shown(place: &Place, count: usize) {
    wait_until("all sessions are shown", SOON, || {
        let entries = fs::read_dir(place.root().join("Status/listener"))
            .into_iter()
            .flatten();
        let texts = entries.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap_or_default());
        texts
            .map(|text| text.matches("\"client\"").count())
            .sum::<usize>()
            == count
    });
}

#[test]
fn half_closed_at_every_stage() {
    let (place, running, address, _authority) = with_everything();
    let mut clients = Vec::new();
    for (says, _) in STAGES {
        let (mut client, _) = Client::connect(address);
        client.send(says);
        clients.push(client);
    }
    wait_until_shown(&place, STAGES.len());
    let mut promised = Vec::new();
    for (client, (says, is_whole)) in clients.iter_mut().zip(STAGES) {
        client.input.get_ref().shutdown(Shutdown::Write).unwrap();
        let replies: Vec<String> =
            std::iter::from_fn(|| Some(client.reply()).filter(|reply| !reply.is_empty())).collect();
        let ids: Vec<String> = replies.iter().filter_map(|reply| id_of(reply)).collect();
        assert_eq!(ids.len(), usize::from(*is_whole), "{says:?}: {replies:?}");
        promised.extend(ids.into_iter().map(|id| format!("{id}.EML")));
    }
    promised.sort();
    assert_eq!(lying(&place), promised);
    wait_until_alone(&place);
    assert_eq!(running.stop().code, Some(0));
}

#[test]
fn torn_off_at_every_stage() {
    let (place, running, address, _authority) = with_everything();
    let mut clients = Vec::new();
    for (says, _) in STAGES.iter().filter(|(_, is_whole)| !is_whole) {
        let (mut client, _) = Client::connect(address);
        client.send(says);
        clients.push(client);
    }
    let count = clients.len();
    wait_until_shown(&place, count);
    for client in clients {
        // closed at once, by RST
        rustix::net::sockopt::set_socket_linger(client.input.get_ref(), Some(Duration::ZERO)).unwrap();
    }
    wait_until_alone(&place);
    assert!(lying(&place).is_empty(), "{:?}", lying(&place));
    assert_eq!(running.stderr().matches("session ended").count(), count);
    let mut client = Client::greeted(address);
    is_of_use(&mut client, &place, "after all");
}

// ---- (5) random ----------------------------------------------------------------------------------------------------

/// SplitMix64: the same numbers for the same seed.
struct Lot(u64);

impl Lot {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `most`.
    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most as u64).unwrap()
    }

    fn of<'t, T>(&mut self, some: &'t [T]) -> &'t T {
        &some[self.below(some.len())]
    }
}

/// What the sessions of one kind were told: the ID of each message for which a 250 was read, and what it must hold where
/// that is known.
type Promised = BTreeMap<String, Option<Vec<u8>>>;

/// Plays one session by lot.
type Kind = fn(&mut Lot) -> Promised;

/// Plays the session of each seed, in a few threads.
fn sessions(seeds: std::ops::Range<u64>, play: Kind) -> Promised {
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let mine = seeds.clone().skip(thread).step_by(4);
            std::thread::spawn(move || {
                let mut promised = Promised::new();
                for seed in mine {
                    let said = std::panic::catch_unwind(|| play(&mut Lot(seed)));
                    promised.extend(said.unwrap_or_else(|_| panic!("the session with seed {seed}")));
                }
                promised
            })
        })
        .collect();
    threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect()
}

fn id_of(reply: &str) -> Option<String> {
    let rest = reply.strip_prefix("250 2.6.0 <")?;
    Some(rest.split_once('@')?.0.to_owned())
}

/// In Pickup lies what was promised and nothing else, each whole.
fn is_what_was_promised(place: &Place, running: &Running, promised: &Promised) {
    wait_until_alone(place);
    let names = lying(place);
    let wanted: Vec<String> = promised.keys().map(|id| format!("{id}.EML")).collect();
    assert_eq!(names, wanted);
    let log = running.stderr();
    let sizes: BTreeMap<&str, usize> = log
        .lines()
        .filter_map(|line| {
            let rest = line.split_once(" received id=")?.1;
            let size = rest.rsplit_once("size=")?.1;
            Some((rest.split(' ').next()?, size.trim().parse().ok()?))
        })
        .collect();
    for (id, content) in promised {
        let path = place.root().join("Pickup").join(format!("{id}.EML"));
        let file = fs::read(&path).unwrap();
        assert!(file.starts_with(b"x-sender: <"), "{id}");
        let came = sent(&file);
        match content {
            Some(content) => assert_eq!(
                String::from_utf8_lossy(&came),
                String::from_utf8_lossy(content),
                "{id}"
            ),
            // at most the end of the header block was added
            None => assert!(
                (sizes[id.as_str()]..=sizes[id.as_str()] + 4).contains(&came.len()),
                "{id}"
            ),
        }
        fs::remove_file(path).unwrap();
    }
    assert!(
        !log.contains("panicked") && !log.contains("internal error"),
        "{log}"
    );
}

/// The address that the sessions of this process speak to.
static ADDRESS: std::sync::OnceLock<SocketAddr> = std::sync::OnceLock::new();

/// Sends it in pieces and reads what comes until the end.
fn poured(lot: &mut Lot, bytes: &[u8]) -> Promised {
    let (mut client, greeting) = Client::connect(ADDRESS.get().copied().unwrap());
    assert!(greeting.starts_with("220"), "{greeting}");
    let mut tcp = client.input.get_ref().try_clone().unwrap();
    let pieces = 1 + lot.below(4);
    let size = bytes.len() / pieces + 1;
    for piece in bytes.chunks(size) {
        if tcp.write_all(piece).is_err() {
            break; // it has closed, as it may
        }
    }
    let _ = tcp.shutdown(Shutdown::Write);
    let mut promised = Promised::new();
    loop {
        let reply = client.reply();
        if reply.is_empty() {
            return promised;
        }
        assert!(
            reply.len() > 3
                && reply[..3]
                    .parse::<u16>()
                    .is_ok_and(|code| (200..600).contains(&code)),
            "{reply:?}"
        );
        promised.extend(id_of(&reply).map(|id| (id, None)));
    }
}

fn random_bytes(lot: &mut Lot) -> Promised {
    let count = lot.below(3000);
    let few = [b'\r', b'\n', b'.', b' ', 0, b':', b'<', 0xFF];
    let bytes: Vec<u8> = (0..count)
        .map(|_| match lot.below(3) {
            0 => *lot.of(&few),
            _ => lot.next().to_le_bytes()[0],
        })
        .collect();
    poured(lot, &bytes)
}

const DIALOGUES: [&str; 4] = [
    "EHLO a.test\r\nMAIL FROM:<app@client.test> SIZE=100 BODY=8BITMIME\r\nRCPT TO:<bob@local.test> NOTIFY=NEVER\r\nDATA\r\n\
     Subject: one\r\n\r\nfirst\r\n..second\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<eve@local.test>\r\nDATA\r\nA: b\r\n\r\n.\r\nQUIT\r\n",
    "EHLO b.test\r\nMAIL FROM:<app@client.test>\r\nRCPT TO:<bob@local.test>\r\nBDAT 12\r\nSubject: x\r\nBDAT 8 LAST\r\n\r\nabcdef\
     MAIL FROM:<app@client.test>\r\nRCPT TO:<bob@local.test>\r\nBDAT 5 LAST\r\nA: b\nNOOP\r\nQUIT\r\n",
    "HELO c.test\r\nMAIL FROM:<app@client.test>\r\nRCPT TO:<bob@local.test>\r\nRSET\r\nMAIL FROM:<app@client.test>\r\n\
     RCPT TO:<bob@local.test>\r\nDATA\r\nno header\r\n.\r\nVRFY x\r\nHELP\r\n",
    "EHLO d.test\r\nAUTH LOGIN\r\nYXBw\r\nYSBndWVzcw==\r\nAUTH PLAIN AGFwcABhIGd1ZXNz\r\nMAIL FROM:<app@client.test>\r\n\
     RCPT TO:<bob@local.test>\r\nDATA\r\nA: b\r\n\r\nx\r\n.\r\nQUIT\r\n",
];

fn mutated(lot: &mut Lot) -> Promised {
    let mut bytes = lot.of(&DIALOGUES).as_bytes().to_vec();
    for _ in 0..=lot.below(4) {
        let at = lot.below(bytes.len());
        match lot.below(6) {
            0 => bytes[at] = lot.next().to_le_bytes()[0],
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, *lot.of(b"\r\n. \0<>:9")),
            3 => bytes.truncate(at + 1),
            4 => {
                let end = (at + lot.below(60)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                let to = lot.below(bytes.len());
                bytes.splice(to..to, again);
            }
            _ => {
                let end = (at + lot.below(60)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    poured(lot, &bytes)
}

/// Valid commands in any order, answered one by one, so that it is known what each message must hold.
fn any_order(lot: &mut Lot) -> Promised {
    let mut client = Client::greeted(ADDRESS.get().copied().unwrap());
    let mut promised = Promised::new();
    let mut content: Vec<u8> = Vec::new();
    // 1: MAIL was taken, 2: RCPT too
    let mut so_far = 0;
    for step in 0..12 + lot.below(12) {
        // half of them lead somewhere, and half are any
        let leads = [
            "MAIL FROM:<app@client.test>",
            "RCPT TO:<bob@local.test>",
            *lot.of(&["DATA", "BDAT", "BDAT LAST"]),
        ];
        let line = match lot.below(2) {
            0 => leads[so_far.min(2)],
            _ => *lot.of(&[
                leads[0],
                leads[1],
                leads[2],
                "RCPT TO:<eve@local.test>",
                "RSET",
                "NOOP",
                "EHLO again.test",
                "HELO again.test",
                "VRFY bob",
            ]),
        };
        let lines: String = (0..lot.below(40))
            .map(|n| format!(".{n} of {step}\r\n"))
            .collect();
        let piece = format!("X-{step}: y\r\n\r\n{lines}");
        // is cut off in the middle now and then
        let is_last = lot.below(25) == 0;
        let told = match line {
            "BDAT" | "BDAT LAST" => {
                let last = line.strip_prefix("BDAT").unwrap();
                let whole = format!("BDAT {}{last}\r\n{piece}", piece.len());
                if is_last {
                    client.send(&whole[..lot.below(whole.len())]);
                    break;
                }
                client.send(&whole);
                client.reply()
            }
            "DATA" => {
                let begun = client.say("DATA");
                if !begun.starts_with("354") {
                    assert!(begun.starts_with('5'), "{begun}");
                    continue;
                }
                assert!(content.is_empty(), "DATA after BDAT");
                let whole = format!("{}.\r\n", piece.replace("\n.", "\n.."));
                if is_last {
                    client.send(&whole[..lot.below(whole.len())]);
                    break;
                }
                client.send(&whole);
                client.reply()
            }
            _ => client.say(line),
        };
        so_far = match line.split(' ').next() {
            Some("MAIL") if told.starts_with("250") => 1,
            Some("RCPT") if told.starts_with("250") => 2,
            Some("RSET" | "EHLO" | "HELO" | "DATA") => 0,
            _ if line == "BDAT LAST" => 0,
            _ => so_far,
        };
        match line {
            "BDAT" if told.starts_with("250") => content.extend_from_slice(piece.as_bytes()),
            "BDAT LAST" | "DATA" if told.starts_with("250") => {
                content.extend_from_slice(piece.as_bytes());
                let id = id_of(&told).expect("an ID");
                promised.insert(id, Some(std::mem::take(&mut content)));
            }
            "RSET" | "EHLO again.test" | "HELO again.test" => content.clear(),
            "BDAT LAST" => content.clear(),
            _ => {}
        }
        assert!(!told.is_empty() && !told.starts_with("421"), "{line}: {told:?}");
    }
    let _ = client.input.get_ref().shutdown(Shutdown::Write);
    let mut rest = String::new();
    let _ = client.input.read_to_string(&mut rest);
    assert!(!rest.contains("Queued mail"), "{rest}");
    promised
}

#[test]
fn random_sessions_leave_what_was_promised() {
    let (place, running, address) = listening("max_errors = 10000\n");
    ADDRESS.set(address).unwrap();
    let kinds: [(Kind, u64, usize); 3] = [
        (random_bytes, 1500, 0),
        (mutated, 2500, 500),
        (any_order, 1000, 500),
    ];
    for (play, count, least) in kinds {
        let promised = sessions(0..count, play);
        assert!(
            promised.len() >= least,
            "only {} messages: nothing is tried",
            promised.len()
        );
        is_what_was_promised(&place, &running, &promised);
    }
    let mut client = Client::greeted(address);
    is_of_use(&mut client, &place, "after all");
}

// ---- (6) out of turn, and what could pass for an end ---------------------------------------------------------------

#[test]
fn who_speaks_first_is_refused_and_who_waits_is_served() {
    let (place, running, address) = listening("");
    let message =
        "EHLO a\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<bob@local.test>\r\nDATA\r\nA: b\r\n\r\n.\r\nQUIT\r\n";
    for says in [message, "\r\n", "Q"] {
        // so that it has surely spoken before the listener can
        running.signal(Signal::STOP);
        let mut tcp = TcpStream::connect(address).unwrap();
        tcp.set_read_timeout(Some(SOON)).unwrap();
        tcp.write_all(says.as_bytes()).unwrap();
        running.signal(Signal::CONT);
        let mut replies = String::new();
        tcp.read_to_string(&mut replies).unwrap();
        assert!(
            replies.starts_with("554 5.5.1 ") && replies.lines().count() == 1,
            "{replies}"
        );
        assert!(lying(&place).is_empty());
    }
    let (mut client, greeting) = Client::connect(address);
    assert!(greeting.starts_with("220"));
    client.send(message);
    let mut replies = String::new();
    client.input.read_to_string(&mut replies).unwrap();
    assert!(
        replies.contains("Queued mail") && replies.ends_with("channel\r\n"),
        "{replies}"
    );
    take(&place);
}

#[test]
fn nothing_is_injected_before_tls() {
    let (place, _running, address, authority) = with_everything();
    let mail = "EHLO a\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<bob@local.test>\r\nDATA\r\nA: b\r\n\r\n.\r\n";
    // in the same segment
    let mut client = Client::greeted(address);
    client.send(format!("STARTTLS\r\n{mail}"));
    assert!(client.reply().starts_with("220"));
    assert_eq!(client.reply(), "");
    // after the reply, in place of the handshake
    let mut client = Client::greeted(address);
    client.expect("STARTTLS", 220);
    client.send(mail);
    let mut rest = Vec::new();
    let _ = client.input.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"2") && !rest.starts_with(b"3"), "{rest:?}");
    // what was said in clear is forgotten: the envelope, the name, the login
    let mut client = Client::sending(address);
    client.expect("RSET", 250);
    client.expect(&format!("AUTH PLAIN {RIGHT}"), 235);
    client.expect("MAIL FROM:<a@b.test>", 250);
    client.expect("RCPT TO:<bob@elsewhere.test>", 250);
    let mut client = client.start_tls(&authority);
    client.expect("DATA", 503);
    client.expect("MAIL FROM:<a@b.test>", 503);
    client.expect("EHLO x", 250);
    client.expect("MAIL FROM:<a@b.test>", 250);
    client.expect("RCPT TO:<bob@elsewhere.test>", 550);
    assert!(lying(&place).is_empty());
}

/// What some server or other takes for the end of a message.
const NO_ENDS: [&str; 17] = [
    "\n.\n",
    "\n.\r\n",
    "\r\n.\n",
    "\r.\r",
    "\r\n.\r",
    "\r.\n",
    "\r.\r\n",
    "\n.\r",
    "\r\n\0.\r\n",
    "\r\n.\0\r\n",
    "\r\n.\r\0\n",
    "\r\0\n.\r\n",
    "\n\n.\n",
    "\r\r.\r\r",
    "\r\n. \r\n",
    "\r\n .\r\n",
    "\r\n..\r\n",
];

#[test]
fn no_second_message_out_of_one() {
    let (place, _running, address) = listening("");
    for end in NO_ENDS {
        for before in ["Subject: s\r\n\r\nx", "Subject: s", "Subject: s\r\n\r\n"] {
            let hidden = "MAIL FROM:<evil@client.test>\r\nRCPT TO:<victim@local.test>\r\nDATA\r\nSubject: hidden\r\n\r\nhidden";
            let content = format!("{before}{end}{hidden}\r\n.\r\n");
            let cut = before.len() + end.len();
            for pieces in [
                vec![content.len()],
                vec![cut, content.len()],
                vec![cut - 1, cut, content.len()],
            ] {
                let at = format!("{end:?} behind {before:?} in {} pieces", pieces.len());
                let mut client = Client::sending(address);
                client.expect("DATA", 354);
                let mut from = 0;
                for to in pieces {
                    client.send(&content[from..to]);
                    from = to;
                }
                let reply = client.reply();
                assert!(reply.starts_with("250"), "{at}: {reply}");
                client.expect("NOOP", 250);
                client.expect("QUIT", 221);
                let file = take(&place);
                let text = String::from_utf8_lossy(&file);
                // where no header block was, its end is added
                let plain = |text: &str| text.replace("\r\n\r\n", "\r\n");
                assert!(
                    plain(&text).ends_with(&plain(&format!("{hidden}\r\n"))),
                    "{at}: {text}"
                );
                assert_eq!(text.matches("x-sender: ").count(), 1, "{at}");
                assert!(
                    text.starts_with("x-sender: <app@client.test>\r\nx-receiver: <bob@local.test>\r\nx-dots"),
                    "{at}"
                );
            }
        }
    }
}

/// Where another server may see the end of a line and we see none, or the other way round, the session is over.
#[test]
fn no_second_command_out_of_one() {
    let (place, _running, address, _authority) = with_everything();
    let mail = "MAIL FROM:<evil@client.test>\r\nRCPT TO:<victim@local.test>\r\nDATA\r\nA: b\r\n\r\n.\r\n";
    let long = format!("NOOP {}", "x".repeat(3000));
    let longer = format!("NOOP {}", "x".repeat(200_000));
    for line in ["NOOP", "EHLO a", "VRFY x", "RSET", long.as_str(), longer.as_str()] {
        for end in ["\n", "\r", "\r\r\n", "\n\r\n", "\r\0\n"] {
            let mut client = Client::greeted(address);
            client.send(format!("{line}{end}{mail}"));
            let shown = format!("{} {end:?}", &line[..4]);
            assert!(client.reply().starts_with("500"), "{shown}");
            assert_eq!(
                client.reply(),
                "",
                "{shown}: what follows is no command of anybody"
            );
        }
    }
    for begins in ["AUTH PLAIN", "AUTH LOGIN"] {
        let mut client = Client::greeted(address);
        client.expect(begins, 334);
        client.send(format!("AGFwcAB4\n{mail}"));
        assert!(client.reply().starts_with("50"), "{begins}");
        assert_eq!(
            client.reply(),
            "",
            "{begins}: what follows is no command of anybody"
        );
    }
    // a NUL is no end of anything
    let mut client = Client::greeted(address);
    client.send("NOOP\0\r\nMAIL FROM:<a@b.test\0>\r\n");
    assert!(client.reply().starts_with("500"));
    assert!(client.reply().starts_with("500"));
    client.expect("NOOP", 250);
    assert!(lying(&place).is_empty());
}
