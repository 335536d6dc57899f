//! `mailroot demo`, run as a newcomer runs it: what it tells, and whether the tree bears it out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use support::process::mailroot;
use support::tree::files;

/// The part of a told story from one heading to the next empty line.
fn group<'a>(told: &'a str, heading: &str) -> &'a str {
    let start = told
        .find(heading)
        .unwrap_or_else(|| panic!("no {heading:?} in\n{told}"));
    let rest = &told[start..];
    &rest[..rest.find("\n\n").unwrap_or(rest.len())]
}

/// The files of `folder` whose names end like this.
fn with_ending(root: &Path, folder: &str, ending: &str) -> Vec<String> {
    let names = fs::read_dir(root.join(folder))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(ending)).collect();
    names.sort();
    names
}

#[test]
fn the_whole_job_is_done_and_told() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("a new folder");
    let begin = Instant::now();
    let told = mailroot(&place.path().join("notes"), &["demo", root.to_str().unwrap()]);
    assert_eq!(told.code, Some(0), "{}{}", told.stdout, told.stderr);
    assert_eq!(told.stderr, "", "the log does not disturb the story");
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "it usually takes two seconds"
    );
    let told = told.stdout;
    assert!(
        told.lines().count() <= 110,
        "a newcomer reads it to the end:\n{told}"
    );
    assert!(told.is_ascii() && !told.contains('\x1b'), "any terminal shows it");

    let program = env!("CARGO_BIN_EXE_mailroot");
    let ours = told
        .lines()
        .filter(|line| !line.contains(root.to_str().unwrap()) && !line.contains(program));
    let wide: Vec<_> = ours.filter(|line| line.len() > 100).collect();
    assert!(wide.is_empty(), "{wide:#?}");

    let sent = group(&told, "Sent by SMTP");
    for line in [
        "envelope  <blog@yourdomain.com> to <email@yourdomain.com>",
        "the lone \".\" was an end marker",
        "to <bob@example.net> <carol@example.net> <dave@example.org>",
        "dave@example.org is a Bcc",
        "the line \".hidden\" arrived with its period",
        "envelope  <shop@web1.example.com> to <bob@example.net>",
        "at first  <carol@greylist.example> 451 4.7.1",
    ] {
        assert!(sent.contains(line), "{line}\nis not in\n{sent}");
    }

    assert!(files(&root, "Pickup").is_empty());
    let drop = with_ending(&root, "Drop", ".EML");
    assert_eq!(drop.len(), 2, "{drop:?}");
    let texts: Vec<_> = drop
        .iter()
        .map(|name| fs::read_to_string(root.join("Drop").join(name)).unwrap())
        .collect();
    let order = texts
        .iter()
        .position(|text| text.starts_with("x-sender: <shop@"))
        .unwrap();
    let local = "x-receiver: <orders@web1.example.com>\r\nx-receiver: <sales@intranet.example.com>\r\n";
    assert!(texts[order].contains(local), "{}", texts[order]);
    assert!(texts[1 - order].contains("Action: failed") && texts[1 - order].contains("nobody@example.net"));
    assert!(group(&told, "Put into Drop/").contains(&format!("order-4711.eml -> Drop/{}", drop[order])));
    let returned = group(&told, "Refused, and returned");
    assert!(
        returned.contains(&format!("invoice.eml -> Drop/{}", drop[1 - order])),
        "{returned}"
    );
    assert!(returned.contains("550 5.1.1"), "{returned}");

    let waiting = with_ending(&root, "Queue", ".EML");
    assert_eq!(waiting.len(), 1);
    assert!(group(&told, "Not now").contains(&format!("backup-report.eml -> Queue/{}", waiting[0])));
    assert!(group(&told, "Not now").contains("452 4.2.2"));

    let reasons = with_ending(&root, "Badmail", ".BDR");
    assert_eq!(reasons.len(), 2);
    let badmail = group(&told, "Could not be understood");
    assert!(
        badmail.contains("Line 4") && badmail.contains("closing boundary"),
        "{badmail}"
    );
    for name in reasons.iter().chain(&drop).chain(&waiting) {
        let path = ["Badmail", "Drop", "Queue"]
            .iter()
            .map(|f| root.join(f).join(name))
            .find(|p| p.exists())
            .unwrap();
        let size = path.metadata().unwrap().len();
        let line = told
            .lines()
            .find(|line| line.contains("-- ") && line.contains(name.as_str()))
            .unwrap();
        assert!(line.contains(&format!(" {size} B ")), "{line}: {size}");
    }
    assert!(
        told.contains(&format!("cd '{}'", root.display())),
        "a folder with spaces is quoted"
    );
}

#[test]
fn what_it_advises_works() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("m");
    let notes = place.path().join("notes");
    assert_eq!(mailroot(&notes, &["demo", root.to_str().unwrap()]).code, Some(0));
    fs::write(
        root.join("Pickup/hello.eml"),
        "From: me@web1.example.com\nTo: you@web1.example.com\n\nhello\n",
    )
    .unwrap();
    // the message of the demo is not due for an hour
    let drained = mailroot(&notes, &["drain", root.to_str().unwrap()]);
    assert_eq!(drained.code, Some(75), "{}", drained.stderr);
    assert_eq!(with_ending(&root, "Drop", ".EML").len(), 3);
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("m");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("mine"), "x").unwrap();
    let told = mailroot(&place.path().join("notes"), &["demo", root.to_str().unwrap()]);
    assert_eq!(told.code, Some(73));
    assert!(
        told.stderr.contains("not empty") && told.stdout.is_empty(),
        "{}",
        told.stderr
    );
    assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
}
