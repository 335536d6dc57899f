//! `log.w3c_fields`: the fields of a W3C extended log file by the names that IIS gave them.
//!
//! Pure.

use super::section::Section;

/// A field. (IIS: a bit of `LogExtFileFlags`)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // their names in the file are in `NAMES`
pub enum W3cField {
    Date,
    Time,
    ClientIp,
    UserName,
    SiteName,
    ComputerName,
    ServerIp,
    ServerPort,
    Method,
    UriStem,
    UriQuery,
    Status,
    Win32Status,
    BytesSent,
    BytesReceived,
    TimeTaken,
    Version,
    Host,
    UserAgent,
    Cookie,
    Referer,
}

use W3cField as F;

/// All there are, in the order of IIS.
const NAMES: [(&str, W3cField); 21] = [
    ("date", F::Date),
    ("time", F::Time),
    ("c-ip", F::ClientIp),
    ("cs-username", F::UserName),
    ("s-sitename", F::SiteName),
    ("s-computername", F::ComputerName),
    ("s-ip", F::ServerIp),
    ("s-port", F::ServerPort),
    ("cs-method", F::Method),
    ("cs-uri-stem", F::UriStem),
    ("cs-uri-query", F::UriQuery),
    ("sc-status", F::Status),
    ("sc-win32-status", F::Win32Status),
    ("sc-bytes", F::BytesSent),
    ("cs-bytes", F::BytesReceived),
    ("time-taken", F::TimeTaken),
    ("cs-version", F::Version),
    ("cs-host", F::Host),
    ("cs(User-Agent)", F::UserAgent),
    ("cs(Cookie)", F::Cookie),
    ("cs(Referer)", F::Referer),
];

impl W3cField {
    /// As it stands in `#Fields:`.
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(_, field)| *field == self)
            .map_or("", |(name, _)| name)
    }

    /// All of them, in the order of IIS.
    pub fn all() -> Vec<Self> {
        NAMES.iter().map(|(_, field)| *field).collect()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let found = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        found.map(|(_, field)| *field).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            format!("the fields are {}", names.join(", "))
        })
    }
}

/// `None`: no such log is written.
pub(super) fn w3c(s: &mut Section<'_, '_>) -> Option<Vec<W3cField>> {
    let is_on = s.flag("w3c").is_some_and(|(yes, _)| yes);
    let example = "[\"date\", \"time\", \"c-ip\", \"cs-method\"]";
    let chosen = s.texts("w3c_fields", example, NAMES.len(), W3cField::parse);
    let mut fields = Vec::new();
    let idle = chosen.as_ref().and_then(|chosen| chosen.first());
    if let Some((_, span)) = idle.filter(|_| !is_on) {
        let says = "\"w3c_fields\" of [log] has no effect, because \"w3c\" is false";
        s.source.warn(Some(span), says);
    }
    for (field, span) in chosen.into_iter().flatten() {
        if fields.contains(&field) {
            s.problem("w3c_fields", &span, &format!("names {} twice", field.name()));
        }
        fields.push(field);
    }
    if fields.is_empty() {
        fields = W3cField::all();
    }
    is_on.then_some(fields)
}
