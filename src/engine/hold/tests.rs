//! Requests and what they count for, and how long what is on hold may wait.

use super::*;
use crate::mail::{Address, Envelope, MessageId, Recipient};

fn request(wanted: &Wanted, at: Millis) -> Request {
    let wanted = wanted.clone();
    let at = UNIX_EPOCH + Duration::from_millis(at);
    Request {
        wanted,
        at,
        door: None,
    }
}

fn record(arrived: Millis) -> Record {
    let envelope = Envelope {
        sender: None,
        ret: None,
        envid: None,
        body: None,
        recipients: vec![Recipient::plain(Address::parse("a@x.test", "d").unwrap())],
    };
    Record::new(MessageId::generate(), String::new(), arrived, 0, envelope)
}

fn hold(domain: &str) -> OnHold {
    let domain = domain.to_owned();
    let expire = Duration::from_secs(100);
    let entry = "*.test".into();
    OnHold {
        domain,
        entry,
        expire,
    }
}

fn attempt(at: Millis) -> Given {
    let outcome = Outcome::deferred(EnhancedStatus::new(4, 4, 1), "it did not answer");
    Given { outcome, at }
}

fn look(at: Millis) -> Given {
    let outcome = Outcome::deferred(ON_HOLD, "its domain is on hold");
    Given { outcome, at }
}

const NOW: Millis = 1_000_000;

#[test]
fn a_request_counts_for_what_came_before_it_and_once() {
    let holds = Holds::default();
    let one = Wanted::Domain("x.test".to_owned());
    let tree = Wanted::Tree("test".to_owned());
    let at = |domain: &str, arrived, last: Option<&Given>| {
        let asked = holds.asked_for(&hold(domain), &record(arrived), last, NOW);
        asked.map(|asked| asked.at)
    };
    assert_eq!(at("x.test", 1, None), None);
    assert_eq!(
        holds.note(vec![request(&one, 500)], 1000),
        std::slice::from_ref(&one)
    );
    assert_eq!(at("x.test", 500, None), Some(500));
    assert_eq!(
        at("x.test", 500 + GRAIN, None),
        Some(500),
        "no storage keeps times exactly"
    );
    assert_eq!(at("x.test", 501 + GRAIN, None), None, "it came later");
    assert_eq!(at("x.test", 400, Some(&attempt(499))), Some(500));
    assert_eq!(at("x.test", 400, Some(&attempt(500))), None, "it was tried since");
    assert_eq!(
        at("x.test", 400, Some(&look(900))),
        Some(500),
        "a look is no attempt"
    );
    assert_eq!(at("y.test", 400, None), None);
    // seen again, it is nothing new; renewed it is
    assert_eq!(holds.note(vec![request(&one, 500)], 2000), []);
    assert_eq!(holds.version(), 1);
    assert_eq!(
        holds
            .note(vec![request(&one, 2500), request(&tree, 2600)], 3000)
            .len(),
        2
    );
    assert_eq!(holds.version(), 2);
    assert_eq!(at("x.test", 2600, Some(&attempt(2599))), Some(2600));
    assert_eq!(at("y.test", 2600, None), Some(2600));
    assert_eq!(at("y.tests", 2600, None), None);
    // gone, it still counts for what has not had its turn
    assert_eq!(holds.note(Vec::new(), 4000), []);
    assert_eq!(at("x.test", 1, None), Some(2600));

    // who comes last says where it goes, and an entry is for what goes by it
    let door = Door {
        id: "1".to_owned(),
        port: 2525,
        knock: String::new(),
        answer: String::new(),
    };
    let entry = Wanted::Entry("*.test".to_owned());
    let mut through = request(&entry, 4500);
    through.door = Some(door.clone());
    holds.note(vec![through], 5000);
    let asked = || holds.asked_for(&hold("x.test"), &record(1), None, NOW).unwrap();
    assert_eq!(asked().door.as_deref(), Some(&door));
    holds.note(vec![request(&one, 5500)], 6000);
    assert_eq!((asked().at, asked().door), (5500, None));
}

