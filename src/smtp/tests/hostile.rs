//! Hosts that lie, stall, hang up or talk out of turn.

use std::time::{Duration, Instant};

use super::super::RefusedKind;
use super::support::*;

const PIPED: &[&str] = &["PIPELINING"];
/// Long enough for a busy machine, short enough to wait for.
const SHORT: Duration = Duration::from_secs(1);

#[test]
fn a_connection_lost_before_the_last_reply_may_have_been_a_delivery() {
    for offers in [PIPED, &["PIPELINING", "CHUNKING"]] {
        for silent in [false, true] {
            let host = Host::new(move |c| {
                c.greet(offers);
                c.hear("MAIL");
                c.hear("RCPT");
                c.hear(if offers == PIPED { "DATA" } else { "BDAT" });
                c.say("250 ok\r\n250 ok");
                if offers == PIPED {
                    c.say("354 go");
                    c.data();
                } else {
                    c.bytes(3);
                }
                if silent {
                    c.gone();
                }
            });
            let mut session = host.connect_with(|peer| peer.timeout = SHORT).unwrap();
            let sent = send(&mut session, &recipients(&["a@b.test"]), &text("x\r\n"));
            let cause = if silent {
                "the host was silent for 2 s"
            } else {
                "the host closed the connection"
            };
            assert_eq!(
                briefs(&sent.outcomes),
                [format!(
                    "Deferred 4.4.2 {cause} while the reply to the message was due; it may have been accepted, \
                     so a second copy is possible"
                )]
            );
            assert!(!session.usable());
            drop(session);
            host.done();
        }
    }
}

#[test]
fn a_connection_lost_earlier_was_none() {
    type Script = fn(&mut Conn);
    let scripts: [(Script, &str); 3] = [
        (|_| {}, "the reply to MAIL"),
        (|c| c.say("250 ok"), "the reply to RCPT"),
        (|c| c.say("250 ok\r\n250 ok"), "the reply to DATA"),
    ];
    for (script, due) in scripts {
        let host = Host::new(move |c| {
            c.greet(PIPED);
            c.hear("MAIL");
            c.hear("RCPT");
            c.hear("DATA");
            script(c);
        });
        let mut session = host.connect().unwrap();
        let sent = send(&mut session, &recipients(&["a@b.test"]), &text("x\r\n"));
        assert_eq!(
            briefs(&sent.outcomes),
            [format!(
                "Deferred 4.4.2 the host closed the connection while {due} was due"
            )]
        );
        host.done();
    }
}

#[test]
fn a_host_that_refuses_in_mid_message_is_heard() {
    let (give_up, given_up) = crossbeam_channel::bounded::<()>(0);
    let host = Host::new(move |c| {
        c.greet(PIPED);
        c.hear("MAIL");
        c.hear("RCPT");
        c.hear("DATA");
        c.say("250 ok\r\n250 ok\r\n354 go");
        c.bytes(100_000);
        c.say("552 5.3.4 that is enough");
        // Reads nothing more, so that the client's writes stop, and closes only when the client has given up.
        let _ = given_up.recv();
    });
    let mut session = host.connect_with(|peer| peer.timeout = SHORT).unwrap();
    let sent = send(&mut session, &recipients(&["a@b.test"]), &long_text(80_000_000));
    assert_eq!(briefs(&sent.outcomes), ["Failed 5.3.4 552 5.3.4 that is enough"]);
    assert!(!session.usable());
    drop((session, give_up));
    host.done();
}

#[test]
fn half_a_message_is_never_delivered() {
    let (give_up, given_up) = crossbeam_channel::bounded::<()>(0);
    let host = Host::new(move |c| {
        c.greet(PIPED);
        c.hear("MAIL");
        c.hear("RCPT");
        c.hear("DATA");
        c.say("250 ok\r\n250 ok\r\n354 go");
        c.bytes(100_000);
        c.say("250 2.0.0 mine");
        let _ = given_up.recv();
    });
    let mut session = host.connect_with(|peer| peer.timeout = SHORT).unwrap();
    let sent = send(&mut session, &recipients(&["a@b.test"]), &long_text(80_000_000));
    assert!(
        brief(&sent.outcomes[0]).starts_with("Deferred 4.4.2 the host was silent"),
        "{:?}",
        sent.outcomes
    );
    assert!(!sent.outcomes[0].text.contains("may have been accepted"));
    drop((session, give_up));
    host.done();
}

#[test]
fn greetings_that_are_no_smtp() {
    for junk in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"\0\0\0\0\r\n",
        b"220-a\r\n250 b\r\n",
    ] {
        let host = Host::new(move |c| c.raw(junk));
        let refused = host.refusal(|_| {});
        assert_eq!(refused.kind, RefusedKind::Greeting);
        assert!(
            brief(&refused.outcome).starts_with("Deferred 4.5.0 the host did not speak SMTP ("),
            "{}",
            refused.outcome.text
        );
        assert!(!refused.dialogue.contains('\0'));
        host.done();
    }
}

