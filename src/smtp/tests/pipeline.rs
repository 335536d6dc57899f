//! Several messages under way on one connection.

use super::super::{Launch, Sent, Session};
use super::support::*;

const PIPED: &[&str] = &["PIPELINING"];
const CHUNKED: &[&str] = &["PIPELINING", "CHUNKING"];
const WINDOW: usize = 16;

fn launch_to(session: &mut Session, to: &[&str], body: &Text, window: usize) -> Launch {
    with_transaction(&recipients(to), |tx| session.launch(tx, body, window))
}

fn launch(session: &mut Session, to: &str) {
    let launched = launch_to(session, &[to], &text("hi\r\n"), WINDOW);
    assert_eq!(launched, Launch::UnderWay);
}

fn land(session: &mut Session) -> (Vec<String>, Sent) {
    let sent = session.land().expect("one is under way");
    (briefs(&sent.outcomes), sent)
}

const DONE: &str = "Delivered 2.0.0 250 done";
const CLOSED: &str = "Deferred 4.4.2 the host closed the connection while the reply to the message was due";
const DOUBT: &str = "; it may have been accepted, so a second copy is possible";
const UNTOUCHED: &str =
    "Deferred 4.4.2 the connection ended before the host had a word to say about this message";

/// Hears a message that comes as one chunk.
fn hear_chunk(c: &mut Conn, first: bool) {
    if !first {
        c.hear("RSET");
    }
    c.hear("MAIL");
    c.hear("RCPT");
    c.hear("BDAT 4 LAST");
    assert_eq!(c.bytes(4), b"hi\r\n");
}

#[test]
fn chunks_of_several_messages_are_there_before_the_first_is_answered() {
    let host = Host::new(|c| {
        c.greet(CHUNKED);
        for number in 0..3 {
            hear_chunk(c, number == 0);
        }
        c.say("250 m\r\n250 r\r\n250 done");
        c.say("250 reset\r\n250 m\r\n250 r\r\n554 5.6.0 no");
        c.say("250 reset\r\n250 m\r\n250 r\r\n250 done");
        c.quit();
    });
    let mut session = host.connect().unwrap();
    for to in ["a@b.test", "c@b.test", "d@b.test"] {
        launch(&mut session, to);
    }
    let (said, first) = land(&mut session);
    assert_eq!(said, [DONE]);
    assert_eq!(
        first.dialogue,
        "> MAIL FROM:<from@here.test>\n> RCPT TO:<a@b.test>\n> BDAT 4 LAST\n> [4 bytes of message]\n\
         < 250 m\n< 250 r\n< 250 done\n"
    );
    assert_eq!(land(&mut session).0, ["Failed 5.6.0 554 5.6.0 no"]);
    let (said, last) = land(&mut session);
    assert_eq!(said, [DONE]);
    assert!(last.dialogue.starts_with("> RSET\n> MAIL"), "{}", last.dialogue);
    assert!(last.dialogue.contains("< 250 reset\n"));
    assert!(session.land().is_none() && session.in_step() && !session.wants_lock_step());
    session.quit();
    host.done();
}

#[test]
fn with_data_the_next_envelope_rides_with_the_end_of_the_message() {
    let host = Host::new(|c| {
        c.greet(PIPED);
        for command in ["MAIL", "RCPT", "DATA"] {
            c.hear(command);
        }
        c.say("250 m\r\n250 r\r\n354 go");
        assert_eq!(c.data(), "hi\r\n");
        for command in ["MAIL", "RCPT TO:<c@b.test>", "DATA"] {
            c.hear(command); // before the message is answered
        }
        c.say("250 done\r\n250 m\r\n250 r\r\n354 go");
        assert_eq!(c.data(), "hi\r\n");
        c.say("250 done");
        c.quit();
    });
    let mut session = host.connect().unwrap();
    launch(&mut session, "a@b.test");
    launch(&mut session, "c@b.test");
    let full = launch_to(&mut session, &["d@b.test"], &text("hi\r\n"), WINDOW);
    assert_eq!(full, Launch::Full, "DATA waits for its own reply");
    assert_eq!(land(&mut session).0, [DONE]);
    assert_eq!(land(&mut session).0, [DONE]);
    session.quit();
    host.done();
}

