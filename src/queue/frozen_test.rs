//! What version 1 of ENV has ever written is read for ever, and means what it meant.

use super::env::{read, write};
use super::record::{Delay, Owed, ReportState, State};
use crate::mail::{Ret, Verdict};

/// What version 1 has ever written is read, and means what it meant. These files are never changed; a new word gets
/// a new file, a new meaning a new version.
#[test]
fn the_frozen_examples_are_read_for_ever() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/spool-fixtures/formats/v1");
    let mut all = String::new();
    for name in ["waiting", "reports", "report-of-ours", "odd"] {
        let text = std::fs::read_to_string(format!("{folder}/{name}.ENV")).unwrap();
        let record = read(&text).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(
            write(&record),
            text,
            "{name}: what is read is written again, word for word"
        );
        all.push_str(&text);
    }
    let texts = "ret HDRS|ret FULL|body 7BIT|body 8BITMIME|envid |crashes |mtime |sender <>|rcpt open |rcpt delivered |\
        rcpt failed | next=| report=failure| report=success| report=relay| reported | delay-owed| delay-told| notify=| orcpt=|\
        unroutable |last delivered |last deferred |last failed | remote at=| at=- ";
    for word in texts.split('|') {
        assert!(all.contains(word), "no example has \"{word}\"");
    }
}

#[test]
fn the_frozen_examples_mean_what_they_meant() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/spool-fixtures/formats/v1");
    let of = |name: &str| read(&std::fs::read_to_string(format!("{folder}/{name}.ENV")).unwrap()).unwrap();
    let record = of("waiting");
    assert_eq!(record.arrived, 1_795_300_127_123);
    assert_eq!(
        (record.file.as_str(), record.ret),
        ("order 42.eml", Some(Ret::Hdrs))
    );
    let carol = &record.recipients[1];
    assert_eq!(
        (carol.state, carol.tries, carol.next),
        (State::Open, 2, 1_795_300_250_000)
    );
    let said = &record.recipients[0].last.as_ref().unwrap().outcome;
    assert!(said.remote && said.verdict == Verdict::Delivered && said.text == "250 2.0.0 OK queued as 4711");
    let record = of("reports");
    assert_eq!(record.id.life, 2);
    let reports: Vec<_> = record
        .recipients
        .iter()
        .map(|entry| (entry.report, entry.delay))
        .collect();
    assert_eq!(
        reports,
        [
            (ReportState::Owed(Owed::Failure), Delay::Untold),
            (ReportState::Owed(Owed::Success), Delay::Untold),
            (ReportState::Owed(Owed::Relay), Delay::Untold),
            (ReportState::Done, Delay::Untold),
            (ReportState::None, Delay::Owed),
            (ReportState::None, Delay::Told),
            (ReportState::None, Delay::Untold),
        ]
    );
    let record = of("report-of-ours");
    assert!(record.sender.is_none() && record.file.is_empty());
    let record = of("odd");
    assert_eq!((record.crashes, record.file_time), (1, -1));
    assert!(!record.recipients[0].recipient.address.is_routable());
    assert_eq!(
        record.recipients[1].recipient.address.as_str(),
        "\"a> <b\"@example.net"
    );
}
