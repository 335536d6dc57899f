//! MAIL, RCPT, DATA, BDAT and their verdicts.

use super::super::{Sent, Transaction};
use super::support::*;
use crate::mail::{Notify, Recipient, Ret};

const PIPED: &[&str] = &["PIPELINING"];
const CHUNKED: &[&str] = &["PIPELINING", "CHUNKING"];

/// Opens, sends to `to`, quits when it can.
fn deliver(host: Host, to: &[&str], body: &Text) -> Sent {
    let mut session = host.connect().unwrap();
    let sent = send(&mut session, &recipients(to), body);
    session.quit();
    host.done();
    sent
}

#[test]
fn in_lock_step_without_pipelining() {
    let host = Host::new(|c| {
        c.greet(&[]);
        assert_eq!(c.hear("MAIL"), "MAIL FROM:<from@here.test>");
        assert_eq!(c.all_there_is(), 0);
        c.say("250 ok");
        assert_eq!(c.hear("RCPT"), "RCPT TO:<a@b.test>");
        assert_eq!(c.all_there_is(), 0);
        c.say("550 5.1.1 no a");
        c.hear("RCPT TO:<b@b.test>");
        assert_eq!(c.all_there_is(), 0);
        c.say("250 ok");
        c.hear("DATA");
        c.say("354 go");
        assert_eq!(c.data(), "..dot\r\nend\r\n");
        c.say("250 2.0.0 mine as 42");
        c.quit();
    });
    let port = host.address.port();
    let sent = deliver(host, &["a@b.test", "b@b.test"], &text(".dot\r\nend\r\n"));
    assert_eq!(
        briefs(&sent.outcomes),
        [
            "Failed 5.1.1 550 5.1.1 no a",
            "Delivered 2.0.0 250 2.0.0 mine as 42"
        ]
    );
    assert_eq!(
        sent.outcomes[1].host.as_deref(),
        Some(format!("mx.test[127.0.0.1]:{port}").as_str())
    );
    assert_eq!(
        sent.dialogue,
        "> MAIL FROM:<from@here.test>\n< 250 ok\n> RCPT TO:<a@b.test>\n< 550 5.1.1 no a\n\
         > RCPT TO:<b@b.test>\n< 250 ok\n> DATA\n< 354 go\n> [12 bytes of message]\n> .\n\
         < 250 2.0.0 mine as 42\n"
    );
    assert!(sent.left_over.is_empty());
}

#[test]
fn pipelined_commands_come_in_one_write_and_connections_are_reused() {
    let host = Host::new(|c| {
        c.greet(PIPED);
        for _ in 0..3 {
            c.hear("MAIL");
            c.hear("RCPT");
            c.hear("RCPT");
            c.hear("DATA");
            c.say("250 ok\r\n250 ok\r\n450 4.2.0 later\r\n354 go");
            assert_eq!(c.data(), "hi\r\n");
            c.say("250 2.6.0 done");
        }
        c.quit();
    });
    let mut session = host.connect().unwrap();
    for _ in 0..3 {
        assert!(session.usable());
        let sent = send(
            &mut session,
            &recipients(&["a@b.test", "c@b.test"]),
            &text("hi\r\n"),
        );
        assert_eq!(
            briefs(&sent.outcomes),
            ["Delivered 2.6.0 250 2.6.0 done", "Deferred 4.2.0 450 4.2.0 later"]
        );
    }
    session.quit();
    host.done();
}

#[test]
fn a_short_message_leaves_with_its_envelope_as_one_chunk() {
    let host = Host::new(|c| {
        c.greet(CHUNKED);
        c.hear("MAIL");
        c.hear("RCPT");
        assert_eq!(c.hear("BDAT"), "BDAT 12 LAST");
        assert_eq!(c.bytes(12), b".dot\r\n..\r\n\r\n");
        c.say("250 ok\r\n250 ok\r\n250 2.0.0 mine");
        c.quit();
    });
    let sent = deliver(host, &["a@b.test"], &text(".dot\r\n..\r\n\r\n"));
    assert_eq!(briefs(&sent.outcomes), ["Delivered 2.0.0 250 2.0.0 mine"]);
    assert!(
        sent.dialogue
            .contains("> BDAT 12 LAST\n> [12 bytes of message]\n")
    );
}

