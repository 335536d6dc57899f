//! What processes leave behind when they end, by their own will or not, and how the next one goes on with it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use mailroot::practice::{Host, Script};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};
use support::place::{PATIENCE, Place, message, to_smart_host};
use support::{process, tree};

const ID: &str = "01JDE0Z7M4Y3Q2V1W0X9Y8Z7A6";
const DEAD: &str = "GONE-AB12";
const SHORT_LEASE: &str = "[cluster]\nheartbeat = \"100ms\"\nlease = \"600ms\"\n";

fn host(script: &str) -> Host {
    Host::start(script.parse().unwrap()).unwrap()
}

fn order(to: &str) -> String {
    message("app@local.test", &[to], "order")
}

fn queue(place: &Place) -> Vec<String> {
    names(&place.root().join("Queue"))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn put(place: &Place, folder: &str, name: &str, text: &str) {
    fs::create_dir_all(place.root().join(folder)).unwrap();
    fs::write(place.root().join(folder).join(name), text).unwrap();
}

/// The heartbeat file of a node that is the process `pid` of this boot, started then.
fn put_node(place: &Place, node: &str, pid: u32, started: u64) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let pids = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let text = format!(
        "{{\"counter\":7,\"host\":\"here\",\"boot\":\"{}\",\"pids\":\"{}\",\"pid\":{pid},\"started\":{started},\
         \"version\":\"0.0.1\",\"at\":\"2026-01-01T00:00:00Z\"}}\n",
        boot.trim(),
        pids.display()
    );
    put(place, "Status/nodes", &format!("{node}.json"), &text);
}

/// A node of this boot whose process is gone.
fn put_dead_node(place: &Place) {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    put_node(place, DEAD, child.id(), 1);
}

/// Start time of this very process, as `/proc` has it.
fn started() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    rest.split_ascii_whitespace().nth(19).unwrap().parse().unwrap()
}

/// Whom the host answered for, in order.
fn served(host: &Host) -> Vec<String> {
    let recipients = |m: &std::sync::Arc<mailroot::practice::Accepted>| {
        let all: Vec<String> = m.recipients.iter().map(|r| r.address.clone()).collect();
        all
    };
    host.accepted().iter().flat_map(recipients).collect()
}

fn said(host: &Host, command: &str) -> usize {
    let begins = |(_, line): &&(u64, String)| line.starts_with(command);
    host.dialogue().iter().filter(begins).count()
}

/// On the wire: the host has its content, or is about to.
fn is_on_the_wire(host: &Host) -> bool {
    said(host, "DATA") + said(host, "BDAT") > 0
}

#[test]
fn a_claim_of_a_dead_node_of_this_boot_begins_the_next_life_at_once() {
    let host = host("mail -> 451 4.3.0 later");
    // Its ULID is old: else its time would be over.
    let settings = "retry = [\"1h\"]\nexpire = \"3650d\"\n";
    let mut place = Place::new(&to_smart_host(host.port(), settings));
    put(
        &place,
        "Queue",
        &format!("{ID}@{DEAD}.EML"),
        &order("bob@example.net"),
    );
    put_dead_node(&place);
    let done = place.drain();
    assert_eq!(done.code, Some(75));
    let names = queue(&place);
    assert!(
        names.contains(&format!("{ID}-1.EML")),
        "{names:?}\n{}",
        done.stderr
    );
    assert!(names.contains(&format!("{ID}-1.ENV")), "{names:?}");
    assert!(done.stderr.contains("taken over"), "{}", done.stderr);
}

#[test]
fn a_claim_of_a_living_node_is_left_alone_and_a_drain_does_not_wait_for_it() {
    let host = host("");
    let mut place = Place::new(&to_smart_host(host.port(), ""));
    let claim = format!("{ID}@LIVES-AB12.EML");
    put(&place, "Queue", &claim, &order("bob@example.net"));
    put(&place, "Queue", "LIVES-AB12.3.TMP", "half a record");
    put_node(&place, "LIVES-AB12", std::process::id(), started());
    assert_eq!(place.drain().code, Some(75));
    assert_eq!(queue(&place), [claim, "LIVES-AB12.3.TMP".into()]);
    assert_eq!(served(&host), Vec::<String>::new());
}

