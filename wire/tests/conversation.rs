//! What a tracker makes of requests and responses that were written by hand, one behaviour each.

use agentrec_trace::event::{Message, Payload};
use agentrec_trace::json::from_value;
use agentrec_wire::llm::{Answered, Asked, Dialect, Edit, Prices, SideKind, Told, Tracker};
use serde_json::{Value as Json, json};

const CHAT: &str = "https://model.example/v1/chat/completions";
const ANTHROPIC: &str = "https://model.example/v1/messages";
const RESPONSES: &str = "https://model.example/v1/responses";

fn tracker() -> Tracker {
    Tracker::new(Prices::default())
}

fn inline(payload: &Payload) -> Json {
    match payload {
        Payload::Inline(value) => from_value(value),
        object => panic!("{object:?}"),
    }
}

/// Each thing that was told on one line.
fn lines(told: &[Told]) -> Vec<String> {
    let message = |message: &Message<'_>| {
        let index = message.index.map_or_else(|| "-".to_owned(), |index| index.to_string());
        let extra = inline(&message.extra);
        let extra = if extra.is_null() { String::new() } else { format!(" {extra}") };
        format!("{} {index} {}{extra}", message.role, inline(&message.content))
    };
    let line = |told: &Told| match told {
        Told::Message(told) => message(told),
        Told::Call(call) => format!("call {} {} {}", call.id, call.name, inline(&call.arguments)),
        Told::Result(result) => {
            let error = result.error.as_ref().map(|error| format!(" error {error}"));
            format!("result {} {}{}", result.id, inline(&result.result), error.unwrap_or_default())
        }
        Told::Usage(usage) => format!(
            "usage {} {}+{}r+{}w {}",
            usage.model, usage.input, usage.cache_read, usage.cache_write, usage.output
        ),
        Told::Dropped(dropped) => {
            format!("{} {} from {}", dropped.how.as_str(), dropped.messages, dropped.index)
        }
    };
    told.iter().map(line).collect()
}

fn ask(tracker: &mut Tracker, url: &str, body: Json) -> Asked {
    tracker.request("POST", url, body.to_string().as_bytes()).expect("a request to a model")
}

fn answer(tracker: &mut Tracker, asked: &Asked, body: Json) -> Answered {
    tracker.response(asked.id, Some(200), body.to_string().as_bytes(), false, true)
}

/// Chat messages, from their roles and texts.
fn messages(said: &[(&str, &str)]) -> Json {
    said.iter().map(|(role, text)| json!({"role": role, "content": text})).collect()
}

fn chat(system: &str, said: &[(&str, &str)]) -> Json {
    let system = json!({"role": "system", "content": system});
    let all = [vec![system], messages(said).as_array().unwrap().clone()].concat();
    json!({"model": "m", "tools": [{"type": "function", "function": {"name": "t"}}], "messages": all})
}

fn said(text: &str) -> Json {
    let message = json!({"role": "assistant", "content": text, "refusal": null});
    json!({"model": "m-1", "choices": [{"index": 0, "finish_reason": "stop", "message": message}]})
}

/// A whole turn: the request's and the response's lines, and the conversation.
fn turn(
    tracker: &mut Tracker,
    system: &str,
    all: &[(&str, &str)],
    reply: &str,
) -> (Vec<String>, String) {
    let asked = ask(tracker, CHAT, chat(system, all));
    let answered = answer(tracker, &asked, said(reply));
    let lines = [lines(&asked.told), lines(&answered.told)].concat();
    (lines, asked.conversation)
}

#[test]
fn each_message_is_told_once_though_requests_repeat_all() {
    let mut tracker = tracker();
    let (first, main) = turn(&mut tracker, "rules", &[("user", "hi")], "hello");
    assert_eq!(first, ["system 0 \"rules\"", "user 1 \"hi\"", "assistant 2 \"hello\""]);
    let all = [("user", "hi"), ("assistant", "hello"), ("user", "bye")];
    let (second, again) = turn(&mut tracker, "rules", &all, "bye");
    assert_eq!(second, ["user 3 \"bye\"", "assistant 4 \"bye\""]);
    assert_eq!((&*main, &*again), ("main", "main"));
}

