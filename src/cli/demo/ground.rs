//! What the demo stands on: a folder of its own, settings in it, and "the internet".

use super::samples::Sample;
use crate::cli::Exit;
use crate::config::SETTINGS_FILE;
use crate::mail::MessageId;
use crate::mailroot::tree;
use crate::practice::Host;
use crate::practice::script::{Rule, Script, Step, When};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The name of this mail server, and its default domain.
pub const HOSTNAME: &str = "web1.example.com";
/// A second local domain.
pub const ALIAS: &str = "intranet.example.com";

/// Folder, settings and host.
pub struct Ground {
    /// The mailroot.
    pub dir: PathBuf,
    /// Plays the internet.
    pub internet: Host,
}

impl Ground {
    /// Makes all three.
    pub fn prepare(dir: Option<PathBuf>) -> Result<Self, (Exit, String)> {
        let dir = match dir {
            Some(dir) => use_folder(dir)?,
            None => temporary_folder()?,
        };
        let internet = Host::start(internet()).map_err(|error| {
            (
                Exit::System,
                format!("cannot listen on 127.0.0.1 for the SMTP host: {error}"),
            )
        })?;
        let text = settings(internet.port());
        tree::write_new(&dir.join(SETTINGS_FILE), &text)
            .map_err(|error| (Exit::CannotCreate, error.to_string()))?;
        Ok(Self { dir, internet })
    }

    /// Does what an application does: writes a file.
    pub fn put(&self, sample: &Sample) -> Result<(), (Exit, String)> {
        let path = self.dir.join("Pickup").join(sample.name);
        std::fs::write(&path, sample.bytes)
            .map_err(|error| (Exit::Disk, format!("cannot write {}: {error}", path.display())))
    }
}

fn use_folder(dir: PathBuf) -> Result<PathBuf, (Exit, String)> {
    let fail = |why: String| (Exit::CannotCreate, format!("{}: {why}", dir.display()));
    let mut entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(&dir).map_err(|error| fail(format!("it cannot be made: {error}")))?;
            return Ok(dir);
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(fail("it is not a folder; name a new or an empty one".to_owned()));
        }
        Err(error) => return Err(fail(format!("it cannot be read: {error}"))),
    };
    if entries.next().is_some() {
        return Err(fail(
            "it is not empty; the demo wants a new or an empty folder".to_owned(),
        ));
    }
    Ok(dir)
}

/// A new one that only we may enter.
fn temporary_folder() -> Result<PathBuf, (Exit, String)> {
    let place = std::env::temp_dir();
    let mut tries = 0;
    loop {
        // the last characters of an ID are random
        let random: String = MessageId::generate().to_string().chars().skip(22).collect();
        let dir = place.join(format!("mailroot-demo-{random}"));
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < 100 => tries += 1,
            Err(error) => {
                let why = format!(
                    "cannot make {}: {error}; name a folder: mailroot demo DIR",
                    dir.display()
                );
                return Err((Exit::CannotCreate, why));
            }
        }
    }
}

/// A host that accepts mail for everyone, with three exceptions.
fn internet() -> Script {
    let mut script = Script::new();
    script.name = "mx.example.net".to_owned();
    let to = |pattern: &str| Rule::at(Step::Rcpt).matching(pattern);
    script
        .rule(to("nobody@*").reply(550, "5.1.1 There is no mailbox of that name here"))
        .rule(
            to("*@greylist.example")
                .when(When::First(1))
                .reply(451, "4.7.1 Greylisted, please come again"),
        )
        .rule(to("*@busy.example").reply(452, "4.2.2 The mailbox is full"))
}

fn settings(port: u16) -> String {
    format!(
        "# Written by `mailroot demo`. `mailroot init` writes a file that explains every setting.\n\
         \n\
         [server]\n\
         hostname = \"{HOSTNAME}\"          # also the default domain: mail for it goes to Drop\n\
         \n\
         [domains]\n\
         aliases = [\"{ALIAS}\"]     # a second local domain\n\
         \n\
         [delivery]\n\
         # The SMTP host of the demo; it ended with the demo. Without this line mail goes to the MX hosts.\n\
         smart_host = \"[127.0.0.1]:{port}\"\n\
         retry = [\"1s\", \"1h\"]                 # default: 1m, 1m, 1m, 15m, 30m, 1h, 4h\n\
         \n\
         [pickup]\n\
         incomplete_grace = \"1s\"              # default: 60s; how long half a file may take to become whole\n\
         \n\
         [log]\n\
         level = \"debug\"                      # default: info\n\
         file = true                          # default: false; standard error only\n"
    )
}

/// A path as an argument of a shell command.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_settings_are_settings() {
        let config = Config::parse(&settings(2525), Path::new("/m"), "h.example").unwrap();
        assert_eq!(config.domains.default, HOSTNAME);
        assert_eq!(config.domains.aliases, [ALIAS]);
        assert_eq!(
            config.delivery.smart_host.first().and_then(|host| host.port),
            Some(2525)
        );
    }

    #[test]
    fn a_shell_reads_one_argument() {
        assert_eq!(quoted(Path::new("/tmp/a-b_1.2")), "/tmp/a-b_1.2");
        assert_eq!(quoted(Path::new("/tmp/it's here")), "'/tmp/it'\\''s here'");
    }

    #[test]
    fn only_a_new_or_an_empty_folder_is_used() {
        let dir = tempfile::tempdir().unwrap();
        assert!(use_folder(dir.path().to_owned()).is_ok());
        assert!(use_folder(dir.path().join("a/b")).is_ok());
        let (exit, why) = use_folder(dir.path().to_owned()).unwrap_err();
        assert_eq!(exit, Exit::CannotCreate);
        assert!(why.contains("not empty"), "{why}");
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(use_folder(file).unwrap_err().1.contains("not a folder"));
    }
}
