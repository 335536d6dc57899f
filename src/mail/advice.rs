//! What a status means and what a person can do about it: one table for DSN, `.BDR` and `check`.

use super::{EnhancedStatus, Outcome};

/// Two sentences for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advice {
    /// What the status means.
    pub means: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// The advice for an outcome. A host's words can be plainer than its status, but only the status is standardised,
/// so the status decides.
pub fn of(outcome: &Outcome) -> Advice {
    for_status(outcome.status)
}

/// The advice for a status (RFC 3463 and its registry; 4.x.x and 5.x.x differ in who gave up, not in the cause).
pub fn for_status(status: EnhancedStatus) -> Advice {
    let known = match status.subject {
        1 => address(status.detail),
        2 => mailbox(status.detail),
        3 => host(status),
        4 => network(status.detail),
        5 => protocol(status.detail),
        6 => content(status.detail),
        7 => policy(status.detail),
        _ => None,
    };
    known.unwrap_or(Advice {
        means: if status.class == 4 {
            "The message could not be delivered for a reason that may pass."
        } else {
            "The message was refused, and the status does not say why."
        },
        remedy: "Read what the mail server said; its own words are the best hint. If they do not help, ask the \
                 recipient's postmaster.",
    })
}

const fn some(means: &'static str, remedy: &'static str) -> Option<Advice> {
    Some(Advice { means, remedy })
}

fn address(detail: u16) -> Option<Advice> {
    match detail {
        0 | 1 => some(
            "There is no such mailbox at that domain.",
            "Check the address for typing mistakes, above all before the @. If it was right once, the mailbox may \
             be closed: ask the recipient in another way.",
        ),
        2 => some(
            "The domain of the address does not exist or takes no mail.",
            "Check the part of the address after the @.",
        ),
        3 => some(
            "The address is not written as an address must be.",
            "Write it as name@domain, without spaces, and with one @.",
        ),
        4 => some(
            "The address stands for more than one mailbox, and the mail server cannot choose.",
            "Use the full address of the recipient.",
        ),
        6 => some(
            "The mailbox has moved, and no new address is known.",
            "Ask the recipient for the new address.",
        ),
        7 | 8 => some(
            "The mail server does not accept the address of the sender.",
            "Use a sender address whose domain exists in DNS and that the mail server allows you to use.",
        ),
        10 => some(
            "The domain says in DNS that it accepts no mail at all (a null MX record).",
            "Check the part of the address after the @; if it is right, reach the recipient at another address.",
        ),
        _ => None,
    }
}

fn mailbox(detail: u16) -> Option<Advice> {
    match detail {
        0 => some(
            "The mailbox exists, but did not take the message.",
            "Read what the mail server said, or ask the recipient in another way.",
        ),
        1 => some(
            "The mailbox is switched off.",
            "Ask the recipient in another way whether the address is still in use.",
        ),
        2 => some(
            "The mailbox is full.",
            "Send again when the recipient has made room.",
        ),
        3 => some(
            "The message is larger than this mailbox accepts.",
            "Send less at once, or send a link to the file in place of the file.",
        ),
        _ => None,
    }
}

fn host(status: EnhancedStatus) -> Option<Advice> {
    match status.detail {
        4 => some(
            "The message is larger than the mail server accepts.",
            "Send less at once, or send a link to the file in place of the file.",
        ),
        0..=3 if status.class == 4 => some(
            "A mail server on the way has trouble of its own.",
            "Send again later. If it lasts, tell the postmaster of that server.",
        ),
        5 => some(
            "A mail server on the way is set up wrongly.",
            "Tell the postmaster of that server what it said.",
        ),
        _ => None,
    }
}