#[test]
fn an_answer_is_known_again_in_another_form() {
    let mut tracker = tracker();
    let asked = ask(
        &mut tracker,
        ANTHROPIC,
        json!({
            "model": "m", "max_tokens": 99, "system": "rules",
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]}],
        }),
    );
    answer(
        &mut tracker,
        &asked,
        json!({
            "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "I'll look.\n"},
                {"type": "tool_use", "id": "c1", "name": "t", "input": {"a": 1}},
            ],
        }),
    );
    // Without the thinking and the line's end, blocks as a text and a text as blocks, another order of fields.
    let asked = ask(
        &mut tracker,
        ANTHROPIC,
        json!({
            "model": "m", "max_tokens": 99, "system": [{"type": "text", "text": "rules"}],
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": [
                    {"text": "I'll look.", "type": "text", "citations": null},
                    {"name": "t", "type": "tool_use", "id": "c1", "input": {"a": 1}, "cache_control": {"type": "ephemeral"}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "gone", "is_error": true},
                    {"type": "text", "text": "go on"},
                ]},
            ],
        }),
    );
    assert_eq!(
        lines(&asked.told),
        ["user 2 [{\"type\":\"text\",\"text\":\"go on\"}]", "result c1 \"gone\" error gone",]
    );
}

#[test]
fn a_sub_agent_has_a_conversation_of_its_own() {
    let mut tracker = tracker();
    turn(&mut tracker, "rules", &[("user", "hi")], "hello");
    let (lines, name) = turn(&mut tracker, "you search", &[("user", "find it")], "found");
    assert_eq!((lines.len(), &*name), (3, "a"));
    let all = [("user", "find it"), ("assistant", "found"), ("user", "more")];
    assert_eq!(turn(&mut tracker, "you search", &all, "no").1, "a");
    let all = [("user", "hi"), ("assistant", "hello"), ("user", "bye")];
    assert_eq!(turn(&mut tracker, "rules", &all, "bye").1, "main");
    // Another of the same kind, with a preamble that both share.
    assert_eq!(turn(&mut tracker, "you search", &[("user", "find that")], "found").1, "b");
}

#[test]
fn branches_in_parallel_are_told_apart() {
    let mut tracker = tracker();
    turn(&mut tracker, "rules", &[("user", "hi")], "hello");
    let branch = |text| [("user", "hi"), ("assistant", "hello"), ("user", text)];
    let left = ask(&mut tracker, CHAT, chat("rules", &branch("left")));
    let right = ask(&mut tracker, CHAT, chat("rules", &branch("right")));
    assert_eq!((&*left.conversation, left.branch_of.as_deref()), ("main", None));
    assert_eq!((&*right.conversation, right.branch_of.as_deref()), ("a", Some("main")));
    assert_eq!(lines(&right.told), ["user 3 \"right\""]);
    answer(&mut tracker, &right, said("R"));
    answer(&mut tracker, &left, said("L"));
    for (text, reply, name) in [("left", "L", "main"), ("right", "R", "a")] {
        let all = [&branch(text)[..], &[("assistant", reply), ("user", "on")]].concat();
        let (lines, conversation) = turn(&mut tracker, "rules", &all, "done");
        assert_eq!((&*conversation, &*lines[0]), (name, "user 5 \"on\""));
    }
}

