//! STARTTLS, implicit TLS, and what is asked of certificates.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::super::{Peer, Refused, RefusedKind, Session, TlsContext, connect};
use super::peer_at;
use super::support::*;
use crate::config::{Auth, SecretSource, TlsMode};
use crate::mail::Verdict;

/// An authority of its own, in a file for `tls_ca_file`.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    _folder: tempfile::TempDir,
    file: PathBuf,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, issuer.pem()).unwrap();
        Self {
            issuer,
            _folder: folder,
            file,
        }
    }

    fn server(&self, name: &str, expired: bool) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if expired {
            params.not_before = rcgen::date_time_ymd(2001, 2, 3);
            params.not_after = rcgen::date_time_ymd(2002, 3, 4);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Arc::new(config)
    }

    fn connect(&self, host: &Host, change: impl FnOnce(&mut Peer)) -> Result<Session, Refused> {
        let mut peer = peer_at(host.address);
        change(&mut peer);
        connect(&peer, &TlsContext::new(Some(&self.file)).unwrap())
    }
}

/// STARTTLS, then a second EHLO with other offers.
fn encrypting(c: &mut Conn, config: &Arc<ServerConfig>) -> bool {
    c.greet(&["STARTTLS", "CHUNKING"]);
    c.hear("STARTTLS");
    c.say("220 go");
    if !c.start_tls(config) {
        return false;
    }
    c.hello(&["PIPELINING"]);
    true
}

#[test]
fn opportunistic_and_required_take_any_certificate_and_say_so() {
    let authority = Authority::new();
    for (mode, name, expired) in [
        (TlsMode::Opportunistic, "mx.test", false),
        (TlsMode::Opportunistic, "other.test", true),
        (TlsMode::Required, "other.test", true),
    ] {
        let config = authority.server(name, expired);
        let host = Host::new(move |c| {
            assert!(encrypting(c, &config));
            c.hear("MAIL");
            c.say("250 ok");
            c.hear("RCPT");
            c.say("250 ok");
            c.hear("DATA");
            c.say("354 go");
            assert_eq!(c.data(), "hello\r\n");
            c.say("250 2.0.0 mine");
            c.quit();
        });
        let mut session = host.connect_with(|peer| peer.tls = mode).unwrap();
        let facts = session.tls_facts().unwrap().to_owned();
        assert!(facts.starts_with("TLSv1.3 TLS_"), "{facts}");
        assert!(facts.ends_with(" X25519, certificate not verified"), "{facts}");
        assert!(session.opening().contains(&format!("* {facts}\n")));
        // The offers of before the handshake are forgotten.
        assert!(session.offers().pipelining && !session.offers().chunking);
        let sent = send(&mut session, &recipients(&["a@b.test"]), &text("hello\r\n"));
        assert_eq!(briefs(&sent.outcomes), ["Delivered 2.0.0 250 2.0.0 mine"]);
        assert!(session.usable());
        session.quit();
        host.done();
    }
}

#[test]
fn what_is_said_in_clear_behind_the_reply_to_starttls_ends_the_connection() {
    let authority = Authority::new();
    let config = authority.server("mx.test", false);
    let host = Host::new(move |c| {
        c.greet(&["STARTTLS"]);
        c.hear("STARTTLS");
        c.raw(b"220 go\r\n250-mx.test\r\n250 CHUNKING\r\n250 ok\r\n");
        // A handshake would succeed, and these words would pass for the host's.
        assert!(!c.start_tls(&config));
    });
    let refused = host.refusal(|peer| peer.tls = TlsMode::Required);
    assert_eq!(refused.kind, RefusedKind::Tls);
    assert_eq!(refused.outcome.verdict, Verdict::Deferred);
    assert!(
        refused
            .outcome
            .text
            .starts_with("text followed the reply to STARTTLS in clear")
    );
    assert!(!refused.dialogue.contains("CHUNKING"), "{}", refused.dialogue);
    drop(refused);
    host.done();
}

#[test]
fn verified_takes_a_good_certificate_and_names_what_is_bad() {
    let authority = Authority::new();
    let verified = |peer: &mut Peer| peer.tls = TlsMode::Verified;
    let config = authority.server("mx.test", false);
    let host = Host::new(move |c| assert!(encrypting(c, &config)));
    let session = authority.connect(&host, verified).unwrap();
    assert!(session.tls_facts().unwrap().ends_with("certificate verified"));
    host.done();

    for (name, expired, words) in [
        ("mx.test", true, "its certificate expired on 2002-03-04"),
        (
            "other.test",
            false,
            "its certificate is for other.test, not for mx.test",
        ),
    ] {
        let config = authority.server(name, expired);
        let host = Host::new(move |c| assert!(!encrypting(c, &config)));
        let refused = authority.connect(&host, verified).err().unwrap();
        assert_eq!(refused.kind, RefusedKind::Tls);
        assert_eq!(
            brief(&refused.outcome),
            format!("Deferred 4.7.5 TLS failed: {words}")
        );
        assert!(refused.dialogue.contains(words));
        host.done();
    }

    let config = Authority::new().server("mx.test", false);
    let host = Host::new(move |c| assert!(!encrypting(c, &config)));
    let refused = authority.connect(&host, verified).err().unwrap();
    assert!(
        refused
            .outcome
            .text
            .contains("not signed by an authority that is trusted here")
    );
    host.done();
}

