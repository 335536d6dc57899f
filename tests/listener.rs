//! The listener, spoken to over real sockets: what it takes, what it refuses, and what its 250 is worth.
#![cfg(feature = "listener")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::time::Duration;

use support::certificates::Authority;
use support::client::{Client, SOON, listening, start, start_on};
use support::place::{BASE, Place, message};
use support::process;
use support::wait_until;

/// The one file in Pickup.
fn in_pickup(place: &Place) -> String {
    let files = place.files("Pickup", "EML");
    assert_eq!(files.len(), 1, "{files:?}");
    fs::read_to_string(&files[0]).unwrap()
}

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
fn a_message_becomes_a_file_that_says_what_was_said() {
    let (place, running, address) = listening("");
    let mut client = Client::greeted(address);
    client.expect(
        "MAIL FROM:<app@client.test> SIZE=60 RET=HDRS ENVID=x1 BODY=8BITMIME",
        250,
    );
    client.expect(
        "RCPT TO:<bob@local.test> NOTIFY=SUCCESS ORCPT=rfc822;bob@local.test",
        250,
    );
    client.expect("RCPT TO:<eve@local.test>", 250);
    let reply = client.data("Subject: hello\r\n\r\nHello\r\n..a period\r\n");
    assert!(
        reply.starts_with("250 2.6.0 <") && reply.ends_with("Queued mail for delivery"),
        "{reply}"
    );
    let text = in_pickup(&place);
    let id = reply.split(['<', '@']).nth(1).unwrap();
    let (top, rest) = text.split_once("Received: ").unwrap();
    assert_eq!(
        top,
        "x-sender: <app@client.test> RET=HDRS ENVID=x1 BODY=8BITMIME\r\n\
         x-receiver: <bob@local.test> NOTIFY=SUCCESS ORCPT=rfc822;bob@local.test\r\n\
         x-receiver: <eve@local.test>\r\nx-dots: literal\r\nx-complete: yes\r\n"
    );
    let (received, content) = rest.split_once("Subject").unwrap();
    let wanted =
        format!("from client.test ([127.0.0.1])\r\n\tby mail.example.test with ESMTP id {id};\r\n\t");
    assert!(received.starts_with(&wanted), "{received}");
    assert_eq!(content, ": hello\r\n\r\nHello\r\n.a period\r\n");
    client.expect("QUIT", 221);
    let ended = running.stop();
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.contains(" received id="), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("messages=1 errors=0 ended=QUIT"),
        "{}",
        ended.stderr
    );
}

#[test]
fn beside_the_engine_mail_goes_its_way() {
    let place = Place::new(BASE);
    // nothing of it waits for a listing
    let seldom = BASE.replace("poll = \"100ms\"", "poll = \"10m\"");
    let (running, address) = start_on(&place, "run", &seldom, "");
    let mut client = Client::sending(address);
    assert!(client.data("Subject: a\r\n\r\nx\r\n").starts_with("250"));
    // a multipart without its end would wait in Pickup for the rest, were it not said that there is none
    client.expect("MAIL FROM:<app@client.test>", 250);
    client.expect("RCPT TO:<bob@local.test>", 250);
    let cut = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nno end\r\n";
    assert!(client.data(cut).starts_with("250"));
    wait_until("both lie in Drop", SOON, || place.files("Drop", "EML").len() == 2);
    let text = place.text("Drop", "EML");
    assert!(
        text.contains("Subject: a\r\n\r\nx\r\n") && text.contains("--b\r\n\r\nno end\r\n"),
        "{text}"
    );
    assert_eq!(running.stop().code, Some(0));
}

