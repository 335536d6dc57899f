//! The words of AUTH (RFC 4954): PLAIN (RFC 4616) and LOGIN, up to name and password.
//!
//! Integrated Windows authentication would be one mechanism more in [`exchange`]; it is left out with a reason. NTLM proves
//! that a client knows the MD4 of its password: the users file has Argon2 hashes, from which nobody gets there, and to keep
//! MD4 in their place is to keep the passwords. The other way is to ask a domain controller, which no crate can. The
//! acceptor of `sspi` 0.23 was tried: it looks only at an integrity code that the client may leave out, never at the
//! response itself, so it lets in whoever names a user. Its Kerberos side takes bare keys, no keytab, and both bring some
//! seventy crates, of which those for RSA are unfinished releases. What would be sound is Samba's `ntlm_auth`, which speaks
//! with the domain: a process beside this one, that other mail servers ask too.

use super::reply::Reply;
use super::wire::{Gone, Line, Wire};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// As EHLO names them.
pub(super) const MECHANISMS: &str = "PLAIN LOGIN";
/// RFC 4954 §4.
const LONGEST: usize = 12_288;

/// Name and password, or the reply to what is none.
pub(super) fn exchange(
    wire: &mut Wire,
    mechanism: &str,
    initial: Option<String>,
) -> Result<Result<(String, String), Reply>, Gone> {
    match mechanism {
        "PLAIN" => {
            let answer = match initial {
                Some(given) => decoded(given.as_bytes()),
                None => ask(wire, "")?,
            };
            Ok(answer.and_then(|text| plain(&text)))
        }
        "LOGIN" => {
            let name = match initial {
                Some(given) => decoded(given.as_bytes()),
                None => ask(wire, "Username:")?,
            };
            let name = match name {
                Ok(name) => name,
                Err(reply) => return Ok(Err(reply)),
            };
            Ok(ask(wire, "Password:")?.map(|password| (name, password)))
        }
        _ => Ok(Err(Reply::new(
            504,
            "5.5.4",
            format!("The mechanisms are {MECHANISMS}"),
        ))),
    }
}

/// Nobody acts for somebody else.
fn plain(text: &str) -> Result<(String, String), Reply> {
    match text.split('\0').collect::<Vec<_>>().as_slice() {
        [other, name, _] if !other.is_empty() && other != name => {
            Err(Reply::new(535, "5.7.8", "You may log in for yourself only"))
        }
        [_, name, password] => Ok(((*name).to_owned(), (*password).to_owned())),
        _ => Err(garbled()),
    }
}

fn ask(wire: &mut Wire, words: &str) -> Result<Result<String, Reply>, Gone> {
    Reply::new(334, "", STANDARD.encode(words)).write(wire.say());
    Ok(match wire.line(LONGEST)? {
        Line::Whole(line) if line == b"*" => Err(Reply::new(501, "5.7.0", "Authentication cancelled")),
        Line::Whole(line) => decoded(&line),
        Line::TooLong => Err(Reply::new(500, "5.5.6", "The answer is too long")),
        Line::Broken => return Err(Gone::Ambiguous),
    })
}

/// `=` stands for an initial response of nothing.
fn decoded(text: &[u8]) -> Result<String, Reply> {
    let text = if text == b"=" { b"" } else { text };
    let bytes = STANDARD.decode(text).map_err(|_| garbled())?;
    String::from_utf8(bytes).map_err(|_| garbled())
}

fn garbled() -> Reply {
    Reply::new(
        501,
        "5.5.2",
        "The answer is not what the mechanism wants, in base64",
    )
}