#[test]
fn a_recipient_refused_in_the_middle_harms_nobody_else() {
    let host = Host::new(|c| {
        c.greet(CHUNKED);
        for number in 0..3 {
            hear_chunk(c, number == 0);
        }
        c.say("250 m\r\n250 r\r\n250 done");
        c.say("250 reset\r\n250 m\r\n550 5.1.1 nobody\r\n503 5.5.1 no recipients");
        c.say("250 reset\r\n250 m\r\n250 r\r\n250 done");
        c.quit();
    });
    let mut session = host.connect().unwrap();
    for to in ["a@b.test", "c@b.test", "d@b.test"] {
        launch(&mut session, to);
    }
    assert_eq!(land(&mut session).0, [DONE]);
    assert_eq!(land(&mut session).0, ["Failed 5.1.1 550 5.1.1 nobody"]);
    assert_eq!(land(&mut session).0, [DONE]);
    assert!(!session.wants_lock_step());
    session.quit();
    host.done();
}

#[test]
fn a_recipient_refused_before_data_leaves_the_next_a_clean_start() {
    let host = Host::new(|c| {
        c.greet(PIPED);
        for command in ["MAIL", "RCPT", "DATA"] {
            c.hear(command);
        }
        c.say("250 m\r\n550 5.1.1 nobody\r\n554 5.5.1 no recipients");
        for command in ["RSET", "MAIL", "RCPT", "DATA"] {
            c.hear(command);
        }
        c.say("250 reset\r\n250 m\r\n250 r\r\n354 go");
        assert_eq!(c.data(), "hi\r\n");
        c.say("250 done");
        c.quit();
    });
    let mut session = host.connect().unwrap();
    launch(&mut session, "a@b.test");
    launch(&mut session, "c@b.test");
    assert_eq!(land(&mut session).0, ["Failed 5.1.1 550 5.1.1 nobody"]);
    let (said, sent) = land(&mut session);
    assert_eq!(said, [DONE]);
    assert!(sent.dialogue.starts_with("> RSET\n> MAIL"), "{}", sent.dialogue);
    session.quit();
    host.done();
}

#[test]
fn the_last_one_refused_leaves_the_connection_in_step() {
    let host = Host::new(|c| {
        c.greet(CHUNKED);
        hear_chunk(c, true);
        c.say("250 m\r\n550 5.1.1 nobody\r\n503 no");
        c.hear("RSET");
        c.say("250 reset");
        c.quit();
    });
    let mut session = host.connect().unwrap();
    launch(&mut session, "a@b.test");
    assert_eq!(land(&mut session).0, ["Failed 5.1.1 550 5.1.1 nobody"]);
    assert!(session.usable());
    session.quit();
    host.done();
}

#[test]
fn a_connection_lost_in_the_middle_leaves_those_in_doubt_whose_content_the_host_has() {
    let host = Host::new(|c| {
        c.greet(CHUNKED);
        for number in 0..3 {
            hear_chunk(c, number == 0);
        }
        c.say("250 m\r\n250 r\r\n250 done");
        c.hang_up();
    });
    let mut session = host.connect().unwrap();
    for to in ["a@b.test", "c@b.test", "d@b.test"] {
        launch(&mut session, to);
    }
    assert_eq!(land(&mut session).0, [DONE]);
    let closed = "Deferred 4.4.2 the host closed the connection while the reply to RSET was due";
    for _ in 0..2 {
        let (said, sent) = land(&mut session);
        assert_eq!(said, [format!("{closed}{DOUBT}")]);
        assert!(sent.uncertain && sent.left_over.is_empty());
    }
    assert!(!session.in_step() && session.wants_lock_step());
    host.done();
}

#[test]
fn an_envelope_that_rode_along_can_go_again_at_once() {
    let host = Host::new(|c| {
        c.greet(PIPED);
        for command in ["MAIL", "RCPT", "DATA"] {
            c.hear(command);
        }
        c.say("250 m\r\n250 r\r\n354 go");
        c.data();
        c.hang_up();
    });
    let mut session = host.connect().unwrap();
    launch(&mut session, "a@b.test");
    launch(&mut session, "c@b.test");
    let (said, sent) = land(&mut session);
    assert_eq!(said, [format!("{CLOSED}{DOUBT}")]);
    assert!(sent.uncertain);
    let (said, sent) = land(&mut session);
    assert_eq!(said, [UNTOUCHED]);
    assert_eq!((sent.uncertain, sent.left_over), (false, vec![0]));
    host.done();
}

