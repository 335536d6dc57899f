//! The event log: one line per event on standard error, as text or JSON, and on request into a file per day.
//!
//! Writes: standard error; `Logs/mailroot-YYYY-MM-DD.log` (UTC days, appended to, never removed by us). Called on
//! every thread; a line is one write under one lock, so lines of threads never mix. Not here: what is logged.
//!
//! Nothing in a log line comes from us alone: file names, addresses and replies of hosts stand in it. So control
//! characters are always escaped, and what cannot be written is dropped rather than stopping mail.

mod calm;
mod out;
mod time;

use crate::config::{Log, LogFormat, LogLevel};
use crate::mail::plain::is_printable;
use calm::Calm;
use jiff::Timestamp;
pub use out::together;
use out::{Out, Sink, Target};
use std::fmt::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;

/// Target of what is told of each message or file, however many there are.
pub const EACH: &str = "mailroot::each";

/// The log of this process, once started.
#[derive(Clone)]
pub struct Logging {
    level: reload::Handle<Targets, Registry>,
    json: Arc<AtomicBool>,
    out: Out,
}

impl Logging {
    /// Starts logging for the whole process. A second start in one process has no effect on where events go.
    pub fn start(log: &Log, folder: &Path) -> Self {
        let (logging, subscriber) = Self::build(log, folder, Sink::Stderr);
        // An error means that someone else (a test) set a subscriber before us; theirs stays.
        let _ = tracing::subscriber::set_global_default(subscriber);
        logging
    }

    /// As [`Logging::start`], with nothing on standard error: a tool beside the service has its own words there.
    pub fn start_unseen(log: &Log, folder: &Path) -> Self {
        let (logging, subscriber) = Self::build(log, folder, Sink::Nowhere);
        let _ = tracing::subscriber::set_global_default(subscriber);
        logging
    }

    /// Puts other settings in force, for a reload.
    pub fn apply(&self, log: &Log, folder: &Path) {
        let _ = self.level.reload(filter(log.level));
        self.json.store(log.format == LogFormat::Json, Ordering::Relaxed);
        self.out
            .with(|target| target.choose_file(log.file.then_some(folder)));
    }

    fn build(log: &Log, folder: &Path, sink: Sink) -> (Self, impl Subscriber + Send + Sync + use<>) {
        let (level, handle) = reload::Layer::new(filter(log.level));
        let target = Target::new(sink);
        let logging = Self {
            level: handle,
            json: Arc::new(AtomicBool::new(false)),
            out: Out(Arc::new(Mutex::new(target))),
        };
        logging.apply(log, folder);
        let lines = tracing_subscriber::fmt::layer()
            .fmt_fields(JsonFields::new())
            .event_format(Lines::new(Arc::clone(&logging.json)))
            .with_writer(logging.out.clone())
            .log_internal_errors(false);
        let subscriber = tracing_subscriber::registry().with(level).with(lines);
        (logging, subscriber)
    }
}

/// Our own events from `level` on; of the libraries only what went wrong.
fn filter(level: LogLevel) -> Targets {
    let ours = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let theirs = if level == LogLevel::Debug {
        LevelFilter::WARN
    } else {
        LevelFilter::ERROR
    };
    Targets::new().with_target("mailroot", ours).with_default(theirs)
}

/// `2026-11-21T09:30:00.123Z`
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        time::write(w, Timestamp::now())
    }
}

/// Text or JSON, as the settings are at the moment of the event.
struct Lines {
    json: Arc<AtomicBool>,
    as_json: Format<Json, Clock>,
    calm: Calm<Identifier>,
}

impl Lines {
    fn new(json: Arc<AtomicBool>) -> Self {
        let as_json = tracing_subscriber::fmt::format()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_target(false)
            .with_timer(Clock);
        Self {
            json,
            as_json,
            calm: Calm::new(),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (now, json) = (Instant::now(), self.json.load(Ordering::Relaxed));
        for line in self.calm.left_out(now) {
            write_own(&mut to, json, &line)?;
        }
        let message = || {
            let mut words = Words::default();
            event.record(&mut words);
            words.message
        };
        let metadata = event.metadata();
        // Nothing is written then: what was left out is counted.
        if *metadata.level() <= Level::WARN
            && metadata.target() != EACH
            && !self.calm.lets_pass(metadata.callsite(), now, message)
        {
            return Ok(());
        }
        if json {
            return self.as_json.format_event(ctx, to, event);
        }
        let mut words = Words::with_room();
        event.record(&mut words);
        let level = match *event.metadata().level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARN ",
            Level::INFO => "info ",
            _ => "debug",
        };
        Clock.format_time(&mut to)?;
        [" ", level, " ", &words.message, &words.fields, "\n"]
            .into_iter()
            .try_for_each(|part| to.write_str(part))
    }
}

/// A line about lines; `line` is escaped already.
fn write_own(to: &mut Writer<'_>, json: bool, line: &str) -> fmt::Result {
    if json {
        let (time, line) = (format!("{:.3}", Timestamp::now()), serde_json::Value::from(line));
        return writeln!(to, r#"{{"timestamp":"{time}","level":"WARN","message":{line}}}"#);
    }
    Clock.format_time(to)?;
    writeln!(to, " WARN  {line}")
}

/// An event as text: the message, then ` key=value` for each field.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
    /// The value that is being written.
    value: String,
}

impl Words {
    /// For a line of usual length.
    fn with_room() -> Self {
        Self {
            fields: String::with_capacity(384),
            value: String::with_capacity(64),
            ..Self::default()
        }
    }

