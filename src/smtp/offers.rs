//! What a host offers in its answer to EHLO (RFC 5321 §4.1.1.1).
//!
//! Pure: reply → [`Offers`].

use super::reply::Reply;

/// The service extensions of one host. All false after HELO.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offers {
    /// EHLO was accepted (RFC 5321).
    pub extended: bool,
    /// PIPELINING (RFC 2920)
    pub pipelining: bool,
    /// CHUNKING (RFC 3030)
    pub chunking: bool,
    /// 8BITMIME (RFC 6152)
    pub eight_bit: bool,
    /// SMTPUTF8 (RFC 6531)
    pub smtputf8: bool,
    /// SIZE (RFC 1870) is understood.
    pub size: bool,
    /// The largest message it takes; `None` when it names no limit.
    pub max_size: Option<u64>,
    /// DSN (RFC 3461)
    pub dsn: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034)
    pub enhanced: bool,
    /// STARTTLS (RFC 3207)
    pub starttls: bool,
    /// AUTH mechanisms (RFC 4954), upper case, in the host's order.
    pub auth: Vec<String>,
}

impl Offers {
    /// Reads the reply to EHLO; its first line is a greeting.
    pub(super) fn read(reply: &Reply) -> Self {
        let mut offers = Self {
            extended: true,
            ..Self::default()
        };
        reply.texts().skip(1).for_each(|line| offers.add(line));
        offers
    }

    /// Whether `mechanism` (upper case) is among those offered.
    pub fn has_auth(&self, mechanism: &str) -> bool {
        self.auth.iter().any(|offered| offered == mechanism)
    }

    fn add(&mut self, line: &str) {
        let line = line.trim().to_ascii_uppercase();
        // `AUTH=LOGIN` is how hosts told clients of the nineties.
        let (keyword, rest) = line.split_once([' ', '=']).unwrap_or((&line, ""));
        match keyword {
            "PIPELINING" => self.pipelining = true,
            "CHUNKING" => self.chunking = true,
            "8BITMIME" => self.eight_bit = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "DSN" => self.dsn = true,
            "ENHANCEDSTATUSCODES" => self.enhanced = true,
            "STARTTLS" => self.starttls = true,
            "SIZE" => {
                self.size = true;
                self.max_size = rest.trim().parse().ok().filter(|limit| *limit > 0);
            }
            "AUTH" => {
                for mechanism in rest.split([' ', '=']).filter(|word| !word.is_empty()) {
                    if !self.has_auth(mechanism) && self.auth.len() < MAX_MECHANISMS {
                        self.auth.push(mechanism.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
}

/// A host that lists more is not believed further.
const MAX_MECHANISMS: usize = 32;

#[cfg(test)]
mod tests {
    use super::super::reply::Decoder;
    use super::*;

    fn read(text: &str) -> Offers {
        let mut decoder = Decoder::default();
        Offers::read(&decoder.feed(text.as_bytes()).unwrap().1.unwrap())
    }

    #[test]
    fn every_keyword_in_any_case() {
        let offers = read(
            "250-DSN is not offered by the greeting\r\n250-pipelining\r\n250-CHUNKING\r\n250-8bitmime\r\n\
             250-SMTPUTF8\r\n250-SIZE 35882577\r\n250-ENHANCEDSTATUSCODES\r\n250-STARTTLS\r\n250-X-ODD\r\n\
             250-AUTH PLAIN login\r\n250 AUTH=LOGIN CRAM-MD5\r\n",
        );
        assert_eq!(
            offers,
            Offers {
                extended: true,
                pipelining: true,
                chunking: true,
                eight_bit: true,
                smtputf8: true,
                size: true,
                max_size: Some(35_882_577),
                dsn: false,
                enhanced: true,
                starttls: true,
                auth: vec!["PLAIN".into(), "LOGIN".into(), "CRAM-MD5".into()],
            }
        );
        assert!(read("250-x\r\n250 DSN\r\n").dsn);
    }

    #[test]
    fn a_size_of_zero_or_nonsense_is_no_limit() {
        for size in ["SIZE", "SIZE 0", "SIZE many", "SIZE 99999999999999999999999"] {
            let offers = read(&format!("250-x\r\n250 {size}\r\n"));
            assert!(offers.size && offers.max_size.is_none(), "{size}");
        }
    }
}
