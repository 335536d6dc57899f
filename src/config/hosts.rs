//! Host names, domains and `host:port` as settings write them: text → value, or a clause that says why not.
//!
//! Pure. Domains are kept as lower-case A-labels (RFC 5890), so that they compare and travel without SMTPUTF8.

use super::{Host, HostPort};
use std::net::{IpAddr, SocketAddr};

/// RFC 1035 §2.3.4, without the root's dot.
const MAX_DOMAIN: usize = 253;
const MAX_LABEL: usize = 63;

/// A mail domain: letters, digits, `-` and `_` in labels; any script.
pub fn domain(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    let ascii = idna::domain_to_ascii(text).map_err(|_| "it is not a domain name".to_owned())?;
    if ascii.len() > MAX_DOMAIN {
        return Err(format!("it is longer than {MAX_DOMAIN} characters"));
    }
    if ascii.ends_with('.') {
        return Err("write it without the period at its end".into());
    }
    for label in ascii.split('.') {
        if label.is_empty() {
            return Err("a part between two periods is empty".into());
        }
        if label.len() > MAX_LABEL {
            return Err(format!("a part of it is longer than {MAX_LABEL} characters"));
        }
        if let Some(c) = label
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')))
        {
            return Err(format!("it holds {c:?}, which no domain name has"));
        }
    }
    Ok(ascii)
}

/// The name that we give ourselves in EHLO: like [`domain`], but as strict as remote hosts are (RFC 5321 §4.1.2).
pub fn hostname(text: &str) -> Result<String, String> {
    let name = domain(text)?;
    if name.contains('_') {
        return Err("it holds \"_\", which remote hosts refuse in EHLO".into());
    }
    if name
        .split('.')
        .any(|label| label.starts_with('-') || label.ends_with('-'))
    {
        return Err("a part of it begins or ends with \"-\", which remote hosts refuse in EHLO".into());
    }
    if name.parse::<IpAddr>().is_ok() {
        return Err("it is an IP address; a host name is wanted".into());
    }
    Ok(name)
}

/// `example.com`, or `*.example.com` for every name below it.
pub fn remote_name(text: &str) -> Result<String, String> {
    match text.strip_prefix("*.") {
        _ if text == "*" => {
            Err("for all domains that have no entry of their own set delivery.smart_host instead".into())
        }
        Some(below) => domain(below).map(|below| format!("*.{below}")),
        None if text.contains('*') => {
            Err("a star stands only at the beginning, as in \"*.example.com\"".into())
        }
        None => domain(text),
    }
}

/// A comma list of `host`, `host:port`, `[ip]`, `[ip]:port`; empty text is the empty list.
pub fn host_list(text: &str) -> Result<Vec<HostPort>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    text.split(',').map(|one| host_port(one.trim())).collect()
}

/// One of `host`, `host:port`, `[ip]`, `[ip]:port`.
pub fn host_port(text: &str) -> Result<HostPort, String> {
    if text.is_empty() {
        return Err("an entry between two commas is empty".into());
    }
    if let Some(rest) = text.strip_prefix('[') {
        let Some((ip, after)) = rest.split_once(']') else {
            return Err(format!("\"{text}\" opens a bracket and does not close it"));
        };
        let address = ip_in_brackets(ip).ok_or_else(|| {
            format!("\"{ip}\" between the brackets is not an IP address; a host name stands without brackets")
        })?;
        let port = match after.strip_prefix(':') {
            Some(port) => Some(self::port(port)?),
            None if after.is_empty() => None,
            None => {
                return Err(format!(
                    "\"{after}\" after the bracket is not a port; write \"[{ip}]:25\""
                ));
            }
        };
        return Ok(HostPort {
            host: Host::Ip(address),
            port,
        });
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Err(format!("an IPv6 address stands in brackets: write \"[{text}]\""));
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, Some(self::port(port)?)),
        None => (text, None),
    };
    // What looks like an IPv4 address is one: no host name ends in digits alone (RFC 3696 §2).
    let host = match name.parse() {
        Ok(address) => Host::Ip(IpAddr::V4(address)),
        Err(_) => Host::Name(domain(name).map_err(|why| format!("\"{name}\" is not a host: {why}"))?),
    };
    Ok(HostPort { host, port })
}

