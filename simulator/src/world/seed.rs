//! One number from which everything random in a story comes, by streams with names of their own: a peer that draws once
//! more, or a peer that is new, leaves the draws of all others as they were.

use std::fmt;

/// A sum over bytes that stays the same from build to build: FNV-1a, 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    /// With these bytes behind all others.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        let add = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Self(bytes.iter().fold(self.0, add))
    }
}

/// The seed of a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seed(pub u64);

impl Seed {
    /// The stream of this name: the same numbers for the same seed and name, in every build.
    pub fn stream(self, name: &str) -> fastrand::Rng {
        let sum = Fingerprint::default().with(&self.0.to_le_bytes()).with(name.as_bytes());
        fastrand::Rng::with_seed(sum.0)
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Fingerprint, Seed};

    #[test]
    fn streams_repeat_for_the_same_seed_and_name_and_differ_for_any_other() {
        let draw = |seed, name: &str| Seed(seed).stream(name).u64(..);
        assert_eq!(draw(7, "relay"), draw(7, "relay"));
        assert_ne!(draw(7, "relay"), draw(8, "relay"));
        assert_ne!(draw(7, "relay"), draw(7, "disk"));
    }

    #[test]
    fn fingerprints_are_those_of_fnv_1a() {
        assert_eq!(Fingerprint::default().with(b"foobar").0, 0x8594_4171_f739_67e8);
    }
}
