//! AUTH (RFC 4954): PLAIN, LOGIN, CRAM-MD5, XOAUTH2.
//!
//! Reads the secret (see `secret`), speaks with one host. Secrets never reach the dialogue. A host that refuses the
//! log-in defers: a wrong password is our settings' fault and returns nobody's mail.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use md5::Md5;

use super::chat::Chat;
use super::connect::Trouble;
use super::offers::Offers;
use super::reply::Reply;
use super::wire::Broken;
use super::{RefusedKind, secret};
use crate::config::{Auth, Mechanism, SecretSource};
use crate::mail::{EnhancedStatus, Outcome, Verdict};

/// A command with its line end (RFC 5321 §4.5.3.1.4); a longer response goes on a line of its own (RFC 4954 §4).
const MAX_COMMAND: usize = 512;

/// Where the log-in happens.
pub(super) struct Setting<'a> {
    pub offers: &'a Offers,
    pub encrypted: bool,
    pub allow_plaintext: bool,
    pub host: &'a str,
}

/// Logs in, or says why not.
pub(super) fn authenticate(chat: &mut Chat, auth: &Auth, setting: &Setting<'_>) -> Result<(), Trouble> {
    let refused = |status, words: String| Trouble::refused(RefusedKind::Auth, status, words, setting.host);
    if !setting.encrypted && !setting.allow_plaintext {
        return Err(refused(
            EnhancedStatus::new(4, 7, 11),
            "the connection is not encrypted, so the credentials are not sent (allow_plaintext_auth is false, \
             and that holds for CRAM-MD5 too)"
                .to_owned(),
        ));
    }
    let mechanism = choose(auth.mechanism, setting.offers)
        .map_err(|words| refused(EnhancedStatus::new(4, 7, 4), words))?;
    let read = || {
        secret::read(&auth.secret).map_err(|words| {
            refused(
                EnhancedStatus::new(4, 3, 5),
                format!("the secret for {} is missing: {words}", auth.user),
            )
        })
    };
    let secret = read()?;
    let broken = |broken: Broken| Trouble::broken(&broken, "the reply to AUTH", setting.host);
    let mut reply = attempt(chat, mechanism, &auth.user, &secret).map_err(broken)?;
    if mechanism == Mechanism::Xoauth2 && reply.class() == 5 {
        // A token lives an hour or so: whoever renews it may have done so, or does so when asked.
        let renewed = read()?;
        if renewed != secret || matches!(auth.secret, SecretSource::Command(_)) {
            chat.dialogue
                .note("the token was refused; it was read anew and is tried again");
            // A host that hangs up after a refusal has refused.
            reply = attempt(chat, mechanism, &auth.user, &renewed).unwrap_or(reply);
        }
    }
    if reply.is_positive() {
        return Ok(());
    }
    Err(Trouble {
        kind: RefusedKind::Auth,
        outcome: Outcome::reply(
            Verdict::Deferred,
            refused_status(&reply),
            reply.one_line(),
            setting.host,
        ),
        try_in_clear: false,
    })
}

/// 4.7.8 for a log-in that is refused for good; what the host says otherwise.
fn refused_status(reply: &Reply) -> EnhancedStatus {
    match reply.class() {
        5 => EnhancedStatus::new(4, 7, 8),
        _ => reply.enhanced().map_or(EnhancedStatus::new(4, 7, 0), |said| {
            EnhancedStatus::new(4, said.subject, said.detail)
        }),
    }
}

/// The mechanism of the settings, or the strongest that is offered. A token is no password: XOAUTH2 only when asked
/// for.
fn choose(wanted: Option<Mechanism>, offers: &Offers) -> Result<Mechanism, String> {
    let candidates = match &wanted {
        Some(mechanism) => std::slice::from_ref(mechanism),
        None => &[Mechanism::CramMd5, Mechanism::Plain, Mechanism::Login],
    };
    candidates
        .iter()
        .copied()
        .find(|mechanism| offers.has_auth(name(*mechanism)))
        .ok_or_else(|| {
            let wanted: Vec<&str> = candidates.iter().map(|mechanism| name(*mechanism)).collect();
            let offered = match offers.auth.as_slice() {
                [] => "no authentication".to_owned(),
                offered => format!("AUTH {}", offered.join(" ")),
            };
            format!("the host offers {offered}, not {}", wanted.join(", "))
        })
}

fn name(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::Plain => "PLAIN",
        Mechanism::Login => "LOGIN",
        Mechanism::CramMd5 => "CRAM-MD5",
        Mechanism::Xoauth2 => "XOAUTH2",
    }
}

