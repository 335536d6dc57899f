//! Which mailroot is meant, and its settings.

use crate::config::{ConfigError, Loaded, LogFormat};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The mailroot when nothing says which.
pub const DEFAULT_DIR: &str = "./mailroot";

/// A mailroot and where its settings are: what SIGHUP needs to read them again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The mailroot.
    pub dir: PathBuf,
    /// `--config`; `None`: `mailroot.toml` in `dir`, if it is there.
    pub config_file: Option<PathBuf>,
    /// `--log`: comes before the settings.
    pub log_format: Option<LogFormat>,
}

impl Place {
    /// DIR, else `$MAILROOT`, else the folder of `--config`, else `./mailroot`.
    pub fn choose(
        dir: Option<PathBuf>,
        variable: Option<OsString>,
        config_file: Option<PathBuf>,
        log_format: Option<LogFormat>,
    ) -> Self {
        let of_config = || {
            let folder = config_file.as_deref()?.parent()?;
            Some(if folder.as_os_str().is_empty() {
                PathBuf::from(".")
            } else {
                folder.to_owned()
            })
        };
        let from_variable = variable.filter(|value| !value.is_empty()).map(PathBuf::from);
        let dir = dir
            .or(from_variable)
            .or_else(of_config)
            .unwrap_or_else(|| DEFAULT_DIR.into());
        Self {
            dir,
            config_file,
            log_format,
        }
    }

    /// Reads the settings; `--log` is put over them.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let mut loaded = Loaded::read(&self.dir, self.config_file.as_deref())?;
        if let Some(format) = self.log_format {
            loaded.config.log.format = format;
        }
        Ok(loaded)
    }

    /// Where the settings file is, or would be.
    pub fn settings_file(&self) -> PathBuf {
        self.config_file
            .clone()
            .unwrap_or_else(|| self.dir.join(crate::config::SETTINGS_FILE))
    }

    /// As an argument of a command that we advise.
    pub fn shown(&self) -> std::path::Display<'_> {
        Path::display(&self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_wins() {
        let dir = |dir: Option<&str>, variable: Option<&str>, config: Option<&str>| {
            Place::choose(
                dir.map(Into::into),
                variable.map(Into::into),
                config.map(Into::into),
                None,
            )
            .dir
        };
        assert_eq!(dir(None, None, None), Path::new("./mailroot"));
        assert_eq!(dir(None, Some(""), None), Path::new("./mailroot"));
        assert_eq!(dir(None, Some("/v"), Some("/c/m.toml")), Path::new("/v"));
        assert_eq!(dir(None, None, Some("/c/m.toml")), Path::new("/c"));
        assert_eq!(dir(None, None, Some("m.toml")), Path::new("."));
        assert_eq!(dir(Some("/d"), Some("/v"), Some("/c/m.toml")), Path::new("/d"));
    }
}
