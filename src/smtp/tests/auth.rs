//! AUTH, in clear by leave of the settings (encryption changes nothing in it).

use std::path::Path;

use super::super::{Peer, RefusedKind};
use super::support::*;
use crate::config::{Auth, Mechanism, SecretSource};

const PASSWORD: &str = "hunter2hunter2";

fn with(secret: SecretSource, mechanism: Option<Mechanism>) -> impl FnOnce(&mut Peer) {
    move |peer| {
        peer.allow_plaintext_auth = true;
        peer.auth = Some(Auth {
            user: "tim".into(),
            secret,
            mechanism,
        });
    }
}

fn password(folder: &Path, text: &str) -> SecretSource {
    let file = folder.join("password");
    std::fs::write(&file, format!("{text}\n")).unwrap();
    SecretSource::File(file)
}

fn b64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn each_mechanism_logs_in_and_none_shows_its_secret() {
    let folder = tempfile::tempdir().unwrap();
    let plain = b64(&format!("\0tim\0{PASSWORD}"));
    let xoauth2 = b64(&format!("user=tim\x01auth=Bearer {PASSWORD}\x01\x01"));
    type Talk = Box<dyn FnOnce(&mut Conn) + Send>;
    let talks: Vec<(Mechanism, &str, Talk)> = vec![
        (
            Mechanism::Plain,
            "> AUTH PLAIN *** (28 bytes)\n",
            Box::new(move |c| assert_eq!(c.hear("AUTH"), format!("AUTH PLAIN {plain}"))),
        ),
        (
            Mechanism::Login,
            "> AUTH LOGIN\n< 334 VXNlcm5hbWU6\n> *** (4 bytes)\n< 334 UGFzc3dvcmQ6\n> *** (20 bytes)\n",
            Box::new(|c| {
                assert_eq!(c.hear("AUTH"), "AUTH LOGIN");
                c.say("334 VXNlcm5hbWU6");
                assert_eq!(c.hear(""), b64("tim"));
                c.say("334 UGFzc3dvcmQ6");
                assert_eq!(c.hear(""), b64(PASSWORD));
            }),
        ),
        (
            Mechanism::CramMd5,
            "> AUTH CRAM-MD5\n",
            Box::new(|c| {
                assert_eq!(c.hear("AUTH"), "AUTH CRAM-MD5");
                c.say(&format!("334 {}", b64("<1.2@mx.test>")));
                // python3 -c 'hmac.new(b"hunter2hunter2", b"<1.2@mx.test>", "md5").hexdigest()'
                assert_eq!(c.hear(""), b64("tim ac48bd64a39dd6cc25c565912eb32ccf"));
            }),
        ),
        (
            Mechanism::Xoauth2,
            "> AUTH XOAUTH2 ***",
            Box::new(move |c| assert_eq!(c.hear("AUTH"), format!("AUTH XOAUTH2 {xoauth2}"))),
        ),
    ];
    for (mechanism, shown, talk) in talks {
        let host = Host::new(move |c| {
            c.greet(&["AUTH PLAIN LOGIN CRAM-MD5 XOAUTH2"]);
            talk(c);
            c.say(&format!("235 welcome {PASSWORD}"));
            c.quit();
        });
        let session = host
            .connect_with(with(password(folder.path(), PASSWORD), Some(mechanism)))
            .unwrap();
        let opening = session.opening();
        assert!(opening.contains(shown), "{opening}");
        assert!(opening.contains("< 235 welcome ***\n"), "{opening}");
        assert!(!opening.contains(PASSWORD) && !opening.contains(&b64(PASSWORD)));
        session.quit();
        host.done();
    }
}

#[test]
fn a_long_response_goes_on_a_line_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(600);
    let expected = b64(&format!("\0tim\0{long}"));
    let host = Host::new(move |c| {
        c.greet(&["AUTH PLAIN"]);
        assert_eq!(c.hear("AUTH"), "AUTH PLAIN");
        c.say("334 ");
        assert_eq!(c.hear(""), expected);
        c.say("235 ok");
    });
    assert!(
        host.connect_with(with(password(folder.path(), &long), None))
            .is_ok()
    );
    host.done();
}

#[test]
fn a_refused_log_in_defers() {
    let folder = tempfile::tempdir().unwrap();
    for (reply, expected) in [
        ("535 5.7.8 wrong", "Deferred 4.7.8 535 5.7.8 wrong"),
        ("454 4.7.0 later", "Deferred 4.7.0 454 4.7.0 later"),
    ] {
        let host = Host::new(move |c| {
            c.greet(&["AUTH LOGIN PLAIN"]);
            c.hear("AUTH PLAIN");
            c.say(reply);
            c.hear("QUIT");
        });
        let refused = host.refusal(with(password(folder.path(), PASSWORD), None));
        assert_eq!(refused.kind, RefusedKind::Auth);
        assert_eq!(brief(&refused.outcome), expected);
        assert!(!refused.dialogue.contains(PASSWORD));
        host.done();
    }
}

