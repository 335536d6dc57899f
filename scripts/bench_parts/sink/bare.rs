//! The bare loops: what this machine and this host give at best, with nothing promised.
//!
//! A crash loses their mail or sends it twice. They are the bound that `mailroot` is measured against, with the same
//! number of connections and the same use of DATA or BDAT. With a journal they also sync a record before each unlink.

use crate::{Options, at_once, poisoned};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Messages in one group of commands and content, where BDAT allows it; unlinked after their replies.
const WINDOW: usize = 16;
/// As long as that many bytes wait, no further message joins the group.
const GROUP_BYTES: usize = 256 * 1024;
/// Names that a thread takes from the list at a time.
const NAMES: usize = 64;
/// One read and one write of a plain copy.
const COPIED: usize = 256 * 1024;

const ENVELOPE: &[u8] = b"MAIL FROM:<bench@sender.example>\r\nRCPT TO:<sink@receiver.example>\r\n";

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

impl Folder {
    fn open(pickup: &Path, work: &Path) -> io::Result<Self> {
        Ok(Self {
            pickup: pickup.to_owned(),
            work: work.to_owned(),
            entries: Mutex::new(std::fs::read_dir(pickup)?),
        })
    }

    fn name(&self, mine: &mut Vec<OsString>, at_a_time: usize) -> io::Result<Option<OsString>> {
        if mine.is_empty() {
            let mut entries = self.entries.lock().map_err(poisoned)?;
            let names = entries.by_ref().take(at_a_time).flatten();
            mine.extend(names.map(|entry| entry.file_name()));
        }
        Ok(mine.pop())
    }
}

impl Supply for Folder {
    fn next(&self, mine: &mut Vec<OsString>) -> io::Result<Option<(Vec<u8>, Option<PathBuf>)>> {
        let Some(name) = self.name(mine, NAMES)? else {
            return Ok(None);
        };
        let from = self.pickup.join(&name);
        let mut bytes = Vec::with_capacity(2048);
        File::open(&from)?.read_to_end(&mut bytes)?;
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
        let mut left = self.left.lock().map_err(poisoned)?;
        if *left == 0 {
            return Ok(None);
        }
        *left -= 1;
        Ok(Some((self.message.clone(), None)))
    }
}

/// From a folder, by way of another.
pub fn bare(pickup: &Path, work: &Path, port: &str, options: &Options) -> io::Result<()> {
    let folder = Folder::open(pickup, work)?;
    if !options.journal {
        return send_all(&folder, port, options, None);
    }
    let journal = File::create_new(work.join("journal"))?;
    let (accepted, to_write) = channel();
    std::thread::scope(|scope| {
        let keeper = scope.spawn(move || keep_journal(journal, &to_write));
        let sent = send_all(&folder, port, options, Some(accepted));
        keeper.join().map_err(poisoned)??;
        sent
    })
}

/// From memory.
pub fn flood(size: &str, count: &str, port: &str, options: &Options) -> io::Result<()> {
    let line = b"what the sink alone takes, so that nobody measures it for the sender\r\n";
    let size = size.parse().map_err(io::Error::other)?;
    let mut message = b"Subject: flood\r\n\r\n".to_vec();
    while message.len() < size {
        message.extend_from_slice(line);
    }
    let left = Mutex::new(count.parse().map_err(io::Error::other)?);
    send_all(&Memory { message, left }, port, options, None)
}

