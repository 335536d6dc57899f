//! The host's side of AUTH (RFC 4954): PLAIN, LOGIN, CRAM-MD5, XOAUTH2 against the users of the script.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use md5::Md5;

use super::script::{Reply, Script};
use super::wire::Wire;

/// What came of one AUTH command.
pub(super) enum Verdict {
    /// This user is in.
    User(String),
    /// Wrong user, password or token.
    Denied,
    /// The client took it back with `*`.
    Cancelled,
    /// Not base64, or not of the mechanism's form.
    Garbled,
    /// Not one of the four.
    Unknown,
}

/// Leads the exchange up to, not including, the final reply.
pub(super) fn authenticate(
    wire: &mut Wire,
    script: &Script,
    mechanism: &str,
    initial: Option<&str>,
) -> io::Result<Verdict> {
    let mut exchange = Exchange { wire, script };
    match mechanism.to_ascii_uppercase().as_str() {
        "PLAIN" => exchange.plain(initial),
        "LOGIN" => exchange.login(initial),
        "CRAM-MD5" => exchange.cram_md5(),
        "XOAUTH2" => exchange.xoauth2(initial),
        _ => Ok(Verdict::Unknown),
    }
}

struct Exchange<'a> {
    wire: &'a mut Wire,
    script: &'a Script,
}

impl Exchange<'_> {
    fn plain(&mut self, initial: Option<&str>) -> io::Result<Verdict> {
        let answer = self.first(initial, "")?;
        Ok(answer.map_or_else(
            |verdict| verdict,
            |text| match text.split('\0').collect::<Vec<_>>().as_slice() {
                [_, user, password] => self.check(user, |known| known == *password),
                _ => Verdict::Garbled,
            },
        ))
    }

    fn login(&mut self, initial: Option<&str>) -> io::Result<Verdict> {
        let user = match self.first(initial, "Username:")? {
            Ok(user) => user,
            Err(verdict) => return Ok(verdict),
        };
        let answer = self.ask("Password:")?;
        Ok(answer.map_or_else(|v| v, |password| self.check(&user, |known| known == password)))
    }

    fn cram_md5(&mut self) -> io::Result<Verdict> {
        let challenge = format!("<{}@{}>", ulid::Ulid::generate(), self.script.name);
        let answer = self.ask(&challenge)?;
        Ok(answer.map_or_else(
            |verdict| verdict,
            |text| match text.rsplit_once(' ') {
                Some((user, digest)) => self.check(user, |known| hmac_md5_hex(known, &challenge) == digest),
                None => Verdict::Garbled,
            },
        ))
    }

    /// A refused token is told in a 334 of its own, which the client answers with an empty line.
    fn xoauth2(&mut self, initial: Option<&str>) -> io::Result<Verdict> {
        let text = match self.first(initial, "")? {
            Ok(text) => text,
            Err(verdict) => return Ok(verdict),
        };
        let fields: Vec<&str> = text.split('\u{1}').collect();
        let user = fields.iter().find_map(|f| f.strip_prefix("user="));
        let token = fields.iter().find_map(|f| f.strip_prefix("auth=Bearer "));
        let (Some(user), Some(token)) = (user, token) else {
            return Ok(Verdict::Garbled);
        };
        if self.script.tokens.iter().any(|(u, t)| u == user && t == token) {
            return Ok(Verdict::User(user.to_owned()));
        }
        let _empty = self.ask(r#"{"status":"401","schemes":"Bearer","scope":"https://mail.example/"}"#)?;
        Ok(Verdict::Denied)
    }

    fn check(&self, user: &str, fits: impl Fn(&str) -> bool) -> Verdict {
        let known = self
            .script
            .users
            .iter()
            .any(|(u, password)| u == user && fits(password));
        if known {
            Verdict::User(user.to_owned())
        } else {
            Verdict::Denied
        }
    }

    fn first(&mut self, initial: Option<&str>, challenge: &str) -> io::Result<Result<String, Verdict>> {
        match initial {
            Some("=") => Ok(Ok(String::new())),
            Some(text) => Ok(decode(text.as_bytes())),
            None => self.ask(challenge),
        }
    }

    fn ask(&mut self, challenge: &str) -> io::Result<Result<String, Verdict>> {
        Reply::new(334, STANDARD.encode(challenge)).write(self.wire.queue());
        Ok(decode(&self.wire.line()?.text))
    }
}

fn decode(text: &[u8]) -> Result<String, Verdict> {
    if text == b"*" {
        return Err(Verdict::Cancelled);
    }
    let bytes = STANDARD.decode(text).map_err(|_| Verdict::Garbled)?;
    String::from_utf8(bytes).map_err(|_| Verdict::Garbled)
}

/// RFC 2195.
fn hmac_md5_hex(key: &str, text: &str) -> String {
    let Ok(mut mac) = Hmac::<Md5>::new_from_slice(key.as_bytes()) else {
        return String::new();
    };
    mac.update(text.as_bytes());
    mac.finalize()
        .into_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cram_md5_is_that_of_rfc_2195() {
        assert_eq!(
            hmac_md5_hex("tanstaaftanstaaf", "<1896.697170952@postoffice.reston.mci.net>"),
            "b913a602c7eda7a495b4e6e7334d3890"
        );
    }
}