#[test]
fn what_is_asked_again_after_an_error_is_told_once() {
    let mut tracker = tracker();
    let body = chat("rules", &[("user", "hi")]);
    let first = ask(&mut tracker, CHAT, body.clone());
    let error = br#"{"error": {"type": "rate_limit_error", "message": "slow down"}}"#;
    let failed = tracker.response(first.id, Some(429), error, false, true);
    let failure = failed.failure.unwrap();
    assert_eq!(
        (failure.status, &*failure.kind, &*failure.message),
        (Some(429), "rate_limit_error", "slow down")
    );
    assert_eq!((failed.told.len(), failed.incomplete), (0, None));
    let again = ask(&mut tracker, CHAT, body);
    assert_eq!((again.repeats, again.told.len(), &*again.conversation), (true, 0, "main"));
    assert_eq!(lines(&answer(&mut tracker, &again, said("hello")).told), ["assistant 2 \"hello\""]);
}

#[test]
fn a_stream_that_was_cut_may_be_repeated_or_not() {
    let chunk = |text: &str| {
        let delta = json!({"choices": [{"index": 0, "delta": {"content": text}}]});
        format!("data: {delta}\n\n")
    };
    for kept in [true, false] {
        let mut tracker = tracker();
        let asked = ask(&mut tracker, CHAT, chat("rules", &[("user", "hi")]));
        let stream = chunk("hel") + &chunk("lo") + "data: {\"choi";
        let cut = tracker.response(asked.id, Some(200), stream.as_bytes(), true, false);
        assert_eq!(cut.incomplete, Some("cut"));
        assert_eq!(lines(&cut.told), ["assistant 2 \"hello\" {\"incomplete\":\"cut\"}"]);
        let rest: &[_] = if kept {
            &[("user", "hi"), ("assistant", "hello"), ("user", "go on")]
        } else {
            &[("user", "hi"), ("user", "go on")]
        };
        let (lines, name) = turn(&mut tracker, "rules", rest, "now");
        assert!(lines[0].ends_with("\"go on\"") && lines.len() == 2, "{kept}: {lines:?}");
        assert_eq!(name, "main");
    }
}

#[test]
fn a_call_that_was_cut_off_is_no_call() {
    let mut tracker = tracker();
    let asked = ask(&mut tracker, CHAT, chat("rules", &[("user", "hi")]));
    let call = |n: u64, part: &str, id: &str| {
        let call = json!({"index": n, "id": id, "function": {"name": "t", "arguments": part}});
        format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}))
    };
    let stream = call(0, "{}", "c1") + &call(1, "{\"a\":", "c2");
    let cut = tracker.response(asked.id, Some(200), stream.as_bytes(), true, false);
    assert_eq!(lines(&cut.told)[1..], ["call c1 t {}"]);
}

#[test]
fn history_that_is_dropped_or_edited_is_told() {
    let mut tracker = tracker();
    let mut all = vec![("user", "one")];
    for (reply, next) in
        [("first answer", "two"), ("second answer", "three"), ("third answer", "four")]
    {
        turn(&mut tracker, "rules", &all, reply);
        all.extend([("assistant", reply), ("user", next)]);
    }
    // The oldest two are left out.
    let (lines, name) = turn(&mut tracker, "rules", &all[2..], "fourth answer");
    assert_eq!((&*lines[0], &*lines[1], &*name), ("edited 2 from 1", "user 5 \"four\"", "main"));
    // The last two are taken back.
    let back = [&all[2..6], &[("user", "other")]].concat();
    let (lines, name) = turn(&mut tracker, "rules", &back, "fifth answer");
    assert_eq!((&*lines[0], &*lines[1], &*name), ("rewound 2 from 5", "user 5 \"other\"", "main"));
    // Somebody goes on from what was taken back: there were two.
    let on = [&all[2..], &[("assistant", "fourth answer"), ("user", "on")]].concat();
    let (lines, name) = turn(&mut tracker, "rules", &on, "x");
    assert_eq!((&*lines[0], lines.len(), &*name), ("user 7 \"on\"", 2, "a"));
}

