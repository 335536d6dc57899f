//! A local user who swaps what lies in Pickup while it is claimed, or who makes names there that look like ours,
//! gets nothing read, sent, removed or overwritten that is not his own, and keeps nobody's mail from leaving.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mailroot::practice::{Host, Script};
use support::place::{Place, message, to_smart_host};
use support::tree;

const ID: &str = "01JADXKQ3V6ZJ5N8T2W4Y7B9CD";
const DEAD: &str = "GONE-AB12";
const SHORT_LEASE: &str = "\n[cluster]\nheartbeat = \"200ms\"\nlease = \"3s\"\n";

fn simple(subject: &str) -> String {
    message("app@local.test", &["bob@example.net"], subject)
}

struct Scene {
    host: Host,
    place: Place,
    /// What must not be touched: a message for the attacker, if anyone reads it.
    secret: PathBuf,
}

impl Scene {
    fn new(more: &str) -> Self {
        let host = Host::start(Script::new()).unwrap();
        let place = Place::new(&to_smart_host(host.port(), more));
        let secret = place.beside().join("secret");
        fs::write(&secret, simple("secret")).unwrap();
        Self { host, place, secret }
    }

    fn arrived(&self, subject: &str) -> usize {
        let wanted = format!("Subject: {subject}\r\n");
        let has = |content: &[u8]| content.windows(wanted.len()).any(|w| w == wanted.as_bytes());
        let all = self.host.accepted();
        all.iter().filter(|m| has(&m.content)).count()
    }

    fn good_ones_arrive(&self, run: &str) {
        for number in 0..10 {
            let subject = format!("good-{run}-{number}");
            self.place.move_in(&subject, simple(&subject));
        }
        for number in 0..10 {
            let subject = format!("good-{run}-{number}");
            self.place
                .wait(&format!("{subject} arrives"), || self.arrived(&subject) == 1);
        }
    }

    fn secret_is_safe(&self) {
        assert_eq!(self.arrived("secret"), 0, "the secret was sent");
        assert_eq!(fs::read_to_string(&self.secret).unwrap(), simple("secret"));
        let bad = self.place.text("Badmail", "BAD") + &self.place.text("Drop", "EML");
        assert!(!bad.contains("Subject: secret"), "the secret was copied");
    }

    fn queue(&self) -> Vec<String> {
        let names = fs::read_dir(self.place.root().join("Queue")).unwrap();
        names
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect()
    }
}

/// Things that are no message, by the name they are made under.
const KINDS: [&str; 6] = ["symlink", "dangling", "hardlink", "fifo", "socket", "folder"];

fn make(kind: &str, at: &Path, secret: &Path) {
    match kind {
        "symlink" => symlink(secret, at).unwrap(),
        "dangling" => symlink("/nowhere/at/all", at).unwrap(),
        "hardlink" => fs::hard_link(secret, at).unwrap(),
        "fifo" => mkfifo(at),
        "device" => mkdevice(at),
        "socket" => drop(UnixListener::bind(at).unwrap()),
        "folder" => {
            fs::create_dir(at).unwrap();
            fs::write(at.join("inside.eml"), simple("secret")).unwrap();
        }
        _ => unreachable!("{kind}"),
    }
}

/// Only root makes devices.
fn device_if_we_may() -> Option<&'static &'static str> {
    rustix::process::geteuid().is_root().then_some(&"device")
}

/// `/dev/zero` by another name: who reads it does not come to an end.
fn mkdevice(at: &Path) {
    let (kind, zero) = (rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 5));
    rustix::fs::mknodat(rustix::fs::CWD, at, kind, 0o666.into(), zero).unwrap();
}

fn mkfifo(at: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, at, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
}

fn remove(at: &Path) {
    let _ = if at.symlink_metadata().is_ok_and(|m| m.is_dir()) {
        fs::remove_dir_all(at)
    } else {
        fs::remove_file(at)
    };
}

/// Swaps a good file for something else, over and over, at ever other moments after it came in.
fn attack(scene: &Scene, kind: &str, stop: &AtomicBool) -> u64 {
    let aside = scene.place.beside().join(kind);
    fs::create_dir_all(&aside).unwrap();
    let (good, evil) = (aside.join("good"), aside.join("evil"));
    let at = scene.place.pickup(format!("swap-{kind}.eml"));
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        rounds += 1;
        fs::write(&good, simple(&format!("bait-{kind}"))).unwrap();
        remove(&evil);
        make(kind, &evil, &scene.secret);
        if fs::rename(&good, &at).is_err() {
            remove(&at);
            continue;
        }
        let pause = Duration::from_micros(rounds * 37 % 1500);
        let begun = Instant::now();
        while begun.elapsed() < pause {
            std::hint::spin_loop();
        }
        // a folder does not replace a file
        if kind == "folder" {
            remove(&at);
        }
        let _ = fs::rename(&evil, &at);
        std::thread::sleep(Duration::from_millis(2));
        remove(&at);
    }
    rounds
}