#[test]
fn credentials_do_not_go_in_clear() {
    for mechanism in [None, Some(Mechanism::CramMd5)] {
        let host = Host::new(|c| {
            c.greet(&["AUTH PLAIN CRAM-MD5"]);
            c.hear("QUIT");
        });
        let folder = tempfile::tempdir().unwrap();
        let secret = password(folder.path(), PASSWORD);
        let refused = host.refusal(|peer| {
            with(secret, mechanism)(peer);
            peer.allow_plaintext_auth = false;
        });
        assert_eq!(refused.kind, RefusedKind::Auth);
        assert!(
            brief(&refused.outcome).starts_with("Deferred 4.7.11 the connection is not encrypted"),
            "{}",
            refused.outcome.text
        );
        host.done();
    }
}

#[test]
fn what_is_wanted_must_be_offered_and_the_secret_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let quitting = |offers: &'static [&'static str]| {
        Host::new(move |c| {
            c.greet(offers);
            c.hear("QUIT");
        })
    };
    let host = quitting(&[]);
    let refused = host.refusal(with(password(folder.path(), PASSWORD), None));
    assert_eq!(
        (refused.kind, brief(&refused.outcome).as_str()),
        (
            RefusedKind::Auth,
            "Deferred 4.7.4 the host offers no authentication, not CRAM-MD5, PLAIN, LOGIN"
        )
    );
    host.done();
    let host = quitting(&["AUTH=PLAIN"]);
    let refused = host.refusal(with(SecretSource::File(folder.path().join("nothing")), None));
    assert_eq!(refused.kind, RefusedKind::Auth);
    assert!(brief(&refused.outcome).starts_with("Deferred 4.3.5 the secret for tim is missing: "));
    host.done();
}

#[test]
fn a_host_that_asks_on_is_told_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::new(|c| {
        c.greet(&["AUTH CRAM-MD5"]);
        c.hear("AUTH CRAM-MD5");
        c.say("334 this is no base64");
        assert_eq!(c.hear(""), "*");
        c.say("501 cancelled");
    });
    let refused = host.refusal(with(password(folder.path(), PASSWORD), None));
    assert_eq!(brief(&refused.outcome), "Deferred 4.7.8 501 cancelled");
    host.done();
}

#[test]
fn a_refused_token_is_read_anew_and_tried_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let count = folder.path().join("count");
    // Prints another token each time.
    let script = format!("echo x >> {0}; echo token-$(wc -l < {0})", count.display());
    let command = SecretSource::Command(["/bin/sh", "-c", &script].map(String::from).to_vec());
    let bearer = |n: u32| {
        let response = b64(&format!("user=tim\x01auth=Bearer token-{n}\x01\x01"));
        format!("AUTH XOAUTH2 {response}")
    };
    let (first, second) = (bearer(1), bearer(2));
    let host = Host::new(move |c| {
        c.greet(&["AUTH XOAUTH2"]);
        assert_eq!(c.hear("AUTH"), first);
        c.say(&format!("334 {}", b64("{\"status\":\"401\"}")));
        assert_eq!(c.hear(""), "");
        c.say("535 5.7.8 expired");
        assert_eq!(c.hear("AUTH"), second);
        c.say("235 ok");
    });
    let session = host
        .connect_with(with(command, Some(Mechanism::Xoauth2)))
        .unwrap();
    assert!(session.opening().contains("read anew"));
    assert!(!session.opening().contains("token-1"));
    host.done();

    // A command is asked anew although it prints the same.
    let same = SecretSource::Command(["/bin/echo", "token"].map(String::from).to_vec());
    let host = Host::new(|c| {
        c.greet(&["AUTH XOAUTH2"]);
        c.hear("AUTH");
        c.say("535 5.7.8 expired");
        c.hear("AUTH");
        c.say("535 5.7.8 still expired");
        c.hear("QUIT");
    });
    let refused = host.refusal(with(same, Some(Mechanism::Xoauth2)));
    assert_eq!(brief(&refused.outcome), "Deferred 4.7.8 535 5.7.8 still expired");
    host.done();

    // From a file that has not changed, there is nothing to try again.
    let host = Host::new(|c| {
        c.greet(&["AUTH XOAUTH2"]);
        c.hear("AUTH");
        c.say("535 5.7.8 expired");
        c.hear("QUIT");
    });
    let refused = host.refusal(with(password(folder.path(), PASSWORD), Some(Mechanism::Xoauth2)));
    assert_eq!(brief(&refused.outcome), "Deferred 4.7.8 535 5.7.8 expired");
    host.done();
}

#[test]
fn a_host_that_echoes_the_secret_does_not_bring_it_into_the_dialogue() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::new(|c| {
        c.greet(&["AUTH PLAIN"]);
        let line = c.hear("AUTH PLAIN ");
        c.say(&line);
    });
    let refused = host.refusal(with(password(folder.path(), PASSWORD), None));
    let secret = b64(&format!("\0tim\0{PASSWORD}"));
    assert!(!refused.dialogue.contains(&secret) && !refused.outcome.text.contains(&secret));
    assert!(refused.dialogue.contains("< [not shown]\n"));
    host.done();
}