#[test]
fn a_drain_outlives_the_lease_of_a_node_of_which_nothing_is_known() {
    // After a power cut in the middle of a drain: another boot, and nobody but the next drains to go on with it.
    for heartbeat in [false, true] {
        let host = host("");
        let mut place = Place::new(&to_smart_host(host.port(), SHORT_LEASE));
        put(
            &place,
            "Queue",
            &format!("{ID}@{DEAD}.EML"),
            &order("bob@example.net"),
        );
        if heartbeat {
            put_dead_node(&place);
            let path = place.root().join(format!("Status/nodes/{DEAD}.json"));
            let text = fs::read_to_string(&path).unwrap();
            fs::write(path, text.replace("\"boot\":\"", "\"boot\":\"former-")).unwrap();
        }
        let done = place.drain();
        assert_eq!(done.code, Some(0), "heartbeat file {heartbeat}:\n{}", done.stderr);
        assert_eq!(served(&host), ["bob@example.net"]);
        assert_eq!(queue(&place), Vec::<String>::new());
    }
}

#[test]
fn what_a_dead_node_was_writing_goes_wherever_it_lies() {
    let host = host("");
    let mut place = Place::new(&to_smart_host(host.port(), ""));
    put(&place, "Queue", &format!("{DEAD}.7.TMP"), "half");
    put(&place, "Drop", &format!(".{DEAD}.8.TMP"), "half");
    put(&place, "Badmail", &format!("{DEAD}.9.TMP"), "half");
    put(&place, "Drop", "report.TMP", "somebody's");
    put_dead_node(&place);
    assert_eq!(place.drain().code, Some(0));
    assert_eq!(queue(&place), Vec::<String>::new());
    assert_eq!(names(&place.root().join("Drop")), ["report.TMP"]);
    assert_eq!(names(&place.root().join("Badmail")), Vec::<String>::new());
    assert_eq!(names(&place.root().join("Status/nodes")), Vec::<String>::new());
}

#[test]
fn what_a_process_left_that_was_killed_as_it_proved_the_storage_goes_when_it_is_old() {
    let host = host("");
    let mut place = Place::new(&to_smart_host(host.port(), ""));
    for folder in ["Pickup", "Queue", "Drop", "Badmail", "Status"] {
        put(&place, folder, ".MAILROOT-PROBE-AB12.71.TMP", "0");
        put(&place, folder, ".MAILROOT-PROBE-AB13.71.TMP", "0");
        let old = place.root().join(folder).join(".MAILROOT-PROBE-AB12.71.TMP");
        let file = fs::File::options().write(true).open(old).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(600))
            .unwrap();
    }
    assert_eq!(place.drain().code, Some(0));
    for folder in ["Pickup", "Queue", "Drop", "Badmail"] {
        let left = names(&place.root().join(folder));
        assert_eq!(
            left,
            [".MAILROOT-PROBE-AB13.71.TMP"],
            "a proof may be at work in {folder}"
        );
    }
    assert!(!place.root().join("Status/.MAILROOT-PROBE-AB12.71.TMP").exists());
}

#[test]
fn a_node_that_goes_by_another_host_name_is_told_of_unless_ours_was_set() {
    let (host, words) = (host(""), "goes by another host name");
    let set = format!("{SHORT_LEASE}{}", to_smart_host(host.port(), ""));
    let unset = set.replace("hostname = \"mail.example.test\"\n", "");
    assert_ne!(set, unset);
    for (settings, told) in [(unset, true), (set, false)] {
        let mut place = Place::new(&settings);
        put_node(&place, "LIVES-AB12", std::process::id(), started());
        place.start();
        if told {
            place.wait("it is told", || place.log().contains(words));
        }
        std::thread::sleep(Duration::from_millis(500)); // some heartbeats
        place.stop();
        let log = place.log();
        assert_eq!(log.matches(words).count(), usize::from(told), "{log}");
    }
}

