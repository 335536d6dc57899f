//! Micro-benchmarks of the pure functions that every message passes through: `cargo bench --bench hot`.
//!
//! Shown is the time of one call, and with it bytes or calls a second. Messages are those of `scripts/bench`; what they
//! come to in a whole run is measured there. Not here: anything with a disk or a socket.

#![allow(clippy::unwrap_used)]

// The reply codec is private to `smtp`; it is compiled here as it stands, and says `crate::` for the library.
use mailroot::mail;
#[allow(dead_code)]
#[path = "../../src/smtp/reply.rs"]
mod reply;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use mailroot::config::DotsSetting;
use mailroot::mail::{Address, Envelope, MessageId, Outcome, header, leading};
use mailroot::pickup::{ReadRules, Submission, read};
use mailroot::queue::{Record, env};
use mailroot::smtp::content::{Abilities, Content, stamps};

fn main() {
    divan::main();
}

const KIB: usize = 1024;
const SIZES: [usize; 3] = [KIB, 10 * KIB, KIB * KIB];
const RECIPIENTS: [usize; 2] = [1, 100];
const MODERN: Abilities = Abilities {
    eight_bit: true,
    utf8_headers: true,
    max_line: 998,
};

/// A message as an application writes it, with its leading block.
fn message(size: usize, line: &str) -> Vec<u8> {
    let mut text = leading_block(1);
    text.extend_from_slice(HEADER.as_bytes());
    text.push(b'\n');
    while text.len() < size {
        text.extend_from_slice(line.as_bytes());
    }
    text
}

const HEADER: &str = "From: The bench <bench@sender.example>\nTo: sink@receiver.example\nSubject: message 0000001\n\
    Date: Mon, 05 Jan 2026 10:00:00 +0000\nMessage-ID: <0000001@sender.example>\n\
    MIME-Version: 1.0\nContent-Type: text/plain; charset=us-ascii\n";
const LF_LINE: &str = "The quick brown fox jumps over the lazy dog and runs on to the next line.\n";
const CRLF_LINE: &str = "The quick brown fox jumps over the lazy dog and runs on to the next line.\r\n";
const DOT_LINE: &str = ".The quick brown fox begins each of its lines with a period.\n";

fn leading_block(recipients: usize) -> Vec<u8> {
    let mut text = b"x-sender: <bench@sender.example> RET=HDRS ENVID=12345\n".to_vec();
    for n in 0..recipients {
        text.extend_from_slice(
            format!("x-receiver: <sink-{n}@receiver.example> NOTIFY=FAILURE,DELAY\n").as_bytes(),
        );
    }
    text
}

fn rules() -> ReadRules {
    ReadRules {
        default_domain: "bench.example".to_owned(),
        default_sender: String::new(),
        dots: DotsSetting::Auto,
        max_size: 0,
    }
}

fn submission(text: &[u8]) -> Submission {
    read(&text, &rules()).unwrap().submission.unwrap()
}

/// The leading block alone: envelope out of text.
#[divan::bench(args = RECIPIENTS)]
fn leading_block_read(bencher: Bencher, recipients: usize) {
    let block = leading_block(recipients);
    bencher.counter(BytesCount::new(block.len())).bench(|| {
        let fields = header::scan(black_box(&block), 1).unwrap();
        leading::read(&fields, &block, "bench.example")
    });
}

/// The header fields of a usual message.
#[divan::bench]
fn header_scan(bencher: Bencher) {
    let block = HEADER.as_bytes();
    bencher
        .counter(BytesCount::new(block.len()))
        .bench(|| header::scan(black_box(block), 1).unwrap().len());
}

/// All that is done with a file of Pickup before it is sent.
#[divan::bench(args = SIZES)]
fn pickup_read(bencher: Bencher, size: usize) {
    let text = message(size, LF_LINE);
    bencher
        .counter(BytesCount::new(text.len()))
        .bench(|| submission(black_box(&text)));
}

/// The same, lines with CRLF.
#[divan::bench(args = SIZES)]
fn pickup_read_crlf(bencher: Bencher, size: usize) {
    let text = message(size, CRLF_LINE);
    bencher
        .counter(BytesCount::new(text.len()))
        .bench(|| submission(black_box(&text)));
}

