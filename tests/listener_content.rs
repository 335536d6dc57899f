//! The listener, spoken to over real sockets: what it takes, and how that lies in Pickup.
#![cfg(feature = "listener")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::fs;

use support::listener::{Client, SOON, in_pickup, listening, start_on};
use support::place::{BASE, Place};
use support::{process, wait_until};

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
