//! Connection, greeting, EHLO and HELO.

use std::net::TcpListener;
use std::time::Duration;

use super::super::{RefusedKind, TlsContext, connect};
use super::peer_at;
use super::support::*;

#[test]
fn ehlo_tells_the_offers_and_the_opening_is_kept() {
    let host = Host::new(|c| {
        c.greet(&["PIPELINING", "SIZE 1000", "AUTH PLAIN"]);
        c.quit();
    });
    let session = host.connect().unwrap();
    let offers = session.offers();
    assert!(offers.extended && offers.pipelining && !offers.chunking);
    assert_eq!(offers.max_size, Some(1000));
    assert!(session.usable());
    assert_eq!(session.tls_facts(), None);
    let shown = format!(
        "* connected to mx.test[127.0.0.1]:{}\n< 220 mx.test ESMTP\n> EHLO client.test\n< 250-mx.test\n\
         < 250-PIPELINING\n< 250-SIZE 1000\n< 250 AUTH PLAIN\n",
        host.address.port()
    );
    assert_eq!(session.opening(), shown);
    session.quit();
    host.done();
}

#[test]
fn helo_follows_a_refused_ehlo() {
    let host = Host::new(|c| {
        c.say("220 old");
        c.hear("EHLO client.test");
        c.say("502 what?");
        c.hear("HELO client.test");
        c.say("250 old");
    });
    let session = host.connect().unwrap();
    assert!(!session.offers().extended);
    host.done();
}

#[test]
fn helo_alone_when_the_settings_say_so() {
    let host = Host::new(|c| {
        c.say("220 old");
        c.hear("HELO client.test");
        c.say("250-old\r\n250 PIPELINING");
    });
    let session = host.connect_with(|peer| peer.helo_only = true).unwrap();
    assert!(!session.offers().pipelining);
    host.done();
}

#[test]
fn refusals_at_the_greeting_and_at_hello_defer() {
    for (greeting, expected) in [
        ("554 5.7.1 go away", "Deferred 4.7.1 554 5.7.1 go away"),
        ("554 go away", "Deferred 4.3.0 554 go away"),
        ("421 busy", "Deferred 4.3.2 421 busy"),
    ] {
        let host = Host::new(move |c| {
            c.say(greeting);
            c.hear("QUIT");
        });
        let refused = host.refusal(|_| {});
        assert_eq!(refused.kind, RefusedKind::Greeting);
        assert_eq!(brief(&refused.outcome), expected);
        assert!(refused.outcome.remote);
        assert!(refused.dialogue.contains(&format!("< {greeting}\n")));
        host.done();
    }
    let host = Host::new(|c| {
        c.say("220 x");
        c.hear("EHLO");
        c.say("450 4.3.2 later");
        c.hear("QUIT");
    });
    assert_eq!(
        brief(&host.refusal(|_| {}).outcome),
        "Deferred 4.3.2 450 4.3.2 later"
    );
    host.done();
    let host = Host::new(|c| {
        c.say("220 x");
        c.hear("EHLO");
        c.say("550 no");
        c.hear("HELO");
        c.say("550 no, too");
    });
    let refused = host.refusal(|_| {});
    assert_eq!(
        (refused.kind, brief(&refused.outcome).as_str()),
        (RefusedKind::Greeting, "Deferred 4.3.0 550 no, too")
    );
    host.done();
}

#[test]
fn nobody_there_and_silence_and_a_closed_door_are_unreachable() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let refused = connect(&peer_at(address), &TlsContext::new(None).unwrap())
        .err()
        .unwrap();
    assert_eq!(refused.kind, RefusedKind::Unreachable);
    assert_eq!(refused.outcome.status.to_string(), "4.4.1");
    assert!(
        refused.outcome.text.contains("refused"),
        "{}",
        refused.outcome.text
    );

    let host = Host::new(|c| c.gone());
    let refused = host.refusal(|peer| peer.timeout = Duration::from_millis(200));
    assert_eq!(refused.kind, RefusedKind::Unreachable);
    assert_eq!(
        brief(&refused.outcome),
        "Deferred 4.4.1 the host was silent for 0.2 s while the greeting was due"
    );
    assert!(refused.dialogue.ends_with("* the host was silent for 0.2 s\n"));
    host.done();

    let host = Host::new(|c| {
        c.say("220 x");
        c.hear("EHLO");
    });
    let refused = host.refusal(|_| {});
    assert_eq!(refused.kind, RefusedKind::Unreachable);
    assert_eq!(
        brief(&refused.outcome),
        "Deferred 4.4.2 the host closed the connection while the reply to EHLO was due"
    );
    host.done();
}

#[test]
fn a_greeting_under_our_own_name_is_a_loop() {
    for greeting in ["220 Client.Test ESMTP", "220-client.test. hi\r\n220 there"] {
        let host = Host::new(move |c| c.say(greeting));
        let refused = host.refusal(|peer| peer.own_name = Some("client.test".into()));
        assert_eq!(refused.kind, RefusedKind::Loop);
        assert!(brief(&refused.outcome).starts_with("Failed 5.4.6 the mail loops"));
        host.done();
    }
    let host = Host::new(|c| c.greet(&[]));
    assert!(
        host.connect_with(|peer| peer.own_name = Some("client.test".into()))
            .is_ok()
    );
    host.done();
}

#[test]
fn behind_a_door_only_one_of_ours_is_talked_to() {
    let words = || Some(("knock knock".to_owned(), "come in".to_owned()));
    let host = Host::new(|c| {
        c.hear("knock knock");
        c.say("come in");
        c.greet(&[]);
        c.quit();
    });
    host.connect_with(|peer| peer.knock = words()).unwrap().quit();
    host.done();
    // a stranger at the same port
    let host = Host::new(|c| {
        c.say("220 a stranger");
        c.hear("knock knock");
        c.gone();
    });
    let refused = host.refusal(|peer| peer.knock = words());
    assert_eq!(refused.kind, RefusedKind::Unreachable);
    assert!(
        refused
            .outcome
            .text
            .starts_with("nobody of ours is at mx.test[127.0.0.1]:"),
        "{}",
        refused.outcome.text
    );
    host.done();
}
