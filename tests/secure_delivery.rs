//! TLS and AUTH as hosts see them (contract §5).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use mailroot::practice::Host;
use rustls::ServerConfig;
use support::certificates::Authority;
use support::dns::DnsServer;
use support::hosts::{APP, by_mx, host, no_violations, script};
use support::place::{Place, message, to_smart_host};

#[test]
fn tls_opportunistic_required_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let config = |word: &str| authority.by_word(word, &["smart.example.net"]);
    let dns = DnsServer::start("smart.example.net A 127.0.0.1");
    // how it arrives: in clear, under TLS, not at all
    let table: [(&str, [&str; 3]); 5] = [
        ("none", ["clear", "no", "no"]),
        ("good", ["tls", "tls", "tls"]),
        ("expired", ["tls", "tls", "no"]),
        ("wrong-name", ["tls", "tls", "no"]),
        ("unknown-authority", ["tls", "tls", "no"]),
    ];
    for (certificate, expected) in table {
        for (mode, expected) in ["opportunistic", "required", "verified"].iter().zip(expected) {
            let tls = (certificate != "none").then(|| config(certificate));
            let seen = once_by_tls(&dns, &authority, tls, mode, "");
            assert_eq!(seen, expected, "{certificate} certificate, tls = {mode:?}");
        }
    }
}

#[test]
fn tls_from_the_first_byte() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let dns = DnsServer::start("smart.example.net A 127.0.0.1");
    for (certificate, expected) in [("good", "tls"), ("wrong-name", "no")] {
        let tls = authority.by_word(certificate, &["smart.example.net"]);
        let seen = once_by_tls(&dns, &authority, Some(tls), "verified", "implicit tls");
        assert_eq!(seen, expected, "{certificate}");
    }
}

fn once_by_tls(
    dns: &DnsServer,
    authority: &Authority,
    tls: Option<Arc<ServerConfig>>,
    mode: &str,
    talk: &str,
) -> &'static str {
    let implicit = talk == "implicit tls";
    let offer = if tls.is_some() && !implicit {
        ", STARTTLS"
    } else {
        ""
    };
    let script = script(&format!(
        "name smart.example.net\noffer PIPELINING{offer}\n{talk}"
    ));
    let host = Host::start_on((Ipv4Addr::LOCALHOST, 0).into(), script, tls).unwrap();
    let more = format!(
        "smart_host = \"smart.example.net\"\ntls = \"{mode}\"\nimplicit_tls = {implicit}\ntls_ca_file = \"{}\"\n",
        authority.file().display()
    );
    let mut place = Place::new(&by_mx(dns, host.port(), &more));
    place.put("x.eml", message(APP, &["bob@example.net"], "secret"));
    let done = place.drain();
    no_violations(&[&host]);
    match (done.code, host.accepted().first()) {
        (Some(0), Some(message)) if message.tls => "tls",
        (Some(0), Some(_)) => "clear",
        (Some(75), None) => {
            let why = place.text("Queue", "RTR");
            assert!(
                why.to_lowercase().contains("tls"),
                "the transcript says why: {why}"
            );
            "no"
        }
        other => panic!("{other:?}\n{}", done.stderr),
    }
}