#[test]
fn a_long_message_goes_in_chunks() {
    for offers in [CHUNKED, &["CHUNKING"]] {
        let body = long_text(800_000);
        let expected = body.bytes.clone();
        let host = Host::new(move |c| {
            c.greet(offers);
            c.hear("MAIL");
            c.say("250 ok");
            c.hear("RCPT");
            c.say("250 ok");
            let mut got = Vec::new();
            loop {
                let line = c.hear("BDAT ");
                let mut words = line.split(' ').skip(1);
                let count: usize = words.next().unwrap().parse().unwrap();
                got.extend(c.bytes(count));
                if words.next() == Some("LAST") {
                    break;
                }
                if !offers.contains(&"PIPELINING") {
                    assert_eq!(c.all_there_is(), 0);
                }
                c.say("250 more");
            }
            assert!(got == expected);
            c.say("250 2.0.0 whole");
            c.quit();
        });
        let sent = deliver(host, &["a@b.test"], &body);
        assert_eq!(briefs(&sent.outcomes), ["Delivered 2.0.0 250 2.0.0 whole"]);
        assert!(sent.dialogue.contains("> BDAT 262144\n"), "{}", sent.dialogue);
    }
}

#[test]
fn a_refused_chunk_ends_the_message_and_not_the_connection() {
    let host = Host::new(|c| {
        c.greet(CHUNKED);
        c.hear("MAIL");
        c.say("250 ok");
        c.hear("RCPT");
        c.say("250 ok");
        c.hear("BDAT");
        c.bytes(262_144);
        c.hear("BDAT");
        c.bytes(262_144);
        c.say("552 5.3.4 too large\r\n503 5.5.1 no transaction");
        c.hear("RSET");
        c.say("250 ok");
        c.quit();
    });
    let mut session = host.connect().unwrap();
    let sent = send(&mut session, &recipients(&["a@b.test"]), &long_text(2_000_000));
    assert_eq!(briefs(&sent.outcomes), ["Failed 5.3.4 552 5.3.4 too large"]);
    assert!(session.usable());
    session.quit();
    host.done();
}

/// Two chunks, both on their way before the first is answered.
fn two_chunks(answer: impl FnOnce(&mut Conn) + Send + 'static) -> (Sent, bool) {
    let host = Host::new(move |c| {
        c.greet(CHUNKED);
        c.hear("MAIL");
        c.say("250 ok");
        c.hear("RCPT");
        c.say("250 ok");
        c.hear("BDAT 262144");
        c.bytes(262_144);
        assert_eq!(c.hear("BDAT"), "BDAT 37856 LAST");
        c.bytes(37_856);
        answer(c);
    });
    let mut session = host.connect().unwrap();
    let sent = send(&mut session, &recipients(&["a@b.test"]), &long_text(300_000));
    let usable = session.usable();
    session.quit();
    host.done();
    (sent, usable)
}

#[test]
fn a_refused_chunk_before_the_last_leaves_the_conversation_in_step() {
    let (sent, usable) = two_chunks(|c| {
        c.say("451 4.3.0 no disk\r\n503 5.5.1 what?");
        c.hear("RSET");
        c.say("250 ok");
        c.quit();
    });
    assert_eq!(briefs(&sent.outcomes), ["Deferred 4.3.0 451 4.3.0 no disk"]);
    assert!(usable);
}

#[test]
fn a_connection_lost_behind_the_last_chunk_may_have_been_a_delivery() {
    let (sent, usable) = two_chunks(|_| {});
    let shown = brief(&sent.outcomes[0]);
    assert!(
        shown.starts_with("Deferred 4.4.2 ") && shown.contains("may have been accepted"),
        "{shown}"
    );
    assert!(!usable);
}

#[test]
fn a_long_message_by_data() {
    let body = long_text(400_000);
    let expected = String::from_utf8(body.bytes.clone()).unwrap();
    let host = Host::new(move |c| {
        c.greet(PIPED);
        c.hear("MAIL");
        c.hear("RCPT");
        c.hear("DATA");
        c.say("250 ok\r\n250 ok\r\n354 go");
        assert!(c.data() == expected);
        c.say("250 whole");
        c.quit();
    });
    let sent = deliver(host, &["a@b.test"], &body);
    assert_eq!(briefs(&sent.outcomes), ["Delivered 2.0.0 250 whole"]);
    assert!(sent.dialogue.contains("> [400000 bytes of message]\n> .\n"));
}

