//! Everything at once: a hundred good messages among all that a local user can put into Pickup to stop them.
//!
//! `MAILROOT_HOSTILE_FILES` is the number of empty files (a million takes some minutes to make).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use mailroot::practice::{Host, Script};
use support::place::{Place, message, nested, to_smart_host};
use support::tree;

const GOOD: usize = 100;
/// Files without a header.
const MALFORMED: usize = 1_000;
/// Files that are larger than they are.
const SPARSE: [(&str, u64); 3] = [
    ("sparse-1", 2 << 30),
    ("sparse-2", 2 << 30),
    ("sparse-3", 1 << 40),
];
/// What the contract of this test is.
const SOON: Duration = Duration::from_secs(30);

fn simple(subject: &str) -> String {
    message("app@local.test", &["bob@good.example"], subject)
}

fn empty_files() -> usize {
    let asked = std::env::var("MAILROOT_HOSTILE_FILES").ok();
    asked.map_or(10_000, |n| n.parse().expect("MAILROOT_HOSTILE_FILES is a number"))
}

struct Scene {
    host: Host,
    place: Place,
    secret: PathBuf,
    /// Hosts of the attacker: they take connections and say nothing.
    _tarpits: Vec<TcpListener>,
}

/// So many destinations that never answer, with so many messages each.
const TARPITS: usize = 12;
const STUCK: usize = 100;

impl Scene {
    fn new() -> Self {
        let host = Host::start(Script::new()).unwrap();
        let tarpits: Vec<TcpListener> = (0..TARPITS)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let mut settings = to_smart_host(host.port(), "");
        for (number, tarpit) in tarpits.iter().enumerate() {
            let port = tarpit.local_addr().unwrap().port();
            write!(
                settings,
                "\n[[remote]]\nname = \"slow{number}.example\"\nsmart_host = \"[127.0.0.1]:{port}\"\n"
            )
            .unwrap();
        }
        let place = Place::new(&settings);
        let secret = place.beside().join("secret");
        fs::write(&secret, simple("secret")).unwrap();
        Self {
            host,
            place,
            secret,
            _tarpits: tarpits,
        }
    }

    fn arrived(&self, start: &str) -> usize {
        let wanted = format!("Subject: {start}");
        let has = |content: &[u8]| content.windows(wanted.len()).any(|w| w == wanted.as_bytes());
        let all = self.host.accepted();
        all.iter().filter(|m| has(&m.content)).count()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.pickup(name)
    }

    fn good_ones_arrive(&self, start: &str, begun: Instant) -> Duration {
        let all = || self.arrived(start) >= GOOD / 2;
        if !support::holds_within(SOON, all) {
            let log = self.place.log();
            let tail = log.get(log.len().saturating_sub(5000)..).unwrap_or(&log);
            panic!(
                "{} of {} {start} within {:?}\n{tail}",
                self.arrived(start),
                GOOD / 2,
                begun.elapsed()
            );
        }
        begun.elapsed()
    }
}

/// Files that are no messages, each of which is worth a line in the log.
fn strange_files(scene: &Scene) {
    for number in 0..10_000 {
        let at = scene.at(&format!("strange-{number}"));
        match number % 10 {
            0..4 => symlink(&scene.secret, at).unwrap(),
            4..6 => fs::create_dir(at).unwrap(),
            6..8 => mkfifo(&at),
            8 => fs::hard_link(&scene.secret, at).unwrap(),
            _ => drop(UnixListener::bind(at).unwrap()),
        }
    }
    if rustix::process::geteuid().is_root() {
        for (number, minor) in [3, 5, 7, 8].into_iter().enumerate() {
            let (kind, device) = (
                rustix::fs::FileType::CharacterDevice,
                rustix::fs::makedev(1, minor),
            );
            let at = scene.at(&format!("device-{number}"));
            if let Err(error) = rustix::fs::mknodat(rustix::fs::CWD, &at, kind, 0o666.into(), device) {
                eprintln!("SKIPPED: no devices can be made here: {error}");
            }
        }
    } else {
        eprintln!("SKIPPED: only root makes devices");
    }
}

fn mkfifo(at: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, at, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
}

/// Messages that cannot be understood, or hardly.
fn bombs(scene: &Scene) {
    for number in 0..MALFORMED {
        scene
            .place
            .put(format!("malformed-{number}.eml"), "no header at all\n\ntext\n");
    }
    let top = "x-sender: <app@local.test>\nx-receiver: <eve@slow0.example>\nFrom: <app@local.test>\n";
    let bombs: [(&str, Vec<u8>); 9] = [
        (
            "million-headers",
            [top.as_bytes(), &b"X: y\n".repeat(1_000_000), b"\ntext\n"].concat(),
        ),
        (
            "million-receivers",
            [&b"x-receiver: a@b.example\n".repeat(1_000_000)[..], b"\ntext\n"].concat(),
        ),
        (
            "million-senders",
            [
                &b"x-sender: a@b.example\n".repeat(450_000)[..],
                top.as_bytes(),
                b"\n",
            ]
            .concat(),
        ),
        (
            "one-line",
            [top.as_bytes(), &vec![b'x'; 15 << 20], b"\n\n"].concat(),
        ),
        ("nuls", vec![0; 1 << 20]),
        ("nuls-inside", [top.as_bytes(), b"\n", &vec![0; 4 << 20]].concat()),
        ("nested", nested(10_000).into_bytes()),
        (
            "comments",
            [top.as_bytes(), b"To: ", &vec![b'('; 4 << 20], b"\n\n"].concat(),
        ),
        (
            "looping",
            format!("{top}{}\ntext\n", "Received: from a by b; x\n".repeat(40)).into_bytes(),
        ),
    ];
    for (name, bytes) in bombs {
        scene.place.put(format!("{name}.eml"), bytes);
    }
    for (name, size) in SPARSE {
        let file = File::create(scene.at(&format!("{name}.eml"))).unwrap();
        if let Err(error) = file.set_len(size) {
            eprintln!("SKIPPED: no sparse file of {size} bytes here: {error}");
        }
    }
}

