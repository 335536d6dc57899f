//! Every well-formed message of a corpus arrives byte for byte; every other one ends in Badmail with its reason.
//!
//! The corpora: the messages of CPython's own e-mail tests, where Python is installed with them, and the fixtures of
//! this project. Each gets a leading block; what is to arrive is computed here, without the program's own code.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mailroot::practice::{Accepted, Host, Script};
use support::place::{Place, to_smart_host};
use support::tree;

#[test]
fn cpython_corpus_by_bdat() {
    cpython(&["PIPELINING", "CHUNKING", "8BITMIME"], true);
}

#[test]
fn cpython_corpus_by_data() {
    cpython(&["PIPELINING", "8BITMIME"], false);
}

#[test]
fn own_corpus_by_bdat() {
    let counted = play(&own_files(), &["PIPELINING", "CHUNKING", "8BITMIME"], true);
    assert!(counted.delivered >= 20 && counted.badmail >= 8, "{counted:?}");
}

#[test]
fn own_corpus_by_data() {
    let counted = play(&own_files(), &["PIPELINING", "8BITMIME"], false);
    assert!(counted.delivered >= 20 && counted.badmail >= 8, "{counted:?}");
}

fn cpython(offers: &[&str], chunking: bool) {
    let Some(folder) = cpython_folder() else {
        eprintln!(
            "SKIPPED: no python3 with its own e-mail tests is installed; the fixtures are tested anyway"
        );
        return;
    };
    let files = messages_in(&folder, "");
    assert!(files.len() >= 20, "{} has few messages", folder.display());
    let counted = play(&files, offers, chunking);
    assert!(counted.delivered >= 20, "{counted:?}");
}

fn cpython_folder() -> Option<PathBuf> {
    let said = Command::new("python3")
        .args(["-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"])
        .output()
        .ok()?;
    let folder = Path::new(String::from_utf8(said.stdout).ok()?.trim()).join("test/test_email/data");
    folder.is_dir().then_some(folder)
}