#[test]
fn endless_lines_and_replies_end() {
    for endless in [vec![b'2'; 1 << 20], b"220-more\r\n".repeat(100_000)] {
        let host = Host::new(move |c| {
            for _ in 0..64 {
                c.raw(&endless);
            }
        });
        let refused = host.refusal(|_| {});
        assert_eq!(refused.kind, RefusedKind::Greeting);
        assert!(
            refused.outcome.text.contains("more than"),
            "{}",
            refused.outcome.text
        );
        assert!(refused.dialogue.len() < 64 * 1024);
        drop(refused);
        host.done();
    }
}

#[test]
fn a_dripping_reply_ends_at_its_deadline() {
    let host = Host::new(|c| {
        c.raw(b"220 ");
        let until = Instant::now() + Duration::from_secs(6);
        while Instant::now() < until {
            c.raw(b"x");
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let began = Instant::now();
    let refused = host.refusal(|peer| peer.timeout = SHORT);
    assert_eq!(refused.kind, RefusedKind::Unreachable);
    assert!(began.elapsed() < Duration::from_secs(4));
    host.done();
}

#[test]
fn words_before_they_are_asked_for_are_tolerated() {
    let host = Host::new(|c| {
        c.greet_raw("220 mx.test\r\n250 ok\r\n250 ok\r\n", PIPED);
        c.quit();
    });
    let session = host.connect().unwrap();
    assert!(session.offers().pipelining);
    assert!(session.opening().contains("spoke on before it was asked"));
    session.quit();
    host.done();
}

#[test]
fn replies_out_of_step_defer_and_end_the_connection() {
    for (replies, offers) in [
        ("354 what", PIPED),
        ("250 ok\r\n354 what", PIPED),
        ("250 ok\r\n250 ok\r\n250 what", PIPED),
        ("250 ok\r\n250 ok\r\n354 what", &["PIPELINING", "CHUNKING"][..]),
    ] {
        let host = Host::new(move |c| {
            c.greet(offers);
            c.hear("MAIL");
            c.hear("RCPT");
            c.say(replies);
        });
        let mut session = host.connect().unwrap();
        let sent = send(&mut session, &recipients(&["a@b.test"]), &text("x\r\n"));
        let shown = brief(&sent.outcomes[0]);
        assert!(
            shown.starts_with("Deferred 4.5.0 the host did not speak SMTP ("),
            "{shown}"
        );
        assert!(!session.usable());
        host.done();
    }
}

#[test]
fn a_kept_connection_that_was_closed_is_told_before_a_message_goes() {
    for words in [None, Some("421 idle for too long")] {
        let (close, closed) = crossbeam_channel::bounded::<()>(0);
        let host = Host::new(move |c| {
            c.greet(&["PIPELINING", "CHUNKING"]);
            c.hear("MAIL");
            c.hear("RCPT");
            c.hear("BDAT");
            c.bytes(3);
            c.say("250 ok\r\n250 ok\r\n250 ok");
            closed.recv().unwrap();
            if let Some(words) = words {
                c.say(words);
            }
        });
        let mut session = host.connect().unwrap();
        let to = recipients(&["a@b.test", "b@b.test"]);
        send(&mut session, &to[..1], &text("x\r\n"));
        assert!(session.usable());
        close.send(()).unwrap();
        host.done();
        let until = Instant::now() + Duration::from_secs(5);
        while session.usable() && Instant::now() < until {
            std::thread::yield_now();
        }
        assert!(!session.usable());
        let sent = send(&mut session, &to, &text("x\r\n"));
        assert_eq!(sent.left_over, [0, 1]);
        assert!(brief(&sent.outcomes[1]).starts_with("Deferred 4.4.2 the host closed"));
        session.quit();
    }
}

#[test]
fn a_fresh_connection_that_is_closed_is_no_reason_for_another() {
    let host = Host::new(|c| c.greet(PIPED));
    let mut session = host.connect().unwrap();
    host.done();
    let until = Instant::now() + Duration::from_secs(5);
    while session.usable() && Instant::now() < until {
        std::thread::yield_now();
    }
    let sent = send(&mut session, &recipients(&["a@b.test"]), &text("x\r\n"));
    assert!(sent.left_over.is_empty());
    assert_eq!(sent.outcomes[0].status.to_string(), "4.4.2");
}

#[test]
fn a_host_that_does_not_reset_is_left() {
    let host = Host::new(|c| {
        c.greet(&[]);
        c.hear("MAIL");
        c.say("250 ok");
        c.hear("RCPT");
        c.say("550 no");
        c.hear("RSET");
        c.say("500 what?");
        c.gone();
    });
    let mut session = host.connect().unwrap();
    send(&mut session, &recipients(&["a@b.test"]), &text("x\r\n"));
    assert!(!session.usable());
    session.quit();
    host.done();
}

#[test]
fn quit_does_not_wait_for_a_host_that_does_not_answer() {
    let host = Host::new(|c| {
        c.greet(&[]);
        c.hear("QUIT");
        c.gone();
    });
    let session = host.connect().unwrap();
    let began = Instant::now();
    session.quit();
    assert!(began.elapsed() < Duration::from_secs(2));
    host.done();
}