/// Writers that never end, each in its own way.
fn writers(scene: &Scene, stop: &AtomicBool) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut kept = File::create(scene.at("kept-open.eml")).unwrap();
            while !stop.load(Ordering::Relaxed) {
                let _ = kept.write_all(b"X: more\n");
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        for (name, first) in [
            ("reopened.eml", simple("endless")),
            ("multipart.eml", {
                let head = simple("endless").replace(
                    "\n\n",
                    "\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b1\"\n\n--b1\n\n",
                );
                head + &"text and text and text\n".repeat(200_000)
            }),
        ] {
            scope.spawn(move || {
                let _ = fs::write(scene.at(name), first);
                while !stop.load(Ordering::Relaxed) {
                    let mut options = OpenOptions::new();
                    // not made anew when it was taken
                    let file = options
                        .append(true)
                        .custom_flags(libc::O_NONBLOCK)
                        .open(scene.at(name));
                    if let Ok(mut file) = file {
                        let _ = file.write_all(b"more\n");
                    }
                    std::thread::sleep(Duration::from_millis(8));
                }
            });
        }
        scope.spawn(|| {
            // what looks strange in ever other ways
            let at = scene.at("chameleon");
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                let _ = fs::remove_file(&at);
                let _ = fs::remove_dir(&at);
                match round % 4 {
                    0 => drop(symlink("/etc/passwd", &at)),
                    1 => drop(fs::create_dir(&at)),
                    2 => drop(File::create(&at)),
                    _ => mkfifo(&at),
                }
                round += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
        });
    });
}

/// Files that somebody holds, in every way there is.
fn held_files(scene: &Scene) -> Vec<File> {
    let mut held = Vec::new();
    for number in 0..50 {
        let name = format!("held-{number}.eml");
        scene.place.put(&name, simple("held"));
        let file = File::options()
            .read(true)
            .write(number % 2 == 0)
            .open(scene.at(&name))
            .unwrap();
        if number % 2 == 1 {
            fs2::FileExt::lock_exclusive(&file).unwrap();
        }
        held.push(file);
    }
    held
}

#[test]
fn a_hundred_good_messages_leave_among_everything_at_once() {
    let mut scene = Scene::new();
    let making = Instant::now();
    let empties = empty_files();
    for number in 0..empties {
        File::create(scene.at(&format!("empty-{number}.eml"))).unwrap();
    }
    strange_files(&scene);
    bombs(&scene);
    for number in 0..TARPITS * STUCK {
        let to = format!("eve@slow{}.example", number % TARPITS);
        scene.place.put(
            format!("stuck-{number}.eml"),
            message("app@local.test", &[&to], "stuck"),
        );
    }
    for (name, year) in [("1970", 0_u64), ("2500", 16_725_225_600)] {
        let subject = format!("clock-{name}");
        scene.place.put(&subject, simple(&subject));
        let file = File::open(scene.at(&subject)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(year))
            .unwrap();
    }
    let held = held_files(&scene);
    for name in [".TMP", ".git"] {
        fs::create_dir(scene.at(name)).unwrap();
    }
    for number in 0..GOOD / 2 {
        let subject = format!("before-{number}-");
        scene.place.put(&subject, simple(&subject));
    }
    println!("made in {:?}", making.elapsed());
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    scene.place.start();
    std::thread::scope(|scope| {
        let writers = scope.spawn(|| writers(&scene, &stop));
        let _stop = Stop(&stop);
        let before = scene.good_ones_arrive("before-", begun);
        let begun = Instant::now();
        for number in 0..GOOD / 2 {
            let subject = format!("after-{number}-");
            scene.place.put(&subject, simple(&subject));
            std::thread::sleep(Duration::from_millis(20));
        }
        let after = scene.good_ones_arrive("after-", begun);
        println!(
            "{empties} empty files: those before the start left within {before:?}, those after it within {after:?}"
        );
        for subject in ["clock-1970", "clock-2500", "nested"] {
            scene
                .place
                .wait(&format!("{subject} arrives"), || scene.arrived(subject) == 1);
        }
        scene.place.wait("all malformed ones are buried", || {
            tree::count(&scene.place.root(), "Badmail", "BAD") >= MALFORMED + SPARSE.len()
        });
        let buried = tree::with_extension(&scene.place.root(), "Badmail", "BAD");
        let taken: u64 = buried.iter().map(|p| p.metadata().unwrap().blocks() * 512).sum();
        assert!(
            taken < 256 << 20,
            "zeros that nobody wrote take {taken} bytes in Badmail"
        );
        println!("all buried after {:?}", begun.elapsed());
        stop.store(true, Ordering::Relaxed);
        writers.join().unwrap();
    });
    assert_eq!(scene.arrived("secret"), 0);
    assert_eq!(scene.arrived("held"), 0, "held files were taken");
    drop(held);
    let freed = Instant::now();
    let goes = || scene.arrived("held") == 50;
    scene.place.wait("what was held goes now", goes);
    println!("what was held left after {:?}", freed.elapsed());
    let memory = scene.place.service().most_memory();
    let stopping = Instant::now();
    scene.place.stop();
    println!("stopped within {:?}", stopping.elapsed());
    println!("at most {} MiB of memory", memory / 1024);
    let log = scene.place.log();
    let about = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert!(
        about("left alone") + about("waits:") <= 101,
        "too many lines about strange files"
    );
    assert!(!log.contains("internal error"), "{log}");
}

/// Ends the writers also when an assertion fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
