//! Which files are taken out of Pickup and when: the evidence rules of contract §4, with real files and real writers.
//!
//! That a file is *not* taken is seen beside witnesses: messages that come later and are taken all the same.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use mailroot::practice::{Host, Script};
use support::place::{Place, message, to_smart_host};
use support::{holds_within, tree, wait_until};

struct Scene {
    host: Host,
    place: Place,
    witnesses: Cell<usize>,
}

impl Scene {
    /// `pickup` are keys of `[pickup]`.
    fn new(pickup: &str) -> Self {
        let host = Host::start(Script::new()).unwrap();
        let settings = to_smart_host(host.port(), "");
        let settings = settings.replace("quiet = \"20ms\"\n", &format!("{pickup}\n"));
        Self {
            host,
            place: Place::new(&settings),
            witnesses: Cell::new(0),
        }
    }

    fn arrived(&self, subject: &str) -> bool {
        self.content(subject).is_some()
    }

    fn content(&self, subject: &str) -> Option<Vec<u8>> {
        let wanted = format!("Subject: {subject}\r\n");
        let has = |content: &[u8]| content.windows(wanted.len()).any(|w| w == wanted.as_bytes());
        let found = self.host.accepted().into_iter().find(|m| has(&m.content));
        found.map(|m| m.content.clone())
    }

    fn wait_for(&self, subject: &str) {
        self.place
            .wait(&format!("{subject} arrives"), || self.arrived(subject));
    }

    /// Several messages, each put after the former has arrived: Pickup was looked at several times.
    fn witnesses(&self) {
        for _ in 0..4 {
            let number = self.witnesses.get() + 1;
            self.witnesses.set(number);
            let subject = format!("witness-{number}");
            self.place.move_in(&subject, simple(&subject));
            self.wait_for(&subject);
        }
    }

    fn stays(&self, name: impl AsRef<OsStr>, subject: &str) {
        self.witnesses();
        assert!(!self.arrived(subject), "{subject} was taken too early");
        assert!(self.place.pickup(name).symlink_metadata().is_ok());
    }

    fn times_named(&self, name: &str) -> usize {
        let log = self.place.log();
        log.lines().filter(|l| l.contains(name)).count()
    }
}

fn simple(subject: &str) -> String {
    message("app@local.test", &["bob@example.net"], subject)
}

fn append(path: &Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new()
        .append(true)
        .open(path)?
        .write_all(text.as_bytes())
}

#[test]
fn a_file_that_is_open_for_writing_is_not_taken_until_it_is_closed() {
    let mut scene = Scene::new("quiet = \"20ms\"");
    scene.place.start();
    let mut writer = File::create(scene.place.pickup("open.eml")).unwrap();
    writer.write_all(simple("open").as_bytes()).unwrap();
    scene.stays("open.eml", "open");
    writer.write_all(b"and its last line\n").unwrap();
    drop(writer);
    scene.wait_for("open");
    assert!(scene.content("open").unwrap().ends_with(b"its last line\r\n"));
    scene.place.stop();
}

#[test]
fn an_advisory_lock_keeps_a_file() {
    let mut scene = Scene::new("quiet = \"20ms\"");
    scene.place.put("locked.eml", simple("locked"));
    let holder = File::open(scene.place.pickup("locked.eml")).unwrap();
    fs2::FileExt::lock_shared(&holder).unwrap(); // as .NET does
    scene.place.start();
    scene.stays("locked.eml", "locked");
    drop(holder);
    scene.wait_for("locked");
    scene.place.stop();
}

#[test]
fn quiet_is_asked_of_a_file_that_was_written_and_not_of_one_that_was_renamed_in() {
    let mut scene = Scene::new("quiet = \"1h\"");
    scene.place.start();
    let mut tried = 0;
    // what was renamed in before the service watches would wait
    scene.place.wait("the service watches", || {
        tried += 1;
        scene
            .place
            .move_in(format!("try-{tried}"), simple(&format!("try-{tried}")));
        holds_within(Duration::from_secs(2), || scene.arrived(&format!("try-{tried}")))
    });
    scene.place.put("written.eml", simple("written"));
    scene.stays("written.eml", "written"); // the witnesses were renamed in, and went at once
    let long_ago = SystemTime::now() - Duration::from_secs(7200);
    let file = File::open(scene.place.pickup("written.eml")).unwrap();
    let times = fs::FileTimes::new().set_accessed(long_ago).set_modified(long_ago);
    file.set_times(times).unwrap(); // both: then the system notifies as for `touch`
    scene.wait_for("written");
    scene.place.stop();
}