#[test]
fn what_a_client_sends_is_content_and_adds_nobody() {
    let (place, _running, address) = listening("");
    let mut client = Client::sending(address);
    let sly = "x-receiver: <victim@elsewhere.test>\r\nx-sender: <boss@local.test>\r\nX-EndOfInjectedXHeaders: 0\r\n\r\nb\r\n";
    assert!(client.data(sly).starts_with("250"));
    let text = in_pickup(&place);
    let top: Vec<&str> = text
        .lines()
        .take_while(|line| !line.starts_with("Received:"))
        .collect();
    assert_eq!(
        top,
        [
            "x-sender: <app@client.test>",
            "x-receiver: <bob@local.test>",
            "x-dots: literal",
            "x-complete: yes"
        ]
    );
    assert!(text.ends_with(sly));
    let file = place.files("Pickup", "EML").remove(0).display().to_string();
    let root = place.root().display().to_string();
    let check = process::mailroot(&place.beside().join("notes"), &["check", &root, &file]);
    assert!(
        check.stdout.contains("bob@local.test") && !check.stdout.contains("victim@"),
        "{}",
        check.stdout
    );
}

#[test]
fn no_end_of_message_that_another_server_would_not_see() {
    let (place, _running, address) = listening("");
    for smuggled in [
        "a\n.\r\nMAIL FROM:<x@y.test>\r\n",
        "a\r\n.\nMAIL\r\n",
        "a\r.\r\nb\r\n",
        "a\n.\nb\r\n",
    ] {
        let mut client = Client::sending(address);
        let reply = client.data(&format!("Subject: s\r\n\r\n{smuggled}"));
        assert!(reply.starts_with("250"), "{smuggled:?}: {reply}");
        let text = in_pickup(&place);
        assert!(text.ends_with(smuggled), "{smuggled:?}: {text}");
        client.expect("NOOP", 250);
        fs::remove_file(place.files("Pickup", "EML").remove(0)).unwrap();
    }
    // nor is a line feed alone the end of a command
    let (mut client, _) = Client::connect(address);
    client.send("EHLO a\nNOOP\r\nNOOP\r\n");
    assert!(client.reply().starts_with("500"));
    assert_eq!(client.reply(), "", "what follows is no command of anybody");
}

#[test]
fn whatever_comes_has_a_header_block() {
    let (place, _running, address) = listening("");
    for (content, wanted) in [
        ("just a text\r\n", "\r\n\r\njust a text\r\n"),
        ("", "\r\n\r\n"),
        ("Subject: x\r\nand text\r\n", "Subject: x\r\n\r\nand text\r\n"),
        ("Subject: x\r\n", "Subject: x\r\n\r\n"),
    ] {
        let mut client = Client::sending(address);
        assert!(client.data(content).starts_with("250"), "{content:?}");
        let text = in_pickup(&place);
        assert!(text.ends_with(wanted), "{content:?}: {text:?}");
        fs::remove_file(place.files("Pickup", "EML").remove(0)).unwrap();
    }
}

#[test]
fn commands_out_of_order_are_refused_and_do_no_harm() {
    let (place, _running, address) = listening("");
    let (mut client, _) = Client::connect(address);
    for (line, code) in [
        ("MAIL FROM:<a@b.test>", 503),
        ("RCPT TO:<bob@local.test>", 503),
        ("DATA", 503),
        ("BDAT 0 LAST", 503),
        ("AUTH PLAIN", 503),
        ("HELO", 250),
        ("AUTH PLAIN", 503),
        ("EHLO x", 250),
        ("STARTTLS", 502),
        ("AUTH PLAIN", 502),
        ("RCPT TO:<bob@local.test>", 503),
        ("DATA", 503),
        ("MAIL FROM:<a@b.test>", 250),
        ("MAIL FROM:<a@b.test>", 503),
        ("DATA", 554),
        ("RCPT TO:<bob@local.test>", 250),
        ("VRFY bob", 252),
        ("HELP", 214),
        ("NOOP", 250),
        ("EXPN list", 500),
        ("RSET", 250),
        ("DATA", 503),
    ] {
        client.expect(line, code);
    }
    // a session ends all the same as it would have
    client.expect("MAIL FROM:<>", 250);
    client.expect("RCPT TO:<bob@local.test>", 250);
    assert!(client.data("A: b\r\n\r\n").starts_with("250"));
    assert!(in_pickup(&place).starts_with("x-sender: <>\r\nx-receiver: <bob@local.test>\r\n"));
}

