//! Targets for the texts beside the message: ENV, replies, settings, addresses, names, pages.

use crate::config::{Config, SETTINGS_FILE};
use crate::mail::plain::{Page, cut, escaped};
use crate::mail::{
    Address, EnhancedStatus, Envelope, MessageId, Notify, Outcome, Recipient, Verdict, header, leading,
    mailbox,
};
use crate::mailroot::{NodeName, QueueName, node, shown};
use crate::pickup::{DEFAULT_IGNORE, ignored};
use crate::queue::env as env_file;
use crate::queue::{Given, Record, State};
use crate::smtp::doors;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn no_controls(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

pub fn env(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match env_file::read(&text) {
        Ok(record) => reads_back(&record),
        Err(error) => {
            assert!(!error.why.is_empty());
            assert!((1..=text.split('\n').count()).contains(&error.line), "{error}");
        }
    }
    let record = made_up(&text);
    let written = env_file::write(&record);
    let read = env_file::read(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
    let tried = record.recipients.iter().filter(|r| r.last.is_some()).count();
    let fixed = [
        "mailroot-env 1",
        "id",
        "file",
        "arrived",
        "sender",
        "envid",
        "mtime",
        "end",
    ]
    .len();
    assert_eq!(
        written.lines().count(),
        fixed + record.recipients.len() + tried,
        "{written}"
    );
    assert_eq!(
        written.split('\n').count(),
        written.lines().count() + 1,
        "{written}"
    );
    assert_eq!(read.recipients.len(), record.recipients.len());
    let fates = |record: &Record| record.recipients.iter().map(|r| r.state).collect::<Vec<_>>();
    assert_eq!(fates(&read), fates(&record));
    for (read, made) in read.recipients.iter().zip(&record.recipients) {
        assert_eq!(read.recipient.address, made.recipient.address, "{written}");
    }
    reads_back(&read);
}

fn reads_back(record: &Record) {
    let text = env_file::write(record);
    let again = env_file::read(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(&again, record, "{text}");
    assert_eq!(env_file::write(&again), text);
}

/// A record of hostile words, by the constructors that the engine uses: it never gives up a line to them.
fn made_up(text: &str) -> Record {
    let mut words = text.split(['|', '\0']);
    let mut word = || words.next().unwrap_or("x").to_owned();
    let (file, envid, sender) = (word(), word(), word());
    let mut envelope = Envelope {
        sender: Address::parse(&sender, "d.example").ok(),
        envid: Some(envid),
        ..Envelope::default()
    };
    let mut outcomes = Vec::new();
    for n in 0..3 {
        let (address, orcpt, reply, host) = (word(), word(), word(), word());
        envelope.recipients.push(Recipient {
            address: Address::parse(&address, "d.example").unwrap_or_else(|_| Address::unroutable(&address)),
            notify: Notify::parse("FAILURE,DELAY").filter(|_| n == 0),
            orcpt: (n < 2).then_some(orcpt),
        });
        let verdict = [Verdict::Delivered, Verdict::Deferred, Verdict::Failed][n];
        let outcome = Outcome::reply(verdict, EnhancedStatus::new(4, 0, 0), reply, &host);
        outcomes.push(if n == 2 {
            Outcome {
                host: None,
                remote: false,
                ..outcome
            }
        } else {
            outcome
        });
    }
    let id: MessageId = "01JDE0Z7M4Y3Q2V1W0X9Y8Z7A6-1".parse().unwrap();
    let file = format!("x{}", shown(OsStr::new(&file)));
    let mut record = Record::new(id, file, 1_795_300_127_123, -1, envelope);
    for (n, outcome) in outcomes.into_iter().enumerate() {
        record.note(n, outcome, 5, false, false);
    }
    record.recipients[2].last = record.recipients[2]
        .last
        .take()
        .filter(|_| text.len().is_multiple_of(2));
    let states: Vec<State> = record.recipients.iter().map(|r| r.state).collect();
    assert_eq!(states, [State::Delivered, State::Open, State::Failed]);
    let _: Option<&Given> = record.recipients[0].last.as_ref();
    record
}

pub fn reply(data: &[u8]) {
    let (heard, why) = doors::replies(data, usize::MAX);
    for step in [1, 2, 7] {
        let again = doors::replies(data, step);
        assert_eq!((&heard, &why), (&again.0, &again.1), "fed {step} at a time");
    }
    for reply in &heard {
        assert!((200..600).contains(&reply.code));
        assert!((1..=128).contains(&reply.lines.len()));
        let begin = format!("{:03}", reply.code);
        for line in &reply.lines {
            no_controls(line);
            assert!(line.starts_with(&begin), "{line}");
            assert!(line.len() <= 4 * 4096 + 8);
        }
        no_controls(&reply.one_line);
        assert!(reply.one_line.len() <= 2048 + 4 && reply.one_line.starts_with(&begin));
        assert!(
            reply
                .status
                .is_none_or(|s| u16::from(s.class) == reply.code / 100)
        );
        assert!(!reply.blotted.contains(doors::SECRET), "{}", reply.blotted);
        for outcome in &reply.outcomes {
            no_controls(&outcome.text);
            assert!(outcome.verdict != Verdict::Delivered || reply.code / 100 == 2);
        }
        for mechanism in &reply.offers.auth {
            no_controls(mechanism);
        }
    }
    if let Some(why) = why {
        no_controls(&why);
    }
}

pub fn settings(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let dir = Path::new("/srv/mailroot");
    match Config::parse(&text, dir, "host.example") {
        Ok(config) => {
            assert!(config.cluster.lease > config.cluster.heartbeat);
            assert!(!config.delivery.schedule.retry.is_empty() && !config.drop.schedule.retry.is_empty());
            assert!(config.folders.pickup.is_absolute() && config.folders.queue.is_absolute());
            no_controls(&config.server.hostname);
            no_controls(&config.domains.default);
        }
        Err(error) => {
            assert!((1..=20).contains(&error.problems.len()));
            for problem in &error.problems {
                let line = problem.line.unwrap_or_else(|| panic!("names no line: {problem}"));
                assert!((1..=text.split('\n').count()).contains(&line), "{problem}");
                assert_eq!(problem.file, Path::new(SETTINGS_FILE));
                no_controls(&problem.says);
                assert!(
                    !problem.says.is_empty() && problem.says.len() < 2000,
                    "{}",
                    problem.says
                );
                let shown: Vec<&str> = problem.shown.as_deref().unwrap_or("").split('\n').collect();
                assert!(shown.len() == 2, "{problem}");
                shown.into_iter().for_each(no_controls);
            }
        }
    }
}

pub fn address(data: &[u8]) {
    let mut total = 0;
    for mailbox in mailbox::list(data) {
        total += mailbox.raw.len();
        assert!(mailbox.lines_down <= data.iter().filter(|b| **b == b'\n').count());
        if let Ok(address) = mailbox.address("default.example") {
            one_address(&address);
        }
    }
    assert!(total <= data.len(), "mailboxes do not overlap");
    if let Some((mailbox, words)) = mailbox::leading(data) {
        assert!(words.len() <= data.len());
        if let Ok(address) = mailbox.address("default.example") {
            one_address(&address);
        }
    }
    let text = String::from_utf8_lossy(data);
    if let Ok(address) = Address::parse(&text, "default.example") {
        one_address(&address);
    }
    let bad = Address::unroutable(&text);
    no_controls(bad.as_str());
    assert_eq!(Address::unroutable(bad.as_str()), bad);
    for notify in text.split(' ').filter_map(Notify::parse) {
        assert_eq!(Notify::parse(&notify.to_string()), Some(notify));
    }
    for status in text.split(' ').filter_map(EnhancedStatus::parse) {
        assert_eq!(EnhancedStatus::parse(&status.to_string()), Some(status));
    }
}

fn one_address(address: &Address) {
    let text = address.as_str();
    no_controls(text);
    assert!(address.is_routable() && !address.domain().is_empty());
    assert_eq!(format!("{}@{}", address.local_part(), address.domain()), text);
    assert_eq!(Address::parse(text, "other.example").as_ref(), Ok(address));
    let envelope = Envelope {
        sender: Some(address.clone()),
        recipients: vec![Recipient::plain(address.clone())],
        ..Envelope::default()
    };
    let block = leading::write(&envelope, None);
    let fields = header::scan(&block, 1).unwrap();
    assert_eq!(fields.len(), 2, "{}", block.escape_ascii());
    let again = leading::read(&fields, &block, "other.example");
    assert_eq!(again.sender.unwrap().address.unwrap().unwrap(), *address);
    assert_eq!(again.receivers[0].address.as_ref().unwrap(), address);
    for smtputf8 in [false, true] {
        for line in doors::commands(&envelope, smtputf8) {
            no_controls(&line);
            let path = path_of(&line).unwrap_or_else(|| panic!("{line}"));
            let read = Address::parse(path, "").unwrap();
            assert_eq!(read.local_part(), address.local_part(), "{line}");
            assert!(smtputf8 || line.is_ascii(), "{line}");
        }
    }
}

/// What stands between the brackets of a MAIL or RCPT, as a host reads it: brackets in quotes do not count.
fn path_of(line: &str) -> Option<&str> {
    let inner = line
        .strip_prefix("MAIL FROM:<")
        .or_else(|| line.strip_prefix("RCPT TO:<"))?;
    let (mut quoted, mut escaped) = (false, false);
    let end = inner.char_indices().find_map(|(at, c)| {
        let literal = std::mem::take(&mut escaped);
        match c {
            '\\' if quoted && !literal => escaped = true,
            '"' if !literal => quoted = !quoted,
            '>' if !quoted => return Some(at),
            _ => {}
        }
        None
    })?;
    let (path, after) = inner.split_at(end);
    let known = ["SIZE=42", "BODY=8BITMIME", "SMTPUTF8"];
    let words = after.strip_prefix('>')?.split_whitespace();
    words
        .into_iter()
        .all(|word| known.contains(&word))
        .then_some(path)
}

pub fn names(data: &[u8]) {
    let name = OsStr::from_bytes(data);
    no_controls(&shown(name));
    if let Some(ours) = QueueName::parse(name) {
        if let QueueName::Temporary(_) = ours {
            assert_eq!(ours.id(), None);
        } else {
            assert_eq!(ours.to_string().as_bytes(), data, "two spellings of one name");
        }
        assert_eq!(QueueName::parse(OsStr::new(&ours.to_string())), Some(ours));
    }
    let text = String::from_utf8_lossy(data);
    if let Ok(id) = text.parse::<MessageId>() {
        assert_eq!(id.to_string(), text);
        assert!(id.next_life() >= id);
    }
    if let Ok(node) = text.parse::<NodeName>() {
        assert_eq!(node.as_str(), text);
    }
    let made = NodeName::generate(&text);
    assert_eq!(made.as_str().parse(), Ok(made.clone()));
    let patterns = DEFAULT_IGNORE.map(str::to_owned);
    let lower = OsStr::from_bytes(&data.to_ascii_lowercase()).to_owned();
    assert_eq!(ignored(name, &patterns), ignored(&lower, &patterns));
    if let Some((name, pattern)) = text.split_once('|') {
        let _ = ignored(OsStr::new(name), &[pattern.to_owned()]);
        assert!(ignored(OsStr::new(name), &[name.replace('?', "*")]) || name.contains('*'));
    }
    // a heartbeat of another program, or a torn one
    assert!(!node::lives_here(&text) || text.contains(&std::process::id().to_string()));
}

pub fn plain(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    no_controls(&escaped(&text));
    assert!(cut(&text, 50).chars().count() <= 51);
    let mut page = Page::new();
    page.line(&text);
    page.blank();
    page.para("  ", &text);
    page.item("Name:", &text);
    page.block("> ", &text);
    let page = page.into_string();
    assert!(page.ends_with("\r\n"));
    for line in page.split("\r\n") {
        no_controls(line);
    }
    let mut page = Page::new();
    page.para("  ", &text);
    let page = page.into_string();
    for line in page.split("\r\n") {
        let words = line.split(' ').filter(|word| !word.is_empty()).count();
        assert!(line.chars().count() <= 75 || words <= 1, "{line:?}");
    }
    let bare = |text: &str| {
        text.split([' ', '\r', '\n'])
            .filter(|w| !w.is_empty())
            .collect::<String>()
    };
    let shown = escaped(&text);
    let unspaced = |text: &str| text.split_whitespace().collect::<String>();
    assert_eq!(unspaced(&bare(&page)), unspaced(&shown), "no word is lost");
}
