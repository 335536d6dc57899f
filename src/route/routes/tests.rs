use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use super::super::NextHop;
use super::super::rules::Conditions;
use super::*;
use crate::config::{
    Auth, Host, HostPort, Mechanism, RemoteRoute, Schedule, SecretSource, SmartHostMode, TlsMode,
};
use crate::mail::Verdict;

fn domains(default: &str, aliases: &[&str]) -> Domains {
    Domains {
        default: default.to_owned(),
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
    }
}

fn delivery(smart_host: &[&str]) -> Delivery {
    Delivery {
        max_in_flight: 16,
        smart_host: list(smart_host),
        smart_host_mode: SmartHostMode::Always,
        port: 25,
        tls: TlsMode::Opportunistic,
        implicit_tls: false,
        tls_ca_file: None,
        auth: None,
        allow_plaintext_auth: false,
        schedule: Schedule {
            retry: vec![Duration::from_secs(60)],
            delay_notice: Duration::ZERO,
            expire: Duration::from_secs(60),
        },
        max_connections: 1,
        max_connections_per_domain: 1,
        connect_timeout: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        masquerade_domain: String::new(),
    }
}

/// `name`, `name:port`, `[ip]`, `[ip]:port`
fn list(texts: &[&str]) -> Vec<HostPort> {
    let one = |text: &&str| match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, port) = rest.split_once(']').unwrap();
            HostPort {
                host: Host::Ip(ip.parse().unwrap()),
                port: port.strip_prefix(':').map(|port| port.parse().unwrap()),
            }
        }
        None => {
            let (name, port) = text.split_once(':').map_or((*text, None), |(n, p)| (n, Some(p)));
            HostPort {
                host: Host::Name(name.to_owned()),
                port: port.map(|port| port.parse().unwrap()),
            }
        }
    };
    texts.iter().map(one).collect()
}

fn remote(name: &str, route: RemoteRoute) -> Remote {
    Remote {
        name: name.to_owned(),
        route,
        port: None,
        tls: None,
        helo: false,
        auth: None,
        hold: false,
        hold_expire: None,
        atrn_users: Vec::new(),
        relay: false,
    }
}

fn via(hosts: &[&str]) -> RemoteRoute {
    RemoteRoute::SmartHost(list(hosts))
}

fn auth(user: &str) -> Option<Auth> {
    Some(Auth {
        user: user.to_owned(),
        secret: SecretSource::File(PathBuf::from("/etc/secret")),
        mechanism: None,
    })
}

fn address(text: &str) -> Address {
    Address::parse(text, "home.example").unwrap()
}

fn destination(routes: &Routes, to: &str) -> Arc<Destination> {
    match routes.of(&address(to)) {
        Route::Remote(destination) => destination,
        other => panic!("{to}: {other:?}"),
    }
}

fn impossible(routes: &Routes, to: &Address) -> Outcome {
    match routes.of(to) {
        Route::Impossible(outcome) => outcome,
        other => panic!("{to}: {other:?}"),
    }
}

#[test]
fn local_domains_in_every_spelling() {
    let catch_all = [remote("*", via(&["hub.example"]))];
    let routes = Routes::from_sections(
        &domains("Home.Example", &["bücher.example", "XN--CAF-DMA.example"]),
        &catch_all,
        &delivery(&[]),
    );
    for to in [
        "a@home.example",
        "a@HOME.EXAMPLE",
        "plain",
        "a@xn--bcher-kva.example",
        "a@BÜCHER.example",
        "a@café.example",
    ] {
        assert!(matches!(routes.of(&address(to)), Route::Local), "{to}");
        assert!(routes.is_local(&address(to)), "{to}");
    }
    for to in ["a@www.home.example", "a@example", "a@[127.0.0.1]"] {
        assert!(!matches!(routes.of(&address(to)), Route::Local), "{to}");
        assert!(!routes.is_local(&address(to)), "{to}");
    }
    assert!(!routes.is_local(&Address::unroutable("a b@home.example")));
}