#[test]
fn an_answer_that_is_not_taken_is_dropped() {
    let mut tracker = tracker();
    turn(&mut tracker, "rules", &[("user", "hi")], "bad");
    let asked = ask(&mut tracker, CHAT, chat("rules", &[("user", "hi")]));
    assert_eq!(lines(&asked.told), ["rewound 1 from 2"]);
    assert!(asked.repeats && asked.conversation == "main");
}

#[test]
fn a_summary_takes_the_place_of_history() {
    let mut tracker = tracker();
    let all = [("user", "fix the tests")];
    turn(&mut tracker, "rules", &all, "Which ones?");
    let summary = "<summary>\nThe user wants the tests of the parser fixed.\nNothing has been done so far.\n</summary>";
    let all = [
        ("user", "fix the tests"),
        ("assistant", "Which ones?"),
        ("user", "Summarize all so far."),
    ];
    turn(&mut tracker, "rules", &all, summary);
    let after = "This goes on from another session.\nThe user wants the tests of the parser fixed.\nNothing has been done so far.";
    let asked = ask(&mut tracker, CHAT, chat("rules", &[("user", after)]));
    assert_eq!(asked.conversation, "main");
    let Some(Told::Dropped(dropped)) = asked.told.first() else { panic!("{:?}", asked.told) };
    assert_eq!((dropped.how, dropped.messages), (Edit::Compacted, 4));
    assert_eq!(asked.told.len(), 2);
}

#[test]
fn cleared_results_are_an_edit_and_no_second_result() {
    let mut tracker = tracker();
    let body = |result: &str, more: &[Json]| {
        let mut messages = vec![
            json!({"role": "user", "content": "hi"}),
            json!({"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "t", "input": {}}]}),
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": result}]}),
        ];
        messages.extend_from_slice(more);
        json!({"model": "m", "max_tokens": 99, "messages": messages})
    };
    let asked = ask(&mut tracker, ANTHROPIC, body("all of it", &[]));
    let reply = json!({"type": "message", "role": "assistant", "content": [{"type": "text", "text": "so"}]});
    answer(&mut tracker, &asked, reply.clone());
    let more =
        [json!({"role": "assistant", "content": "so"}), json!({"role": "user", "content": "on"})];
    let asked = ask(&mut tracker, ANTHROPIC, body("[cleared]", &more));
    assert_eq!(lines(&asked.told), ["edited 1 from 2", "user 4 \"on\""]);
}

#[test]
fn side_requests_are_folded() {
    let mut tracker = tracker();
    turn(&mut tracker, "rules", &[("user", "hi")], "hello");
    let title = json!({
        "model": "m", "max_tokens": 99, "system": "You are a title generator for conversations. Write a short title.",
        "messages": [{"role": "user", "content": "hi"}],
    });
    let count = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    let probe =
        json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "quota"}]});
    let embed = json!({"model": "m", "input": "x"});
    for (method, url, body, kind) in [
        ("POST", ANTHROPIC, &title, SideKind::Title),
        ("POST", "http://a/v1/messages/count_tokens", &count, SideKind::Count),
        ("POST", ANTHROPIC, &probe, SideKind::Probe),
        ("GET", "http://a/v1/models", &Json::Null, SideKind::Models),
        ("POST", "http://a/v1/embeddings", &embed, SideKind::Embeddings),
    ] {
        let asked = tracker.request(method, url, body.to_string().as_bytes()).unwrap();
        assert_eq!((asked.side, &*asked.conversation), (Some(kind), "side"), "{url}");
        let answered = answer(
            &mut tracker,
            &asked,
            json!({"type": "message", "content": "x", "usage": {"input_tokens": 3}}),
        );
        assert_eq!((answered.side, answered.failure), (Some(kind), None));
    }
    // None of them took a name.
    assert_eq!(turn(&mut tracker, "other", &[("user", "find")], "x").1, "a");
}

