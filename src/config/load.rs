//! Finds the settings file of a mailroot and reads it.
//!
//! Reads that one file (and the machine's name); no file is the same as an empty one, unless it was asked for.

use super::parse::{self, Place};
use super::{Config, ConfigError, machine};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The settings file inside a mailroot.
pub const SETTINGS_FILE: &str = "mailroot.toml";

/// A hand-written file is a few KiB; what is larger is not one.
const MAX_SETTINGS: u64 = 1 << 20;

/// Settings, and what to tell the person who wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The file they were read from; `None`: there is none, all values are defaults.
    pub file: Option<PathBuf>,
    /// One sentence each: allowed, but probably not what was meant.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// Reads `config_file`, or `mailroot.toml` in `dir` when none is given (that one may be missing).
    ///
    /// Relative folders are meant from `dir`; relative password, token and CA files from the settings file's folder.
    pub fn read(dir: &Path, config_file: Option<&Path>) -> Result<Self, ConfigError> {
        let file = config_file.map_or_else(|| dir.join(SETTINGS_FILE), Path::to_owned);
        let fail =
            |doing: &str, error: &io::Error| ConfigError::whole_file(&file, format!("{doing}: {error}"));
        let base =
            std::path::absolute(dir).map_err(|e| fail("the mailroot's full path cannot be told", &e))?;
        let beside = file
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .map_or_else(|| ".".into(), Path::to_owned);
        let found = match read_bounded(&file) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound && config_file.is_none() => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ConfigError::whole_file(&file, "there is no such settings file"));
            }
            Err(error) => return Err(fail("this settings file cannot be read", &error)),
        };
        let (hostname, unusable_name) = machine::hostname();
        let text = found.as_deref().map_or(Ok(""), |bytes| as_text(&file, bytes))?;
        let (config, mut warnings) = parse::parse(
            text,
            &Place {
                file: &file,
                dir: &base,
                beside: &beside,
            },
            &hostname,
        )?;
        if config.server.hostname == machine::FALLBACK_HOSTNAME {
            warnings.extend(unusable_name);
        }
        Ok(Self {
            config,
            file: found.is_some().then_some(file),
            warnings,
        })
    }
}

impl Config {
    /// [`Loaded::read`], with the warnings sent to the log.
    pub fn load(dir: &Path, config_file: Option<&Path>) -> Result<Self, ConfigError> {
        let loaded = Loaded::read(dir, config_file)?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        Ok(loaded.config)
    }

    /// Settings from a text, on a machine of this name, for a mailroot at `dir`; an empty text gives the defaults.
    pub fn parse(text: &str, dir: &Path, hostname: &str) -> Result<Self, ConfigError> {
        let place = Place {
            file: Path::new(SETTINGS_FILE),
            dir,
            beside: dir,
        };
        parse::parse(text, &place, hostname).map(|(config, _)| config)
    }
}

fn read_bounded(file: &Path) -> io::Result<Vec<u8>> {
    if std::fs::metadata(file).is_ok_and(|meta| !meta.is_file()) {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(file)?
        .take(MAX_SETTINGS + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SETTINGS {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(bytes)
}

fn as_text<'a>(file: &Path, bytes: &'a [u8]) -> Result<&'a str, ConfigError> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(ConfigError::whole_file(
            file,
            "it is UTF-16 text; save it as UTF-8",
        ));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + good.iter().filter(|b| **b == b'\n').count();
        ConfigError::whole_file(
            file,
            format!("line {line} holds a byte that is not UTF-8 text; save it as UTF-8"),
        )
    })
}
