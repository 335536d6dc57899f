//! What only several settings together show: contradictions, doubles, a secret too many or too few.
//!
//! Pure; names only (whether things exist is for `mailroot check`).

use super::section::{Section, Span};
use super::source::Source;
use super::*;
use std::collections::HashMap;

/// A node must be able to miss a beat or two before its peers take it for dead.
pub(super) const BEATS_PER_LEASE: u32 = 3;

pub(super) fn short_lease(lease: Duration, heartbeat: Duration) -> String {
    let [lease, heartbeat, least] = [lease, heartbeat, heartbeat * BEATS_PER_LEASE].map(units::show_duration);
    format!(
        "cannot be {lease} with a heartbeat of {heartbeat}: it must be at least {BEATS_PER_LEASE} heartbeats, {least}"
    )
}

/// A folder of `[folders]`, and where it was named if it was.
pub(super) struct Place {
    pub key: &'static str,
    pub path: PathBuf,
    pub span: Option<Span>,
}

/// Six folders, each its own and none inside another: what lies in one must never be taken for the other's.
pub(super) fn folders(source: &Source<'_>, places: &[Place]) {
    for (i, later) in places.iter().enumerate() {
        for earlier in places.iter().take(i) {
            let says = if later.path == earlier.path {
                format!(
                    "\"{}\" and \"{}\" of [folders] are the same folder, {}",
                    earlier.key,
                    later.key,
                    later.path.display()
                )
            } else if later.path.starts_with(&earlier.path) {
                format!(
                    "\"{}\" of [folders] lies inside \"{}\", {}",
                    later.key,
                    earlier.key,
                    earlier.path.display()
                )
            } else if earlier.path.starts_with(&later.path) {
                format!(
                    "\"{}\" of [folders] lies inside \"{}\", {}",
                    earlier.key,
                    later.key,
                    later.path.display()
                )
            } else {
                continue;
            };
            // One of them is not the default, or they would not clash.
            let span = later
                .span
                .as_ref()
                .or(earlier.span.as_ref())
                .cloned()
                .unwrap_or(0..0);
            source.problem(&span, format!("{says}; give each folder a place of its own"));
        }
    }
}

/// A pattern of `pickup.ignore`.
pub(super) fn ignore_pattern(text: &str) -> Result<String, String> {
    match text {
        "" => Err("an empty pattern matches nothing".into()),
        _ if text.chars().all(|c| c == '*') => Err("that would leave every file alone".into()),
        _ if text.contains('/') => Err("a file name holds no \"/\"".into()),
        _ if text.len() > 255 => Err("it is longer than any file name".into()),
        _ => Ok(text.to_owned()),
    }
}

/// What `[delivery]` says of the way to a smart host.
pub(super) struct Transport {
    pub has_smart_host: bool,
    pub mode: Option<(SmartHostMode, Span)>,
    pub tls: Option<TlsMode>,
    pub implicit_tls: Option<(bool, Span)>,
    pub auth: Option<Span>,
    pub plaintext_auth: bool,
}

pub(super) fn delivery(s: &Section<'_, '_>, t: &Transport) {
    let implicit = t
        .implicit_tls
        .as_ref()
        .filter(|(yes, _)| *yes)
        .map(|(_, span)| span);
    if let Some(span) = implicit.filter(|_| t.tls == Some(TlsMode::Off)) {
        s.problem(
            "implicit_tls",
            span,
            "cannot be true with tls = \"off\"; remove one of the two",
        );
    }
    if let Some(span) = t
        .auth
        .as_ref()
        .filter(|_| t.tls == Some(TlsMode::Off) && !t.plaintext_auth)
    {
        let says = "\"auth\" of [delivery] needs TLS to protect the password, and tls is \"off\": set tls = \"required\", or allow_plaintext_auth = true if you must";
        s.source.problem(span, says);
    }
    if t.has_smart_host {
        return;
    }
    let without = [
        ("auth", t.auth.as_ref()),
        ("implicit_tls", implicit),
        (
            "smart_host_mode",
            t.mode
                .as_ref()
                .filter(|(mode, _)| *mode == SmartHostMode::AfterDirect)
                .map(|(_, span)| span),
        ),
    ];
    for (key, span) in without {
        if let Some(span) = span {
            let says = format!("\"{key}\" of [delivery] has no effect, because \"smart_host\" is empty");
            s.source.warn(Some(span), &says);
        }
    }
}