#[test]
fn quiet_begins_anew_with_the_last_write() {
    const QUIET: Duration = Duration::from_secs(2);
    let mut scene = Scene::new("quiet = \"2s\"");
    scene.place.start();
    let mut writer = File::create(scene.place.pickup("late.eml")).unwrap();
    writer.write_all(simple("late").as_bytes()).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < QUIET + Duration::from_millis(300) {
        scene.witnesses(); // meanwhile it is seen again and again, unchanged and open
    }
    let last_write = Instant::now();
    writer.write_all(b"more\n").unwrap();
    drop(writer);
    scene.wait_for("late");
    let waited = last_write.elapsed();
    assert!(
        waited + Duration::from_millis(50) >= QUIET,
        "taken {waited:?} after the last write, though quiet is {QUIET:?}"
    );
    scene.place.stop();
}

#[test]
fn a_file_with_two_links_waits_until_it_has_one() {
    let mut scene = Scene::new("quiet = \"20ms\"");
    let other = scene.place.root().join("being-written");
    fs::write(&other, simple("linked")).unwrap();
    fs::hard_link(&other, scene.place.pickup("linked.eml")).unwrap();
    scene.place.start();
    let named = || scene.times_named("linked.eml");
    scene.place.wait("it is named", || named() == 1);
    scene.stays("linked.eml", "linked");
    assert_eq!(named(), 1, "{}", scene.place.log());
    fs::remove_file(&other).unwrap();
    scene.wait_for("linked");
    scene.place.stop();
}

