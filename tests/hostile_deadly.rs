//! A message that takes down every process that reads it, or every thread that sends it, is found by its second death
//! and set aside in Badmail, and all other mail goes on.
//!
//! No such message is known: the deaths come from a library of the test's own (`support/deadly.c`), which needs `cc`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use mailroot::practice::{Host, Script};
use support::place::{PATIENCE, Place, message, to_smart_host};
use support::tree;

/// The first two are the service's: one as it looks into Pickup, one as it reads what it has claimed. Then a process
/// for trials reads what was taken over together with the innocent, and alone.
const DEATHS: usize = 4;
const GOOD: usize = 30;

struct Deadly {
    library: PathBuf,
    notes: PathBuf,
}

impl Deadly {
    /// `None` where nothing can be compiled.
    fn build(place: &Place) -> Option<Self> {
        let library = place.beside().join("deadly.so");
        let code = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/deadly.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(code)
            .arg("-ldl");
        match cc.status() {
            Ok(status) => assert!(status.success(), "{code} does not compile"),
            Err(error) => {
                eprintln!("SKIPPED: no cc: {error}");
                return None;
            }
        }
        let notes = place.beside().join("deaths");
        Some(Self { library, notes })
    }

    fn service(&self, place: &Place, times: usize) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailroot"));
        command
            .arg("run")
            .arg(place.root())
            .env_remove("MAILROOT")
            .env("LD_PRELOAD", &self.library)
            .env("DEADLY_NOTES", &self.notes)
            .env("DEADLY_TIMES", times.to_string());
        command
    }

    fn deaths(&self) -> usize {
        fs::read(&self.notes).map_or(0, |notes| notes.len())
    }
}

#[test]
fn a_message_that_kills_its_readers_goes_to_badmail_and_all_others_leave() {
    let host = Host::start(Script::new()).unwrap();
    let mut place = Place::new(&to_smart_host(host.port(), ""));
    let Some(deadly) = Deadly::build(&place) else {
        return;
    };
    let good = |number: usize| {
        message(
            "app@local.test",
            &["bob@good.example"],
            &format!("good-{number}-"),
        )
    };
    for number in 0..GOOD / 2 {
        place.put(format!("a-{number}.eml"), good(number));
    }
    let text = message("app@local.test", &["bob@good.example"], "deadly");
    let text = text.replacen("Subject:", "X-Takes-Its-Reader-Down: yes\nSubject:", 1);
    place.put("deadly.eml", text);
    // As a service manager does it: started again whenever it has died.
    for death in 1..=2 {
        place.start_by(deadly.service(&place, DEATHS));
        place.dies(PATIENCE);
        assert_eq!(deadly.deaths(), death, "{}", place.log());
    }
    place.start_by(deadly.service(&place, DEATHS));
    for number in GOOD / 2..GOOD {
        place.put(format!("b-{number}.eml"), good(number));
    }
    let count = |folder, extension| tree::count(&place.root(), folder, extension);
    place.wait("it lies in Badmail", || count("Badmail", "BAD") == 1);
    assert_eq!(deadly.deaths(), DEATHS, "{}", place.log());
    place.wait_until_empty();
    place.stop();
    let arrived = host.accepted();
    for number in 0..GOOD {
        let subject = format!("Subject: good-{number}-").into_bytes();
        let has = |content: &[u8]| content.windows(subject.len()).any(|w| w == subject);
        assert!(
            arrived.iter().any(|m| has(&m.content)),
            "good-{number}\n{}",
            place.log()
        );
    }
    let why = place.text("Badmail", "BDR");
    assert!(why.contains("reading it ends the process"), "{why}");
    assert!(place.text("Badmail", "BAD").contains("X-Takes-Its-Reader-Down"));
}

/// The thread that sends it panics, as it goes alone or in company with others: nothing else notices.
#[test]
fn a_message_that_makes_its_thread_panic_twice_goes_to_badmail_and_the_process_goes_on() {
    const PANICS: usize = 2;
    for in_flight in [1, 16] {
        let host = Host::start(Script::new()).unwrap();
        let delivery = format!("retry = [\"100ms\"]\nmax_in_flight = {in_flight}\n");
        let mut place = Place::new(&to_smart_host(host.port(), &delivery));
        let Some(deadly) = Deadly::build(&place) else {
            return;
        };
        let text = message("app@local.test", &["bob@good.example"], "deadly");
        let text = text.replacen("Subject:", "X-Makes-Its-Writer-Panic: yes\nSubject:", 1);
        place.put("deadly.eml", text);
        // A third attempt would succeed.
        place.start_by(deadly.service(&place, PANICS));
        for number in 0..GOOD {
            let subject = format!("good-{number}-");
            place.put(
                format!("{number}.eml"),
                message("app@local.test", &["bob@good.example"], &subject),
            );
        }
        let root = place.root();
        let count = |folder, extension| tree::count(&root, folder, extension);
        place.wait("it lies in Badmail", || count("Badmail", "BAD") == 1);
        place.wait_until_empty();
        place.stop();
        assert_eq!(deadly.deaths(), PANICS, "{}", place.log());
        // Those that were under way with it go again.
        assert!(
            (GOOD..GOOD + 16).contains(&host.accepted().len()),
            "{}",
            place.log()
        );
        assert_eq!(count("Badmail", "BAD"), 1);
        let why = place.text("Badmail", "BDR");
        assert!(why.contains("made mailroot fail twice"), "{why}");
        assert!(place.text("Badmail", "BAD").contains("X-Makes-Its-Writer-Panic"));
    }
}
