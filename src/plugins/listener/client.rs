//! Who is at the other end of a session: what it says, and what DNS says of it.
//!
//! Asks DNS where the settings want a name: `reverse_dns`, or names in `clients_list` or `relay_list`. A list believes only
//! a name that leads back to the address. Thread: the session's, which waits for it before the greeting.

use super::diary::Diary;
use super::reply::Reply;
use super::rules::Rules;
use crate::dns::Reverse;
use std::net::SocketAddr;
use std::time::Duration;
use tracing::info;

/// A client waits for its greeting so long at most because DNS does not answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// See above.
pub(super) struct Client {
    pub address: SocketAddr,
    /// As it called itself; empty before HELO, and for HELO without a name.
    pub name: String,
    /// What DNS calls it; `None`: nobody wants to know.
    reverse: Option<Reverse>,
    /// It said HELO or EHLO …
    pub greeted: bool,
    /// … and it was EHLO.
    pub extended: bool,
    pub user: Option<String>,
    /// Version and cipher.
    pub tls: Option<String>,
    pub diary: Diary,
}

impl Client {
    /// One that has said nothing yet. `server` is the address of ours that it came to.
    pub fn new(address: SocketAddr, server: SocketAddr) -> Self {
        Self {
            address,
            name: String::new(),
            reverse: None,
            greeted: false,
            extended: false,
            user: None,
            tls: None,
            diary: Diary::of(address, server),
        }
    }

    /// Asks for its name, if that is wanted; the error is what it is told when it may not come in.
    pub fn is_let_in(&mut self, rules: &Rules) -> Result<(), Reply> {
        if let Some(dns) = &rules.dns {
            self.reverse = Some(dns.reverse(self.address.ip(), PATIENCE));
        }
        let client = self.address;
        match rules.listener.clients.include(client.ip(), self.names()) {
            Some(true) => Ok(()),
            Some(false) => {
                let rdns = self.shown_name();
                info!(%client, rdns, "refused: it is not among the clients that may connect");
                Err(Reply::new(554, "5.7.1", "You may not connect here"))
            }
            None => {
                let rdns = self.shown_name();
                info!(%client, rdns, "refused for now: its name decides, and DNS does not tell it");
                let words = "Your name cannot be looked up now; try again later";
                Err(Reply::new(421, "4.7.0", words))
            }
        }
    }

    /// The names that are its own; `None`: that is not known.
    pub fn names(&self) -> Option<&[String]> {
        match &self.reverse {
            Some(Reverse::Confirmed(names)) => Some(names),
            Some(Reverse::Unconfirmed | Reverse::Nameless) => Some(&[]),
            Some(Reverse::Failed(_)) | None => None,
        }
    }

    /// Its first name, for the log; else in a word or a clause why there is none; empty: nobody asked.
    pub fn shown_name(&self) -> &str {
        match &self.reverse {
            Some(Reverse::Confirmed(names)) => names.first().map_or("", String::as_str),
            Some(Reverse::Unconfirmed) => "unverified",
            Some(Reverse::Nameless) => "none",
            Some(Reverse::Failed(why)) => why,
            None => "",
        }
    }