/// One log-in; the reply that ends it.
fn attempt(chat: &mut Chat, mechanism: Mechanism, user: &str, secret: &str) -> Result<Reply, Broken> {
    let reply = match mechanism {
        Mechanism::Plain => {
            let response = BASE64.encode(format!("\0{user}\0{secret}"));
            with_response(chat, "AUTH PLAIN", &response, secret)?
        }
        Mechanism::Xoauth2 => {
            let response = BASE64.encode(format!("user={user}\x01auth=Bearer {secret}\x01\x01"));
            let reply = with_response(chat, "AUTH XOAUTH2", &response, secret)?;
            if reply.code == 334 {
                // The text is the error in JSON; an empty line asks for the refusal itself.
                return chat.secret_command("", "", &[&response, secret]);
            }
            reply
        }
        Mechanism::Login => {
            let mut reply = chat.command("AUTH LOGIN")?;
            for word in [user, secret] {
                if reply.code == 334 {
                    reply = respond(chat, &BASE64.encode(word), secret)?;
                }
            }
            reply
        }
        Mechanism::CramMd5 => {
            let reply = chat.command("AUTH CRAM-MD5")?;
            match cram_md5(&reply, user, secret) {
                Some(response) => respond(chat, &response, secret)?,
                None => reply,
            }
        }
    };
    if reply.code == 334 {
        // Asked for more than the mechanism has: take it back (RFC 4954 §4).
        return chat.command("*");
    }
    Ok(reply)
}

/// The command with its initial response, or the response on request when both are too long for one line.
fn with_response(chat: &mut Chat, command: &str, response: &str, secret: &str) -> Result<Reply, Broken> {
    if command.len() + 1 + response.len() + 2 <= MAX_COMMAND {
        let shown = format!("{command} *** ({} bytes)", response.len());
        return chat.secret_command(&format!("{command} {response}"), &shown, &[response, secret]);
    }
    let reply = chat.command(command)?;
    if reply.code == 334 {
        return respond(chat, response, secret);
    }
    Ok(reply)
}

fn respond(chat: &mut Chat, response: &str, secret: &str) -> Result<Reply, Broken> {
    let shown = format!("*** ({} bytes)", response.len());
    chat.secret_command(response, &shown, &[response, secret])
}

/// RFC 2195: the user and the keyed digest of the host's challenge. `None` when there is no challenge.
fn cram_md5(reply: &Reply, user: &str, secret: &str) -> Option<String> {
    if reply.code != 334 {
        return None;
    }
    let challenge = BASE64.decode(reply.texts().next()?.trim()).ok()?;
    let mut mac = Hmac::<Md5>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(&challenge);
    let mut answer = format!("{user} ");
    for byte in mac.finalize().into_bytes() {
        answer.push_str(&format!("{byte:02x}"));
    }
    Some(BASE64.encode(answer))
}

#[cfg(test)]
mod tests {
    use super::super::reply::Decoder;
    use super::*;

    fn offers(auth: &[&str]) -> Offers {
        Offers {
            auth: auth.iter().map(|word| (*word).to_owned()).collect(),
            ..Offers::default()
        }
    }

    #[test]
    fn the_strongest_that_is_offered() {
        let choice = |wanted, offered: &[&str]| choose(wanted, &offers(offered));
        assert_eq!(
            choice(None, &["LOGIN", "PLAIN", "CRAM-MD5", "XOAUTH2"]),
            Ok(Mechanism::CramMd5)
        );
        assert_eq!(choice(None, &["LOGIN", "PLAIN"]), Ok(Mechanism::Plain));
        assert_eq!(choice(None, &["XOAUTH2", "LOGIN"]), Ok(Mechanism::Login));
        assert_eq!(
            choice(None, &["XOAUTH2"]).unwrap_err(),
            "the host offers AUTH XOAUTH2, not CRAM-MD5, PLAIN, LOGIN"
        );
        assert_eq!(
            choice(Some(Mechanism::Login), &["PLAIN", "LOGIN"]),
            Ok(Mechanism::Login)
        );
        assert_eq!(
            choice(Some(Mechanism::Xoauth2), &[]).unwrap_err(),
            "the host offers no authentication, not XOAUTH2"
        );
    }

    #[test]
    fn cram_md5_answers_the_example_of_its_rfc() {
        let line = format!(
            "334 {}\r\n",
            BASE64.encode("<1896.697170952@postoffice.reston.mci.net>")
        );
        let reply = Decoder::default().feed(line.as_bytes()).unwrap().1.unwrap();
        assert_eq!(
            BASE64
                .decode(cram_md5(&reply, "tim", "tanstaaftanstaaf").unwrap())
                .unwrap(),
            b"tim b913a602c7eda7a495b4e6e7334d3890"
        );
    }
}
