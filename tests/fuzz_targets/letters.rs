//! Targets for what an application wrote: the file as a whole, and its header block.

use crate::config::DotsSetting;
use crate::mail::{Address, Envelope, ReadAt, header, leading, structured};
use crate::pickup::{Encoding, Layout, ReadRules, Reading, Submission, read};
use crate::smtp::content::{Abilities, Content, Stamps, stamps};
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

pub(super) const ALL_DOTS: [DotsSetting; 3] = [DotsSetting::Auto, DotsSetting::Stuffed, DotsSetting::Literal];

pub(super) fn rules(dots: DotsSetting) -> ReadRules {
    ReadRules {
        default_domain: "default.example".to_owned(),
        default_sender: String::new(),
        dots,
        max_size: 0,
    }
}

/// Never gives more than so many bytes at once.
pub(super) struct ShortReads<'a>(pub &'a [u8], pub usize);

impl ReadAt for ShortReads<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let n = buf.len().min(self.1);
        self.0.read_at(&mut buf[..n], offset)
    }

    fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

/// A real file; one for all inputs.
struct OnDisk<'a>(&'a File, u64);

impl ReadAt for OnDisk<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self.0, buf, offset)
    }

    fn len(&self) -> u64 {
        self.1
    }
}

fn read_from_disk(data: &[u8], rules: &ReadRules) -> Reading {
    thread_local! {
        static FILE: RefCell<Option<File>> = const { RefCell::new(None) };
    }
    FILE.with_borrow_mut(|slot| {
        let file = slot.get_or_insert_with(|| {
            let thread = std::thread::current().id();
            let name = format!("mailroot-fuzz-{}-{thread:?}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let mut options = File::options();
            let file = options
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path)
                .unwrap();
            std::fs::remove_file(&path).unwrap();
            file
        });
        file.set_len(data.len() as u64).unwrap();
        file.write_all_at(data, 0).unwrap();
        read(&OnDisk(file, data.len() as u64), rules).unwrap()
    })
}

/// The same bytes; shown only when they are not.
pub(super) fn same(left: &[u8], right: &[u8]) {
    assert!(
        left == right,
        "left:  {}\nright: {}",
        left.escape_ascii(),
        right.escape_ascii()
    );
}

/// A test tries all variants of an input. A fuzzing run has many inputs and tries one of each, by a sum over its bytes.
pub(super) fn chosen<'v, T>(
    variants: &'v [T],
    data: &[u8],
    turn: usize,
) -> impl Iterator<Item = &'v T> + use<'v, T> {
    let sum = data
        .iter()
        .fold(turn, |sum, b| sum.wrapping_mul(31).wrapping_add(usize::from(*b)));
    let only = (sum >> 7) % variants.len();
    variants
        .iter()
        .enumerate()
        .filter(move |(nth, _)| cfg!(test) || *nth == only)
        .map(|(_, variant)| variant)
}

pub fn pickup(data: &[u8]) {
    for &dots in chosen(&ALL_DOTS, data, 0) {
        let rules = rules(dots);
        let reading = read(&data, &rules).unwrap();
        let told = format!("{reading:?}");
        assert_eq!(told, format!("{:?}", read(&ShortReads(data, 3), &rules).unwrap()));
        if dots == DotsSetting::Auto {
            assert_eq!(told, format!("{:?}", read_from_disk(data, &rules)));
        }
        check(data, &reading, &rules);
    }
}

fn check(data: &[u8], reading: &Reading, rules: &ReadRules) {
    let text = reading.transcoded.as_deref().unwrap_or(data);
    match &reading.submission {
        Err(malformed) => {
            let shown = [
                Some(&malformed.what),
                Some(&malformed.advice),
                malformed.text.as_ref(),
            ];
            for words in shown.into_iter().flatten() {
                assert!(!words.chars().any(char::is_control), "{words:?}");
            }
            assert!(
                malformed
                    .line
                    .is_none_or(|line| (1..=lines(text)).contains(&line))
            );
        }
        Ok(submission) => {
            ranges(text, &submission.layout);
            words(text, submission);
            let layout = &submission.layout;
            let (plain, stamped) = dropped(&text, submission);
            drop_reads_back(&plain, &stamped, submission);
            bad_reads_back(text, submission, rules);
            let bytes_are_text = matches!(layout.encoding, Encoding::Plain | Encoding::Utf8Bom);
            if bytes_are_text && chosen(&[true, false, false, false], data, 1).any(|it| *it) {
                blocks_divide_anywhere(data, submission, rules);
            }
        }
    }
}

fn lines(text: &[u8]) -> usize {
    1 + text.iter().filter(|b| **b == b'\n').count()
}

