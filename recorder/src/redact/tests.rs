//! The tables of planted secrets and of look-alikes, and what holds for arbitrary bytes.
//!
//! No planted secret stands here as one literal, so that scanners of source code find none: a `~` is taken out.

use proptest::prelude::*;
use rmpv::Value;

use super::*;

fn redactor() -> Redactor {
    Redactor::new([7; 32])
}

fn text(text: &str) -> String {
    String::from_utf8(redactor().text(text.as_bytes()).into_owned()).unwrap()
}

/// A text as an agent's terminal, shell or request might hold it, and the secret in it that must go.
const PLANTED: &[(&str, &str)] = &[
    ("using sk-pr~oj-Zk3nF9aQw7LmX2cVb8RtY5uI0oP1sD4g for now", "Zk3nF9aQw7LmX2cVb8RtY5uI0oP1sD4g"),
    (
        "sk-~4fGh7JkLm9NpQr2StUv5WxYz8AbCd1EfGh3JkLm6NpQr9StU",
        "4fGh7JkLm9NpQr2StUv5WxYz8AbCd1EfGh3JkLm6NpQr9StU",
    ),
    (
        "key: \"sk-a~nt-api03-Xy7_kQ2mN-8vB4cL9pR3tW6zA1sD5fG0hJ\"",
        "Xy7_kQ2mN-8vB4cL9pR3tW6zA1sD5fG0hJ",
    ),
    ("[default]\naws_access_key_id = AK~IAQ3EGZ7T5XKP4MWNB", "AK~IAQ3EGZ7T5XKP4MWNB"),
    (
        "aws_secret_access_key = hR8vT2/kLm9Qx+4nZc7Ws1Yb5Df3Gj6Hp0Ue8Ra2",
        "hR8vT2/kLm9Qx+4nZc7Ws1Yb5Df3Gj6Hp0Ue8Ra2",
    ),
    (
        "AK~IAQ3EGZ7T5XKP4MWNB,uV3xY6zA9bC2dE5fG8hJ1kL4mN7pQ0rS/tU+wXyZ",
        "uV3xY6zA9bC2dE5fG8hJ1kL4mN7pQ0rS/tU+wXyZ",
    ),
    ("remote: gh~p_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"),
    (
        "github_~pat_11ABCDEFG0aBcDeFgHiJkL_mNoPqRsTuVwXyZ0123456789",
        "11ABCDEFG0aBcDeFgHiJkL_mNoPqRsTuVwXyZ0123456789",
    ),
    ("git clone https://oauth2:gl~pat-Ab3dE6gH9jK2mN5pQ8sT@gitlab.com/x/y", "Ab3dE6gH9jK2mN5pQ8sT"),
    (
        "SLACK=xo~xb-2409876543210-2512345678901-q1W2e3R4t5Y6u7I8o9P0a1S2",
        "q1W2e3R4t5Y6u7I8o9P0a1S2",
    ),
    (
        "\x1b[32mAI~zaSyB4x7Kq9Zw2Mn5Vc8Lp1Rt6Yh3Jd0Gf_sAe\x1b[0m",
        "SyB4x7Kq9Zw2Mn5Vc8Lp1Rt6Yh3Jd0Gf_sAe",
    ),
    ("ya~29.a0AfH6SMBx7Qw9Er2Ty5Ui8Op1As4Df", "a0AfH6SMBx7Qw9Er2Ty5Ui8Op1As4Df"),
    ("stripe.api_key = 'sk_~live_51H8xYzAbCdEfGhIjKlMnOpQr'", "51H8xYzAbCdEfGhIjKlMnOpQr"),
    (
        "//registry.npmjs.org/:_authToken=np~m_Zx9Cv8Bn7Mq6Wp5Eo4Ri3Tu2Yy1Aa0Ss9Dd8",
        "Zx9Cv8Bn7Mq6Wp5Eo4Ri3Tu2Yy1Aa0Ss9Dd8",
    ),
    (
        "//npm.corp/:_authToken=4d2c9f1e-7b3a-4c58-9e60-1f2a3b4c5d6e",
        "4d2c9f1e-7b3a-4c58-9e60-1f2a3b4c5d6e",
    ),
    (
        "password = py~pi-AgEIcHlwaS5vcmcCJDk4ZmQ3YzJhLTEyMzQtNDU2Ny04OTBhLWJjZGVmMDEyMzQ1NgAC",
        "AgEIcHlwaS5vcmcCJDk4ZmQ3YzJhLTEyMzQtNDU2Ny04OTBhLWJjZGVmMDEyMzQ1NgAC",
    ),
    (
        "login(token=\"hf~_QwErTyUiOpAsDfGhJkLzXcVbNmQwErTyUi\")",
        "QwErTyUiOpAsDfGhJkLzXcVbNmQwErTyUi",
    ),
    (
        "S~G.ngeVfQFYQlKU0ufo8x5d1A.TwL2iGABf9DHoTf-09kqeF8tAmbihYzrnopKc-1s5cr",
        "TwL2iGABf9DHoTf-09kqeF8tAmbihYzrnopKc-1s5cr",
    ),
    ("Twilio(\"S~K2f9a7c4e1b8d6035f2a9c7e4b1d80635\")", "2f9a7c4e1b8d6035f2a9c7e4b1d80635"),
    (
        "https://api.telegram.org/bot7123456789:AA~HdqTcvCH1vGWJxfSeofSAs0K5PALDsawq/getMe",
        "HdqTcvCH1vGWJxfSeofSAs0K5PALDsawq",
    ),
    (
        "id_token eyJ~hbGciOiJIUzI1NiJ9.eyJ~zdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
        "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    ),
    (
        "cat key\n-----BEGIN RSA PRIV~ATE KEY-----\nMIIEpAIBAAKCAQEA3Tz2mr7SZiAMfQyuvBjM9Oi\nZ1BjP5CE/Wm/Rr500P\n-----END RSA PRIV~ATE KEY-----\ndone",
        "MIIEpAIBAAKCAQEA3Tz2mr7SZiAMfQyuvBjM9Oi",
    ),
    (
        "{\"private_key\": \"-----BEGIN PRIV~ATE KEY-----\\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\\nBKcwggSjAgEAAoIBAQ==\\n-----END PRIV~ATE KEY-----\\n\"}",
        "BKcwggSjAgEAAoIBAQ==",
    ),
    (
        "curl -H 'Authorization: Bearer 9c8b7a6f5e4d3c2b1a09f8e7d6c5b4a3' https://x",
        "9c8b7a6f5e4d3c2b1a09f8e7d6c5b4a3",
    ),
    ("> authorization: Basic YWRtaW46czNjcjN0LXBhc3M=", "YWRtaW46czNjcjN0LXBhc3M="),
    ("Cookie: sessionid=k9s8d7f6g5h4j3; theme=dark", "k9s8d7f6g5h4j3"),
    ("DATABASE_URL=postgres://app:tr0ub4dor-and-3@db.internal:5432/app", "tr0ub4dor-and-3"),
    ("mongodb+srv://root:p%40ss-W0rd@cluster0.ab1cd.mongodb.net/?retryWrites=true", "p%40ss-W0rd"),
    ("connecting to redis://:Zr9-cache-pass@10.0.0.5:6379/0", "Zr9-cache-pass"),
    ("amqp://guest:b0gus/slash@mq:5672/vhost", "b0gus/slash"),
    (
        "https://hooks.slack.com/services/T0~1ABCDEF/B02GHIJKL/x7Yz8Wv9Ut0Sr1Qp2On3Ml4K",
        "x7Yz8Wv9Ut0Sr1Qp2On3Ml4K",
    ),
    (
        "https://discord.com/api/webhooks/1122334455667788990/aBcD_eFgH-iJkLmNoPqRsTuVwXyZ012345",
        "aBcD_eFgH-iJkLmNoPqRsTuVwXyZ012345",
    ),
    (
        "https://acme.webhook.office.com/webhookb2/7b3a4c58-9e60@1f2a/IncomingWebhook/9d8c7b6a5f4e/1a2b",
        "9d8c7b6a5f4e",
    ),
    (
        "POST https://ci.example.org/hooks/9f8e7d6c5b4a3f2e1d0c9b8a7f6e5d4c",
        "9f8e7d6c5b4a3f2e1d0c9b8a7f6e5d4c",
    ),
    ("GET https://api.weather.example/v1?q=Berlin&api_key=7hG5fD3sA1 HTTP/1.1", "7hG5fD3sA1"),
    ("{\"user\": \"bob\", \"password\": \"hunter2\"}", "hunter2"),
    ("{\\\"db\\\": {\\\"password\\\": \\\"n0t-s0-s3cret\\\"}}", "n0t-s0-s3cret"),
    ("DB_PASSWORD='correct horse battery staple'", "correct horse battery staple"),
    ("db:\n  password: correcthorsebattery\n  host: x", "correcthorsebattery"),
    ("Server=tcp:x.database.windows.net;User ID=sa;Password=Pa55w0rd!;Encrypt=True", "Pa55w0rd!"),
    ("machine github.com login bob password xyzzy-plugh-42", "xyzzy-plugh-42"),
    ("bash -c 'mysql --user root --password Tr1cky.Pass'", "Tr1cky.Pass"),
    ("<server><password>xml-P4ss</password></server>", "xml-P4ss"),
    ("curl -u admin:sw0rdf1sh https://intranet/", "sw0rdf1sh"),
    (
        "https://2f9a7c4e1b8d6035f2a9c7e4b1d80635@o42.ingest.sentry.io/7",
        "2f9a7c4e1b8d6035f2a9c7e4b1d80635",
    ),
    (
        "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq==;",
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq",
    ),
    (
        "https://b.s3.amazonaws.com/o?X-Amz-Signature=5d7c9e1f3b2a4c6e8f0a1b3d5c7e9f1a2b4c6d8e",
        "5d7c9e1f3b2a4c6e8f0a1b3d5c7e9f1a2b4c6d8e",
    ),
    (
        "client_secret: str = \"GO~CSPX-1aB2cD3eF4gH5iJ6kL7mN8oP9qR0\"",
        "1aB2cD3eF4gH5iJ6kL7mN8oP9qR0",
    ),
];

/// Texts that look like secrets and are none.
const HARMLESS: &[&str] = &[
    "AUTHOR=Margaret Hamilton",
    "KEYBOARD=us-intl-nodeadkeys",
    "MONKEY=see-monkey-do-2024",
    "TURKEY_HOCKEY_DONKEY=kong64",
    "from transformers import AutoTokenizer; tokenizer = AutoTokenizer.from_pretrained('bert')",
    "{\"max_tokens\": 4096, \"usage\": {\"prompt_tokens\": 1234, \"completion_tokens\": 56}}",
    "{\"token\": \" hello\", \"logprob\": -0.31}",
    "commit 4e79c90d2a1b8f3c6e5d7a9b0c1d2e3f4a5b6c7d",
    "id: 123e4567-e89b-12d3-a456-426614174000",
    "<img src=\"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==\">",
    "\"integrity\": \"sha512-z1yhU7Yb8pZ2Qq3vX0y5r6s7t8u9v0w1x2y3z4A5B6C7D8E9F0G1H2I3J4K5L6M7N8O9P0Q1R2S3T4U5V6W==\"",
    "cache_key=v2-linux-node-18-package-lock-abc123",
    "CREATE TABLE t (id int PRIMARY KEY, author_key int REFERENCES a(key));",
    "def login(user: str, password: str) -> None:",
    "client = Client(user=user, password=password)",
    "password = getpass.getpass('Password: ')",
    "token = tokenizer.next_token(stream)",
    "api_key=os.environ['OPENAI_API_KEY']",
    "export TOKEN=$(gh auth token) PASSWORD=${DB_PASSWORD} API_KEY=<your key>",
    "see https://docs.python.org/3/library/secrets.html#secrets.token_hex and http://localhost:8080/a@b",
    "docker run -u 1000:1000 -v /a:/b image",
    "basic understanding of bearer authentication is required",
    "====== 12 passed, 3 failed in 0.42s ======",
    "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ\n-----END CERTIFICATE-----",
    "task-management-system-with-a-very-long-name-and-no-secret",
    "-rw-r--r-- 1 root root 42 tests/test_auth_session_tokens.py",
    "error: invalid api_key: the key is missing",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl bob@x",
];

#[test]
fn planted_secrets_go() {
    for (planted, secret) in PLANTED {
        let (planted, secret) = (planted.replace('~', ""), secret.replace('~', ""));
        assert!(planted.contains(&secret), "the table is wrong: {planted}");
        let redacted = text(&planted);
        assert!(!redacted.contains(&secret), "{secret} stayed in {redacted}");
        assert!(redacted.contains("[redacted:"), "{redacted}");
        assert_eq!(text(&redacted), redacted, "redacting again changes nothing");
    }
    assert!(PLANTED.len() >= 40);
}

#[test]
fn look_alikes_stay() {
    for harmless in HARMLESS {
        assert_eq!(text(harmless), *harmless);
    }
    assert!(HARMLESS.len() >= 20);
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
    for (planted, secret) in PLANTED {
        let (planted, secret) = (planted.replace('~', ""), secret.replace('~', ""));
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