#[test]
fn a_message_without_a_last_line_end_still_ends() {
    // Short, long, and so long that the last block is empty.
    for size in [86, 160_006, 131_072] {
        let mut body = long_text((size - 6) / 80 * 80);
        body.bytes.resize(size - 6, b'x');
        body.bytes.extend_from_slice(b"no end");
        let host = Host::new(|c| {
            c.greet(PIPED);
            c.hear("MAIL");
            c.hear("RCPT");
            c.hear("DATA");
            c.say("250 ok\r\n250 ok\r\n354 go");
            assert!(c.data().ends_with("no end\r\n"));
            c.say("250 whole");
            c.quit();
        });
        let sent = deliver(host, &["a@b.test"], &body);
        assert_eq!(briefs(&sent.outcomes), ["Delivered 2.0.0 250 whole"]);
    }
}

#[test]
fn when_all_are_refused_the_message_stays_here() {
    // 354 all the same: an empty message, whatever is said to it.
    let host = Host::new(|c| {
        c.greet(PIPED);
        c.hear("MAIL");
        c.hear("RCPT");
        c.hear("DATA");
        c.say("250 ok\r\n550 no\r\n354 go");
        assert_eq!(c.data(), "");
        c.say("250 thanks for nothing");
        c.hear("RSET");
        c.say("250 ok");
        c.quit();
    });
    let sent = deliver(host, &["a@b.test"], &text("secret\r\n"));
    assert_eq!(briefs(&sent.outcomes), ["Failed 5.1.0 550 no"]);

    for reply in ["503 no recipients", "554 no recipients"] {
        let host = Host::new(move |c| {
            c.greet(PIPED);
            c.hear("MAIL");
            c.hear("RCPT");
            c.hear("DATA");
            c.say(&format!("250 ok\r\n550 no\r\n{reply}"));
            c.hear("RSET");
            c.say("250 ok");
            c.quit();
        });
        let sent = deliver(host, &["a@b.test"], &text("x\r\n"));
        assert_eq!(briefs(&sent.outcomes), ["Failed 5.1.0 550 no"]);
    }

    let host = Host::new(|c| {
        c.greet(&[]);
        c.hear("MAIL");
        c.say("250 ok");
        c.hear("RCPT");
        c.say("550 no");
        c.hear("RSET");
        c.say("250 ok");
        c.quit();
    });
    let sent = deliver(host, &["a@b.test"], &text("x\r\n"));
    assert_eq!(briefs(&sent.outcomes), ["Failed 5.1.0 550 no"]);

    let host = Host::new(|c| {
        c.greet(CHUNKED);
        c.hear("MAIL");
        c.hear("RCPT");
        c.hear("BDAT 3 LAST");
        c.bytes(3);
        c.say("250 ok\r\n550 no\r\n503 no recipients");
        c.hear("RSET");
        c.say("250 ok");
        c.quit();
    });
    let sent = deliver(host, &["a@b.test"], &text("x\r\n"));
    assert_eq!(briefs(&sent.outcomes), ["Failed 5.1.0 550 no"]);
}

#[test]
fn a_refused_sender_decides_for_all() {
    for (reply, expected) in [
        ("550 5.7.1 not you", "Failed 5.7.1 550 5.7.1 not you"),
        ("552 5.3.4 too large", "Failed 5.3.4 552 5.3.4 too large"),
        ("451 4.7.1 grey", "Deferred 4.7.1 451 4.7.1 grey"),
        (
            "530 5.7.0 STARTTLS first",
            "Deferred 4.7.0 530 5.7.0 STARTTLS first",
        ),
    ] {
        for offers in [PIPED, &[]] {
            let piped = !offers.is_empty();
            let host = Host::new(move |c| {
                c.greet(offers);
                c.hear("MAIL");
                if piped {
                    c.hear("RCPT");
                    c.hear("RCPT");
                    c.hear("DATA");
                    c.say(&format!("{reply}\r\n503 a\r\n503 b\r\n503 c"));
                } else {
                    c.say(reply);
                }
                c.hear("RSET");
                c.say("250 ok");
                c.quit();
            });
            let sent = deliver(host, &["a@b.test", "b@b.test"], &text("x\r\n"));
            assert_eq!(briefs(&sent.outcomes), [expected, expected]);
        }
    }
}

