//! Runs a scenario: a folder that says what a user does (`steps`) and what is to be seen then (`expect/`).
//!
//! ```text
//! about.md       one paragraph: what a user would do and see
//! mailroot.toml  settings; {SMTP_PORT} {DNS_ADDR} {CA_FILE} {SCENARIO} {TMP} are filled in
//! host.talk      what the remote host on 127.0.0.1 does; host2.talk: a second one on 127.0.0.2, same port
//! zone           what DNS knows (optional)
//! pickup/        the files that an application puts; also looked for in spool-fixtures/pickup/
//! steps          one step per line, see `Run::step`
//! expect/        golden files; written anew by UPDATE_EXPECT=1
//! ```
//! A scenario that fails keeps its tree and says where. A client that breaks an RFC against a host fails every
//! scenario, whatever it expects.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mailroot::practice::{Accepted, Host, Script};

use super::certificates::Authority;
use super::dns::DnsServer;
use super::process::{self, Finished, Running};
use super::stable::Known;
use super::{holds_within, tree};

/// How long `wait` and `run until` wait when nothing else is said.
const PATIENCE: Duration = Duration::from_secs(20);
/// The names that a host's certificate is made for.
const HOST_NAMES: [&str; 4] = [
    "mx1.example.net",
    "mx2.example.net",
    "smart.example.net",
    "127.0.0.1",
];

/// Where the scenarios lie.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("spool-fixtures/scenarios")
}

/// Runs one; panics with the story when it does not go as expected.
pub fn run(name: &str) {
    let place = tempfile::Builder::new()
        .prefix("mailroot-scenario-")
        .tempdir()
        .unwrap();
    let mut run = Run::new(&folder().join(name), place.path());
    let failures = run.all_steps();
    drop(run);
    if !failures.is_empty() {
        let kept = place.keep();
        panic!(
            "scenario {name}\n\n{}\nits tree is kept in {}\n",
            failures.join("\n"),
            kept.display()
        );
    }
}

/// A scenario that is being run.
pub struct Run {
    folder: PathBuf,
    place: PathBuf,
    root: PathBuf,
    hosts: Vec<Host>,
    dns: Option<DnsServer>,
    authority: Authority,
    service: Option<Running>,
    log: String,
    out: String,
    known: Known,
    update: bool,
}

type Step = Result<(), String>;
type Condition = Box<dyn Fn(&Run) -> bool>;

