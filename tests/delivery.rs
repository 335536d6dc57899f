//! Routes, connections, TLS and AUTH as hosts see them (contract §5): what no scenario shows.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mailroot::practice::{Accepted, Host, Script};
use rustls::ServerConfig;
use support::certificates::Authority;
use support::dns::DnsServer;
use support::place::{BASE, Place, arrivals, message, to_smart_host};

const APP: &str = "app@local.test";

fn script(talk: &str) -> Script {
    talk.parse().unwrap_or_else(|e| panic!("{e}\n{talk}"))
}

fn host(talk: &str) -> Host {
    Host::start(script(talk)).unwrap()
}

/// Hosts on 127.0.0.1, 127.0.0.2 …, all on one port, as MX hosts are.
fn hosts<const N: usize>(talks: [&str; N]) -> [Host; N] {
    for _ in 0..50 {
        let first = host(talks[0]);
        let port = first.port();
        let mut first = Some(first);
        let others: Vec<Option<Host>> = (0..N)
            .map(|n| match first.take() {
                Some(first) => Some(first),
                None => {
                    let address: SocketAddr = (Ipv4Addr::new(127, 0, 0, n as u8 + 1), port).into();
                    Host::start_on(address, script(talks[n]), None).ok()
                }
            })
            .collect();
        if let Some(all) = others.into_iter().collect::<Option<Vec<Host>>>()
            && let Ok(all) = all.try_into()
        {
            return all;
        }
    }
    panic!("no port is free on all addresses");
}

/// A port on which nobody listens.
fn closed_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// All mail by MX, at this port; `more` are further keys of `[delivery]`, then further sections.
fn by_mx(dns: &DnsServer, port: u16, more: &str) -> String {
    format!(
        "{BASE}[dns]\nservers = [\"{}\"]\n\n[delivery]\nport = {port}\n{more}\n",
        dns.address()
    )
}

fn recipients(message: &Accepted) -> Vec<&str> {
    message.recipients.iter().map(|r| r.address.as_str()).collect()
}

fn no_violations(hosts: &[&Host]) {
    for host in hosts {
        assert_eq!(host.violations(), Vec::<String>::new());
    }
}

