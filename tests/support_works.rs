//! The test support itself: what other tests rely on is tested here once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use mailroot::practice::{Host, Script};
use support::certificates::Authority;
use support::dns::DnsServer;
use support::stable::{self, Known};
use support::{process, scenario, tree, wait_until};

/// A question by hand: RFC 1035 §4.1.
fn question(kind: u16, name: &str) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes
}

/// Response code, number of answers, and the whole message.
fn ask(dns: &DnsServer, kind: u16, name: &str) -> Option<(u8, u8, Vec<u8>)> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket.send_to(&question(kind, name), dns.address()).unwrap();
    let mut answer = [0; 1500];
    let n = socket.recv(&mut answer).ok()?;
    Some((answer[3] & 15, answer[7], answer[..n].to_vec()))
}

#[test]
fn dns_answers_as_its_zone_says() {
    let dns = DnsServer::start(
        "example.net MX 10 mx1.example.net\nexample.net MX 20 mx2.example.net\nmx1.example.net A 127.0.0.1\n\
         mx1.example.net AAAA ::1\nnull.example MX 0 .\nalias.example CNAME example.net\nempty.example NODATA\n\
         broken.example SERVFAIL\nslow.example TIMEOUT\n",
    );
    let (a, mx, aaaa) = (1, 15, 28);
    let brief = |kind, name| ask(&dns, kind, name).map(|(code, answers, _)| (code, answers));
    assert_eq!(brief(mx, "Example.NET"), Some((0, 2)));
    assert_eq!(brief(a, "mx1.example.net"), Some((0, 1)));
    assert_eq!(brief(aaaa, "mx1.example.net"), Some((0, 1)));
    assert_eq!(brief(a, "example.net"), Some((0, 0)));
    assert_eq!(brief(mx, "null.example"), Some((0, 1)));
    assert_eq!(brief(mx, "alias.example"), Some((0, 3)));
    assert_eq!(brief(mx, "empty.example"), Some((0, 0)));
    assert_eq!(brief(mx, "nowhere.example"), Some((3, 0)));
    assert_eq!(brief(mx, "broken.example"), Some((2, 0)));
    assert_eq!(brief(mx, "slow.example"), None);
    let (_, _, whole) = ask(&dns, a, "mx1.example.net").unwrap();
    assert!(whole.ends_with(&[0, 4, 127, 0, 0, 1]));
    dns.fail(true);
    assert_eq!(brief(mx, "example.net"), Some((2, 0)));
    dns.fail(false);
    dns.set("example.net A 127.0.0.9");
    assert_eq!(brief(a, "example.net"), Some((0, 1)));
    assert!(dns.questions().contains(&"MX nowhere.example".to_owned()));
}

#[test]
fn dns_answers_over_tcp_too_and_large_answers_are_cut_for_udp() {
    let zone: String = (0..100)
        .map(|i| format!("many.example MX {i} mx{i}.many.example\n"))
        .collect();
    let dns = DnsServer::start(&zone);
    let (_, _, udp) = ask(&dns, 15, "many.example").unwrap();
    assert!(udp[2] & 2 != 0, "TC is set");
    let mut tcp = TcpStream::connect(dns.address()).unwrap();
    let ask = question(15, "many.example");
    tcp.write_all(&u16::try_from(ask.len()).unwrap().to_be_bytes())
        .unwrap();
    tcp.write_all(&ask).unwrap();
    let mut head = [0; 2 + 8];
    tcp.read_exact(&mut head).unwrap();
    assert_eq!(head[9], 100);
}

/// A TLS handshake with a client that trusts only our authority.
fn handshake(
    config: Arc<rustls::ServerConfig>,
    authority: &Authority,
    name: &'static str,
) -> Result<(), String> {
    use rustls_pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    let root = rustls_pki_types::CertificateDer::from_pem_file(authority.file()).unwrap();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut script = Script::new();
    script.implicit_tls = true;
    let host = Host::start_tls(script, config).unwrap();
    let mut tcp = TcpStream::connect(host.address()).unwrap();
    let mut tls = rustls::ClientConnection::new(Arc::new(client), name.try_into().unwrap()).unwrap();
    let mut greeting = [0; 4];
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    stream.read_exact(&mut greeting).map_err(|e| e.to_string())?;
    assert_eq!(&greeting, b"220 ");
    Ok(())
}

#[test]
fn certificates_are_good_or_bad_as_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path());
    let names = ["mx1.example.net"];
    assert_eq!(handshake(ours.good(&names), &ours, "mx1.example.net"), Ok(()));
    let wrong = |word| handshake(ours.by_word(word, &names), &ours, "mx1.example.net").unwrap_err();
    assert!(wrong("expired").contains("xpired"), "{}", wrong("expired"));
    assert!(
        wrong("wrong-name").contains("not valid for name"),
        "{}",
        wrong("wrong-name")
    );
    assert!(
        wrong("unknown-authority").contains("UnknownIssuer"),
        "{}",
        wrong("unknown-authority")
    );
}