#[test]
fn what_processes_left_that_were_killed_as_they_entered_or_left_goes_with_the_next_one() {
    let host = host("");
    let mut place = Place::new(&to_smart_host(host.port(), ""));
    put(&place, "Status/nodes", "ENTERS-AB12.LCK", "");
    put(&place, "Status/nodes", "ENTERS-AB13.LCK", "");
    put(&place, "Status/nodes", "ENTERS-AB13.json", "");
    put(&place, "Status/nodes", "ENTERS-AB14.LCK", "");
    put(
        &place,
        "Status/nodes",
        "ENTERS-AB14.json",
        "{\"counter\":1,\"host\":\"h",
    );
    put_node(&place, "LIVES-AB12", std::process::id(), started());
    put(&place, "Status/nodes", "LIVES-AB13.LCK", "");
    let lock = fs::File::open(place.root().join("Status/nodes/LIVES-AB13.LCK")).unwrap();
    fs2::FileExt::lock_exclusive(&lock).unwrap();
    assert_eq!(place.drain().code, Some(0));
    let left = names(&place.root().join("Status/nodes"));
    assert_eq!(left, ["LIVES-AB12.json", "LIVES-AB13.LCK"]);
}

#[test]
fn a_look_at_another_node_that_hangs_keeps_no_heartbeat() {
    let host = host("");
    let place = Place::new(&format!("{}{SHORT_LEASE}", to_smart_host(host.port(), "")));
    let nodes = place.root().join("Status/nodes");
    fs::create_dir_all(&nodes).unwrap();
    // Whoever reads it waits for ever: a file of a storage that does not answer.
    let heartbeat = nodes.join(format!("{DEAD}.json"));
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &heartbeat,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    let root = place.root().display().to_string();
    let service = process::start(&place.beside().join("service"), &["run", &root]);
    std::thread::sleep(Duration::from_millis(1200)); // two leases
    place.put("order.eml", order("bob@example.net"));
    place.wait("it is sent", || host.counts().messages == 1);
    let log = service.crash().stderr; // its judge waits for ever
    assert!(!log.contains("missed its own heartbeat"), "{log}");
    assert_eq!(served(&host), ["bob@example.net"]);
}

#[test]
fn an_empty_file_that_an_operator_makes_beside_a_claimed_message_stops_nothing() {
    // `touch Queue/ID.EML` without -c, while the message is being sent.
    let host = host("end first 1 -> stall 300ms then 451 4.3.0 later");
    let mut place = Place::new(&to_smart_host(host.port(), "retry = [\"200ms\"]\n"));
    place.start();
    place.put("order.eml", order("bob@example.net"));
    place.wait("it is on the wire", || is_on_the_wire(&host));
    let claim = queue(&place).into_iter().find(|name| name.contains('@')).unwrap();
    let (id, _) = claim.split_once('@').unwrap();
    put(&place, "Queue", &format!("{id}.EML"), "");
    place.wait("it is sent at the second attempt", || host.counts().messages == 1);
    place.wait("no message file is left", || {
        place.files("Queue", "EML").is_empty()
    });
    place.stop();
    assert_eq!(served(&host), ["bob@example.net"]);
}

#[test]
fn a_clean_end_leaves_no_claim_behind() {
    const MESSAGES: usize = 300;
    let host = host("reply delay 1ms");
    let mut place = Place::new(&to_smart_host(host.port(), "max_connections = 2\n"));
    for n in 0..MESSAGES {
        place.put(format!("{n}.eml"), order(&format!("m{n}@example.net")));
    }
    for round in 1..=4 {
        place.start();
        place.wait("some are sent", || {
            host.counts().messages >= (round * MESSAGES / 8) as u64
        });
        place.stop();
        let claims: Vec<String> = queue(&place)
            .into_iter()
            .filter(|name| name.contains('@'))
            .collect();
        assert_eq!(claims, Vec::<String>::new(), "round {round}:\n{}", place.log());
    }
    assert_eq!(place.drain().code, Some(0));
    let mut served = served(&host);
    assert_eq!(served.len(), MESSAGES, "each exactly once");
    served.sort();
    served.dedup();
    assert_eq!(served.len(), MESSAGES);
}

#[test]
fn a_second_sigterm_ends_at_once_and_the_next_start_goes_on() {
    let host = host("end first 1 -> stall 60s then 250 ok");
    let mut place = Place::new(&to_smart_host(host.port(), ""));
    let root = place.root().display().to_string();
    let mut service = process::start(&place.beside().join("first"), &["run", &root]);
    place.put("order.eml", order("bob@example.net"));
    place.wait("it is on the wire", || is_on_the_wire(&host));
    service.signal(Signal::TERM);
    place.wait("the end is announced", || {
        service.stderr().contains("is finished")
    });
    service.signal(Signal::TERM);
    let status = service.ends_within(PATIENCE).expect("it ends");
    assert_eq!(status.code(), Some(75), "{}", service.stderr());
    host.follow(Script::new());
    assert_eq!(place.drain().code, Some(0));
    assert!(served(&host).contains(&"bob@example.net".to_owned()));
}

