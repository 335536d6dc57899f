use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;

use super::*;
use crate::config::TlsMode;
use crate::dns::testserver::{Act, Line, ZoneServer, record, responder};

const OWN: &str = "Mail.Our.Example";

const ZONE: &[Line<'_>] = &[
    ("example.net", "MX 20 mx2.example.net"),
    ("example.net", "MX 10 mx1.example.net"),
    ("mx1.example.net", "A 192.0.2.1"),
    ("mx1.example.net", "AAAA 2001:db8::1"),
    ("mx2.example.net", "A 192.0.2.2"),
    ("equal.example", "MX 10 mx1.example.net"),
    ("equal.example", "MX 10 mx2.example.net"),
    ("bare.example", "A 192.0.2.3"),
    ("null.example", "MX 0 ."),
    ("nullish.example", "MX 0 ."),
    ("nullish.example", "MX 10 mx2.example.net"),
    ("nothing.example", "MX 10 absent.example.net"),
    ("nothing.example", "MX 20 example.net"),
    ("some.example", "MX 10 absent.example.net"),
    ("some.example", "MX 20 mx2.example.net"),
    ("numbers.example", "MX 10 192.0.2.9"),
    ("ours.example", "MX 10 mx2.example.net"),
    ("ours.example", "MX 20 mail.our.example"),
    ("ours.example", "MX 30 mx1.example.net"),
    ("loop.example", "MX 10 mail.our.example"),
    ("mail.our.example", "A 192.0.2.200"),
    ("alias.example", "CNAME example.net"),
    ("xn--bcher-kva.example", "MX 10 mx2.example.net"),
    ("odd.example", "A 0.0.0.0"),
    ("empty.example", "MX 10 odd.example"),
    ("wide.example", "MX 5 wide1.example"),
    ("wide.example", "MX 10 mx2.example.net"),
    ("hub.example", "A 192.0.2.10"),
    ("hub.example", "AAAA 2001:db8::10"),
];

fn to(hop: NextHop) -> Destination {
    Destination {
        key: String::new(),
        hop,
        port: 25,
        tls: TlsMode::Opportunistic,
        implicit_tls: false,
        helo_only: false,
        auth: None,
        hold: false,
        door: None,
        rule: String::new(),
    }
}

fn mx(domain: &str) -> Destination {
    to(NextHop::Mx(domain.to_owned()))
}

fn named(name: &str, port: Option<u16>) -> HostPort {
    HostPort {
        host: Host::Name(name.to_owned()),
        port,
    }
}

fn numbered(ip: &str, port: Option<u16>) -> HostPort {
    HostPort {
        host: Host::Ip(ip.parse().unwrap()),
        port,
    }
}

/// `name=address` of each host.
fn shown(list: &[HostAddress]) -> Vec<String> {
    list.iter()
        .map(|host| format!("{}={}", host.name, host.address))
        .collect()
}

fn found(dest: &Destination, dns: &Dns) -> Vec<String> {
    shown(&hosts(dest, dns, OWN).unwrap().list)
}

fn refused(dest: &Destination, dns: &Dns) -> (Verdict, String, String) {
    let (outcome, notes) = hosts(dest, dns, OWN).unwrap_err();
    assert!(!notes.is_empty());
    (outcome.verdict, outcome.status.to_string(), outcome.text)
}

#[test]
fn mx_hosts_in_order_with_their_addresses() {
    let server = ZoneServer::start(ZONE);
    let dns = Dns::new(&[server.address]);
    let order = [
        "mx1.example.net=192.0.2.1:25",
        "mx1.example.net=[2001:db8::1]:25",
        "mx2.example.net=192.0.2.2:25",
    ];
    assert_eq!(found(&mx("example.net"), &dns), order);
    assert_eq!(found(&mx("alias.example"), &dns), order);
    assert_eq!(found(&mx("xn--bcher-kva.example"), &dns), order[2..]);
    assert_eq!(found(&mx("nullish.example"), &dns), order[2..]);
    assert_eq!(found(&mx("some.example"), &dns), order[2..]);
    assert_eq!(found(&mx("ours.example"), &dns), order[2..]);
    assert_eq!(found(&mx("bare.example"), &dns), ["bare.example=192.0.2.3:25"]);

    let answer = hosts(&mx("some.example"), &dns, OWN).unwrap();
    assert_eq!(
        answer.notes,
        [
            "MX of some.example: 10 absent.example.net, 20 mx2.example.net",
            "address of absent.example.net: no such domain; left out",
            "address of mx2.example.net: 192.0.2.2",
        ]
    );
    assert!(answer.list.iter().all(|host| host.from_mx));
}