impl Run {
    /// Starts hosts and DNS and writes the settings; mailroot itself is started by a step.
    pub fn new(folder: &Path, place: &Path) -> Self {
        let root = place.join("mailroot");
        for name in ["Pickup", "Queue", "Drop", "Badmail"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        let dns = fs::read_to_string(folder.join("zone"))
            .ok()
            .map(|zone| DnsServer::start(&zone));
        let mut run = Self {
            folder: folder.to_owned(),
            place: place.to_owned(),
            root,
            hosts: Vec::new(),
            dns,
            authority: Authority::new(place),
            service: None,
            log: String::new(),
            out: String::new(),
            known: Known::default(),
            update: std::env::var_os("UPDATE_EXPECT").is_some(),
        };
        run.start_hosts();
        run.write_settings();
        run
    }

    /// Both hosts listen on one port, as real ones do; a port that is taken on the second address is given back.
    fn start_hosts(&mut self) {
        for _ in 0..50 {
            let first = self.host("host.talk", (Ipv4Addr::LOCALHOST, 0).into());
            let first = first.expect("127.0.0.1 has a free port");
            let second: SocketAddr = (Ipv4Addr::new(127, 0, 0, 2), first.port()).into();
            if !self.folder.join("host2.talk").exists() {
                self.hosts = vec![first];
                return;
            }
            if let Ok(second) = self.host("host2.talk", second) {
                self.hosts = vec![first, second];
                return;
            }
        }
        panic!("no port is free on both 127.0.0.1 and 127.0.0.2");
    }

    fn host(&self, talk: &str, address: SocketAddr) -> std::io::Result<Host> {
        let script = self.script(talk);
        let word = script.certificate.as_deref();
        let tls = word.map(|word| self.authority.by_word(word, &HOST_NAMES));
        Host::start_on(address, script, tls)
    }

    fn script(&self, talk: &str) -> Script {
        let text = fs::read_to_string(self.folder.join(talk)).unwrap_or_default();
        text.parse().unwrap_or_else(|e| panic!("{talk}: {e}"))
    }

    fn write_settings(&mut self) {
        let port = self.hosts[0].port().to_string();
        let dns = self
            .dns
            .as_ref()
            .map_or("127.0.0.1:1".to_owned(), |dns| dns.address().to_string());
        let place = self.place.display().to_string();
        let ca_file = self.authority.file().display().to_string();
        let text = fs::read_to_string(self.folder.join("mailroot.toml")).unwrap();
        let text = text
            .replace("{SMTP_PORT}", &port)
            .replace("{DNS_ADDR}", &dns)
            .replace("{CA_FILE}", &ca_file)
            .replace("{SCENARIO}", &self.folder.display().to_string())
            .replace("{TMP}", &place);
        fs::write(self.root.join("mailroot.toml"), text).unwrap();
        self.known.texts = vec![
            (place, "{TMP}".to_owned()),
            (self.folder.display().to_string(), "{SCENARIO}".to_owned()),
            (format!(":{port}"), ":{SMTP_PORT}".to_owned()),
            (format!("port {port}"), "port {SMTP_PORT}".to_owned()),
            (dns, "{DNS_ADDR}".to_owned()),
            (env!("CARGO_PKG_VERSION").to_owned(), "{VERSION}".to_owned()),
        ];
    }

    /// Failures, in words; empty when all went as expected.
    pub fn all_steps(&mut self) -> Vec<String> {
        let steps = fs::read_to_string(self.folder.join("steps")).unwrap();
        let mut failures = Vec::new();
        for (i, step) in steps.lines().enumerate() {
            let step = step.trim();
            if step.is_empty() || step.starts_with('#') {
                continue;
            }
            // a look that fails leaves the rest sensible, a deed that fails does not
            if let Err(why) = self.step(step) {
                failures.push(format!("steps:{}: {step}\n{why}\n", i + 1));
                if !step.starts_with("expect") && !step.starts_with("see") {
                    break;
                }
            }
        }
        self.end_service();
        let violations: Vec<String> = self.hosts.iter().flat_map(Host::violations).collect();
        if !violations.is_empty() {
            failures.push(format!("against the RFCs:\n  {}\n", violations.join("\n  ")));
        }
        if !failures.is_empty() {
            failures.push(format!("log:\n{}", self.whole_log()));
        }
        failures
    }

    /// One line of `steps`.
    pub fn step(&mut self, step: &str) -> Step {
        let words: Vec<&str> = step.split_whitespace().collect();
        match words.as_slice() {
            ["put", file] => self.put(file, file),
            ["put", file, "as", name] => self.put(file, name),
            ["append", file, "to", name] => self.append(file, name),
            ["start"] => self.start(),
            ["wait", condition @ ..] => self.wait(condition),
            ["stop"] => self.stop(),
            ["crash"] => self.crash(),
            ["run", "until", condition @ ..] => {
                self.start()?;
                self.wait(condition)?;
                self.stop()
            }
            ["drain", "exit", code] => self.command(&["drain"], code),
            ["check", "exit", code] => self.command(&["check"], code),
            ["check", file, "exit", code] => {
                let path = self.fixture(file)?.display().to_string();
                let config = self.root.join("mailroot.toml").display().to_string();
                self.finish(&["check", "--config", &config, &path], code)
            }
            ["move", pattern, folder] => self.each(pattern, |root, file| {
                let target = root.join(folder.trim_end_matches('/'));
                fs::rename(file, target.join(file.file_name().unwrap_or_default()))
            }),
            ["remove", pattern] => self.each(pattern, |_, file| fs::remove_file(file)),
            // as after a while: a change within two seconds of the recorded time does not count
            ["touch", pattern] => self.each(pattern, |_, file| {
                let later = SystemTime::now() + Duration::from_secs(60);
                fs::File::options().write(true).open(file)?.set_modified(later)
            }),
            ["hold"] => self.each("Queue/*.EML", |_, file| {
                fs::rename(file, file.with_extension("HOLD"))
            }),
            ["release"] => self.each("Queue/*.HOLD", |_, file| {
                fs::rename(file, file.with_extension("EML"))
            }),
            ["talk", file] => self.talk(file, 0),
            ["talk", file, "host", "2"] => self.talk(file, 1),
            ["dns", mood] => self.dns_mood(mood),
            ["see", what, "has", ..] => self.see(what, step, " has ", true),
            ["see", what, "lacks", ..] => self.see(what, step, " lacks ", false),
            ["expect", whats @ ..] => self.expect(whats),
            _ => Err("this step is not known".to_owned()),
        }
    }

    fn fixture(&self, file: &str) -> Result<PathBuf, String> {
        let shared = folder().parent().unwrap_or(Path::new("")).join("pickup");
        let places = [self.folder.join("pickup").join(file), shared.join(file)];
        places.into_iter().find(|p| p.exists()).ok_or_else(|| {
            format!("{file} is neither in pickup/ of the scenario nor in spool-fixtures/pickup/")
        })
    }

    fn put(&mut self, file: &str, name: &str) -> Step {
        let bytes = words(fs::read(self.fixture(file)?))?;
        self.known
            .inputs
            .push(String::from_utf8_lossy(&bytes).into_owned());
        let name = Path::new(name).file_name().unwrap_or_default();
        words(fs::write(self.root.join("Pickup").join(name), bytes))
    }

    fn append(&mut self, file: &str, name: &str) -> Step {
        let bytes = words(fs::read(self.fixture(file)?))?;
        let path = self.root.join("Pickup").join(name);
        let mut target = words(fs::File::options().append(true).open(path))?;
        words(std::io::Write::write_all(&mut target, &bytes))
    }

    fn start(&mut self) -> Step {
        let root = self.root.display().to_string();
        self.service = Some(process::start(&self.place.join("notes"), &["run", &root]));
        Ok(())
    }

    fn stop(&mut self) -> Step {
        let service = self.service.take().ok_or("the service does not run")?;
        let Finished { code, stderr, .. } = service.stop();
        self.log.push_str(&stderr);
        if code == Some(0) {
            Ok(())
        } else {
            Err(format!("SIGTERM ended it with {code:?} instead of 0"))
        }
    }

    fn crash(&mut self) -> Step {
        let service = self.service.take().ok_or("the service does not run")?;
        self.log.push_str(&service.crash().stderr);
        Ok(())
    }

    fn end_service(&mut self) {
        if self.service.is_some() {
            let _the_failure_is_told_already = self.stop();
        }
    }

    fn command(&mut self, verb: &[&str], code: &str) -> Step {
        let root = self.root.display().to_string();
        let mut args = verb.to_vec();
        args.push(&root);
        self.finish(&args, code)
    }

    fn finish(&mut self, args: &[&str], code: &str) -> Step {
        let finished = process::mailroot(&self.place.join("notes"), args);
        self.log.push_str(&finished.stderr);
        self.out = finished.stdout;
        let wanted: i32 = code.parse().map_err(|_| format!("{code} is no exit code"))?;
        if finished.code == Some(wanted) {
            return Ok(());
        }
        Err(format!(
            "exit {:?} instead of {wanted}; {}{}",
            finished.code, self.out, finished.stderr
        ))
    }

    fn wait(&self, condition: &[&str]) -> Step {
        let (condition, within) = match condition {
            [head @ .., "within", time] => {
                let seconds = time
                    .trim_end_matches('s')
                    .parse()
                    .map_err(|_| format!("{time}: like 30s"))?;
                (head, Duration::from_secs(seconds))
            }
            all => (all, PATIENCE),
        };
        let holds = self.condition(condition)?;
        if holds_within(within, || holds(self)) {
            return Ok(());
        }
        Err(format!(
            "not within {within:?}; the tree:\n{}",
            tree::listing(&self.root)
        ))
    }

    fn condition(&self, words: &[&str]) -> Result<Condition, String> {
        let number = |n: &str| n.parse::<usize>().map_err(|_| format!("{n} is no number"));
        Ok(match words {
            ["queue-empty"] => Box::new(|run| {
                tree::files(&run.root, "Pickup").is_empty() && tree::files(&run.root, "Queue").is_empty()
            }),
            ["accepted", n] => {
                let n = number(n)? as u64;
                Box::new(move |run| run.hosts.iter().map(|h| h.counts().messages).sum::<u64>() >= n)
            }
            ["connections", n] => {
                let n = number(n)? as u64;
                Box::new(move |run| run.hosts.iter().map(|h| h.counts().connections).sum::<u64>() >= n)
            }
            ["commands", n] => {
                let n = number(n)? as u64;
                Box::new(move |run| run.hosts.iter().map(|h| h.counts().commands).sum::<u64>() >= n)
            }
            ["drop", n] => {
                let n = number(n)?;
                Box::new(move |run| tree::count(&run.root, "Drop", "EML") >= n)
            }
            ["badmail", n] => {
                let n = number(n)?;
                Box::new(move |run| tree::count(&run.root, "Badmail", "BAD") >= n)
            }
            ["deferred", n] => {
                let n = number(n)?;
                Box::new(move |run| run.deferred() >= n)
            }
            ["log", ..] => {
                let text = words[1..].join(" ");
                Box::new(move |run| run.whole_log().contains(&text))
            }
            _ => return Err(format!("{} is no condition", words.join(" "))),
        })
    }

    /// Waiting messages that were tried: `ID.EML` with an ENV beside it.
    fn deferred(&self) -> usize {
        let waiting = tree::with_extension(&self.root, "Queue", "EML");
        let tried = |p: &&PathBuf| !p.to_string_lossy().contains('@') && p.with_extension("ENV").exists();
        waiting.iter().filter(tried).count()
    }

    fn each(&self, pattern: &str, deed: impl Fn(&Path, &Path) -> std::io::Result<()>) -> Step {
        let files = tree::glob(&self.root, pattern);
        if files.is_empty() {
            return Err(format!(
                "no file is {pattern}; the tree:\n{}",
                tree::listing(&self.root)
            ));
        }
        files.iter().try_for_each(|file| words(deed(&self.root, file)))
    }

    fn talk(&mut self, file: &str, host: usize) -> Step {
        let script = self.script(file);
        let host = self.hosts.get(host).ok_or("there is no host2.talk")?;
        if let Some(word) = &script.certificate {
            host.use_tls(Some(self.authority.by_word(word, &HOST_NAMES)));
        }
        host.follow(script);
        Ok(())
    }

    fn dns_mood(&self, mood: &str) -> Step {
        let dns = self.dns.as_ref().ok_or("there is no zone")?;
        dns.fail(mood == "fails");
        dns.silence(mood == "silent");
        if matches!(mood, "fails" | "silent" | "answers") {
            Ok(())
        } else {
            Err("fails, silent or answers".into())
        }
    }

    fn see(&self, what: &str, step: &str, verb: &str, wanted: bool) -> Step {
        let text = step.split_once(verb).map_or("", |(_, text)| text);
        let seen = self.look(what)?;
        if seen.contains(text) == wanted {
            return Ok(());
        }
        Err(format!("this is what is to be seen:\n{}", indent(&seen)))
    }

    fn expect(&self, whats: &[&str]) -> Step {
        let mut wrong = String::new();
        for &what in whats {
            // `tree-2` is the tree at another moment
            let kind = what.split_once('-').map_or(what, |(kind, _)| kind);
            let seen = self.look(kind)?;
            let file = self.folder.join("expect").join(what);
            if self.update {
                words(fs::create_dir_all(self.folder.join("expect")))?;
                words(fs::write(&file, &seen))?;
                continue;
            }
            match fs::read_to_string(&file) {
                Ok(expected) if expected == seen => {}
                Ok(expected) => {
                    let _ = write!(
                        wrong,
                        "expect/{what} differs (- expected, + seen):\n{}",
                        diff(&expected, &seen)
                    );
                }
                Err(_) => {
                    let _ = write!(
                        wrong,
                        "expect/{what} is missing; UPDATE_EXPECT=1 writes:\n{}",
                        indent(&seen)
                    );
                }
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// What is there to be seen, in stable words.
    pub fn look(&self, what: &str) -> Result<String, String> {
        let known = &self.known;
        Ok(match what {
            "accepted" => self.all_accepted(),
            "tree" => tree::listing(&self.root),
            "drop" => self.contents("Drop", "EML", |t| known.message(t)),
            "queue" => self.contents("Queue", "EML", |t| known.message(t)),
            "bad" => self.contents("Badmail", "BAD", |t| known.message(t)),
            "bdr" => self.contents("Badmail", "BDR", |t| known.note(t)),
            "bdp" => self.contents("Badmail", "BDP", |t| known.note(t)),
            "env" => self.notes("ENV"),
            "ltr" => self.notes("LTR"),
            "rtr" => self.notes("RTR"),
            "out" => known.note(&self.out),
            "log" => {
                let log = known.note(&self.whole_log());
                let mut lines: Vec<&str> = log.lines().collect();
                lines.sort_unstable();
                lines.iter().map(|line| format!("{line}\n")).collect()
            }
            "questions" => {
                let asked: BTreeSet<String> = self.dns.iter().flat_map(DnsServer::questions).collect();
                asked.iter().map(|q| format!("{q}\n")).collect()
            }
            _ => return Err(format!("{what} is nothing to look at")),
        })
    }

    fn whole_log(&self) -> String {
        format!(
            "{}{}",
            self.log,
            self.service.as_ref().map(Running::stderr).unwrap_or_default()
        )
    }

    /// Files of Queue that are text with LF line ends.
    fn notes(&self, extension: &str) -> String {
        let files = tree::with_extension(&self.root, "Queue", extension);
        let shown = files.iter().map(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let text = fs::read_to_string(file).unwrap_or_default();
            format!(
                "== Queue/{}\n{}",
                super::stable::file_name(&name),
                self.known.note(&text)
            )
        });
        let mut all: Vec<String> = shown.collect();
        all.sort();
        all.concat()
    }

    fn contents(&self, folder: &str, extension: &str, stable: impl Fn(&str) -> String) -> String {
        let files = tree::with_extension(&self.root, folder, extension);
        let shown = |file: &PathBuf| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let bytes = fs::read(file).unwrap_or_default();
            format!(
                "== {folder}/{}\n{}",
                super::stable::file_name(&name),
                stable(&text(&bytes))
            )
        };
        let mut all: Vec<String> = files.iter().map(shown).collect();
        all.sort();
        all.concat()
    }

    fn all_accepted(&self) -> String {
        let mut all = Vec::new();
        for (i, host) in self.hosts.iter().enumerate() {
            all.extend(
                host.accepted()
                    .iter()
                    .map(|m| format!("== host {}\n{}", i + 1, accepted(m))),
            );
        }
        let mut all: Vec<String> = all.iter().map(|m| self.known.message(m)).collect();
        all.sort();
        if all.is_empty() {
            "(nothing)\n".to_owned()
        } else {
            all.concat()
        }
    }
}

fn words<T>(result: std::io::Result<T>) -> Result<T, String> {
    result.map_err(|e| e.to_string())
}

/// A message as the host got it: the dialogue that counts, then the content.
pub fn accepted(message: &Accepted) -> String {
    let greeting = if message.esmtp { "EHLO" } else { "HELO" };
    let tls = if message.tls { " under TLS" } else { "" };
    let mut out = format!("{greeting} {}{tls}\n", message.helo);
    if let Some(user) = &message.auth_user {
        out.push_str(&format!("AUTH {user}\n"));
    }
    let parameters = |text: &str| {
        if text.is_empty() {
            String::new()
        } else {
            format!(" {text}")
        }
    };
    out.push_str(&format!(
        "MAIL FROM:<{}>{}\n",
        message.sender,
        parameters(&message.sender_parameters)
    ));
    for recipient in &message.recipients {
        out.push_str(&format!(
            "RCPT TO:<{}>{}\n",
            recipient.address,
            parameters(&recipient.parameters)
        ));
    }
    out.push_str(if message.chunking { "BDAT\n" } else { "DATA\n" });
    out + &text(&message.content)
}

/// Bytes as text: CRLF is a line end, everything else that does not show is escaped.
pub fn text(bytes: &[u8]) -> String {
    let lossy: String = bytes
        .utf8_chunks()
        .map(|chunk| {
            let bad: String = chunk.invalid().iter().map(|b| format!("\\x{b:02x}")).collect();
            chunk.valid().to_owned() + &bad
        })
        .collect();
    let lines = lossy.replace("\r\n", "\u{0}");
    let mut out = String::new();
    for c in lines.chars() {
        match c {
            '\u{0}' => out.push('\n'),
            '\t' => out.push(c),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    if !out.ends_with('\n') && !out.is_empty() {
        out.push_str("\\ no line end\n");
    }
    out
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  | {line}\n")).collect()
}

/// A line diff by longest common subsequence; texts here are short.
pub fn diff(old: &str, new: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    if a.len().saturating_mul(b.len()) > 4_000_000 {
        return format!(
            "{} lines expected, {} seen: too many to compare\n",
            a.len(),
            b.len()
        );
    }
    let mut common = vec![vec![0u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut out = String::new();
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            out.push_str(&format!("    {}\n", a[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < a.len() && (j == b.len() || common[i + 1][j] >= common[i][j + 1]) {
            out.push_str(&format!("  - {}\n", a[i]));
            i += 1;
        } else {
            out.push_str(&format!("  + {}\n", b[j]));
            j += 1;
        }
    }
    out
}
