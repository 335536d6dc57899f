//! The time as it stands on top of each line: `2026-11-21T09:30:00.123Z`.
//!
//! A thread writes many lines in a second, and only the fraction of the second differs. Pure but for the clock.

use jiff::Timestamp;
use std::cell::RefCell;
use std::fmt::{self, Write};

thread_local! {
    /// The second that this thread has written last, up to its seconds.
    static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
}

/// Writes `at`.
pub fn write(to: &mut impl Write, at: Timestamp) -> fmt::Result {
    let (second, millis) = (at.as_second(), at.subsec_millisecond());
    if at < Timestamp::UNIX_EPOCH {
        return write!(to, "{at:.3}");
    }
    SECOND.with_borrow_mut(|(known, text)| {
        if *known != second {
            *text = format!("{at:.0}");
            text.truncate(text.len().saturating_sub(1)); // Z
            *known = second;
        }
        to.write_str(text)
    })?;
    let digit = |n: i32| char::from(b'0' + u8::try_from(n % 10).unwrap_or(0));
    let fraction = ['.', digit(millis / 100), digit(millis / 10), digit(millis), 'Z'];
    fraction.into_iter().try_for_each(|c| to.write_char(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_as_written_anew() {
        for nanos in [
            0,
            1_000_000,
            999_999_999,
            1_000_000_000,
            1_999_400_000,
            1_764_315_209_123_456_789,
            1_764_315_209_999_999_999,
            1_764_315_210_000_000_000,
            -1,
            -1_500_000_000,
        ] {
            let at = Timestamp::from_nanosecond(nanos).unwrap();
            let mut text = String::new();
            write(&mut text, at).unwrap();
            assert_eq!(text, format!("{at:.3}"));
        }
    }
}