#[test]
fn equal_preference_takes_turns() {
    let server = ZoneServer::start(ZONE);
    let dns = Dns::new(&[server.address]);
    let firsts: HashSet<_> = (0..64)
        .map(|_| found(&mx("equal.example"), &dns).remove(0))
        .collect();
    assert_eq!(firsts.len(), 2, "{firsts:?}");
}

#[test]
fn what_is_certain_fails_and_says_why() {
    let server = ZoneServer::start(ZONE);
    let dns = Dns::new(&[server.address]);
    for (domain, status, words) in [
        ("nowhere.example", "5.1.2", "does not exist"),
        ("null.example", "5.1.10", "accepts no mail"),
        ("nothing.example", "5.4.4", "has an address"),
        ("empty.example", "5.4.4", "has an address"),
        ("numbers.example", "5.4.4", "names a host"),
        ("loop.example", "5.4.6", "loops back"),
        ("mail.our.example", "5.4.6", "loops back"),
    ] {
        let (verdict, shown, text) = refused(&mx(domain), &dns);
        assert_eq!(
            (verdict, shown.as_str()),
            (Verdict::Failed, status),
            "{domain}: {text}"
        );
        assert!(text.contains(words) && text.contains(domain), "{text}");
    }
    let (_, notes) = hosts(&mx("empty.example"), &dns, OWN).unwrap_err();
    assert!(
        notes
            .iter()
            .any(|note| note.starts_with("0.0.0.0 of odd.example: left out")),
        "{notes:?}"
    );
}

#[test]
fn what_the_dns_cannot_say_now_is_deferred() {
    let address = responder(|name, kind| match (name, kind) {
        ("half.example", RecordType::MX) => Act::Answer(vec![
            record(&("half.example", "MX 10 broken.example")),
            record(&("half.example", "MX 20 good.example")),
        ]),
        ("doubt.example", RecordType::MX) => Act::Answer(vec![
            record(&("doubt.example", "MX 10 broken.example")),
            record(&("doubt.example", "MX 20 absent.example")),
        ]),
        ("good.example", RecordType::A) => Act::Answer(vec![record(&("good.example", "A 192.0.2.1"))]),
        ("good.example", _) => Act::Answer(Vec::new()),
        ("absent.example", _) => Act::Refuse(ResponseCode::NXDomain),
        _ => Act::Refuse(ResponseCode::ServFail),
    });
    let dns = Dns::new(&[address]);
    let (verdict, status, text) = refused(&mx("servfail.example"), &dns);
    assert_eq!((verdict, status.as_str()), (Verdict::Deferred, "4.4.3"));
    assert!(text.contains("MX of servfail.example: "), "{text}");
    assert_eq!(found(&mx("half.example"), &dns), ["good.example=192.0.2.1:25"]);
    let (verdict, status, text) = refused(&mx("doubt.example"), &dns);
    assert_eq!((verdict, status.as_str()), (Verdict::Deferred, "4.4.3"));
    assert!(text.contains("of broken.example: "), "{text}");

    let hub = to(NextHop::SmartHosts(vec![named("broken.example", None)]));
    let (verdict, status, _) = refused(&hub, &dns);
    assert_eq!((verdict, status.as_str()), (Verdict::Deferred, "4.4.3"));
}