#[test]
fn a_file_that_is_swapped_while_it_is_claimed_harms_nobody() {
    let mut scene = Scene::new("\n[log]\nlevel = \"debug\"\n");
    scene.place.start();
    let stop = AtomicBool::new(false);
    let rounds: u64 = std::thread::scope(|scope| {
        let attackers: Vec<_> = KINDS
            .iter()
            .chain(device_if_we_may())
            .map(|kind| scope.spawn(|| attack(&scene, kind, &stop)))
            .collect();
        scene.good_ones_arrive("meanwhile");
        std::thread::sleep(Duration::from_secs(3));
        stop.store(true, Ordering::Relaxed);
        attackers.into_iter().map(|a| a.join().unwrap()).sum()
    });
    scene.good_ones_arrive("afterwards");
    scene
        .place
        .wait("nothing is left in Queue", || scene.queue().is_empty());
    scene.place.stop();
    scene.secret_is_safe();
    let log = scene.place.log();
    let hits = log.lines().filter(|l| l.contains("swapped in while")).count();
    println!("{rounds} swaps, {hits} of them between look and claim");
    let warnings = log.lines().filter(|l| l.contains("WARN")).count();
    assert!(warnings < 110, "{warnings} warnings:\n{log}");
    // the secret's links lie where the attacker put them, or are gone
    assert!(fs::metadata(&scene.secret).unwrap().nlink() >= 1);
}

#[test]
fn what_was_swapped_in_before_a_crash_goes_back_to_pickup() {
    let mut scene = Scene::new(SHORT_LEASE);
    // As it lies when the owner died between its claim and its second look, and when it came back to Queue.
    let queue = scene.place.root().join("Queue");
    for (number, kind) in KINDS.iter().enumerate() {
        let id = |tail| format!("{}{number}{tail}", &ID[..24]);
        make(
            kind,
            &queue.join(format!("{}@{DEAD}.EML", id('A'))),
            &scene.secret,
        );
        make(kind, &queue.join(format!("{}.EML", id('B'))), &scene.secret);
    }
    scene.place.start();
    scene.good_ones_arrive("beside");
    let pickup = scene.place.root().join("Pickup");
    let left = || fs::read_dir(&pickup).unwrap().count();
    scene.place.wait("all are in Pickup, none in Queue", || {
        scene.queue().is_empty() && left() == 2 * KINDS.len()
    });
    scene.good_ones_arrive("afterwards");
    scene.place.stop();
    scene.secret_is_safe();
    let kinds: Vec<fs::FileType> = fs::read_dir(&pickup)
        .unwrap()
        .map(|e| e.unwrap().file_type().unwrap())
        .collect();
    let count = |is: fn(&fs::FileType) -> bool| kinds.iter().filter(|kind| is(kind)).count();
    assert_eq!(count(fs::FileType::is_symlink), 4);
    assert_eq!(count(fs::FileType::is_dir), 2);
    assert_eq!(count(fs::FileType::is_fifo), 2);
    assert_eq!(count(fs::FileType::is_socket), 2);
    let log = scene.place.log();
    let lines = log.lines().filter(|l| l.contains("WARN")).count();
    assert!(lines <= 5 * KINDS.len(), "{log}");
}

/// `Pickup/.ID@NODE.EML` is what a node makes there when Pickup is another volume. Everybody can.
fn half(id: &str, node: &str) -> String {
    format!(".{id}@{node}.EML")
}

