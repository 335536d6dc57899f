//! Trouble at run time, as far as it can be made without root and without a library that makes calls fail (for that:
//! `scripts/trouble`): folders that go and come back, too few descriptors, a limit on the size of files. Mail that
//! the trouble does not concern goes on at once, the rest when it is over, and the log says it once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use mailroot::practice::{Host, Script};
use support::place::{Place, message, to_smart_host};

const SHORT: &str =
    "retry = [\"1s\"]\n[drop]\nretry = [\"1s\"]\n[cluster]\nheartbeat = \"100ms\"\nlease = \"2s\"\n";

fn scene() -> (Host, Place) {
    let host = Host::start(Script::new()).unwrap();
    let place = Place::new(&to_smart_host(host.port(), SHORT));
    (host, place)
}

fn local(subject: &str) -> String {
    message("app@local.test", &["bob@local.test"], subject)
}

fn remote(subject: &str) -> String {
    message("app@local.test", &["bob@example.net"], subject)
}

fn arrived(host: &Host, subject: &str) -> usize {
    let wanted = format!("Subject: {subject}\r\n");
    let has = |content: &[u8]| content.windows(wanted.len()).any(|w| w == wanted.as_bytes());
    host.accepted().iter().filter(|m| has(&m.content)).count()
}

fn in_drop(place: &Place, subject: &str) -> usize {
    let wanted = format!("Subject: {subject}\n");
    let read = |path: &std::path::PathBuf| fs::read_to_string(path).unwrap_or_default().replace('\r', "");
    let files = place.files("Drop", "EML");
    files
        .into_iter()
        .filter(|path| read(path).contains(&wanted))
        .count()
}

fn warnings(place: &Place, what: &str) -> usize {
    let log = place.log();
    log.lines()
        .filter(|l| l.contains(" WARN ") && l.contains(what))
        .count()
}

#[test]
fn drop_is_away_and_comes_back() {
    let (host, mut place) = scene();
    place.start();
    place.move_in("first", local("first"));
    place.wait("mail for Drop", || in_drop(&place, "first") == 1);
    let (drop, away) = (place.root().join("Drop"), place.beside().join("away"));
    fs::rename(&drop, &away).unwrap();
    for number in 0..20 {
        let name = format!("waits{number}");
        place.move_in(&name, local(&name));
    }
    place.move_in("goes", remote("goes"));
    place.wait("mail for a host goes on", || arrived(&host, "goes") == 1);
    place.wait("a word", || warnings(&place, "Drop takes no mail") == 1);
    fs::rename(&away, &drop).unwrap();
    place.wait_until_empty();
    for number in 0..20 {
        assert_eq!(in_drop(&place, &format!("waits{number}")), 1);
    }
    place.stop();
    assert_eq!(warnings(&place, "Drop"), 1, "{}", place.log());
    assert!(place.log().contains("Drop takes mail again"), "{}", place.log());
}

#[test]
fn pickup_is_a_file_for_a_while() {
    let (host, mut place) = scene();
    place.start();
    place.move_in("first", remote("first"));
    place.wait("the first", || arrived(&host, "first") == 1);
    let pickup = place.root().join("Pickup");
    place.wait("Pickup is empty", || fs::remove_dir(&pickup).is_ok());
    fs::write(&pickup, "not a folder").unwrap();
    place.wait("a word", || warnings(&place, "Pickup") > 0);
    fs::remove_file(&pickup).unwrap();
    fs::create_dir(&pickup).unwrap();
    fs::set_permissions(&pickup, fs::Permissions::from_mode(0o1777)).unwrap();
    place.move_in("second", remote("second"));
    place.wait("the second", || arrived(&host, "second") == 1);
    place.stop();
    assert!(warnings(&place, "Pickup") <= 2, "{}", place.log());
}

#[test]
fn status_is_removed_and_made_again() {
    let (host, mut place) = scene();
    place.start();
    place.move_in("first", remote("first"));
    place.wait("the first", || arrived(&host, "first") == 1);
    let status = place.root().join("Status");
    fs::remove_dir_all(&status).unwrap();
    place.wait("a word", || warnings(&place, "heartbeat") > 0);
    let _ = fs::create_dir(&status); // it may have been made already
    place.move_in("second", remote("second"));
    place.wait("the second", || arrived(&host, "second") == 1);
    place.stop();
}

#[test]
fn badmail_takes_nothing_and_other_mail_goes_on() {
    let (host, mut place) = scene();
    let badmail = place.root().join("Badmail");
    place.start();
    place.move_in("first", remote("first"));
    place.wait("the first", || arrived(&host, "first") == 1);
    fs::remove_dir_all(&badmail).unwrap();
    fs::write(&badmail, "not a folder").unwrap();
    for number in 0..20 {
        place.move_in(format!("broken{number}"), "From: a@local.test\nno header\n\nx\n");
    }
    for number in 0..5 {
        let name = format!("good{number}");
        place.move_in(&name, remote(&name));
        place.wait("other mail goes on", || arrived(&host, &name) == 1);
    }
    fs::remove_file(&badmail).unwrap();
    fs::create_dir(&badmail).unwrap();
    place.wait("all in Badmail", || place.files("Badmail", "BAD").len() == 20);
    place.wait_until_empty();
    place.stop();
}

fn limited(place: &mut Place, limits: &str) {
    let mut command = Command::new("sh");
    let script = format!("{limits} && exec \"$0\" run \"$1\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_mailroot")]);
    command.arg(place.root()).env_remove("MAILROOT").env("TZ", "UTC");
    place.start_by(command);
}

#[test]
fn few_descriptors_cost_time_and_no_mail() {
    let (host, mut place) = scene();
    limited(&mut place, "ulimit -n 24");
    let names: Vec<String> = (0..100).map(|number| format!("few{number}")).collect();
    for name in &names {
        place.move_in(
            name,
            message("app@local.test", &["a@example.net", "b@local.test"], name),
        );
    }
    place.wait("all mail", || host.accepted().len() >= 100);
    place.wait_until_empty();
    for name in &names {
        assert_eq!((arrived(&host, name), in_drop(&place, name)), (1, 1), "{name}");
    }
    place.stop();
    assert!(!place.log().contains("internal error"), "{}", place.log());
}

#[test]
fn a_file_that_may_not_be_so_large_waits_and_others_go_on() {
    let (_host, mut place) = scene();
    limited(&mut place, "ulimit -f 64"); // 32 or 64 KiB, as the shell counts
    let large = local("large") + &format!("{}\n", "y".repeat(70)).repeat(2000);
    place.move_in("large", large);
    place.wait("a word", || warnings(&place, "Drop takes no mail") > 0);
    place.move_in("small", local("small"));
    place.wait("the small one", || in_drop(&place, "small") == 1);
    place.stop();
    assert_eq!(in_drop(&place, "large"), 0);
    place.start();
    place.wait("the large one", || in_drop(&place, "large") == 1);
    place.stop();
}
