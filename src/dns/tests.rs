use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;

use super::system::{Source, System};
use super::testserver::{Act, ZoneServer, record, responder};
use super::{Dns, DnsFailure, Pace, Reverse};

/// Long enough for a server on this machine while it is busy with other things.
const FAST: Pace = Pace {
    timeout: Duration::from_secs(1),
    tries: 2,
    patience: Duration::from_secs(30),
};

fn temporary<T: std::fmt::Debug>(answer: Result<T, DnsFailure>) -> String {
    match answer {
        Err(DnsFailure::Temporary(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn mx_and_addresses_of_a_real_server() {
    let server = ZoneServer::start(&[
        ("example.net", "MX 10 MX1.example.net"),
        ("example.net", "MX 20 mx_2.example.net"),
        ("mx1.example.net", "AAAA 2001:db8::1"),
        ("mx1.example.net", "A 192.0.2.1"),
        ("mx_2.example.net", "A 192.0.2.2"),
        ("null.example", "MX 0 ."),
        ("alias.example", "CNAME example.net"),
        ("www.example", "CNAME mx1.example.net"),
        ("bare.example", "A 192.0.2.3"),
        ("xn--bcher-kva.example", "MX 5 mx1.example.net"),
    ]);
    let dns = Dns::new(&[server.address]);
    let both = vec![
        (10, "mx1.example.net".to_owned()),
        (20, "mx_2.example.net".to_owned()),
    ];
    let sorted = |domain| {
        dns.mx(domain).map(|mut list| {
            list.sort();
            list
        })
    };
    assert_eq!(sorted("example.net"), Ok(both.clone()));
    assert_eq!(sorted("alias.example"), Ok(both));
    assert_eq!(sorted("null.example"), Ok(vec![(0, ".".to_owned())]));
    assert_eq!(sorted("xn--bcher-kva.example").unwrap().len(), 1);
    assert_eq!(sorted("bare.example"), Err(DnsFailure::NoRecords));
    assert_eq!(sorted("nowhere.example"), Err(DnsFailure::NoSuchDomain));
    assert_eq!(sorted(&"a".repeat(70)), Err(DnsFailure::NoSuchDomain));

    let two = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    assert_eq!(dns.addresses("mx1.example.net"), Ok(two.to_vec()), "IPv4 first");
    assert_eq!(dns.addresses("www.example"), Ok(two.to_vec()), "through a CNAME");
    assert_eq!(dns.addresses("example.net"), Err(DnsFailure::NoRecords));
    assert_eq!(dns.addresses("nowhere.example"), Err(DnsFailure::NoSuchDomain));
    let many = dns.addresses_of(&["mx_2.example.net", "nowhere.example", "mx1.example.net"]);
    assert_eq!(many[0], Ok(vec!["192.0.2.2".parse().unwrap()]));
    assert_eq!(many[1], Err(DnsFailure::NoSuchDomain));
    assert_eq!(many[2], Ok(two.to_vec()));
    assert!(dns.addresses_of(&[]).is_empty());
}

#[test]
fn the_name_of_an_address_counts_when_it_leads_back() {
    let server = ZoneServer::start(&[
        ("1.2.0.192.in-addr.arpa", "PTR Mail.example.net"),
        ("1.2.0.192.in-addr.arpa", "PTR other.example.net"),
        ("2.2.0.192.in-addr.arpa", "PTR mail.example.net"),
        ("3.2.0.192.in-addr.arpa", "PTR nowhere.example"),
        ("mail.example.net", "A 192.0.2.1"),
        (
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
            "PTR six.example.net",
        ),
        ("six.example.net", "AAAA 2001:db8::1"),
    ]);
    let dns = Dns::new(&[server.address]);
    let reverse = |address: &str| dns.reverse(address.parse().unwrap(), FAST.patience);
    let confirmed = |name: &str| Reverse::Confirmed(vec![name.to_owned()]);
    assert_eq!(reverse("192.0.2.1"), confirmed("mail.example.net"));
    assert_eq!(reverse("::ffff:192.0.2.1"), confirmed("mail.example.net"));
    assert_eq!(reverse("2001:db8::1"), confirmed("six.example.net"));
    assert_eq!(reverse("192.0.2.2"), Reverse::Unconfirmed);
    assert_eq!(reverse("192.0.2.3"), Reverse::Unconfirmed);
    assert_eq!(reverse("192.0.2.4"), Reverse::Nameless);
}

#[test]
fn a_name_that_cannot_be_asked_for_is_not_known() {
    let address = responder(|name, kind| match (name, kind) {
        ("1.2.0.192.in-addr.arpa", RecordType::PTR) => {
            Act::Answer(vec![record(&("1.2.0.192.in-addr.arpa", "PTR mail.example.net"))])
        }
        ("9.2.0.192.in-addr.arpa", _) => Act::Silence,
        _ => Act::Refuse(ResponseCode::ServFail),
    });
    let dns = Dns::with(&[address], FAST, System::this());
    let failed = |address: &str, within| match dns.reverse(address.parse().unwrap(), within) {
        Reverse::Failed(why) => why,
        other => panic!("{other:?}"),
    };
    assert!(failed("192.0.2.1", FAST.patience).contains("mail.example.net"));
    assert!(failed("192.0.2.2", FAST.patience).starts_with("name of 192.0.2.2: "));
    let began = Instant::now();
    let why = failed("192.0.2.9", Duration::from_millis(300));
    assert_eq!(why, "name of 192.0.2.9: no answer in time");
    assert!(began.elapsed() < FAST.timeout);
}

#[test]
fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let names: Vec<_> = (0..200)
        .map(|i| format!("MX {i} a-long-host-name-{i}.example.net"))
        .collect();
    let lines: Vec<_> = names.iter().map(|text| ("big.example", text.as_str())).collect();
    let server = ZoneServer::start(&lines);
    assert_eq!(Dns::new(&[server.address]).mx("big.example").unwrap().len(), 200);
}

#[test]
fn doubt_is_temporary_and_names_the_question() {
    let address = responder(|name, kind| match (name, kind) {
        ("half.example", RecordType::A) => Act::Answer(vec![record(&("half.example", "A 192.0.2.1"))]),
        ("doubt.example", RecordType::A) => Act::Answer(Vec::new()),
        ("refused.example", _) => Act::Refuse(ResponseCode::Refused),
        ("referral.example", _) => Act::Referral,
        ("silent.example", _) => Act::Silence,
        _ => Act::Refuse(ResponseCode::ServFail),
    });
    let dns = Dns::with(&[address], FAST, System::this());
    for domain in [
        "broken.example",
        "refused.example",
        "referral.example",
        "silent.example",
    ] {
        let why = temporary(dns.mx(domain));
        assert!(why.starts_with(&format!("MX of {domain}: ")), "{why}");
    }
    assert!(temporary(dns.mx("broken.example")).contains("Server Failure"));
    assert!(temporary(dns.mx("silent.example")).contains("in time"));
    assert!(dns.addresses("half.example").is_ok(), "one family is enough");
    assert!(temporary(dns.addresses("doubt.example")).starts_with("AAAA of doubt.example: "));
}

#[test]
fn a_slow_question_holds_up_no_other() {
    let address = responder(|name, _| match name {
        "slow.example" => Act::Silence,
        name => Act::Answer(vec![record(&(name, "MX 1 mx.example"))]),
    });
    let pace = Pace {
        timeout: Duration::from_secs(3),
        ..FAST
    };
    let dns = Dns::with(&[address], pace, System::this());
    std::thread::scope(|threads| {
        let slow = threads.spawn(|| (dns.mx("slow.example"), Instant::now()));
        let quick: Vec<_> = (0..50)
            .map(|i| {
                let dns = dns.clone();
                threads.spawn(move || (dns.mx(&format!("d{i}.example")), Instant::now()))
            })
            .collect();
        let quick: Vec<_> = quick.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(quick.iter().all(|(answer, _)| answer.is_ok()));
        let (answer, end) = slow.join().unwrap();
        temporary(answer);
        assert!(quick.iter().all(|(_, at)| *at < end));
    });
}

#[test]
fn callers_wait_no_longer_than_their_patience() {
    let address = responder(|name, _| match name {
        "good.example" => Act::Answer(vec![record(&("good.example", "A 192.0.2.1"))]),
        _ => Act::Silence,
    });
    let pace = Pace {
        timeout: Duration::from_secs(120),
        tries: 2,
        patience: Duration::from_millis(700),
    };
    let dns = Dns::with(&[address], pace, System::this());
    let start = Instant::now();
    let why = temporary(dns.mx("silent.example"));
    assert_eq!(why, "MX of silent.example: no answer in time");
    let mixed = dns.addresses_of(&["silent.example"]);
    assert_eq!(
        temporary(mixed[0].clone()),
        "address of silent.example: no answer in time"
    );
    assert!(start.elapsed() < pace.timeout);
}

#[test]
fn a_question_that_was_given_up_is_no_sign_of_a_dead_thread() {
    let (reply, answer) = crossbeam_channel::bounded::<()>(1);
    drop(reply);
    let now = Instant::now();
    let why = |until| super::wait(&answer, until).unwrap_err();
    assert_eq!(why(now), "no answer in time");
    assert!(why(now + Duration::from_secs(60)).contains("ended unexpectedly"));
}

#[test]
fn a_dead_thread_is_replaced() {
    let server = ZoneServer::start(&[("example.net", "MX 10 mx1.example.net")]);
    let silent = responder(|_, _| Act::Silence);
    let dns = Dns::with(&[server.address], FAST, System::this());
    assert!(dns.mx("example.net").is_ok());
    let _ = dns.ask(super::thread::Question::Die);
    let until = Instant::now() + Duration::from_secs(60);
    while dns.mx("example.net").is_err() {
        assert!(Instant::now() < until);
    }
    // and a question that is open at that moment is answered at once
    let patient = Pace {
        timeout: Duration::from_secs(60),
        tries: 1,
        patience: Duration::from_secs(60),
    };
    let dns = Dns::with(&[silent], patient, System::this());
    std::thread::scope(|threads| {
        let open = threads.spawn(|| dns.mx("example.net"));
        while dns.desk.line.lock().unwrap().is_none() {
            std::thread::yield_now();
        }
        let _ = dns.ask(super::thread::Question::Die);
        let why = temporary(open.join().unwrap());
        assert!(why.contains("ended unexpectedly"), "{why}");
    });
}

/// Files of our own in place of the system's.
fn system(folder: &Path) -> System {
    System {
        resolv_conf: folder.join("resolv.conf"),
        hosts: folder.join("hosts"),
        servers: |path| {
            let text = std::fs::read_to_string(path)?;
            let server = text.trim().parse().map_err(|_| "no server stands in it")?;
            Ok(vec![super::resolve::server(&server)])
        },
    }
}

#[test]
fn the_hosts_file_is_believed_for_addresses_and_only_for_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("hosts"),
        "192.0.2.1 relay relay.example\n2001:db8::1 relay\n192.0.2.1 relay\nnonsense\n",
    )
    .unwrap();
    let address = responder(|_, _| Act::Refuse(ResponseCode::ServFail));
    let dns = Dns::with(&[address], FAST, system(folder.path()));
    let two = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    assert_eq!(dns.addresses("relay"), Ok(two.to_vec()));
    assert_eq!(
        dns.addresses("Relay.Example"),
        Ok(two[..1].to_vec()),
        "nothing else is asked"
    );
    temporary(dns.mx("relay.example"));
    temporary(dns.addresses("other.example"));
}

#[test]
fn without_resolv_conf_words_and_with_it_again_answers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resolv.conf");
    let one = ZoneServer::start(&[("example.net", "MX 1 one.example.net")]);
    let dns = Dns::with(&[], FAST, system(folder.path()));
    let why = temporary(dns.mx("example.net"));
    assert!(
        why.contains("resolv.conf") && why.contains("dns.servers"),
        "{why}"
    );
    std::fs::write(&path, "nonsense").unwrap();
    temporary(dns.addresses("example.net"));
    std::fs::write(&path, one.address.to_string()).unwrap();
    assert_eq!(dns.mx("example.net"), Ok(vec![(1, "one.example.net".to_owned())]));
}

#[test]
fn a_changed_file_is_read_again_and_a_missing_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = Source::new(Vec::new(), FAST, system(folder.path()));
    assert!(source.resolver().is_err());
    let path = folder.path().join("resolv.conf");
    std::fs::write(&path, "127.0.0.1:53").unwrap();
    let first = source.resolver().unwrap();
    std::fs::write(&path, "127.0.0.1:5353").unwrap();
    assert!(
        Arc::ptr_eq(&first, &source.resolver().unwrap()),
        "not looked at again yet"
    );
    source.forget_the_look();
    let second = source.resolver().unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    source.forget_the_look();
    assert!(
        Arc::ptr_eq(&second, &source.resolver().unwrap()),
        "nothing changed"
    );
    std::fs::remove_file(&path).unwrap();
    source.forget_the_look();
    assert!(
        Arc::ptr_eq(&second, &source.resolver().unwrap()),
        "gone for the moment"
    );
}