/// From file to wire, lines with LF.
#[divan::bench(args = SIZES)]
fn content_data_lf(bencher: Bencher, size: usize) {
    content(bencher, &message(size, LF_LINE), true);
}

/// From file to wire, lines with CRLF already.
#[divan::bench(args = SIZES)]
fn content_data_crlf(bencher: Bencher, size: usize) {
    content(bencher, &message(size, CRLF_LINE), true);
}

/// From file to wire, a period at the beginning of each line.
#[divan::bench(args = SIZES)]
fn content_data_dots(bencher: Bencher, size: usize) {
    content(bencher, &message(size, DOT_LINE), true);
}

/// The same for BDAT.
#[divan::bench(args = SIZES)]
fn content_bdat_lf(bencher: Bencher, size: usize) {
    content(bencher, &message(size, LF_LINE), false);
}

fn content(bencher: Bencher, text: &[u8], data: bool) {
    let layout = submission(text).layout;
    let sender = Address::parse("bench@sender.example", "sender.example").unwrap();
    let stamps = stamps(
        MessageId::generate(),
        "bench.example",
        jiff::Timestamp::UNIX_EPOCH,
        Some(&sender),
        &sender,
        layout.missing,
    );
    let mut out = Vec::with_capacity(2 * text.len());
    bencher.counter(BytesCount::new(text.len())).bench_local(|| {
        out.clear();
        let content = Content::plan(black_box(&text), &layout, &stamps, MODERN).unwrap();
        if data {
            content.write_data(&mut out).unwrap();
        } else {
            content.write_plain(&mut out).unwrap();
        }
        out.len()
    });
}

fn record(recipients: usize) -> Record {
    let mut text = leading_block(recipients);
    text.extend_from_slice(HEADER.as_bytes());
    text.extend_from_slice(b"\nbody\n");
    let envelope: Envelope = submission(&text).envelope;
    let mut record = Record::new(
        MessageId::generate(),
        "order 42.eml".to_owned(),
        1_795_300_127_123,
        1_795_300_127_123_456_789,
        envelope,
    );
    for index in 0..recipients {
        let outcome = Outcome::deferred(mail::EnhancedStatus::new(4, 4, 1), "connection refused");
        record.note(index, outcome, 1_795_300_128_000, false, true);
    }
    record
}

/// A record as it goes to the disk.
#[divan::bench(args = RECIPIENTS)]
fn env_write(bencher: Bencher, recipients: usize) {
    let record = record(recipients);
    bencher
        .counter(BytesCount::new(env::write(&record).len()))
        .bench(|| env::write(black_box(&record)));
}

/// The same record back.
#[divan::bench(args = RECIPIENTS)]
fn env_read(bencher: Bencher, recipients: usize) {
    let text = env::write(&record(recipients));
    bencher
        .counter(BytesCount::new(text.len()))
        .bench(|| env::read(black_box(&text)).unwrap());
}

/// Replies of a pipelined group of 16 messages, as one read brings them.
#[divan::bench]
fn replies_of_a_group(bencher: Bencher) {
    let three = "250 2.1.0 sender ok\r\n250 2.1.5 recipient ok\r\n250 2.0.0 taken as 4711\r\n";
    count_replies(bencher, &three.repeat(16), 48);
}

/// The longest reply that is usual.
#[divan::bench]
fn reply_to_ehlo(bencher: Bencher) {
    let reply = "250-mx.example greets bench.example\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-STARTTLS\r\n\
        250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n250 CHUNKING\r\n";
    count_replies(bencher, reply, 1);
}

fn count_replies(bencher: Bencher, wire: &str, replies: usize) {
    bencher.counter(ItemsCount::new(replies)).bench(|| {
        let mut decoder = reply::Decoder::default();
        let (mut rest, mut seen) = (black_box(wire.as_bytes()), 0);
        while !rest.is_empty() {
            let (used, reply) = decoder.feed(rest).unwrap();
            seen += usize::from(reply.is_some());
            rest = rest.get(used..).unwrap_or_default();
        }
        assert_eq!(seen, replies);
    });
}
