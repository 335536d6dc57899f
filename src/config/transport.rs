//! `[delivery]`, `[[remote]]` and `auth`: how mail leaves; and the schedule that `[drop]` has too.
//!
//! Pure. The defaults stand here, each beside its key.

use super::parse::{DAY, HOUR, MILLI, MINUTE, SECOND, TEN_YEARS, path};
use super::section::{Section, Span};
use super::*;
use std::path::Path;

/// Waits in `retry`.
const MAX_WAITS: usize = 100;
/// Of one domain.
const MAX_USERS: usize = 10_000;
/// Words of `token_command`.
const MAX_WORDS: usize = 100;

const TLS_MODES: [(&str, TlsMode); 4] = [
    ("opportunistic", TlsMode::Opportunistic),
    ("off", TlsMode::Off),
    ("required", TlsMode::Required),
    ("verified", TlsMode::Verified),
];

pub(super) fn delivery(mut s: Section<'_, '_>, beside: &Path) -> Delivery {
    let smart_host = s.read("smart_host", "\"mail.example.net:587\"", hosts::host_list);
    let modes = [
        ("always", SmartHostMode::Always),
        ("after_direct", SmartHostMode::AfterDirect),
    ];
    let mode = s.choice("smart_host_mode", &modes);
    let tls = s.choice("tls", &TLS_MODES);
    let implicit_tls = s.flag("implicit_tls");
    let auth = auth(&mut s, beside);
    let allow_plaintext_auth = s.flag("allow_plaintext_auth");
    let ca_file = s.read("tls_ca_file", "\"ca.pem\"", |text| match text {
        "" => Ok(None),
        text => path(text, beside).map(Some),
    });
    rules::delivery(
        &s,
        &rules::Transport {
            has_smart_host: smart_host.as_ref().is_some_and(|(list, _)| !list.is_empty()),
            mode: mode.clone(),
            tls: tls.as_ref().map(|(tls, _)| *tls),
            implicit_tls: implicit_tls.clone(),
            auth: auth.as_ref().map(|(_, span)| span.clone()),
            plaintext_auth: allow_plaintext_auth.as_ref().is_some_and(|(yes, _)| *yes),
        },
    );
    let delivery = Delivery {
        smart_host: smart_host.map(|(list, _)| list).unwrap_or_default(),
        smart_host_mode: mode.map_or(SmartHostMode::Always, |(mode, _)| mode),
        port: port(&mut s).unwrap_or(25),
        tls: tls.map_or(TlsMode::Opportunistic, |(tls, _)| tls),
        implicit_tls: implicit_tls.is_some_and(|(yes, _)| yes),
        tls_ca_file: ca_file.and_then(|(path, _)| path),
        auth: auth.map(|(auth, _)| auth),
        allow_plaintext_auth: allow_plaintext_auth.is_some_and(|(yes, _)| yes),
        schedule: schedule(&mut s),
        max_connections: s.count("max_connections", 200, 1..=10_000),
        max_connections_per_domain: s.count("max_connections_per_domain", 20, 1..=10_000),
        max_in_flight: s.count("max_in_flight", 16, 1..=256),
        connect_timeout: s.duration("connect_timeout", SECOND * 30, MILLI..=HOUR),
        timeout: s.duration("timeout", MINUTE * 5, MILLI..=DAY),
        masquerade_domain: s
            .read("masquerade_domain", "\"example.com\"", |text| match text {
                "" => Ok(String::new()),
                text => hosts::domain(text),
            })
            .map(|(name, _)| name)
            .unwrap_or_default(),
    };
    s.done();
    delivery
}

fn port(s: &mut Section<'_, '_>) -> Option<u16> {
    s.number("port", 1..=65_535)
        .and_then(|port| u16::try_from(port).ok())
}