#[test]
fn the_end_of_the_message_decides_for_those_accepted() {
    for (offers, reply, expected) in [
        (PIPED, "554 5.7.1 spam", "Failed 5.7.1 554 5.7.1 spam"),
        (PIPED, "451 4.7.1 later", "Deferred 4.7.1 451 4.7.1 later"),
        (CHUNKED, "554 5.7.1 spam", "Failed 5.7.1 554 5.7.1 spam"),
    ] {
        let host = Host::new(move |c| {
            c.greet(offers);
            c.hear("MAIL");
            c.hear("RCPT");
            c.hear("RCPT");
            if offers == PIPED {
                c.hear("DATA");
                c.say("250 ok\r\n250 ok\r\n550 5.1.1 no\r\n354 go");
                c.data();
            } else {
                c.hear("BDAT");
                c.bytes(3);
                c.say("250 ok\r\n250 ok\r\n550 5.1.1 no");
            }
            c.say(reply);
            c.hear("RSET");
            c.say("250 ok");
            c.quit();
        });
        let sent = deliver(host, &["a@b.test", "b@b.test"], &text("x\r\n"));
        assert_eq!(briefs(&sent.outcomes), [expected, "Failed 5.1.1 550 5.1.1 no"]);
    }
}

#[test]
fn a_refused_data_command_decides_for_those_accepted() {
    let host = Host::new(|c| {
        c.greet(PIPED);
        c.hear("MAIL");
        c.hear("RCPT");
        c.hear("DATA");
        c.say("250 ok\r\n250 ok\r\n451 4.3.0 no disk");
        c.hear("RSET");
        c.say("250 ok");
        c.quit();
    });
    let sent = deliver(host, &["a@b.test"], &text("x\r\n"));
    assert_eq!(briefs(&sent.outcomes), ["Deferred 4.3.0 451 4.3.0 no disk"]);
}

#[test]
fn too_many_recipients_are_left_over_once_one_is_accepted() {
    let host = Host::new(|c| {
        c.greet(PIPED);
        c.hear("MAIL");
        (0..4).for_each(|_| {
            c.hear("RCPT");
        });
        c.hear("DATA");
        c.say("250 ok\r\n250 ok\r\n452 4.5.3 too many\r\n452 4.2.2 full\r\n452 enough\r\n354 go");
        c.data();
        c.say("250 mine");
        c.quit();
    });
    let sent = deliver(
        host,
        &["a@b.test", "b@b.test", "c@b.test", "d@b.test"],
        &text("x\r\n"),
    );
    assert_eq!(sent.left_over, [1, 3]);
    assert_eq!(
        briefs(&sent.outcomes),
        [
            "Delivered 2.0.0 250 mine",
            "Deferred 4.5.3 452 4.5.3 too many",
            "Deferred 4.2.2 452 4.2.2 full",
            "Deferred 4.1.0 452 enough"
        ]
    );
    // Without one accepted there is nothing to split.
    let host = Host::new(|c| {
        c.greet(&[]);
        c.hear("MAIL");
        c.say("250 ok");
        c.hear("RCPT");
        c.say("452 4.5.3 too many");
        c.hear("RSET");
        c.say("250 ok");
        c.quit();
    });
    let sent = deliver(host, &["a@b.test"], &text("x\r\n"));
    assert!(sent.left_over.is_empty());
    assert_eq!(briefs(&sent.outcomes), ["Deferred 4.5.3 452 4.5.3 too many"]);
}