#[test]
fn a_request_that_brings_only_what_is_new_goes_on_from_a_response() {
    let mut tracker = tracker();
    let first = json!({"model": "m", "instructions": "rules", "input": "hi"});
    let asked = ask(&mut tracker, RESPONSES, first);
    assert_eq!(asked.dialect, Some(Dialect::Responses));
    let call = json!({"type": "function_call", "call_id": "c1", "id": "fc_1", "name": "t", "arguments": "{\"a\": 1}"});
    let reply = json!({"object": "response", "id": "resp_1", "status": "completed", "model": "m", "output": [call]});
    let told = answer(&mut tracker, &asked, reply).told;
    assert_eq!(lines(&told)[1..], ["call c1 t {\"a\":1}"]);
    let output = json!({"type": "function_call_output", "call_id": "c1", "output": "1"});
    let next = json!({"model": "m", "instructions": "rules", "previous_response_id": "resp_1", "input": [output]});
    let asked = ask(&mut tracker, RESPONSES, next.clone());
    assert_eq!(
        (lines(&asked.told), &*asked.conversation, asked.partial),
        (vec!["result c1 \"1\"".to_owned()], "main", false)
    );
    let all = from_value(&asked.messages);
    assert_eq!(all, json!([{"role": "user", "content": "hi"}, call, output]));
    let done = json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "done"}]});
    let reply =
        json!({"object": "response", "id": "resp_2", "status": "completed", "output": [done]});
    answer(&mut tracker, &asked, reply);
    // Another one from the first response is a branch.
    let branch = ask(&mut tracker, RESPONSES, next);
    assert_eq!((&*branch.conversation, branch.branch_of.as_deref()), ("a", Some("main")));
    assert_eq!(from_value(&branch.messages).as_array().unwrap().len(), 3);
    // What we never saw.
    let unseen = ask(
        &mut tracker,
        RESPONSES,
        json!({"model": "m", "previous_response_id": "resp_x", "input": "on"}),
    );
    assert!(unseen.partial && unseen.is_new);
}

#[test]
fn a_begun_answer_goes_on_where_the_request_ends() {
    let mut tracker = tracker();
    let body = |messages: Json| json!({"model": "m", "max_tokens": 99, "messages": messages});
    let begun =
        json!([{"role": "user", "content": "json?"}, {"role": "assistant", "content": "{"}]);
    let asked = ask(&mut tracker, ANTHROPIC, body(begun));
    answer(
        &mut tracker,
        &asked,
        json!({"type": "message", "role": "assistant", "content": [{"type": "text", "text": "}"}]}),
    );
    let all = messages(&[("user", "json?"), ("assistant", "{}"), ("user", "more")]);
    assert_eq!(lines(&ask(&mut tracker, ANTHROPIC, body(all)).told), ["user 2 \"more\""]);
}

#[test]
fn calls_without_ids_are_joined_by_their_names() {
    let mut tracker = tracker();
    let url = "https://model.example/v1beta/models/m:generateContent";
    let first = json!({"contents": [{"role": "user", "parts": [{"text": "both"}]}]});
    let asked = ask(&mut tracker, url, first);
    let call = |city: &str| json!({"functionCall": {"name": "weather", "args": {"city": city}}});
    let said = json!({"role": "model", "parts": [call("A"), call("B")]});
    let told = answer(
        &mut tracker,
        &asked,
        json!({"candidates": [{"content": said, "finishReason": "STOP"}]}),
    )
    .told;
    assert_eq!(
        lines(&told)[1..],
        ["call call-1 weather {\"city\":\"A\"}", "call call-2 weather {\"city\":\"B\"}"]
    );
    let result = |degrees: u64| json!({"functionResponse": {"name": "weather", "response": {"result": degrees}}});
    let next = json!({"contents": [
        {"role": "user", "parts": [{"text": "both"}]}, said, {"role": "user", "parts": [result(1), result(1)]},
    ]});
    let asked = ask(&mut tracker, url, next);
    assert_eq!(
        lines(&asked.told),
        ["result call-1 {\"result\":1}", "result call-2 {\"result\":1}"]
    );
    assert_eq!(asked.model.as_deref(), Some("m"));
}

