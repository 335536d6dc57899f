//! Who may log in: a file with one `NAME:HASH` in a line, the hash an Argon2 string (RFC 9106) as other tools write it.
//!
//! Reads: that file, at each login. Writes: it, for `mailroot user`, through `mailroot`. A check takes some
//! 20 MiB and tens of milliseconds on purpose, so only a few run at the same time. Thread: any.

use crate::mailroot::tree;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Argon2, password_hash};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

/// No name is longer.
const MAX_NAME: usize = 255;
/// RFC 4954 sets no limit; hashing a long one costs us.
const MAX_PASSWORD: usize = 1024;

/// Why the file cannot be used, or changed as wanted: a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsersError(String);

impl fmt::Display for UsersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the file says.
#[derive(Debug, Default)]
pub struct Users {
    hashes: BTreeMap<String, String>,
}

impl Users {
    /// Reads the file; one that is not there is empty.
    pub fn read(path: &Path) -> Result<Self, UsersError> {
        let shown = path.display();
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(UsersError(format!(
                    "the users file {shown} cannot be read: {error}"
                )));
            }
            Ok(text) => text,
        };
        let mut users = Self::default();
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why: &str| UsersError(format!("{shown}, line {}: {why}", number + 1));
            let (name, hash) = line.split_once(':').ok_or_else(|| wrong("it is not NAME:HASH"))?;
            check_name(name).map_err(|why| wrong(&why))?;
            PasswordHash::new(hash.trim())
                .map_err(|_| wrong("what follows the name is no hash; make it with `mailroot user add`"))?;
            if users
                .hashes
                .insert(name.to_owned(), hash.trim().to_owned())
                .is_some()
            {
                return Err(wrong(&format!("{name} stands there twice")));
            }
        }
        Ok(users)
    }

    /// Sets the password of a user, who may be new; `true`: he is.
    pub fn set(&mut self, name: &str, password: &str) -> Result<bool, UsersError> {
        check_name(name).map_err(UsersError)?;
        if password.is_empty() || password.len() > MAX_PASSWORD {
            return Err(UsersError(format!("a password has 1 to {MAX_PASSWORD} bytes")));
        }
        let failed = |error: &dyn fmt::Display| UsersError(format!("the password cannot be hashed: {error}"));
        let salt = SaltString::generate(&mut OsRng);
        let hash = Argon2::default()
            .hash_password(password.as_bytes(), &salt)
            .map_err(|error| failed(&error))?;
        Ok(self.hashes.insert(name.to_owned(), hash.to_string()).is_none())
    }

    /// `false`: there is no such user.
    pub fn remove(&mut self, name: &str) -> bool {
        self.hashes.remove(name).is_some()
    }

    /// In alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.hashes.keys().map(String::as_str)
    }

    /// Reads the file, lets it be changed, and puts it back if it was; nobody else changes it meanwhile. Returns whether it
    /// was.
    pub fn change(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<bool, UsersError>,
    ) -> Result<bool, UsersError> {
        let _turn = tree::Turn::take(path).map_err(|error| UsersError(error.to_string()))?;
        let mut users = Self::read(path)?;
        let changed = change(&mut users)?;
        if changed {
            users.write(path)?;
        }
        Ok(changed)
    }

    /// Replaces the file.
    fn write(&self, path: &Path) -> Result<(), UsersError> {
        let lines: String = self
            .hashes
            .iter()
            .map(|(name, hash)| format!("{name}:{hash}\n"))
            .collect();
        tree::replace_private(path, &lines).map_err(|error| UsersError(error.to_string()))
    }

    /// Whether that is the user's password.
    fn knows(&self, name: &str, password: &str) -> bool {
        /// For a name that nobody has: who asks must not see by the time it takes that there is no such user.
        const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$\
                              mHCs/ceLKWe9qqnvRVsqoOg6QwFNj6LdEvvHGYTvXHE";
        if password.len() > MAX_PASSWORD {
            return false;
        }
        let known = self.hashes.get(name).map(String::as_str);
        let verified = PasswordHash::new(known.unwrap_or(NOBODY)).and_then(|hash| {
            let verified: password_hash::Result<()> =
                Argon2::default().verify_password(password.as_bytes(), &hash);
            verified
        });
        verified.is_ok() && known.is_some()
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| !c.is_control() && !c.is_whitespace() && c != ':';
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fits) || name.starts_with('#') {
        return Err(format!(
            "\"{name}\" cannot be a user's name: it has no spaces and no colon"
        ));
    }
    Ok(())
}

/// The users file of a running listener.
pub(super) struct Passwords {
    path: PathBuf,
}

impl Passwords {
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// How many may log in.
    pub fn count(&self) -> Result<usize, UsersError> {
        Users::read(&self.path).map(|users| users.hashes.len())
    }

    /// Whether that is the user's password; an error when the file cannot be used.
    pub fn are(&self, name: &str, password: &str) -> Result<bool, UsersError> {
        let users = Users::read(&self.path)?;
        let _turn = Turn::take();
        Ok(users.knows(name, password))
    }
}

/// One of the few checks that may run at the same time in this process.
struct Turn;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

impl Turn {
    fn take() -> Self {
        let most = std::thread::available_parallelism().map_or(1, usize::from);
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let running = ENDED.wait_while(running, |running| *running >= most);
        *running.unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_added_can_log_in_and_who_is_removed_cannot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let mut users = Users::read(&path).unwrap();
        assert_eq!(users.set("app", "secret"), Ok(true));
        assert_eq!(users.set("app", "better secret"), Ok(false));
        assert_eq!(users.set("bob", "secret"), Ok(true));
        users.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("app:$argon2id$") && !text.contains("secret"),
            "{text}"
        );

        let passwords = Passwords::new(&path);
        assert_eq!(passwords.are("app", "better secret"), Ok(true));
        for (name, password) in [
            ("app", "secret"),
            ("App", "better secret"),
            ("", ""),
            ("x", "secret"),
        ] {
            assert_eq!(passwords.are(name, password), Ok(false), "{name}");
        }
        assert_eq!(users.names().collect::<Vec<_>>(), ["app", "bob"]);
        assert!(users.remove("app") && !users.remove("app"));
        users.write(&path).unwrap();
        assert_eq!(passwords.are("app", "better secret"), Ok(false));
        assert_eq!(passwords.are("bob", "secret"), Ok(true));
    }

    #[test]
    fn a_name_that_nobody_has_costs_as_much() {
        let nobody = Users::default();
        let began = std::time::Instant::now();
        assert!(!nobody.knows("nobody", "x"));
        let without = began.elapsed();
        let mut users = Users::default();
        users.set("app", "secret").unwrap();
        let began = std::time::Instant::now();
        assert!(!users.knows("app", "x"));
        assert!(without > began.elapsed() / 20, "{without:?}");
    }

    #[test]
    fn a_file_that_is_wrong_says_where() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        for (text, words) in [
            ("app\n", "line 1: it is not NAME:HASH"),
            (
                "# comment\n\napp:secret\n",
                "line 3: what follows the name is no hash",
            ),
            (
                "a b:$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAA\n",
                "cannot be a user's name",
            ),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Users::read(&path).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        for name in ["", "a:b", "a b", "#a"] {
            assert!(Users::default().set(name, "x").is_err(), "{name}");
        }
        assert!(Users::default().set("a", "").is_err());
    }
}
