//! Hosts that lie, stall, flood, drip, hang up and reset, all at once: each costs its own mail at most, and none of what
//! they say reaches a log or a report raw.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mailroot::practice::{Host, Script};
use support::place::{Place, message, to_smart_host};
use support::tree;

type Act = fn(&mut Conn);

/// One connection of a hostile host.
struct Conn {
    tcp: TcpStream,
    lines: BufReader<TcpStream>,
    number: usize,
}

impl Conn {
    fn say(&mut self, text: impl AsRef<[u8]>) -> bool {
        self.tcp.write_all(text.as_ref()).is_ok()
    }

    fn hear(&mut self) -> String {
        let mut line = Vec::new();
        let _ = self.lines.read_until(b'\n', &mut line);
        String::from_utf8_lossy(&line).into_owned()
    }

    /// Up to this step of a normal dialogue; then the caller goes on.
    fn up_to(&mut self, step: usize) {
        let steps = [
            "",
            "220 evil.example\r\n",
            "250 evil.example\r\n",
            "250 ok\r\n",
            "250 ok\r\n",
            "354 go\r\n",
        ];
        for reply in &steps[1..=step] {
            self.say(reply);
            self.hear();
        }
        if step == 5 {
            while !self.hear().starts_with(".\r") {}
        }
    }

    fn reset(&mut self) {
        rustix_linger(&self.tcp);
    }

    fn wait_for_its_end(&mut self) {
        while !self.hear().is_empty() {}
    }
}

/// The next close sends RST.
fn rustix_linger(tcp: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(tcp, Some(Duration::ZERO)).unwrap();
}

/// The most that anybody took of what never ends.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

fn endless(conn: &mut Conn, piece: &[u8], most: usize) {
    let block = piece.repeat((1 << 16) / piece.len() + 1);
    let mut sent = 0;
    while sent < most && conn.say(&block) {
        sent += block.len();
    }
    TAKEN.fetch_max(sent, Ordering::SeqCst);
}

const GIB: usize = 1 << 30;

