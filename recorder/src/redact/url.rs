//! Secrets inside URLs: user information, parameters, and the paths of webhooks, which are passwords by themselves.

use super::Found;
use super::names::{
    Strength, is_digest_or_uuid, is_placeholder, is_query_secret, looks_random, strength,
};
use super::pairs;

/// Hosts (and what must start their path) below which the path is a password.
const WEBHOOKS: &[(&str, &str)] = &[
    ("hooks.slack.com", "/services/"),
    ("hooks.slack.com", "/workflows/"),
    ("hooks.slack.com", "/triggers/"),
    ("discord.com", "/api/webhooks/"),
    ("discordapp.com", "/api/webhooks/"),
    ("webhook.office.com", "/webhookb2/"),
    ("outlook.office.com", "/webhook/"),
    ("hooks.zapier.com", "/hooks/"),
    ("api.telegram.org", "/bot"),
    ("hc-ping.com", "/"),
    ("webhook.site", "/"),
    ("make.com", "/"),
    ("pipedream.net", "/"),
    ("logic.azure.com", "/workflows/"),
    ("maker.ifttt.com", "/trigger/"),
];

/// Adds the secrets of the URL whose `://` starts at `at`.
pub(super) fn find(text: &[u8], at: usize, found: &mut Vec<Found>) {
    let rest = at + 3;
    let len = text[rest..]
        .iter()
        .take(8192)
        .take_while(|b| {
            !(b.is_ascii_whitespace() || b.is_ascii_control() || b"\"'`<>\\".contains(b))
        })
        .count();
    let url = &text[rest..rest + len];
    let authority = url.iter().position(|b| b"/?#".contains(b)).unwrap_or(len);
    let host = user_info(url, authority, rest, found);
    let host_end = host.max(authority);
    let path_end =
        host_end + url[host_end..].iter().position(|b| b"?#".contains(b)).unwrap_or(len - host_end);
    webhook(&url[host..host_end], &url[host_end..path_end], rest + host_end, found);
    parameters(url, path_end, rest, found);
}

/// Finds the password and a user that is a key; returns where the host starts.
fn user_info(url: &[u8], authority: usize, base: usize, found: &mut Vec<Found>) -> usize {
    let colon = url[..authority].iter().position(|b| *b == b':');
    let at = match url[..authority].iter().rposition(|b| *b == b'@') {
        Some(at) => at,
        // A password with an unescaped slash; a port is no password.
        None => {
            let Some(colon) = colon else { return 0 };
            let Some(at) = url.iter().rposition(|b| *b == b'@') else { return 0 };
            let port = &url[colon + 1..authority];
            if port.iter().all(u8::is_ascii_digit) || url.starts_with(b"[") {
                return 0;
            }
            at
        }
    };
    let (user, password) = match colon.filter(|c| *c < at) {
        Some(colon) => (&url[..colon], &url[colon + 1..at]),
        None => (&url[..at], &url[at..at]),
    };
    if user.len() >= 16 && (looks_random(user) || is_digest_or_uuid(user)) {
        found.push(Found { start: base, end: base + user.len(), kind: "url-user" });
    }
    if !password.is_empty() && !is_placeholder(password) {
        let start = base + at - password.len();
        found.push(Found { start, end: base + at, kind: "password" });
    }
    at + 1
}

fn webhook(host: &[u8], path: &[u8], base: usize, found: &mut Vec<Found>) {
    let host = host.split(|b| *b == b':').next().unwrap_or_default().to_ascii_lowercase();
    let below = |name: &str| {
        host.strip_suffix(name.as_bytes())
            .is_some_and(|before| before.is_empty() || before.ends_with(b"."))
    };
    let known = WEBHOOKS.iter().find_map(|(name, start)| {
        let rest = path.strip_prefix(start.as_bytes()).filter(|rest| rest.len() >= 8);
        // `make.com` itself is a site to read; only its hook hosts take calls.
        let is_host =
            below(name) && (*start != "/" || *name != "make.com" || host.starts_with(b"hook"));
        rest.filter(|_| is_host).map(|rest| path.len() - rest.len())
    });
    let versioned = || {
        let discord = below("discord.com") || below("discordapp.com");
        let position = path.windows(10).position(|w| w == b"/webhooks/")?;
        (discord && path.starts_with(b"/api/")).then_some(position + 10)
    };
    let start = known.or_else(versioned).or_else(|| generic_webhook(path));
    if let Some(start) = start.filter(|start| *start < path.len()) {
        found.push(Found { start: base + start, end: base + path.len(), kind: "webhook" });
    }
}

/// Where the random part after a segment `hooks`, `webhook`, … starts.
fn generic_webhook(path: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut hook = false;
    for segment in path.split(|b| *b == b'/') {
        if hook && (looks_random(segment) || is_digest_or_uuid(segment)) {
            return Some(at);
        }
        let lower = segment.to_ascii_lowercase();
        hook |= [&b"hook"[..], b"hooks", b"webhook", b"webhooks", b"webhookb2", b"incoming"]
            .contains(&lower.as_slice());
        at += segment.len() + 1;
    }
    None
}

/// Parameters of the query and the fragment of `url`, which start at `from`.
fn parameters(url: &[u8], from: usize, base: usize, found: &mut Vec<Found>) {
    let mut at = from;
    for part in url[from..].split(|b| b"?&#;".contains(b)) {
        if let Some(equals) = part.iter().position(|b| *b == b'=') {
            let (name, value) = (&part[..equals], &part[equals + 1..]);
            let value = &value
                [..value.len() - value.iter().rev().take_while(|b| b").,".contains(b)).count()];
            let secret = match strength(name) {
                _ if is_placeholder(value) => false,
                Some(Strength::Strong) => true,
                Some(Strength::Weak) => {
                    pairs::is_weak_value(name, value) || (value.len() >= 16 && looks_random(value))
                }
                None => is_query_secret(name) && looks_random(value),
            };
            if secret {
                let start = base + at + equals + 1;
                found.push(Found { start, end: start + value.len(), kind: pairs::kind(name) });
            }
        }
        at += part.len() + 1;
    }
}
