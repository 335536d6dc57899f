//! `mailroot check` as a person sees it.

use super::*;
use crate::cli::Read;
use crate::cli::tests::{Fake, mailroot};
use crate::mail::{Address, Envelope, Notify, Recipient};
use crate::pickup::submission::{Dots, Encoding, Layout, Missing};
use crate::pickup::{Completeness, Malformed, Origin, Submission};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

/// A mailroot with these settings, made by init.
fn made(settings: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("server.hostname = \"mail.example.com\"\n{settings}");
    std::fs::write(dir.path().join("mailroot.toml"), text).unwrap();
    assert_eq!(
        mailroot(&Fake::default(), None, &["init", dir.path().to_str().unwrap()]).0,
        Exit::Ok
    );
    dir
}

fn check(fake: &Fake, dir: &Path, more: &[&str]) -> (Exit, String) {
    let mut arguments = vec!["check", dir.to_str().unwrap()];
    arguments.extend(more);
    let (exit, out, err) = mailroot(fake, None, &arguments);
    assert_eq!(err, "");
    (exit, out)
}

/// Whether there is a line that begins like this and holds that.
fn has(out: &str, weight_and_topic: (&str, &str), words: &str) -> bool {
    let head = format!("{:<5} {:<11} ", weight_and_topic.0, weight_and_topic.1);
    out.lines()
        .any(|line| line.starts_with(&head) && line.contains(words))
}

#[test]
fn a_good_mailroot_in_the_order_of_things() {
    let dir = made("");
    let (exit, out) = check(&Fake::default(), dir.path(), &[]);
    assert_eq!(exit, Exit::Ok, "{out}");
    let topics: Vec<&str> = out
        .lines()
        .filter_map(|line| line.get(6..17))
        .map(str::trim)
        .collect();
    let mut order = topics.clone();
    order.dedup();
    assert_eq!(
        order,
        [
            "settings",
            "names",
            "folders",
            "disk",
            "way out",
            "dns",
            "all is well"
        ],
        "{out}"
    );
    assert_eq!(std::fs::read_dir(dir.path().join("Pickup")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(dir.path().join("Queue")).unwrap().count(), 0);
}

#[test]
fn mistakes_in_settings_end_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mailroot.toml"), "[log]\nlevel = 1\nx = 2\n").unwrap();
    let (exit, out) = check(&Fake::default(), dir.path(), &[]);
    assert_eq!(exit, Exit::Config);
    assert!(
        has(
            &out,
            ("FAIL", "settings"),
            "mailroot.toml line 2: \"level\" of [log] wants text"
        ),
        "{out}"
    );
    assert!(
        has(
            &out,
            ("FAIL", "settings"),
            "line 3: \"x\" is not a setting of [log]"
        ),
        "{out}"
    );
    assert_eq!(out.lines().count(), 3, "{out}");
}