/// Each by a name.
fn hosts() -> Vec<(&'static str, Act)> {
    vec![
        ("endless-greeting", |c| endless(c, b"220-more and more\r\n", GIB)),
        ("long-line", |c| {
            c.say("220 ");
            endless(c, b"x", GIB);
        }),
        ("long-line-later", |c| {
            c.up_to(2);
            c.say("250 ");
            endless(c, b"x", GIB);
        }),
        ("keywords", |c| {
            c.say("220 evil.example\r\n");
            c.hear();
            endless(c, b"250-KEYWORD-AND-MORE\r\n", 8 << 20);
            c.say("250 END\r\n");
            c.wait_for_its_end();
        }),
        ("drip", |c| {
            for _ in 0..600 {
                if !c.say("2") {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }),
        ("drip-lines", |c| {
            c.up_to(1);
            for _ in 0..600 {
                if !c.say("250-x\r\n") {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }),
        ("mixed-codes", |c| {
            c.up_to(2);
            c.say("250-yes\r\n550 no\r\n");
            c.wait_for_its_end();
        }),
        ("controls", |c| {
            c.up_to(3);
            c.say(b"550 5.1.1 a\0b\x1b[2Jc\x07\xff\r\x9b31m\x7f <user> unknown\r\n");
            c.wait_for_its_end();
        }),
        ("controls-in-greeting", |c| {
            c.say(b"554 \0\x1b]0;evil\x07 go \r away\r\n");
            c.wait_for_its_end();
        }),
        ("binary", |c| {
            c.say([0, 255, 254, 1, 2, 3, 13, 10]);
            c.wait_for_its_end();
        }),
        ("all-before-asked", |c| {
            c.say(
                "220 evil\r\n250-evil\r\n250 PIPELINING\r\n250 ok\r\n250 ok\r\n354 go\r\n250 2.0.0 mine\r\n",
            );
            c.wait_for_its_end();
        }),
        ("more-than-asked", |c| {
            c.up_to(3);
            c.say("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n250 ok\r\n".repeat(1000));
            c.wait_for_its_end();
        }),
        ("half-closed", |c| {
            c.up_to(2);
            let _ = c.tcp.shutdown(Shutdown::Write);
            c.wait_for_its_end();
        }),
        ("deaf", |c| {
            c.up_to(2);
            std::thread::sleep(Duration::from_secs(20));
        }),
        ("starttls-injection", |c| {
            c.say("220 evil.example\r\n");
            c.hear();
            c.say("250-evil.example\r\n250 STARTTLS\r\n");
            c.hear();
            c.say("220 go\r\n250 evil.example\r\n250 ok\r\n250 ok\r\n354 go\r\n250 mine\r\n");
            c.wait_for_its_end();
        }),
        ("closes", |c| {
            let step = c.number % 6;
            c.up_to(step);
        }),
        ("resets", |c| {
            let step = c.number % 6;
            c.up_to(step);
            c.reset();
        }),
        ("code-999", |c| {
            c.up_to(1);
            c.say("999 what\r\n099 what\r\n25 what\r\n");
            c.wait_for_its_end();
        }),
    ]
}

fn serve(act: Act) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (number, tcp) in listener.incoming().enumerate() {
            let tcp = tcp.unwrap();
            tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            tcp.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
            std::thread::spawn(move || {
                let lines = BufReader::new(tcp.try_clone().unwrap());
                act(&mut Conn { tcp, lines, number });
            });
        }
    });
    port
}

#[test]
fn what_hosts_do_harms_only_mail_for_them() {
    let good = Host::start(Script::new()).unwrap();
    let mut settings = to_smart_host(
        good.port(),
        "timeout = \"2s\"\nconnect_timeout = \"2s\"\nretry = [\"1s\"]\nexpire = \"12s\"",
    );
    let hosts = hosts();
    for (name, act) in &hosts {
        let port = serve(*act);
        write!(
            settings,
            "\n[[remote]]\nname = \"{name}.example\"\nsmart_host = \"[127.0.0.1]:{port}\"\n"
        )
        .unwrap();
    }
    let mut place = Place::new(&settings);
    place.start();
    let begun = Instant::now();
    for (name, _) in &hosts {
        for number in 0..3 {
            let subject = format!("{name}-{number}");
            let to = format!("bob@{name}.example");
            place.move_in(&subject, message("app@local.test", &[&to], &subject));
        }
    }
    for number in 0..50 {
        let subject = format!("good-{number}");
        place.move_in(
            &subject,
            message("app@local.test", &["bob@good.example"], &subject),
        );
    }
    good.wait_for(50, Duration::from_secs(30)).unwrap();
    println!("good mail after {:?}", begun.elapsed());
    place.wait_until_empty();
    println!("all has ended after {:?}", begun.elapsed());
    let memory = place.service().most_memory();
    println!("at most {} MiB of memory", memory / 1024);
    assert!(memory < 256 * 1024, "{memory} KiB");
    // What the system's own buffers take is not read by us.
    let taken = TAKEN.load(Ordering::SeqCst) >> 20;
    println!("at most {taken} MiB of what never ends");
    assert!((1..64).contains(&taken), "{taken} MiB");
    place.stop();
    let log = place.log();
    assert!(!log.contains("internal error") && !log.contains("panic"), "{log}");
    let reports = place.text("Drop", "EML") + &place.text("Badmail", "BDR") + &place.text("Badmail", "BDP");
    for (what, text) in [("the log", &log), ("a report", &reports)] {
        let raw = text
            .char_indices()
            .find(|(_, c)| c.is_control() && !"\r\n\t".contains(*c));
        if let Some((at, c)) = raw {
            panic!("{c:?} in {what}: {}", &text[at.saturating_sub(200)..at]);
        }
        assert!(!text.replace("\r\n", "").contains('\r'), "a bare CR in {what}");
    }
    // Who was refused or lied to is told of it.
    for name in [
        "controls",
        "mixed-codes",
        "starttls-injection",
        "half-closed",
        "drip",
    ] {
        assert!(
            reports.contains(&format!("bob@{name}.example")),
            "{name}:\n{}",
            tree::listing(&place.root())
        );
    }
}
