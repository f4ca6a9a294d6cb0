//! What agents write down of their conversations, from files that Codex 0.169 and Claude Code 2.1 wrote: each thing is told once,
//! and no bytes are too strange. Paths and what the agents tell every model at length were taken out of the files.

use std::fs;

use agentrec_trace::Value;
use agentrec_trace::event::{Payload, Usage};
use agentrec_wire::llm::{Answer, Keeper, NotJson, Prices, Round, Told, Transcript};
use proptest::prelude::*;

fn recording(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/transcripts/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    fs::read(path).expect("it is there")
}

fn new(keeper: Keeper) -> Transcript {
    Transcript::new(keeper, Prices::default(), false)
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n')
}

/// All rounds of a file; `pauses` asks for what there is after each line.
fn read(keeper: Keeper, bytes: &[u8], pauses: bool) -> Vec<Round> {
    let mut transcript = new(keeper);
    let mut rounds = Vec::new();
    for line in lines(bytes) {
        rounds.extend(transcript.line(line, 0).unwrap_or_default());
        if pauses {
            rounds.extend(transcript.pause());
        }
    }
    rounds.extend(transcript.finish());
    rounds
}

/// All texts in a value.
fn texts(value: &Value, into: &mut String) {
    match value {
        Value::String(text) => {
            *into += text.as_str().unwrap_or("?");
            into.push('|');
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Value::Map(fields) => {
            let shown = ["text", "thinking", "content", "summary", "output"];
            let shown = fields
                .iter()
                .filter(|(name, _)| name.as_str().is_some_and(|name| shown.contains(&name)));
            shown.for_each(|(_, inner)| texts(inner, into));
        }
        _ => {}
    }
}

fn payload(payload: &Payload) -> String {
    let mut text = String::new();
    match payload {
        Payload::Inline(Value::Map(fields)) => {
            for (name, value) in fields {
                text += &format!("{}={value} ", name.as_str().unwrap_or("?"));
            }
        }
        Payload::Inline(value) => texts(value, &mut text),
        _ => {}
    }
    text.trim_end_matches(['|', ' ']).to_owned()
}

fn line(told: &Told) -> String {
    match told {
        Told::Message(message) => format!("{}: {}", message.role, payload(&message.content)),
        Told::Call(call) => format!("call {} {} {}", call.id, call.name, payload(&call.arguments)),
        Told::Result(result) => format!("result {} {}", result.id, payload(&result.result)),
        Told::Usage(usage) => format!(
            "used {} {} {} {}",
            usage.input, usage.cache_read, usage.cache_write, usage.output
        ),
        Told::Dropped(_) => "dropped".to_owned(),
    }
}

fn transcript_of(rounds: &[Round]) -> String {
    let mut text = String::new();
    for round in rounds {
        for (at, told) in &round.inputs {
            assert!(at.is_some(), "{told:?}");
            text += &format!("{}\n", line(told).replace('\n', "/"));
        }
        if let Some(Answer { number, id, model, finish, told, .. }) = &round.answer {
            let or = |text: &Option<String>| text.clone().unwrap_or("-".into());
            text += &format!("answer {number} {} {} {}\n", or(id), or(model), or(finish));
            told.iter()
                .for_each(|(_, told)| text += &format!("  {}\n", line(told).replace('\n', "/")));
        }
    }
    text
}

#[test]
fn codex_is_read_answer_by_answer() {
    let rounds = read(Keeper::Codex, &recording("codex"), false);
    assert_eq!(
        transcript_of(&rounds),
        "system: You are a coding agent.\n\
         system: The developer says how to behave.|The developer says how to behave.\n\
         user: <environment_context>/  <cwd>/home/dev/shop</cwd>/  <shell>bash</shell>/  \
         <current_date>2026-11-22</current_date>/  <timezone>Etc/UTC</timezone>/  <filesystem><workspace_roots>\
         <root>/home/dev/shop</root></workspace_roots><permission_profile type=\"disabled\">\
         <file_system type=\"unrestricted\" /></permission_profile></filesystem>/</environment_context>\n\
         user: Look around\n\
         answer 1 resp_0 gpt-5-codex -\n\
         \x20 assistant: I should look first.|I look at the directory.\n\
         \x20 call call_1 exec_command cmd=\"ls && echo hello > made.txt\"\n\
         \x20 used 1000 400 0 30\n\
         result call_1 Chunk ID: 1b60fe/Wall time: 0.0000 seconds/Process exited with code 0/\
         Original token count: 2/Output:/a.txt/\n\
         answer 2 resp_1 gpt-5-codex -\n\
         \x20 assistant: Done: made.txt is there.\n\
         \x20 used 1100 400 0 30\n"
    );
    let prompts: Vec<_> = rounds.iter().filter_map(|round| round.answer.as_ref()).collect();
    assert_eq!(prompts[0].system_prompt, Value::from("You are a coding agent."));
    assert_eq!(prompts[1].system_prompt, Value::Nil);
}

#[test]
fn claude_code_is_read_answer_by_answer_though_each_block_is_a_line() {
    let rounds = read(Keeper::Claude, &recording("claude"), false);
    assert_eq!(
        transcript_of(&rounds),
        "user: Look around, with a helper\n\
         answer 1 msg_2_m24 claude-opus-4-8 tool_use\n\
         \x20 assistant: Look first.|I look at the directory.\n\
         \x20 call toolu_1 Bash command=\"ls && echo hello > made.txt\" description=\"look\"\n\
         \x20 call toolu_2 Bash command=\"echo two\" description=\"two\"\n\
         \x20 used 1212 1000 200 25\n\
         result toolu_1 a.txt/made.txt\n\
         result toolu_2 two\n\
         answer 2 msg_4_m24 claude-opus-4-8 tool_use\n\
         \x20 assistant: A helper shall count.\n\
         \x20 call toolu_3 Agent description=\"count\" prompt=\"You are the helper: count the files.\" \
         subagent_type=\"general-purpose\"\n\
         \x20 used 1212 1000 200 25\n\
         result toolu_3 There are a few.|agentId: a36194104206d34c6 (use SendMessage with to: \
         'a36194104206d34c6', summary: '<5-10 word recap>' to continue this agent)/<usage>subagent_tokens: 1237/\
         tool_uses: 1/duration_ms: 146</usage>\n\
         answer 3 msg_6_m24 claude-opus-4-8 end_turn\n\
         \x20 assistant: Done: made.txt is there.\n\
         \x20 used 1212 1000 200 25\n"
    );
    assert!(rounds.iter().all(|round| round.branch.is_none()));
    let helper = read(Keeper::Claude, &recording("claude-helper"), false);
    assert!(helper.iter().all(|round| round.branch.as_deref() == Some("a36194104206d34c6")));
    assert!(
        transcript_of(&helper).starts_with("user: You are the helper: count the files.\nanswer 1")
    );
}

/// What was used, all together.
fn used(rounds: &[Round]) -> (u64, u64) {
    let told = rounds.iter().filter_map(|round| round.answer.as_ref()).flat_map(|it| &it.told);
    let used = told.filter_map(|(_, told)| match told {
        Told::Usage(Usage { input, output, .. }) => Some((*input, *output)),
        _ => None,
    });
    used.fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1))
}