#[test]
fn a_false_claim_in_pickup_takes_nothing_from_the_message_whose_name_it_bears() {
    let mut scene = Scene::new(SHORT_LEASE);
    let queue = scene.place.root().join("Queue");
    // Two messages of others, one in a dead hand, one waiting; and false claims on both, and on one that never was.
    fs::write(queue.join(format!("{ID}@{DEAD}.EML")), simple("victim-1")).unwrap();
    let other = ID.replace('6', "5");
    fs::write(queue.join(format!("{other}.EML")), simple("victim-2")).unwrap();
    scene.place.put(half(ID, DEAD), simple("false-1"));
    scene
        .place
        .put(half(&format!("{ID}-7"), "FALSE-AB12"), simple("false-2"));
    scene.place.put(half(&other, "FALSE-AB12"), simple("false-3"));
    // A folder under such a name once kept the dead node's message where it was, for ever.
    fs::create_dir(scene.place.pickup(half(ID, "FOLDER-AB12"))).unwrap();
    let third = ID.replace('6', "4");
    scene.place.put(half(&third, "FALSE-AB12"), simple("false-4"));
    scene.place.start();
    for subject in ["victim-1", "victim-2", "false-1", "false-2", "false-3", "false-4"] {
        scene
            .place
            .wait(&format!("{subject} arrives"), || scene.arrived(subject) == 1);
    }
    scene.good_ones_arrive("afterwards");
    scene.place.wait("Queue is empty", || scene.queue().is_empty());
    scene.place.stop();
    assert_eq!(scene.host.counts().messages, 16);
}

#[test]
fn an_impossible_claim_in_pickup_is_no_claim() {
    let mut scene = Scene::new(SHORT_LEASE);
    // Each life is a name to look for: this one once made us look for four thousand million files.
    scene.place.put(
        half(&format!("{ID}-4294967295"), "FALSE-AB12"),
        simple("late-life"),
    );
    for kind in KINDS {
        let node = format!("{}-AB12", kind.to_ascii_uppercase());
        make(kind, &scene.place.pickup(half(ID, &node)), &scene.secret);
    }
    // The latest time that a ULID can hold is after the year 9999.
    let end_of_time = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ";
    scene
        .place
        .put(half(end_of_time, "FALSE-AB12"), simple("end-of-time"));
    scene.place.start();
    scene.good_ones_arrive("beside");
    scene
        .place
        .wait("the plain one is mail", || scene.arrived("end-of-time") == 1);
    std::thread::sleep(Duration::from_secs(1));
    scene.good_ones_arrive("afterwards");
    scene.place.stop();
    scene.secret_is_safe();
    assert_eq!(scene.arrived("late-life"), 0);
    for kind in KINDS {
        let node = format!("{}-AB12", kind.to_ascii_uppercase());
        assert!(scene.place.pickup(half(ID, &node)).symlink_metadata().is_ok());
    }
    let log = scene.place.log();
    assert!(log.lines().count() < 100, "{log}");
}

#[test]
fn thousands_of_false_claims_hold_nothing_up() {
    let mut scene = Scene::new(SHORT_LEASE);
    for number in 0..3000 {
        let id = format!("{}{number:04}", &ID[..22]);
        scene
            .place
            .put(half(&id, &format!("N{number}-AB12")), simple("false"));
    }
    scene.place.start();
    let begun = Instant::now();
    scene.good_ones_arrive("meanwhile");
    let took = begun.elapsed();
    std::thread::sleep(Duration::from_secs(1));
    scene.good_ones_arrive("afterwards");
    println!("the good ones took {took:?}");
    assert!(took < Duration::from_secs(15), "{took:?}");
    let log = scene.place.log();
    assert!(!log.contains("missed its own heartbeat"), "{log}");
    scene.place.stop();
}

#[test]
fn names_in_queue_that_are_not_ours_are_left_alone() {
    let mut scene = Scene::new("");
    let queue = scene.place.root().join("Queue");
    let strange = ["x.eml", "01JADXKQ3V6ZJ5N8T2W4Y7B9CD.eml", "NOTES.TXT", ".EML"];
    for name in strange {
        fs::write(queue.join(name), simple("not-ours")).unwrap();
    }
    // The same names in Pickup are names like any others.
    let names = [
        format!("{ID}.EML"),
        format!("{ID}@{DEAD}.EML"),
        format!("{ID}.ENV"),
    ];
    for (number, name) in names.iter().enumerate() {
        scene.place.put(name, simple(&format!("plain-{number}")));
    }
    scene.place.start();
    for number in 0..names.len() {
        let subject = format!("plain-{number}");
        scene
            .place
            .wait(&format!("{subject} arrives"), || scene.arrived(&subject) == 1);
    }
    scene.place.stop();
    let mut left = scene.queue();
    left.sort();
    let mut want: Vec<String> = strange.map(str::to_owned).to_vec();
    want.sort();
    assert_eq!(left, want);
    assert_eq!(tree::files(&scene.place.root(), "Pickup"), Vec::<PathBuf>::new());
}
