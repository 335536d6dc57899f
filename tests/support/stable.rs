//! Replaces what differs from run to run (ULIDs, present dates, ports, paths, boundaries, sizes) by stable words.

use std::borrow::Cow;

/// What a test knows of its own run.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Each text and the word for it, e.g. a path and `{TMP}`.
    pub texts: Vec<(String, String)>,
    /// Texts whose MIME boundaries are given, not made by us.
    pub inputs: Vec<String>,
}

impl Known {
    /// Message text: IDs, present dates, ports and paths, boundaries, sizes that depend on them.
    pub fn message(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in &self.texts {
            text = text.replace(from, to);
        }
        for boundary in boundaries(&text) {
            if !self.inputs.iter().any(|input| input.contains(&boundary)) {
                text = text.replace(&boundary, "BOUNDARY");
            }
        }
        // how a file was judged complete is decided by its file system
        let lines = text.split_inclusive('\n').map(|line| {
            let line = replace_between(line, "evidence=\"", "\"", "EVIDENCE");
            replace_between(&line, " complete: ", "\n", "EVIDENCE")
        });
        scan(&lines.collect::<String>(), false)
    }

    /// Log, transcript and report text: durations too.
    pub fn note(&self, text: &str) -> String {
        scan(&self.message(text), true)
    }
}

/// A file name of the tree: `ID`, `ID-1`, `ID@NODE`, and the digest in the name of a derived message.
pub fn file_name(name: &str) -> String {
    scan(name, false)
}

fn replace_between(line: &str, begin: &str, end: &str, word: &str) -> String {
    let found = line
        .split_once(begin)
        .and_then(|(before, rest)| Some((before, rest.find(end)?, rest)));
    match found {
        Some((before, at, rest)) => format!("{before}{begin}{word}{}", &rest[at..]),
        None => line.to_owned(),
    }
}

fn boundaries(text: &str) -> Vec<String> {
    let mut found: Vec<String> = text
        .split("boundary=\"")
        .skip(1)
        .filter_map(|rest| rest.split_once('"'))
        .map(|(boundary, _)| boundary.to_owned())
        .filter(|b| b.len() > 5)
        .collect();
    found.sort_by_key(|b| std::cmp::Reverse(b.len()));
    found.dedup();
    found
}

/// One pass; at each place the first rule that fits replaces what it fits.
fn scan(text: &str, durations: bool) -> String {
    let now = jiff::Timestamp::now();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let at_word = c == '@' || !before.is_ascii_alphanumeric();
        let found = at_word
            .then(|| find(rest, now, durations && before != '.'))
            .flatten();
        if let Some((length, word)) = found {
            out.push_str(&word);
            rest = &rest[length..];
            before = 'x';
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            before = c;
        }
    }
    out
}

fn find(rest: &str, now: jiff::Timestamp, durations: bool) -> Option<(usize, Cow<'static, str>)> {
    id(rest)
        .or_else(|| node(rest))
        .or_else(|| date(rest, now).map(|n| (n, "DATE".into())))
        .or_else(|| size(rest))
        .or_else(|| {
            durations
                .then(|| duration(rest))
                .flatten()
                .map(|n| (n, "TIME".into()))
        })
}

/// `ID`, and `ID-SET` for the name of a Drop file, whose eight digits come from the ULID and the recipients.
fn id(rest: &str) -> Option<(usize, Cow<'static, str>)> {
    let head = rest.get(..26)?;
    let crockford = |b: u8| b.is_ascii_digit() || (b.is_ascii_uppercase() && !b"ILOU".contains(&b));
    let ends = |tail: &str| !tail.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !head.bytes().all(crockford) || head.as_bytes()[0] > b'7' || !ends(&rest[26..]) {
        return None;
    }
    let digits = rest[26..].strip_prefix('-').and_then(|tail| tail.get(..8));
    let hex = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
    if digits.is_some_and(|d| d.bytes().all(hex)) && ends(&rest[35..]) {
        return Some((35, "ID-SET".into()));
    }
    Some((26, "ID".into()))
}

