//! What the system says of the DNS: its servers and its hosts file, read again when they change.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::Hosts;
use hickory_resolver::config::NameServerConfig;
use hickory_resolver::net::NetError;

use super::Pace;
use super::resolve::{Resolver, plain_words};

/// How often the system's files are looked at for changes.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Makes the resolver, and makes it anew when the system's files have changed: a service that starts before the
/// network, or a laptop that moves, needs no restart.
pub(super) struct Source {
    servers: Vec<SocketAddr>,
    pace: Pace,
    system: System,
    made: Option<Arc<Resolver>>,
    files: [Option<(SystemTime, u64)>; 2],
    looked: Option<Instant>,
}

impl Source {
    pub(super) fn new(servers: Vec<SocketAddr>, pace: Pace, system: System) -> Self {
        Self {
            servers,
            pace,
            system,
            made: None,
            files: [None, None],
            looked: None,
        }
    }

    /// The present resolver. While the files are unreadable, the former one goes on.
    pub(super) fn resolver(&mut self) -> Result<Arc<Resolver>, String> {
        if let Some(made) = &self.made
            && self.looked.is_some_and(|at| at.elapsed() < LOOK_AGAIN)
        {
            return Ok(Arc::clone(made));
        }
        self.looked = Some(Instant::now());
        let files = self.system.stamps();
        if let Some(made) = &self.made
            && self.files == files
        {
            return Ok(Arc::clone(made));
        }
        match (Resolver::new(&self.servers, self.pace, &self.system), &self.made) {
            (Ok(new), _) => {
                let new = Arc::new(new);
                self.files = files;
                self.made = Some(Arc::clone(&new));
                Ok(new)
            }
            (Err(why), Some(former)) => {
                // said once per change
                self.files = files;
                tracing::warn!("{why}; the former DNS servers stay in use");
                Ok(Arc::clone(former))
            }
            (Err(why), None) => Err(why),
        }
    }
}

/// Where the system keeps what it knows.
#[derive(Debug, Clone)]
pub(super) struct System {
    /// Looked at for changes, and named when nothing can be read.
    pub(super) resolv_conf: PathBuf,
    pub(super) hosts: PathBuf,
    /// Reads the servers, by whatever way the operating system has.
    pub(super) servers: fn(&Path) -> Result<Vec<NameServerConfig>, NetError>,
}

impl System {
    pub(super) fn this() -> Self {
        Self {
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            hosts: PathBuf::from("/etc/hosts"),
            servers: |_| {
                let (config, _) = hickory_resolver::system_conf::read_system_conf()?;
                Ok(config.name_servers().to_vec())
            },
        }
    }

    pub(super) fn name_servers(&self) -> Result<Vec<NameServerConfig>, String> {
        (self.servers)(&self.resolv_conf).map_err(|e| {
            let path = self.resolv_conf.display();
            format!(
                "no DNS server is known: {path}: {}; repair it or set dns.servers",
                plain_words(&e)
            )
        })
    }

    /// Without the file there are no names in it.
    pub(super) fn known_hosts(&self) -> Hosts {
        let mut known = Hosts::default();
        let read = File::open(&self.hosts).and_then(|file| known.read_hosts_conf(file));
        if let Err(e) = read
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("{}: {e}", self.hosts.display());
        }
        known
    }

    fn stamps(&self) -> [Option<(SystemTime, u64)>; 2] {
        [&self.resolv_conf, &self.hosts].map(|path| {
            let about = std::fs::metadata(path).ok()?;
            Some((about.modified().ok()?, about.len()))
        })
    }
}

#[cfg(test)]
impl Source {
    pub(super) fn forget_the_look(&mut self) {
        self.looked = None;
    }
}
