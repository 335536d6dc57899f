//! The practice host, talked to by hand: what it answers, keeps, counts and notes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mailroot::practice::{Action, Host, Rule, Script, Step, When};

const WITHIN: Duration = Duration::from_secs(10);

/// A client by hand.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(host: &Host) -> Self {
        let stream = TcpStream::connect(host.address()).unwrap();
        stream.set_read_timeout(Some(WITHIN)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Greeting and EHLO done.
    fn greeted(host: &Host) -> Self {
        let mut client = Self::connect(host);
        assert!(client.reply().starts_with("220 "));
        assert!(client.say("EHLO client.example").starts_with("250"));
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// One reply, its lines joined by newlines; empty when the host hung up.
    fn reply(&mut self) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            match self.0.read_line(&mut line) {
                Ok(0) | Err(_) => return String::new(),
                Ok(_) => all.push_str(line.trim_end_matches("\r\n")),
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return all;
            }
            all.push('\n');
        }
    }

    fn say(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// MAIL, RCPT and DATA with a small message; the last reply.
    fn mail(&mut self, to: &str) -> String {
        assert!(self.say("MAIL FROM:<a@example.com>").starts_with("250"));
        let rcpt = self.say(&format!("RCPT TO:<{to}>"));
        if !rcpt.starts_with("250") {
            return rcpt;
        }
        let data = self.say("DATA");
        if !data.starts_with("354") {
            return data;
        }
        self.send(b"Subject: x\r\n\r\nhello\r\n.\r\n");
        self.reply()
    }
}

fn host(talk: &str) -> Host {
    Host::start(talk.parse().unwrap()).unwrap()
}

#[test]
fn a_message_is_kept_as_it_came() {
    let host = host("name mx.example");
    let mut client = Client::connect(&host);
    assert_eq!(client.reply(), "220 mx.example ESMTP practice host");
    assert_eq!(
        client.say("EHLO c.example"),
        "250-mx.example greets c.example\n250-PIPELINING\n250-8BITMIME\n250-SMTPUTF8\n250-CHUNKING\n250-DSN\n\
         250-ENHANCEDSTATUSCODES\n250 SIZE 104857600"
    );
    client.send(
        b"MAIL FROM:<> RET=HDRS ENVID=x+2By BODY=8BITMIME\r\nRCPT TO:<b@example.net> NOTIFY=NEVER\r\n\
          RCPT TO:<\"q s\"@example.net>\r\nDATA\r\n",
    );
    for expected in ["250 2.1.0", "250 2.1.5", "250 2.1.5", "354 "] {
        assert!(client.reply().starts_with(expected));
    }
    client.send(b"Subject: \xfc\r\n\r\n..x\r\n\t\r\n.\r\n");
    assert!(client.reply().starts_with("250 2.0.0"));
    assert!(client.say("QUIT").starts_with("221"));
    assert_eq!(client.reply(), "");
    let kept = host.wait_for(1, WITHIN).unwrap();
    let message = &kept[0];
    assert_eq!(message.content, b"Subject: \xfc\r\n\r\n.x\r\n\t\r\n");
    assert_eq!(
        (message.helo.as_str(), message.sender.as_str()),
        ("c.example", "")
    );
    assert_eq!(message.sender_parameters, "RET=HDRS ENVID=x+2By BODY=8BITMIME");
    let to: Vec<_> = message
        .recipients
        .iter()
        .map(|r| (r.address.as_str(), r.parameters.as_str()))
        .collect();
    assert_eq!(
        to,
        [("b@example.net", "NOTIFY=NEVER"), ("\"q s\"@example.net", "")]
    );
    assert!(!message.tls && message.esmtp && !message.chunking && message.auth_user.is_none());
    assert_eq!(host.violations(), [""; 0]);
    let counts = host.counts();
    assert_eq!(
        (
            counts.connections,
            counts.messages,
            counts.recipients,
            counts.commands
        ),
        (1, 1, 2, 6)
    );
    assert_eq!(counts.bytes, message.content.len() as u64);
    assert_eq!(host.dialogue()[4], (1, "DATA".to_owned()));
}