#[test]
fn a_421_leaves_those_behind_it_to_another_connection() {
    let host = Host::new(|c| {
        c.greet(CHUNKED);
        for number in 0..3 {
            hear_chunk(c, number == 0);
        }
        c.say("250 m\r\n250 r\r\n250 done");
        c.say("250 reset\r\n421 4.7.0 enough for one connection");
        c.hang_up();
    });
    let mut session = host.connect().unwrap();
    for to in ["a@b.test", "c@b.test", "d@b.test"] {
        launch(&mut session, to);
    }
    assert_eq!(land(&mut session).0, [DONE]);
    let (said, sent) = land(&mut session);
    assert_eq!(said, ["Deferred 4.7.0 421 4.7.0 enough for one connection"]);
    assert_eq!((sent.uncertain, sent.left_over), (false, vec![0]));
    let (said, sent) = land(&mut session);
    assert_eq!(said, [UNTOUCHED]);
    assert_eq!((sent.uncertain, sent.left_over), (false, vec![0]));
    assert!(!session.wants_lock_step(), "it said what it wants");
    host.done();
}

#[test]
fn a_host_that_finds_it_out_of_order_gets_one_after_the_other() {
    let host = Host::new(|c| {
        c.greet(CHUNKED);
        hear_chunk(c, true);
        hear_chunk(c, false);
        c.say("250 m\r\n250 r\r\n250 done");
        c.say("250 reset\r\n503 5.5.1 not now\r\n503 5.5.1 no\r\n503 5.5.1 no");
        c.hear("RSET");
        c.say("250 reset");
        c.quit();
    });
    let mut session = host.connect().unwrap();
    launch(&mut session, "a@b.test");
    launch(&mut session, "c@b.test");
    assert_eq!(land(&mut session).0, [DONE]);
    let (said, sent) = land(&mut session);
    assert_eq!(said, ["Deferred 4.5.1 503 5.5.1 not now"]);
    assert_eq!((sent.uncertain, sent.left_over), (false, vec![0]));
    assert!(session.in_step() && session.wants_lock_step());
    session.quit();
    host.done();
}

#[test]
fn who_cannot_go_says_nothing_on_the_wire() {
    let host = Host::new(|c| {
        c.greet(CHUNKED);
        hear_chunk(c, true);
        hear_chunk(c, false);
        c.say("250 m\r\n250 r\r\n250 done\r\n250 reset\r\n250 m\r\n250 r\r\n250 done");
        c.quit();
    });
    let mut session = host.connect().unwrap();
    launch(&mut session, "a@b.test");
    launch(&mut session, "d\u{f6}rte@b.test");
    launch(&mut session, "c@b.test");
    assert_eq!(land(&mut session).0, [DONE]);
    assert!(land(&mut session).0[0].starts_with("Failed 5.6.7"));
    assert_eq!(land(&mut session).0, [DONE]);
    session.quit();
    host.done();
}

#[test]
fn long_messages_and_hosts_without_pipelining_go_alone() {
    let host = Host::new(|c| {
        c.greet(CHUNKED);
        hear_chunk(c, true);
        c.say("250 m\r\n250 r\r\n250 done");
        c.quit();
    });
    let mut session = host.connect().unwrap();
    let long = long_text(80 * 1024);
    assert_eq!(
        launch_to(&mut session, &["a@b.test"], &long, WINDOW),
        Launch::Alone
    );
    launch(&mut session, "a@b.test");
    let one = launch_to(&mut session, &["a@b.test"], &text("hi\r\n"), 1);
    assert_eq!(one, Launch::Full);
    assert_eq!(land(&mut session).0, [DONE]);
    session.quit();
    host.done();

    let host = Host::new(|c| {
        c.greet(&["8BITMIME"]);
        c.quit();
    });
    let mut session = host.connect().unwrap();
    let alone = launch_to(&mut session, &["a@b.test"], &text("hi\r\n"), WINDOW);
    assert_eq!(alone, Launch::Alone);
    session.quit();
    host.done();
}

#[test]
fn a_full_window_is_judged_while_it_is_filled_again() {
    let host = Host::new(|c| {
        c.greet(CHUNKED);
        for number in 0..100 {
            hear_chunk(c, number == 0);
            c.say(if number == 0 {
                "250 m"
            } else {
                "250 reset\r\n250 m"
            });
            c.say("250 r\r\n250 done");
        }
        c.quit();
    });
    let mut session = host.connect().unwrap();
    let (mut begun, mut ended) = (0, 0);
    while ended < 100 {
        while begun < 100 && session.under_way() < 8 {
            launch(&mut session, "a@b.test");
            begun += 1;
        }
        assert_eq!(land(&mut session).0, [DONE]);
        ended += 1;
    }
    session.quit();
    host.done();
}
