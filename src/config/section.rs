//! Typed readers over one section of the settings: take a key, want a type, a range; or say what is wrong and where.
//!
//! Pure. A mistake is written down in [`Source`] and the default is used in its place, so that one pass finds
//! all mistakes. Keys that nobody asked for are the unknown ones: the readers are the list of known keys.

use super::errors;
use super::source::Source;
use super::units;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

pub(super) type Span = Range<usize>;

/// One table of the file while it is being read.
pub(super) struct Section<'i, 's> {
    pub source: &'s Source<'s>,
    /// As shown: `[delivery]`, `[[remote]]`; empty for the top of the file.
    pub name: String,
    table: DeTable<'i>,
}

impl<'i, 's> Section<'i, 's> {
    pub fn new(source: &'s Source<'s>, name: impl Into<String>, table: DeTable<'i>) -> Self {
        Self {
            source,
            name: name.into(),
            table,
        }
    }

    /// A value and where it stands; it counts as known from now on.
    fn take(&mut self, key: &'static str) -> Option<(DeValue<'i>, Span)> {
        self.source.known(&self.name, key);
        let value = self.table.remove(key)?;
        let span = value.span();
        Some((value.into_inner(), span))
    }

    /// Everything that is left was not asked for.
    pub fn done(self) {
        for (key, _) in self.table {
            let span = key.span();
            self.source.unknown(&self.name, &key.into_inner(), span);
        }
    }

    /// `"port" of [delivery] …`
    pub fn problem(&self, key: &str, span: &Span, says: &str) {
        self.source
            .problem(span, format!("\"{key}\" of {} {says}", self.name));
    }

    fn wrong_type(&self, key: &str, span: &Span, wanted: &str, value: &DeValue<'_>) {
        self.problem(
            key,
            span,
            &format!("wants {wanted}, not {}", type_in_words(value)),
        );
    }

    /// Text, with surrounding white space removed. `example` is how it would be written.
    pub fn text(&mut self, key: &'static str, example: &str) -> Option<(String, Span)> {
        match self.take(key)? {
            (DeValue::String(text), span) if text.chars().any(char::is_control) => {
                self.problem(key, &span, "holds a control character or a line end; remove it");
                None
            }
            (DeValue::String(text), span) => Some((text.trim().to_owned(), span)),
            (value, span) => {
                self.wrong_type(key, &span, &format!("text in quotes such as {example}"), &value);
                None
            }
        }
    }

    /// Text that `read` understands; its error is a clause that follows a colon.
    pub fn read<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<(T, Span)> {
        let (text, span) = self.text(key, example)?;
        match read(&text) {
            Ok(value) => Some((value, span)),
            Err(why) => {
                self.problem(key, &span, &format!("cannot be \"{}\": {why}", short(&text)));
                None
            }
        }
    }

