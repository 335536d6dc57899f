//! 8-bit text in a header field becomes encoded-words (RFC 2047), for hosts that take 7 bits only.
//!
//! Only words that need it are touched. Text that is not UTF-8 is labelled `unknown-8bit` (RFC 1428): the bytes
//! arrive, and nobody is told a charset that we do not know.

use super::params;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// An encoded-word has at most 75 characters, a line that holds one at most 76 (RFC 2047 §2).
const WORD: usize = 75;

/// Fields whose value is a list of addresses.
const ADDRESSES: [&str; 16] = [
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "bcc",
    "resent-from",
    "resent-sender",
    "resent-reply-to",
    "resent-to",
    "resent-cc",
    "resent-bcc",
    "return-path",
    "errors-to",
    "disposition-notification-to",
    "mail-followup-to",
];

/// The field (folded with CRLF, ending with one) in 7 bits. `continued`: its name was in an earlier piece.
pub(super) fn encode(field: &[u8], continued: bool) -> Vec<u8> {
    let field = field.strip_suffix(b"\r\n").unwrap_or(field);
    let colon = if continued {
        None
    } else {
        memchr::memchr(b':', field)
    };
    let (name, value) = field.split_at(colon.map_or(0, |colon| colon + 1));
    let mut words = Words::new(std::str::from_utf8(field).is_ok());
    words.text.extend(name.iter().filter(|b| b.is_ascii()));
    words.value_start = words.text.len();
    let name = String::from_utf8_lossy(&words.text)
        .trim_end_matches([':', ' ', '\t'])
        .to_ascii_lowercase();
    match name.as_str() {
        "content-type" | "content-disposition" => params::encode(&mut words, value),
        name if ADDRESSES.contains(&name) => super::address::encode(&mut words, value),
        _ => words.unstructured(value),
    }
    words.text.extend_from_slice(b"\r\n");
    words.text
}

/// A value being written.
pub(super) struct Words {
    pub(super) text: Vec<u8>,
    value_start: usize,
    line_start: usize,
    utf8: bool,
    /// An encoded-word was written last, and nothing after it.
    glued: bool,
    /// An encoded-word was written last, and nothing but white space after it: a reader drops that space.
    after_word: bool,
}

impl Words {
    fn new(utf8: bool) -> Self {
        Self {
            text: Vec::new(),
            value_start: 0,
            line_start: 0,
            utf8,
            glued: false,
            after_word: false,
        }
    }

    pub(super) fn charset(&self) -> &'static str {
        if self.utf8 { "utf-8" } else { "unknown-8bit" }
    }

    /// Bytes as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        let Some(first) = bytes.first() else { return };
        if std::mem::take(&mut self.glued) && !is_space(*first) && *first != b')' {
            self.text.push(b' ');
        }
        self.after_word = self.after_word && bytes.iter().all(|b| is_space(*b));
        if let Some(newline) = memchr::memrchr(b'\n', bytes) {
            self.line_start = self.text.len() + newline + 1;
        }
        self.text.extend_from_slice(bytes);
    }

    /// Words apart from each other by white space; those outside ASCII are encoded, neighbours together.
    pub(super) fn unstructured(&mut self, value: &[u8]) {
        let mut rest = value;
        while !rest.is_empty() {
            let (space, word, after) = next_word(rest);
            rest = after;
            if word.is_ascii() {
                self.raw(space);
                self.raw(word);
                self.after_word |= is_encoded_word(word);
                continue;
            }
            let mut text = Vec::new();
            if std::mem::take(&mut self.after_word) {
                unfold(space, &mut text);
            }
            unfold(word, &mut text);
            loop {
                let (space, word, after) = next_word(rest);
                if !word.is_ascii() {
                    unfold(space, &mut text);
                    unfold(word, &mut text);
                    rest = after;
                    continue;
                }
                if is_encoded_word(word) {
                    unfold(space, &mut text);
                }
                break;
            }
            self.raw(space);
            self.word(&text);
        }
    }

    /// The text in as many encoded-words as it takes.
    pub(super) fn word(&mut self, text: &[u8]) {
        let mut spaced = Vec::new();
        let mut rest = text;
        if std::mem::take(&mut self.after_word) {
            spaced.push(b' ');
            spaced.extend_from_slice(text);
            rest = &spaced;
        }
        let overhead = "=???Q??=".len() - 1 + self.charset().len();
        // Q can be read as it is, so it is worth some length
        let quoted = quoted_cost(rest) <= 2 * rest.len() + 4;
        self.make_room(overhead);
        let mut room = (WORD + 1)
            .saturating_sub(self.text.len() - self.line_start)
            .clamp(overhead + 12, WORD);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(self.fitting(rest, room - overhead, quoted));
            self.encoded_word(now, quoted);
            rest = later;
            room = WORD;
            if !rest.is_empty() {
                self.text.extend_from_slice(b"\r\n ");
                self.line_start = self.text.len() - 1;
            }
        }
        self.glued = true;
        self.after_word = true;
    }

    /// The text in one encoded-word right where we are: for what may not hold white space.
    pub(super) fn inline_word(&mut self, text: &[u8]) {
        self.encoded_word(text, true);
    }

    /// Puts white space before an encoded-word, and a fold before that when little of the line is left.
    fn make_room(&mut self, overhead: usize) {
        if self.text.last().is_some_and(|b| !is_space(*b) && *b != b'(') {
            self.text.push(b' ');
        }
        let space = self.text.iter().rev().take_while(|b| is_space(**b)).count();
        let from = self.text.len() - space;
        let used = self.text.len() - self.line_start;
        if space > 0 && from > self.line_start.max(self.value_start) && used + overhead + 20 > WORD {
            self.text.splice(from..from, *b"\r\n");
            self.line_start = from + 2;
        }
    }

    fn encoded_word(&mut self, text: &[u8], quoted: bool) {
        let method = if quoted { 'Q' } else { 'B' };
        self.text
            .extend_from_slice(format!("=?{}?{method}?", self.charset()).as_bytes());
        if quoted {
            for &b in text {
                match b {
                    b' ' => self.text.push(b'_'),
                    b if is_plain(b) => self.text.push(b),
                    b => self.text.extend_from_slice(format!("={b:02X}").as_bytes()),
                }
            }
        } else {
            self.text.extend_from_slice(STANDARD.encode(text).as_bytes());
        }
        self.text.extend_from_slice(b"?=");
    }

    /// How many bytes, in whole characters, fit into `room`; at least one character.
    fn fitting(&self, text: &[u8], room: usize, quoted: bool) -> usize {
        let (mut len, mut cost) = (0, 0);
        while let Some(rest) = text.get(len..).filter(|rest| !rest.is_empty()) {
            let tail = rest
                .iter()
                .skip(1)
                .take_while(|b| self.utf8 && **b & 0xC0 == 0x80)
                .count();
            let character = rest.get(..=tail).unwrap_or(rest);
            cost += if quoted {
                quoted_cost(character)
            } else {
                character.len()
            };
            let full = if quoted { cost > room } else { cost > room / 4 * 3 };
            if full && len > 0 {
                break;
            }
            len += character.len();
        }
        len
    }
}