/// Who got what: recipients of all messages of a host, sorted.
fn who(host: &Host) -> Vec<String> {
    let mut all: Vec<String> = host
        .accepted()
        .iter()
        .flat_map(|m| recipients(m).into_iter().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    all.sort();
    all
}

#[test]
fn a_connection_is_kept_for_further_messages() {
    let host = host("");
    let mut place = Place::new(&to_smart_host(host.port(), ""));
    for n in 0..40 {
        place.put(
            format!("{n}.eml"),
            message(APP, &["bob@example.net"], &format!("m{n}")),
        );
    }
    assert_eq!(place.drain().code, Some(0));
    let counts = host.counts();
    assert_eq!(counts.messages, 40);
    assert!(counts.connections <= 4, "{counts:?}");
    no_violations(&[&host]);
}

#[test]
fn a_connection_carries_no_more_than_max_per_connection() {
    let host = host("");
    let settings = to_smart_host(host.port(), "max_connections_per_domain = 1");
    let mut place = Place::new(&format!("{settings}\n[messages]\nmax_per_connection = 5\n"));
    for n in 0..20 {
        place.put(
            format!("{n}.eml"),
            message(APP, &["bob@example.net"], &format!("m{n}")),
        );
    }
    assert_eq!(place.drain().code, Some(0));
    let mut per_connection = BTreeMap::new();
    for message in host.accepted() {
        *per_connection.entry(message.connection).or_insert(0) += 1;
    }
    assert_eq!(per_connection.values().sum::<i32>(), 20);
    assert!(per_connection.values().all(|n| *n == 5), "{per_connection:?}");
    // One after the other. (How many a host thinks are open depends on when it notices an end.)
    let order: Vec<_> = host.accepted().iter().map(|message| message.connection).collect();
    assert!(order.is_sorted(), "{order:?}");
    let quits = host.dialogue().iter().filter(|(_, line)| line == "QUIT").count();
    assert_eq!(quits, 4, "each connection ends politely");
}

#[test]
fn recipients_that_share_a_route_share_a_transaction_up_to_max_recipients() {
    let host = host("");
    let settings = to_smart_host(host.port(), "");
    let mut place = Place::new(&settings);
    let all = [
        "a@one.example",
        "b@two.example",
        "c@three.example",
        "d@two.example",
        "e@five.example",
    ];
    place.put("x.eml", message(APP, &all, "together"));
    assert_eq!(place.drain().code, Some(0));
    assert_eq!(host.accepted().len(), 1);
    assert_eq!(recipients(&host.accepted()[0]), all);

    place.settings(&format!("{settings}\n[messages]\nmax_recipients = 2\n"));
    place.put("y.eml", message(APP, &all, "split"));
    assert_eq!(place.drain().code, Some(0));
    let split = &host.accepted()[1..];
    let mut sizes: Vec<usize> = split.iter().map(|m| m.recipients.len()).collect();
    sizes.sort();
    assert_eq!(sizes, [1, 2, 2]);
    assert_eq!(who(&host).len(), 10);
}

#[test]
fn the_next_mx_host_is_tried_when_the_first_says_not_now_and_not_when_it_says_never() {
    let [first, second] = hosts([
        "rcpt later@* -> 451 4.7.1 not now\nrcpt never@* -> 550 5.1.1 never",
        "",
    ]);
    let dns = DnsServer::start(
        "example.net MX 10 mx1.example.net\nexample.net MX 20 mx2.example.net\n\
         mx1.example.net A 127.0.0.1\nmx2.example.net A 127.0.0.2",
    );
    let mut place = Place::new(&by_mx(&dns, first.port(), ""));
    let all = ["now@example.net", "later@example.net", "never@example.net"];
    place.put("x.eml", message(APP, &all, "three"));
    assert_eq!(place.drain().code, Some(0));
    assert_eq!(who(&first), ["now@example.net"]);
    assert_eq!(who(&second), ["later@example.net"]);
    let report = place.text("Drop", "EML");
    assert!(
        report.contains("never@example.net") && report.contains("550 5.1.1 never"),
        "{report}"
    );
    assert!(
        !second
            .dialogue()
            .iter()
            .any(|(_, l)| l.contains("never@") || l.contains("now@"))
    );
    no_violations(&[&first, &second]);
}

#[test]
fn every_mx_host_is_tried_also_all_of_one_preference() {
    let busy = "connect -> 421 4.3.2 too busy";
    let all = hosts([busy, busy, "mail -> 451 4.3.0 trouble", ""]);
    let mut zone = String::new();
    for n in 1..=4 {
        let preference = if n < 4 { 10 } else { 20 };
        zone.push_str(&format!(
            "example.net MX {preference} mx{n}.example.net\nmx{n}.example.net A 127.0.0.{n}\n"
        ));
    }
    let dns = DnsServer::start(&zone);
    let mut place = Place::new(&by_mx(&dns, all[0].port(), ""));
    place.put("x.eml", message(APP, &["bob@example.net"], "one"));
    assert_eq!(place.drain().code, Some(0));
    assert_eq!(who(&all[3]), ["bob@example.net"]);
    let connections: Vec<u64> = all.iter().map(|h| h.counts().connections).collect();
    assert_eq!(connections, [1, 1, 1, 1]);
}

#[test]
fn smart_hosts_are_tried_in_turn() {
    let host = host("");
    let list = format!(
        "smart_host = \"[127.0.0.1]:{}, [127.0.0.1]:{}\"",
        closed_port(),
        host.port()
    );
    let mut place = Place::new(&format!("{BASE}[delivery]\n{list}\n"));
    place.put("x.eml", message(APP, &["bob@example.net"], "one"));
    assert_eq!(place.drain().code, Some(0));
    assert_eq!(who(&host), ["bob@example.net"]);
}

#[test]
fn after_direct_means_mx_first_and_keeps_the_credentials_for_the_smart_host() {
    let smart = host("offer PIPELINING, AUTH PLAIN\nrequire auth\nuser shop secret-word");
    let direct = host("offer PIPELINING, AUTH PLAIN\nuser shop secret-word");
    let dns = DnsServer::start(
        "good.example MX 10 mx.good.example\nmx.good.example A 127.0.0.1\n\
         dead.example MX 10 mx.dead.example\nmx.dead.example A 127.0.0.9",
    );
    let more = format!(
        "smart_host = \"[127.0.0.1]:{}\"\nsmart_host_mode = \"after_direct\"\nallow_plaintext_auth = true\n\
         auth = {{ user = \"shop\", password_file = \"password\" }}\n",
        smart.port()
    );
    let mut place = Place::new(&by_mx(&dns, direct.port(), &more));
    fs::write(place.root().join("password"), "secret-word\n").unwrap();
    let all = ["a@good.example", "b@dead.example", "c@unknown.example"];
    place.put("x.eml", message(APP, &all, "three"));
    assert_eq!(place.drain().code, Some(0));
    assert_eq!(who(&direct), ["a@good.example"]);
    assert_eq!(who(&smart), ["b@dead.example", "c@unknown.example"]);
    assert!(!direct.dialogue().iter().any(|(_, line)| line.starts_with("AUTH")));
    assert!(
        smart
            .accepted()
            .iter()
            .all(|m| m.auth_user.as_deref() == Some("shop"))
    );
}

#[test]
fn the_most_specific_remote_entry_decides_all_of_its_settings() {
    let usual = host("");
    let [exact, wild, deep] = [
        host(""),
        host("helo only"),
        host("offer AUTH LOGIN\nrequire auth\nuser deep word"),
    ];
    let mut settings = to_smart_host(usual.port(), "allow_plaintext_auth = true\n");
    for (name, host, more) in [
        ("*.example.org", &wild, "helo = true"),
        ("www.example.org", &exact, ""),
        (
            "*.deep.example.org",
            &deep,
            "auth = { user = \"deep\", password_file = \"password\" }\ntls = \"off\"",
        ),
    ] {
        settings.push_str(&format!(
            "\n[[remote]]\nname = \"{name}\"\nsmart_host = \"[127.0.0.1]:{}\"\n{more}\n",
            host.port()
        ));
    }
    let mut place = Place::new(&settings);
    fs::write(place.root().join("password"), "word").unwrap();
    let all = [
        "a@example.org",
        "b@www.example.org",
        "c@other.example.org",
        "d@DEEP.example.org",
        "e@x.y.deep.example.org",
    ];
    place.put("x.eml", message(APP, &all, "five"));
    let done = place.drain();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(who(&usual), ["a@example.org"]);
    assert_eq!(who(&exact), ["b@www.example.org"]);
    assert_eq!(who(&wild), ["c@other.example.org", "d@DEEP.example.org"]);
    assert_eq!(who(&deep), ["e@x.y.deep.example.org"]);
    assert!(wild.dialogue()[0].1.starts_with("HELO "));
    assert_eq!(deep.accepted()[0].auth_user.as_deref(), Some("deep"));
}

#[test]
fn a_remote_entry_can_have_a_port_of_its_own_by_mx() {
    let [usual, own] = [host(""), host("")];
    let dns = DnsServer::start("a.example A 127.0.0.1\nb.example A 127.0.0.1");
    let more = format!(
        "\n[[remote]]\nname = \"b.example\"\nroute = \"mx\"\nport = {}\n",
        own.port()
    );
    let mut place = Place::new(&by_mx(&dns, usual.port(), &more));
    place.put(
        "x.eml",
        message(APP, &["x@a.example", "y@b.example", "z@[127.0.0.1]"], "three"),
    );
    assert_eq!(place.drain().code, Some(0));
    assert_eq!(who(&usual), ["x@a.example", "z@[127.0.0.1]"]);
    assert_eq!(who(&own), ["y@b.example"]);
}

#[test]
fn masquerade_changes_a_local_envelope_sender_and_nothing_else() {
    let host = host("");
    let mut place = Place::new(&to_smart_host(
        host.port(),
        "masquerade_domain = \"brand.example\"",
    ));
    place.put("local.eml", message(APP, &["bob@example.net"], "local"));
    place.put(
        "foreign.eml",
        message("eve@other.example", &["bob@example.net"], "foreign"),
    );
    place.put("null.eml", message("", &["bob@example.net"], "null"));
    assert_eq!(place.drain().code, Some(0));
    let mut senders: Vec<String> = host.accepted().iter().map(|m| m.sender.clone()).collect();
    senders.sort();
    assert_eq!(senders, ["", "app@brand.example", "eve@other.example"]);
    for message in host.accepted() {
        let text = String::from_utf8(message.content.clone()).unwrap();
        assert!(!text.contains("brand.example"), "{text}");
    }
}

#[test]
fn a_loop_to_ourselves_is_reported_by_greeting_and_by_mx_list() {
    let host = host("name mail.example.test");
    let dns = DnsServer::start(
        "greets.example MX 10 mx.greets.example\nmx.greets.example A 127.0.0.1\n\
         lists.example MX 10 mail.example.test\nlists.example MX 20 mx.greets.example\n\
         mail.example.test A 127.0.0.1",
    );
    let mut place = Place::new(&by_mx(&dns, host.port(), ""));
    place.put(
        "x.eml",
        message(APP, &["a@greets.example", "b@lists.example"], "loop"),
    );
    assert_eq!(place.drain().code, Some(0));
    let report = place.text("Drop", "EML");
    for recipient in ["rfc822;a@greets.example", "rfc822;b@lists.example"] {
        assert!(report.replace("; ", ";").contains(recipient), "{report}");
    }
    assert_eq!(report.matches("Status: 5.4.6").count(), 2, "{report}");
    assert_eq!(host.counts().messages, 0);
}

#[test]
fn an_international_domain_goes_out_as_a_labels() {
    for offers in ["offer PIPELINING, 8BITMIME, SMTPUTF8", "offer 8BITMIME"] {
        let host = host(offers);
        let dns = DnsServer::start("xn--bcher-kva.example MX 10 mx.example\nmx.example A 127.0.0.1");
        let mut place = Place::new(&by_mx(&dns, host.port(), ""));
        place.put("x.eml", message(APP, &["bob@bücher.example"], "idn"));
        let done = place.drain();
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let accepted = host.accepted();
        assert_eq!(
            accepted.len(),
            1,
            "{offers}: {}\n{}",
            place.log(),
            place.text("Drop", "EML")
        );
        assert_eq!(who(&host), ["bob@xn--bcher-kva.example"]);
        no_violations(&[&host]);
    }
}

#[test]
fn smtputf8_is_used_where_it_is_needed_and_offered_and_else_the_sender_is_told() {
    for (offers, arrives) in [
        ("offer PIPELINING, 8BITMIME, SMTPUTF8", true),
        ("offer 8BITMIME", false),
    ] {
        let host = host(offers);
        let mut place = Place::new(&to_smart_host(host.port(), ""));
        place.put(
            "x.eml",
            message(APP, &["jörg@example.net", "bob@example.net"], "utf8"),
        );
        assert_eq!(place.drain().code, Some(0));
        if arrives {
            assert_eq!(who(&host), ["bob@example.net", "jörg@example.net"]);
            let parameters = &host.accepted()[0].sender_parameters;
            assert!(parameters.contains("SMTPUTF8"), "{parameters}");
        } else {
            assert_eq!(who(&host), ["bob@example.net"]);
            let report = place.text("Drop", "EML");
            assert!(report.contains("5.6.7"), "{report}");
        }
        no_violations(&[&host]);
    }
}

#[test]
fn a_message_beyond_the_size_that_a_host_offers_is_not_sent_to_it() {
    let host = host("offer PIPELINING, SIZE 2000");
    let mut place = Place::new(&to_smart_host(host.port(), ""));
    let long = "0123456789 ".repeat(500);
    place.put("x.eml", message(APP, &["bob@example.net"], "large") + &long);
    place.put("y.eml", message(APP, &["carol@example.net"], "small"));
    assert_eq!(place.drain().code, Some(0));
    assert_eq!(who(&host), ["carol@example.net"]);
    assert!(
        !host.dialogue().iter().any(|(_, l)| l.contains("bob@")),
        "{:?}",
        host.dialogue()
    );
    let report = place.text("Drop", "EML");
    assert!(
        report.contains("Status: 5.3.4") && report.contains("2000"),
        "{report}"
    );
}

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

#[test]
fn a_dead_destination_does_not_delay_a_good_one() {
    const STALL: Duration = Duration::from_secs(20);
    let [good, dead] = hosts(["", "stall after connect 20s"]);
    let dns = DnsServer::start("good.example A 127.0.0.1\ndead.example A 127.0.0.2");
    let mut place = Place::new(&by_mx(
        &dns,
        good.port(),
        "timeout = \"20s\"\nmax_connections = 30\n",
    ));
    for n in 0..60 {
        place.put(
            format!("dead-{n}"),
            message(APP, &["bob@dead.example"], &format!("d{n}")),
        );
    }
    place.start();
    place.wait("the dead one is tried", || dead.counts().connections > 0);
    let begun = Instant::now();
    for n in 0..20 {
        let both = message(APP, &["bob@good.example"], &format!("g{n}"));
        place.put(format!("good-{n}"), both);
    }
    place.wait("the good ones arrive", || good.counts().messages == 20);
    assert!(begun.elapsed() < STALL, "{:?}", begun.elapsed());
    assert_eq!(dead.counts().messages, 0);
    assert!(dead.counts().connections <= 20, "{:?}", dead.counts());
    drop(dead); // ends the pauses
    place.stop();
}

#[test]
fn what_waits_for_an_unreachable_destination_is_deferred_together() {
    let host = host("connect -> 421 4.3.2 closed for today");
    let mut place = Place::new(&to_smart_host(host.port(), ""));
    for n in 0..50 {
        place.put(
            format!("{n}"),
            message(APP, &["bob@example.net"], &format!("m{n}")),
        );
    }
    assert_eq!(place.drain().code, Some(75));
    assert_eq!(place.files("Queue", "ENV").len(), 50);
    assert_eq!(place.files("Queue", "EML").len(), 50);
    let connections = host.counts().connections;
    assert!(
        connections <= 8,
        "{connections} connections for 50 messages to a host that refuses"
    );

    // and when it is back, all of it goes
    host.follow(Script::new());
    place.settings(&to_smart_host(host.port(), "retry = [\"100ms\"]"));
    for file in place.files("Queue", "EML") {
        let later = std::time::SystemTime::now() + Duration::from_secs(60); // as `touch` in a minute
        fs::File::options()
            .write(true)
            .open(file)
            .unwrap()
            .set_modified(later)
            .unwrap();
    }
    assert_eq!(place.drain().code, Some(0), "{}", place.log());
    assert_eq!(host.counts().messages, 50);
    assert!(place.is_empty());
}

#[test]
fn many_that_never_answer_leave_room_for_those_that_do() {
    const DEAD: u8 = 40;
    let good = host("");
    // It is spoken to, and never speaks: the system accepts for it, on every address of loopback.
    let silent = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let dns = DnsServer::start("nobody.example A 127.0.0.1");
    let delivery = "timeout = \"40s\"\nconnect_timeout = \"40s\"\nmax_connections = 8\n";
    let remote = format!(
        "[[remote]]\nname = \"good.example\"\nroute = \"smart_host\"\nsmart_host = \"[127.0.0.1]:{}\"\n",
        good.port()
    );
    let settings = by_mx(
        &dns,
        silent.local_addr().unwrap().port(),
        &format!("{delivery}\n{remote}"),
    );
    let mut place = Place::new(&settings);
    place.put("first", message(APP, &["bob@good.example"], "first"));
    place.start();
    place.wait("the good one is reached, and left again", || {
        good.counts().messages == 1 && place.log().contains("delivered") && good.counts().open == 0
    });
    let to: Vec<String> = (1..=DEAD).map(|n| format!("x@[127.1.0.{n}]")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    place.put("dead", message(APP, &to, "dead"));
    let mut held = Vec::new();
    silent.set_nonblocking(true).unwrap();
    place.wait("the dead ones have all the sessions that they get", || {
        held.extend(silent.accept().ok());
        held.len() == 4
    });
    std::thread::sleep(Duration::from_millis(500)); // time to take more, if they could
    let begun = Instant::now();
    for n in 0..10 {
        place.put(
            format!("good-{n}"),
            message(APP, &["bob@good.example"], &format!("g{n}")),
        );
    }
    place.wait("the good ones arrive", || good.counts().messages == 11);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    held.extend(std::iter::from_fn(|| silent.accept().ok()));
    assert_eq!(held.len(), 4, "sessions of those that were never reached");
    drop((held, silent)); // what waits for them ends
    place.stop();
}

/// How many messages of Queue are in a hand, and how many wait.
fn taken_and_waiting(place: &Place) -> (usize, usize) {
    let files = place.files("Queue", "EML");
    let taken = files.iter().filter(|file| file.to_string_lossy().contains('@'));
    let taken = taken.count();
    (taken, files.len() - taken)
}

#[test]
fn more_mail_than_fits_for_hosts_that_never_answer_leaves_room_for_other_mail() {
    const DEAD: usize = 40;
    const EACH: usize = 30;
    let good = host("");
    let silent = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let dns = DnsServer::start("nobody.example A 127.0.0.1");
    let remote = format!(
        "[[remote]]\nname = \"good.example\"\nroute = \"smart_host\"\nsmart_host = \"[127.0.0.1]:{}\"\n",
        good.port()
    );
    let port = silent.local_addr().unwrap().port();
    let mut place = Place::new(&by_mx(
        &dns,
        port,
        &format!("timeout = \"5m\"\nconnect_timeout = \"5m\"\n\n{remote}"),
    ));
    for n in 0..DEAD * EACH {
        let to = format!("x@[127.1.0.{}]", n % DEAD + 1);
        place.put(format!("dead-{n}.eml"), message(APP, &[&to], &format!("d{n}")));
    }
    place.start();
    place.wait("as many are in hand as may be", || {
        taken_and_waiting(&place).0 > 500
    });
    for n in 0..50 {
        let text = message(APP, &["bob@good.example"], &format!("g{n}"));
        place.put(format!("good-{n}"), text);
    }
    place.wait("the good ones arrive", || good.counts().messages == 50);
    let (taken, waiting) = taken_and_waiting(&place);
    let outside = place.files("Pickup", "eml").len();
    assert!(
        outside > 400 && taken < 700,
        "{outside} wait in Pickup, {taken} are in hand"
    );
    assert_eq!(taken + waiting + outside, DEAD * EACH);
    drop(silent); // what waits for them ends
    place.stop();
}

/// A host that opens the conversation late, and so many files for it.
fn more_than_fits_for_a_slow_host(all: usize) -> (Host, Place) {
    let slow = host("connect -> stall 3s then accept");
    let place = Place::new(&to_smart_host(slow.port(), ""));
    for n in 0..all {
        place.put(
            format!("{n}.eml"),
            message(APP, &["bob@example.net"], &format!("m{n}")),
        );
    }
    (slow, place)
}

/// The same, and all of them lie in Queue: it was not there when they came.
fn more_than_fits_waits_for_a_slow_host(all: usize) -> (Host, Place) {
    let (slow, mut place) = more_than_fits_for_a_slow_host(all);
    slow.follow(script("connect -> 421 4.3.2 closed for today"));
    place.settings(&to_smart_host(slow.port(), "retry = [\"100ms\"]"));
    assert_eq!(place.drain().code, Some(75));
    assert_eq!(taken_and_waiting(&place), (0, all));
    std::thread::sleep(Duration::from_millis(200)); // all are due
    slow.follow(script("connect -> stall 3s then accept"));
    (slow, place)
}

#[test]
fn what_would_only_wait_for_a_slow_host_stays_in_pickup_and_goes_when_that_begins_to_speak() {
    const ALL: usize = 1500;
    let (slow, mut place) = more_than_fits_for_a_slow_host(ALL);
    place.start();
    place.wait("as many are in hand as may be", || {
        taken_and_waiting(&place).0 > 500
    });
    let begun = Instant::now();
    assert!(place.files("Pickup", "eml").len() > ALL / 2);
    place.wait_until_empty();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let arrived = arrivals(&slow);
    assert_eq!(arrived.len(), ALL);
    assert!(arrived.values().all(|n| *n == 1), "{arrived:?}");
    place.stop();
}

#[test]
fn what_was_put_off_goes_when_its_host_begins_to_speak() {
    const ALL: usize = 1500;
    let (slow, mut place) = more_than_fits_waits_for_a_slow_host(ALL);
    place.start();
    place.wait("it leaves room for others", || {
        taken_and_waiting(&place).1 > ALL / 2
    });
    let begun = Instant::now();
    place.wait_until_empty();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let arrived = arrivals(&slow);
    assert_eq!(arrived.len(), ALL);
    assert!(arrived.values().all(|n| *n == 1), "{arrived:?}");
    place.stop();
}

#[test]
fn a_drain_waits_for_what_stays_in_pickup_and_for_what_was_put_off() {
    const ALL: usize = 1500;
    for lay in [
        more_than_fits_for_a_slow_host,
        more_than_fits_waits_for_a_slow_host,
    ] {
        let (slow, mut place) = lay(ALL);
        assert_eq!(place.drain().code, Some(0), "{}", place.log());
        assert_eq!(slow.counts().messages as usize, ALL);
        assert!(place.is_empty());
    }
}

#[test]
fn a_stop_waits_for_no_greeting_and_counts_no_attempt() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut place = Place::new(&to_smart_host(silent.local_addr().unwrap().port(), ""));
    place.put("x", message(APP, &["bob@example.net"], "x"));
    place.start();
    let _held = silent.accept().unwrap();
    let begun = Instant::now();
    place.stop();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(taken_and_waiting(&place), (0, 1));
    assert!(place.files("Queue", "ENV").is_empty(), "{}", place.log());
}

#[test]
fn one_connection_is_shared_by_turns() {
    let busy = host("end -> stall 200ms then accept");
    let other = host("");
    let settings = format!(
        "{}[[remote]]\nname = \"other.example\"\nroute = \"smart_host\"\nsmart_host = \"[127.0.0.1]:{}\"\n",
        to_smart_host(busy.port(), "max_connections = 1\n"),
        other.port()
    );
    let mut place = Place::new(&settings);
    for n in 0..100 {
        place.put(
            format!("busy-{n}"),
            message(APP, &["bob@busy.example"], &format!("b{n}")),
        );
    }
    place.start();
    place.wait("the busy one is served", || busy.counts().messages > 0);
    place.put("other", message(APP, &["bob@other.example"], "other"));
    place.wait("the other one is served", || other.counts().messages == 1);
    let before = busy.counts().messages;
    assert!(before < 60, "it waited for {before} of 100 messages");
    place.wait("the busy one goes on", || busy.counts().messages > before + 3);
    place.stop();
}

#[test]
fn several_under_way_end_each_as_the_host_says() {
    const GOOD: usize = 40;
    for offers in ["", "offer PIPELINING, 8BITMIME, ENHANCEDSTATUSCODES\n"] {
        let host = host(&format!(
            "{offers}mail over 7 -> 421 4.7.0 enough for one connection\nrcpt no@* -> 550 5.1.1 nobody\n"
        ));
        let mut place = Place::new(&to_smart_host(host.port(), "max_connections = 1\n"));
        for n in 0..GOOD {
            place.put(
                format!("good-{n}"),
                message(APP, &["bob@example.net"], &format!("g{n}")),
            );
            if n % 5 == 0 {
                place.put(
                    format!("bad-{n}"),
                    message("", &["no@example.net"], &format!("b{n}")),
                );
            }
        }
        let began = Instant::now();
        assert_eq!(place.drain().code, Some(65), "{}", place.log());
        let arrived = arrivals(&host);
        assert_eq!(arrived.len(), GOOD, "{arrived:?}");
        assert!(arrived.values().all(|n| *n == 1), "{arrived:?}");
        assert_eq!(place.files("Badmail", "BAD").len(), GOOD / 5);
        assert!(place.is_empty(), "{}", place.log());
        // What a 421 left untouched was not put off to a later attempt.
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    }
}

#[test]
fn what_needs_a_record_is_settled_when_nothing_is_under_way_with_it() {
    let host = host("connect -> stall 500ms then accept\nrcpt no@* -> 550 5.1.1 nobody\n");
    let mut place = Place::new(&to_smart_host(host.port(), "max_connections = 1\n"));
    for n in 0..9 {
        let to = if n == 4 {
            "no@example.net"
        } else {
            "bob@example.net"
        };
        place.put(format!("m{n}"), message("", &[to], &format!("m{n}")));
    }
    assert_eq!(place.drain().code, Some(65), "{}", place.log());
    let log = place.log();
    let settled: Vec<&str> = log
        .lines()
        .filter_map(|line| {
            let is_one = |word: &&&str| line.contains(&format!(" {word} "));
            ["delivered", "failed"].iter().find(is_one).copied()
        })
        .collect();
    // All stand in line when the host greets; after the first three the window has room for the rest.
    assert_eq!(settled.len(), 9, "{log}");
    assert_eq!(settled.last(), Some(&"failed"), "{log}");
}
