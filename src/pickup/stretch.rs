//! Many lines in one go: what can be told of them without looking at each, in one pass that the compiler makes vectors of.

/// A line up to this length, CR included, is short: nobody asks by how much.
pub(super) const SHORT: usize = 512;
/// Counted in a byte, so that sixteen fit into a register.
const LANE: usize = 128;

/// What a stretch of whole lines holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stretch {
    /// LF bytes.
    pub lines: u64,
    /// CR bytes …
    pub crs: u64,
    /// … and those of them that end a line.
    pub line_end_crs: u64,
    /// A line begins with a period.
    pub periods: bool,
    /// A byte over 127.
    pub eight_bit: bool,
}

impl Stretch {
    /// `text` begins with a line and ends with an LF.
    pub(super) fn of(text: &[u8]) -> Self {
        let Some((last, before)) = text.split_last() else {
            return Self::default();
        };
        let mut stretch = Self {
            lines: u64::from(*last == b'\n'),
            periods: text.first() == Some(&b'.'),
            ..Self::default()
        };
        let next = text.get(1..).unwrap_or_default();
        match memchr::memchr(b'\r', text) {
            Some(_) => stretch.count_widest::<true>(before, next),
            None => stretch.count_widest::<false>(before, next),
        }
        stretch
    }

    /// In the widest registers that this machine has.
    fn count_widest<const CR: bool>(&mut self, here: &[u8], next: &[u8]) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the machine has what the function was compiled for.
            #[allow(unsafe_code)]
            return unsafe { self.count_in_avx2::<CR>(here, next) };
        }
        self.count_all::<CR>(here, next);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn count_in_avx2<const CR: bool>(&mut self, here: &[u8], next: &[u8]) {
        self.count_all::<CR>(here, next);
    }

    /// The bytes `here`, and what follows each of them. `CR`: there are such among them.
    #[inline(always)]
    fn count_all<const CR: bool>(&mut self, here: &[u8], next: &[u8]) {
        let ((here, here_rest), (next, next_rest)) = (here.as_chunks::<LANE>(), next.as_chunks::<LANE>());
        for (here, next) in here.iter().zip(next) {
            self.count::<CR>(here, next);
        }
        self.count::<CR>(here_rest, next_rest);
    }

    /// At most [`LANE`] of them.
    #[inline(always)]
    fn count<const CR: bool>(&mut self, here: &[u8], next: &[u8]) {
        let (mut lines, mut crs, mut line_end_crs, mut periods, mut all) = (0_u8, 0_u8, 0_u8, 0_u8, 0_u8);
        for (here, next) in here.iter().zip(next) {
            let lf = u8::from(*here == b'\n');
            lines += lf;
            if CR {
                let cr = u8::from(*here == b'\r');
                crs += cr;
                line_end_crs += cr & u8::from(*next == b'\n');
            }
            periods |= lf & u8::from(*next == b'.');
            all |= here;
        }
        self.lines += u64::from(lines);
        self.crs += u64::from(crs);
        self.line_end_crs += u64::from(line_end_crs);
        self.periods |= periods != 0;
        self.eight_bit |= !all.is_ascii();
    }
}

/// Whether each line of the text is [`SHORT`]: a look here and there is enough.
pub(super) fn all_short(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(window) = rest.get(..=SHORT) {
        match memchr::memrchr(b'\n', window) {
            Some(lf) => rest = rest.get(lf + 1..).unwrap_or_default(),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_is_short_or_not() {
        let line = |len: usize| "x".repeat(len) + "\n";
        for len in [0, 1, SHORT - 1, SHORT] {
            assert!(all_short(&line(len).repeat(9).into_bytes()), "{len}");
            assert!(
                !all_short((line(len) + &line(SHORT + 1) + &line(len)).as_bytes()),
                "{len}"
            );
        }
        assert!(all_short(b""));
    }

    proptest! {
        #[test]
        fn the_same_as_line_by_line(text in "((\\.|a|é|\r|.{100})*\n){0,30}") {
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            let count = |end: &str| lines.iter().filter(|line| line.ends_with(end)).count() as u64;
            let expected = Stretch {
                lines: count("\n"),
                crs: text.matches('\r').count() as u64,
                line_end_crs: count("\r\n"),
                periods: lines.iter().any(|line| line.starts_with('.')),
                eight_bit: !text.is_ascii(),
            };
            prop_assert_eq!(Stretch::of(text.as_bytes()), expected);
        }
    }
}