/// Name and bytes of each.
fn messages_in(folder: &Path, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_file() && (name.ends_with(".txt") || name.ends_with(".eml")) {
            found.push((format!("{prefix}{name}"), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// The fixtures without what they have of a leading block. Those of which something is forgiven are not the same
/// bytes by intention.
fn own_files() -> Vec<(String, Vec<u8>)> {
    const FORGIVEN: [&str; 2] = ["nbsp-around-names.eml", "mbox-from-line.eml"];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("spool-fixtures/pickup");
    let mut all = Vec::new();
    for kind in [
        "writers",
        "iis-and-exchange",
        "by-hand",
        "cut-short",
        "forgiven",
        "malformed",
    ] {
        all.extend(messages_in(&folder.join(kind), &format!("{kind}-")));
    }
    all.retain(|(name, bytes)| {
        let utf16 = bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") || bytes.contains(&0);
        !utf16 && !FORGIVEN.iter().any(|f| name.ends_with(f)) && !bytes.starts_with(b"\xEF\xBB\xBF")
    });
    for (_, bytes) in &mut all {
        *bytes = without_leading_block(bytes);
    }
    all
}

fn without_leading_block(bytes: &[u8]) -> Vec<u8> {
    let mut rest = bytes;
    let mut inside = false;
    while let Some(end) = rest.iter().position(|&b| b == b'\n') {
        let line = String::from_utf8_lossy(&rest[..end]).to_ascii_lowercase();
        let fold = inside && line.starts_with([' ', '\t']) && !line.trim().is_empty();
        let named = ["x-sender", "x-receiver", "x-dots", "x-endofinjectedxheaders"];
        inside = fold || named.iter().any(|n| line.split(':').next().unwrap().trim() == *n);
        if !inside {
            break;
        }
        rest = &rest[end + 1..];
    }
    rest.to_vec()
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counted {
    delivered: usize,
    badmail: usize,
    elsewhere: usize,
}

/// Sends all of them to a host and compares.
fn play(files: &[(String, Vec<u8>)], offers: &[&str], chunking: bool) -> Counted {
    let host = Host::start(Script::new().offering(offers)).unwrap();
    let mut place = Place::new(
        &to_smart_host(host.port(), "").replace("[pickup]\n", "[pickup]\nincomplete_grace = \"0s\"\n"),
    );
    for (number, (name, bytes)) in files.iter().enumerate() {
        let leading = format!(
            "x-sender: <corpus@local.test>\r\nx-receiver: <n{number}@example.net>\r\nx-dots: literal\r\n"
        );
        place.put(name, [leading.as_bytes(), bytes].concat());
    }
    let done = place.drain();
    assert!(
        matches!(done.code, Some(0 | 65)),
        "{:?}\n{}",
        done.code,
        done.stderr
    );

    let arrived: BTreeMap<String, _> = host
        .accepted()
        .into_iter()
        .map(|m| (m.recipients[0].address.clone(), m))
        .collect();
    assert_eq!(arrived.len(), host.accepted().len(), "nothing arrives twice");
    let reasons: Vec<String> = place
        .files("Badmail", "BDR")
        .iter()
        .map(|p| fs::read_to_string(p).unwrap())
        .collect();
    let (mut counted, mut wrong) = (Counted::default(), Vec::new());
    for (number, (name, bytes)) in files.iter().enumerate() {
        let message = arrived.get(&format!("n{number}@example.net"));
        let reason = reasons.iter().find(|r| r.contains(name.as_str()));
        let expected = expected(bytes);
        match (message, reason) {
            (Some(message), None) => {
                counted.delivered += 1;
                match expected {
                    Ok(expected) => wrong.extend(compare(name, message, &expected, chunking)),
                    Err(why) => wrong.push(format!("{name} was sent, though {why}")),
                }
            }
            (None, Some(reason)) => {
                counted.badmail += 1;
                if expected.is_ok() {
                    wrong.push(format!("{name} is well-formed and went to Badmail: {reason}"));
                }
                if reason.lines().next().is_none_or(|line| line.trim().is_empty()) {
                    wrong.push(format!("{name}: its reason begins with no sentence"));
                }
            }
            (_, _) => {
                counted.elsewhere += 1;
                wrong.push(format!("{name}: neither delivered nor in Badmail, or both"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(host.violations(), Vec::<String>::new());
    assert_eq!(counted.delivered + counted.badmail, files.len(), "{counted:?}");
    assert_eq!(counted.elsewhere, 0);
    assert_eq!(counted.badmail, place.files("Badmail", "BAD").len());
    assert!(place.is_empty(), "{}", tree::listing(&place.root()));
    println!("{counted:?}");
    counted
}

/// What is to arrive after the stamps, and which stamps there are to be.
struct Expected {
    stamps: Vec<&'static str>,
    rest: Vec<u8>,
}

/// By the words of the contract: bytes after the leading block, minus Bcc, line ends as CRLF. An error says why it
/// is not well-formed.
fn expected(bytes: &[u8]) -> Result<Expected, String> {
    let mut lines: Vec<&[u8]> = bytes.split(|&b| b == b'\n').collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    let lines: Vec<&[u8]> = lines.iter().map(|l| l.strip_suffix(b"\r").unwrap_or(l)).collect();
    let header_end = lines.iter().position(|l| l.is_empty()).unwrap_or(lines.len());
    let (header, body) = lines.split_at(header_end);
    if body.is_empty() && !bytes.is_empty() && !bytes.ends_with(b"\n") {
        return Err("it ends inside a header line".to_owned());
    }
    let body = body.get(1..).unwrap_or_default();
    let fields = fields(header)?;
    closing_boundary(&fields, body)?;

    let mut rest = Vec::new();
    for (name, lines) in &fields {
        if name != "bcc" && name != "resent-bcc" {
            for line in lines {
                let spaced: Vec<u8> = line.iter().map(|&b| if b == b'\r' { b' ' } else { b }).collect();
                rest.extend([&spaced[..], b"\r\n"].concat());
            }
        }
    }
    rest.extend(b"\r\n");
    for line in body {
        for part in line.split(|&b| b == b'\r') {
            rest.extend([part, b"\r\n"].concat());
        }
    }
    let missing = |name: &&str| !fields.iter().any(|(n, _)| n == &name.to_ascii_lowercase());
    let mut stamps = vec!["Received"];
    stamps.extend(["Date", "Message-ID", "From"].iter().filter(|name| missing(name)));
    Ok(Expected { stamps, rest })
}

type Fields<'a> = Vec<(String, Vec<&'a [u8]>)>;

fn fields<'a>(header: &[&'a [u8]]) -> Result<Fields<'a>, String> {
    let mut fields: Fields = Vec::new();
    for line in header {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            // after our leading block, a fold at the top would belong to the block
            let (_, lines) = fields.last_mut().ok_or("it begins with a fold")?;
            lines.push(line);
            continue;
        }
        let name = line
            .iter()
            .position(|&b| b == b':')
            .map(|at| {
                String::from_utf8_lossy(&line[..at])
                    .trim_end()
                    .to_ascii_lowercase()
            })
            .filter(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()));
        let name = name.ok_or_else(|| format!("{:?} is no field", String::from_utf8_lossy(line)))?;
        fields.push((name, vec![line]));
    }
    Ok(fields)
}

fn closing_boundary(fields: &Fields<'_>, body: &[&[u8]]) -> Result<(), String> {
    let Some((_, lines)) = fields.iter().find(|(name, _)| name == "content-type") else {
        return Ok(());
    };
    let value = String::from_utf8_lossy(&lines.join(&b' ')).into_owned();
    let (_, value) = value.split_once(':').unwrap();
    let lower = value.to_ascii_lowercase();
    let Some(at) = lower
        .find("boundary=")
        .filter(|_| lower.trim().starts_with("multipart/"))
    else {
        return Ok(());
    };
    let given = value[at + "boundary=".len()..].trim_start();
    let boundary = match given.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap(),
        None => given.split([';', ' ', '\t']).next().unwrap(),
    };
    let closing = format!("--{boundary}--");
    let found = body
        .iter()
        .any(|line| line.trim_ascii_end() == closing.as_bytes());
    if found {
        Ok(())
    } else {
        Err(format!("it lacks its closing boundary {closing}"))
    }
}

/// What differs, in words.
fn compare(name: &str, message: &Accepted, expected: &Expected, chunking: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    if message.chunking != chunking {
        wrong.push(format!("{name}: BDAT was used: {}", message.chunking));
    }
    if message.bare_cr || message.bare_lf {
        wrong.push(format!("{name}: a bare CR or LF was on the wire"));
    }
    let Some(stamped) = message.content.strip_suffix(&expected.rest[..]) else {
        wrong.push(format!(
            "{name} differs:\n{}",
            support::scenario::diff(
                &support::scenario::text(&expected.rest),
                &support::scenario::text(&message.content)
            )
        ));
        return wrong;
    };
    let stamped = String::from_utf8_lossy(stamped)
        .replace("\r\n\t", " ")
        .replace("\r\n ", " ");
    let names: Vec<&str> = stamped.lines().map(|l| l.split(':').next().unwrap()).collect();
    if names != expected.stamps {
        wrong.push(format!(
            "{name}: stamps {names:?}, expected {:?}",
            expected.stamps
        ));
    }
    if !stamped.contains("mail pickup service") {
        wrong.push(format!("{name}: {stamped}"));
    }
    wrong
}
