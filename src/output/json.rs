//! Machine output: bytes stay bytes.