#[test]
fn the_most_specific_entry_decides() {
    let entries = [
        remote("*", via(&["all.hub"])),
        remote("*.example.com", via(&["wild.hub"])),
        remote("*.deep.example.com", RemoteRoute::Mx),
        remote("mail.example.com", via(&["exact.hub"])),
        remote("bücher.example", via(&["[192.0.2.7]:2525"])),
        remote("[IPv6:::1]", via(&["six.hub"])),
    ];
    let routes = Routes::from_sections(
        &domains("home.example", &[]),
        &entries,
        &delivery(&["global.hub"]),
    );
    for (to, key) in [
        ("a@example.com", "smart host all.hub:25"),
        ("a@www.EXAMPLE.com", "smart host wild.hub:25"),
        ("a@mail.example.com", "smart host exact.hub:25"),
        ("a@a.mail.example.com", "smart host wild.hub:25"),
        ("a@x.deep.example.com", "mx:x.deep.example.com"),
        ("a@xn--bcher-kva.example", "smart host [192.0.2.7]:2525"),
        ("a@[192.0.2.1]", "smart host all.hub:25"),
        ("a@[IPv6:0:0::1]", "smart host six.hub:25"),
    ] {
        assert_eq!(destination(&routes, to).key, key, "{to}");
    }
    let mx = destination(&routes, "a@x.deep.example.com");
    assert_eq!(mx.hop, NextHop::Mx("x.deep.example.com".to_owned()));
    assert_eq!(
        mx.rule,
        "[[remote]] \"*.deep.example.com\": the MX hosts of the domain"
    );
}

#[test]
fn without_entries_the_smart_host_and_without_it_mx() {
    let home = domains("home.example", &[]);
    let mx = Routes::from_sections(&home, &[], &delivery(&[]));
    let to_mx = destination(&mx, "a@Bücher.Example");
    assert_eq!(to_mx.hop, NextHop::Mx("xn--bcher-kva.example".to_owned()));
    assert_eq!(to_mx.key, "mx:xn--bcher-kva.example");
    assert_eq!(
        destination(&mx, "a@[192.0.2.1]").hop,
        NextHop::Literal("192.0.2.1".parse().unwrap())
    );

    let mut settings = delivery(&["Hub.Example", "[192.0.2.1]:587"]);
    settings.auth = auth("app");
    settings.implicit_tls = true;
    settings.port = 465;
    let always = Routes::from_sections(&home, &[], &settings);
    let hub = destination(&always, "a@example.net");
    assert_eq!(
        hub.hop,
        NextHop::SmartHosts(list(&["hub.example", "[192.0.2.1]:587"]))
    );
    assert_eq!(hub.auth, settings.auth);
    assert!(hub.implicit_tls);
    assert_eq!(
        hub.key,
        "smart host hub.example:465, [192.0.2.1]:587 (implicit tls, as \"app\" with \"/etc/secret\")"
    );
    assert!(Arc::ptr_eq(&hub, &destination(&always, "b@[192.0.2.9]")));

    settings.smart_host_mode = SmartHostMode::AfterDirect;
    let after = Routes::from_sections(&home, &[], &settings);
    let direct = destination(&after, "a@example.net");
    assert_eq!(
        direct.hop,
        NextHop::MxThenSmartHosts(
            "example.net".to_owned(),
            list(&["hub.example", "[192.0.2.1]:587"])
        )
    );
    let host = |from_mx| super::super::HostAddress {
        name: "h".to_owned(),
        address: "192.0.2.1:25".parse().unwrap(),
        from_mx,
    };
    assert_eq!(
        direct.auth_at(&host(true)),
        None,
        "credentials are not for strangers"
    );
    assert!(direct.auth_at(&host(false)).is_some());
    assert!(!direct.implicit_tls_at(&host(true)));
    assert!(direct.implicit_tls_at(&host(false)));
    assert!(hub.auth_at(&host(false)).is_some());
    assert!(matches!(
        &destination(&after, "a@[192.0.2.1]").hop,
        NextHop::MxThenSmartHosts(literal, _) if literal == "[192.0.2.1]"
    ));
}

