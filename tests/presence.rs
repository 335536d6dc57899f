//! The presence table of `src/mailroot/mod.rs`, row by row: each test builds a Queue folder as a crash may leave it,
//! and looks what becomes of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use mailroot::practice::{Host, Script};
use std::fs;
use std::path::{Path, PathBuf};
use support::{process, tree};
use tempfile::TempDir;

const ID: &str = "01JDE0Z7M4Y3Q2V1W0X9Y8Z7A6";
const MESSAGE: &str =
    "From: app@example.test\r\nTo: bob@example.net, carol@example.net\r\nSubject: x\r\n\r\nhello\r\n";
const LONG_AGO: &str = "2026-01-01T00:00:00.000Z";

/// A mailroot whose smart host is on loopback and takes everything.
struct Place {
    folder: TempDir,
    host: Host,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::start(Script::new()).unwrap();
        let settings = format!(
            "[server]\nhostname = \"mail.example.test\"\n[domains]\ndefault = \"example.test\"\n\
             [delivery]\nsmart_host = \"[127.0.0.1]:{}\"\nexpire = \"3650d\"\n\
             [pickup]\npoll = \"100ms\"\nquiet = \"10ms\"\n",
            host.port()
        );
        let place = Self { folder, host };
        fs::create_dir_all(place.root().join("Queue")).unwrap();
        fs::create_dir_all(place.root().join("Pickup")).unwrap();
        fs::write(place.root().join("mailroot.toml"), settings).unwrap();
        place
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("mailroot")
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.root().join("Queue").join(name), text).unwrap();
    }

    /// An ENV whose `mtime` is that of the message file as it lies there.
    fn put_env(&self, message: &str, env: &str, recipients: &str) {
        let path = self.root().join("Queue").join(message);
        let modified = fs::metadata(path).unwrap().modified().unwrap();
        let nanos = modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let id = env.strip_suffix(".ENV").unwrap();
        let text = format!(
            "mailroot-env 1\nid {id}\nfile order.eml\narrived {LONG_AGO}\nsender <app@example.test>\nmtime {nanos}\n{recipients}end\n"
        );
        self.put(env, text);
    }

    fn drain(&self) -> Option<i32> {
        let done = process::mailroot(self.folder.path(), &["drain", self.root().to_str().unwrap()]);
        eprintln!("{}", done.stderr);
        done.code
    }

    /// Recipients that the host answered for, sorted.
    fn served(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .host
            .accepted()
            .iter()
            .flat_map(|m| m.recipients.iter().map(|r| r.address.clone()).collect::<Vec<_>>())
            .collect();
        all.sort();
        all
    }

    fn queue(&self) -> Vec<String> {
        names(&self.root().join("Queue"))
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn rcpt(state: &str, more: &str, address: &str, last: &str) -> String {
    let last = if last.is_empty() {
        String::new()
    } else {
        format!("last {last}\n")
    };
    format!("rcpt {state} tries=0{more} <{address}>\n{last}")
}

const DONE: &str = "delivered 2.0.0 2026-01-01T00:00:00.000Z remote at=mx[192.0.2.1]:25 250 ok";
const REFUSED: &str = "failed 5.1.1 2026-01-01T00:00:00.000Z remote at=mx[192.0.2.1]:25 550 5.1.1 no";

#[test]
fn a_message_without_env_is_due_now_and_its_envelope_is_what_the_file_says() {
    let place = Place::new();
    place.put(&format!("{ID}.EML"), MESSAGE);
    assert_eq!(place.drain(), Some(0));
    assert_eq!(place.served(), ["bob@example.net", "carol@example.net"]);
    assert_eq!(place.queue(), Vec::<String>::new());
}

#[test]
fn a_message_without_env_is_judged_complete_again() {
    let place = Place::new();
    let cut = "X-Sender: a@example.test\r\nX-Receiver: b@example.net\r\nFrom: a@example.test\r\n\
               Content-Type: multipart/mixed; boundary=xx\r\n\r\n--xx\r\n\r\nhalf";
    place.put(&format!("{ID}.EML"), cut);
    assert_eq!(place.drain(), Some(75));
    assert_eq!(place.served(), Vec::<String>::new());
    assert_eq!(place.queue(), [format!("{ID}.EML")]);
}

#[test]
fn env_is_the_truth_per_recipient() {
    let place = Place::new();
    let message = format!("{ID}.EML");
    place.put(&message, MESSAGE);
    let recipients =
        rcpt("delivered", "", "bob@example.net", DONE) + &rcpt("open", "", "carol@example.net", "");
    place.put_env(&message, &format!("{ID}.ENV"), &recipients);
    assert_eq!(place.drain(), Some(0));
    assert_eq!(place.served(), ["carol@example.net"]);
    assert_eq!(tree::files(&place.root(), "Queue"), Vec::<PathBuf>::new());
}

#[test]
fn what_env_says_is_due_later_waits() {
    let place = Place::new();
    let message = format!("{ID}.EML");
    place.put(&message, MESSAGE);
    let recipients = rcpt("open", "", "bob@example.net", "")
        + &rcpt("open", " next=2999-01-01T00:00:00.000Z", "carol@example.net", "");
    place.put_env(&message, &format!("{ID}.ENV"), &recipients);
    assert_eq!(place.drain(), Some(75));
    assert_eq!(place.served(), ["bob@example.net"]);
    let env = fs::read_to_string(place.root().join("Queue").join(format!("{ID}.ENV"))).unwrap();
    assert!(env.contains("rcpt delivered tries=0 <bob@example.net>"), "{env}");
    assert!(
        env.contains("rcpt open tries=0 next=2999-01-01T00:00:00.000Z <carol@example.net>"),
        "{env}"
    );
}

#[test]
fn a_message_whose_recipients_are_all_done_only_goes() {
    let place = Place::new();
    let message = format!("{ID}.EML");
    place.put(&message, MESSAGE);
    let recipients = rcpt("delivered", "", "bob@example.net", DONE)
        + &rcpt("failed", " reported", "carol@example.net", REFUSED);
    place.put_env(&message, &format!("{ID}.ENV"), &recipients);
    assert_eq!(place.drain(), Some(0));
    assert_eq!(place.served(), Vec::<String>::new());
    assert_eq!(place.queue(), Vec::<String>::new());
    assert_eq!(names(&place.root().join("Drop")), Vec::<String>::new());
}

#[test]
fn a_report_that_is_owed_is_put_exactly_once() {
    let place = Place::new();
    let message = format!("{ID}.EML");
    let owed = rcpt("delivered", "", "bob@example.net", DONE)
        + &rcpt("failed", " report=failure", "carol@example.net", REFUSED);
    for _ in 0..2 {
        // The second time: the crash came after the report was delivered and before the message was removed.
        place.put(&message, MESSAGE);
        place.put_env(&message, &format!("{ID}.ENV"), &owed);
        assert_eq!(place.drain(), Some(0));
    }
    let drop = names(&place.root().join("Drop"));
    assert_eq!(drop.len(), 1, "{drop:?}");
    let report = fs::read_to_string(place.root().join("Drop").join(&drop[0])).unwrap();
    assert!(
        report.contains("Final-Recipient: rfc822;carol@example.net"),
        "{report}"
    );
    assert_eq!(place.served(), Vec::<String>::new());
}

#[test]
fn env_alone_is_left_for_a_while() {
    let place = Place::new();
    for extension in ["ENV", "LTR", "RTR"] {
        place.put(&format!("{ID}.{extension}"), "whatever\n");
    }
    assert_eq!(place.drain(), Some(0), "what has no message file is no message");
    assert_eq!(
        place.queue().len(),
        3,
        "a listing can miss a file that is being renamed"
    );
}

#[test]
fn an_env_that_does_not_parse_is_buried_with_that_reason_and_nobody_is_told_anything() {
    let place = Place::new();
    let message = format!("{ID}.EML");
    place.put(&message, MESSAGE);
    place.put(&format!("{ID}.ENV"), "mailroot-env 1\nid something else\nend\n");
    assert_eq!(place.drain(), Some(65));
    assert_eq!(place.served(), Vec::<String>::new());
    let badmail = place.root().join("Badmail");
    assert_eq!(
        names(&badmail),
        [format!("{ID}.BAD"), format!("{ID}.BDP"), format!("{ID}.BDR")]
    );
    assert_eq!(
        fs::read_to_string(badmail.join(format!("{ID}.BAD"))).unwrap(),
        MESSAGE
    );
    let words = fs::read_to_string(badmail.join(format!("{ID}.BDR"))).unwrap();
    assert!(words.contains("line 2"), "{words}");
}

#[test]
fn only_an_env_of_a_life_not_above_the_message_is_believed() {
    let place = Place::new();
    // A former owner, who does not know that he has lost it, writes under his own, lower life; a record above the
    // message file's life belongs to nobody.
    let message = format!("{ID}-1.EML");
    place.put(&message, MESSAGE);
    let first = rcpt("delivered", "", "bob@example.net", DONE) + &rcpt("open", "", "carol@example.net", "");
    place.put_env(&message, &format!("{ID}.ENV"), &first);
    let above =
        rcpt("delivered", "", "bob@example.net", DONE) + &rcpt("delivered", "", "carol@example.net", DONE);
    place.put_env(&message, &format!("{ID}-2.ENV"), &above);
    assert_eq!(place.drain(), Some(0));
    assert_eq!(place.served(), ["carol@example.net"]);
}

#[test]
fn the_highest_of_the_valid_lives_counts() {
    let place = Place::new();
    let message = format!("{ID}-1.EML");
    place.put(&message, MESSAGE);
    let none = rcpt("open", "", "bob@example.net", "") + &rcpt("open", "", "carol@example.net", "");
    place.put_env(&message, &format!("{ID}.ENV"), &none);
    let one = rcpt("delivered", "", "bob@example.net", DONE) + &rcpt("open", "", "carol@example.net", "");
    place.put_env(&message, &format!("{ID}-1.ENV"), &one);
    assert_eq!(place.drain(), Some(0));
    assert_eq!(place.served(), ["carol@example.net"]);
    assert_eq!(
        place.queue(),
        Vec::<String>::new(),
        "what all lives left is swept"
    );
}

#[test]
fn a_claim_of_a_process_that_is_gone_is_taken_over_at_once_with_the_next_life() {
    let place = Place::new();
    // A node that really was, and was killed with the message in its hand.
    let stalling: Script = "end -> stall 60s then 250 ok\n".parse().unwrap();
    place.host.follow(stalling);
    fs::write(place.root().join("Pickup/order.eml"), MESSAGE).unwrap();
    let service = process::start(place.folder.path(), &["run", place.root().to_str().unwrap()]);
    support::wait_until(
        "the message is on the wire",
        std::time::Duration::from_secs(30),
        || place.queue().iter().any(|name| name.contains('@')) && place.host.counts().connections > 0,
    );
    service.crash();
    place.host.follow(Script::new());
    assert_eq!(place.drain(), Some(0));
    // The host may have answered for the copy that was on the wire: that one may be repeated, no other.
    let mut served = place.served();
    assert!(served.len() <= 4, "{served:?}");
    served.dedup();
    assert_eq!(served, ["bob@example.net", "carol@example.net"]);
    assert_eq!(place.queue(), Vec::<String>::new());
    assert_eq!(
        names(&place.root().join("Status/nodes")),
        Vec::<String>::new(),
        "both nodes are gone"
    );
}

#[test]
fn an_empty_file_is_no_message_and_what_is_not_ours_is_not_touched() {
    let place = Place::new();
    place.put(&format!("{ID}.EML"), "");
    place.put("GONE-AB12.7.TMP", "half a record");
    place.put("notes.txt", "the operator's");
    place.put(&format!("{ID}.eml"), MESSAGE);
    place.put(&format!("{}.HOLD", ID.replace('6', "5")), MESSAGE);
    assert_eq!(place.drain(), Some(75), "a held message waits");
    assert_eq!(place.served(), Vec::<String>::new());
    let held = format!("{}.HOLD", ID.replace('6', "5"));
    assert_eq!(place.queue(), [held, format!("{ID}.eml"), "notes.txt".to_owned()]);
}

#[test]
fn the_record_of_another_message_is_not_believed() {
    let place = Place::new();
    let other = ID.replace('6', "5");
    place.put(&format!("{other}.EML"), MESSAGE);
    let done = rcpt("delivered", "", "bob@example.net", DONE) + &rcpt("open", "", "carol@example.net", "");
    place.put_env(&format!("{other}.EML"), &format!("{other}.ENV"), &done);
    let queue = place.root().join("Queue");
    // `cp` of a record to a name that it was not made for.
    fs::rename(
        queue.join(format!("{other}.ENV")),
        queue.join(format!("{ID}.ENV")),
    )
    .unwrap();
    fs::rename(
        queue.join(format!("{other}.EML")),
        queue.join(format!("{ID}.EML")),
    )
    .unwrap();
    assert_eq!(place.drain(), Some(65));
    assert_eq!(place.served(), Vec::<String>::new());
    let words = fs::read_to_string(place.root().join("Badmail").join(format!("{ID}.BDR"))).unwrap();
    assert!(words.contains("another message"), "{words}");
}
