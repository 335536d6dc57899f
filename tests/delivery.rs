//! Routes and connections as hosts see them (contract §5): what no scenario shows.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::collections::BTreeMap;
use std::fs;

use support::dns::DnsServer;
use support::hosts::{APP, by_mx, closed_port, host, hosts, no_violations, recipients, who};
use support::place::{BASE, Place, message, to_smart_host};

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