#[test]
fn an_entry_has_its_own_conditions() {
    let mut own = remote("own.example", via(&["hub.example"]));
    own.port = Some(2525);
    own.tls = Some(TlsMode::Verified);
    own.helo = true;
    own.hold = true;
    let mut mx = remote("mx.example", RemoteRoute::Mx);
    mx.auth = auth("partner");
    mx.port = Some(2526);
    let mut borrowed = remote("borrowed.example", via(&[]));
    borrowed.port = Some(2527);
    borrowed.tls = Some(TlsMode::Off);
    let mut other_user = remote("other.example", via(&[]));
    other_user.auth = auth("other");
    let at_once = remote("smtps.example", via(&["hub.example:465"]));

    let mut settings = delivery(&["global.hub"]);
    settings.auth = auth("app");
    settings.implicit_tls = true;
    settings.tls = TlsMode::Required;
    let entries = [own, mx, borrowed, other_user, at_once];
    let routes = Routes::from_sections(&domains("home.example", &[]), &entries, &settings);

    let own = destination(&routes, "a@own.example");
    assert_eq!((own.port, own.tls), (2525, TlsMode::Verified));
    assert!(own.helo_only && own.hold && !own.implicit_tls && own.auth.is_none());
    assert_eq!(own.key, "smart host hub.example:2525 (tls verified, helo, held)");
    let mx = destination(&routes, "a@mx.example");
    assert_eq!(
        (mx.port, mx.tls, &mx.auth),
        (2526, TlsMode::Required, &auth("partner"))
    );
    assert!(!mx.implicit_tls);
    let borrowed = destination(&routes, "a@borrowed.example");
    assert_eq!(borrowed.hop, NextHop::SmartHosts(list(&["global.hub"])));
    assert_eq!(
        (borrowed.port, borrowed.tls, &borrowed.auth),
        (2527, TlsMode::Off, &auth("app"))
    );
    assert!(borrowed.implicit_tls);
    assert_eq!(destination(&routes, "a@other.example").auth, auth("other"));
    assert!(destination(&routes, "a@smtps.example").implicit_tls);
}

