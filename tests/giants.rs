//! What is very large is handled or refused in words, in time that grows with its size and not faster, while small
//! mail goes on.
//!
//! The times are generous: they tell quadratic work from linear work, also in a debug build on a busy machine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use mailroot::practice::{Host, Script};
use support::place::{Place, message, to_smart_host};
use support::tree;

/// Small messages that go along.
const SMALL: usize = 20;
/// They do not wait for the giant.
const SOON: Duration = Duration::from_secs(15);

struct Scene {
    /// Takes the giant.
    host: Host,
    /// Takes the small ones.
    other: Host,
    place: Place,
}

impl Scene {
    /// Mail to giant.example goes to `script`, all else to a friendly host.
    fn new(script: Script, messages: &str) -> Self {
        let (host, other) = (Host::start(script).unwrap(), Host::start(Script::new()).unwrap());
        let settings = format!(
            "{}\n[messages]\n{messages}\n\n[log]\nlevel = \"warn\"\n\n\
             [[remote]]\nname = \"giant.example\"\nsmart_host = \"[127.0.0.1]:{}\"\n",
            to_smart_host(other.port(), ""),
            host.port()
        );
        Self {
            host,
            other,
            place: Place::new(&settings),
        }
    }

    /// The giant first, then the small ones, which must all arrive soon; returns when the giant is done too.
    fn play(&mut self, giant: &[u8], within: Duration) {
        self.place.start();
        let begun = Instant::now();
        self.place.move_in("giant.eml", giant);
        for number in 0..SMALL {
            let subject = format!("small-{number}");
            self.place.move_in(
                &subject,
                message("app@local.test", &["bob@example.net"], &subject),
            );
        }
        let small = self.other.wait_for(SMALL as u64, SOON);
        let small_took = begun.elapsed();
        assert!(
            small.is_ok(),
            "small mail waits for the giant: {}",
            small.unwrap_err()
        );
        let end = begun + within;
        while !self.place.is_empty() {
            assert!(
                Instant::now() < end,
                "not done within {within:?}:\n{}\n{:?}\n{}",
                tree::listing(&self.place.root()),
                self.host.counts(),
                self.place.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        println!("small mail after {small_took:?}, all after {:?}", begun.elapsed());
        self.place.stop();
        assert_eq!(self.host.violations(), Vec::<String>::new());
    }
}

fn hundred_thousand(line: impl Fn(&mut String, usize)) -> String {
    let mut text = String::new();
    for number in 0..100_000 {
        line(&mut text, number);
    }
    text
}

#[test]
fn a_hundred_thousand_receivers() {
    let mut scene = Scene::new(Script::new().discarding(), "max_recipients = 2000");
    let receivers = hundred_thousand(|text, n| writeln!(text, "x-receiver: <n{n}@giant.example>").unwrap());
    let giant =
        format!("x-sender: <app@local.test>\n{receivers}Subject: giant\nFrom: <app@local.test>\n\ntext\n");
    scene.play(giant.as_bytes(), Duration::from_secs(60));
    let counts = scene.host.counts();
    assert_eq!((counts.recipients, counts.messages), (100_000, 50));
    assert_eq!(tree::listing(&scene.place.root()), "(no files)\n");
}

#[test]
fn a_hundred_thousand_in_one_header() {
    let mut scene = Scene::new(Script::new().discarding(), "max_recipients = 10000");
    let to = hundred_thousand(|text, n| write!(text, "\"Person {n}\" <n{n}@giant.example>,\n ").unwrap());
    let to = to.trim_end().trim_end_matches(',');
    let giant = format!("From: <app@local.test>\nTo: {to}\nSubject: giant\n\ntext\n");
    scene.play(giant.as_bytes(), Duration::from_secs(60));
    assert_eq!(scene.host.counts().recipients, 100_000);
}

/// Headers and an attachment of so many bytes, in lines of base64.
fn large(bytes: usize) -> Vec<u8> {
    let mut text = b"x-sender: <app@local.test>\nx-receiver: <n@giant.example>\nFrom: <app@local.test>\n\
        Subject: giant\nMIME-Version: 1.0\nContent-Type: application/octet-stream\n\
        Content-Transfer-Encoding: base64\n\n"
        .to_vec();
    let line = [[b'Q'; 76].as_slice(), b"\r\n"].concat();
    while text.len() + line.len() <= bytes {
        text.extend_from_slice(&line);
    }
    text
}

#[test]
fn sixty_four_mebibytes() {
    let script = || Script::new().discarding();
    let mut scene = Scene::new(script(), "max_size = \"100MiB\"");
    let giant = large(64 << 20);
    scene.play(&giant, Duration::from_secs(60));
    let counts = scene.host.counts();
    assert_eq!(counts.messages, 1);
    assert!(counts.bytes as usize > giant.len(), "{counts:?}"); // LF became CRLF, stamps came on top
    assert_eq!(tree::listing(&scene.place.root()), "(no files)\n");
}

#[test]
fn larger_than_allowed_is_refused_in_words() {
    let mut scene = Scene::new(Script::new().discarding(), "");
    let giant = large(33 << 20);
    scene.play(&giant, Duration::from_secs(60));
    assert_eq!(scene.host.counts().messages, 0);
    let reason = scene.place.text("Badmail", "BDR");
    assert!(
        reason.contains("too-large") && reason.contains("33554432"),
        "{reason}"
    );
    assert!(reason.contains("max_size"), "{reason}");
    let bad = &scene.place.files("Badmail", "BAD")[0];
    assert_eq!(std::fs::metadata(bad).unwrap().len(), giant.len() as u64);
}

#[test]
fn a_header_line_of_one_mebibyte() {
    let mut scene = Scene::new(Script::new(), "");
    let words: String = (0..(1 << 20) / 10).map(|n| format!("{n:09} ")).collect();
    let words = words.trim_end();
    let giant = format!(
        "x-sender: <app@local.test>\nx-receiver: <n@giant.example>\nFrom: <app@local.test>\nSubject: {words}\n\ntext\n"
    );
    scene.play(giant.as_bytes(), Duration::from_secs(60));
    let message = &scene.host.accepted()[0];
    let text = String::from_utf8(message.content.clone()).unwrap();
    assert!(text.lines().all(|line| line.len() <= 998), "a line is too long");
    let unfolded = text.replace("\r\n ", " ").replace("\r\n\t", " ");
    let subject = unfolded.lines().find_map(|l| l.strip_prefix("Subject: "));
    assert!(subject.is_some_and(|s| s == words), "the words are not the same");
}

#[test]
fn ten_thousand_mime_parts() {
    // with 8-bit text to a host that does not take it, so that each part is looked at and re-encoded
    for offers in [["8BITMIME"].as_slice(), &["PIPELINING"]] {
        let mut scene = Scene::new(Script::new().offering(offers), "");
        let mut giant = "x-sender: <app@local.test>\nx-receiver: <n@giant.example>\nFrom: <app@local.test>\n\
            Subject: giant\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b\"\n\n"
            .to_owned();
        for number in 0..10_000 {
            let kind = "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit";
            write!(giant, "--b\n{kind}\n\nGrüße {number}\n").unwrap();
        }
        giant.push_str("--b--\n");
        scene.play(giant.as_bytes(), Duration::from_secs(60));
        let content = &scene.host.accepted()[0].content;
        let parts = content.split(|&b| b == b'\n').filter(|l| *l == b"--b\r").count();
        assert_eq!(parts, 10_000);
        assert_eq!(content.is_ascii(), offers == ["PIPELINING"]);
    }
}