#[test]
fn bdat_is_counted_not_ended_by_a_period() {
    let host = host("");
    let mut client = Client::greeted(&host);
    client.send(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 5\r\na\r\n.\rBDAT 3 LAST\r\n\n.\nQUIT\r\n");
    for expected in ["250 2.1.0", "250 2.1.5", "250 2.0.0", "250 2.0.0", "221"] {
        let reply = client.reply();
        assert!(reply.starts_with(expected), "{reply}");
    }
    let message = &host.accepted()[0];
    assert_eq!(message.content, b"a\r\n.\r\n.\n");
    assert!(message.chunking && message.bare_lf && !message.bare_cr);
}

#[test]
fn rules_answer_by_address_and_by_count() {
    let host = host(
        "rcpt refused@* -> 550 5.1.1 no such user | ask somebody else\n\
         rcpt grey@* first 1 -> 451 4.7.1 try later\n\
         rcpt over 2 -> 452 4.5.3 too many\n\
         mail from:<*@spam.example> -> 554 5.7.1 no\n",
    );
    let mut client = Client::greeted(&host);
    assert_eq!(client.say("MAIL FROM:<x@Spam.Example>"), "554 5.7.1 no");
    assert!(client.say("RCPT TO:<a@b>").starts_with("503"));
    assert!(client.say("MAIL FROM:<x@example.com>").starts_with("250"));
    assert_eq!(
        client.say("RCPT TO:<refused@example.net>"),
        "550-5.1.1 no such user\n550 ask somebody else"
    );
    assert!(client.say("DATA").starts_with("554 5.5.1"));
    for (address, code) in [
        ("grey@a", "451"),
        ("grey@b", "451"),
        ("grey@a", "250"),
        ("c@d", "250"),
        ("e@f", "452"),
    ] {
        assert!(
            client.say(&format!("RCPT TO:<{address}>")).starts_with(code),
            "{address}"
        );
    }
    assert_eq!(host.violations(), [""; 0]);
}

#[test]
fn it_can_go_wrong_at_every_step() {
    let hangs_up = |talk: &str, up_to: usize| {
        let host = host(talk);
        let mut client = Client::connect(&host);
        let steps = ["", "EHLO c", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "x\r\n."];
        for (i, step) in steps.iter().enumerate() {
            let reply = if i == 0 { client.reply() } else { client.say(step) };
            assert_eq!(reply.is_empty(), i == up_to, "{talk}: {step}: {reply}");
            if i == up_to {
                break;
            }
        }
        host.counts().messages
    };
    assert_eq!(hangs_up("hang up after connect", 0), 0);
    assert_eq!(hangs_up("hang up after ehlo", 1), 0);
    assert_eq!(hangs_up("hang up after mail", 2), 0);
    assert_eq!(hangs_up("hang up after rcpt", 3), 0);
    assert_eq!(hangs_up("hang up after data", 4), 0);
    assert_eq!(hangs_up("hang up after end", 5), 0);
    assert_eq!(hangs_up("content over 1 -> hang up", 5), 0);
    assert_eq!(hangs_up("end -> keep then hang up", 5), 1);
}

#[test]
fn an_end_can_be_refused_and_a_connection_limited() {
    let host = host("end first 1 -> 452 4.3.1 full\nafter 2 messages -> 421 4.3.2 enough");
    let mut client = Client::greeted(&host);
    assert_eq!(client.mail("a@b"), "452 4.3.1 full");
    assert!(client.mail("a@b").starts_with("250"));
    assert_eq!(client.say("MAIL FROM:<a@b>"), "421 4.3.2 enough");
    assert_eq!(client.reply(), "", "421 ends the connection");
    assert_eq!(host.counts().messages, 1);
}

#[test]
fn a_refused_greeting_leaves_only_quit() {
    let host = host("connect -> 554 5.7.1 not you");
    let mut client = Client::connect(&host);
    assert_eq!(client.reply(), "554 5.7.1 not you");
    assert!(client.say("EHLO c").starts_with("503"));
    assert!(client.say("QUIT").starts_with("221"));
}

#[test]
fn helo_only_knows_no_parameters() {
    let host = host("helo only");
    let mut client = Client::connect(&host);
    client.reply();
    assert!(client.say("EHLO c").starts_with("502"));
    assert_eq!(client.say("HELO c"), "250 practice.example");
    assert!(client.say("MAIL FROM:<a@b> SIZE=10").starts_with("555 "));
    assert_eq!(client.mail("c@d"), "250 taken");
    assert!(!host.accepted()[0].esmtp);
}

#[test]
fn violations_are_noted() {
    let host = host("offer SIZE 1000, ENHANCEDSTATUSCODES");
    let mut client = Client::greeted(&host);
    assert!(
        client
            .say("MAIL FROM:<a@b> BODY=8BITMIME")
            .starts_with("555 5.5.4")
    );
    assert!(client.say("MAIL FROM:<a@b> SIZE=1001").starts_with("552 5.3.4"));
    assert!(client.say("MAIL FROM:<\u{fc}@b>").starts_with("553 5.6.7"));
    assert!(client.say("MAIL FROM: <a@b>").starts_with("501"));
    client.send(b"MAIL FROM:<a@b> SIZE=3\r\nRCPT TO:<c@d>\n");
    client.reply();
    client.reply();
    client.say("DATA");
    client.send(b".x\r\n\xff\r\na\nb\rc\r\n");
    client.send(&[b'x'; 999]);
    client.send(b"\r\n.\r\n");
    assert!(client.reply().starts_with("552"), "SIZE was 1000");
    let noted = host.violations().join("\n");
    for part in [
        "8BITMIME was not offered",
        "PIPELINING was not offered",
        "ends with LF alone",
        "CR without LF",
        "LF without CR",
        "period that was not doubled",
        "BODY=8BITMIME was not said",
        "over 998 bytes",
        "larger than its SIZE=",
    ] {
        assert_eq!(noted.matches(part).count(), 1, "{part}\n{noted}");
    }
}

#[test]
fn users_are_let_in_by_their_secrets() {
    let host = host(
        "offer AUTH PLAIN LOGIN CRAM-MD5 XOAUTH2, ENHANCEDSTATUSCODES\nrequire auth\nuser alice secret\ntoken bob t0k\n",
    );
    let ask = |lines: &[&str]| {
        let mut client = Client::greeted(&host);
        assert!(client.say("MAIL FROM:<a@b>").starts_with("530"));
        lines.iter().fold(String::new(), |_, line| client.say(line))
    };
    assert_eq!(ask(&["AUTH PLAIN AGFsaWNlAHNlY3JldA=="]), "235 2.7.0 welcome");
    assert_eq!(ask(&["AUTH PLAIN", "AGFsaWNlAHNlY3JldA=="]), "235 2.7.0 welcome");
    assert!(ask(&["AUTH PLAIN AGFsaWNlAHdyb25n"]).starts_with("535"));
    assert!(ask(&["AUTH PLAIN ????"]).starts_with("501"));
    assert!(ask(&["AUTH LOGIN", "*"]).starts_with("501"));
    assert_eq!(ask(&["AUTH LOGIN"]), "334 VXNlcm5hbWU6");
    assert_eq!(ask(&["AUTH LOGIN", "YWxpY2U="]), "334 UGFzc3dvcmQ6");
    assert!(ask(&["AUTH LOGIN", "YWxpY2U=", "c2VjcmV0"]).starts_with("235"));
    assert!(ask(&["AUTH CRAM-MD5", "YWxpY2UgMDAw"]).starts_with("535"));
    assert!(ask(&["AUTH GSSAPI"]).starts_with("504"));
    // user=bob^Aauth=Bearer t0k^A^A, then a wrong token
    assert!(ask(&["AUTH XOAUTH2 dXNlcj1ib2IBYXV0aD1CZWFyZXIgdDBrAQE="]).starts_with("235"));
    assert!(ask(&["AUTH XOAUTH2 dXNlcj1ib2IBYXV0aD1CZWFyZXIgeAEB", ""]).starts_with("535"));
    let mut client = Client::greeted(&host);
    client.say("AUTH PLAIN AGFsaWNlAHNlY3JldA==");
    assert!(client.mail("c@d").starts_with("250"));
    assert_eq!(host.accepted()[0].auth_user.as_deref(), Some("alice"));
}

#[test]
fn starttls_that_cannot_be_is_454() {
    let host = host("offer STARTTLS");
    let mut client = Client::greeted(&host);
    assert!(client.say("STARTTLS").starts_with("454"));
    assert!(client.mail("c@d").starts_with("250"), "it goes on in clear");
}

#[test]
fn another_script_is_followed_from_the_next_connection_on() {
    let host = host("rcpt -> 450 not yet");
    let mut first = Client::greeted(&host);
    assert_eq!(first.mail("a@b"), "450 not yet");
    host.follow(Script::new());
    first.say("RSET");
    assert_eq!(first.mail("a@b"), "450 not yet");
    assert!(Client::greeted(&host).mail("a@b").starts_with("250"));
}

#[test]
fn stalls_delays_and_drips_take_their_time() {
    let took = |talk: &str| {
        let host = host(talk);
        let begin = Instant::now();
        assert!(Client::greeted(&host).mail("a@b").starts_with("250"));
        begin.elapsed()
    };
    assert!(took("offer nothing\nstall after data 200ms") >= Duration::from_millis(200));
    assert!(took("offer nothing\nreply delay 40ms") >= Duration::from_millis(240));
    assert!(took("offer nothing\ndrip 1ms") >= Duration::from_millis(100));
}

#[test]
fn rules_can_be_built_without_text() {
    let rule = Rule::at(Step::Rcpt)
        .matching("x@*")
        .when(When::After(1))
        .then(Action::Stall(Duration::from_millis(1)))
        .reply(550, "5.1.1 once only");
    let host = Host::start(Script::new().offering(&["DSN"]).rule(rule)).unwrap();
    let mut client = Client::greeted(&host);
    assert!(client.mail("x@b").starts_with("250"));
    assert_eq!(client.mail("x@b"), "550 5.1.1 once only");
}

#[test]
fn many_talk_at_once_and_a_sink_keeps_nothing() {
    let host = Arc::new(host("discard"));
    let threads: Vec<_> = (0..16)
        .map(|_| {
            let host = Arc::clone(&host);
            std::thread::spawn(move || {
                let mut client = Client::greeted(&host);
                for _ in 0..50 {
                    assert!(client.mail("a@b").starts_with("250"));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert!(host.wait_for(800, WITHIN).unwrap().is_empty());
    assert_eq!(host.counts().messages, 800);
    assert!(host.counts().most_open <= 16 && host.dialogue().is_empty());
    assert!(
        host.wait_for(801, Duration::from_millis(20))
            .unwrap_err()
            .starts_with("800 of 801")
    );
}

#[test]
fn a_dropped_host_ends_its_connections_at_once() {
    let host = host("stall after data 10m");
    let mut idle = Client::greeted(&host);
    let mut stalled = Client::greeted(&host);
    stalled.send(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n");
    stalled.reply();
    stalled.reply();
    let (address, begin) = (host.address(), Instant::now());
    drop(host);
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    assert_eq!((idle.reply(), stalled.reply()), (String::new(), String::new()));
    assert!(TcpStream::connect(address).is_err());
}
