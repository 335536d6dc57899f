//! LF → CRLF, many lines in one go: what most of a message in the manner of Unix is.

use memchr::memchr;

/// A line up to this length is copied as if it were so long: a few moves of vectors, and no call. What is copied too much
/// is written over by the next line.
const WIDE: usize = 80;

/// Copies whole lines, each with CRLF for its LF, as far as `to` has room and none begins with a period. `text` begins
/// with a line and holds no CR. Gives how much of it was taken, and how much of `to` is filled.
pub(super) fn expand(text: &[u8], to: &mut [u8]) -> (usize, usize) {
    let (mut taken, mut filled) = (0, 0);
    while let Some((rest, room)) = text.get(taken..).zip(to.get_mut(filled..))
        && rest.first() != Some(&b'.')
        && let Some(lf) = memchr(b'\n', rest)
        && copy(rest, lf, room).is_some()
    {
        taken += lf + 1;
        filled += lf + 2;
    }
    (taken, filled)
}

/// The first `len` bytes and a CRLF; `None` when there is no room for them.
#[inline(always)]
fn copy(from: &[u8], len: usize, to: &mut [u8]) -> Option<()> {
    match (from.first_chunk::<WIDE>(), to.first_chunk_mut::<WIDE>()) {
        (Some(from), Some(to)) if len <= WIDE - 2 => {
            *to = *from;
            to.get_mut(len..)?.first_chunk_mut()
        }
        _ => {
            let (line, end) = to.split_at_mut_checked(len)?;
            let end = end.first_chunk_mut()?;
            line.copy_from_slice(from.get(..len)?);
            Some(end)
        }
    }
    .map(|end: &mut [u8; 2]| *end = *b"\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_ends_before_a_period_before_an_unfinished_line_and_where_there_is_no_room() {
        let expanded = |text: &str, room: usize| {
            let mut to = vec![b'#'; room];
            let (taken, filled) = expand(text.as_bytes(), &mut to);
            (taken, String::from_utf8(to[..filled].to_vec()).unwrap())
        };
        assert_eq!(expanded("a\n\n.b\n", 99), (3, "a\r\n\r\n".into()));
        assert_eq!(expanded("a\nb", 99), (2, "a\r\n".into()));
        assert_eq!(expanded("a\nbc\n", 6), (2, "a\r\n".into()));
        assert_eq!(expanded("a\nbc\n", 7), (5, "a\r\nbc\r\n".into()));
        assert_eq!(expanded("", 0), (0, String::new()));
    }

    proptest! {
        #[test]
        fn lines_of_all_lengths(lines in prop::collection::vec(0..2 * WIDE, 0..40), room in 0..8000_usize) {
            let text: String = lines.iter().map(|len| "x".repeat(*len) + "\n").collect();
            let mut to = vec![b'#'; room];
            let (taken, filled) = expand(text.as_bytes(), &mut to);
            let expected = text[..taken].replace('\n', "\r\n");
            prop_assert_eq!(&to[..filled], expected.as_bytes());
            let next = text[taken..].find('\n');
            prop_assert!(next.is_none_or(|lf| filled + lf + 2 > room), "there was room for one more");
        }
    }
}