#[test]
fn a_421_defers_all_who_are_open_and_ends_the_connection() {
    let scripts: [fn(&mut Conn); 3] = [
        |c| c.say("250 ok\r\n550 5.1.1 no\r\n421 4.3.2 closing"),
        |c| c.say("250 ok\r\n550 5.1.1 no\r\n250 ok\r\n421 4.3.2 closing"),
        |c| {
            c.say("250 ok\r\n550 5.1.1 no\r\n250 ok\r\n354 go");
            c.data();
            c.say("421 4.3.2 closing");
        },
    ];
    for script in scripts {
        let host = Host::new(move |c| {
            c.greet(PIPED);
            c.hear("MAIL");
            c.hear("RCPT");
            c.hear("RCPT");
            c.hear("DATA");
            script(c);
            c.gone();
        });
        let mut session = host.connect().unwrap();
        let sent = send(
            &mut session,
            &recipients(&["a@b.test", "b@b.test"]),
            &text("x\r\n"),
        );
        assert_eq!(
            briefs(&sent.outcomes),
            ["Failed 5.1.1 550 5.1.1 no", "Deferred 4.3.2 421 4.3.2 closing"]
        );
        assert!(!session.usable());
        host.done();
    }
}

#[test]
fn parameters_go_where_they_are_offered() {
    let host = Host::new(|c| {
        c.greet(&["SIZE", "8BITMIME", "SMTPUTF8", "DSN"]);
        assert_eq!(
            c.hear("MAIL"),
            "MAIL FROM:<from@here.test> SIZE=3 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=id"
        );
        c.say("250 ok");
        assert_eq!(
            c.hear("RCPT"),
            "RCPT TO:<dörte@bücher.test> NOTIFY=NEVER ORCPT=rfc822;d@b"
        );
        c.say("250 ok");
        c.hear("DATA");
        c.say("354 go");
        c.data();
        c.say("250 ok");
        assert_eq!(c.hear("MAIL"), "MAIL FROM:<> SIZE=3");
        c.say("550 no");
        c.hear("RSET");
        c.say("250 ok");
        c.quit();
    });
    let mut session = host.connect().unwrap();
    let sender = address("from@here.test");
    let recipient = Recipient {
        address: address("dörte@bücher.test"),
        notify: Some(Notify::NEVER),
        orcpt: Some("rfc822;d@b".into()),
    };
    let mut tx = Transaction {
        sender: Some(&sender),
        ret: Some(Ret::Full),
        envid: Some("id"),
        utf8: false,
        recipients: &[&recipient],
        before_partial: None,
    };
    let mut body = text("x\r\n");
    body.eight_bit = true;
    let sent = session.send(&tx, &body);
    assert_eq!(briefs(&sent.outcomes), ["Delivered 2.0.0 250 ok"]);
    let plain = recipients(&["a@b.test"]);
    let list = [&plain[0]];
    (tx.sender, tx.ret, tx.envid, tx.recipients) = (None, None, None, &list);
    session.send(&tx, &text("x\r\n"));
    session.quit();
    host.done();
}

#[test]
fn an_international_local_part_fails_alone_without_smtputf8() {
    let host = Host::new(|c| {
        c.greet(&[]);
        c.hear("MAIL");
        c.say("250 ok");
        assert_eq!(c.hear("RCPT"), "RCPT TO:<b@xn--bcher-kva.test>");
        c.say("250 ok");
        c.hear("DATA");
        c.say("354 go");
        c.data();
        c.say("250 ok");
        c.quit();
    });
    let sent = deliver(host, &["dörte@b.test", "b@bücher.test"], &text("x\r\n"));
    assert!(brief(&sent.outcomes[0]).starts_with("Failed 5.6.7 "));
    assert_eq!(brief(&sent.outcomes[1]), "Delivered 2.0.0 250 ok");
}

#[test]
fn what_cannot_go_is_not_begun() {
    let quiet = || {
        Host::new(|c| {
            c.greet(&["SIZE 10"]);
            c.quit();
        })
    };
    let sent = deliver(quiet(), &["a@b.test", "b@b.test"], &text("eleven bytes\r\n"));
    for outcome in &sent.outcomes {
        assert_eq!(
            brief(outcome),
            "Failed 5.3.4 the message has 14 bytes; the host takes 10 at most"
        );
    }
    let sent = deliver(quiet(), &["dörte@b.test"], &text("x\r\n"));
    assert_eq!(sent.outcomes[0].status.to_string(), "5.6.7");
    let mut body = text("x\r\n");
    body.fails_after = Some(1);
    let sent = deliver(quiet(), &["a@b.test"], &body);
    assert_eq!(
        briefs(&sent.outcomes),
        ["Deferred 4.3.0 local disk: the message could not be read (the disk is broken)"]
    );
}

