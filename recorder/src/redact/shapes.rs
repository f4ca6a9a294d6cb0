//! Secrets that are known by their own shape: keys with a vendor's prefix, private key blocks, JSON web tokens.

use super::Found;
use super::names::{is_word, looks_random};

/// A key that starts with its vendor's prefix.
pub(super) struct Shape {
    pub kind: &'static str,
    pub prefix: &'static str,
    /// Bytes that the rest consists of.
    body: fn(u8) -> bool,
    /// Least and greatest length of the rest.
    len: (usize, usize),
    /// What the surroundings must be.
    check: Check,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Check {
    /// The prefix is distinctive enough.
    None,
    /// The prefix must start a word.
    Word,
    /// The prefix must start a word, and the rest look random.
    Random,
}

fn alnum(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

fn url64(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
}

fn dotted(b: u8) -> bool {
    url64(b) || b == b'.'
}

fn std64(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'_' | b'-')
}

fn hex(b: u8) -> bool {
    b.is_ascii_digit() || matches!(b, b'a'..=b'f')
}

fn upper(b: u8) -> bool {
    b.is_ascii_uppercase() || b.is_ascii_digit()
}

const ANY: usize = usize::MAX;

const fn shape(
    kind: &'static str,
    prefix: &'static str,
    body: fn(u8) -> bool,
    len: (usize, usize),
    check: Check,
) -> Shape {
    Shape { kind, prefix, body, len, check }
}

/// Longer prefixes stand before the shorter ones that they begin with.
pub(super) const SHAPES: &[Shape] = &[
    shape("anthropic", "sk-ant-", url64, (20, ANY), Check::None),
    shape("openrouter", "sk-or-v1-", hex, (40, ANY), Check::None),
    shape("openai", "sk-proj-", url64, (20, ANY), Check::None),
    shape("openai", "sk-svcacct-", url64, (20, ANY), Check::None),
    shape("openai", "sk-admin-", url64, (20, ANY), Check::None),
    shape("langfuse", "sk-lf-", url64, (20, ANY), Check::None),
    shape("openai", "sk-", url64, (20, ANY), Check::Random),
    shape("aws", "AKIA", upper, (16, 16), Check::Word),
    shape("aws", "ASIA", upper, (16, 16), Check::Word),
    shape("aws", "ABIA", upper, (16, 16), Check::Word),
    shape("aws", "ACCA", upper, (16, 16), Check::Word),
    shape("aws", "bedrock-api-key-", std64, (30, ANY), Check::None),
    shape("github", "ghp_", alnum, (30, ANY), Check::None),
    shape("github", "gho_", alnum, (30, ANY), Check::None),
    shape("github", "ghu_", alnum, (30, ANY), Check::None),
    shape("github", "ghs_", alnum, (30, ANY), Check::None),
    shape("github", "ghr_", alnum, (30, ANY), Check::None),
    shape("github", "github_pat_", is_word, (22, ANY), Check::None),
    shape("gitlab", "glpat-", dotted, (20, ANY), Check::None),
    shape("gitlab", "gldt-", dotted, (20, ANY), Check::None),
    shape("gitlab", "glrt-", dotted, (20, ANY), Check::None),
    shape("gitlab", "glptt-", dotted, (20, ANY), Check::None),
    shape("gitlab", "glcbt-", dotted, (20, ANY), Check::None),
    shape("gitlab", "glsoat-", dotted, (20, ANY), Check::None),
    shape("slack", "xoxb-", url64, (10, ANY), Check::None),
    shape("slack", "xoxp-", url64, (10, ANY), Check::None),
    shape("slack", "xoxa-", url64, (10, ANY), Check::None),
    shape("slack", "xoxo-", url64, (10, ANY), Check::None),
    shape("slack", "xoxr-", url64, (10, ANY), Check::None),
    shape("slack", "xoxs-", url64, (10, ANY), Check::None),
    shape("slack", "xoxc-", url64, (10, ANY), Check::None),
    shape("slack", "xoxd-", std64, (10, ANY), Check::None),
    shape("slack", "xoxe-", url64, (10, ANY), Check::None),
    shape("slack", "xapp-", url64, (20, ANY), Check::None),
    shape("google", "AIza", url64, (35, ANY), Check::None),
    shape("google", "ya29.", dotted, (20, ANY), Check::None),
    shape("google", "GOCSPX-", url64, (20, ANY), Check::None),
    shape("google", "1//0", url64, (30, ANY), Check::Random),
    shape("stripe", "sk_live_", alnum, (16, ANY), Check::None),
    shape("stripe", "sk_test_", alnum, (16, ANY), Check::None),
    shape("stripe", "rk_live_", alnum, (16, ANY), Check::None),
    shape("stripe", "rk_test_", alnum, (16, ANY), Check::None),
    shape("stripe", "whsec_", std64, (20, ANY), Check::None),
    shape("npm", "npm_", alnum, (36, ANY), Check::None),
    shape("pypi", "pypi-", url64, (50, ANY), Check::None),
    shape("huggingface", "hf_", alnum, (30, ANY), Check::Word),
    shape("huggingface", "api_org_", alnum, (30, ANY), Check::Word),
    shape("sendgrid", "SG.", dotted, (40, ANY), Check::Random),
    shape("twilio", "SK", hex, (32, 32), Check::Word),
    shape("twilio", "AC", hex, (32, 32), Check::Word),
    shape("mailgun", "key-", hex, (32, 32), Check::Word),
    shape("digitalocean", "dop_v1_", hex, (64, ANY), Check::None),
    shape("digitalocean", "doo_v1_", hex, (64, ANY), Check::None),
    shape("databricks", "dapi", hex, (32, ANY), Check::Word),
    shape("shopify", "shpat_", alnum, (32, ANY), Check::None),
    shape("shopify", "shpss_", alnum, (32, ANY), Check::None),
    shape("shopify", "shpca_", alnum, (32, ANY), Check::None),
    shape("shopify", "shppa_", alnum, (32, ANY), Check::None),
    shape("square", "sq0csp-", url64, (22, ANY), Check::None),
    shape("square", "sq0atp-", url64, (22, ANY), Check::None),
    shape("linear", "lin_api_", alnum, (32, ANY), Check::None),
    shape("linear", "lin_oauth_", alnum, (32, ANY), Check::None),
    shape("notion", "ntn_", alnum, (40, ANY), Check::Word),
    shape("notion", "secret_", alnum, (40, ANY), Check::Word),
    shape("atlassian", "ATATT3", std64, (50, ANY), Check::None),
    shape("atlassian", "ATCTT3", std64, (50, ANY), Check::None),
    shape("atlassian", "ATBB", alnum, (28, ANY), Check::Word),
    shape("doppler", "dp.pt.", alnum, (40, ANY), Check::Word),
    shape("doppler", "dp.st.", dotted, (40, ANY), Check::Word),
    shape("vault", "hvs.", url64, (24, ANY), Check::Word),
    shape("vault", "hvb.", url64, (24, ANY), Check::Word),
    shape("grafana", "glsa_", is_word, (32, ANY), Check::None),
    shape("grafana", "glc_", std64, (32, ANY), Check::Word),
    shape("newrelic", "NRAK-", upper, (27, ANY), Check::Word),
    shape("postman", "PMAK-", url64, (50, ANY), Check::None),
    shape("pulumi", "pul-", hex, (40, ANY), Check::Word),
    shape("planetscale", "pscale_", dotted, (30, ANY), Check::Word),
    shape("fly", "fm2_", std64, (60, ANY), Check::Word),
    shape("groq", "gsk_", alnum, (40, ANY), Check::None),
    shape("xai", "xai-", alnum, (60, ANY), Check::Word),
    shape("perplexity", "pplx-", alnum, (40, ANY), Check::None),
    shape("replicate", "r8_", alnum, (37, ANY), Check::Word),
    shape("tavily", "tvly-", url64, (20, ANY), Check::Word),
    shape("langsmith", "lsv2_", is_word, (40, ANY), Check::Word),
    shape("supabase", "sbp_", hex, (40, ANY), Check::Word),
    shape("supabase", "sb_secret_", url64, (20, ANY), Check::None),
    shape("netlify", "nfp_", alnum, (30, ANY), Check::Word),
    shape("docker", "dckr_pat_", url64, (20, ANY), Check::None),
    shape("docker", "dckr_oat_", url64, (20, ANY), Check::None),
    shape("rubygems", "rubygems_", hex, (48, ANY), Check::None),
    shape("crates", "cio", alnum, (32, 32), Check::Random),
    shape("artifactory", "AKCp", alnum, (60, ANY), Check::Word),
    shape("age", "AGE-SECRET-KEY-1", upper, (50, ANY), Check::None),
    shape("sentry", "sntrys_", std64, (50, ANY), Check::None),
    shape("sentry", "sntryu_", hex, (60, ANY), Check::None),
    shape("onepassword", "ops_eyJ", std64, (60, ANY), Check::None),
    shape("facebook", "EAA", alnum, (80, ANY), Check::Random),
    shape("airtable", "pat", dotted, (79, 79), Check::Random),
    shape("cloudflare", "cfat_", url64, (40, ANY), Check::Word),
    shape("mapbox", "sk.eyJ", dotted, (40, ANY), Check::None),
];

impl Shape {
    /// The key at `start`, where a prefix in any case was seen.
    pub(super) fn at(&self, text: &[u8], start: usize) -> Option<Found> {
        let body = text[start..].strip_prefix(self.prefix.as_bytes())?;
        let mut len = body.iter().take_while(|b| (self.body)(**b)).count();
        // A dot or dash at the end is the sentence's.
        len -= body[..len].iter().rev().take_while(|b| matches!(b, b'.' | b'-')).count();
        let fits = (self.len.0..=self.len.1).contains(&len);
        let fits = fits
            && match self.check {
                Check::None => true,
                Check::Word => {
                    starts_word(text, start) && !body.get(len).copied().is_some_and(alnum)
                }
                Check::Random => starts_word(text, start) && looks_random(&body[..len]),
            };
        let end = start + self.prefix.len() + len;
        fits.then_some(Found { start, end, kind: self.kind })
    }
}

/// Whether a word starts at `start`: escapes of JSON (`\n`), of URLs (`%3D`) and of terminals (`ESC[1m`) are no part of it.
pub(super) fn starts_word(text: &[u8], start: usize) -> bool {
    let before = &text[start.saturating_sub(16)..start];
    match before {
        [] => true,
        [.., last] if !is_word(*last) => true,
        [.., b'\\', b'n' | b'r' | b't'] => true,
        [.., b'%', a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => true,
        [.., b'\\', b'u', a, b, c, d] => [a, b, c, d].iter().all(|x| x.is_ascii_hexdigit()),
        _ => before.iter().rposition(|b| *b == 0x1b).is_some_and(|escape| {
            let sequence = &before[escape + 1..];
            sequence.first() == Some(&b'[')
                && sequence.iter().position(|b| b.is_ascii_alphabetic()) == Some(sequence.len() - 1)
        }),
    }
}

/// A private key block at `start`, where `-----BEGIN ` was seen; one that is cut is followed as far as it reads as one.
pub(super) fn private_key_at(text: &[u8], start: usize) -> Option<Found> {
    let label_len = text[start + 11..].iter().take(40).position(|b| *b == b'-')?;
    let label = &text[start + 11..start + 11 + label_len];
    let after = start + 11 + label_len + 5;
    if !(label.ends_with(b"PRIVATE KEY") || label.ends_with(b"PRIVATE KEY BLOCK"))
        || text.get(after - 5..after) != Some(b"-----")
    {
        return None;
    }
    let body = after + key_body_len(&text[after..]);
    let closing = [b"-----END ", label, b"-----"].concat();
    let end = if text[body..].starts_with(&closing) { body + closing.len() } else { body };
    let bare = text[after..end].iter().filter(|b| alnum(**b)).count();
    // A program that merely names the armour holds no key.
    (bare >= 16).then_some(Found { start, end, kind: "private-key" })
}

/// Bytes that read as the inside of an armour: base64, header lines, line ends, also as strings of a language write them.
fn key_body_len(text: &[u8]) -> usize {
    let mut end = 0;
    loop {
        let rest = &text[end..];
        let gap = rest
            .iter()
            .take_while(|b| b.is_ascii_whitespace() || b"\"'`,+>|\\=".contains(b))
            .count();
        let escaped =
            rest[..gap].last() == Some(&b'\\') && matches!(rest.get(gap), Some(b'n' | b'r'));
        let gap = gap + usize::from(escaped);
        let line = &rest[gap..];
        let word =
            line.iter().take_while(|b| alnum(**b) || matches!(b, b'+' | b'/' | b'=')).count();
        let is_header = |name: &[u8]| {
            [&b"Proc-Type: "[..], b"DEK-Info: ", b"Comment: ", b"Version: ", b"Hash: "]
                .iter()
                .any(|h| name.starts_with(h))
        };
        if is_header(line) {
            let len = line.iter().position(|b| matches!(b, b'\n' | b'\\')).unwrap_or(line.len());
            end += gap + len;
        } else if word >= 16 || (word > 0 && gap > 0 && end > 0 && ends_block(&line[word..])) {
            end += gap + word;
        } else if line.starts_with(b"-----END ") {
            return end + gap;
        } else {
            return end;
        }
    }
}

/// Whether a short last line is followed by the closing armour or the end of what there is.
fn ends_block(rest: &[u8]) -> bool {
    let gap =
        rest.iter().take(24).take_while(|b| !b.is_ascii_alphanumeric() && **b != b'-').count();
    let rest = &rest[gap..];
    rest.is_empty()
        || rest.starts_with(b"-----END ")
        || rest.starts_with(b"n-----END ")
        || rest.first() == Some(&b'=')
}

/// A JSON web token or encrypted token at `start`, where `eyJ` was seen.
pub(super) fn jwt_at(text: &[u8], start: usize) -> Option<Found> {
    if start > 0 && url64(text[start - 1]) && !starts_word(text, start) {
        return None;
    }
    let len = text[start..].iter().take_while(|b| dotted(**b)).count();
    let token = &text[start..start + len];
    let mut parts = token.split(|b| *b == b'.');
    let (head, second) = (parts.next()?, parts.next()?);
    let rest = parts.count();
    let signed = second.starts_with(b"eyJ") && second.len() > 8 && rest >= 1;
    let long = head.len() > 10 && (signed || (rest == 3 && len > 80));
    long.then_some(Found { start, end: start + len, kind: "jwt" })
}

/// The token of a Telegram bot around `colon`, where `:AA` was seen.
pub(super) fn telegram_at(text: &[u8], colon: usize) -> Option<Found> {
    let digits = text[..colon].iter().rev().take(12).take_while(|b| b.is_ascii_digit()).count();
    let len = text[colon + 1..].iter().take_while(|b| url64(**b)).count();
    ((8..=10).contains(&digits) && (33..=36).contains(&len)).then_some(Found {
        start: colon - digits,
        end: colon + 1 + len,
        kind: "telegram",
    })
}

/// The secret half of an AWS key pair that follows its id, `end` being where the id ends.
pub(super) fn aws_secret_after(text: &[u8], end: usize) -> Option<Found> {
    let gap = text[end..].iter().take(8).take_while(|b| b" \t\r\n,:;|\"'".contains(b)).count();
    let start = end + gap;
    let len = text[start..].iter().take_while(|b| alnum(**b) || matches!(b, b'/' | b'+')).count();
    (gap > 0 && len == 40 && looks_random(&text[start..start + len])).then_some(Found {
        start,
        end: start + len,
        kind: "aws",
    })
}