#[test]
fn what_a_server_says_of_the_cost_counts_where_the_model_is_unknown() {
    let mut tracker = tracker();
    for (model, expected) in [("nobody/knows", Some(0.25)), ("gpt-4o", Some(2.5 + 10.0))] {
        let mut body = chat("rules", &[("user", model)]);
        body["model"] = model.into();
        let asked = ask(&mut tracker, CHAT, body);
        let mut reply = said("x");
        reply["model"] = model.into();
        reply["usage"] =
            json!({"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000, "cost": 0.25});
        let told = answer(&mut tracker, &asked, reply).told;
        let Some(Told::Usage(usage)) = told.last() else { panic!("{told:?}") };
        assert_eq!(usage.cost, expected, "{model}");
    }
}

#[test]
fn what_is_forgotten_begins_anew() {
    let mut tracker = tracker();
    for number in 0..1000 {
        let text = format!("task {number}");
        turn(&mut tracker, "rules", &[("user", &text)], &format!("answer {number}"));
    }
    let all = [("user", "task 0"), ("assistant", "answer 0"), ("user", "on")];
    let (lines, _) = turn(&mut tracker, "rules", &all, "x");
    assert!(lines.len() == 5, "{lines:?}");
    let all = [("user", "task 999"), ("assistant", "answer 999"), ("user", "on")];
    assert_eq!(turn(&mut tracker, "rules", &all, "x").0.len(), 2);
}

#[test]
fn what_is_asked_again_from_a_response_is_told_once() {
    let mut tracker = tracker();
    let asked = ask(&mut tracker, RESPONSES, json!({"model": "m", "input": "hi"}));
    let reply = json!({"object": "response", "id": "resp_1", "status": "completed", "output": []});
    answer(&mut tracker, &asked, reply.clone());
    let next = json!({"model": "m", "previous_response_id": "resp_1", "input": [{"role": "user", "content": "on"}]});
    let asked = ask(&mut tracker, RESPONSES, next.clone());
    assert_eq!(lines(&asked.told), ["user 1 \"on\""]);
    tracker.response(asked.id, Some(200), b"", true, false);
    let again = ask(&mut tracker, RESPONSES, next);
    assert_eq!((again.repeats, again.told.len(), &*again.conversation), (true, 0, "main"));
    assert_eq!(from_value(&again.messages).as_array().unwrap().len(), 2);
}

#[test]
fn bedrock_streams_in_frames_of_its_own() {
    let url = "https://model.example/model/us.anthropic.claude-sonnet-4-5-20250929-v1:0/invoke-with-response-stream";
    let mut tracker = tracker();
    let body = json!({"anthropic_version": "b", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    let asked = ask(&mut tracker, url, body);
    assert_eq!(asked.model.as_deref(), Some("us.anthropic.claude-sonnet-4-5-20250929-v1:0"));
    // A frame holds its own length, none of headers, and `{"bytes": base64}`: here of `{"type":"message",…}`.
    let said = "eyJ0eXBlIjoibWVzc2FnZSIsImNvbnRlbnQiOlt7InR5cGUiOiJ0ZXh0IiwidGV4dCI6ImhlbGxvIn1dLCJ1c2FnZSI6eyJpbnB1dF90b2tlbnMiOjF9fQ==";
    let payload = json!({ "bytes": said }).to_string();
    let mut frame = (payload.len() as u32 + 16).to_be_bytes().to_vec();
    frame.extend([0; 8]);
    frame.extend(payload.bytes());
    frame.extend([0; 4]);
    let answered = tracker.response(asked.id, Some(200), &frame, false, true);
    assert_eq!(lines(&answered.told)[0], "assistant 1 [{\"type\":\"text\",\"text\":\"hello\"}]");
    let Some(Told::Usage(usage)) = answered.told.last() else { panic!("{:?}", answered.told) };
    assert_eq!(usage.cost, Some(3e-6));
}