#[test]
fn equal_destinations_are_one_and_unequal_ones_have_other_keys() {
    let entries = [
        remote("a.example", via(&["hub.example"])),
        remote("b.example", via(&["HUB.example:25"])),
        remote("c.example", via(&[])),
    ];
    let settings = delivery(&["hub.example"]);
    let routes = Routes::from_sections(&domains("home.example", &[]), &entries, &settings);
    let a = destination(&routes, "x@a.example");
    for to in ["x@b.example", "x@c.example", "x@d.example"] {
        assert!(Arc::ptr_eq(&a, &destination(&routes, to)), "{to}");
    }
    assert_eq!(
        a.rule,
        "delivery.smart_host or [[remote]] \"a.example\" or [[remote]] \"b.example\" or 1 more: smart host"
    );

    let mx = Routes::from_sections(&domains("home.example", &[]), &[], &delivery(&[]));
    let one = destination(&mx, "a@Example.net");
    assert!(Arc::ptr_eq(&one, &destination(&mx, "b@example.NET")));
    assert!(!Arc::ptr_eq(&one, &destination(&mx, "b@example.com")));

    let plain = Conditions {
        port: 25,
        tls: TlsMode::Opportunistic,
        implicit_tls: false,
        helo_only: false,
        auth: None,
        hold: false,
    };
    let with_auth = |mechanism, command: Option<&[&str]>| {
        let mut auth = auth("app").unwrap();
        auth.mechanism = mechanism;
        if let Some(command) = command {
            auth.secret = SecretSource::Command(command.iter().map(|word| (*word).to_owned()).collect());
        }
        Conditions {
            auth: Some(auth),
            ..plain.clone()
        }
    };
    let variants = [
        plain.clone(),
        Conditions {
            port: 26,
            ..plain.clone()
        },
        Conditions {
            tls: TlsMode::Off,
            ..plain.clone()
        },
        Conditions {
            tls: TlsMode::Required,
            ..plain.clone()
        },
        Conditions {
            tls: TlsMode::Verified,
            ..plain.clone()
        },
        Conditions {
            implicit_tls: true,
            ..plain.clone()
        },
        Conditions {
            helo_only: true,
            ..plain.clone()
        },
        Conditions {
            hold: true,
            ..plain.clone()
        },
        Conditions {
            auth: auth("app\" by Plain"),
            ..plain.clone()
        },
        with_auth(None, None),
        with_auth(Some(Mechanism::Plain), None),
        with_auth(None, Some(&["/etc/secret"])),
        with_auth(None, Some(&["token", "a"])),
        with_auth(None, Some(&["token", "b"])),
    ];
    let hops = [
        NextHop::Mx("a".to_owned()),
        NextHop::Mx("b".to_owned()),
        NextHop::SmartHosts(list(&["a"])),
        NextHop::SmartHosts(list(&["a", "b"])),
        NextHop::SmartHosts(list(&["a:27"])),
        NextHop::SmartHosts(list(&["[192.0.2.1]"])),
        NextHop::MxThenSmartHosts("a".to_owned(), list(&["a:27"])),
        NextHop::MxThenSmartHosts("a".to_owned(), list(&["b:27"])),
        NextHop::Literal("192.0.2.1".parse().unwrap()),
    ];
    let mut keys = HashSet::new();
    for conditions in variants {
        for hop in &hops {
            // a port that no host of the list uses decides nothing
            let unused =
                conditions.port != 25 && matches!(hop, NextHop::SmartHosts(l) if l[0].port.is_some());
            let key = conditions.clone().with(hop.clone(), String::new()).key;
            assert!(!key.contains("token a") && !key.contains("token\" \"a"));
            assert_eq!(keys.insert(key.clone()), !unused, "{key}");
        }
    }
}

#[test]
fn what_cannot_be_routed_says_why() {
    let home = domains("home.example", &[]);
    let entries = [remote("nohub.example", via(&[]))];
    let routes = Routes::from_sections(&home, &entries, &delivery(&[]));
    let bad = impossible(&routes, &Address::unroutable("a b@c.example"));
    assert_eq!(
        (bad.verdict, bad.status),
        (Verdict::Failed, EnhancedStatus::new(5, 1, 3))
    );
    assert_eq!(
        bad.text,
        "\"a b@c.example\" is not an address that mail can be sent to: it holds a space outside quotes"
    );
    let idn = impossible(&routes, &address("a@xn--999999999.example"));
    assert_eq!(
        (idn.verdict, idn.status),
        (Verdict::Failed, EnhancedStatus::new(5, 1, 2))
    );
    let bare = impossible(&routes, &address("a@192.0.2.1"));
    assert_eq!(
        (bare.verdict, bare.status),
        (Verdict::Failed, EnhancedStatus::new(5, 1, 3))
    );
    assert!(bare.text.contains("[192.0.2.1]"), "{}", bare.text);
    let broken = impossible(&routes, &address("a@nohub.example"));
    assert_eq!(
        (broken.verdict, broken.status),
        (Verdict::Deferred, EnhancedStatus::new(4, 3, 5))
    );
}

#[test]
fn a_million_domains_leave_only_those_in_use() {
    let routes = Routes::from_sections(&domains("home.example", &[]), &[], &delivery(&[]));
    let held: Vec<_> = (0..100)
        .map(|i| destination(&routes, &format!("a@d{i}.example")))
        .collect();
    for i in 0..3 * SWEEP_AT {
        destination(&routes, &format!("a@d{i}.example"));
    }
    assert!(routes.made.read().unwrap().by_name.len() <= SWEEP_AT);
    for (i, one) in held.iter().enumerate() {
        assert!(Arc::ptr_eq(
            one,
            &destination(&routes, &format!("a@d{i}.example"))
        ));
    }
}
