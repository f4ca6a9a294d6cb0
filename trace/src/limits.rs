//! What a reader accepts at most. A trace is hostile input; memory stays bounded whatever it claims.

/// Bytes of one decompressed frame. The writer's frames hold 64 to 256 KiB and at most one long record more.
pub const MAX_FRAME: usize = 16 << 20;

/// Bytes of one record.
pub const MAX_RECORD: usize = 4 << 20;

/// Bytes of one object's content.
pub const MAX_OBJECT: u64 = 256 << 20;

/// Maps and arrays inside each other, in a record or in the value of a payload.
pub const MAX_DEPTH: usize = 256;

/// Objects that copy from objects that copy from objects.
pub const MAX_COPY_DEPTH: usize = 64;

/// Steps that the expansion of one object may take; a recipe can ask for more work than it yields bytes.
pub const MAX_RECIPE_STEPS: u64 = 4 << 20;

/// Frames of one trace; what a seek table may list.
pub const MAX_FRAMES: u32 = 1 << 24;