    /// What stands in Received behind the name that it gave itself, in the words of IIS: `(name [address])`,
    /// `([address] unverified)`, `([address] RDNS failed)`.
    pub fn origin(&self, rules: &Rules) -> String {
        let ip = self.address.ip().to_canonical();
        let tag = if ip.is_ipv6() { "IPv6:" } else { "" };
        let wanted = self.reverse.as_ref().filter(|_| rules.listener.reverse_dns);
        let (before, behind) = match wanted {
            Some(Reverse::Confirmed(names)) => {
                (names.first().map_or(String::new(), |name| format!("{name} ")), "")
            }
            Some(Reverse::Unconfirmed) => (String::new(), " unverified"),
            Some(Reverse::Nameless | Reverse::Failed(_)) => (String::new(), " RDNS failed"),
            None => (String::new(), ""),
        };
        format!("({before}[{tag}{ip}]{behind})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::dns::testserver::{Act, record, responder};
    use crate::mail::Address;
    use hickory_resolver::proto::op::ResponseCode;
    use hickory_resolver::proto::rr::RecordType;
    use std::path::Path;
    use std::time::Instant;

    const NAMED: &str = "192.0.2.1:4000";
    const LIAR: &str = "192.0.2.2:4000";
    const BROKEN: &str = "192.0.2.3:4000";
    const NAMELESS: &str = "192.0.2.4:4000";
    const SILENT: &str = "192.0.2.5:4000";

    /// What comes of a listener whose DNS says the above.
    fn rules(settings: &str) -> Rules {
        let dns = responder(|name, kind| {
            let answer = |owner, text| Act::Answer(vec![record(&(owner, text))]);
            match (name, kind) {
                ("1.2.0.192.in-addr.arpa", _) => answer(name, "PTR app.partner.test"),
                ("2.2.0.192.in-addr.arpa", _) => answer(name, "PTR app.partner.test"),
                ("3.2.0.192.in-addr.arpa", _) => Act::Refuse(ResponseCode::ServFail),
                ("5.2.0.192.in-addr.arpa", _) => Act::Silence,
                ("app.partner.test", RecordType::A) => answer(name, "A 192.0.2.1"),
                ("app.partner.test", _) => Act::Answer(Vec::new()),
                _ => Act::Refuse(ResponseCode::NXDomain),
            }
        });
        let text = format!(
            "[domains]\ndefault = \"local.test\"\n[dns]\nservers = [\"{dns}\"]\n[listener]\nenabled = true\n{settings}"
        );
        let config = Config::parse(&text, Path::new("/m"), "h.test").unwrap();
        Rules::new(&config, &config.listeners[0]).unwrap()
    }

    /// The client, and what it is told at the door; 0: it is let in.
    fn come(rules: &Rules, from: &str) -> (Client, u16) {
        let mut client = Client::new(from.parse().unwrap(), "192.0.2.9:25".parse().unwrap());
        let code = client.is_let_in(rules).map_or_else(|reply| reply.code, |()| 0);
        (client, code)
    }

    #[test]
    fn a_name_opens_the_door_or_shuts_it_and_doubt_does_neither() {
        for (rule, codes) in [("only", [0, 554, 554, 421]), ("all_except", [554, 0, 0, 421])] {
            let rules = rules(&format!(
                "clients = \"{rule}\"\nclients_list = [\"app.partner.test\"]"
            ));
            let told = [NAMED, LIAR, NAMELESS, BROKEN].map(|from| come(&rules, from).1);
            assert_eq!(told, codes, "{rule}");
        }
        let rules = rules("clients = \"only\"\nclients_list = [\"192.0.2.3\", \"app.partner.test\"]");
        assert_eq!(come(&rules, BROKEN).1, 0, "an address on the list needs no name");
    }

    #[test]
    fn a_name_that_leads_back_may_relay() {
        let rules = rules("relay_list = [\"*.partner.test\"]");
        let to = |text: &str| Address::parse(text, "local.test").unwrap();
        for (from, code) in [(NAMED, 0), (LIAR, 550), (NAMELESS, 550), (BROKEN, 451)] {
            let (mut client, door) = come(&rules, from);
            assert_eq!(door, 0, "{from}");
            let told = rules.takes(&to("bob@far.test"), &client);
            assert_eq!(told.map_or_else(|reply| reply.code, |()| 0), code, "{from}");
            assert_eq!(rules.takes(&to("bob@local.test"), &client), Ok(()), "{from}");
            client.user = Some("app".to_owned());
            assert_eq!(rules.takes(&to("bob@far.test"), &client), Ok(()), "{from}");
        }
    }

    #[test]
    fn received_says_who_dns_says_it_is_and_nobody_waits_long() {
        let rules = rules("reverse_dns = true");
        let began = Instant::now();
        for (from, origin) in [
            (NAMED, "(app.partner.test [192.0.2.1])"),
            (LIAR, "([192.0.2.2] unverified)"),
            (NAMELESS, "([192.0.2.4] RDNS failed)"),
            (BROKEN, "([192.0.2.3] RDNS failed)"),
            (SILENT, "([192.0.2.5] RDNS failed)"),
        ] {
            let (client, code) = come(&rules, from);
            assert_eq!((client.origin(&rules).as_str(), code), (origin, 0));
        }
        assert!(began.elapsed() < 4 * PATIENCE, "{:?}", began.elapsed());
    }

    #[test]
    fn nobody_is_looked_up_unless_it_matters() {
        let rules = rules("clients_list = [\"192.0.2.2\"]\nrelay_list = [\"192.0.2.0/24\"]");
        assert!(rules.dns.is_none());
        let (client, code) = come(&rules, NAMED);
        assert_eq!(
            (code, client.shown_name(), client.origin(&rules).as_str()),
            (0, "", "([192.0.2.1])")
        );
        assert_eq!(come(&rules, LIAR).1, 554);
    }
}