    pub fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        self.duration_at(key, range).map_or(default, |(value, _)| value)
    }

    pub fn duration_at(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<(Duration, Span)> {
        let (value, span) = self.take(key)?;
        self.as_duration(key, &value, &span, &range)
            .map(|value| (value, span))
    }

    /// A list of durations, never empty.
    pub fn durations(
        &mut self,
        key: &'static str,
        most: usize,
        range: &RangeInclusive<Duration>,
    ) -> Option<Vec<Duration>> {
        let (list, span) = self.list(key, "[\"1m\", \"15m\"]", most)?;
        if list.is_empty() {
            self.problem(key, &span, "is empty; name at least one wait, e.g. [\"15m\"]");
            return None;
        }
        // All are looked at, so that each wrong one is named.
        let all: Vec<_> = list
            .iter()
            .map(|item| self.as_duration(key, item.get_ref(), &item.span(), range))
            .collect();
        all.into_iter().collect()
    }

    fn as_duration(
        &self,
        key: &str,
        value: &DeValue<'_>,
        span: &Span,
        range: &RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let text = match value {
            DeValue::String(text) => text,
            DeValue::Integer(number) => {
                let advice =
                    format!("wants a duration with its unit in quotes, e.g. \"{number}s\" or \"{number}m\"");
                self.problem(key, span, &advice);
                return None;
            }
            other => {
                self.wrong_type(key, span, "a duration in quotes such as \"15m\"", other);
                return None;
            }
        };
        match units::duration(text) {
            Err(why) => self.problem(key, span, &format!("cannot be \"{}\": {why}", short(text))),
            Ok(value) if !range.contains(&value) => {
                let (low, high) = (
                    units::show_duration(*range.start()),
                    units::show_duration(*range.end()),
                );
                self.problem(
                    key,
                    span,
                    &format!(
                        "cannot be \"{}\": it must be between {low} and {high}",
                        short(text)
                    ),
                );
            }
            Ok(value) => return Some(value),
        }
        None
    }

    /// Bytes: a number, or text such as `32MiB`.
    pub fn size(&mut self, key: &'static str, default: u64) -> u64 {
        let read = match self.take(key) {
            None => return default,
            Some((DeValue::String(text), span)) => {
                (units::size(&text).map_err(|why| (short(&text), why)), span)
            }
            Some((DeValue::Integer(number), span)) => {
                let bytes = u64::from_str_radix(number.as_str(), number.radix());
                (
                    bytes.map_err(|_| (number.to_string(), "it is not a number of bytes".to_owned())),
                    span,
                )
            }
            Some((value, span)) => {
                self.wrong_type(key, &span, "a size such as \"32MiB\"", &value);
                return default;
            }
        };
        match read {
            (Ok(bytes), _) => bytes,
            (Err((shown, why)), span) => {
                self.problem(key, &span, &format!("cannot be \"{shown}\": {why}"));
                default
            }
        }
    }

    pub fn number(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let (value, span) = self.take(key)?;
        let DeValue::Integer(number) = &value else {
            self.wrong_type(
                key,
                &span,
                &format!("a whole number without quotes such as {}", range.start().max(&25)),
                &value,
            );
            return None;
        };
        let parsed = u32::from_str_radix(number.as_str(), number.radix()).ok();
        if parsed.is_none_or(|n| !range.contains(&n)) {
            let (low, high) = range.into_inner();
            self.problem(
                key,
                &span,
                &format!("cannot be {number}: it must be between {low} and {high}"),
            );
            return None;
        }
        parsed
    }

    pub fn count(&mut self, key: &'static str, default: usize, range: RangeInclusive<u32>) -> usize {
        self.number(key, range).map_or(default, |n| n as usize)
    }

    pub fn flag(&mut self, key: &'static str) -> Option<(bool, Span)> {
        match self.take(key)? {
            (DeValue::Boolean(flag), span) => Some((flag, span)),
            (value, span) => {
                self.wrong_type(key, &span, "true or false without quotes", &value);
                None
            }
        }
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<(T, Span)> {
        let all: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let (text, span) = self.text(key, all.first().map_or("", String::as_str))?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some((*value, span));
        }
        let says = match errors::nearest(&text, words.iter().map(|(word, _)| *word)) {
            Some(near) => format!("cannot be \"{}\"; did you mean \"{near}\"?", short(&text)),
            None => format!("cannot be \"{}\": it is one of {}", short(&text), all.join(", ")),
        };
        self.problem(key, &span, &says);
        None
    }

    /// A list of texts that `read` understands.
    pub fn texts<T>(
        &mut self,
        key: &'static str,
        example: &str,
        most: usize,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<(T, Span)>> {
        let (list, _) = self.list(key, example, most)?;
        let mut all = Vec::with_capacity(list.len());
        for item in list {
            let span = item.span();
            match item
                .get_ref()
                .as_str()
                .map(str::trim)
                .map(|text| (text, read(text)))
            {
                Some((_, Ok(value))) => all.push((value, span)),
                Some((text, Err(why))) => {
                    self.problem(key, &span, &format!("cannot hold \"{}\": {why}", short(text)));
                }
                None => self.wrong_type(
                    key,
                    &span,
                    &format!("texts in quotes such as {example}"),
                    item.get_ref(),
                ),
            }
        }
        Some(all)
    }

    fn list(&mut self, key: &'static str, example: &str, most: usize) -> Option<(DeArray<'i>, Span)> {
        match self.take(key)? {
            (DeValue::Array(list), span) if list.len() > most => {
                self.problem(
                    key,
                    &span,
                    &format!("has {} entries; at most {most} are allowed", list.len()),
                );
                None
            }
            (DeValue::Array(list), span) => Some((list, span)),
            (value, span) => {
                self.wrong_type(key, &span, &format!("a list such as {example}"), &value);
                None
            }
        }
    }

    /// A table inside this one; `shown` is its name in messages.
    pub fn table(
        &mut self,
        key: &'static str,
        shown: &str,
        example: &str,
    ) -> Option<(Section<'i, 's>, Span)> {
        match self.take(key)? {
            (DeValue::Table(table), span) => Some((Section::new(self.source, shown, table), span)),
            (value, span) if self.name.is_empty() => {
                let what = type_in_words(&value);
                let advice = format!(
                    "\"{key}\" is a section, not {what}: write {example} on a line of its own, its settings below"
                );
                self.source.problem(&span, advice);
                None
            }
            (value, span) => {
                self.wrong_type(key, &span, &format!("a table such as {example}"), &value);
                None
            }
        }
    }

    /// A table `[key]`, or the tables `[[key]]`.
    pub fn one_or_more(&mut self, key: &'static str, most: usize) -> Vec<(DeTable<'i>, Span)> {
        match self.take(key) {
            Some((DeValue::Table(table), span)) => vec![(table, span)],
            other => self.tables_of(other, key, most),
        }
    }

    /// The `[[key]]` tables of the top of the file.
    pub fn tables(&mut self, key: &'static str, most: usize) -> Vec<(DeTable<'i>, Span)> {
        let value = self.take(key);
        self.tables_of(value, key, most)
    }

    fn tables_of(
        &self,
        value: Option<(DeValue<'i>, Span)>,
        key: &str,
        most: usize,
    ) -> Vec<(DeTable<'i>, Span)> {
        let (list, span) = match value {
            None => return Vec::new(),
            Some((DeValue::Array(list), span)) => (list, span),
            Some((_, span)) => {
                let advice = format!(
                    "there may be several of these: write [[{key}]] in double brackets, its settings below"
                );
                self.source.problem(&span, advice);
                return Vec::new();
            }
        };
        if list.len() > most {
            self.source.problem(
                &span,
                format!(
                    "there are {} [[{key}]] entries; at most {most} are allowed",
                    list.len()
                ),
            );
            return Vec::new();
        }
        let table = |item: Spanned<DeValue<'i>>| {
            let span = item.span();
            match item.into_inner() {
                DeValue::Table(table) => Some((table, span)),
                _ => {
                    self.source
                        .problem(&span, format!("each [[{key}]] entry is a table of settings"));
                    None
                }
            }
        };
        list.into_iter().filter_map(table).collect()
    }
}

/// What stands in quotes in a message stays short.
pub(super) fn short(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(80)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}

fn type_in_words(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
