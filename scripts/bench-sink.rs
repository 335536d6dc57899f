//! The other side of `scripts/bench`: an SMTP host that counts and discards, and the bare loop that shows what this
//! machine gives at best.
//!
//! ```text
//! sink serve [--chunking] [--delay MS]     prints "port N"; on stdin "wait N SECONDS" and "count", each answered in
//!                                          one line; ends with stdin
//! sink bare PICKUP WORK PORT [--bdat] [--connections N]
//!                                          open, read, rename to WORK, send pipelined, unlink: nothing else
//! sink flood SIZE COUNT PORT [--bdat] [--connections N]
//!                                          the same without a disk: what the sink takes
//! ```
//!
//! Not here: the comparison, the table (`scripts/bench`). The bare loop keeps no promise: a crash loses its mail or
//! sends it twice. It is the bound that `mailroot` is measured against, with the same number of connections.

use mailroot::practice::{Host, Script};
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Messages in one group of commands and content, where BDAT allows it; unlinked after their replies.
const WINDOW: usize = 16;
/// As long as that many bytes wait, no further message joins the group.
const GROUP_BYTES: usize = 256 * 1024;
/// Names that a thread takes from the list at a time.
const NAMES: usize = 64;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let options = Options::of(&words);
    let plain: Vec<&str> = options.plain.iter().map(String::as_str).collect();
    let done = match plain.as_slice() {
        ["serve"] => serve(&options),
        ["bare", pickup, work, port] => bare(Path::new(pickup), Path::new(work), port, &options),
        ["flood", size, count, port] => flood(size, count, port, &options),
        _ => Err(io::Error::other(
            "usage: sink serve | bare PICKUP WORK PORT | flood SIZE COUNT PORT",
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sink: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Options {
    chunking: bool,
    bdat: bool,
    delay: Duration,
    connections: usize,
    plain: Vec<String>,
}

impl Options {
    fn of(words: &[String]) -> Self {
        let mut options = Self {
            connections: 2,
            ..Self::default()
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut number = || words.next().and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
            match word.as_str() {
                "--chunking" => options.chunking = true,
                "--bdat" => options.bdat = true,
                "--delay" => options.delay = Duration::from_millis(number().into()),
                "--connections" => options.connections = usize::try_from(number()).unwrap_or(1).max(1),
                _ => options.plain.push(word.clone()),
            }
        }
        options
    }
}

/// Counts and discards until stdin ends.
fn serve(options: &Options) -> io::Result<()> {
    let mut script = Script::new()
        .offering(&["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"])
        .discarding();
    script.reply_delay = options.delay;
    if options.chunking {
        script = script.also_offering("CHUNKING");
    }
    let host = Host::start(script)?;
    let mut out = io::stdout();
    writeln!(out, "port {}", host.port())?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["wait", count, seconds] = words.as_slice() {
            let count = count.parse().map_err(io::Error::other)?;
            wait(&host, count, seconds.parse().map_err(io::Error::other)?);
        }
        let counts = host.counts();
        writeln!(
            out,
            "messages {} bytes {} most_open {} commands {} violations {}",
            counts.messages,
            counts.bytes,
            counts.most_open,
            counts.commands,
            host.violations().len()
        )?;
    }
    if let Some(first) = host.violations().first() {
        eprintln!("sink: a sender broke the protocol: {first}");
    }
    Ok(())
}

/// Looks now and then instead of being woken by each message: the waiting must not cost the cores anything.
fn wait(host: &Host, count: u64, seconds: u64) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while host.counts().messages < count && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Where the next messages come from.
trait Supply: Sync {
    /// The next message with its leading block, and what to unlink once it is accepted.
    fn next(&self, mine: &mut Vec<OsString>) -> io::Result<Option<(Vec<u8>, Option<PathBuf>)>>;
}

struct Folder {
    pickup: PathBuf,
    work: PathBuf,
    entries: Mutex<std::fs::ReadDir>,
}

impl Supply for Folder {
    fn next(&self, mine: &mut Vec<OsString>) -> io::Result<Option<(Vec<u8>, Option<PathBuf>)>> {
        if mine.is_empty() {
            let mut entries = self
                .entries
                .lock()
                .map_err(|_| io::Error::other("a thread failed"))?;
            mine.extend(
                entries
                    .by_ref()
                    .take(NAMES)
                    .flatten()
                    .map(|entry| entry.file_name()),
            );
        }
        let Some(name) = mine.pop() else { return Ok(None) };
        let from = self.pickup.join(&name);
        let mut bytes = Vec::with_capacity(2048);
        std::fs::File::open(&from)?.read_to_end(&mut bytes)?;
        let to = self.work.join(&name);
        std::fs::rename(from, &to)?;
        Ok(Some((bytes, Some(to))))
    }
}

struct Memory {
    message: Vec<u8>,
    left: Mutex<u64>,
}

impl Supply for Memory {
    fn next(&self, _: &mut Vec<OsString>) -> io::Result<Option<(Vec<u8>, Option<PathBuf>)>> {
        let mut left = self
            .left
            .lock()
            .map_err(|_| io::Error::other("a thread failed"))?;
        if *left == 0 {
            return Ok(None);
        }
        *left -= 1;
        Ok(Some((self.message.clone(), None)))
    }
}

fn bare(pickup: &Path, work: &Path, port: &str, options: &Options) -> io::Result<()> {
    let folder = Folder {
        pickup: pickup.to_owned(),
        work: work.to_owned(),
        entries: Mutex::new(std::fs::read_dir(pickup)?),
    };
    send_all(&folder, port, options)
}

fn flood(size: &str, count: &str, port: &str, options: &Options) -> io::Result<()> {
    let line = b"what the sink alone takes, so that nobody measures it for the sender\r\n";
    let size = size.parse().map_err(io::Error::other)?;
    let mut message = b"Subject: flood\r\n\r\n".to_vec();
    while message.len() < size {
        message.extend_from_slice(line);
    }
    let left = Mutex::new(count.parse().map_err(io::Error::other)?);
    send_all(&Memory { message, left }, port, options)
}

fn send_all(supply: &dyn Supply, port: &str, options: &Options) -> io::Result<()> {
    let port: u16 = port.parse().map_err(io::Error::other)?;
    let ended = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..options.connections)
            .map(|_| {
                scope.spawn(|| {
                    let mut line = Line::open(port)?;
                    if options.bdat {
                        line.by_bdat(supply)
                    } else {
                        line.by_data(supply)
                    }
                })
            })
            .collect();
        senders
            .into_iter()
            .map(|sender| {
                sender
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("a thread failed")))
            })
            .collect::<Vec<_>>()
    });
    ended.into_iter().collect()
}