/// `@HOST-AB12.EML` in a file name, `HOST-AB12` of this machine elsewhere.
fn node(rest: &str) -> Option<(usize, Cow<'static, str>)> {
    if let Some(name) = rest.strip_prefix('@') {
        let length = name.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-'))?;
        let taken = length > 5 && name.as_bytes()[length - 5] == b'-' && name[length..].starts_with('.');
        return taken.then(|| (length + 1, "@NODE".into()));
    }
    let machine = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .to_uppercase();
    let machine: String = machine
        .split('.')
        .next()
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    // the second is the first label of `server.hostname` in the scenarios
    for host in [machine.as_str(), "MAIL"] {
        let four = rest
            .strip_prefix(host)
            .and_then(|r| r.strip_prefix('-'))
            .and_then(|r| r.get(..4));
        if four.is_some_and(|f| f.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())) {
            return Some((host.len() + 5, "NODE".into()));
        }
    }
    None
}

/// Dates of RFC 5322 and RFC 3339 that are within ten days of now; a date out of an input file stays.
fn date(rest: &str, now: jiff::Timestamp) -> Option<usize> {
    let mail = [
        "Aaa, d Aaa dddd dd:dd:dd +dddd",
        "Aaa, dd Aaa dddd dd:dd:dd +dddd",
    ];
    for shape in mail {
        if let Some(text) = shaped(rest, shape) {
            let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            return near(date, now).then_some(text.len());
        }
    }
    let stem = shaped(rest, "dddd-dd-ddTdd:dd:dd").or_else(|| shaped(rest, "dddd-dd-dd dd:dd:dd"))?;
    let tail = &rest[stem.len()..];
    let fraction = match tail.strip_prefix('.') {
        Some(digits) => 1 + digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len()),
        None => 0,
    };
    let tail = &tail[fraction..];
    let zone = shaped(tail, "Z")
        .or_else(|| shaped(tail, "+dd:dd"))
        .or_else(|| shaped(tail, " UTC"))
        .map_or(0, str::len);
    let civil: jiff::civil::DateTime = stem.parse().ok()?;
    let date = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    near(date, now).then_some(stem.len() + fraction + zone)
}

fn near(date: jiff::Timestamp, now: jiff::Timestamp) -> bool {
    date.duration_since(now).abs() < jiff::SignedDuration::from_hours(240)
}

/// `d` a digit, `A` and `a` letters, `+` a sign, all else itself.
fn shaped<'t>(rest: &'t str, shape: &str) -> Option<&'t str> {
    let text = rest.get(..shape.len())?;
    let fits = text.bytes().zip(shape.bytes()).all(|(b, s)| match s {
        b'd' => b.is_ascii_digit(),
        b'A' => b.is_ascii_uppercase(),
        b'a' => b.is_ascii_lowercase(),
        b'+' => b == b'+' || b == b'-',
        _ => b == s,
    });
    fits.then_some(text)
}

/// `SIZE=123`, `123 bytes`: they change with the length of a date or a port.
fn size(rest: &str) -> Option<(usize, Cow<'static, str>)> {
    for name in ["SIZE=3D", "SIZE=", "size=", "BDAT "] {
        if let Some(number) = rest.strip_prefix(name) {
            let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
            return (digits > 0).then(|| (name.len() + digits, format!("{name}N").into()));
        }
    }
    let digits = rest.find(|c: char| !c.is_ascii_digit())?;
    for unit in [" bytes", " octets"] {
        if digits > 0 && rest[digits..].starts_with(unit) {
            return Some((digits + unit.len(), format!("N{unit}").into()));
        }
    }
    None
}

/// `12ms`, `1.5s`, `58 s`, `1m 2s`.
fn duration(rest: &str) -> Option<usize> {
    let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    if digits == 0 || rest.starts_with('.') || rest[..digits].matches('.').count() > 1 {
        return None;
    }
    let tail = &rest[digits..];
    for unit in ["ms", "µs", "us", "ns", "s", "m", "h", " ms", " s"] {
        if let Some(after) = tail.strip_prefix(unit)
            && !after.starts_with(|c: char| c.is_alphanumeric())
        {
            let here = digits + unit.len();
            let more = after.strip_prefix(' ').and_then(duration);
            return Some(here + more.map_or(0, |n| n + 1));
        }
    }
    None
}
