//! `docs/trace-format.md` and the program name the same event types, fields and kinds.

use std::fs;
use std::path::Path;

use agentrec_trace::event::EVENT_TYPES;

/// A type as the program or the document has it: name, layer, and each field with its kind.
type Described = (String, String, Vec<(String, String)>);

fn document() -> Vec<Described> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/trace-format.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, tables) = text.split_once("\n## Event types\n").unwrap();
    let (tables, _) = tables.split_once("\n## ").unwrap();
    let mut types: Vec<Described> = Vec::new();
    for line in tables.lines() {
        if let Some(title) = line.strip_prefix("### `") {
            let (name, layer) = title.split_once("` (").unwrap();
            types.push((name.to_owned(), layer.trim_end_matches(')').to_owned(), Vec::new()));
        } else if let Some(row) = line.strip_prefix("| `") {
            let (field, rest) = row.split_once("` | ").unwrap();
            let (kind, meaning) = rest.split_once(" | ").unwrap();
            assert!(meaning.len() > 3, "{field} has no meaning");
            types.last_mut().unwrap().2.push((field.to_owned(), kind.to_owned()));
        }
    }
    types
}

fn program() -> Vec<Described> {
    let fields = |known: &agentrec_trace::event::EventType| {
        let pairs = known.fields.iter().zip(known.types);
        pairs.map(|(field, ty)| (field.to_string(), described(ty))).collect()
    };
    EVENT_TYPES
        .iter()
        .map(|known| (known.name.to_owned(), known.layer.as_str().to_owned(), fields(known)))
        .collect()
}

/// What the document calls the Rust type `ty`.
fn described(ty: &str) -> String {
    let plain = ty.replace("<'a>", "").replace("Cow<'a, str>", "str");
    match plain.strip_prefix("Option<").and_then(|rest| rest.strip_suffix('>')) {
        Some(inner) => format!("{}, optional", kind(inner)),
        None => kind(&plain),
    }
}

fn kind(ty: &str) -> String {
    if let Some(inner) = ty.strip_prefix("Vec<").and_then(|rest| rest.strip_suffix('>')) {
        return format!("list of {}", kind(inner));
    }
    if let Some(inner) = ty.strip_prefix("Option<").and_then(|rest| rest.strip_suffix('>')) {
        return format!("{} or nil", kind(inner));
    }
    if let Some((a, b)) =
        ty.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')?.split_once(", "))
    {
        return format!("[{}, {}]", kind(a), kind(b));
    }
    match ty {
        "Bytes" => "bytes",
        "u8" | "u16" | "u32" | "u64" => "uint",
        "i32" | "i64" => "int",
        "f64" => "float",
        "bool" => "bool",
        "str" => "str",
        "Seq" => "event",
        "ProcId" => "proc",
        "SnapshotIndex" => "snapshot",
        "ObjectId" => "object",
        "Payload" => "payload",
        "Content" => "content",
        "Address" => "address",
        "StandardFd" => "fd",
        "Lineage" => "lineage",
        "Watch" => "watch",
        "RootTree" => "root",
        "Certainty" => "certainty",
        other => panic!("the document has no kind for {other}"),
    }
    .to_owned()
}

#[test]
fn the_document_names_every_type_and_field_and_no_other() {
    let (document, program) = (document(), program());
    for known in &program {
        let described = document.iter().find(|(name, ..)| *name == known.0);
        assert_eq!(described, Some(known), "{} in the document and in the program", known.0);
    }
    for (name, ..) in &document {
        assert!(program.iter().any(|known| known.0 == *name), "{name} is only in the document");
    }
}