#[test]
fn words_are_stable_where_runs_differ_and_only_there() {
    let now = jiff::Zoned::now();
    let mail_date = jiff::fmt::rfc2822::to_string(&now).unwrap();
    let log_date = jiff::Timestamp::now().to_string();
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .to_uppercase();
    let known = Known {
        texts: vec![("/tmp/x1".into(), "{TMP}".into())],
        inputs: vec!["boundary=\"theirs-1\"".into()],
    };
    for (from, to) in [
        ("01JD8ZK3VQ0000000000000000.EML".to_owned(), "ID.EML"),
        (
            "x01JD8ZK3VQ0000000000000000".to_owned(),
            "x01JD8ZK3VQ0000000000000000",
        ),
        ("<01JD8ZK3VQ0000000000000000-2@h>".to_owned(), "<ID-2@h>"),
        (
            "Queue/01JD8ZK3VQ0000000000000000@MY-HOST-A1B2.EML".to_owned(),
            "Queue/ID@NODE.EML",
        ),
        (
            format!("node {}-Z9Z9 took it", host.replace('.', "-")),
            "node NODE took it",
        ),
        (format!("Date: {mail_date}!"), "Date: DATE!"),
        (
            "Date: Wed, 18 Jun 2014 04:59:47 -0700".to_owned(),
            "Date: Wed, 18 Jun 2014 04:59:47 -0700",
        ),
        (format!("{log_date} INFO"), "DATE INFO"),
        ("<a@b> SIZE=612 RET=HDRS".to_owned(), "<a@b> SIZE=N RET=HDRS"),
        ("content, 612 bytes".to_owned(), "content, N bytes"),
        ("BDAT 612 LAST, SIZE=3D612".to_owned(), "BDAT N LAST, SIZE=3DN"),
        (
            "file=a evidence=\"quiet\" size=612".to_owned(),
            "file=a evidence=\"EVIDENCE\" size=N",
        ),
        ("  complete: quiet\nnext".to_owned(), "  complete: EVIDENCE\nnext"),
        ("in /tmp/x1/mailroot".to_owned(), "in {TMP}/mailroot"),
        (
            "boundary=\"ours-12345\"; --ours-12345--".to_owned(),
            "boundary=\"BOUNDARY\"; --BOUNDARY--",
        ),
        ("boundary=\"theirs-1\"".to_owned(), "boundary=\"theirs-1\""),
        ("550 5.1.1 no; 12ms".to_owned(), "550 5.1.1 no; 12ms"),
    ] {
        assert_eq!(known.message(&from), to, "{from}");
    }
    assert_eq!(
        known.note("again in 1m 58.5s; 550 5.1.1 no; 4.4.7 s"),
        "again in TIME; 550 5.1.1 no; 4.4.7 s"
    );
    assert_eq!(stable::file_name("01JD8ZK3VQ0000000000000000.LTR"), "ID.LTR");
    assert_eq!(
        stable::file_name("01JD8ZK3VQ0000000000000000-98DE82A6.EML"),
        "ID-SET.EML"
    );
}

#[test]
fn a_listing_is_what_ls_shows() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(tree::listing(root.path()), "(no files)\n");
    for folder in ["Pickup", "Queue", "Pickup/sub"] {
        std::fs::create_dir(root.path().join(folder)).unwrap();
    }
    for file in [
        "Pickup/a.txt",
        "Queue/01JD8ZK3VQ0000000000000000.EML",
        "Queue/01JD8ZK3VQ0000000000000000@A-B-1234.EML",
    ] {
        std::fs::write(root.path().join(file), "x").unwrap();
    }
    assert_eq!(
        tree::listing(root.path()),
        "Pickup/a.txt\nQueue/ID.EML\nQueue/ID@NODE.EML\n"
    );
    assert_eq!(tree::glob(root.path(), "Queue/*.EML").len(), 2);
    assert_eq!(tree::glob(root.path(), "Queue/*@*.EML").len(), 1);
    assert_eq!(tree::glob(root.path(), "Pickup/a.txt").len(), 1);
    assert_eq!(tree::glob(root.path(), "Pickup/b*").len(), 0);
}

#[test]
fn a_difference_is_shown_by_lines() {
    assert_eq!(
        scenario::diff("a\nb\nc\n", "a\nx\nc\n"),
        "    a\n  - b\n  + x\n    c\n"
    );
}

#[test]
fn bytes_that_do_not_show_are_escaped() {
    assert_eq!(
        scenario::text(b"a\r\nb\nc\rd\xff\xc3\xa4\r\n"),
        "a\nb\\nc\\rd\\xffä\n"
    );
    assert_eq!(scenario::text(b"a"), "a\\ no line end\n");
}

#[test]
fn a_child_that_does_not_end_is_killed_when_dropped() {
    let notes = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$; echo trouble >&2; exec sleep 600"]);
    let mut running = process::start_command(notes.path(), command);
    wait_until("it says something", Duration::from_secs(10), || {
        running.stderr() == "trouble\n"
    });
    assert!(running.ends_within(Duration::from_millis(20)).is_none());
    let pid = std::fs::read_to_string(notes.path().join("000.out")).unwrap();
    drop(running);
    assert!(!std::path::Path::new("/proc").join(pid.trim()).exists());
}

#[test]
fn a_child_that_ends_tells_its_code() {
    let notes = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "trap 'exit 3' TERM; echo ready >&2; while :; do sleep 0.01; done",
    ]);
    let running = process::start_command(notes.path(), command);
    wait_until("ready", Duration::from_secs(10), || running.stderr() == "ready\n");
    assert_eq!(running.stop().code, Some(3));
}
