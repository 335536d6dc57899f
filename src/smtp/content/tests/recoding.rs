//! Messages that their host cannot take, and what becomes of them.

use super::*;
use mail_parser::{MessageParser, MimeHeaders};

fn seven_bit(text: &[u8]) -> String {
    let out = plain(&text, &layout(text), SEVEN_BIT);
    String::from_utf8(out)
        .unwrap()
        .strip_prefix(&marks().received)
        .unwrap()
        .to_owned()
}

#[test]
fn a_message_without_mime_gets_its_fields() {
    assert_eq!(
        seven_bit("Subject: é\n\né=\n".as_bytes()),
        "Subject: =?utf-8?Q?=C3=A9?=\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A9=3D\r\n"
    );
    assert_eq!(
        seven_bit(b"MIME-Version: 1.0\n\n\xe9"),
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\n=E9\r\n"
    );
    let long = seven_bit(format!("A: b\n\n{}\n", "x".repeat(1000)).as_bytes());
    assert!(
        long.starts_with(
            "A: b\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nxx"
        )
    );
}

#[test]
fn only_parts_that_need_it_are_encoded() {
    let text = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\
        Content-Transfer-Encoding: 8bit\n\n\
        pre é\n\
        --b\nContent-Type: text/plain\n\nascii\n\
        --b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nça va\n\
        --b\nContent-Type: application/x-any\n\n\u{1}é\n\n\
        --b\nContent-Type: message/rfc822\n\nSubject: é\n\né\n--b--\nepilogue é\n";
    let expected = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\
        Content-Transfer-Encoding: 7bit\r\n\r\n\
        pre ??\r\n\
        --b\r\nContent-Type: text/plain\r\n\r\nascii\r\n\
        --b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A7a va\r\n\
        --b\r\nContent-Type: application/x-any\r\nContent-Transfer-Encoding: base64\r\n\r\nAcOpDQo=\r\n\
        --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: =?utf-8?Q?=C3=A9?=\r\nMIME-Version: 1.0\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A9\r\n\
        --b--\r\nepilogue ??\r\n";
    assert_eq!(seven_bit(text.as_bytes()), expected);
}

#[test]
fn parts_that_are_encoded_get_shorter_lines_only() {
    let base64 = "QUJD".repeat(500);
    let quoted = "=C3=A9 ".repeat(200);
    let text = format!(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b\"\n\n\
         --b\nContent-Transfer-Encoding: base64\nContent-Type: image/png\n\n{base64}\n\
         --b\nContent-Transfer-Encoding: Quoted-Printable\n\n{quoted}x\n--b--\n"
    );
    let out = plain(&text.as_bytes(), &layout(text.as_bytes()), WIRE);
    let message = MessageParser::new().parse(&out).unwrap();
    assert_eq!(message.parts[1].contents(), "ABC".repeat(500).as_bytes());
    assert_eq!(
        message.parts[2].contents(),
        format!("{}x", "é ".repeat(200)).as_bytes()
    );
    assert!(out.split(|b| *b == b'\n').all(|line| line.len() <= 78));
}

#[test]
fn another_parser_reads_the_same_names_and_texts() {
    let name = "Bärenjagd im äußersten Süden, Teil „eins“ von vielen (größer als eine Zeile).pdf";
    let text = format!(
        "From: \"Jürgen, Größe\" <a@b>\nTo: Ünal Öz <c@d>, e@f\nSubject: Grüße aus {}\nMIME-Version: 1.0\n\
         Content-Type: multipart/mixed; boundary=b\n\n\
         --b\nContent-Type: text/plain; charset=utf-8\n\nÄrger -- {}\n--b\nContent-Type: application/pdf; name=\"{name}\"\n\
         Content-Disposition: attachment; filename=\"{name}\"\n\n%PDF é\n--b--\n",
        "Köln ".repeat(40),
        "ö".repeat(900)
    );
    let out = seven_bit(text.as_bytes());
    let message = MessageParser::new().parse(&out).unwrap();
    assert_eq!(
        message.from().unwrap().first().unwrap().name(),
        Some("Jürgen, Größe")
    );
    assert_eq!(message.to().unwrap().first().unwrap().name(), Some("Ünal Öz"));
    assert_eq!(
        message.subject(),
        Some(format!("Grüße aus {}", "Köln ".repeat(40)).trim_end())
    );
    assert_eq!(
        message.parts[1].text_contents().unwrap(),
        format!("Ärger -- {}", "ö".repeat(900))
    );
    assert_eq!(message.parts[2].contents(), "%PDF é".as_bytes());
    assert_eq!(message.parts[2].attachment_name(), Some(name));
}

