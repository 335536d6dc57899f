use super::*;
use std::fs;

fn form(folder: &Path, shared: bool) -> Arc<Form> {
    Arc::new(Form {
        folder: folder.to_owned(),
        shared,
        fields: vec![W3cField::Date, W3cField::Time, W3cField::Method],
        computer: "MX1".to_owned(),
    })
}

fn line(at: &str, method: &'static str) -> Line<'static> {
    Line {
        at: at.parse().unwrap(),
        client: [192, 0, 2, 7].into(),
        user: "",
        server: None,
        port: 25,
        method,
        query: "",
        status: 0,
        win32: 0,
        sent: 0,
        received: 0,
        taken: Duration::ZERO,
    }
}

/// What is held goes to the disk.
fn written(log: &Log, writer: &mut Writer) {
    log.lock().ending = true; // nothing is waited for
    writer.write(&log.next().unwrap());
    log.lock().ending = false;
}

fn read(folder: &Path, name: &str) -> Vec<String> {
    let text = fs::read_to_string(folder.join(name)).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_file_per_day_with_a_header_on_top_and_after_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let (log, form) = (Log::default(), form(dir.path(), false));
    let mut writer = Writer::default();
    log.push(&form, &line("2026-11-28T23:59:58Z", "HELO"));
    log.push(&form, &line("2026-11-28T23:59:59.999Z", "MAIL"));
    log.push(&form, &line("2026-11-29T00:00:00Z", "RCPT"));
    written(&log, &mut writer);
    log.push(&form, &line("2026-11-29T00:00:01Z", "DATA"));
    written(&log, &mut writer);
    written_by_another_start(&log, &form);
    let first = read(dir.path(), "ex261128.log");
    assert!(first[0].starts_with("#Software: Microsoft Internet Information Services 6.0"));
    assert_eq!(
        first[1..],
        [
            "#Version: 1.0",
            "#Date: 2026-11-28 23:59:58",
            "#Fields: date time cs-method",
            "2026-11-28 23:59:58 HELO",
            "2026-11-28 23:59:59 MAIL",
        ]
    );
    let second = read(dir.path(), "ex261129.log");
    assert_eq!(second.len(), 4 + 2 + 4 + 1, "{second:?}");
    assert_eq!(second[4], "2026-11-29 00:00:00 RCPT");
    assert_eq!(second[5], "2026-11-29 00:00:01 DATA");
    assert_eq!(second[8], "#Date: 2026-11-29 00:00:02");
    assert_eq!(second[10], "2026-11-29 00:00:02 QUIT");
}

fn written_by_another_start(log: &Log, form: &Arc<Form>) {
    log.push(form, &line("2026-11-29T00:00:02Z", "QUIT"));
    written(log, &mut Writer::default());
}

#[test]
fn on_shared_storage_each_machine_has_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::default();
    log.push(&form(dir.path(), true), &line("2026-11-28T10:00:00Z", "HELO"));
    written(&log, &mut Writer::default());
    assert_eq!(read(dir.path(), "ex261128-MX1.log").len(), 5);
}

#[test]
fn what_cannot_be_written_is_dropped_counted_and_held_within_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("Logs");
    let (log, form) = (Log::default(), form(&folder, false));
    let mut writer = Writer::default();
    log.push(&form, &line("2026-11-28T10:00:00Z", "HELO"));
    log.push(&form, &line("2026-11-28T10:00:00Z", "MAIL"));
    written(&log, &mut writer);
    assert!(writer.is_failing);
    assert_eq!(writer.missing, 2);
    // the disk hangs
    let one = "2026-11-28 10:00:00 RCPT\n".len();
    for _ in 0..MOST_HELD / one + 10 {
        log.push(&form, &line("2026-11-28T10:00:00Z", "RCPT"));
    }
    assert!(log.lock().bytes <= MOST_HELD);
    assert_eq!(log.lock().lost, 10);
    fs::create_dir(&folder).unwrap();
    written(&log, &mut writer);
    assert!(!writer.is_failing);
    assert_eq!(writer.missing, 0, "told, and begun anew");
    assert_eq!(read(&folder, "ex261128.log").len(), 4 + MOST_HELD / one);
}