#[test]
fn what_is_no_file_is_left_alone_and_named_once() {
    let mut scene = Scene::new("quiet = \"20ms\"");
    let target = scene.place.beside().join("secret");
    fs::write(&target, simple("secret")).unwrap();
    let folder = scene.place.root().join("Pickup");
    let pickup = |name: &str| folder.join(name);
    std::os::unix::fs::symlink(&target, pickup("a-symlink")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", pickup("a-link-to-a-device")).unwrap();
    fs::create_dir(pickup("a-folder")).unwrap();
    fs::write(pickup("a-folder").join("inside.eml"), simple("inside")).unwrap();
    let fifo = pickup("a-fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(pickup("a-socket")).unwrap();
    let names = [
        "a-symlink",
        "a-link-to-a-device",
        "a-folder",
        "a-fifo",
        "a-socket",
    ];
    scene.place.start();
    for name in names {
        scene
            .place
            .wait(&format!("{name} is named"), || scene.times_named(name) == 1);
    }
    scene.witnesses();
    scene.witnesses();
    for name in names {
        assert_eq!(scene.times_named(name), 1, "{name}: {}", scene.place.log());
        assert!(pickup(name).symlink_metadata().is_ok(), "{name}");
    }
    assert!(!scene.arrived("secret") && !scene.arrived("inside"));
    assert_eq!(fs::read_to_string(&target).unwrap(), simple("secret"));
    scene.place.stop();
}

#[test]
fn an_empty_file_stays_and_is_taken_once_it_is_filled() {
    let mut scene = Scene::new("quiet = \"20ms\"");
    scene.place.put("empty.eml", "");
    scene.place.start();
    let named = || scene.times_named("empty.eml");
    scene.place.wait("it is named", || named() == 1);
    scene.stays("empty.eml", "filled");
    assert_eq!(named(), 1, "{}", scene.place.log());
    fs::write(scene.place.pickup("empty.eml"), simple("filled")).unwrap();
    scene.wait_for("filled");
    scene.place.stop();
}

#[test]
fn what_a_failing_dotnet_program_leaves_waits_its_grace_and_goes_to_badmail() {
    const GRACE: Duration = Duration::from_secs(2);
    let mut scene = Scene::new("quiet = \"20ms\"\nincomplete_grace = \"2s\"");
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("spool-fixtures/pickup/cut-short/dotnetcore31-fail.eml");
    scene.place.start();
    let put = Instant::now();
    scene.place.put("fail.eml", fs::read(&fixture).unwrap());
    scene.place.wait("it is in Badmail", || {
        !scene.place.files("Badmail", "BAD").is_empty()
    });
    assert!(put.elapsed() >= GRACE, "buried after {:?}", put.elapsed());
    let reason = scene.place.text("Badmail", "BDR");
    assert!(
        reason.contains("fail.eml") && reason.contains("closing boundary"),
        "{reason}"
    );
    let bad = scene.place.files("Badmail", "BAD");
    assert_eq!(fs::read(&bad[0]).unwrap(), fs::read(&fixture).unwrap());
    assert_eq!(scene.host.counts().messages, 0);
    scene.place.stop();
}

#[test]
fn any_name_is_taken_and_shown_escaped() {
    let mut scene = Scene::new("quiet = \"20ms\"");
    let long = format!("{}.eml", "n".repeat(251));
    let names: [(&[u8], &str); 14] = [
        (b"new\nline.eml", "new\\nline.eml"),
        (b"not-utf8-\xFF\xC3.eml", "not-utf8-\\xff\\xc3.eml"),
        (long.as_bytes(), &long),
        (b"with some spaces", "with some spaces"),
        (b"esc\x1b[31m.eml", "esc\\u{1b}[31m.eml"),
        (b"quote\"'$(touch x);.eml", "quote"),
        // names that Windows keeps for devices, forbids, or would write otherwise
        (b"CON", "CON"),
        (b"nul.eml", "nul.eml"),
        (b"COM1.eml", "COM1.eml"),
        (b"LPT\xC2\xB9.txt", "LPT\u{b9}.txt"),
        (b"ends in a period.", "ends in a period."),
        (b"ends in a space ", "ends in a space"),
        (b"a:stream.eml", "a:stream.eml"),
        (b"back\\slash?*<>|.eml", "back\\\\slash?*<>|.eml"),
    ];
    for (number, (name, _)) in names.iter().enumerate() {
        scene.place.put(
            OsString::from(OsStr::from_bytes(name)),
            simple(&format!("name-{number}")),
        );
    }
    scene.place.start();
    for number in 0..names.len() {
        scene.wait_for(&format!("name-{number}"));
    }
    scene.place.wait_until_empty();
    scene.place.stop();
    let log = scene.place.log();
    for (_, shown) in names {
        // a log that quotes a value escapes its backslashes once more
        let twice = shown.replace('\\', "\\\\");
        assert!(log.contains(shown) || log.contains(&twice), "{shown} in:\n{log}");
    }
    assert!(!log.contains('\x1b') && !log.contains('\u{fffd}'), "{log}");
    let is_event = |line: &str| line.starts_with("20") && line.contains('T');
    assert!(log.lines().all(is_event), "a name broke a line:\n{log}");
}

#[test]
fn a_file_that_grows_in_steps_is_sent_whole() {
    let mut scene = Scene::new("quiet = \"20ms\"");
    scene.place.start();
    // one writer keeps it open; the other opens it for each step, as scripts do, and says by MIME when it is done
    let mut kept = File::create(scene.place.pickup("kept-open.eml")).unwrap();
    let stepped = scene.place.pickup("reopened.eml");
    kept.write_all(simple("kept-open").as_bytes()).unwrap();
    let top = simple("reopened").replace(
        "\n\n",
        "\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b1\"\n\n--b1\n\n",
    );
    fs::write(&stepped, top).unwrap();
    let mut lines = Vec::new();
    for step in 0..10 {
        let line = format!("step {step}\n");
        kept.write_all(line.as_bytes()).unwrap();
        append(&stepped, &line).expect("it is still in Pickup");
        lines.push(format!("step {step}\r\n"));
        if step % 5 == 0 {
            scene.witnesses();
        }
    }
    append(&stepped, "--b1--\n").unwrap();
    drop(kept);
    for subject in ["kept-open", "reopened"] {
        scene.wait_for(subject);
        let content = String::from_utf8(scene.content(subject).unwrap()).unwrap();
        assert!(content.contains(&lines.concat()), "{content}");
    }
    scene.place.wait_until_empty();
    scene.place.stop();
}

/// The program as a user who may not ask for leases on files of others, which are then judged by `settle`.
fn start_as_nobody(place: &mut Place) -> bool {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can start the program as another user");
        return false;
    }
    let nobody = |command: &mut Command| {
        let status = command.status();
        status.is_ok_and(|s| s.success())
    };
    let mut try_out = Command::new("setpriv");
    try_out.args(["--reuid=65534", "--regid=65534", "--clear-groups", "true"]);
    let root = place.root();
    let mut own = Command::new("chown");
    own.arg("-R").arg("65534:65534").arg(&root);
    if !nobody(&mut try_out) || !nobody(&mut own) {
        eprintln!("SKIPPED: setpriv cannot start a program as user 65534 here");
        return false;
    }
    fs::set_permissions(place.beside(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.beside().join("mailroot-of-nobody");
    fs::copy(env!("CARGO_BIN_EXE_mailroot"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(program)
        .arg("run")
        .arg(&root)
        .env_remove("MAILROOT")
        .current_dir("/");
    place.start_by(command);
    true
}

#[test]
fn a_file_that_cannot_be_read_waits_and_is_named_once() {
    let mut scene = Scene::new("quiet = \"20ms\"\nsettle = \"300ms\"");
    if !rustix::process::geteuid().is_root() {
        scene.place.start();
    } else if !start_as_nobody(&mut scene.place) {
        return;
    }
    let path = scene.place.root().join("aside");
    fs::write(&path, simple("private")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    fs::rename(&path, scene.place.pickup("private.eml")).unwrap();
    scene
        .place
        .wait("it is named", || scene.times_named("private.eml") == 1);
    scene.stays("private.eml", "private");
    assert_eq!(scene.times_named("private.eml"), 1, "{}", scene.place.log());
    fs::set_permissions(
        scene.place.pickup("private.eml"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    scene.wait_for("private");
    scene.place.stop();
}

#[test]
fn where_no_lease_can_be_asked_for_a_file_must_settle() {
    const SETTLE: Duration = Duration::from_secs(2);
    for attempt in 1..=5 {
        let mut scene = Scene::new("quiet = \"20ms\"\nsettle = \"2s\"");
        if !start_as_nobody(&mut scene.place) {
            return;
        }
        // held open, so that no notification tells of the steps: as if it were written from another machine
        let path = scene.place.pickup("grows.eml");
        let mut writer = File::create(&path).unwrap();
        writer.write_all(simple("grows").as_bytes()).unwrap();
        let (begun, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
        let mut lines = Vec::new();
        while begun.elapsed() < SETTLE * 2 && path.exists() {
            lines.push(format!("step {}\r\n", lines.len()));
            writer
                .write_all(format!("step {}\n", lines.len() - 1).as_bytes())
                .unwrap();
            longest = longest.max(last.elapsed());
            last = Instant::now();
            std::thread::sleep(Duration::from_millis(50)); // the writer's own pace
        }
        if longest > SETTLE / 2 {
            eprintln!("attempt {attempt}: this machine paused the writer for {longest:?}; tried again");
            continue;
        }
        assert!(
            path.exists(),
            "it was taken {:?} after it began to grow, though it was never unchanged for {SETTLE:?}",
            begun.elapsed()
        );
        scene.wait_for("grows");
        assert!(
            last.elapsed() + Duration::from_millis(50) >= SETTLE,
            "taken after {:?}",
            last.elapsed()
        );
        let content = String::from_utf8(scene.content("grows").unwrap()).unwrap();
        assert!(content.ends_with(&lines.concat()), "{content}");
        assert!(scene.place.log().contains("settled"), "{}", scene.place.log());
        scene.place.stop();
        return;
    }
    eprintln!("SKIPPED: this machine is too busy to write steadily");
}

#[test]
fn without_notifications_the_scan_is_enough() {
    // a file that is put in while the service is down, and one in a folder that is replaced by another
    let mut scene = Scene::new("quiet = \"20ms\"");
    scene.place.put("before.eml", simple("before"));
    scene.place.start();
    scene.wait_for("before");
    let pickup = scene.place.root().join("Pickup");
    fs::rename(&pickup, scene.place.root().join("Pickup.old")).unwrap();
    wait_until("the missing folder is told", Duration::from_secs(60), || {
        scene.place.log().contains("nothing is taken from Pickup")
    });
    fs::create_dir(&pickup).unwrap();
    scene.place.put("after.eml", simple("after"));
    scene.wait_for("after");
    assert!(tree::files(&scene.place.root(), "Pickup").is_empty());
    scene.place.stop();
}