/// Files as they are, which must be as the wire wants them.
pub fn copy(folder: &Path, port: &str, options: &Options) -> io::Result<()> {
    let folder = Folder::open(folder, folder)?;
    at_once(options.connections, || {
        let mut line = Line::open(port.parse().map_err(io::Error::other)?)?;
        let (mut names, mut buffer) = (Vec::new(), vec![0; COPIED]);
        while let Some(name) = folder.name(&mut names, 1)? {
            line.output.write_all(ENVELOPE)?;
            line.output.write_all(b"DATA\r\n")?;
            line.replies(2, b'2')?;
            line.replies(1, b'3')?;
            let mut file = File::open(folder.pickup.join(name))?;
            loop {
                let n = file.read(&mut buffer)?;
                if n == 0 {
                    break;
                }
                line.output.write_all(buffer.get(..n).unwrap_or_default())?;
            }
            line.output.write_all(b".\r\n")?;
            line.replies(1, b'2')?;
        }
        line.output.write_all(b"QUIT\r\n")
    })
}

/// One record for all that wait, one sync, then their unlinks; the senders go on meanwhile.
fn keep_journal(mut journal: File, accepted: &Receiver<PathBuf>) -> io::Result<()> {
    while let Ok(first) = accepted.recv() {
        let group: Vec<PathBuf> = std::iter::once(first).chain(accepted.try_iter()).collect();
        let mut record = Vec::new();
        for file in &group {
            record.extend_from_slice(file.as_os_str().as_encoded_bytes());
            record.push(b'\n');
        }
        journal.write_all(&record)?;
        journal.sync_data()?;
        for file in group {
            std::fs::remove_file(file)?;
        }
    }
    Ok(())
}

fn send_all(
    supply: &dyn Supply,
    port: &str,
    options: &Options,
    journal: Option<Sender<PathBuf>>,
) -> io::Result<()> {
    let port: u16 = port.parse().map_err(io::Error::other)?;
    let journal = Mutex::new(journal);
    at_once(options.connections, || {
        let done = Done(journal.lock().map_err(poisoned)?.clone());
        let mut line = Line::open(port)?;
        if options.bdat {
            line.by_bdat(supply, &done)
        } else if options.lockstep {
            line.in_lockstep(supply, &done)
        } else {
            line.by_data(supply, &done)
        }
    })?;
    // The journal ends when the last sender is gone.
    journal.lock().map_err(poisoned)?.take();
    Ok(())
}

/// What follows the 250.
struct Done(Option<Sender<PathBuf>>);

impl Done {
    fn with(&self, file: Option<PathBuf>) -> io::Result<()> {
        match (&self.0, file) {
            (_, None) => Ok(()),
            (None, Some(file)) => std::fs::remove_file(file),
            (Some(journal), Some(file)) => journal.send(file).map_err(io::Error::other),
        }
    }
}

/// One connection.
struct Line {
    input: BufReader<TcpStream>,
    output: TcpStream,
    text: String,
}

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

    /// Each command waits for the reply to the one before, as simple programs do.
    fn in_lockstep(&mut self, supply: &dyn Supply, done: &Done) -> io::Result<()> {
        let (mut names, mut group) = (Vec::new(), Vec::new());
        while let Some((bytes, file)) = supply.next(&mut names)? {
            for command in ENVELOPE.split_inclusive(|&b| b == b'\n') {
                self.output.write_all(command)?;
                self.replies(1, b'2')?;
            }
            self.output.write_all(b"DATA\r\n")?;
            self.replies(1, b'3')?;
            group.clear();
            wire_form(content(&bytes), true, &mut group);
            group.extend_from_slice(b".\r\n");
            self.output.write_all(&group)?;
            self.replies(1, b'2')?;
            done.with(file)?;
        }
        self.output.write_all(b"QUIT\r\n")
    }

    /// Content and the next envelope share a write; DATA's own reply is what limits it (RFC 2920).
    fn by_data(&mut self, supply: &dyn Supply, done: &Done) -> io::Result<()> {
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
            done.with(file)?;
            now = next;
        }
        self.output.write_all(b"QUIT\r\n")
    }

    /// Several messages share a write, and their replies a read.
    fn by_bdat(&mut self, supply: &dyn Supply, done: &Done) -> io::Result<()> {
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
            for file in sent.drain(..) {
                done.with(file)?;
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
