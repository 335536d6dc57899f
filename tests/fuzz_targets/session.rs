//! The target for a whole session of the listener: commands in any order, over a socket. Not here: TLS, and AUTH, whose
//! hashes would take all the time.

use super::letters::rules;
use crate::config::{Config, DotsSetting};
use crate::mailroot::tree;
use crate::pickup::{Completeness, read};
use crate::plugins::Listeners;
use crate::stop::Stop;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

/// What takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);
const QUEUED: &[u8] = b"250 2.6.0 <";
/// Of a message's ID.
const ID: usize = 26;

/// One listener for all inputs.
struct Site {
    _listeners: Listeners,
    address: SocketAddr,
    pickup: PathBuf,
}

static SITE: LazyLock<Mutex<Site>> = LazyLock::new(|| Mutex::new(Site::open()));

impl Site {
    fn open() -> Self {
        let memory = Path::new("/dev/shm");
        let room = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let root = room.join(format!("mailroot-session-{}", std::process::id()));
        let _of_a_former_process = fs::remove_dir_all(&root);
        fs::create_dir(&root).unwrap();
        // Somebody else may take the port in between.
        (0..20)
            .find_map(|_| {
                let free = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = free.local_addr().unwrap();
                drop(free);
                let text = format!(
                    "[domains]\ndefault = \"local.test\"\n[listener]\nenabled = true\naddress = \"127.0.0.1\"\nport = {}\n",
                    address.port()
                );
                let config = Config::parse(&text, &root, "mail.test").unwrap();
                tree::make(&config.folders).unwrap();
                let listeners = Listeners::start(&config, Stop::default()).ok()?;
                Some(Self {
                    _listeners: listeners,
                    address,
                    pickup: config.folders.pickup,
                })
            })
            .expect("no port is free")
    }
}

/// Gives how many messages were promised.
pub fn session(data: &[u8]) -> usize {
    let site = SITE.lock().unwrap_or_else(PoisonError::into_inner);
    let shown = || data.escape_ascii();
    let mut tcp = TcpStream::connect(site.address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = Vec::new();
    // Who talks before the greeting is turned away.
    while !said.ends_with(b"\n") {
        let mut byte = [0];
        assert_eq!(tcp.read(&mut byte).unwrap(), 1, "no greeting");
        said.extend(byte);
    }
    // The other side may have ended before all is said.
    let _ = tcp.write_all(data).and_then(|()| tcp.shutdown(Shutdown::Write));
    // What was said last may be lost when the connection breaks off.
    let broke_off = match tcp.read_to_end(&mut said) {
        Ok(_) => false,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => true,
        Err(error) => panic!("{error}: {}", shown()),
    };
    let mut promised = BTreeSet::new();
    for line in said.split_inclusive(|&byte| byte == b'\n') {
        let is_line = line.len() > 5
            && line[..3].iter().all(u8::is_ascii_digit)
            && matches!(line[3], b' ' | b'-')
            && line.ends_with(b"\r\n")
            && !line[..line.len() - 2].iter().any(u8::is_ascii_control);
        assert!(is_line, "{}\n{}", line.escape_ascii(), shown());
        if let Some(id) = line.strip_prefix(QUEUED) {
            let id = std::str::from_utf8(&id[..ID]).unwrap();
            assert!(promised.insert(format!("{id}.EML")), "twice: {}", shown());
        }
    }
    let mut there = BTreeSet::new();
    for entry in fs::read_dir(&site.pickup).unwrap() {
        let path = entry.unwrap().path();
        let file = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        there.insert(path.file_name().unwrap().to_str().unwrap().to_owned());
        let reading = read(&file.as_slice(), &rules(DotsSetting::Auto)).unwrap();
        assert_eq!(reading.completeness, Completeness::Complete, "{}", shown());
        let submission = reading.when_final();
        let submission = submission.unwrap_or_else(|why| panic!("{why:?}\n{}", shown()));
        for recipient in &submission.envelope.recipients {
            // Nobody may relay, so nobody else can have been taken.
            let domain = recipient.address.domain();
            assert!(
                domain.eq_ignore_ascii_case("local.test") || domain.is_empty(),
                "{recipient:?}\n{}",
                shown()
            );
        }
    }
    assert!(
        there == promised || broke_off && there.is_superset(&promised),
        "{there:?} {promised:?}: {}",
        shown()
    );
    promised.len()
}