#[test]
fn a_disk_that_is_nearly_full_is_left_to_mail() {
    let dir = tempfile::tempdir().unwrap();
    let (log, form) = (Log::default(), form(dir.path(), false));
    let mut writer = Writer::default();
    let mut say = |method, min_free| {
        writer.day.min_free = min_free;
        log.push(&form, &line("2026-11-28T10:00:00Z", method));
        log.lock().look_again = true;
        written(&log, &mut writer);
        (writer.is_failing, writer.missing)
    };
    assert_eq!(say("HELO", 1), (false, 0));
    assert_eq!(say("MAIL", u64::MAX), (true, 1));
    assert_eq!(say("RCPT", u64::MAX), (true, 2));
    assert_eq!(read(dir.path(), "ex261128.log").len(), 4 + 1);
    assert_eq!(say("QUIT", 1), (false, 0), "told, and begun anew");
    let lines = read(dir.path(), "ex261128.log");
    assert_eq!(lines.last().unwrap(), "2026-11-28 10:00:00 QUIT");
    assert_eq!(lines.len(), 4 + 2, "{lines:?}");
}

#[test]
fn much_at_once_is_looked_at_in_between() {
    let dir = tempfile::tempdir().unwrap();
    let (log, form) = (Log::default(), form(dir.path(), false));
    let mut writer = Writer::default();
    let one = "2026-11-28 10:00:00 RCPT\n".len();
    for _ in 0..MOST_HELD / one {
        log.push(&form, &line("2026-11-28T10:00:00Z", "RCPT"));
    }
    written(&log, &mut writer);
    writer.day.min_free = u64::MAX;
    log.push(&form, &line("2026-11-28T10:00:00Z", "QUIT"));
    written(&log, &mut writer);
    assert!(writer.is_failing);
}

#[test]
fn a_file_that_was_moved_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (log, form) = (Log::default(), form(dir.path(), false));
    let mut writer = Writer::default();
    let mut say = |method, look_again| {
        log.push(&form, &line("2026-11-28T10:00:00Z", method));
        log.lock().look_again = look_again;
        written(&log, &mut writer);
    };
    say("HELO", false);
    let path = dir.path().join("ex261128.log");
    fs::rename(&path, dir.path().join("ex261128.log.1")).unwrap();
    say("MAIL", true); // SIGHUP
    assert_eq!(read(dir.path(), "ex261128.log").len(), 4 + 1);
    say("RCPT", true);
    assert_eq!(
        read(dir.path(), "ex261128.log").len(),
        4 + 2,
        "the same file, no new header"
    );
    fs::remove_file(&path).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while !path.exists() {
        assert!(Instant::now() < until, "nobody looked");
        say("DATA", false);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(read(dir.path(), "ex261128.log.1").len(), 4 + 1);
}

#[test]
fn processes_that_append_to_one_file_do_not_mix_their_lines() {
    let dir = tempfile::tempdir().unwrap();
    let writers: Vec<_> = ["HELO", "QUIT"]
        .into_iter()
        .map(|method| {
            let form = form(dir.path(), false);
            std::thread::spawn(move || {
                let (log, mut writer) = (Log::default(), Writer::default());
                for _ in 0..50 {
                    for _ in 0..200 {
                        log.push(&form, &line("2026-11-28T10:00:00Z", method));
                    }
                    written(&log, &mut writer);
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    let lines = read(dir.path(), "ex261128.log");
    let count = |method: &str| {
        let whole = format!("2026-11-28 10:00:00 {method}");
        lines.iter().filter(|line| **line == whole).count()
    };
    assert_eq!(
        (count("HELO"), count("QUIT"), lines.len()),
        (10_000, 10_000, 20_008)
    );
}

#[test]
fn the_end_writes_what_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let log: &'static Log = Box::leak(Box::default());
    log.apply(Some(Form {
        folder: dir.path().to_owned(),
        shared: false,
        fields: W3cField::all(),
        computer: String::new(),
    }));
    let form = log.lock().form.clone().unwrap();
    let mut host = Outbound {
        log,
        form,
        host: "192.0.2.9:25".parse().unwrap(),
        since: Instant::now(),
    };
    host.reply("220-mx.test ESMTP");
    for said in [
        "EHLO me.test",
        "AUTH PLAIN *** (20 bytes)",
        "*** (9 bytes)",
        "*",
        "",
        ".",
        "[7 bytes]",
    ] {
        host.command(said);
    }
    host.reply("334 c2VjcmV0");
    log.finish();
    let name = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(name).unwrap();
    let lines: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(' ').collect())
        .collect();
    let said: Vec<_> = lines.iter().map(|line| (line[3], line[8], line[10])).collect();
    assert_eq!(
        said,
        [
            ("OutboundConnectionResponse", "-", "220-mx.test+ESMTP"),
            ("OutboundConnectionCommand", "EHLO", "me.test"),
            ("OutboundConnectionCommand", "AUTH", "PLAIN"),
            ("OutboundConnectionResponse", "-", "334"),
        ]
    );
    assert_eq!((lines[0][2], lines[0][6], lines[0][7]), ("192.0.2.9", "-", "25"));
}