fn ranges(text: &[u8], layout: &Layout) {
    let len = text.len() as u64;
    let Layout {
        leading,
        header,
        omit,
        body,
        ..
    } = layout;
    assert!(
        leading.start <= leading.end && leading.end == header.start,
        "{layout:?}"
    );
    assert!(
        header.start <= header.end && header.end <= body.start,
        "{layout:?}"
    );
    assert!(body.start <= body.end && body.end <= len, "{layout:?}");
    let mut from = header.start;
    for hole in omit {
        assert!(
            from <= hole.start && hole.start <= hole.end && hole.end <= header.end,
            "{layout:?}"
        );
        from = hole.end;
    }
    let between = &text[header.end as usize..body.start as usize];
    assert!(matches!(between, b"" | b"\n" | b"\r\n"), "{between:?}");
}

fn words(text: &[u8], submission: &Submission) {
    let envelope = &submission.envelope;
    assert!(envelope.recipients.iter().any(|r| r.address.is_routable()));
    assert_eq!(envelope.recipients.len(), submission.recipient_origins.len());
    for origin in submission
        .recipient_origins
        .iter()
        .chain([&submission.sender_origin])
    {
        assert!(origin.line <= lines(text), "{origin:?}");
        assert!(!origin.field.chars().any(char::is_control), "{origin:?}");
    }
    for remark in &submission.remarks {
        assert!(!remark.chars().any(char::is_control), "{remark:?}");
    }
    for address in envelope
        .recipients
        .iter()
        .map(|r| &r.address)
        .chain(&envelope.sender)
    {
        assert!(!address.as_str().chars().any(char::is_control), "{address:?}");
    }
    if let Some(id) = &submission.internet_message_id {
        assert!(!id.chars().any(char::is_control), "{id:?}");
    }
}

pub(super) fn stamps_of(envelope: &Envelope, layout: &Layout) -> Stamps {
    let postmaster = Address::parse("postmaster@host.example", "").unwrap();
    stamps(
        "01JDE0Z7M4Y3Q2V1W0X9Y8Z7A6".parse().unwrap(),
        "host.example",
        jiff::Timestamp::UNIX_EPOCH,
        envelope.sender.as_ref(),
        &postmaster,
        layout.missing,
    )
}

pub(super) fn written(source: &dyn ReadAt, layout: &Layout, stamps: &Stamps, can: Abilities) -> Vec<u8> {
    let mut out = Vec::new();
    let content = Content::plan(source, layout, stamps, can).unwrap();
    content.write_plain(&mut out).unwrap();
    out
}

/// What stands below the leading block of a Drop file, and the whole Drop file.
fn dropped(source: &dyn ReadAt, submission: &Submission) -> (Vec<u8>, Vec<u8>) {
    let envelope = &submission.envelope;
    let stamps = stamps_of(envelope, &submission.layout).with_return_path(envelope.sender.as_ref());
    let plain = written(source, &submission.layout, &stamps, Abilities::DROP);
    let dots = submission.layout.dots.present.then_some("literal");
    let mut file = leading::write(envelope, dots);
    file.extend_from_slice(&plain);
    (plain, file)
}

/// A Drop file is a Pickup file again: the same envelope, the same bytes below it.
fn drop_reads_back(plain: &[u8], file: &[u8], submission: &Submission) {
    let again = read(&file, &rules(DotsSetting::Auto)).unwrap();
    let again = again
        .submission
        .unwrap_or_else(|m| panic!("{m:?}\n{}", file.escape_ascii()));
    same_envelope(&submission.envelope, &again.envelope);
    assert_eq!(
        again.layout.header.start as usize,
        file.len() - plain.len(),
        "the leading block ends"
    );
    let stamps = stamps_of(&again.envelope, &again.layout);
    let sent = written(&file, &again.layout, &stamps, Abilities::DROP);
    let below = sent.strip_prefix(stamps.received.as_bytes()).unwrap();
    same(below, plain);
}

/// A Badmail file is our leading block above the bytes as they were: it says the same again.
fn bad_reads_back(text: &[u8], submission: &Submission, rules: &ReadRules) {
    let layout = &submission.layout;
    let said = if layout.dots.stuffed { "stuffed" } else { "literal" };
    let rest = &text[layout.leading.end as usize..];
    let said = layout.dots_said.then_some(said);
    let mut file = leading::write_above(
        &rest[..rest.len().min(256)],
        &submission.envelope,
        said,
        layout.complete_said,
    );
    let top = file.len();
    file.extend_from_slice(rest);
    let again = read(&file, rules).unwrap().submission;
    let again = again.unwrap_or_else(|m| panic!("{m:?}\n{}", file.escape_ascii()));
    same_envelope(&submission.envelope, &again.envelope);
    let here = |range: &Range<u64>| &text[range.start as usize..range.end as usize];
    let there = |range: &Range<u64>| &file[range.start as usize..range.end as usize];
    assert_eq!(again.layout.header.start as usize, top, "the leading block ends");
    assert_eq!(here(&layout.header), there(&again.layout.header));
    assert_eq!(here(&layout.body), there(&again.layout.body));
    assert_eq!(layout.dots, again.layout.dots);
}