#[test]
fn every_mechanism_of_auth_and_no_password_in_any_log() {
    const PASSWORD: &str = "correct horse \"battery\"";
    for (mechanism, more) in [
        ("PLAIN", ""),
        ("LOGIN", ""),
        ("CRAM-MD5", ""),
        ("PLAIN LOGIN CRAM-MD5", ", mechanism = \"cram-md5\""),
    ] {
        let mut script = script(&format!(
            "offer PIPELINING, AUTH {mechanism}\nrequire auth\nrcpt later@* -> 451 4.7.1 later\n\
             rcpt never@* -> 550 5.1.1 never"
        ));
        script.users.push(("shop".to_owned(), PASSWORD.to_owned()));
        let host = Host::start(script).unwrap();
        let auth = format!("auth = {{ user = \"shop\", password_file = \"password\"{more} }}");
        let settings = to_smart_host(host.port(), &format!("{auth}\nallow_plaintext_auth = true"));
        let mut place = Place::new(&format!("{settings}\n[log]\nlevel = \"debug\"\n"));
        fs::write(place.root().join("password"), PASSWORD).unwrap();
        let all = ["bob@example.net", "later@example.net", "never@example.net"];
        place.put("x.eml", message(APP, &all, "auth"));
        assert_eq!(place.drain().code, Some(75), "{mechanism}: {}", place.log());
        assert_eq!(
            host.accepted()[0].auth_user.as_deref(),
            Some("shop"),
            "{mechanism}"
        );
        let mut seen = place.log();
        for (folder, extension) in [
            ("Queue", "RTR"),
            ("Queue", "LTR"),
            ("Queue", "ENV"),
            ("Drop", "EML"),
        ] {
            let text = place.text(folder, extension);
            assert!(!text.is_empty(), "{mechanism}: no {folder}/*.{extension}");
            seen.push_str(&text);
        }
        // what went over the wire after AUTH must not be there in any form
        use base64::Engine as _;
        let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        for secret in [
            PASSWORD,
            "battery",
            &base64(PASSWORD),
            &base64(&format!("\0shop\0{PASSWORD}")),
        ] {
            assert!(!seen.contains(secret), "{mechanism}: {secret} in\n{seen}");
        }
    }
}

#[test]
fn without_tls_a_password_is_not_sent() {
    let host = host("offer PIPELINING, AUTH PLAIN LOGIN\nuser shop word");
    let mut place = Place::new(&to_smart_host(
        host.port(),
        "auth = { user = \"shop\", password_file = \"password\" }",
    ));
    fs::write(place.root().join("password"), "word").unwrap();
    place.put("x.eml", message(APP, &["bob@example.net"], "clear"));
    assert_eq!(place.drain().code, Some(75));
    assert!(
        !host.dialogue().iter().any(|(_, l)| l.starts_with("AUTH")),
        "{:?}",
        host.dialogue()
    );
    assert_eq!(host.counts().messages, 0);
}

#[test]
fn a_token_that_has_expired_is_fetched_anew() {
    let mut talk = script("offer PIPELINING, AUTH XOAUTH2\nrequire auth");
    talk.tokens.push(("shop".to_owned(), "fresh-token".to_owned()));
    let host = Host::start(talk).unwrap();
    let mut place = Place::new("");
    let (command, calls) = (place.beside().join("get-token"), place.beside().join("calls"));
    let text = format!(
        "#!/bin/sh\necho call >> '{0}'\nif [ \"$(wc -l < '{0}')\" -eq 1 ]; then echo stale-token; else echo fresh-token; fi\n",
        calls.display()
    );
    fs::write(&command, text).unwrap();
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
    let auth = format!(
        "auth = {{ user = \"shop\", token_command = [\"{}\"] }}",
        command.display()
    );
    place.settings(&format!(
        "{}\n[log]\nlevel = \"debug\"\n",
        to_smart_host(
            host.port(),
            &format!("{auth}\nallow_plaintext_auth = true\nretry = [\"100ms\"]")
        )
    ));
    place.put("x.eml", message(APP, &["bob@example.net"], "token"));
    place.start();
    place.wait("it arrives", || host.counts().messages == 1);
    place.wait_until_empty();
    place.stop();
    assert_eq!(host.accepted()[0].auth_user.as_deref(), Some("shop"));
    let calls = fs::read_to_string(calls).unwrap().lines().count();
    assert_eq!(
        calls, 2,
        "the command is asked again, and not more often than needed"
    );
    let log = place.log();
    assert!(
        !log.contains("stale-token") && !log.contains("fresh-token"),
        "{log}"
    );
    no_violations(&[&host]);
}