/// One connection.
struct Line {
    input: BufReader<TcpStream>,
    output: TcpStream,
    text: String,
}

const ENVELOPE: &[u8] = b"MAIL FROM:<bench@sender.example>\r\nRCPT TO:<sink@receiver.example>\r\n";

impl Line {
    fn open(port: u16) -> io::Result<Self> {
        let output = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        output.set_nodelay(true)?;
        let input = BufReader::new(output.try_clone()?);
        let mut line = Self {
            input,
            output,
            text: String::new(),
        };
        line.replies(1, b'2')?;
        line.output.write_all(b"EHLO bare.example\r\n")?;
        line.replies(1, b'2')?;
        Ok(line)
    }

    /// Content and the next envelope share a write; DATA's own reply is what limits it (RFC 2920).
    fn by_data(&mut self, supply: &dyn Supply) -> io::Result<()> {
        let (mut names, mut group) = (Vec::new(), Vec::new());
        let mut now = supply.next(&mut names)?;
        if now.is_some() {
            group.extend_from_slice(ENVELOPE);
            group.extend_from_slice(b"DATA\r\n");
            self.output.write_all(&group)?;
        }
        while let Some((bytes, file)) = now {
            // read and renamed while the host answers
            let next = supply.next(&mut names)?;
            self.replies(2, b'2')?;
            self.replies(1, b'3')?;
            group.clear();
            wire_form(content(&bytes), true, &mut group);
            group.extend_from_slice(b".\r\n");
            if next.is_some() {
                group.extend_from_slice(ENVELOPE);
                group.extend_from_slice(b"DATA\r\n");
            }
            self.output.write_all(&group)?;
            self.replies(1, b'2')?;
            if let Some(file) = file {
                std::fs::remove_file(file)?;
            }
            now = next;
        }
        self.output.write_all(b"QUIT\r\n")
    }

    /// Several messages share a write, and their replies a read.
    fn by_bdat(&mut self, supply: &dyn Supply) -> io::Result<()> {
        let (mut names, mut group, mut sent) = (Vec::new(), Vec::new(), Vec::new());
        let mut chunk = Vec::new();
        loop {
            group.clear();
            while sent.len() < WINDOW && group.len() < GROUP_BYTES {
                let Some((bytes, file)) = supply.next(&mut names)? else {
                    break;
                };
                chunk.clear();
                wire_form(content(&bytes), false, &mut chunk);
                group.extend_from_slice(ENVELOPE);
                write!(group, "BDAT {} LAST\r\n", chunk.len())?;
                group.extend_from_slice(&chunk);
                sent.push(file);
            }
            if sent.is_empty() {
                return self.output.write_all(b"QUIT\r\n");
            }
            self.output.write_all(&group)?;
            self.replies(3 * sent.len(), b'2')?;
            for file in sent.drain(..).flatten() {
                std::fs::remove_file(file)?;
            }
        }
    }

    fn replies(&mut self, count: usize, class: u8) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            self.text.clear();
            self.input.read_line(&mut self.text)?;
            if self.text.as_bytes().first() != Some(&class) {
                return Err(io::Error::other(format!("the sink said {:?}", self.text)));
            }
            if self.text.as_bytes().get(3) != Some(&b'-') {
                left -= 1;
            }
        }
        Ok(())
    }
}

/// Lines as SMTP wants them: CRLF, and for DATA a second period.
fn wire_form(content: &[u8], stuffed: bool, out: &mut Vec<u8>) {
    let mut rest = content;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = rest.get(..end).unwrap_or_default();
        if stuffed && line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        out.extend_from_slice(b"\r\n");
        rest = rest.get(end + 1..).unwrap_or_default();
    }
}

/// What follows the leading block of the bench's own files.
fn content(file: &[u8]) -> &[u8] {
    let mut rest = file;
    while rest.starts_with(b"x-") {
        let end = rest
            .iter()
            .position(|&b| b == b'\n')
            .map_or(rest.len(), |at| at + 1);
        rest = rest.get(end..).unwrap_or_default();
    }
    rest
}
