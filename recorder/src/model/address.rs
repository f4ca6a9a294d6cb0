//! Socket addresses out of the bytes of a `struct sockaddr`.

use std::net::{Ipv4Addr, Ipv6Addr};

use agentrec_trace::event::Address;

/// Bytes of a unix socket's name in `raw`: without padding, an abstract one with its leading NUL.
fn unix_name(raw: &[u8]) -> Option<&[u8]> {
    if family(raw)? != libc::AF_UNIX {
        return None;
    }
    let name = &raw[2..];
    if name.first() == Some(&0) {
        return Some(name);
    }
    Some(name.split(|&byte| byte == 0).next().unwrap_or_default())
}

/// The path of a unix socket in `raw`, where it has one: an abstract name is none.
pub(super) fn unix_path(raw: &[u8]) -> Option<&[u8]> {
    unix_name(raw).filter(|name| !matches!(name, [] | [0, ..]))
}

/// `raw` as the event has it; a unix path is left as the process gave it.
pub(super) fn decode(raw: &[u8]) -> Address<'static> {
    let Some(family) = family(raw) else { return Address::default() };
    let port = || raw.get(2..4).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
    match family {
        libc::AF_INET => {
            let host = raw.get(4..8).and_then(|host| <[u8; 4]>::try_from(host).ok());
            Address {
                family: "inet".into(),
                host: host.map_or_else(String::new, |host| Ipv4Addr::from(host).to_string()).into(),
                port: port(),
                ..Address::default()
            }
        }
        libc::AF_INET6 => {
            let host = raw.get(8..24).and_then(|host| <[u8; 16]>::try_from(host).ok());
            Address {
                family: "inet6".into(),
                host: host.map_or_else(String::new, |host| Ipv6Addr::from(host).to_string()).into(),
                port: port(),
                ..Address::default()
            }
        }
        libc::AF_UNIX => Address {
            family: "unix".into(),
            path: unix_name(raw).unwrap_or_default().to_vec().into(),
            ..Address::default()
        },
        libc::AF_NETLINK => Address { family: "netlink".into(), ..Address::default() },
        other => Address { family: format!("af_{other}").into(), ..Address::default() },
    }
}

/// The address of a family, and nothing more.
pub(super) fn nameless(family: i32) -> Address<'static> {
    decode(&(family as u16).to_ne_bytes())
}

/// Whether `raw` says all that is known of an address of its family (a short buffer cuts it, accept(2)).
pub(super) fn is_whole(raw: &[u8]) -> bool {
    match family(raw) {
        Some(libc::AF_INET) => raw.len() >= size_of::<libc::sockaddr_in>(),
        Some(libc::AF_INET6) => raw.len() >= size_of::<libc::sockaddr_in6>(),
        _ => false,
    }
}

/// What the protocol of a socket of `family` and `kind` (with its flags) is called.
pub(super) fn protocol(family: i32, kind: i32) -> &'static str {
    let kind = kind & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
    match (family, kind) {
        (libc::AF_UNIX, _) => "unix",
        (libc::AF_NETLINK, _) => "netlink",
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM) => "tcp",
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM) => "udp",
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_RAW) | (libc::AF_PACKET, _) => "raw",
        _ => "",
    }
}

pub(super) fn family(raw: &[u8]) -> Option<i32> {
    Some(i32::from(u16::from_ne_bytes(raw.get(..2)?.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockaddr(family: i32, rest: &[u8]) -> Vec<u8> {
        [&u16::try_from(family).unwrap().to_ne_bytes()[..], rest].concat()
    }

    #[test]
    fn decodes_inet_and_unix() {
        let inet =
            decode(&sockaddr(libc::AF_INET, &[0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!((&*inet.family, &*inet.host, inet.port), ("inet", "127.0.0.1", 8080));
        let mut v6 = vec![0, 53, 0, 0, 0, 0];
        v6.extend(Ipv6Addr::LOCALHOST.octets());
        v6.extend([0; 4]);
        let inet6 = decode(&sockaddr(libc::AF_INET6, &v6));
        assert_eq!((&*inet6.family, &*inet6.host, inet6.port), ("inet6", "::1", 53));
        assert_eq!(&*decode(&sockaddr(libc::AF_UNIX, b"/run/x\0\0")).path, b"/run/x");
        assert_eq!(&*decode(&sockaddr(libc::AF_UNIX, b"\0name")).path, b"\0name");
        assert_eq!(decode(&sockaddr(libc::AF_VSOCK, &[])).family, "af_40");
    }

    #[test]
    fn short_addresses_are_no_panic() {
        for family in 0..50 {
            let whole = sockaddr(family, &[7; 26]);
            for len in 0..whole.len() {
                decode(&whole[..len]);
            }
        }
    }
}
