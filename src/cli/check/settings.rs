//! The settings file, the names that follow from it, and the files that it points to.

use super::Findings;
use crate::cli::Place;
use crate::config::{Auth, Config, Loaded, SecretSource};
use crate::plugins;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A secret is one line; a bundle of certificates is a few hundred KiB.
const MAX_READ: u64 = 4 << 20;

pub(super) fn check(loaded: &Loaded, place: &Place, findings: &mut Findings<'_, '_>) {
    let config = &loaded.config;
    match &loaded.file {
        Some(file) => findings.ok("settings", &format!("{}: no mistakes", file.display())),
        None => findings.note(
            "settings",
            &format!(
                "there is no {}: every setting has its default (`mailroot init {}` writes one that explains them)",
                place.settings_file().display(),
                place.shown()
            ),
        ),
    }
    for warning in &loaded.warnings {
        findings.warn("settings", warning, "change it if that was not meant");
    }
    names(config, findings);
    for (auth, of) in logins(config) {
        secret(auth, of, findings);
    }
    if let Some(file) = &config.delivery.tls_ca_file {
        certificates(file, findings);
    }
    for listener in &config.listeners {
        match plugins::judge(config, listener) {
            Ok(words) => findings.ok("listener", &words),
            Err(why) => findings.fail(
                "listener",
                &why,
                "change it below [listener], or set enabled = false",
            ),
        }
    }
}

fn names(config: &Config, findings: &mut Findings<'_, '_>) {
    let hostname = &config.server.hostname;
    if hostname.contains('.') {
        findings.ok("names", &format!("this host calls itself {hostname}"));
    } else {
        findings.warn(
            "names",
            &format!(
                "this host calls itself {hostname}, a name without a domain: some remote hosts refuse that"
            ),
            "set hostname under [server], e.g. \"mail.example.com\"",
        );
    }
    let mut local = config.domains.default.clone();
    for alias in config.domains.aliases.iter().take(5) {
        local.push_str(&format!(", {alias}"));
    }
    if let Some(more) = config
        .domains
        .aliases
        .len()
        .checked_sub(5)
        .filter(|more| *more > 0)
    {
        local.push_str(&format!(" and {more} more"));
    }
    findings.ok(
        "names",
        &format!("mail for these domains goes into Drop and never leaves: {local}"),
    );
}

/// Each login once, with the setting it stands in.
fn logins(config: &Config) -> Vec<(&Auth, &str)> {
    let of_delivery = config.delivery.auth.iter().map(|auth| (auth, "[delivery]"));
    let of_remotes = config
        .remote
        .iter()
        .filter_map(|r| Some((r.auth.as_ref()?, r.name.as_str())));
    let mut seen = BTreeSet::new();
    of_delivery
        .chain(of_remotes)
        .filter(|(auth, _)| seen.insert((auth.user.clone(), format!("{:?}", auth.secret))))
        .collect()
}

fn secret(auth: &Auth, of: &str, findings: &mut Findings<'_, '_>) {
    let who = format!("login \"{}\" of {of}", auth.user);
    match &auth.secret {
        SecretSource::File(file) => secret_file(file, &who, findings),
        SecretSource::Command(words) => {
            let program = words.first().map_or("", String::as_str);
            match find_program(program) {
                Some(path) => findings.ok(
                    "login",
                    &format!("{who}: its token comes from {}", path.display()),
                ),
                None => findings.fail(
                    "login",
                    &format!("{who}: there is no program {program}"),
                    "give its full path in token_command",
                ),
            }
        }
    }
}

fn secret_file(file: &Path, who: &str, findings: &mut Findings<'_, '_>) {
    let shown = file.display();
    let (text, mode) = match read(file) {
        Ok(read) => read,
        Err(error) => {
            let advice = "write the secret into it, one line, readable by the service's user only";
            findings.fail("login", &format!("{who}: cannot read {shown}: {error}"), advice);
            return;
        }
    };
    let first_line = text.split(|b| *b == b'\n').next().unwrap_or_default();
    if first_line.trim_ascii().is_empty() {
        findings.fail(
            "login",
            &format!("{who}: the first line of {shown} is empty"),
            "write the secret there",
        );
    } else if mode & 0o007 != 0 {
        findings.warn(
            "login",
            &format!("{who}: everyone may read {shown}"),
            &format!("chmod 600 {shown}"),
        );
    } else {
        findings.ok("login", &format!("{who}: its secret is in {shown}"));
    }
}

fn certificates(file: &Path, findings: &mut Findings<'_, '_>) {
    let shown = file.display();
    match read(file) {
        Ok((text, _)) => {
            let begin = b"-----BEGIN CERTIFICATE-----";
            let count = memchr::memmem::find_iter(&text, begin).count();
            if count == 0 {
                findings.fail(
                    "settings",
                    &format!("tls_ca_file {shown} holds no PEM certificate"),
                    "name a PEM file",
                );
            } else {
                findings.ok(
                    "settings",
                    &format!("tls_ca_file {shown} holds {count} certificates"),
                );
            }
        }
        Err(error) => {
            findings.fail(
                "settings",
                &format!("cannot read tls_ca_file {shown}: {error}"),
                "name a file that can be read",
            );
        }
    }
}

/// A regular file's bytes and mode; never waits for a FIFO.
fn read(file: &Path) -> io::Result<(Vec<u8>, u32)> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(file)?
        .take(MAX_READ)
        .read_to_end(&mut bytes)?;
    Ok((bytes, meta.mode()))
}

/// As execvp would find it.
fn find_program(program: &str) -> Option<PathBuf> {
    let runnable = |path: &PathBuf| {
        path.metadata()
            .is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(runnable);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(runnable)
}