#[test]
fn clocks_may_be_wrong() {
    let one = Wanted::Domain("x.test".to_owned());
    let made = |times: &[(Millis, Millis)]| {
        let holds = Holds::default();
        for (file, now) in times {
            holds.note(vec![request(&one, *file)], *now);
        }
        let asked = holds.asked_for(&hold("x.test"), &record(1), None, NOW);
        asked.map(|asked| asked.at)
    };
    assert_eq!(made(&[(9000, 1000)]), Some(1000), "never in the future");
    assert_eq!(
        made(&[(10, 50_000), (40_000, 52_000)]),
        Some(52_000),
        "the storage's is behind"
    );
    assert_eq!(made(&[(10, 50_000), (49_000, 52_000)]), Some(49_000));

    let holds = Holds::default();
    holds.note(vec![request(&one, NOW - 5)], NOW);
    let counts = |arrived, last: Option<&Given>| {
        holds
            .asked_for(&hold("x.test"), &record(arrived), last, NOW)
            .is_some()
    };
    assert!(
        counts(NOW + FUTURE + 1, None),
        "it came while the clock was ahead"
    );
    assert!(counts(1, Some(&attempt(NOW + FUTURE + 1))), "it was tried then");
    assert!(!counts(1, Some(&attempt(NOW + 1))), "a small step begins no loop");
    holds.forget();
    assert!(!counts(1, None));
    assert_eq!(
        holds.note(vec![request(&one, NOW - 5)], NOW).len(),
        1,
        "looked at anew"
    );
}

#[test]
fn requests_are_forgotten_and_go_when_everybody_has_seen_them() {
    let holds = Holds::default();
    let named = |n: usize| Wanted::Domain(format!("d{n}.test"));
    let all = (0..=MOST_REQUESTS).map(|n| request(&named(n), 1 + n as Millis / 100));
    holds.note(all.collect(), 2000);
    let requests = lock(&holds.requests);
    assert!(requests.asked.len() <= MOST_REQUESTS && requests.asked.contains_key(&named(MOST_REQUESTS)));
    drop(requests);

    let holds = Holds::default();
    let (hour, minutes) = (3_600_000, 600_000);
    let old = |now| {
        holds
            .old(now)
            .into_iter()
            .map(|(wanted, _)| wanted)
            .collect::<Vec<_>>()
    };
    holds.note(vec![request(&named(1), 1), request(&named(2), hour)], hour + 2);
    assert_eq!(old(hour + 2), [named(1)], "it lay there, and has been noted");
    // new, though its time is old
    holds.note(vec![request(&named(3), 1)], 3 * hour);
    assert_eq!(old(3 * hour + minutes), []);
    assert_eq!(old(3 * hour + minutes + 1), [named(3)]);
}

#[test]
fn a_look_hides_nothing_that_a_host_has_said() {
    let mut record = record(1);
    let outcome = |record: &Record| record.recipients[0].last.clone().unwrap();
    for (at, words) in [(5, "its domain is on hold"), (6, "still")] {
        note_look(&mut record, 0, Outcome::deferred(ON_HOLD, words), at);
        assert_eq!(
            (outcome(&record).at, outcome(&record).outcome.text.as_str()),
            (at, words)
        );
    }
    record.note(0, attempt(7).outcome, 7, false, false);
    note_look(&mut record, 0, look(8).outcome, 8);
    assert_eq!(outcome(&record), attempt(7));
    assert_eq!(record.recipients[0].tries, 1, "looks are no attempts");
}

#[test]
fn numbers_stand_for_sets_of_domains() {
    let holds = Holds::default();
    let number = |names: &[&str]| holds.number(names.iter().map(|&name| name.to_owned()).collect());
    assert_eq!(number(&[]), Held::NOT);
    let (a, ab) = (number(&["a.test", "a.test"]), number(&["b.test", "a.test"]));
    assert_eq!(number(&["a.test", "b.test"]), ab);
    assert!(a != ab && a.is_for_domain() && !Held::BADMAIL.is_for_domain() && Held::BADMAIL.is_any());
    let many = number(&["a", "b", "c", "d", "e"]);
    assert_eq!(many, Held::OTHERS);
    let is_concerned = |name: &str| holds.concerned(&[Wanted::Domain(name.to_owned())]);
    let of = |name| [Held::NOT, Held::BADMAIL, many, a, ab].map(is_concerned(name));
    assert_eq!(of("a.test"), [false, false, true, true, true]);
    assert_eq!(of("b.test"), [false, false, true, false, true]);
    for n in 0..70_000 {
        number(&[&format!("d{n}.test")]);
    }
    assert_eq!(number(&["new.test"]), Held::OTHERS, "two bytes are full");
    assert_eq!(number(&["a.test"]), a);
}

#[test]
fn what_nobody_comes_for_expires() {
    let hold = hold("x.test");
    let next = |now, last: &Given| next(&hold, Some(&last.outcome), 1000, now, 60_000);
    assert!(matches!(next(2000, &look(1)), Next::At(62_000)));
    assert!(matches!(next(90_000, &attempt(1)), Next::At(101_000)));
    let words = |last: &Given| match next(101_000, last) {
        Next::Expired(outcome) => outcome.text,
        Next::At(_) => panic!(),
    };
    assert!(words(&look(1)).ends_with("nobody has come to fetch it within 1m40s"));
    assert!(words(&attempt(1)).ends_with("ended with: it did not answer"));
}