fn network(detail: u16) -> Option<Advice> {
    match detail {
        1 => some(
            "The mail server could not be reached.",
            "Check that the domain is right and that this machine may connect to the Internet on that port \
             (many providers block port 25: then a smart host is needed).",
        ),
        2 => some(
            "The connection to the mail server broke before it had taken the message.",
            "Send again later. If it lasts, look for a firewall or a proxy on the way.",
        ),
        0 | 3 => some(
            "DNS did not say which mail server is responsible.",
            "Check that the domain is right and that this machine's DNS works.",
        ),
        4 => some(
            "There is no way to the domain.",
            "Check the part of the address after the @, and the routes in mailroot.toml.",
        ),
        5 => some("The mail server is overloaded.", "Send again later."),
        6 | 8 => some(
            "The message went round in a circle between mail servers.",
            "Check where mail of this domain is forwarded to, and that no smart host or MX record of it points \
             back to this machine.",
        ),
        7 => some(
            "The message could not be delivered before its time was over.",
            "Read what was tried last. When that is repaired, send again.",
        ),
        _ => None,
    }
}

fn protocol(detail: u16) -> Option<Advice> {
    match detail {
        3 => some(
            "The mail server does not take so many recipients at once.",
            "Send to fewer recipients at a time.",
        ),
        0 | 1 | 2 | 4 | 5 | 6 => some(
            "The mail server did not accept a command.",
            "Read what it said. If its words speak of the address or of policy, change that; else tell the postmaster.",
        ),
        _ => None,
    }
}

fn content(detail: u16) -> Option<Advice> {
    match detail {
        7..=10 => some(
            "The address or the header fields hold characters outside ASCII, and a mail server on the way cannot carry \
             them (no SMTPUTF8).",
            "Use an address that is ASCII only.",
        ),
        _ => some(
            "The mail server does not accept the content of the message.",
            "Read what it said: often it is a kind of attachment or a malformed part that it refuses.",
        ),
    }
}

fn policy(detail: u16) -> Option<Advice> {
    match detail {
        8 | 9 => some(
            "The mail server did not accept our user name and password.",
            "Check user, password file and mechanism under auth in mailroot.toml.",
        ),
        4 | 10 | 11 | 30 => some(
            "Mail may only go there over an encrypted connection, and none came about.",
            "Check the tls settings of this route in mailroot.toml and the certificate of the mail server.",
        ),
        20..=24 | 26 => some(
            "The mail server could not make sure that this machine may send for the sender's domain \
             (SPF, DKIM or DMARC).",
            "Add this machine, or the smart host, to the SPF record of the sender's domain, or send through a host \
             that signs for it.",
        ),
        25 => some(
            "This machine's IP address has no matching name in reverse DNS.",
            "Have the reverse DNS entry set, or send through a smart host.",
        ),
        27 => some(
            "The sender's domain says in DNS that it accepts no mail (a null MX record), so its mail is not taken.",
            "Use a sender address that can receive mail.",
        ),
        _ => some(
            "The mail server refuses the message for reasons of policy or permission.",
            "Read what it said. If it speaks of relaying, this machine must be allowed there or log in; if it speaks of \
             a block list or of reputation, the page it names tells how to be removed.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(text: &str) -> &'static str {
        for_status(EnhancedStatus::parse(text).unwrap()).means
    }

    #[test]
    fn the_common_statuses_have_words_of_their_own() {
        for (status, word) in [
            ("5.1.1", "no such mailbox"),
            ("5.1.3", "not written as"),
            ("5.1.10", "null MX"),
            ("4.2.2", "full"),
            ("5.3.4", "larger"),
            ("4.4.1", "could not be reached"),
            ("4.4.7", "time was over"),
            ("5.4.6", "circle"),
            ("4.4.6", "circle"),
            ("5.6.7", "SMTPUTF8"),
            ("5.7.1", "policy"),
            ("5.7.606", "policy"),
            ("5.7.8", "password"),
            ("5.7.26", "DMARC"),
        ] {
            assert!(means(status).contains(word), "{status}: {}", means(status));
        }
    }

    #[test]
    fn an_unknown_status_still_says_something_true() {
        assert!(means("4.9.999").contains("may pass"));
        assert!(means("5.0.0").contains("does not say why"));
    }
}
