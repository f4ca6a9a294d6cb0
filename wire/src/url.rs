//! The URL that a request means (RFC 9110, 7.1; RFC 9112, 3.3).

use crate::item::Scheme;

/// The target URI of a request: `target` as in the request line (or `:path`), `host` from `Host` or `:authority`.
///
/// An absolute target is taken as it is, CONNECT gives its `host:port`. Where no host is known the target alone is given.
pub fn absolute_url(scheme: Scheme, method: &[u8], target: &[u8], host: Option<&[u8]>) -> Vec<u8> {
    let host = host.map(<[u8]>::trim_ascii).filter(|host| !host.is_empty());
    if method == b"CONNECT" {
        return if target.is_empty() { host.unwrap_or_default() } else { target }.to_vec();
    }
    if is_absolute(target) {
        return target.to_vec();
    }
    let Some(host) = host else { return target.to_vec() };
    let path = if target == b"*" { &b""[..] } else { target };
    let mut url = Vec::with_capacity(8 + host.len() + 1 + path.len());
    url.extend_from_slice(scheme.as_str().as_bytes());
    url.extend_from_slice(b"://");
    url.extend_from_slice(host);
    if !path.is_empty() && path[0] != b'/' {
        url.push(b'/');
    }
    url.extend_from_slice(path);
    url
}

/// Whether it begins with a scheme and `://`.
fn is_absolute(target: &[u8]) -> bool {
    let Some(colon) = memchr::memchr(b':', target) else { return false };
    let scheme = &target[..colon];
    scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        && target[colon..].starts_with(b"://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_target_gives_its_url() {
        let url = |method: &str, target: &str, host: Option<&str>| {
            let host = host.map(str::as_bytes);
            let url = absolute_url(Scheme::Https, method.as_bytes(), target.as_bytes(), host);
            String::from_utf8(url).unwrap()
        };
        assert_eq!(url("GET", "/v1?q=a:b", Some("api.test")), "https://api.test/v1?q=a:b");
        assert_eq!(url("GET", "/", Some(" [::1]:8080 ")), "https://[::1]:8080/");
        assert_eq!(url("GET", "http://a.test/x", Some("proxy")), "http://a.test/x");
        assert_eq!(url("GET", "/a://b", Some("h")), "https://h/a://b");
        assert_eq!(url("CONNECT", "a.test:443", Some("other")), "a.test:443");
        assert_eq!(url("CONNECT", "", Some("a.test:443")), "a.test:443");
        assert_eq!(url("OPTIONS", "*", Some("a.test")), "https://a.test");
        assert_eq!(url("GET", "/x", None), "/x");
        assert_eq!(url("GET", "/x", Some("")), "/x");
    }
}
