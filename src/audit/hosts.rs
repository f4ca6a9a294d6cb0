//! Whom a process may talk to, as patterns: `*:22`, `10.0.0.0/8`, `example.org`, `*.example.org:443`, `[::1]:80`,
//! `unix:/run/docker.sock`.

use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub enum Peer<'a> {
    /// Address and port.
    Ip(IpAddr, u16),
    /// A name that a request gave, and its port.
    Name(&'a str, u16),
    /// Path of a unix socket; an abstract name is written `@name`.
    Unix(&'a [u8]),
}

/// A pattern.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// Hosts and, where one is given, a port.
    Host(Host, Option<u16>),
    /// Unix sockets.
    Unix(GlobMatcher),
}

/// Hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// All.
    Any,
    /// This machine.
    Local,
    /// All addresses whose first so many bits are these.
    Net(IpAddr, u8),
    /// A name.
    Name(String),
    /// All names below one.
    Below(String),
}

impl Pattern {
    /// Whether it can only be checked where a name is known.
    pub fn needs_name(&self) -> bool {
        matches!(self, Self::Host(Host::Name(_) | Host::Below(_), _))
    }

    /// Whether it means that peer.
    pub fn matches(&self, peer: Peer<'_>) -> bool {
        match (self, peer) {
            (Self::Unix(glob), Peer::Unix(path)) => {
                glob.is_match(Path::new(std::ffi::OsStr::from_bytes(path)))
            }
            (Self::Host(host, wanted), Peer::Ip(address, port)) => {
                wanted.is_none_or(|wanted| wanted == port) && host.has_address(address)
            }
            (Self::Host(host, wanted), Peer::Name(name, port)) => {
                wanted.is_none_or(|wanted| wanted == port) && host.has_name(name)
            }
            _ => false,
        }
    }

    /// Reads a pattern; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with(['/', '@', '*']) {
                return Err("a unix socket is given by its absolute path, or as @name".into());
            }
            let glob = GlobBuilder::new(path).literal_separator(true).build();
            return glob
                .map(|glob| Self::Unix(glob.compile_matcher()))
                .map_err(|e| e.kind().to_string());
        }
        // An IPv6 address has colons that are no port's.
        let colons = text.matches(':').count();
        if colons != 1
            && !text.starts_with('[')
            && let Some(net) = network(text)
        {
            return net.map(|host| Self::Host(host, None));
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or("there is no `]`")?;
                match (network(host), port.strip_prefix(':')) {
                    (Some(Ok(Host::Net(IpAddr::V6(_), _))), _) if port.is_empty() => (host, None),
                    (Some(Ok(Host::Net(IpAddr::V6(_), _))), Some(port)) => (host, Some(port)),
                    (Some(Err(why)), _) => return Err(why),
                    _ => {
                        return Err(
                            "brackets hold an IPv6 address, and a port follows as `:443`".into()
                        );
                    }
                }
            }
            None => match text.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = match port {
            None | Some("*") => None,
            Some(port) => Some(
                port.parse()
                    .ok()
                    .filter(|port| *port > 0)
                    .ok_or_else(|| format!("`{port}` is no port (1 to 65535)"))?,
            ),
        };
        let host = match network(host) {
            Some(net) => net?,
            None => Host::named(host)?,
        };
        Ok(Self::Host(host, port))
    }
}

impl Host {
    fn named(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if text == "localhost" {
            return Ok(Self::Local);
        }
        let (name, below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (&*text, false),
        };
        let label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        // `10.0.0` or `1.2.3.400` is a mistyped address, not a name: no top-level domain is a number.
        let number =
            name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if number || !name.split('.').all(label) {
            return Err("write an address, a network such as 10.0.0.0/8, a name, `*.name` or `*`, and a port as `:443`".into());
        }
        Ok(if below { Self::Below(name.to_owned()) } else { Self::Name(name.to_owned()) })
    }

    fn has_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match self {
            Self::Any => true,
            Self::Local => address.is_loopback(),
            Self::Net(net, bits) => match (net, address) {
                (IpAddr::V4(net), IpAddr::V4(address)) => {
                    let mask = u32::MAX.checked_shl(32 - u32::from(*bits)).unwrap_or(0);
                    net.to_bits() & mask == address.to_bits() & mask
                }
                (IpAddr::V6(net), IpAddr::V6(address)) => {
                    let mask = u128::MAX.checked_shl(128 - u32::from(*bits)).unwrap_or(0);
                    net.to_bits() & mask == address.to_bits() & mask
                }
                _ => false,
            },
            Self::Name(_) | Self::Below(_) => false,
        }
    }

    fn has_name(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        match self {
            Self::Any => true,
            Self::Local => name == "localhost",
            Self::Net(..) => name.parse().is_ok_and(|address| self.has_address(address)),
            Self::Name(wanted) => name == *wanted,
            Self::Below(domain) => {
                name.strip_suffix(&**domain).is_some_and(|rest| rest.ends_with('.'))
            }
        }
    }
}