#[test]
fn smart_hosts_in_order_with_their_ports_and_no_mx() {
    let server = ZoneServer::start(ZONE);
    let dns = Dns::new(&[server.address]);
    let list = vec![
        named("hub.example", Some(587)),
        numbered("192.0.2.11", None),
        named("absent.example", None),
        numbered("2001:db8::11", Some(2525)),
        named("mx2.example.net", None),
    ];
    let answer = hosts(&to(NextHop::SmartHosts(list)), &dns, OWN).unwrap();
    assert_eq!(
        shown(&answer.list),
        [
            "hub.example=192.0.2.10:587",
            "hub.example=[2001:db8::10]:587",
            "192.0.2.11=192.0.2.11:25",
            "2001:db8::11=[2001:db8::11]:2525",
            "mx2.example.net=192.0.2.2:25",
        ]
    );
    assert!(answer.list.iter().all(|host| !host.from_mx));
    // a name with MX records and no address is no smart host, and never a reason to return mail
    for name in ["example.net", "absent.example"] {
        let (verdict, status, text) = refused(&to(NextHop::SmartHosts(vec![named(name, None)])), &dns);
        assert_eq!((verdict, status.as_str()), (Verdict::Deferred, "4.4.4"), "{text}");
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn literals_ask_nobody() {
    let asked = Arc::new(AtomicBool::new(false));
    let seen = asked.clone();
    let address = responder(move |_, _| {
        seen.store(true, Ordering::Relaxed);
        Act::Silence
    });
    let nobody = Dns::new(&[address]);
    let literal = to(NextHop::Literal("2001:db8::5".parse().unwrap()));
    assert_eq!(found(&literal, &nobody), ["2001:db8::5=[2001:db8::5]:25"]);
    let list = to(NextHop::SmartHosts(vec![numbered("127.0.0.1", Some(2525))]));
    assert_eq!(found(&list, &nobody), ["127.0.0.1=127.0.0.1:2525"]);
    let both = to(NextHop::MxThenSmartHosts(
        "[IPv6:2001:db8::5]".to_owned(),
        vec![numbered("127.0.0.1", None)],
    ));
    assert_eq!(
        found(&both, &nobody),
        ["2001:db8::5=[2001:db8::5]:25", "127.0.0.1=127.0.0.1:25"]
    );
    assert!(!asked.load(Ordering::Relaxed));
}

#[test]
fn after_direct_the_smart_host_follows_and_helps_out() {
    let server = ZoneServer::start(ZONE);
    let dns = Dns::new(&[server.address]);
    let then = |domain: &str| {
        to(NextHop::MxThenSmartHosts(
            domain.to_owned(),
            vec![named("hub.example", None)],
        ))
    };
    let hub = ["hub.example=192.0.2.10:25", "hub.example=[2001:db8::10]:25"];

    let answer = hosts(&then("bare.example"), &dns, OWN).unwrap();
    assert_eq!(shown(&answer.list)[0], "bare.example=192.0.2.3:25");
    assert_eq!(shown(&answer.list)[1..], hub);
    assert_eq!(
        answer.list.iter().map(|host| host.from_mx).collect::<Vec<_>>(),
        [true, false, false]
    );

    for domain in ["nowhere.example", "nothing.example", "numbers.example"] {
        assert_eq!(found(&then(domain), &dns), hub, "{domain}");
    }
    for (domain, status) in [("null.example", "5.1.10"), ("loop.example", "5.4.6")] {
        let (verdict, shown, _) = refused(&then(domain), &dns);
        assert_eq!((verdict, shown.as_str()), (Verdict::Failed, status), "{domain}");
    }

    let lame = to(NextHop::MxThenSmartHosts(
        "bare.example".to_owned(),
        vec![named("absent.example", None)],
    ));
    assert_eq!(found(&lame, &dns), ["bare.example=192.0.2.3:25"]);
    let (verdict, status, _) = refused(
        &to(NextHop::MxThenSmartHosts(
            "nowhere.example".to_owned(),
            vec![named("absent.example", None)],
        )),
        &dns,
    );
    assert_eq!((verdict, status.as_str()), (Verdict::Deferred, "4.4.4"));

    let broken = responder(|name, kind| match (name, kind) {
        ("hub.example", RecordType::A) => Act::Answer(vec![record(&("hub.example", "A 192.0.2.10"))]),
        _ => Act::Refuse(ResponseCode::ServFail),
    });
    assert_eq!(found(&then("bare.example"), &Dns::new(&[broken])), hub[..1]);
}

#[test]
fn an_attempt_is_bounded_and_leaves_room_for_the_smart_host() {
    let names: Vec<_> = (0..30).map(|i| format!("MX 10 h{i}.many.example")).collect();
    let mut lines: Vec<Line<'_>> = names.iter().map(|text| ("many.example", text.as_str())).collect();
    let addresses: Vec<_> = (0..30 * 5)
        .map(|i| (format!("h{}.many.example", i % 30), format!("A 10.0.0.{i}")))
        .collect();
    lines.extend(
        addresses
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str())),
    );
    let crowd: Vec<_> = (0..100).map(|i| format!("A 10.0.1.{i}")).collect();
    lines.extend(crowd.iter().map(|text| ("wide1.example", text.as_str())));
    lines.extend(ZONE);
    let server = ZoneServer::start(&lines);
    let dns = Dns::new(&[server.address]);

    let many = hosts(&mx("many.example"), &dns, OWN).unwrap();
    assert_eq!(many.list.len(), MAX_ADDRESSES);
    assert!(
        many.notes.iter().any(|note| note.contains("only the first 20")),
        "{:?}",
        many.notes
    );
    assert!(many.notes.iter().all(|note| note.len() < 1000));

    let wide = found(&mx("wide.example"), &dns);
    assert_eq!(wide.len(), MAX_PER_HOST + 1, "one host does not hide the next");
    assert_eq!(wide[MAX_PER_HOST], "mx2.example.net=192.0.2.2:25");

    let then = to(NextHop::MxThenSmartHosts(
        "many.example".to_owned(),
        vec![named("hub.example", None)],
    ));
    let both = hosts(&then, &dns, OWN).unwrap().list;
    assert_eq!(both.iter().filter(|host| !host.from_mx).count(), 2);
}