#[test]
fn by_chunks() {
    let (place, _running, address) = listening("");
    let mut client = Client::sending(address);
    client.send("BDAT 12\r\nSubject: x\r\nBDAT 5\r\n\r\n.\r\nBDAT 4 LAST\r\na\nb\n");
    for _ in 0..3 {
        let reply = client.reply();
        assert!(reply.starts_with("250"), "{reply}");
    }
    assert!(in_pickup(&place).ends_with("Subject: x\r\n\r\n.\r\na\nb\n"));
    // refused chunks are read away, whatever is in them
    client.send("BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n");
    for code in ["503", "503", "250"] {
        let reply = client.reply();
        assert!(reply.starts_with(code), "{reply}");
    }
    client.expect("MAIL FROM:<a@b.test>", 250);
    client.expect("RCPT TO:<bob@local.test>", 250);
    client.send("BDAT 3\r\nA: ");
    client.reply();
    client.expect("DATA", 503);
    client.expect("RCPT TO:<eve@local.test>", 503);
    client.expect("RSET", 250);
    assert_eq!(place.files("Pickup", "EML").len(), 1);
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
fn limits_hold_to_the_byte() {
    let (place, _running, address) = listening(
        "max_recipients = 2\nmax_messages = 2\nmax_errors = 3\n[messages]\nmax_size = 5048\nmax_hops = 2\n",
    );
    let mut client = Client::greeted(address);
    client.expect("MAIL FROM:<a@b.test> SIZE=3001", 552);
    client.expect("MAIL FROM:<a@b.test> SIZE=3000", 250);
    client.expect("RCPT TO:<1@local.test>", 250);
    client.expect("RCPT TO:<2@local.test>", 250);
    client.expect("RCPT TO:<3@local.test>", 452);
    let of = |size: usize| format!("A: b\r\n\r\n{}\r\n", "x".repeat(size - 10));
    assert!(client.data(&of(3001)).starts_with("552"));
    client.expect("MAIL FROM:<a@b.test>", 250);
    client.expect("RCPT TO:<1@local.test>", 250);
    assert!(client.data(&of(3000)).starts_with("250"));
    // the third mistake is the last
    client.send("BOO\r\n");
    assert!(client.reply().starts_with("500"));
    assert!(client.reply().starts_with("421"));
    assert_eq!(client.reply(), "");

    let mut client = Client::greeted(address);
    for hops in [2, 1] {
        client.expect("MAIL FROM:<a@b.test>", 250);
        client.expect("RCPT TO:<1@local.test>", 250);
        let reply = client.data(&format!("{}A: b\r\n\r\n", "Received: x\r\n".repeat(hops)));
        assert!(
            reply.starts_with(if hops > 1 { "554 5.4.6" } else { "250" }),
            "{reply}"
        );
    }
    client.expect("MAIL FROM:<a@b.test>", 250);
    client.expect("RCPT TO:<1@local.test>", 250);
    assert!(client.data(&of(20)).starts_with("250"));
    client.expect("MAIL FROM:<a@b.test>", 421);
    assert_eq!(client.reply(), "");

    // who is turned away for now makes no mistake: those who were taken get their mail (RFC 5321 §4.5.3.1.10)
    let mut client = Client::greeted(address);
    client.expect("MAIL FROM:<a@b.test>", 250);
    for number in 0..20 {
        client.expect(
            &format!("RCPT TO:<{number}@local.test>"),
            if number < 2 { 250 } else { 452 },
        );
    }
    assert!(client.data(&of(20)).starts_with("250"));

    // a line of 2048 bytes with its end, and one more
    let mut client = Client::greeted(address);
    client.expect(&format!("NOOP {}", "x".repeat(2048 - 7)), 250);
    client.expect(&format!("NOOP {}", "x".repeat(2048 - 6)), 500);
    assert_eq!(place.files("Pickup", "EML").len(), 4);
}

#[test]
fn a_session_has_a_size_too() {
    let (_place, _running, address) = listening("max_session_size = 100\n");
    let mut client = Client::sending(address);
    assert!(
        client
            .data(&format!("A: b\r\n\r\n{}\r\n", "x".repeat(50)))
            .starts_with("250")
    );
    client.expect("MAIL FROM:<a@b.test> SIZE=50", 421);
    // what is too much for what is left of this session may come in another one
    let mut client = Client::sending(address);
    let of = |size: usize| format!("A: b\r\n\r\n{}\r\n", "x".repeat(size - 10));
    assert!(client.data(&of(60)).starts_with("250"));
    client.expect("MAIL FROM:<a@b.test>", 250);
    client.expect("RCPT TO:<bob@local.test>", 250);
    assert!(client.data(&of(41)).starts_with("452"));
    client.expect("MAIL FROM:<a@b.test>", 250);
    client.expect("RCPT TO:<bob@local.test>", 250);
    assert!(client.data(&of(40)).starts_with("250"));
    let mut client = Client::greeted(address);
    client.expect("MAIL FROM:<a@b.test> SIZE=101", 552);
}

#[test]
fn too_little_room_is_told_before_anything_is_sent() {
    let (place, _running, address) = listening("min_free = \"1000000GiB\"\n");
    let mut client = Client::greeted(address);
    let reply = client.expect("MAIL FROM:<a@b.test>", 452);
    assert!(reply.starts_with("452 4.3.1"), "{reply}");
    assert!(
        fs::read_dir(place.root().join("Pickup"))
            .unwrap()
            .next()
            .is_none()
    );
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

#[test]
fn hundreds_that_say_nothing_keep_nobody_out() {
    let (place, running, address) = listening("");
    let idle: Vec<Client> = (0..500).map(|_| Client::connect(address).0).collect();
    let mut client = Client::sending(address);
    assert!(client.data("A: b\r\n\r\n").starts_with("250"));
    assert_eq!(place.files("Pickup", "EML").len(), 1);
    assert!(
        running.most_memory() < 200 * 1024,
        "{} KiB",
        running.most_memory()
    );
    let ended = running.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    drop(idle);
}

/// Replies that nobody reads do not pile up, and such a session can be ended.
#[test]
fn who_does_not_listen_costs_little() {
    let (_place, running, address) = listening("");
    let before = running.most_memory();
    let deaf: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = Client::connect(address).0;
            let tcp = client.input.get_mut();
            tcp.set_nonblocking(true).unwrap();
            let flood = b"EHLO a\r\n".repeat(20_000);
            let mut sent = 0;
            let begun = std::time::Instant::now();
            while sent < flood.len() && begun.elapsed() < Duration::from_millis(200) {
                sent += tcp.write(&flood[sent..]).unwrap_or(0);
            }
            client
        })
        .collect();
    let grown = running.most_memory() - before;
    assert!(grown < 16 * 1024, "{grown} KiB for 20 of them");
    let ended = running.stop();
    assert_eq!(ended.code, Some(0));
    assert!(!ended.stderr.contains("cut off"), "{}", ended.stderr);
    drop(deaf);
}

