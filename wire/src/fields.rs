//! Header fields: a list in the order and case of the wire, and how to look into it.

/// Names and values in order, with the case and the bytes of the wire.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// The value of the first field of that name; case does not matter (RFC 9110, 5.1).
pub fn find<'f>(fields: &'f Fields, name: &str) -> Option<&'f [u8]> {
    all(fields, name).next()
}

/// The values of all fields of that name.
pub(crate) fn all<'f>(fields: &'f Fields, name: &str) -> impl Iterator<Item = &'f [u8]> {
    fields
        .iter()
        .filter(move |(have, _)| have.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value.as_slice())
}

/// The members of the comma-separated lists that all fields of that name make together (RFC 9110, 5.6.1), trimmed.
pub fn tokens<'f>(fields: &'f Fields, name: &str) -> impl Iterator<Item = &'f [u8]> {
    all(fields, name)
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

/// Whether one of the members is this one, in any case.
pub(crate) fn has_token(fields: &Fields, name: &str, token: &str) -> bool {
    tokens(fields, name).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
}

/// Whether the body is a stream of server-sent events, by its content type without parameters.
pub(crate) fn is_event_stream(fields: &Fields) -> bool {
    find(fields, "content-type").is_some_and(|value| {
        let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_go_over_several_fields() {
        let fields = vec![
            (b"Transfer-Encoding".to_vec(), b"gzip,, ".to_vec()),
            (b"content-type".to_vec(), b"Text/Event-Stream; charset=utf-8".to_vec()),
            (b"transfer-encoding".to_vec(), b" Chunked".to_vec()),
        ];
        let found: Vec<_> = tokens(&fields, "TRANSFER-encoding").collect();
        assert_eq!(found, [b"gzip".as_slice(), b"Chunked"]);
        assert!(has_token(&fields, "transfer-encoding", "chunked"));
        assert!(is_event_stream(&fields));
        assert_eq!(find(&fields, "host"), None);
    }
}