#[test]
fn a_drain_tries_each_message_once_however_long_it_takes() {
    let host = host("rcpt later@* -> 451 4.3.0 later\nrcpt slow@* -> stall 1500ms then 250 ok");
    let mut place = Place::new(&to_smart_host(host.port(), "retry = [\"100ms\"]\n"));
    place.put("a.eml", order("later@example.net"));
    place.put("b.eml", order("slow@example.org"));
    let slow = "[[remote]]\nname = \"example.org\"\nroute = \"smart_host\"\nport = ";
    place.settings(&to_smart_host(
        host.port(),
        &format!("retry = [\"100ms\"]\n{slow}{}\n", host.port()),
    ));
    assert_eq!(place.drain().code, Some(75));
    assert_eq!(said(&host, "RCPT TO:<later@"), 1);
    assert_eq!(served(&host), ["slow@example.org"]);
}

#[test]
fn attempts_are_counted_across_restarts() {
    let host = host("mail -> 451 4.3.0 later");
    let mut place = Place::new(&to_smart_host(
        host.port(),
        "retry = [\"50ms\", \"50ms\", \"1h\"]\n",
    ));
    place.put("order.eml", order("bob@example.net"));
    for tries in 1..=3 {
        place.wait("it is due", || {
            assert_eq!(place_drain_code(&place), Some(75));
            place
                .text("Queue", "ENV")
                .contains(&format!("rcpt open tries={tries} "))
        });
    }
    let before = said(&host, "MAIL");
    assert_eq!(place.drain().code, Some(75));
    assert_eq!(said(&host, "MAIL"), before, "the third wait is an hour");
}

fn place_drain_code(place: &Place) -> Option<i32> {
    let notes = place.beside().join("drains");
    process::mailroot(&notes, &["drain", &place.root().display().to_string()]).code
}

#[test]
fn a_domain_that_is_set_free_while_nothing_runs_is_free_at_the_next_start() {
    let host = host("");
    let held = |hold: bool| {
        let entry = format!("[[remote]]\nname = \"example.net\"\nroute = \"smart_host\"\nhold = {hold}\n");
        to_smart_host(host.port(), &format!("retry = [\"1h\"]\n{entry}"))
    };
    let mut place = Place::new(&held(true));
    place.put("order.eml", order("bob@example.net"));
    assert_eq!(place.drain().code, Some(75));
    assert_eq!(place.drain().code, Some(75), "still on hold");
    // Held, seen by a service that did not put it on hold, set free by SIGHUP.
    place.put("other.eml", order("eve@example.net"));
    place.start();
    place.wait("both are held", || {
        place
            .text("Queue", "ENV")
            .matches("its domain is on hold")
            .count()
            == 2
    });
    place.settings(&held(false));
    place.service().signal(Signal::HUP);
    place.wait("both have gone", || host.counts().messages == 2);
    place.wait_until_empty();
    place.stop();

    place.settings(&held(true));
    place.put("third.eml", order("third@example.net"));
    assert_eq!(place.drain().code, Some(75));
    place.settings(&held(false));
    assert_eq!(place.drain().code, Some(0), "free, and therefore due");
    assert_eq!(host.counts().messages, 3);
}

#[test]
fn a_touch_is_not_forgotten_when_the_end_comes_before_the_attempt() {
    let host = host("rcpt later@* -> 451 4.3.0 later");
    let mut place = Place::new(&to_smart_host(
        host.port(),
        "retry = [\"1h\"]\nmax_connections = 1\n",
    ));
    place.put("a.eml", order("later@example.net"));
    assert_eq!(place.drain().code, Some(75));
    host.follow("end -> stall 1s then 250 ok".parse().unwrap());
    let file = place.files("Queue", "EML").pop().unwrap();
    place.start();
    place.put("b.eml", order("slow@example.net"));
    place.wait("the only connection is busy", || {
        said(&host, "RCPT TO:<slow@") > 0
    });
    let modified = SystemTime::now() + Duration::from_secs(60);
    fs::File::options()
        .append(true)
        .open(&file)
        .unwrap()
        .set_modified(modified)
        .unwrap();
    place.wait("it is in hand", || !file.exists());
    place.stop();
    assert!(
        !served(&host).contains(&"later@example.net".into()),
        "this test comes too late"
    );
    host.follow(Script::new());
    assert_eq!(place.drain().code, Some(0), "the touch still counts");
}