#[test]
fn a_soft_break_never_makes_a_boundary() {
    let text = format!(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\né{}--b--\n--b--\n",
        "x".repeat(69)
    );
    let out = seven_bit(text.as_bytes());
    assert_eq!(
        out.lines().filter(|line| line.starts_with("--b")).count(),
        2,
        "{out}"
    );
}

#[test]
fn parts_without_blank_line_or_header_keep_their_text() {
    let text = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n\
        --b\nno field é\n--b\nX: é\n--b\nContent-Type: multipart/mixed; boundary=c\n--c\n\né\n--c--\n--b--\n";
    assert_eq!(
        seven_bit(text.as_bytes()),
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
         --b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nno field =C3=A9\r\n\
         --b\r\nX: =?utf-8?Q?=C3=A9?=\r\n\
         --b\r\nContent-Type: multipart/mixed; boundary=c\r\n\
         --c\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A9\r\n--c--\r\n--b--\r\n"
    );
}

#[test]
fn a_multipart_whose_boundary_never_comes_is_text() {
    let text = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n\
        --b\nContent-Type: multipart/mixed; boundary=c\n\né\n--b--\n";
    assert!(
        seven_bit(text.as_bytes()).ends_with(
            "boundary=c\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A9\r\n--b--\r\n"
        )
    );
    let text = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--c\né\n";
    assert!(seven_bit(text.as_bytes()).ends_with(": quoted-printable\r\n\r\n--c\r\n=C3=A9\r\n"));
}

#[test]
fn stuffed_periods_are_gone_before_anything_is_encoded() {
    let text =
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n.--b\n\n..é\n.--b--\n".as_bytes();
    let mut layout = layout(text);
    layout.dots.stuffed = true;
    let out = String::from_utf8(data(&text, &layout, SEVEN_BIT)).unwrap();
    assert!(
        out.ends_with("--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n..=C3=A9\r\n--b--\r\n"),
        "{out}"
    );
}

#[test]
fn a_signed_header_passes_untouched_where_the_host_takes_it() {
    let text = format!("Subject: é\nX: {}\n\né\n", "y".repeat(998 - 3));
    assert_eq!(sent(&text), text.replace('\n', "\r\n"));
}

#[test]
fn hostile_structure_costs_no_more_than_its_length() {
    let begin = std::time::Instant::now();
    let nested: String = (0..20_000).fold(String::from("MIME-Version: 1.0\n"), |mut text, i| {
        text.push_str(&format!(
            "Content-Type: multipart/mixed; boundary=b{i}\n\n--b{i}\n"
        ));
        text
    });
    let messages = format!("A: b\n{}é", "Content-Type: message/rfc822\n\n".repeat(30_000));
    let parts = format!(
        "Content-Type: multipart/mixed; boundary=b\n\n{}",
        "--b\n\né\n".repeat(50_000)
    );
    let dashes = format!("{nested}\n\n{}é", "--\n".repeat(200_000));
    let field = format!("To: {}\n\n", "é\"<(,".repeat(200_000));
    let param = format!("Content-Type: a/b{}\n\n", "; n=é; n*=é".repeat(50_000));
    for text in [nested + "\né", messages, parts, dashes, field, param] {
        assert!(seven_bit(text.as_bytes()).is_ascii());
    }
    assert!(
        begin.elapsed() < std::time::Duration::from_secs(60),
        "{:?}",
        begin.elapsed()
    );
}