/// Inside brackets; `[IPv6:::1]` is how RFC 5321 writes it.
fn ip_in_brackets(text: &str) -> Option<IpAddr> {
    let bare = match text.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => text.get(5..)?,
        _ => text,
    };
    bare.parse().ok()
}

fn port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(format!("\"{text}\" is not a port; ports are 1 to 65535")),
    }
}

/// A DNS server: an address, with a port (53 when it has none).
pub fn dns_server(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, 53));
    }
    let HostPort { host, port } = host_port(text)?;
    match host {
        Host::Ip(address) => Ok(SocketAddr::new(address, port.unwrap_or(53))),
        Host::Name(name) => Err(format!(
            "\"{name}\" is a name; a DNS server is given by its IP address"
        )),
    }
}

impl std::fmt::Display for HostPort {
    /// As it stands in settings: a port only when it was given.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Host::Name(name) => f.write_str(name)?,
            Host::Ip(address) => write!(f, "[{address}]")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_in_every_form() {
        for (text, shown) in [
            ("mail.example.net", "mail.example.net"),
            ("Mail.Example.NET:2525", "mail.example.net:2525"),
            ("[192.0.2.7]", "[192.0.2.7]"),
            ("[192.0.2.7]:587", "[192.0.2.7]:587"),
            ("192.0.2.7:587", "[192.0.2.7]:587"),
            ("[2001:db8::1]:25", "[2001:db8::1]:25"),
            ("[IPv6:2001:db8::1]", "[2001:db8::1]"),
            ("bücher.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(host_port(text).unwrap().to_string(), shown, "{text}");
        }
        let list = host_list("a.example, [192.0.2.1]:26 ,b.example").unwrap();
        assert_eq!(
            list.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["a.example", "[192.0.2.1]:26", "b.example"]
        );
        assert_eq!(host_list(" "), Ok(Vec::new()));
    }

    #[test]
    fn hosts_refused_in_words() {
        for (text, word) in [
            ("a.example,,b.example", "between two commas"),
            ("[mail.example.net]", "stands without brackets"),
            ("[192.0.2.7", "does not close"),
            ("[192.0.2.7]25", "not a port"),
            ("mail.example.net:0", "1 to 65535"),
            ("mail.example.net:99999", "1 to 65535"),
            ("mail.example.net:+25", "1 to 65535"),
            ("2001:db8::1", "write \"[2001:db8::1]\""),
            ("a b", "which no domain name has"),
            ("smtp://mail.example.net", "not a port"),
        ] {
            let why = host_list(text).unwrap_err();
            assert!(why.contains(word), "{text:?}: {why}");
        }
    }

    #[test]
    fn domains_and_hostnames() {
        assert_eq!(domain("Bücher.Example").unwrap(), "xn--bcher-kva.example");
        assert_eq!(domain("_x.example").unwrap(), "_x.example");
        for text in [
            "",
            ".",
            "a..b",
            "a.b.",
            "a b",
            "a/b",
            "a@b",
            &"a".repeat(64),
            &"a.".repeat(200),
        ] {
            assert!(domain(text).is_err(), "{text:?}");
        }
        assert_eq!(hostname("MX1.example.com").unwrap(), "mx1.example.com");
        for text in ["my_host", "-a.example", "a-.example", "192.0.2.1"] {
            assert!(hostname(text).is_err(), "{text:?}");
        }
        assert_eq!(remote_name("*.Example.com").unwrap(), "*.example.com");
        for text in ["*", "a.*.b", "*example.com", "**.a"] {
            assert!(remote_name(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn dns_servers_are_addresses() {
        for (text, shown) in [
            ("192.0.2.53", "192.0.2.53:53"),
            ("127.0.0.1:5353", "127.0.0.1:5353"),
            ("2001:db8::53", "[2001:db8::53]:53"),
            ("[::1]:5353", "[::1]:5353"),
        ] {
            assert_eq!(dns_server(text).unwrap().to_string(), shown);
        }
        assert!(dns_server("ns.example.net").unwrap_err().contains("is a name"));
    }
}