#[test]
fn a_failed_handshake_is_followed_by_a_connection_in_clear_when_opportunistic() {
    for refusal in [false, true] {
        let host = Host::each(vec![
            Box::new(move |c| {
                c.greet(&["STARTTLS"]);
                c.hear("STARTTLS");
                if refusal {
                    c.say("454 4.7.0 no certificate today");
                    c.gone();
                } else {
                    c.say("220 go");
                    // Its first words of TLS; without waiting, ours would come in front of them.
                    c.bytes(1);
                    c.raw(b"this is not TLS at all, not a bit\r\n");
                }
            }),
            Box::new(|c| c.greet(&["STARTTLS", "PIPELINING"])),
        ]);
        let session = host.connect().unwrap();
        assert!(session.tls_facts().is_none() && session.offers().pipelining);
        assert!(
            session.opening().contains("; now in clear\n"),
            "{}",
            session.opening()
        );
        assert_eq!(session.opening().matches("* connected to").count(), 2);
        host.done();
    }
}

#[test]
fn required_defers_when_it_cannot_encrypt() {
    let host = Host::new(|c| {
        c.greet(&[]);
        c.gone();
    });
    let refused = host.refusal(|peer| peer.tls = TlsMode::Required);
    assert_eq!(refused.kind, RefusedKind::Tls);
    assert_eq!(
        brief(&refused.outcome),
        "Deferred 4.7.10 encryption is required, and the host does not offer STARTTLS"
    );
    host.done();

    let host = Host::new(|c| {
        c.greet(&["STARTTLS"]);
        c.hear("STARTTLS");
        c.say("554 5.7.3 no");
        c.gone();
    });
    let refused = host.refusal(|peer| peer.tls = TlsMode::Required);
    assert_eq!(refused.kind, RefusedKind::Tls);
    assert_eq!(brief(&refused.outcome), "Deferred 4.7.3 554 5.7.3 no");
    host.done();

    let host = Host::new(|c| {
        c.greet(&["STARTTLS"]);
        c.hear("STARTTLS");
        c.say("220 go");
        c.hang_up();
    });
    let refused = host.refusal(|peer| peer.tls = TlsMode::Required);
    assert_eq!(refused.kind, RefusedKind::Tls);
    assert!(brief(&refused.outcome).starts_with("Deferred 4.7.5 TLS failed: "));
    host.done();
}

#[test]
fn off_does_not_encrypt_though_it_is_offered() {
    let host = Host::new(|c| {
        c.greet(&["STARTTLS"]);
        c.quit();
    });
    host.connect_with(|peer| peer.tls = TlsMode::Off).unwrap().quit();
    host.done();
}

#[test]
fn text_behind_the_reply_to_starttls_is_an_attack() {
    let host = Host::new(|c| {
        c.greet(&["STARTTLS"]);
        c.hear("STARTTLS");
        c.say("220 go\r\n250-mx.test\r\n250 AUTH PLAIN");
        c.gone();
    });
    let refused = host.refusal(|_| {});
    assert_eq!(refused.kind, RefusedKind::Tls);
    assert!(brief(&refused.outcome).starts_with("Deferred 4.7.5 text followed"));
    // One connection only: the host would have panicked, or the second been refused.
    assert_eq!(refused.dialogue.matches("* connected to").count(), 1);
    host.done();
}

#[test]
fn credentials_wait_rather_than_go_in_clear_after_a_failed_handshake() {
    let host = Host::new(|c| {
        c.greet(&["STARTTLS", "AUTH PLAIN"]);
        c.hear("STARTTLS");
        c.say("454 no");
        c.gone();
    });
    let refused = host.refusal(|peer| {
        peer.auth = Some(Auth {
            user: "u".into(),
            secret: SecretSource::File("/nonexistent".into()),
            mechanism: None,
        });
    });
    assert_eq!(refused.kind, RefusedKind::Tls);
    host.done();
}

#[test]
fn implicit_tls_encrypts_from_the_first_byte() {
    let authority = Authority::new();
    let config = authority.server("mx.test", false);
    let host = Host::new(move |c| {
        assert!(c.start_tls(&config));
        c.greet(&["STARTTLS"]);
        c.quit();
    });
    let session = authority
        .connect(&host, |peer| {
            peer.implicit_tls = true;
            peer.tls = TlsMode::Verified;
        })
        .unwrap();
    assert!(session.tls_facts().unwrap().ends_with("certificate verified"));
    session.quit();
    host.done();

    let host = Host::new(|c| {
        c.say("220 in clear");
        c.hang_up();
    });
    let refused = host.refusal(|peer| peer.implicit_tls = true);
    assert_eq!(refused.kind, RefusedKind::Tls);
    host.done();
}

#[test]
fn a_ca_file_must_hold_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let error = |file: &std::path::Path| TlsContext::new(Some(file)).err().unwrap();
    assert!(error(&file).contains("cannot be read"));
    std::fs::write(&file, "nothing").unwrap();
    assert!(error(&file).contains("holds no certificate"));
    std::fs::write(
        &file,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    assert!(error(&file).contains("cannot be used"));
}

#[test]
fn the_roots_of_the_system_are_read_when_a_certificate_is_judged() {
    let authority = Authority::new();
    let config = authority.server("mx.test", false);
    let host = Host::new(move |c| {
        encrypting(c, &config);
    });
    let refused = host.refusal(|peer| peer.tls = TlsMode::Verified);
    assert_eq!(refused.kind, RefusedKind::Tls);
    assert!(
        refused.outcome.text.contains("trusted"),
        "{}",
        refused.outcome.text
    );
    host.done();
}
