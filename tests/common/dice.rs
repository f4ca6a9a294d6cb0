//! Chance that comes again.

/// Numbers that are the same for the same seed.
pub struct Dice(u64);

impl Dice {
    /// Any seed will do.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9).wrapping_add(1))
    }

    /// A number below another.
    pub fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % below
    }

    /// One of several.
    pub fn of<'t>(&mut self, items: &[&'t str]) -> &'t str {
        items[self.roll(items.len())]
    }
}