/// `10.0.0.0/8`, `::1`; none where the text has neither shape.
fn network(text: &str) -> Option<Result<Host, String>> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return bits.map(|_| Err(format!("`{text}` is no network: write 10.0.0.0/8 or fd00::/8")));
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => most,
        Some(bits) => match bits.parse() {
            Ok(bits) if bits <= most => bits,
            _ => {
                return Some(Err(format!(
                    "a network of this kind has 0 to {most} bits, not {bits}"
                )));
            }
        },
    };
    // ::ffff:10.0.0.1 is the same host as 10.0.0.1.
    Some(Ok(match address.to_canonical() {
        canonical @ IpAddr::V4(_) if address.is_ipv6() && bits >= 96 => {
            Host::Net(canonical, bits - 96)
        }
        _ => Host::Net(address, bits),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, host: &str, port: u16) -> bool {
        let pattern = Pattern::parse(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
        match host.parse() {
            Ok(address) => pattern.matches(Peer::Ip(address, port)),
            Err(_) if host.starts_with(['/', '@']) => pattern.matches(Peer::Unix(host.as_bytes())),
            Err(_) => pattern.matches(Peer::Name(host, port)),
        }
    }

    #[test]
    fn patterns_match_what_they_say() {
        for (pattern, host, port) in [
            ("*", "1.2.3.4", 1),
            ("*:22", "::1", 22),
            ("*:*", "::1", 22),
            ("10.0.0.0/8", "10.255.0.1", 80),
            ("10.0.0.0/8:80", "10.1.1.1", 80),
            ("0.0.0.0/0", "9.9.9.9", 80),
            ("10.0.0.1", "::ffff:10.0.0.1", 80),
            ("::ffff:10.0.0.0/104", "10.9.9.9", 80),
            ("::1", "::1", 80),
            ("[::1]:80", "::1", 80),
            ("[::1]", "::1", 80),
            ("[fe80::/10]:53", "fe80::7", 53),
            ("fe80::/10", "fe80::7", 53),
            ("::/0", "fe80::7", 53),
            ("localhost", "127.0.0.53", 53),
            ("localhost:53", "::1", 53),
            ("Example.org", "example.ORG.", 443),
            ("*.example.org:443", "a.b.example.org", 443),
            ("unix:/run/*.sock", "/run/docker.sock", 0),
            ("unix:@tmp-*", "@tmp-x", 0),
        ] {
            assert!(matches(pattern, host, port), "{pattern} means {host}:{port}");
        }
        for (pattern, host, port) in [
            ("*:22", "1.2.3.4", 23),
            ("10.0.0.0/8", "11.0.0.1", 80),
            ("10.0.0.0/8:80", "10.1.1.1", 81),
            ("10.0.0.1", "10.0.0.2", 80),
            ("0.0.0.0/0", "::1", 80),
            ("localhost", "10.0.0.1", 80),
            ("example.org", "a.example.org", 443),
            ("*.example.org", "example.org", 443),
            ("*.example.org", "badexample.org", 443),
            ("*", "/run/x.sock", 0),
            ("unix:/run/*.sock", "/run/a/docker.sock", 0),
        ] {
            assert!(!matches(pattern, host, port), "{pattern} does not mean {host}:{port}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for pattern in [
            "",
            ":",
            ":22",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0",
            "1.2.3.400",
            "::/129",
            "[::1",
            "[::1]x",
            "[10.0.0.1]:5",
            "host:0",
            "host:65536",
            "host:http",
            "http://host/",
            "a..b",
            "*.*.org",
            "unix:docker.sock",
            "unix:/[a",
        ] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_pattern_or_an_error(text in "\\PC{0,40}") {
            let _ = Pattern::parse(&text);
        }

        #[test]
        fn near_patterns_are_patterns_or_errors(text in "[0-9a-f:./*\\[\\]x-]{0,30}") {
            if let Ok(pattern) = Pattern::parse(&text) {
                pattern.matches(Peer::Ip(IpAddr::from([10, 0, 0, 1]), 22));
                pattern.matches(Peer::Name(&text, 22));
            }
        }

        #[test]
        fn an_address_means_itself_and_its_networks(bytes: [u8; 16], v4: bool, bits in 0u8..=128, port: u16) {
            let address = if v4 {
                IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])
            } else {
                IpAddr::from(bytes)
            };
            let bits = if v4 { bits.min(32) } else { bits };
            for text in [address.to_string(), format!("{address}/{bits}")] {
                let pattern = Pattern::parse(&text).expect("an address");
                // ::/8 holds the mapped IPv4 addresses too, which are asked for as IPv4.
                if v4 || address.to_canonical() == address || bits >= 96 {
                    prop_assert!(pattern.matches(Peer::Ip(address, port)), "{}", text);
                }
            }
        }
    }
}