/// Calls, results and texts in order, without how they were put together.
fn said(rounds: &[Round]) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    for round in rounds {
        let inputs = round.inputs.iter().map(|(_, told)| told);
        let answers = round.answer.iter().flat_map(|answer| &answer.told).map(|(_, told)| told);
        for told in inputs.chain(answers) {
            let line = line(told);
            match told {
                Told::Usage(_) => {}
                Told::Message(message) if message.role == "assistant" => {
                    let (_, text) = line.split_once(' ').unwrap_or_default();
                    said.extend(text.split('|').filter(|text| !text.is_empty()).map(str::to_owned));
                }
                _ => said.push(line),
            }
        }
    }
    said.sort();
    said
}

#[test]
fn who_looks_after_each_line_is_told_the_same_in_pieces() {
    for (keeper, name) in
        [(Keeper::Codex, "codex"), (Keeper::Claude, "claude"), (Keeper::Claude, "claude-helper")]
    {
        let bytes = recording(name);
        let (whole, pieces) = (read(keeper, &bytes, false), read(keeper, &bytes, true));
        assert!(pieces.len() > whole.len(), "{name}");
        assert_eq!(said(&pieces), said(&whole), "{name}");
        assert_eq!(used(&pieces), used(&whole), "{name}");
        let numbers = |rounds: &[Round]| {
            let mut numbers: Vec<_> =
                rounds.iter().filter_map(|round| Some(round.answer.as_ref()?.number)).collect();
            numbers.dedup();
            numbers
        };
        assert_eq!(numbers(&pieces), numbers(&whole), "{name}");
    }
}

