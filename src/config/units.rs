//! Durations (`15m`, `1h30m`, `200ms`) and sizes (`32MiB`, `2048KB`, plain bytes): text → value and back.
//!
//! Pure. One letter per unit in lower case for time. For sizes the words of coreutils: `KB` is 1000 bytes,
//! `K` and `KiB` are 1024, in any letter case.

use super::section::short;
use std::time::Duration;

/// Time units, longest first: the order in which they may follow each other.
const TIMES: [(&str, u64); 6] = [
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Size units, in upper case, with what they stand for.
const SIZES: [(&str, u64); 14] = [
    ("", 1),
    ("B", 1),
    ("K", 1 << 10),
    ("KB", 1000),
    ("KIB", 1 << 10),
    ("M", 1 << 20),
    ("MB", 1_000_000),
    ("MIB", 1 << 20),
    ("G", 1 << 30),
    ("GB", 1_000_000_000),
    ("GIB", 1 << 30),
    ("T", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("TIB", 1 << 40),
];

/// Reads a duration; the error is a clause that follows "…: ".
pub fn duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err("it is empty; write a number and a unit, e.g. \"15m\" or \"1h30m\"".into());
    }
    let mut millis: u64 = 0;
    let mut longest_allowed = 0;
    while !rest.is_empty() {
        let (number, unit, after) = number_and_word(rest)?;
        let Some(place) = TIMES.iter().position(|(name, _)| *name == unit) else {
            return Err(unknown_time_unit(number, unit));
        };
        if place < longest_allowed {
            return Err("each unit may come once, the longer before the shorter, e.g. \"1h30m\"".into());
        }
        longest_allowed = place + 1;
        let factor = TIMES.get(place).map_or(1, |(_, factor)| *factor);
        millis = number
            .checked_mul(factor)
            .and_then(|more| millis.checked_add(more))
            .ok_or_else(|| "it is longer than any clock runs".to_owned())?;
        rest = after.trim_start();
    }
    Ok(Duration::from_millis(millis))
}

fn unknown_time_unit(number: u64, unit: &str) -> String {
    const UNITS: &str = "units are ms, s, m (minutes), h, d and w";
    if unit.is_empty() {
        return format!("{number} of what? write a unit, e.g. \"{number}s\" or \"{number}m\"; {UNITS}");
    }
    match unit.to_ascii_lowercase().as_str() {
        "min" | "mins" | "minute" | "minutes" => format!("\"{unit}\" is written \"m\"; {UNITS}"),
        "sec" | "secs" | "second" | "seconds" => format!("\"{unit}\" is written \"s\"; {UNITS}"),
        "hour" | "hours" => format!("\"{unit}\" is written \"h\"; {UNITS}"),
        "day" | "days" => format!("\"{unit}\" is written \"d\"; {UNITS}"),
        _ => format!("\"{}\" is not a unit of time; {UNITS}", short(unit)),
    }
}

/// Reads a size in bytes; the error is a clause that follows "…: ".
pub fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("it is empty; write a number and a unit, e.g. \"32MiB\"".into());
    }
    let (number, unit, after) = number_and_word(text)?;
    let unit_upper = unit.to_ascii_uppercase();
    let known = SIZES.iter().find(|(name, _)| *name == unit_upper);
    let Some((_, factor)) = known.filter(|_| after.is_empty()) else {
        let wrong = short(&format!("{unit}{after}"));
        return Err(format!(
            "\"{wrong}\" is not a unit of size; units are B, KB, MB, GB, TB (thousands) and KiB, MiB, GiB, TiB (1024s)"
        ));
    };
    number
        .checked_mul(*factor)
        .ok_or_else(|| "it is more than 16 EiB".into())
}

/// `30m 5s` → (30, "m", " 5s").
fn number_and_word(text: &str) -> Result<(u64, &str, &str), String> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(digits_end);
    if digits.is_empty() || rest.starts_with('.') || rest.starts_with(',') {
        return Err("it wants a whole number before each unit, e.g. \"90m\" for an hour and a half".into());
    }
    let number = digits.parse().map_err(|_| "the number is too large".to_owned())?;
    let rest = rest.trim_start();
    let word_end = rest
        .find(|c: char| c.is_ascii_digit() || c.is_whitespace())
        .unwrap_or(rest.len());
    let (word, after) = rest.split_at(word_end);
    Ok((number, word, after))
}

/// As a person would write it: `1h30m`.
pub fn show_duration(value: Duration) -> String {
    let mut millis = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0".into();
    }
    let mut text = String::new();
    for (unit, factor) in TIMES.iter().skip(1) {
        if millis >= *factor {
            text.push_str(&format!("{}{unit}", millis / factor));
            millis %= factor;
        }
    }
    text
}

/// As a person would write it: `32MiB`, or `1.5GiB` when it does not come out even.
pub fn show_size(bytes: u64) -> String {
    let steps = [
        ("TiB", 1u64 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    match steps.iter().find(|(_, factor)| bytes >= *factor) {
        None => format!("{bytes} bytes"),
        Some((unit, factor)) if bytes.is_multiple_of(*factor) => format!("{}{unit}", bytes / factor),
        // Exact enough for a person to read; the ratio is below 1024 (or a few thousand TiB).
        Some((unit, factor)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(*factor);
            format!("{}.{}{unit}", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_show() {
        for (text, millis) in [
            ("15m", 900_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("200ms", 200),
            ("2d", 172_800_000),
            ("1s500ms", 1500),
            ("0", 0),
            ("0s", 0),
            (" 5 s ", 5000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(show_duration(Duration::from_millis(5_400_200)), "1h30m200ms");
        assert_eq!(show_duration(Duration::ZERO), "0");
        assert_eq!(
            duration(&show_duration(Duration::from_secs(200_000))),
            Ok(Duration::from_secs(200_000))
        );
    }

    #[test]
    fn durations_refused_in_words() {
        for (text, word) in [
            ("", "empty"),
            ("15", "of what"),
            ("15 min", "written \"m\""),
            ("m", "whole number"),
            ("1.5h", "whole number"),
            ("-1s", "whole number"),
            ("15m1h", "longer before the shorter"),
            ("1m1m", "once"),
            ("15M", "not a unit"),
            ("99999999999999999999s", "too large"),
            ("99999999999999999w", "any clock"),
        ] {
            let why = duration(text).unwrap_err();
            assert!(why.contains(word), "{text:?}: {why}");
        }
    }

    #[test]
    fn sizes_read_and_show() {
        for (text, bytes) in [
            ("32MiB", 32 << 20),
            ("2048KB", 2_048_000),
            ("2048KiB", 2 << 20),
            ("1000", 1000),
            ("1 g", 1 << 30),
            ("0", 0),
            ("5b", 5),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert_eq!(show_size(32 << 20), "32MiB");
        assert_eq!(show_size((1 << 30) + (1 << 29)), "1.5GiB");
        assert_eq!(show_size(999), "999 bytes");
        assert_eq!(show_size(u64::MAX), "16777215.9TiB");
        for text in ["", "MiB", "1.5GB", "10 apples", "1MiB2", "99999999999TB"] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_unit_is_shown_on_one_line_and_short() {
        let strange = format!("1 a\t\u{7}{}", "b".repeat(500));
        for why in [size(&strange).unwrap_err(), duration("1a\u{7}").unwrap_err()] {
            assert!(!why.contains(char::is_control) && why.len() < 250, "{why:?}");
        }
    }
}
