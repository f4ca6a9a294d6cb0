//! The tables of planted secrets and of look-alikes, and what holds for arbitrary bytes.
//!
//! The tables stand in `tests/redaction`, where the end-to-end test reads them too. No planted secret stands there in one
//! piece, so that scanners of source code find none: a `~` is taken out.

use proptest::prelude::*;
use rmpv::Value;

use super::*;

fn redactor() -> Redactor {
    Redactor::new([7; 32])
}

fn text(text: &str) -> String {
    String::from_utf8(redactor().text(text.as_bytes()).into_owned()).unwrap()
}

/// Texts as an agent's terminal, shell or request might hold them, and the secret in each that must go.
fn planted() -> Vec<(String, String)> {
    let table = include_str!("../../tests/redaction/planted.jsonl");
    let field =
        |line: &serde_json::Value, name: &str| line[name].as_str().unwrap().replace('~', "");
    let rows = table.lines().map(|line| serde_json::from_str(line).unwrap());
    rows.map(|row| (field(&row, "text"), field(&row, "secret"))).collect()
}

/// Texts that look like secrets and are none.
fn harmless() -> Vec<String> {
    let table = include_str!("../../tests/redaction/harmless.jsonl");
    table.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn planted_secrets_go() {
    for (planted, secret) in planted() {
        assert!(planted.contains(&secret), "the table is wrong: {planted}");
        let redacted = text(&planted);
        assert!(!redacted.contains(&secret), "{secret} stayed in {redacted}");
        assert!(redacted.contains("[redacted:"), "{redacted}");
        assert_eq!(text(&redacted), redacted, "redacting again changes nothing");
    }
    assert!(planted().len() >= 40);
}

#[test]
fn look_alikes_stay() {
    for harmless in harmless() {
        assert_eq!(text(&harmless), harmless);
    }
    assert!(harmless().len() >= 20);
}

#[test]
fn what_stands_around_a_secret_stays() {
    for (before, after) in [
        (
            "postgres://app:hunter22@db:5432/app?sslmode=on",
            "postgres://app:[…]@db:5432/app?sslmode=on",
        ),
        ("x --password hunter2 --verbose", "x --password […] --verbose"),
        (
            "Authorization: Bearer abcdef0123456789\r\nHost: x",
            "Authorization: Bearer […]\r\nHost: x",
        ),
        ("{\"password\":\"hunter2\",\"n\":1}", "{\"password\":\"[…]\",\"n\":1}"),
        ("https://x/?a=1&api_key=zzz&b=2", "https://x/?a=1&api_key=[…]&b=2"),
        ("PASSWORD=hunter2; echo ok", "PASSWORD=[…]; echo ok"),
    ] {
        let redacted = text(before);
        let start = redacted.find("[redacted:").unwrap();
        let end = start + redacted[start..].find(']').unwrap();
        assert_eq!(redacted.replace(&redacted[start..=end], "[…]"), after);
    }
}

#[test]
fn equal_secrets_have_equal_marks_wherever_they_stand() {
    let r = redactor();
    let key = ["sk-ant", "-api03-Xy7kQ2mN8vB4cL9pR3tW6z"].concat();
    let env = r.env(b"ANTHROPIC_API_KEY", key.as_bytes()).into_owned();
    let header = r.header(b"x-api-key", key.as_bytes()).into_owned();
    let inside = r.text(key.as_bytes()).into_owned();
    assert_eq!(env, header);
    assert_eq!(env, inside);
    assert!(env.starts_with(b"[redacted:anthropic:"));
    assert!(is_mark(&env));
    let other = Redactor::new([8; 32]).env(b"ANTHROPIC_API_KEY", key.as_bytes()).into_owned();
    assert_ne!(env, other, "the hash depends on the key");
}

#[test]
fn the_environment_is_denied_unless_known_to_be_harmless() {
    let r = redactor();
    for (name, value) in
        [("PATH", "/usr/bin:/bin"), ("LC_ALL", "C"), ("PYTHONPATH", "/x"), ("LANG", "")]
    {
        assert_eq!(&*r.env(name.as_bytes(), value.as_bytes()), value.as_bytes(), "{name}");
    }
    for name in ["ZZ_TOP", "OPENAI_API_KEY", "AUTHOR", "PYTHON_KEYRING_PASSWORD"] {
        let kept = r.env(name.as_bytes(), b"harmless?").into_owned();
        assert!(is_mark(&kept), "{name}");
        assert_eq!(&*r.env(name.as_bytes(), &kept), &kept[..], "again: {name}");
    }
    let path = [&b"/usr/bin:/opt/gh"[..], b"p_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"].concat();
    assert!(!r.env(b"PATH", &path).windows(8).any(|w| w == b"a1B2c3D4"));
}

fn argv(args: &[&str]) -> Vec<String> {
    let args: Vec<&[u8]> = args.iter().map(|a| a.as_bytes()).collect();
    let redacted = redactor().argv(&args);
    redacted.iter().map(|a| String::from_utf8_lossy(a).into_owned()).collect()
}

#[test]
fn secrets_in_arguments_go_and_flags_stay() {
    for (args, secret) in [
        (&["x", "--password", "hunter2"][..], "hunter2"),
        (&["x", "--token=abc"], "abc"),
        (&["x", "--api-key", "abc", "-v"], "abc"),
        (&["curl", "-u", "bob:hunter2", "http://x"], "hunter2"),
        (&["curl", "-ubob:hunter2", "http://x"], "hunter2"),
        (&["curl", "--user=bob:hunter2", "http://x"], "hunter2"),
        (&["/usr/bin/curl", "-H", "Authorization: Bearer abc", "x"], "Bearer abc"),
        (&["curl", "-HX-Api-Key: abc"], "abc"),
        (&["curl", "--header", "Cookie: a=b"], "a=b"),
        (&["curl", "-b", "sid=42", "x"], "sid=42"),
        (&["mysql", "-phunter2"], "hunter2"),
        (&["sshpass", "-p", "hunter2", "ssh", "x"], "hunter2"),
        (&["redis-cli", "-a", "hunter2"], "hunter2"),
        (&["openssl", "enc", "-k", "pass:hunter2"], "hunter2"),
        (&["env", "DB_PASSWORD=hunter2", "x"], "hunter2"),
        (&["bash", "-c", "PGPASSWORD=hunter2 psql"], "hunter2"),
        (&["psql", "postgres://a:hunter2@h/d"], "hunter2"),
    ] {
        let redacted = argv(args);
        assert_eq!(redacted.len(), args.len());
        assert!(redacted.iter().all(|a| !a.contains(secret)), "{redacted:?}");
        let again: Vec<&str> = redacted.iter().map(String::as_str).collect();
        assert_eq!(argv(&again), redacted);
    }
    for args in [
        &["ls", "-la", "--author", "bob"][..],
        &["python", "train.py", "--tokenizer", "bert", "--max-tokens", "100"],
        &["docker", "run", "-u", "1000:1000", "-p", "8080:80", "x"],
        &["chown", "-R", "bob:staff", "/x"],
        &["ssh", "-i", "id_rsa", "host", "--key", "server.pem"],
        &["sort", "--key", "2,3"],
        &["x", "--password", "--verbose"],
        &["grep", "-rn", "password", "src"],
    ] {
        assert_eq!(argv(args), args);
    }
}

#[test]
fn structured_data_is_judged_by_its_names() {
    let mut value = Value::Map(vec![
        ("password".into(), "zzz".into()),
        ("pin_password".into(), 1234.into()),
        ("max_tokens".into(), 4096.into()),
        ("headers".into(), Value::Map(vec![("Authorization".into(), "Bearer tiny".into())])),
        (
            "env".into(),
            Value::Map(vec![("HOME".into(), "/root".into()), ("UNKNOWN".into(), "v".into())]),
        ),
        ("passwords".into(), Value::Array(vec!["one".into(), "two".into()])),
        ("code".into(), Value::Binary(b"mysql://a:hunter2@h".to_vec())),
        ("author".into(), "Ada".into()),
    ]);
    redactor().value(&mut value);
    let json = format!("{value}");
    for gone in ["zzz", "1234", "tiny", "\"v\"", "one", "two"] {
        assert!(!json.contains(gone), "{gone} in {json}");
    }
    for kept in ["4096", "Bearer [redacted:", "/root", "Ada", "UNKNOWN"] {
        assert!(json.contains(kept), "{kept} in {json}");
    }
    assert!(!format!("{:?}", value["code"]).contains("hunter2"));
    let once = value.clone();
    redactor().value(&mut value);
    assert_eq!(value, once);
}

#[test]
fn deep_nesting_ends() {
    let mut value = Value::from("hunter2");
    for _ in 0..5_000 {
        value = Value::Array(vec![value]);
    }
    redactor().value(&mut value);
    let mut depth = 0;
    let mut inner = &value;
    while let Value::Array(items) = inner {
        inner = &items[0];
        depth += 1;
    }
    assert!(depth < 200);
    assert_eq!(inner.as_str(), Some("[agentrec: nested too deep]"));
}

#[test]
fn secrets_split_over_writes_are_found() {
    let r = redactor();
    for (planted, secret) in planted() {
        let input = format!("$ first line\n{planted}\n");
        for cut in 0..input.len() {
            let mut stream = Stream::default();
            let mut out = stream.push(&r, &input.as_bytes()[..cut]);
            out.extend(stream.push(&r, &input.as_bytes()[cut..]));
            out.extend(stream.finish(&r));
            let out = String::from_utf8(out).unwrap();
            assert!(!out.contains(&secret), "cut at {cut}: {out}");
        }
        let mut stream = Stream::default();
        let mut out = Vec::new();
        for byte in input.bytes() {
            out.extend(stream.push(&r, &[byte]));
        }
        out.extend(stream.finish(&r));
        assert_eq!(String::from_utf8_lossy(&out), text(&input), "byte by byte");
    }
}

#[test]
fn plain_lines_do_not_wait() {
    let r = redactor();
    let mut stream = Stream::default();
    assert_eq!(stream.push(&r, b"12 passed\nall is well\n"), b"12 passed\nall is well\n");
    assert_eq!(stream.held(), 0);
    let long = vec![b'x'; 1 << 20];
    stream.push(&r, &long);
    assert!(stream.held() <= 64 * 1024, "what waits is bounded");
}

/// Every mark in `text`.
fn marks(text: &[u8]) -> Vec<&[u8]> {
    (0..text.len()).filter_map(|at| mark_len(&text[at..]).map(|len| &text[at..at + len])).collect()
}

/// Pieces that rules look at, put together at random: far more telling than random bytes alone.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "password",
        "=",
        ":",
        " ",
        "\n",
        "\"",
        "'",
        "\\\"",
        "\\n",
        "api_key",
        "token",
        "sk-",
        "sk-ant-",
        "AKIA",
        "://",
        "@",
        "/",
        "?",
        "&",
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----END ",
        "eyJ",
        ".",
        "Bearer ",
        "Authorization",
        "Cookie",
        "--",
        "hunter2",
        "Q3EGZ7T5XKP4MWNB",
        "hooks.slack.com",
        "/services/",
        "[redacted:",
        "[redacted:key:01234567]",
        "]",
        "<password>",
        "</",
        "\x1b[1m",
        "aB3xK9pQ2mZ7vW4tY8uR",
        "YWRtaW46czNjcjN0LXBhc3M=",
        "machine x login y ",
        "-u ",
        ":AA",
        ";",
    ])
    .prop_map(|s| s.as_bytes().to_vec());
    let noise = prop::collection::vec(any::<u8>(), 0..4);
    prop::collection::vec(prop_oneof![8 => words, 1 => noise], 0..24).prop_map(|v| v.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn marks_survive_a_second_redaction(input in fragments()) {
        let r = redactor();
        let once = r.text(&input).into_owned();
        let twice = r.text(&once).into_owned();
        let mut rest = &twice[..];
        for mark in marks(&once) {
            let Some(at) = rest.windows(mark.len()).position(|w| w == mark) else {
                let (once, twice) = (String::from_utf8_lossy(&once), String::from_utf8_lossy(&twice));
                return Err(TestCaseError::fail(format!("{once:?} became {twice:?}")));
            };
            rest = &rest[at + mark.len()..];
        }
    }

    #[test]
    fn noise_never_panics(input in prop::collection::vec(any::<u8>(), 0..512), cut in any::<prop::sample::Index>()) {
        let r = redactor();
        r.text(&input);
        r.argv(&[&input[..], &input]);
        r.env(&input, &input);
        r.header(&input, &input);
        let cut = cut.index(input.len() + 1);
        let mut stream = Stream::default();
        stream.push(&r, &input[..cut]);
        stream.push(&r, &input[cut..]);
        stream.finish(&r);
    }
}