#[test]
fn what_was_said_before_the_recording_is_not_told_again() {
    let bytes = recording("codex");
    let mut transcript = new(Keeper::Codex);
    // 2026-11-22T13:22:08.250Z: before the last answer.
    let since = 1_795_353_728_250_000_000;
    let mut rounds = Vec::new();
    for line in lines(&bytes) {
        rounds.extend(transcript.line(line, since).unwrap());
    }
    rounds.extend(transcript.finish());
    let text = transcript_of(&rounds);
    let mut old = Transcript::new(Keeper::Codex, Prices::default(), true);
    let undated = br#"{"type":"message","role":"user","content":"Hi"}"#;
    assert!(old.line(undated, 0).unwrap().is_empty() && old.finish().is_empty());
    assert!(
        text.starts_with(
            "system: You are a coding agent.\nanswer 1 resp_1 gpt-5-codex -\n  assistant: Done: "
        ),
        "{text}"
    );
}

#[test]
fn earlier_versions_of_codex_are_read_too() {
    let file = br#"
{"id":"x","timestamp":"2025-05-01T10:00:00Z","instructions":"Be good."}
{"type":"message","role":"user","content":[{"type":"input_text","text":"Hi"}]}
{"timestamp":"2025-05-01T10:00:01Z","type":"response_item","payload":{"type":"message","role":"assistant","content":[{"type":"output_text","text":"I run it."}]}}
{"timestamp":"2025-05-01T10:00:01Z","type":"response_item","payload":{"type":"function_call","name":"shell","arguments":"{\"command\":[\"ls\"]}","call_id":"c1"}}
{"timestamp":"2025-05-01T10:00:02Z","type":"event_msg","payload":{"type":"token_count","info":{"total_token_usage":{"input_tokens":10},"last_token_usage":{"input_tokens":10,"cached_input_tokens":4,"output_tokens":2}}}}
{"timestamp":"2025-05-01T10:00:02Z","type":"event_msg","payload":{"type":"token_count","info":{"total_token_usage":{"input_tokens":10},"last_token_usage":{"input_tokens":10,"cached_input_tokens":4,"output_tokens":2}}}}
{"timestamp":"2025-05-01T10:00:02Z","type":"response_item","payload":{"type":"function_call_output","call_id":"c1","output":"a\n"}}
{"timestamp":"2025-05-01T10:00:03Z","type":"event_msg","payload":{"type":"agent_message","message":"Done."}}
{"timestamp":"2025-05-01T10:00:03Z","type":"response_item","payload":{"type":"message","role":"assistant","content":[{"type":"output_text","text":"Done."}]}}
{"timestamp":"2025-05-01T10:00:03Z","type":"event_msg","payload":{"type":"token_count","info":null}}
{"timestamp":"2025-05-01T10:00:04Z","type":"compacted","payload":{"message":"A summary."}}
{"timestamp":"2025-05-01T10:00:04Z","type":"something_new","payload":7}
"#;
    let mut rounds = read(Keeper::Codex, file, false);
    for (at, _) in rounds.iter_mut().flat_map(|round| &mut round.inputs) {
        at.get_or_insert(0);
    }
    assert_eq!(
        transcript_of(&rounds),
        "system: Be good.\n\
         user: Hi\n\
         answer 1 - - -\n\
         \x20 assistant: I run it.\n\
         \x20 call c1 shell command=[\"ls\"]\n\
         \x20 used 10 4 0 2\n\
         result c1 a/\n\
         answer 2 - - -\n\
         \x20 assistant: Done.\n"
    );
}

