//! An independent reader, Python's `email`, must find the same content before and after re-encoding.
//! First corpus: the messages that CPython tests itself with. Skipped, visibly, where there is no Python.

use super::*;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compares every `NAME.before` of a folder with its `NAME.after`; prints what differs.
const COMPARE: &str = r#"
import email, re, sys, pathlib, base64, quopri
WORD = re.compile(rb'=\?[^?\s]+\?([qQbB])\?([^?]*)\?=')
def word(m):
    return base64.b64decode(m[2]) if m[1] in b'bB' else quopri.decodestring(m[2], header=True)
def value(text):
    raw = text.encode('utf-8', 'surrogateescape')
    raw = re.sub(rb'(\?=)\s+(?==\?)', rb'\1', raw)
    return re.sub(rb'[\s"\\]', b'', WORD.sub(word, raw))
def fields(part):
    ours = ('content-transfer-encoding', 'content-type', 'content-disposition', 'mime-version')
    return [(k.lower(), value(v)) for k, v in part.raw_items() if k.lower() not in ours]
def content(part):
    if part.is_multipart():
        return None
    if str(part.get('content-transfer-encoding', '')).strip().lower() == 'base64':
        text = part._payload.encode('ascii', 'surrogateescape')
        return re.sub(rb'[^A-Za-z0-9+/=]', b'', text)
    return part.get_payload(decode=True).replace(b'\r\n', b'\n')
def told(part):
    return (part.get_content_type(), content(part), fields(part))
def raw(part):
    return part.get_payload(decode=True).replace(b'\r\n', b'\n')
bad = 0
for before in sorted(pathlib.Path(sys.argv[1]).glob('*.before')):
    a = list(email.message_from_bytes(before.read_bytes()).walk())
    b = list(email.message_from_bytes(before.with_suffix('.after').read_bytes()).walk())
    same = len(a) == len(b)
    for x, y in zip(a, b):
        x, y = (told(x), told(y)) if content(x) == content(y) else ((raw(x), fields(x)), (raw(y), fields(y)))
        if x != y:
            same = False
            print(before.name, x, y, sep='\n  ')
    if not same:
        bad += 1
        print(before.name, 'differs', len(a), len(b))
sys.exit(bad != 0)
"#;

fn python(args: &[&str]) -> Option<std::process::Output> {
    Command::new("python3").args(args).output().ok()
}

/// `*.txt` of CPython's own tests, if they are installed.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let ask = "import test.test_email, os; print(os.path.dirname(test.test_email.__file__), end='')";
    let Some(answer) = python(&["-c", ask]).filter(|answer| answer.status.success()) else {
        return Vec::new();
    };
    let folder = Path::new(&String::from_utf8(answer.stdout).unwrap()).join("data");
    let files = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path());
    let texts = files.filter(|path: &PathBuf| path.extension().is_some_and(|end| end == "txt"));
    let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    let messages = texts.map(|path| (name(&path), std::fs::read(path).unwrap()));
    messages.filter(|(_, text)| has_header(text)).collect()
}

/// Reading refuses what does not begin with a header.
fn has_header(text: &[u8]) -> bool {
    let first = text.split(|b| *b == b'\n').next().unwrap_or_default();
    first.is_empty() || mime::field_name(first).is_some()
}

/// The same message with 8-bit text and a long line in each of its plain-looking lines' places.
fn harder(text: &[u8]) -> Vec<u8> {
    let body = layout(text).body.start as usize;
    let mut out = text[..body].to_vec();
    for (i, line) in text[body..].split_inclusive(|b| *b == b'\n').enumerate() {
        let prose = line.len() > 9 && !line.contains(&b':') && !line.starts_with(b"-") && line[0] > b' ';
        if prose && i % 2 == 0 {
            out.extend_from_slice("Übermäßig ".as_bytes());
        }
        if prose && i % 5 == 0 {
            out.extend_from_slice(&b"long \t= ".repeat(200));
        }
        out.extend_from_slice(line);
    }
    out
}

fn own() -> Vec<(String, Vec<u8>)> {
    let nest = |text: String, i: usize| {
        format!(
            "Content-Type: multipart/mixed; boundary=b{i}\n\n--b{i}\n{text}\n--b{i}\nX: Ä{i}\n\nä{i}\n--b{i}--\nend\n"
        )
    };
    let nested = (0..30).fold(String::from("\ninnermost é"), nest);
    let rfc822 = "Content-Type: message/rfc822\n\n".repeat(20);
    let all: Vec<u8> = (0..=255u8)
        .filter(|b| !b"\r\n".contains(b))
        .cycle()
        .take(5000)
        .collect();
    vec![
        ("nested".into(), format!("A: b\n{nested}").into()),
        (
            "messages".into(),
            format!("A: b\n{rfc822}Subject: é\n\né\n").into(),
        ),
        (
            "bytes".into(),
            [
                b"Content-Type: application/octet-stream\n\n".as_slice(),
                &all,
                b"\n",
            ]
            .concat(),
        ),
        (
            "text-bytes".into(),
            [b"Subject: \xe9\xe8 x\n\n".as_slice(), &all].concat(),
        ),
        (
            "spaces".into(),
            "A: b\n\né \n \t\n.\n..\nFrom x\n--\n- \n\n\n".into(),
        ),
        (
            "digest".into(),
            "Content-Type: multipart/digest; boundary=d\n\n--d\n\nSubject: é\n\né\n--d--\n".into(),
        ),
    ]
}

#[test]
fn python_reads_the_same_before_and_after() {
    if python(&["--version"]).is_none() {
        eprintln!("SKIPPED: there is no python3 to compare with");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut messages = corpus();
    if messages.is_empty() {
        eprintln!("SKIPPED in part: CPython's test messages are not installed");
    }
    let harder: Vec<_> = messages
        .iter()
        .map(|(name, text)| (format!("{name}-8bit"), harder(text)))
        .collect();
    messages.extend(harder);
    messages.extend(own());
    let mut recoded = 0;
    for (name, text) in &messages {
        let layout = layout(text);
        let stamps = marks();
        recoded += usize::from(Content::plan(text, &layout, &stamps, SEVEN_BIT).unwrap().recode);
        std::fs::write(
            folder.path().join(format!("{name}.before")),
            plain(text, &layout, Abilities::DROP),
        )
        .unwrap();
        let after = plain(text, &layout, SEVEN_BIT);
        assert!(
            after.is_ascii() && after.split(|b| *b == b'\n').all(|line| line.len() <= 999),
            "{name}"
        );
        std::fs::write(folder.path().join(format!("{name}.after")), after).unwrap();
    }
    let answer = python(&["-c", COMPARE, folder.path().to_str().unwrap()]).unwrap();
    let differences = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(
        answer.status.success(),
        "{differences}\n{}",
        String::from_utf8_lossy(&answer.stderr)
    );
    eprintln!(
        "{} messages compared, {recoded} of them re-encoded",
        messages.len()
    );
}