#[test]
fn trouble_of_our_disk_in_mid_message_drops_the_connection_and_defers() {
    for offers in [PIPED, CHUNKED] {
        let host = Host::new(move |c| {
            c.greet(offers);
            c.hear("MAIL");
            c.hear("RCPT");
            c.hear("RCPT");
            if offers == PIPED {
                c.hear("DATA");
            }
            c.say("250 ok\r\n250 ok\r\n550 5.1.1 no");
            if offers == PIPED {
                c.say("354 go");
            }
            // Never an end: no lone period, no LAST.
            let mut all = String::new();
            while let Some(line) = c.next() {
                assert!(line != "." && !line.contains("LAST"));
                all.push_str(&line);
            }
            assert!(!all.is_empty());
        });
        let mut body = long_text(800_000);
        body.fails_after = Some(500_000);
        let mut session = host.connect().unwrap();
        let sent = send(&mut session, &recipients(&["a@b.test", "b@b.test"]), &body);
        assert_eq!(
            briefs(&sent.outcomes),
            [
                "Deferred 4.3.0 local disk: the message could not be read (the disk is broken)",
                "Failed 5.1.1 550 5.1.1 no"
            ]
        );
        assert!(!session.usable());
        // The host has seen the end although the session is still here.
        host.done();
    }
}

#[test]
fn a_thousand_recipients_do_not_fill_both_pipes() {
    let host = Host::new(|c| {
        c.greet(PIPED);
        c.hear("MAIL");
        // Long replies, each written before the next command is read.
        let reply = format!("250-{}\r\n250 ok", "x".repeat(2000));
        // A client that sends on without reading would have both sides wait for each other one day.
        assert!(c.all_there_is() < 17 * 1024);
        c.say("250 ok");
        for _ in 0..1000 {
            c.hear("RCPT");
            c.say(&reply);
        }
        c.hear("DATA");
        c.say("354 go");
        c.data();
        c.say("250 2.0.0 mine");
        c.quit();
    });
    let to: Vec<String> = (0..1000)
        .map(|i| format!("{}{i}@b.test", "long".repeat(15)))
        .collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let sent = deliver(host, &to, &text("x\r\n"));
    assert_eq!(sent.outcomes.len(), 1000);
    assert!(
        sent.outcomes
            .iter()
            .all(|o| brief(o) == "Delivered 2.0.0 250 2.0.0 mine")
    );
    assert!(sent.dialogue.len() < 70_000);
    assert!(sent.dialogue.ends_with("< 250 2.0.0 mine\n"));
}

#[test]
fn who_is_not_taken_is_told_before_the_content_leaves() {
    for offers in [&["PIPELINING", "CHUNKING"][..], &["PIPELINING"][..], &[][..]] {
        let (told, heard) = std::sync::mpsc::channel();
        let (tell_host, at_host) = std::sync::mpsc::channel::<()>();
        let chunking = offers.contains(&"CHUNKING");
        let host = Host::new(move |c| {
            c.greet(offers);
            for (command, reply) in [("MAIL", "250 ok"), ("RCPT", "250 ok"), ("RCPT", "451 later")] {
                c.hear(command);
                c.say(reply);
            }
            if chunking {
                assert_eq!(c.hear("BDAT"), "BDAT 3 LAST");
                c.bytes(3);
            } else {
                c.hear("DATA");
                c.say("354 go");
                c.data();
            }
            assert!(at_host.try_recv().is_ok(), "the content came before it was told");
            c.say("250 ok");
            c.quit();
        });
        let mut session = host.connect().unwrap();
        let to = recipients(&["a@there.test", "b@there.test"]);
        let before = || {
            let _ = tell_host.send(());
            told.send(()).unwrap();
        };
        let tx = Transaction {
            sender: None,
            ret: None,
            envid: None,
            utf8: false,
            recipients: &[&to[0], &to[1]],
            before_partial: Some(&before),
        };
        let sent = session.send(&tx, &text("x\r\n"));
        assert_eq!(
            briefs(&sent.outcomes),
            ["Delivered 2.0.0 250 ok", "Deferred 4.1.0 451 later"]
        );
        session.quit();
        host.done();
        assert_eq!(heard.try_iter().count(), 1);
    }
}
