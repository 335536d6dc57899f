//! Which names in Pickup are not messages: what editors, browsers and copy programs write beside or before a file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

/// Default of `pickup.ignore`. Names that begin with `.` or `~` are ignored whatever the setting says.
pub const DEFAULT_IGNORE: [&str; 7] = [
    "*~",
    "*.tmp",
    "*.part",
    "*.partial",
    "*.swp",
    "*.filepart",
    "*.crdownload",
];

/// Whether a file of this name is left alone. `*` in a pattern stands for any bytes; letter case does not matter
/// (writers on Windows say `.TMP`).
pub fn ignored(name: &OsStr, patterns: &[String]) -> bool {
    let name = name.as_bytes();
    matches!(name.first(), Some(b'.' | b'~')) || patterns.iter().any(|p| matches(name, p.as_bytes()))
}

/// Glob match: each literal piece is found as early as it can be, the last one at the end.
fn matches(name: &[u8], pattern: &[u8]) -> bool {
    let mut pieces = pattern.split(|b| *b == b'*');
    let Some(mut rest) = pieces.next().and_then(|first| strip_start(name, first)) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty(); // no star: the whole name
    };
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        let found = rest
            .windows(piece.len())
            .position(|part| part.eq_ignore_ascii_case(piece));
        let Some(tail) = found.and_then(|at| rest.get(at + piece.len()..)) else {
            return false;
        };
        rest = tail;
    }
    let end = rest.len().checked_sub(last.len()).and_then(|at| rest.get(at..));
    end.is_some_and(|end| end.eq_ignore_ascii_case(last))
}

fn strip_start<'a>(name: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    let (head, tail) = name.split_at_checked(start.len())?;
    head.eq_ignore_ascii_case(start).then_some(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults() {
        let patterns = DEFAULT_IGNORE.map(str::to_owned);
        let is_ignored = |name: &[u8]| ignored(OsStr::from_bytes(name), &patterns);
        for name in [
            &b".hidden"[..],
            b"~$mail.eml",
            b"mail.eml~",
            b"a.tmp",
            b"A.TMP",
            b"a.part",
            b"a.partial",
            b".a.swp",
            b"a.swp",
            b"a.filepart",
            b"a.crdownload",
            b"\xff.tmp",
            b"~",
        ] {
            assert!(is_ignored(name), "{}", name.escape_ascii());
        }
        for name in [
            &b"a.eml"[..],
            b"tmp",
            b"a.tmp.eml",
            b"a b {1}.txt",
            b"\xff",
            b"atmp",
            b"apart",
        ] {
            assert!(!is_ignored(name), "{}", name.escape_ascii());
        }
    }

    #[test]
    fn stars_stand_for_anything() {
        for (name, pattern, want) in [
            ("abc", "abc", true),
            ("abcd", "abc", false),
            ("abc", "a*c", true),
            ("ac", "a*c", true),
            ("aXbYc", "a*b*c", true),
            ("aXbY", "a*b*c", false),
            ("aab", "*ab", true),
            ("a", "a*a", false),
            ("anything", "*", true),
            ("", "*", true),
            ("x", "", false),
            ("x", "**", true),
        ] {
            assert_eq!(
                matches(name.as_bytes(), pattern.as_bytes()),
                want,
                "{name} {pattern}"
            );
        }
    }
}