    fn add(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            push_escaped(&mut self.message, value);
            return;
        }
        self.fields.push(' ');
        self.fields.push_str(field.name());
        self.fields.push('=');
        // What `{:?}` wrote; a quote inside could otherwise pretend to be the end, and what follows a field.
        let inside = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let already_quoted = inside.is_some_and(|inside| !inside.contains('"'));
        let is_apart = |byte| matches!(byte, b' ' | b'"' | b'=' | b'\t' | b'\n' | b'\r');
        let plain = !value.is_empty() && !value.bytes().any(is_apart);
        if plain || already_quoted {
            push_escaped(&mut self.fields, value);
        } else {
            self.fields.push('"');
            push_escaped(&mut self.fields, &value.replace('"', "\\\""));
            self.fields.push('"');
        }
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = std::mem::take(&mut self.value);
        text.clear();
        let _ = write!(text, "{value:?}");
        self.add(field, &text);
        self.value = text;
    }
}

/// A line stays one line, and a terminal is told nothing by it.
fn push_escaped(out: &mut String, text: &str) {
    if is_printable(text.as_bytes()) {
        return out.push_str(text);
    }
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(level: LogLevel, format: LogFormat, file: bool) -> Log {
        let w3c = None;
        Log {
            level,
            format,
            file,
            w3c,
        }
    }

    /// What `act` logs under these settings.
    fn lines(settings: &Log, folder: &Path, act: impl FnOnce(&Logging)) -> Vec<String> {
        let memory = Arc::new(Mutex::new(Vec::new()));
        let (logging, subscriber) = Logging::build(settings, folder, Sink::Memory(Arc::clone(&memory)));
        tracing::subscriber::with_default(subscriber, || act(&logging));
        let bytes = memory.lock().unwrap().clone();
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn text_is_one_line_with_everything_escaped() {
        let settings = log(LogLevel::Info, LogFormat::Text, false);
        let seen = lines(&settings, Path::new("/"), |_| {
            let (file, reply, sly) = ("a b\n\u{1b}[31m.eml", "250 ok \"x\"", "\"a\" id=\"b\"");
            tracing::info!(id = 7, %file, reply, sly, empty = "", debug = ?"q", "taken\nnow");
            tracing::debug!("not at this level");
            tracing::info!(target: "hickory_proto::udp", "not ours");
        });
        assert_eq!(seen.len(), 1, "{seen:?}");
        let (time, rest) = seen[0].split_at(24);
        assert!(time.ends_with('Z') && time.parse::<Timestamp>().is_ok(), "{time}");
        let wanted = r#" info  taken\nnow id=7 file="a b\n\u{1b}[31m.eml" reply="250 ok \"x\"" sly="\"a\" id=\"b\"" empty="" debug="q""#;
        assert_eq!(rest, wanted);
    }

    #[test]
    fn what_is_said_together_is_written_at_its_end_also_after_a_panic() {
        let settings = log(LogLevel::Info, LogFormat::Text, false);
        let seen = lines(&settings, Path::new("/"), |logging| {
            let written = || {
                logging.out.with(|target| match &target.sink {
                    Sink::Memory(lines) => lines.lock().unwrap().iter().filter(|&&b| b == b'\n').count(),
                    _ => 0,
                })
            };
            together(|| {
                tracing::info!("one");
                tracing::info!("two");
                assert_eq!(written(), 0);
            });
            assert_eq!(written(), 2);
            let panics = std::panic::catch_unwind(|| {
                together(|| {
                    tracing::info!("three");
                    panic!("an end");
                })
            });
            assert!(panics.is_err());
            assert_eq!(written(), 3);
            tracing::info!("four");
            assert_eq!(written(), 4);
        });
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn json_is_one_object_per_line() {
        let settings = log(LogLevel::Info, LogFormat::Json, false);
        let seen = lines(&settings, Path::new("/"), |_| {
            tracing::warn!(file = "a\nb", n = 3, "hello")
        });
        let object: serde_json::Value = serde_json::from_str(&seen[0]).unwrap();
        assert_eq!(
            (&object["message"], &object["file"], &object["n"]),
            (&"hello".into(), &"a\nb".into(), &3.into())
        );
        assert_eq!(object["level"], "WARN");
        assert!(object["timestamp"].as_str().unwrap().parse::<Timestamp>().is_ok());
    }

    #[test]
    fn a_flood_of_one_kind_is_held_back_and_what_is_told_of_each_message_is_not() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let settings = log(LogLevel::Info, format, false);
            let seen = lines(&settings, Path::new("/"), |_| {
                for n in 0..100 {
                    tracing::warn!(n, "the disk is full");
                    tracing::warn!(target: EACH, n, "to Badmail");
                }
            });
            let count = |what: &str| seen.iter().filter(|line| line.contains(what)).count();
            // Other tests that set a log of their own can cost some lines here.
            assert!(
                count("the disk is full") <= 4 && count("to Badmail") > 4,
                "{seen:?}"
            );
        }
    }

    #[test]
    fn a_reload_changes_level_format_and_file() {
        let dir = tempfile::tempdir().unwrap();
        let settings = log(LogLevel::Warn, LogFormat::Text, false);
        let seen = lines(&settings, dir.path(), |logging| {
            tracing::info!("one");
            logging.apply(&log(LogLevel::Debug, LogFormat::Json, true), dir.path());
            tracing::debug!("two");
        });
        assert_eq!(seen.len(), 1);
        assert!(seen[0].starts_with('{') && seen[0].contains("two"), "{seen:?}");
        let file = std::fs::read_dir(dir.path())
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        assert_eq!(std::fs::read_to_string(file).unwrap().trim_end(), seen[0]);
    }
}