/// Allowed unencoded wherever an encoded-word may stand (RFC 2047 §5 (3)).
fn is_plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'!' | b'*' | b'+' | b'-' | b'/')
}

fn quoted_cost(text: &[u8]) -> usize {
    text.iter()
        .map(|b| if *b == b' ' || is_plain(*b) { 1 } else { 3 })
        .sum()
}

pub(super) fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

/// White space, a word, and what follows; linear however it is called.
fn next_word(text: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let space = text.iter().position(|b| !is_space(*b)).unwrap_or(text.len());
    let (space, text) = text.split_at(space);
    let word = text.iter().position(|b| is_space(*b)).unwrap_or(text.len());
    let (word, rest) = text.split_at(word);
    (space, word, rest)
}

fn is_encoded_word(word: &[u8]) -> bool {
    word.len() > 6 && word.starts_with(b"=?") && word.ends_with(b"?=")
}

/// Appends the text without its folds.
pub(super) fn unfold(text: &[u8], to: &mut Vec<u8>) {
    to.extend(text.iter().filter(|b| !matches!(b, b'\r' | b'\n')));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes, checks what every result must keep to, and unfolds it.
    fn encoded(field: &[u8]) -> String {
        let out = String::from_utf8(encode(field, false)).unwrap();
        assert!(out.is_ascii() && out.ends_with("\r\n"), "{out}");
        let lines: Vec<_> = out.trim_end().split("\r\n").collect();
        assert!(
            lines.iter().skip(1).all(|line| line.starts_with([' ', '\t'])),
            "{out}"
        );
        assert!(
            lines.iter().all(|line| !line.contains("=?") || line.len() <= 76),
            "{out}"
        );
        lines.concat()
    }

    #[test]
    fn only_words_that_need_it_are_touched() {
        assert_eq!(
            encoded("Subject: a  Bär und b\r\n".as_bytes()),
            "Subject: a  =?utf-8?Q?B=C3=A4r?= und b"
        );
        assert_eq!(
            encoded("Subject: ä\r\n ö x\r\n".as_bytes()),
            "Subject: =?utf-8?Q?=C3=A4_=C3=B6?= x"
        );
        assert_eq!(encoded(b"X-Any:\xe9\r\n"), "X-Any: =?unknown-8bit?Q?=E9?=");
        assert_eq!(encoded("Náme: x\r\n".as_bytes()), "Nme: x");
    }

    #[test]
    fn a_space_beside_another_encoded_word_is_kept() {
        assert_eq!(
            encoded("Subject: =?utf-8?Q?a?= Bär =?utf-8?Q?b?=\r\n".as_bytes()),
            "Subject: =?utf-8?Q?a?= =?utf-8?Q?_B=C3=A4r_?= =?utf-8?Q?b?="
        );
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        for text in [
            "ä".repeat(500),
            "Bär Süd ".repeat(90),
            "漢字".repeat(200),
            "a😀".repeat(100),
        ] {
            let out = encoded(format!("Subject: {text}\r\n").as_bytes());
            for word in out.split(' ').skip(1) {
                assert!(word.len() <= 75 && is_encoded_word(word.as_bytes()), "{word}");
                let inner = word.trim_end_matches("?=").rsplit('?').next().unwrap();
                if word.contains("?B?") {
                    String::from_utf8(STANDARD.decode(inner).unwrap()).unwrap();
                }
            }
        }
    }
}
