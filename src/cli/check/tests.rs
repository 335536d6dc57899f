//! `mailroot check` as a person sees it.

use super::*;
use crate::cli::tests::{Fake, mailroot};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

/// A mailroot with these settings, made by init.
pub fn made(settings: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("server.hostname = \"mail.example.com\"\n{settings}");
    std::fs::write(dir.path().join("mailroot.toml"), text).unwrap();
    assert_eq!(
        mailroot(&Fake::default(), None, &["init", dir.path().to_str().unwrap()]).0,
        Exit::Ok
    );
    dir
}

pub fn check(fake: &Fake, dir: &Path, more: &[&str]) -> (Exit, String) {
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
            "storage",
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
    let outside = tempfile::tempdir().unwrap();
    let missing = outside.path().join("m");
    let shown = missing.display();
    let (exit, _, err) = mailroot(&Fake::default(), None, &["check", missing.to_str().unwrap()]);
    assert_eq!(exit, Exit::NoInput);
    assert!(
        err.starts_with(&format!("mailroot: cannot read {shown}: ")),
        "{err}"
    );
    let (exit, out, _) = mailroot(&Fake::default(), Some(&missing), &["check"]);
    assert_eq!(exit, Exit::Config);
    let words = format!("there is no mailroot at {shown} -> make one with `mailroot init");
    assert!(has(&out, ("FAIL", "folders"), &words), "{out}");

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
    // That one list is dead says nothing of another list.
    assert!(
        has(&out, ("WARN", "smart host"), "a.example:587: connection refused"),
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

#[test]
fn the_storage_is_proven_and_what_holds_there_is_said() {
    let dir = made("");
    let (exit, out) = check(&Fake::default(), dir.path(), &[]);
    assert_eq!(exit, Exit::Ok, "{out}");
    for words in [
        "rename from Pickup to Queue decides: 4 racers after 100 files",
        "a file in Queue is replaced whole by rename",
        "one process: yes",
        "several nodes on this machine: yes",
    ] {
        assert!(out.contains(words), "{words}\n{out}");
    }
}

#[test]
fn a_peer_is_the_same_mailroot_by_another_way() {
    let dir = made("");
    let beside = tempfile::tempdir().unwrap();
    let peer = beside.path().join("peer");
    std::os::unix::fs::symlink(dir.path(), &peer).unwrap();
    let (exit, out) = check(&Fake::default(), dir.path(), &["--peer", peer.to_str().unwrap()]);
    assert_eq!(exit, Exit::Ok, "{out}");
    for words in [
        "rename in Queue decides between the two mounts",
        "who takes a message through the other mount reads what was recorded before",
        "several machines: not shown: DIR and --peer are one file system to this kernel",
    ] {
        assert!(out.contains(words), "{words}\n{out}");
    }
    let same = dir.path().to_str().unwrap();
    let (exit, out) = check(&Fake::default(), dir.path(), &["--peer", same]);
    assert_eq!(exit, Exit::Config);
    assert!(
        has(&out, ("FAIL", "storage"), "leads to the same path as DIR"),
        "{out}"
    );
    let (exit, ..) = mailroot(&Fake::default(), None, &["check", "--peer", same, "f.eml"]);
    assert_eq!(exit, Exit::Usage);
}
