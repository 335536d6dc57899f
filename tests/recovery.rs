//! What was left half done, or stands in the way, and how the engine gets on with it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use mailroot::practice::Host;
use std::fs;
use support::place::{Place, message, to_smart_host};
use support::tree;

const PARENT: &str = "01JDE0Z7M4Y3Q2V1W0X9Y8Z7A6";
const REPORT: &str = "01JDE0Z7M4Y3Q2V1W0X9Y8Z7A7";

fn host(script: &str) -> Host {
    Host::start(script.parse().unwrap()).unwrap()
}

fn put(place: &Place, name: &str, text: &str) {
    fs::write(place.root().join("Queue").join(name), text).unwrap();
}

fn queue(place: &Place, ending: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(place.root().join("Queue"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(ending))
        .collect();
    names.sort();
    names
}

/// Whom the host answered for.
fn served(host: &Host) -> Vec<String> {
    let accepted = host.accepted();
    let all = accepted
        .iter()
        .flat_map(|m| m.recipients.iter().map(|r| r.address.clone()));
    all.collect()
}

/// As a crash leaves it between a report's put and its parent's record.
fn leave_between_report_and_record(place: &Place, parent: &str) {
    put(
        place,
        parent,
        &message("app@example.org", &["refused@example.net"], "order"),
    );
    let env = format!(
        "mailroot-env 1\nid {PARENT}\nfile order.eml\narrived 2026-11-21T22:28:47.123Z\nsender <app@example.org>\n\
         mtime 0\nrcpt failed tries=1 report=failure <refused@example.net>\n\
         last failed 5.1.1 2026-11-21T22:28:48.001Z remote at=mx[192.0.2.7]:25 550 5.1.1 no such user\nend\n"
    );
    put(place, &format!("{PARENT}.ENV"), &env);
    let report = format!(
        "x-sender: <> ENVID={PARENT}\r\nx-receiver: <app@example.org>\r\nFrom: postmaster@local.test\r\n\
         To: app@example.org\r\nSubject: Delivery Status Notification (Failure)\r\n\r\nas it was put\r\n"
    );
    put(place, &format!("{REPORT}-1.EML"), &report);
}

#[test]
fn a_report_waits_until_its_parent_knows_of_it() {
    let host = host("");
    let mut place = Place::new(&to_smart_host(host.port(), ""));
    // Nobody may conclude a held message: its report must not leave, whatever else happens.
    leave_between_report_and_record(&place, &format!("{PARENT}.HOLD"));
    place.start();
    place.wait("the service has looked at the report", || {
        place.log().contains("running")
    });
    place.put(
        "other.eml",
        message("app@local.test", &["bob@example.net"], "other"),
    );
    place.wait("other mail has gone", || served(&host) == ["bob@example.net"]);
    place.wait("the report lies there alone", || {
        queue(&place, ".EML") == [format!("{REPORT}-1.EML")]
    });
    // Set free, it is done with its report, and both go.
    let (held, waiting) = (format!("Queue/{PARENT}.HOLD"), format!("Queue/{PARENT}.EML"));
    fs::rename(place.root().join(held), place.root().join(waiting)).unwrap();
    place.wait("no message is left", || queue(&place, ".EML").is_empty());
    place.stop();
    let told = served(&host).iter().filter(|to| *to == "app@example.org").count();
    // The one that lay there, and the parent's own, whose name differs from the one that this test made up.
    assert_eq!(told, 2, "{:?}", served(&host));
}

#[test]
fn badmail_that_takes_nothing_holds_up_no_other_mail() {
    let host = host("rcpt refused@* -> 550 5.1.1 no such user");
    let mut place = Place::new(&to_smart_host(host.port(), ""));
    let badmail = place.root().join("Badmail");
    place.start();
    place.wait("it runs", || {
        !tree::files(&place.root(), "Status/nodes").is_empty()
    });
    fs::remove_dir(&badmail).unwrap();
    fs::write(&badmail, "a file in the way").unwrap();
    for n in 0..20 {
        let text = message("", &["refused@example.net"], &format!("bad{n}"));
        place.put(format!("bad{n}.eml"), text);
    }
    place.wait("it is said that Badmail takes nothing", || {
        place.log().contains("Badmail takes nothing")
    });
    for n in 0..5 {
        place.put(
            format!("l{n}.eml"),
            message("app@local.test", &["a@local.test"], &format!("l{n}")),
        );
        place.put(
            format!("r{n}.eml"),
            message("app@local.test", &["b@example.net"], &format!("r{n}")),
        );
    }
    place.wait("other mail goes on", || {
        served(&host).len() == 5 && tree::files(&place.root(), "Drop").len() == 5
    });
    assert_eq!(
        place.log().matches("Badmail takes nothing").count(),
        1,
        "told once"
    );
    fs::remove_file(&badmail).unwrap();
    fs::create_dir(&badmail).unwrap();
    place.wait("all are buried", || place.files("Badmail", "BAD").len() == 20);
    place.wait("no message is left", || queue(&place, ".EML").is_empty());
    place.stop();
    assert_eq!(served(&host).len(), 5);
}

#[test]
fn a_time_that_only_a_wrong_clock_can_have_set_is_not_waited_for() {
    let host = host("mail first 1 -> 451 4.3.0 later");
    let mut place = Place::new(&to_smart_host(host.port(), "retry = [\"1h\"]\n"));
    place.put(
        "order.eml",
        message("app@local.test", &["bob@example.net"], "order"),
    );
    assert_eq!(place.drain().code, Some(75));
    let env = place.files("Queue", "ENV").remove(0);
    let text = fs::read_to_string(&env).unwrap();
    let (before, after) = text.split_once(" next=20").unwrap();
    fs::write(
        &env,
        format!("{before} next=20{}", after.replacen(&after[..2], "99", 1)),
    )
    .unwrap();
    assert_eq!(place.drain().code, Some(0), "{}", place.log());
    assert_eq!(served(&host), ["bob@example.net"]);
}

#[test]
fn a_copy_that_somebody_put_back_is_set_aside() {
    // Held up at the host, so that there is time to put a copy back under the waiting name.
    let host = host("reply delay 400ms\nmail -> 451 4.3.0 later");
    let mut place = Place::new(&to_smart_host(host.port(), "retry = [\"1h\"]\n"));
    place.put(
        "order.eml",
        message("app@local.test", &["bob@example.net"], "order"),
    );
    place.start();
    place.wait("it is taken", || {
        queue(&place, ".EML").iter().any(|name| name.contains('@'))
    });
    let taken = queue(&place, ".EML").remove(0);
    let id = taken.split('@').next().unwrap().to_owned();
    put(
        &place,
        &format!("{id}.EML"),
        "From: a@b.example\nTo: c@d.example\n\nrestored\n",
    );
    place.wait("the copy is set aside", || place.log().contains("is set aside"));
    place.wait("both lie there", || {
        queue(&place, ".HOLD").len() == 1 && queue(&place, ".EML").len() == 1
    });
    place.stop();
    let held = fs::read_to_string(place.root().join(format!("Queue/{id}.HOLD"))).unwrap();
    assert!(held.ends_with("restored\n"));
}

#[test]
fn what_one_host_took_is_recorded_before_the_next_is_asked() {
    let first = host("rcpt later@* -> 451 4.7.1 not now");
    let stalls = "stall after connect 30s".parse().unwrap();
    let second = Host::start_on("127.0.0.2:0".parse().unwrap(), stalls, None).unwrap();
    let list = format!(
        "[delivery]\nsmart_host = \"[127.0.0.1]:{}, [127.0.0.2]:{}\"\n",
        first.port(),
        second.port()
    );
    let mut place = Place::new(&format!("{}{list}", support::place::BASE));
    let both = ["now@example.net", "later@example.net"];
    place.put("both.eml", message("app@local.test", &both, "both"));
    place.start();
    place.wait("the second host is asked", || second.counts().connections > 0);
    let record = place.text("Queue", "ENV");
    assert!(
        record.contains("rcpt delivered tries=0 <now@example.net>")
            && record.contains("rcpt open tries=0 <later@example.net>"),
        "{record}"
    );
    drop(second); // ends the pause
    place.stop();
    assert_eq!(served(&first), ["now@example.net"]);
}
