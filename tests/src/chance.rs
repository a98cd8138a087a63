//! Chance that can be repeated: a seed that a failing test prints and `FRIKORT_SEED` sets.

/// A small generator of numbers (a linear congruence; its upper bits).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// From `FRIKORT_SEED`, else from the process id; prints the seed.
    #[expect(clippy::print_stdout, reason = "who sees it fail needs the seed")]
    pub fn printed() -> Self {
        let seed = std::env::var("FRIKORT_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
        println!("FRIKORT_SEED={seed}");
        Self(seed)
    }

    /// From a seed that is known.
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// One of several, of which there must be one at least.
    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let of = u64::try_from(all.len()).unwrap_or(1);
        &all[usize::try_from(self.below(of)).unwrap_or(0)]
    }

    /// Another one, whose numbers follow from this one's next.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.below(u64::from(u32::MAX)))
    }

    /// From 0 to `bound`, not included.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