/// `retry`, `delay_notice`, `expire`: the same keys and defaults under `[delivery]` and `[drop]`.
pub(super) fn schedule(s: &mut Section<'_, '_>) -> Schedule {
    let default = [MINUTE, MINUTE, MINUTE, MINUTE * 15, MINUTE * 30, HOUR, HOUR * 4];
    let notice = s.duration_at("delay_notice", Duration::ZERO..=TEN_YEARS);
    let schedule = Schedule {
        retry: s
            .durations("retry", MAX_WAITS, &(MILLI..=TEN_YEARS))
            .unwrap_or_else(|| default.to_vec()),
        delay_notice: notice.as_ref().map_or(HOUR * 12, |(notice, _)| *notice),
        expire: s.duration("expire", DAY * 2, MILLI..=TEN_YEARS),
    };
    if let Some((notice, span)) = notice.filter(|(notice, _)| !notice.is_zero() && *notice >= schedule.expire)
    {
        let (notice, expire) = (
            units::show_duration(notice),
            units::show_duration(schedule.expire),
        );
        let says = format!(
            "\"delay_notice\" of {} is {notice}, but mail expires after {expire}: nobody will be told of a delay",
            s.name
        );
        s.source.warn(Some(&span), &says);
    }
    schedule
}

pub(super) fn remote(
    mut s: Section<'_, '_>,
    whole: &Span,
    beside: &Path,
    smart_hosts: &[HostPort],
) -> Option<(Remote, Span)> {
    let before = s.source.mistakes();
    let name = s.read("name", "\"example.com\" or \"*.example.com\"", hosts::remote_name);
    if name.is_none() && s.source.mistakes() == before {
        let says =
            "this [[remote]] entry has no \"name\": say which domain it is for, e.g. name = \"example.com\"";
        s.source.problem(whole, says);
    }
    let words = [("mx", false), ("smart_host", true)];
    let by_smart_host = s.choice("route", &words);
    let hosts = s.read("smart_host", "\"mail.example.net:587\"", hosts::host_list);
    let route = rules::remote_route(&s, whole, by_smart_host, hosts, smart_hosts);
    let tls = s.choice("tls", &TLS_MODES).map(|(tls, _)| tls);
    let (port, auth) = (port(&mut s), auth(&mut s, beside).map(|(auth, _)| auth));
    let mut flag = |key| s.flag(key).is_some_and(|(yes, _)| yes);
    let (helo, hold, relay) = (flag("helo"), flag("hold"), flag("relay"));
    let hold_expire = s.duration_at("hold_expire", MILLI..=TEN_YEARS);
    let users = s.texts("atrn_users", "[\"app\"]", MAX_USERS, |text| match text {
        "" => Err("a user has a name".to_owned()),
        name => Ok(name.to_owned()),
    });
    let users = users.unwrap_or_default();
    let idle = [
        ("hold_expire", hold_expire.as_ref().map(|(_, span)| span)),
        ("atrn_users", users.first().map(|(_, span)| span)),
    ];
    for (key, span) in idle.into_iter().filter(|_| !hold) {
        if let Some(span) = span {
            let says = format!("\"{key}\" of [[remote]] has no effect, because \"hold\" is false");
            s.source.warn(Some(span), &says);
        }
    }
    s.done();
    let (name, span) = name?;
    Some((
        Remote {
            name,
            route,
            port,
            tls,
            helo,
            auth,
            hold,
            atrn_users: users.into_iter().map(|(name, _)| name).collect(),
            hold_expire: hold_expire.map(|(expire, _)| expire),
            relay,
        },
        span,
    ))
}

fn auth(s: &mut Section<'_, '_>, beside: &Path) -> Option<(Auth, Span)> {
    let example = "{ user = \"app\", password_file = \"smart-host.password\" }";
    let shown = format!("auth of {}", s.name);
    let (mut a, span) = s.table("auth", &shown, example)?;
    let before = a.source.mistakes();
    let user = a.text("user", "\"app\"");
    let mechanisms = [
        ("plain", Mechanism::Plain),
        ("login", Mechanism::Login),
        ("cram-md5", Mechanism::CramMd5),
        ("xoauth2", Mechanism::Xoauth2),
    ];
    let mechanism = a.choice("mechanism", &mechanisms);
    let sources = rules::Secrets {
        password_file: a.read("password_file", "\"smart-host.password\"", |text| {
            path(text, beside)
        }),
        token_file: a.read("token_file", "\"smart-host.token\"", |text| path(text, beside)),
        token_command: a.texts(
            "token_command",
            "[\"get-token\", \"--mail\"]",
            MAX_WORDS,
            |text| Ok(text.to_owned()),
        ),
    };
    let sound = a.source.mistakes() == before;
    let auth = if sound {
        rules::auth(&a, &span, user, mechanism, sources)
    } else {
        None
    };
    a.done();
    auth.map(|auth| (auth, span))
}