/// Texts that are no addresses may be told otherwise, but never become one.
fn same_envelope(before: &Envelope, after: &Envelope) {
    let half = |e: &Envelope| (e.sender.clone(), e.ret, e.envid.clone(), e.body);
    assert_eq!(half(before), half(after));
    let good = |e: &Envelope| {
        let good = e.recipients.iter().filter(|r| r.address.is_routable());
        good.cloned().collect::<Vec<_>>()
    };
    assert_eq!(good(before), good(after));
    let bad = |e: &Envelope| e.recipients.iter().filter(|r| !r.address.is_routable()).count();
    assert!(bad(after) <= bad(before) && (bad(after) > 0) == (bad(before) > 0));
}

/// A field more at the end of the header moves the body across the borders of the blocks that it is read in: nothing
/// else may change.
fn blocks_divide_anywhere(data: &[u8], submission: &Submission, rules: &ReadRules) {
    const BLOCK: usize = 64 * 1024;
    let layout = &submission.layout;
    let header = &data[..layout.header.end as usize];
    if !header.ends_with(b"\n") || layout.header.start == layout.header.end {
        return;
    }
    let into_body = data.len().saturating_sub(header.len()) / 2;
    let mut file = header.to_vec();
    file.extend_from_slice(b"X-Pad: ");
    let end = BLOCK.saturating_sub(into_body + 1);
    while file.len() < end {
        let line = (end - file.len()).min(900);
        file.resize(file.len() + line - 1, b'x');
        file.extend_from_slice(if file.len() + 2 < end { b"\n " } else { b"x" });
    }
    file.extend_from_slice(b"\n");
    let shift = (file.len() - header.len()) as u64;
    file.extend_from_slice(&data[header.len()..]);
    let again = read(&file, rules).unwrap().submission.unwrap();
    assert_eq!(again.envelope, submission.envelope);
    assert_eq!(again.layout.dots, layout.dots);
    assert_eq!(again.layout.eight_bit_body, layout.eight_bit_body);
    assert_eq!(
        again.layout.body,
        layout.body.start + shift..layout.body.end + shift
    );
    assert_eq!(again.layout.leading, layout.leading);
}

pub fn header(data: &[u8]) {
    match header::scan(data, 1) {
        Ok(fields) => {
            let mut end = 0;
            let mut line = 0;
            for field in &fields {
                assert_eq!(field.whole.start, end, "a gap");
                end = field.whole.end;
                assert!(field.line > line);
                line = field.line;
                assert_eq!(line, lines(&data[..field.whole.start]));
                assert!(!field.name.is_empty() && field.name.iter().all(|b| matches!(b, 33..=126)));
                assert!(!field.name.contains(&b':'));
                assert!(field.whole.start < field.value.start);
                assert!(field.value.start <= field.value.end && field.value.end <= field.whole.end);
                assert_eq!(data[field.value.start - 1], b':');
                let tail = &data[field.value.end..field.whole.end];
                assert!(matches!(tail, b"" | b"\n" | b"\r\n"), "{tail:?}");
                let mut from = field.whole.start;
                for gap in field.forgiven(data) {
                    assert!(from <= gap.start && gap.start < gap.end && gap.end <= field.value.end);
                    from = gap.end;
                }
                value(field.value_in(data));
            }
            assert_eq!(end, data.len(), "a gap at the end");
            let leading = leading::read(&fields, data, "default.example");
            assert!(leading.fields <= fields.len() && leading.receivers.len() <= leading.fields);
            for remark in leading.remarks.into_vec() {
                assert!(!remark.chars().any(char::is_control), "{remark:?}");
            }
        }
        Err(header::ScanError::NotAField { line, text }) => {
            assert!((1..=lines(data)).contains(&line));
            assert!(!text.chars().any(char::is_control) && text.chars().count() <= 200);
            let before: usize = header::lines(data).take(line - 1).map(<[u8]>::len).sum();
            assert!(
                header::scan(&data[..before], 1).is_ok(),
                "blames the first bad line"
            );
        }
        Err(header::ScanError::TooLarge) => {}
    }
    value(data);
}

fn value(value: &[u8]) {
    let unfolded = header::unfold(value);
    assert!(!unfolded.contains(['\r', '\n']), "{unfolded:?}");
    let shown = header::shown(value);
    assert!(!shown.chars().any(char::is_control) && shown.chars().count() <= 200);
    let _ = structured::message_id(value);
    let _ = structured::text(value);
    if let Some(found) = structured::content_type(value) {
        assert!(
            found.boundary.is_none_or(|b| !b.contains('\n')),
            "a boundary is a part of one line"
        );
    }
}