#[test]
fn a_use_that_grows_from_line_to_line_is_counted_once() {
    let block = |n: u32, used: u32| {
        format!(
            r#"{{"type":"assistant","message":{{"id":"m","role":"assistant","model":"x","content":[{{"type":"text","text":"{n}"}}],"usage":{{"input_tokens":5,"output_tokens":{used}}}}}}}"#
        )
    };
    let file = format!("{}\n{}\n{}\n", block(1, 1), block(2, 1), block(3, 9));
    for pauses in [false, true] {
        assert_eq!(used(&read(Keeper::Claude, file.as_bytes(), pauses)), (5, 9));
    }
}

#[test]
fn a_line_that_was_cut_costs_that_line_alone() {
    for (keeper, name) in [(Keeper::Codex, "codex"), (Keeper::Claude, "claude")] {
        let bytes = recording(name);
        let whole: Vec<&[u8]> = lines(&bytes).filter(|line| !line.is_empty()).collect();
        for (number, line) in whole.iter().enumerate() {
            let mut without = whole.clone();
            without.remove(number);
            let expected = said(&read(keeper, &without.join(&b'\n'), false));
            // Each place would take minutes in all.
            for cut in (1..line.len()).step_by(17) {
                assert_eq!(
                    new(keeper).line(&line[..cut], 0),
                    Err(NotJson),
                    "{name} {number} {cut}"
                );
                let mut damaged = whole.clone();
                damaged[number] = &line[..cut];
                if cut % 5 == 0 {
                    assert_eq!(said(&read(keeper, &damaged.join(&b'\n'), false)), expected);
                }
            }
        }
    }
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    const LIKELY: [&str; 14] = [
        r#"{"type":"assistant","message":{"id":"m","content":[{"type":"tool_use","id":"a"}]}}"#,
        r#"{"type":"assistant","message":{"content":"x","usage":{"input_tokens":18446744073709551615}}}"#,
        r#"{"type":"assistant","message":{"content":"x","usage":{"cache_read_input_tokens":18446744073709551615,"input_tokens":3}}}"#,
        r#"{"type":"user","isSidechain":true,"message":{"content":[{"type":"tool_result","tool_use_id":"a"}]}}"#,
        r#"{"type":"user","timestamp":"2026-01-01T00:00:00Z","message":{}}"#,
        r#"{"type":"response_item","payload":{"type":"function_call","call_id":"c"}}"#,
        r#"{"type":"response_item","payload":{"type":"message"}}"#,
        r#"{"type":"response_item","payload":{"type":"message","role":"assistant","content":5}}"#,
        r#"{"type":"response_item","payload":{"type":"x_output","call_id":"c"}}"#,
        r#"{"type":"token_usage_record","payload":{"response_id":"r","usage":{"output_tokens":1}}}"#,
        r#"{"type":"event_msg","payload":{"type":"token_count","info":{"last_token_usage":{}}}}"#,
        r#"{"type":"session_meta","payload":{"base_instructions":{"text":"x"}}}"#,
        "[[[[",
        "\u{0}",
    ];
    let any = proptest::collection::vec(any::<u8>(), 0..20);
    let likely = proptest::sample::select(&LIKELY[..]).prop_map(|text| text.as_bytes().to_vec());
    let lines = proptest::collection::vec(prop_oneof![8 => likely, 1 => any], 0..60);
    lines.prop_map(|lines| lines.join(&b'\n'))
}

proptest! {
    #[test]
    fn no_lines_are_too_strange(bytes in pieces()) {
        for keeper in [Keeper::Codex, Keeper::Claude] {
            let (whole, pieces) = (read(keeper, &bytes, false), read(keeper, &bytes, true));
            prop_assert_eq!(said(&pieces), said(&whole));
        }
    }
}