/// `route` and `smart_host` of a `[[remote]]` entry; a smart host alone says the route.
pub(super) fn remote_route(
    s: &Section<'_, '_>,
    whole: &Span,
    by_smart_host: Option<(bool, Span)>,
    hosts: Option<(Vec<HostPort>, Span)>,
    of_delivery: &[HostPort],
) -> RemoteRoute {
    let hosts = hosts.filter(|(list, _)| !list.is_empty());
    match (by_smart_host, hosts) {
        (None, None) | (Some((false, _)), None) => RemoteRoute::Mx,
        (Some((false, _)), Some((_, span))) => {
            let says = "\"smart_host\" of [[remote]] contradicts route = \"mx\"; remove one of the two";
            s.source.problem(&span, says);
            RemoteRoute::Mx
        }
        (Some((true, span)), None) => {
            if of_delivery.is_empty() {
                let says =
                    "route = \"smart_host\" of [[remote]] needs a \"smart_host\" here or under [delivery]";
                s.source
                    .problem(if span.is_empty() { whole } else { &span }, says);
            }
            RemoteRoute::SmartHost(Vec::new())
        }
        (_, Some((list, _))) => RemoteRoute::SmartHost(list),
    }
}

/// Each name once; and none that is local, since local mail never leaves.
pub(super) fn remotes(source: &Source<'_>, entries: Vec<(Remote, Span)>, domains: &Domains) -> Vec<Remote> {
    let mut first_at: HashMap<String, usize> = HashMap::new();
    for (remote, span) in &entries {
        if let Some(before) = first_at.get(&remote.name) {
            let line = errors::line_of(source.text, *before);
            let says = format!(
                "there are two [[remote]] entries named \"{}\", the first on line {line}; remove one",
                remote.name
            );
            source.problem(span, says);
        }
        first_at.entry(remote.name.clone()).or_insert(span.start);
        if remote.name == domains.default || domains.aliases.contains(&remote.name) {
            let says = format!(
                "[[remote]] \"{}\" has no effect: the domain is local (see [domains]), its mail goes into Drop",
                remote.name
            );
            source.warn(Some(span), &says);
        }
    }
    entries.into_iter().map(|(remote, _)| remote).collect()
}

/// The three places that a secret can come from, as given.
pub(super) struct Secrets {
    pub password_file: Option<(PathBuf, Span)>,
    pub token_file: Option<(PathBuf, Span)>,
    pub token_command: Option<Vec<(String, Span)>>,
}

/// A user and exactly one secret, of the kind that the mechanism wants.
pub(super) fn auth(
    a: &Section<'_, '_>,
    whole: &Span,
    user: Option<(String, Span)>,
    mechanism: Option<(Mechanism, Span)>,
    given: Secrets,
) -> Option<Auth> {
    let problem = |says: &str| {
        a.source.problem(whole, format!("{} {says}", a.name));
        None
    };
    let is_token = given.token_file.is_some() || given.token_command.is_some();
    let secret = match (given.password_file, given.token_file, given.token_command) {
        (Some((file, _)), None, None) | (None, Some((file, _)), None) => SecretSource::File(file),
        (None, None, Some(words)) if words.first().is_some_and(|(program, _)| !program.is_empty()) => {
            SecretSource::Command(words.into_iter().map(|(word, _)| word).collect())
        }
        (None, None, Some(_)) => {
            return problem("has a \"token_command\" without a program: write [\"program\", \"argument\"]");
        }
        (None, None, None) => {
            return problem("has no \"password_file\" (or \"token_file\" or \"token_command\" for xoauth2)");
        }
        _ => {
            return problem(
                "names more than one of \"password_file\", \"token_file\" and \"token_command\"; keep one",
            );
        }
    };
    let mechanism = match mechanism.map(|(mechanism, _)| mechanism) {
        None if is_token => Some(Mechanism::Xoauth2),
        Some(Mechanism::Xoauth2) if !is_token => {
            return problem("wants a \"token_file\" or \"token_command\" for xoauth2, not a password");
        }
        Some(Mechanism::Plain | Mechanism::Login | Mechanism::CramMd5) if is_token => {
            return problem("has a token, which only mechanism = \"xoauth2\" uses");
        }
        other => other,
    };
    match user {
        Some((user, _)) if !user.is_empty() => Some(Auth {
            user,
            secret,
            mechanism,
        }),
        _ => problem("has no \"user\""),
    }
}