#[test]
fn a_report_that_was_there_already_is_recorded_before_its_message_goes() {
    let host = host("mail -> 451 4.3.0 later");
    let settings = "retry = [\"1h\"]\nexpire = \"3650d\"\n[durability]\nflush = \"1h\"\n";
    let mut place = Place::new(&to_smart_host(host.port(), settings));
    let owed = |place: &Place| {
        let env = format!(
            "mailroot-env 1\nid {ID}\nfile order.eml\narrived 2026-01-01T00:00:00.000Z\nsender <app@example.org>\nmtime 0\n\
             rcpt failed tries=0 report=failure <bob@example.net>\n\
             last failed 5.1.1 2026-01-01T00:00:00.000Z remote at=mx[192.0.2.1]:25 550 5.1.1 no\nend\n"
        );
        put(place, "Queue", &format!("{ID}.ENV"), &env);
        let order = message("app@example.org", &["bob@example.net"], "order");
        put(place, "Queue", &format!("{ID}.EML"), &order);
    };
    owed(&place);
    assert_eq!(place.drain().code, Some(75), "the report waits: {}", place.log());
    owed(&place); // the end came after the report was put
    place.start();
    let parent = |name: &String| name.starts_with(ID) && name.ends_with(".EML");
    place.wait("it is done", || !queue(&place).iter().any(parent));
    let record = fs::read_to_string(place.root().join(format!("Queue/{ID}.ENV"))).unwrap();
    place.stop();
    // The report waits as long as this says that it is owed, and who ends now leaves it so for ten minutes.
    assert!(record.contains(" reported <bob@example.net>"), "{record}");
}

/// A mailroot whose Pickup is on another volume, where this machine has one.
fn with_pickup_elsewhere(host: &Host, more: &str) -> Option<(Place, tempfile::TempDir)> {
    let elsewhere = tempfile::Builder::new()
        .prefix("mailroot-test-")
        .tempdir_in("/dev/shm")
        .ok()?;
    let folders = format!("[folders]\npickup = \"{}\"\n", elsewhere.path().display());
    let place = Place::new(&to_smart_host(host.port(), &format!("{more}{folders}")));
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    if device(elsewhere.path()) == device(&place.root()) {
        eprintln!("SKIPPED: /dev/shm and the temporary folder are one volume");
        return None;
    }
    Some((place, elsewhere))
}

#[test]
fn mail_from_a_pickup_on_another_volume_arrives_once() {
    let host = host("");
    let Some((mut place, pickup)) = with_pickup_elsewhere(&host, "") else {
        return;
    };
    for n in 0..20 {
        fs::write(
            pickup.path().join(format!("{n}.eml")),
            order(&format!("m{n}@example.net")),
        )
        .unwrap();
    }
    assert_eq!(place.drain().code, Some(0), "{}", place.log());
    assert_eq!(served(&host).len(), 20);
    assert_eq!(names(pickup.path()), Vec::<String>::new());
    assert_eq!(queue(&place), Vec::<String>::new());
}

#[test]
fn a_claim_across_volumes_that_was_cut_short_is_finished() {
    // How far the dead node came, and what is known of it.
    for (copied, known) in [(false, true), (true, true), (false, false), (true, false)] {
        let host = host("");
        let Some((mut place, pickup)) = with_pickup_elsewhere(&host, SHORT_LEASE) else {
            return;
        };
        let half = format!(".{ID}@{DEAD}.EML");
        fs::write(pickup.path().join(&half), order("bob@example.net")).unwrap();
        if copied {
            put(
                &place,
                "Queue",
                &format!("{ID}@{DEAD}.EML"),
                &order("bob@example.net"),
            );
        }
        if known {
            put_dead_node(&place);
        }
        let case = format!("copied {copied}, known {known}");
        assert_eq!(place.drain().code, Some(0), "{case}:\n{}", place.log());
        assert_eq!(served(&host), ["bob@example.net"], "{case}");
        assert_eq!(names(pickup.path()), Vec::<String>::new(), "{case}");
        assert_eq!(
            tree::files(&place.root(), "Queue"),
            Vec::<PathBuf>::new(),
            "{case}"
        );
    }
}

