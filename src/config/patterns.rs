//! Name patterns of `pickup.ignore`: `*` stands for any bytes, everything else for itself, ASCII case ignored.
//!
//! Pure. Names are bytes: a file name need not be UTF-8.

use super::Pickup;

impl Pickup {
    /// The first pattern of `ignore` that this file name matches.
    pub fn ignored_by(&self, name: &[u8]) -> Option<&str> {
        self.ignore
            .iter()
            .map(String::as_str)
            .find(|pattern| matches(pattern.as_bytes(), name))
    }
}

/// Whether the whole name matches. At most pattern × name steps; names are 255 bytes at most.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on after a mismatch: the pattern behind the last star, and the name one byte further.
    let mut retry: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(wanted) if wanted.eq_ignore_ascii_case(byte) => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((behind_star, from)) = retry else {
                    return false;
                };
                retry = Some((behind_star, from + 1));
                (p, n) = (behind_star, from + 1);
            }
        }
    }
    pattern
        .get(p..)
        .is_none_or(|rest| rest.iter().all(|b| *b == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_anything() {
        for (pattern, name, expected) in [
            (".*", ".hidden", true),
            (".*", "a.b", false),
            ("*~", "mail.eml~", true),
            ("*.tmp", "A.TMP", true),
            ("*.tmp", "a.tmp.eml", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("**a", "bba", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
        assert!(matches(b"*.part", b"\xff\xfe.part"));
    }

    #[test]
    fn many_stars_stay_fast() {
        let pattern = "*a".repeat(60);
        assert!(!matches(
            pattern.as_bytes(),
            format!("{}b", "a".repeat(250)).as_bytes()
        ));
    }
}
