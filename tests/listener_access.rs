//! The listener, spoken to over real sockets: who may connect, log in and relay.
#![cfg(feature = "listener")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::fs;

use support::certificates::Authority;
use support::listener::{Client, SOON, add_user, in_pickup, listening, start};
use support::place::{BASE, Place, message};
use support::{process, wait_until};

#[test]
fn no_port_is_open_unless_it_is_asked_for() {
    for settings in [BASE.to_owned(), format!("{BASE}[listener]\nport = 0\n")] {
        let mut place = Place::new(&settings);
        place.start();
        place.wait("it runs", || place.log().contains("running"));
        place.put("a.eml", message("app@local.test", &["bob@local.test"], "a"));
        place.wait("it works", || !place.files("Drop", "EML").is_empty());
        place.stop();
        assert!(!place.log().contains("listening"), "{}", place.log());
    }
    let place = Place::new(BASE);
    let root = place.root().display().to_string();
    let ended = process::mailroot(&place.beside().join("notes"), &["listen", &root]);
    assert_eq!(ended.code, Some(78));
    assert!(
        ended.stderr.contains("no [listener] has enabled = true"),
        "{}",
        ended.stderr
    );
}

#[test]
fn relaying_is_for_those_who_may() {
    let (_place, _running, address) = listening(
        "[[remote]]\nname = \"partner.test\"\nrelay = true\n[[remote]]\nname = \"*.below.test\"\nrelay = true\n\
         [[remote]]\nname = \"not.a.below.test\"\n[[remote]]\nname = \"*.not.a.below.test\"\n",
    );
    let mut client = Client::greeted(address);
    client.expect("MAIL FROM:<a@b.test>", 250);
    for (to, code) in [
        ("bob@local.test", 250),
        ("bob@LOCAL.test", 250),
        ("bob", 250),
        ("bob@partner.test", 250),
        ("bob@a.b.below.test", 250),
        ("bob@below.test", 550),
        ("bob@sub.partner.test", 550),
        ("bob@elsewhere.test", 550),
        ("bob@not.a.below.test", 550),
        ("bob@b.not.a.below.test", 550),
        ("\"bob@local.test\"@elsewhere.test", 550),
        ("bob%elsewhere.test@local.test", 250),
    ] {
        let reply = client.expect(&format!("RCPT TO:<{to}>"), code);
        assert!(
            code == 250 || reply.starts_with("550 5.7.1 Unable to relay for "),
            "{reply}"
        );
    }
    let (_place, _running, address) = listening("relay_list = [\"127.0.0.0/8\"]\n");
    let mut client = Client::greeted(address);
    client.expect("MAIL FROM:<a@b.test>", 250);
    client.expect("RCPT TO:<bob@elsewhere.test>", 250);
}

#[test]
fn an_open_relay_is_not_opened_unless_it_is_meant() {
    let place = Place::new(BASE);
    let settings = format!("{BASE}[listener]\nenabled = true\nport = 0\nrelay = \"all_except\"\n");
    let root = place.root().display().to_string();
    place.settings(&settings);
    for verb in ["listen", "run"] {
        let ended = process::mailroot(&place.beside().join("notes"), &[verb, &root]);
        assert_eq!(ended.code, Some(78), "{}", ended.stderr);
        assert!(ended.stderr.contains("an open relay"), "{}", ended.stderr);
    }
    let check = process::mailroot(&place.beside().join("notes"), &["check", &root]);
    assert_eq!(check.code, Some(78), "{}", check.stdout);
    assert!(check.stdout.contains("an open relay"), "{}", check.stdout);
    let (_running, address) = start(&place, "listen", "relay = \"all_except\"\nopen_relay = true\n");
    let mut client = Client::greeted(address);
    client.expect("MAIL FROM:<a@b.test>", 250);
    client.expect("RCPT TO:<bob@elsewhere.test>", 250);
}

#[test]
fn who_may_connect_and_how_often() {
    let (_place, _running, address) = listening("clients_list = [\"127.0.0.1\"]\n");
    let (_client, greeting) = Client::connect(address);
    assert!(greeting.starts_with("554"), "{greeting}");

    let (_place, _running, address) = listening("max_connections = 3\nmax_connections_per_client = 2\n");
    let first = Client::greeted(address);
    let _second = Client::greeted(address);
    let (_third, greeting) = Client::connect(address);
    assert!(greeting.starts_with("421"), "{greeting}");
    drop(first);
    wait_until("a place is free", SOON, || {
        Client::connect(address).1.starts_with("220")
    });
}

/// Another mailroot sends to it, through TLS and with a password.
#[test]
fn tls_and_passwords_with_a_real_client() {
    let sender = Place::new(BASE);
    let authority = Authority::new(sender.beside());
    let receiver = Place::new(BASE);
    let pem = receiver.beside().join("mail.pem");
    fs::write(&pem, authority.pem(&["127.0.0.1"])).unwrap();
    let settings = format!(
        "tls = \"required\"\ncertificate = \"{}\"\nanonymous = false\nusers_file = \"users\"\nreceived_user = true\n",
        pem.display()
    );
    let (running, address) = start(&receiver, "listen", &settings);
    let root = receiver.root().display().to_string();
    add_user(&root, "app", "a secret");

    let mut client = Client::greeted(address);
    let offers = client.say("EHLO x");
    assert!(
        offers.contains("STARTTLS") && !offers.contains("AUTH"),
        "{offers}"
    );
    client.expect("MAIL FROM:<a@b.test>", 530);
    client.expect("AUTH PLAIN AAAA", 538);
    // commands in clear behind STARTTLS are never obeyed
    client.send("STARTTLS\r\nNOOP\r\n");
    assert!(client.reply().starts_with("220"));
    assert_eq!(client.reply(), "");

    fs::write(sender.beside().join("mailroot/password"), "a secret\n").unwrap();
    sender.settings(&format!(
        "{BASE}[delivery]\nsmart_host = \"[127.0.0.1]:{}\"\ntls = \"verified\"\ntls_ca_file = \"{}\"\n\
         auth = {{ user = \"app\", password_file = \"password\" }}\n",
        address.port(),
        authority.file().display()
    ));
    sender.put("a.eml", message("app@local.test", &["bob@elsewhere.test"], "a"));
    let sent = process::mailroot(
        &sender.beside().join("notes"),
        &["drain", &sender.root().display().to_string()],
    );
    assert_eq!(sent.code, Some(0), "{}\n{}", sent.stderr, running.stderr());
    let text = in_pickup(&receiver);
    assert!(
        text.starts_with("x-sender: <app@local.test>") && text.contains("bob@elsewhere.test"),
        "{text}"
    );
    assert!(
        text.contains("with ESMTPSA id ") && text.contains("\t(TLSv1.3 TLS_"),
        "{text}"
    );
    assert!(text.contains("\t(authenticated as app);"), "{text}");

    // a wrong password is refused, and the mail waits
    fs::write(sender.beside().join("mailroot/password"), "a guess\n").unwrap();
    sender.put("b.eml", message("app@local.test", &["bob@elsewhere.test"], "b"));
    let sent = process::mailroot(
        &sender.beside().join("notes"),
        &["drain", &sender.root().display().to_string()],
    );
    assert_eq!(sent.code, Some(75), "{}", sent.stderr);
    assert!(
        running.stderr().contains("could not log in"),
        "{}",
        running.stderr()
    );
}