#[test]
fn a_client_that_says_nothing_or_drips_is_shown_out() {
    let (_place, _running, address) = listening("timeout = \"1s\"\n");
    let mut client = Client::greeted(address);
    assert!(client.reply().starts_with("421 4.4.2"));
    assert_eq!(client.reply(), "");
    let mut client = Client::sending(address);
    client.expect("DATA", 354);
    let began = std::time::Instant::now();
    while client.input.get_mut().write_all(b"x").is_ok() {
        assert!(began.elapsed() < SOON, "a client that drips may stay");
        std::thread::sleep(Duration::from_millis(50));
    }
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

fn add_user(root: &str, name: &str, password: &str) {
    let mut adding = std::process::Command::new(env!("CARGO_BIN_EXE_mailroot"))
        .args(["user", "add", name, root])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    writeln!(adding.stdin.take().unwrap(), "{password}").unwrap();
    assert!(adding.wait().unwrap().success());
}

/// Killed at some moment while many send: what got 250 is there and whole, of the rest there is no trace.
#[test]
fn a_promise_outlives_a_crash() {
    for _ in 0..5 {
        let (place, running, address) = listening("");
        let senders: Vec<_> = (0..8)
            .map(|sender| {
                std::thread::spawn(move || {
                    let mut promised = Vec::new();
                    let mut client = Client::greeted(address);
                    for number in 0..10_000 {
                        let subject = format!("{sender}-{number}");
                        client.send("MAIL FROM:<a@b.test>\r\nRCPT TO:<bob@local.test>\r\nDATA\r\n");
                        let asked = [client.reply(), client.reply(), client.reply()];
                        if !asked[2].starts_with("354") {
                            break;
                        }
                        client.send(format!("Subject: {subject}\r\n\r\nthe end\r\n.\r\n"));
                        if !client.reply().starts_with("250") {
                            break;
                        }
                        promised.push(subject);
                    }
                    promised
                })
            })
            .collect();
        wait_until("some have come", SOON, || place.files("Pickup", "EML").len() > 40);
        running.crash();
        let promised: BTreeSet<String> = senders
            .into_iter()
            .flat_map(|sender| sender.join().unwrap())
            .collect();
        let mut there = BTreeSet::new();
        for entry in fs::read_dir(place.root().join("Pickup")).unwrap() {
            let path = entry.unwrap().path();
            assert!(
                path.extension().is_some_and(|e| e == "EML"),
                "a trace: {}",
                path.display()
            );
            let mut text = String::new();
            fs::File::open(&path).unwrap().read_to_string(&mut text).unwrap();
            assert!(text.ends_with("\r\n\r\nthe end\r\n"), "half of it: {text}");
            let subject = text.lines().find_map(|line| line.strip_prefix("Subject: "));
            there.insert(subject.unwrap().to_owned());
        }
        let lost: Vec<&String> = promised.difference(&there).collect();
        assert!(lost.is_empty(), "promised and gone: {lost:?}");
        // at most the one that each was waiting for
        assert!(
            there.len() - promised.len() <= 8,
            "{} of {}",
            promised.len(),
            there.len()
        );
    }
}

#[test]
fn sessions_can_be_seen_and_ended_and_new_ones_turned_away() {
    let (place, running, address) = listening("");
    let root = place.root().display().to_string();
    let notes = place.beside().join("notes");
    let command = |args: &[&str]| {
        let done = process::mailroot(&notes, args);
        assert_eq!(done.code, Some(0), "{args:?}: {}", done.stderr);
        done.stdout
    };
    let (mut first, mut second) = (Client::sending(address), Client::greeted(address));
    let mut listed = String::new();
    wait_until("both are shown", SOON, || {
        listed = command(&["sessions", &root]);
        listed.lines().count() == 2 && listed.contains("state=RCPT")
    });
    let id = |state: &str| {
        let line = listed.lines().find(|line| line.contains(state)).unwrap();
        assert!(
            line.contains("client=127.0.0.1:") && line.contains("helo=client.test"),
            "{line}"
        );
        line.split_whitespace().next().unwrap().to_owned()
    };
    let unknown = process::mailroot(
        &notes,
        &[
            "sessions",
            "end",
            &format!("{}9", id("state=RCPT")),
            "--dir",
            &root,
        ],
    );
    assert_eq!(unknown.code, Some(66), "{}", unknown.stderr);
    command(&["sessions", "end", &id("state=RCPT"), "--dir", &root]);
    assert!(first.reply().starts_with("421"));
    assert_eq!(first.reply(), "");
    second.expect("NOOP", 250);

    command(&["pause", &root]);
    wait_until("new ones are turned away", SOON, || {
        Client::connect(address).1.starts_with("421 4.3.2")
    });
    second.expect("NOOP", 250);
    assert!(command(&["sessions", &root]).starts_with("paused"));
    command(&["resume", &root]);
    wait_until("new ones are taken", SOON, || {
        Client::connect(address).1.starts_with("220")
    });

    command(&["sessions", "end", "--all", "--dir", &root]);
    assert!(second.reply().starts_with("421"));
    wait_until("nobody is shown", SOON, || {
        command(&["sessions", &root]).is_empty()
    });
    assert_eq!(running.stop().code, Some(0));
    assert!(
        fs::read_dir(place.root().join("Status/listener"))
            .unwrap()
            .next()
            .is_none()
    );
}
