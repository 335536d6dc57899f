//! The settings text while it is being read: its tree, and what was found wrong so far.
//!
//! Pure. Unknown keys are judged last, when it is known what the readers asked for: so there is no second list
//! of keys that could fall behind.

use super::errors::{self, MAX_PROBLEMS, Problem};
use super::section::Span;
use std::cell::{Cell, RefCell};
use std::path::Path;
use toml::de::DeTable;

/// The text, and what was found in it so far.
pub(super) struct Source<'t> {
    pub file: &'t Path,
    pub text: &'t str,
    problems: RefCell<Vec<(usize, Problem)>>,
    /// Those that are not kept count too.
    mistakes: Cell<usize>,
    warnings: RefCell<Vec<String>>,
    /// (section, key) of all that was asked for: for advice on unknown keys.
    pub(super) asked: RefCell<Vec<(String, &'static str)>>,
    /// (section, key) of all that nobody asked for.
    unknown: RefCell<Vec<(String, String, Span)>>,
}

impl<'t> Source<'t> {
    pub fn new(file: &'t Path, text: &'t str) -> Self {
        Self {
            file,
            text,
            problems: RefCell::default(),
            mistakes: Cell::new(0),
            warnings: RefCell::default(),
            asked: RefCell::default(),
            unknown: RefCell::default(),
        }
    }

    /// A mistake at these bytes.
    pub fn problem(&self, span: &Span, says: impl Into<String>) {
        self.mistakes.set(self.mistakes.get() + 1);
        let mut problems = self.problems.borrow_mut();
        if problems.len() < MAX_PROBLEMS {
            problems.push((span.start, errors::at(self.file, self.text, span, says.into())));
        }
    }

    /// Not a mistake, but probably not meant.
    pub fn warn(&self, span: Option<&Span>, says: &str) {
        let line = span.map(|span| format!(" line {}", errors::line_of(self.text, span.start)));
        let text = format!("{}{}: {says}", self.file.display(), line.unwrap_or_default());
        self.warnings.borrow_mut().push(text);
    }

    /// Someone asked for this key.
    pub fn known(&self, section: &str, key: &'static str) {
        let mut asked = self.asked.borrow_mut();
        // [[remote]] may come ten thousand times; the first time is enough.
        if !asked.iter().any(|(name, known)| *known == key && name == section) {
            asked.push((section.to_owned(), key));
        }
    }

    /// Nobody asked for this key.
    pub fn unknown(&self, section: &str, key: &str, span: Span) {
        let mut unknown = self.unknown.borrow_mut();
        if unknown.len() < MAX_PROBLEMS {
            unknown.push((section.to_owned(), key.to_owned(), span));
        }
    }

    /// How many mistakes were found so far: when it grew, what follows from them is not told as well.
    pub fn mistakes(&self) -> usize {
        self.mistakes.get()
    }

    /// All problems in the order of the file, and the warnings.
    pub fn finish(self) -> (Vec<Problem>, Vec<String>) {
        for (section, key, span) in self.unknown.take() {
            self.problem(&span, self.unknown_key(&section, &key));
        }
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|(at, _)| *at);
        (
            problems.into_iter().map(|(_, problem)| problem).collect(),
            self.warnings.into_inner(),
        )
    }

    fn unknown_key(&self, section: &str, key: &str) -> String {
        let asked = self.asked.borrow();
        let here = asked
            .iter()
            .filter(|(name, _)| name == section)
            .map(|(_, key)| *key);
        let shown: String = key.chars().filter(|c| !c.is_control()).take(60).collect();
        let is_not = match section {
            "" => format!("\"{shown}\" is not a section of mailroot.toml"),
            _ => format!("\"{shown}\" is not a setting of {section}"),
        };
        if matches!(key, "password" | "pass" | "passwd" | "secret" | "token") {
            return format!(
                "{is_not}: secrets do not stand in settings; write it into a file and name that in \"password_file\""
            );
        }
        if let Some((section, key)) = asked
            .iter()
            .find(|(name, known)| *known == key && !name.is_empty())
        {
            return format!("{is_not}; \"{key}\" belongs under {section}");
        }
        if let Some(ours) = iis_name(key) {
            return format!("{is_not}; what IIS calls {shown} is {ours}");
        }
        match errors::nearest(key, here) {
            Some(near) if section.is_empty() => format!("{is_not}; did you mean [{near}]?"),
            Some(near) => format!("{is_not}; did you mean \"{near}\"?"),
            None => format!("{is_not}; remove it (`mailroot init` shows all settings)"),
        }
    }
}

/// Settings by the name that IIS administrators know, where the names are not alike.
const IIS_NAMES: [(&str, &str); 24] = [
    ("FullyQualifiedDomainName", "hostname under [server]"),
    ("DefaultDomain", "default under [domains]"),
    ("PickupDirectory", "pickup under [folders]"),
    ("QueueDirectory", "queue under [folders]"),
    ("DropDirectory", "drop under [folders]"),
    ("BadMailDirectory", "badmail under [folders]"),
    ("LogFileDirectory", "logs under [folders]"),
    ("MaxMessageSize", "max_size under [messages]"),
    ("MaxRecipients", "max_recipients under [messages]"),
    ("MaxBatchedMessages", "max_per_connection under [messages]"),
    ("HopCount", "max_hops under [messages]"),
    ("SmartHost", "smart_host under [delivery]"),
    ("SmartHostType", "smart_host_mode under [delivery]"),
    ("RemoteSmtpPort", "port under [delivery]"),
    ("AlwaysUseSsl", "tls = \"required\" under [delivery]"),
    ("RouteUserName", "auth under [delivery]"),
    ("SmtpRemoteProgressiveRetry", "retry under [delivery]"),
    ("SmtpRemoteDelayExpireMinutes", "delay_notice under [delivery]"),
    ("SmtpRemoteNDRExpireMinutes", "expire under [delivery]"),
    ("MaxOutConnections", "max_connections under [delivery]"),
    (
        "MaxOutConnectionsPerDomain",
        "max_connections_per_domain under [delivery]",
    ),
    ("RemoteTimeout", "timeout under [delivery]"),
    ("MasqueradeDomain", "masquerade_domain under [delivery]"),
    ("SendNdrTo", "copy_to under [reports]"),
];

fn iis_name(key: &str) -> Option<&'static str> {
    IIS_NAMES
        .iter()
        .find(|(iis, _)| iis.eq_ignore_ascii_case(key))
        .map(|(_, ours)| *ours)
}

/// The text as a tree, or the first place where it is not TOML (what follows such a place is noise).
pub(super) fn tree<'t>(source: &Source<'t>) -> Option<DeTable<'t>> {
    let error = match DeTable::parse(source.text) {
        Ok(table) => return Some(table.into_inner()),
        Err(error) => error,
    };
    let span = error.span().unwrap_or(0..0);
    let what = error.message().replace('\n', " ");
    let says = if what.contains("escape") {
        "a backslash in double quotes is written twice; or put the text in single quotes".to_owned()
    } else if what.contains("duplicate") {
        format!("this is not TOML: {what}; it stands in the file twice, remove one")
    } else {
        format!("this is not TOML: {what}")
    };
    source.problem(&span, says);
    None
}