#[test]
fn a_claim_across_volumes_that_two_nodes_began_one_after_the_other_is_sent_once() {
    // The first made its copy and died; the second took its file in Pickup over and died before that copy was gone.
    let earlier = "EVEN-AB11";
    for first_is_known in [false, true] {
        let host = host("");
        let Some((mut place, pickup)) = with_pickup_elsewhere(&host, SHORT_LEASE) else {
            return;
        };
        let half = format!(".{ID}-1@{DEAD}.EML");
        fs::write(pickup.path().join(&half), order("bob@example.net")).unwrap();
        let copy = format!("{ID}@{earlier}.EML");
        put(&place, "Queue", &copy, &order("bob@example.net"));
        if first_is_known {
            put_dead_node(&place);
            let node = |name: &str| place.root().join(format!("Status/nodes/{name}.json"));
            fs::rename(node(DEAD), node(earlier)).unwrap();
        }
        let case = format!("the first is known: {first_is_known}");
        assert_eq!(place.drain().code, Some(0), "{case}:\n{}", place.log());
        assert_eq!(served(&host), ["bob@example.net"], "{case}:\n{}", place.log());
        assert_eq!(names(pickup.path()), Vec::<String>::new(), "{case}");
        assert_eq!(queue(&place), Vec::<String>::new(), "{case}");
    }
}

#[test]
fn a_claim_across_volumes_that_fails_is_taken_up_again_by_the_same_process() {
    let host = host("");
    let Some((mut place, pickup)) = with_pickup_elsewhere(&host, "") else {
        return;
    };
    place.start();
    let nodes = place.root().join("Status/nodes");
    let node = || {
        let name = fs::read_dir(&nodes).ok()?.flatten().next()?.file_name();
        Some(name.to_str()?.split_once('.')?.0.to_owned())
    };
    place.wait("it has a name", || node().is_some());
    let node = node().unwrap();
    // As after a second step that reported an error: without the copy in Queue, and with it.
    let other = ID.replace('6', "5");
    let claim = |id: &str| format!("{id}@{node}.EML");
    fs::write(
        pickup.path().join(format!(".{}", claim(&other))),
        order("eve@example.net"),
    )
    .unwrap();
    fs::write(
        pickup.path().join(format!(".{}", claim(ID))),
        order("bob@example.net"),
    )
    .unwrap();
    let aside = place.root().join("aside");
    fs::write(&aside, order("bob@example.net")).unwrap();
    fs::rename(aside, place.root().join("Queue").join(claim(ID))).unwrap();
    place.wait("both are sent", || host.counts().messages >= 2);
    place.wait("nothing is left", || {
        names(pickup.path()).is_empty() && place.files("Queue", "EML").is_empty()
    });
    place.stop();
    let mut served = served(&host);
    served.sort();
    assert_eq!(served, ["bob@example.net", "eve@example.net"]);
}

/// Each listing of a large Queue costs seconds: heartbeats alone are no reason for one.
#[test]
fn a_node_that_is_alone_lists_its_queue_no_more_often_than_it_has_to() {
    let settings = "[log]\nlevel = \"debug\"\n[pickup]\npoll = \"1m\"\n[cluster]\nheartbeat = \"100ms\"\nlease = \"1s\"\n";
    let mut place = Place::new(settings);
    place.start();
    let beats = || {
        let mut files = fs::read_dir(place.root().join("Status/nodes")).ok()?.flatten();
        files.find_map(|file| {
            let text = fs::read_to_string(file.path()).ok()?;
            let (_, rest) = text.split_once("\"counter\":")?;
            rest.trim_start()
                .split(|c: char| !c.is_ascii_digit())
                .next()?
                .parse::<u64>()
                .ok()
        })
    };
    place.wait("20 heartbeats", || beats().is_some_and(|count| count >= 20));
    let listings = place.log().matches("Queue was listed").count();
    assert!((1..=3).contains(&listings), "{listings}");
    place.stop();
}
