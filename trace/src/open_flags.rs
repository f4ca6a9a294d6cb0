//! Flags of open(2) as events hold them: numbered as on x86-64 whatever the machine, so that a trace means the same
//! everywhere. The flags that are not here have the same number on all architectures that are recorded.

/// O_DIRECT.
pub const DIRECT: u32 = 0o40_000;
/// O_LARGEFILE. Programs of 64 bits rarely give it.
pub const LARGEFILE: u32 = 0o100_000;
/// O_DIRECTORY.
pub const DIRECTORY: u32 = 0o200_000;
/// O_NOFOLLOW.
pub const NOFOLLOW: u32 = 0o400_000;

/// O_TMPFILE: a bit of its own and O_DIRECTORY.
pub const TMPFILE: u32 = 0o20_000_000 | DIRECTORY;

/// These four with their numbers on aarch64 (arch/arm64/include/uapi/asm/fcntl.h).
const AARCH64: [(u32, u32); 4] =
    [(0o40_000, DIRECTORY), (0o100_000, NOFOLLOW), (0o200_000, DIRECT), (0o400_000, LARGEFILE)];

/// From the numbers of the architecture that this is compiled for.
pub fn from_native(flags: u32) -> u32 {
    if cfg!(target_arch = "aarch64") { from_aarch64(flags) } else { flags }
}

fn from_aarch64(flags: u32) -> u32 {
    let same = flags & !(DIRECT | LARGEFILE | DIRECTORY | NOFOLLOW);
    let given = AARCH64.iter().filter(|(number, _)| flags & number != 0);
    given.fold(same, |flags, (_, flag)| flags | flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_mean_the_same_from_any_machine() {
        // O_TMPFILE | O_RDWR and O_CREAT | O_NOFOLLOW | O_CLOEXEC, as each compiles them.
        assert_eq!(from_aarch64(0o20_040_002), 0o20_200_002);
        assert_eq!(from_aarch64(0o2_100_100), 0o2_400_100);
        assert_eq!(from_aarch64(0o600_000), DIRECT | LARGEFILE);
        for flag in 0..32 {
            assert_eq!(from_aarch64(1 << flag).count_ones(), 1, "{flag}");
        }
    }
}