#[test]
fn what_is_wrong_with_the_tree() {
    // What is no folder is taken for a message file.
    let (exit, _, err) = mailroot(&Fake::default(), None, &["check", "/nonexistent/m"]);
    assert_eq!(exit, Exit::NoInput);
    assert!(err.starts_with("mailroot: cannot read /nonexistent/m: "), "{err}");
    let missing = Path::new("/nonexistent/m");
    let (exit, out, _) = mailroot(&Fake::default(), Some(missing), &["check"]);
    assert_eq!(exit, Exit::Config);
    assert!(
        has(
            &out,
            ("FAIL", "folders"),
            "there is no mailroot at /nonexistent/m -> make one with `mailroot init"
        ),
        "{out}"
    );

    let dir = made("");
    let path = |name: &str| dir.path().join(name);
    std::fs::set_permissions(path("Pickup"), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::set_permissions(path("Queue"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::remove_dir(path("Status")).unwrap();
    let (exit, out) = check(&Fake::default(), dir.path(), &[]);
    assert_eq!(exit, Exit::Ok, "{out}");
    assert!(
        has(
            &out,
            ("WARN", "folders"),
            "mode 0777: whoever may add files may also take"
        ),
        "{out}"
    );
    assert!(
        has(
            &out,
            ("WARN", "folders"),
            "everyone can reach other people's mail -> chmod o-rwx"
        ),
        "{out}"
    );
    assert!(
        has(&out, ("WARN", "folders"), "is missing -> `mailroot init`"),
        "{out}"
    );
    assert!(out.ends_with("=>    3 warnings, nothing fails\n"), "{out}");

    std::os::unix::fs::symlink(path("Drop"), path("Status")).unwrap();
    std::fs::remove_dir(path("Badmail")).unwrap();
    std::fs::write(path("Badmail"), "").unwrap();
    let (exit, out) = check(&Fake::default(), dir.path(), &[]);
    assert_eq!(exit, Exit::Config);
    assert!(
        has(&out, ("FAIL", "folders"), "Drop and Status are the same folder"),
        "{out}"
    );
    assert!(has(&out, ("FAIL", "folders"), "is not a folder"), "{out}");
}

#[test]
fn secrets_are_looked_at_and_not_shown() {
    let dir = made(
        "[delivery]\nsmart_host = \"[192.0.2.9]\"\nauth = { user = \"app\", password_file = \"p\" }\n\
         [[remote]]\nname = \"a.example\"\nauth = { user = \"t\", token_command = [\"no-such-program-here\"] }\n\
         [[remote]]\nname = \"b.example\"\nauth = { user = \"s\", token_command = [\"sh\", \"-c\", \"true\"] }\n",
    );
    let mut fake = Fake::default();
    fake.outside.up = vec!["192.0.2.9"];
    let (exit, out) = check(&fake, dir.path(), &[]);
    assert_eq!(exit, Exit::Config);
    assert!(
        has(
            &out,
            ("FAIL", "login"),
            "login \"app\" of [delivery]: cannot read"
        ),
        "{out}"
    );
    assert!(
        has(
            &out,
            ("FAIL", "login"),
            "there is no program no-such-program-here"
        ),
        "{out}"
    );
    assert!(
        has(
            &out,
            ("ok", "login"),
            "login \"s\" of b.example: its token comes from /"
        ),
        "{out}"
    );
    let secret = dir.path().join("p");
    for (text, mode, weight, words) in [
        ("hunter2\n", 0o644, "WARN", "everyone may read"),
        ("hunter2\n", 0o600, "ok", "its secret is in"),
        ("\nhunter2", 0o600, "FAIL", "the first line of"),
    ] {
        std::fs::write(&secret, text).unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
        let (_, out) = check(&fake, dir.path(), &[]);
        assert!(
            has(&out, (weight, "login"), words) && !out.contains("hunter2"),
            "{out}"
        );
    }
}

#[test]
fn a_smart_host_that_is_down_fails_unless_another_stands_in() {
    let dir = made(
        "[delivery]\nsmart_host = \"a.example:587, [192.0.2.9]\"\n[[remote]]\nname = \"x.example\"\nsmart_host = \"c.example\"\n",
    );
    let mut fake = Fake::default();
    fake.outside.up = vec!["192.0.2.9", "c.example"];
    let (exit, out) = check(&fake, dir.path(), &[]);
    assert_eq!(exit, Exit::Ok, "{out}");
    assert!(
        has(
            &out,
            ("WARN", "smart host"),
            "a.example:587: connection refused -> mail goes to the next"
        ),
        "{out}"
    );
    assert!(
        has(
            &out,
            ("ok", "smart host"),
            "[192.0.2.9]:25: greets, offers STARTTLS"
        ),
        "{out}"
    );
    fake.outside.up = vec!["192.0.2.9"];
    let (exit, out) = check(&fake, dir.path(), &[]);
    assert_eq!(exit, Exit::Config);
    assert!(
        has(&out, ("FAIL", "smart host"), "c.example:25: connection refused"),
        "{out}"
    );
}

#[test]
fn dns_that_fails_matters_only_where_names_are_needed() {
    let mut fake = Fake::default();
    fake.outside.addresses = Lookup::Failed("no server answers".into());
    fake.outside.mx = Lookup::Failed("no server answers".into());
    fake.outside.up = vec!["192.0.2.9"];
    let (exit, out) = check(&fake, made("").path(), &[]);
    assert_eq!(exit, Exit::Config);
    assert!(
        has(
            &out,
            ("FAIL", "dns"),
            "no server answers -> mail cannot leave without DNS"
        ),
        "{out}"
    );
    let (exit, out) = check(
        &fake,
        made("[delivery]\nsmart_host = \"[192.0.2.9]\"\n").path(),
        &[],
    );
    assert_eq!(exit, Exit::Ok, "{out}");
    assert!(has(&out, ("note", "dns"), "no server answers"), "{out}");
}

#[test]
fn a_local_domain_with_mailboxes_elsewhere_is_warned_of() {
    let dir = made("[domains]\ndefault = \"example.com\"\n");
    let mut fake = Fake::default();
    let mx = |names: &[&str]| {
        Lookup::Found(
            names
                .iter()
                .zip(10..)
                .map(|(n, p)| (p, (*n).to_owned()))
                .collect(),
        )
    };
    fake.outside.mx = mx(&["mx1.provider.example.", "mx2.provider.example."]);
    let (exit, out) = check(&fake, dir.path(), &[]);
    assert_eq!(exit, Exit::Ok);
    assert!(
        has(
            &out,
            ("WARN", "domains"),
            "example.com is local here, but its mailboxes are at mx1.provider.example (MX)"
        ),
        "{out}"
    );
    for (records, address) in [
        (mx(&["mx1.provider.example", "MAIL.example.com."]), [192, 0, 2, 1]), // our name
        (mx(&["mx1.provider.example"]), [127, 0, 0, 1]),                      // our address
        (mx(&["."]), [192, 0, 2, 1]),                                         // null MX
    ] {
        fake.outside.mx = records;
        fake.outside.addresses = Lookup::Found(vec![IpAddr::from(address)]);
        let (_, out) = check(&fake, dir.path(), &[]);
        assert!(!out.contains("WARN"), "{out}");
    }
}

#[test]
fn the_way_to_a_domain() {
    let dir = made("");
    let mut fake = Fake::default();
    fake.outside.mx = Lookup::Found(vec![
        (20, "mx2.example.net.".into()),
        (10, "mx1.example.net.".into()),
    ]);
    fake.outside.up = vec!["mx2.example.net"];
    let (_, out) = check(&fake, dir.path(), &["--domain", "Example.NET"]);
    assert!(
        has(
            &out,
            ("ok", "domain"),
            "example.net: hosts 10 mx1.example.net., 20 mx2.example.net."
        ),
        "{out}"
    );
    assert!(has(&out, ("ok", "domain"), "mx2.example.net:25: greets"), "{out}");
    fake.outside.up.clear();
    let (exit, out) = check(&fake, dir.path(), &["--domain", "example.net"]);
    assert_eq!(exit, Exit::Config);
    assert!(
        has(&out, ("FAIL", "domain"), "many networks block port 25"),
        "{out}"
    );
    fake.outside.mx = Lookup::Found(vec![(0, ".".into())]);
    let (_, out) = check(&fake, dir.path(), &["--domain", "example.net"]);
    assert!(has(&out, ("note", "domain"), "takes no mail"), "{out}");
    let (exit, _) = check(&fake, dir.path(), &["--domain", "a..b"]);
    assert_eq!(exit, Exit::Config);
}

fn layout() -> Layout {
    Layout {
        encoding: Encoding::Utf8Bom,
        leading: 0..0,
        header: 0..0,
        omit: Vec::new(),
        body: 0..0,
        dots: Dots {
            stuffed: true,
            end_marker: true,
            present: true,
        },
        dots_said: false,
        missing: Missing {
            date: true,
            message_id: true,
            from: false,
        },
        eight_bit_header: false,
        eight_bit_body: false,
        longest_line: 10,
        wire_size: 2048,
    }
}

/// Reads the first word of a "message" as what it is to be.
fn reader(text: &str) -> Read {
    let address = |text: &str| Address::parse(text, "d.example").unwrap();
    let from = |field: &str, line| Origin {
        field: field.into(),
        line,
    };
    let submission = Submission {
        envelope: Envelope {
            sender: Some(address("app@example.com")),
            ret: Some(crate::mail::Ret::Hdrs),
            recipients: vec![
                Recipient {
                    notify: Some(Notify::NEVER),
                    ..Recipient::plain(address("bob@example.net"))
                },
                Recipient::plain(address("carol@mail.example.com")),
                Recipient::plain(Address::unroutable("not an address")),
            ],
            ..Envelope::default()
        },
        sender_origin: from("pickup.default_sender", 0),
        recipient_origins: vec![from("X-Receiver", 2), from("Cc", 7), from("To", 8)],
        layout: layout(),
        internet_message_id: None,
        hops: 31,
        remarks: vec!["line 3: \"NOTIFY=SOMETIMES\" is not known; ignored".into()],
    };
    let malformed = Malformed {
        rule: "header-line",
        line: Some(4),
        text: Some("Sub ject".into()),
        what: "line 4 is neither a header field nor the continuation of one".into(),
        advice: "put a colon after the field name".into(),
    };
    let (completeness, submission) = match text.split_whitespace().next().unwrap() {
        "good" => (Completeness::Complete, Ok(submission)),
        "cut" => (Completeness::NoClosingBoundary, Ok(submission)),
        "header" => (Completeness::InsideHeader, Ok(submission)),
        _ => (Completeness::Complete, Err(malformed)),
    };
    Read {
        completeness,
        submission,
    }
}

#[test]
fn a_dry_run_tells_everything() {
    let dir = made("");
    let fake = Fake {
        reader,
        ..Fake::default()
    };
    let file = dir.path().join("a b.eml");
    std::fs::write(&file, "good").unwrap();
    let (exit, out) = check(&fake, dir.path(), &[file.to_str().unwrap()]);
    assert_eq!(exit, Exit::Ok, "{out}");
    let wanted = format!(
        "with the settings of {settings}\n\n\
         {file} (4 bytes): would be taken\n\
         \x20 sender     app@example.com RET=HDRS  (from the setting pickup.default_sender)\n\
         \x20 recipient  bob@example.net NOTIFY=NEVER  (from X-Receiver, line 2) => mx:example.net\n\
         \x20 recipient  carol@mail.example.com  (from Cc, line 7) => Drop\n\
         \x20 recipient  not an address  (from To, line 8) => fails at once: that is not an address (5.1.3)\n\
         \x20 dots       stuffed + end marker\n\
         \x20 size       2KiB on the wire, before stamps\n\
         \x20 encoding   UTF-8 with a byte order mark, which is removed\n\
         \x20 adds       Date, Message-ID (the file has none)\n\
         \x20 problem    31 Received lines, more than messages.max_hops (30): returned as looping\n\
         \x20 note       line 3: \"NOTIFY=SOMETIMES\" is not known; ignored\n",
        settings = dir.path().join("mailroot.toml").display(),
        file = file.display()
    );
    assert_eq!(out, wanted);
}

#[test]
fn each_fate_has_its_headline_and_exit_code() {
    let dir = made("");
    let fake = Fake {
        reader,
        ..Fake::default()
    };
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for (name, text) in [
        ("good", "good"),
        ("bad", "bad"),
        ("cut", "cut"),
        ("header", "header"),
        ("empty", ""),
        ("x.tmp", "good"),
        ("two", "good"),
    ] {
        std::fs::write(path(name), text).unwrap();
    }
    std::fs::hard_link(path("two"), path("second")).unwrap();
    std::os::unix::fs::symlink(path("good"), path("link")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, path("fifo").as_str(), fifo, 0o600.into(), 0).unwrap();
    for (name, exit, words) in [
        ("good", Exit::Ok, ": would be taken"),
        ("bad", Exit::BadData, "would go to Badmail: line 4 is neither"),
        (
            "bad",
            Exit::BadData,
            "\n  line       4: Sub ject\n  change     put a colon",
        ),
        ("cut", Exit::BadData, "would wait 1m, then go to Badmail"),
        ("header", Exit::BadData, "would wait: it ends inside its header"),
        ("empty", Exit::BadData, "would be left alone: it is empty"),
        ("x.tmp", Exit::BadData, "would be left alone: its name says"),
        ("two", Exit::BadData, "would be left alone: it has 2 names"),
        ("link", Exit::BadData, "symbolic links are not followed"),
        ("fifo", Exit::BadData, "it is not a regular file"),
    ] {
        let (got, out) = check(&fake, dir.path(), &[&path(name)]);
        assert_eq!(got, exit, "{name}: {out}");
        assert!(out.contains(words), "{name}: {out}");
    }
    let (exit, _, err) = mailroot(
        &fake,
        None,
        &["check", &path("bad"), &path("nothing"), &path("good")],
    );
    assert_eq!(exit, Exit::NoInput);
    assert!(
        err.starts_with(&format!(
            "mailroot: cannot read {}: No such file",
            path("nothing")
        )),
        "{err}"
    );
}

#[test]
fn folders_and_files_are_told_apart() {
    let (one, two) = (made(""), made(""));
    let dirs = [one.path().to_str().unwrap(), two.path().to_str().unwrap()];
    let (exit, _, err) = mailroot(&Fake::default(), None, &["check", dirs[0], dirs[1]]);
    assert_eq!(exit, Exit::Usage);
    assert!(err.contains("is a second folder"), "{err}");
    let (exit, ..) = mailroot(
        &Fake::default(),
        None,
        &["check", "--domain", "a.example", "f.eml"],
    );
    assert_eq!(exit, Exit::Usage);
}
