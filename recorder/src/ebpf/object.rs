//! The compiled BPF programs, as `cargo xtask ebpf` made them.

/// The object file, aligned as its parser wants it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../recorder-ebpf/agentrec.bpf.o"
));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_holds_programs_under_a_licence_that_gives_them_the_helpers() {
        let object = aya_obj::Object::parse(OBJECT).unwrap();
        assert_eq!(object.license.as_bytes(), b"Dual MIT/GPL");
        assert!(object.btf.is_some(), "no BTF: bpf_loop needs it");
        assert!(object.programs.contains_key("call_over"));
    }
}
