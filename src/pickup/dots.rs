//! Lines that begin with a period: did the writer stuff them, and is the last one an end marker (contract §4)?

use super::submission::Dots;
use crate::config::DotsSetting;
use crate::mail::leading::SaidDots;

/// What the body's lines show, gathered line by line.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Lines that begin with one period only, a lone period included; a marker aside.
    single: u64,
    /// Lines that begin with two periods.
    double: u64,
    /// Bytes of all lines so far with CRLF.
    wire: u64,
    /// A lone period with nothing but empty lines after it, so far.
    marker: Option<Marker>,
}

#[derive(Debug)]
struct Marker {
    /// Offset of its line.
    start: u64,
    wire_before: u64,
}

/// The verdict on a whole body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub dots: Dots,
    /// Where the body ends: before a marker.
    pub end: u64,
    /// Bytes of the body as it is meant, with CRLF.
    pub wire: u64,
}

impl Tally {
    /// Takes the next line: where it starts, its length without line end, its first bytes (two or more, if it has
    /// them).
    pub(super) fn line(&mut self, start: u64, len: u64, head: &[u8]) {
        if len > 0 && self.marker.take().is_some() {
            self.single += 1; // it stood in the middle of the text
        }
        match head {
            b"." if len == 1 => {
                self.marker = Some(Marker {
                    start,
                    wire_before: self.wire,
                });
            }
            [b'.', b'.', ..] => self.double += 1,
            [b'.', ..] => self.single += 1,
            _ => {}
        }
        self.wire += len + 2;
    }

    /// Whether a lone period may turn out to be the end marker: then each line that follows counts.
    pub(super) fn has_marker(&self) -> bool {
        self.marker.is_some()
    }

    /// Takes lines none of which begins with a period, while there is no marker; they have so many bytes with CRLF.
    pub(super) fn stretch(&mut self, wire: u64) {
        self.wire += wire;
    }

    /// The verdict; `said` in the file wins over the setting. A literal file has no end marker: every byte is meant.
    pub(super) fn judge(mut self, said: Option<SaidDots>, setting: DotsSetting, end: u64) -> Judged {
        let mode = match said {
            Some(SaidDots::Literal) => DotsSetting::Literal,
            Some(SaidDots::Stuffed) => DotsSetting::Stuffed,
            None => setting,
        };
        let mut judged = Judged {
            dots: Dots {
                stuffed: false,
                end_marker: false,
                present: false,
            },
            end,
            wire: self.wire,
        };
        match self.marker.take() {
            Some(_) if mode == DotsSetting::Literal => self.single += 1,
            Some(marker) => {
                judged.dots.end_marker = true;
                judged.end = marker.start;
                judged.wire = marker.wire_before;
            }
            None => {}
        }
        judged.dots.present = self.single + self.double > 0;
        judged.dots.stuffed = match mode {
            DotsSetting::Auto => self.single == 0 && self.double > 0,
            DotsSetting::Stuffed => true,
            DotsSetting::Literal => false,
        };
        if judged.dots.stuffed {
            judged.wire -= self.single + self.double;
        }
        judged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(body: &str, said: Option<SaidDots>, setting: DotsSetting) -> (&'static str, u64, u64) {
        let mut tally = Tally::default();
        let mut start = 0;
        for line in body.split_inclusive('\n') {
            let text = line.trim_end_matches("\n");
            tally.line(start, text.len() as u64, &text.as_bytes()[..text.len().min(2)]);
            start += line.len() as u64;
        }
        let judged = tally.judge(said, setting, start);
        (judged.dots.as_str(), judged.end, judged.wire)
    }

    #[test]
    fn auto_judges_each_file() {
        for (body, verdict, end, wire) in [
            ("a\nb\n", "none", 4, 6),
            ("", "none", 0, 0),
            ("a\n\n.\n", "end marker", 3, 5),
            ("a\n.\n\n\n", "end marker", 2, 3),
            (".", "end marker", 0, 0),
            (".\n.\n", "literal + end marker", 2, 3),
            ("a\n.\nb\n", "literal", 6, 9),
            ("..a\n..\n", "stuffed", 7, 4 + 3),
            ("..a\n.\n", "stuffed + end marker", 4, 4),
            ("..a\n.b\n", "literal", 7, 9),
            ("..a\n.\nb", "literal", 7, 11),
            (".b\n.\n", "literal + end marker", 3, 4),
            (". \n", "literal", 3, 4),
            ("...\n", "stuffed", 4, 4),
        ] {
            assert_eq!(
                judge(body, None, DotsSetting::Auto),
                (verdict, end, wire),
                "{body:?}"
            );
        }
    }

    #[test]
    fn what_the_file_says_wins_over_the_setting_and_that_over_the_look() {
        let body = "..a\n.b\n.\n";
        let literal = ("literal", 9, 12);
        let stuffed = ("stuffed + end marker", 7, 7);
        for setting in [DotsSetting::Auto, DotsSetting::Stuffed, DotsSetting::Literal] {
            assert_eq!(judge(body, Some(SaidDots::Literal), setting), literal);
            assert_eq!(judge(body, Some(SaidDots::Stuffed), setting), stuffed);
        }
        assert_eq!(judge(body, None, DotsSetting::Literal), literal);
        assert_eq!(judge(body, None, DotsSetting::Stuffed), stuffed);
        assert_eq!(judge("a\n", None, DotsSetting::Stuffed), ("none", 2, 3));
    }
}
