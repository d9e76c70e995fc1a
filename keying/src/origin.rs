//! Where pairs and rules come from, which decides what a reload does with them.

/// Who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The configuration: a reload may change or remove it.
    Configuration,
    /// Somebody by hand, or a provider of SAs: a reload leaves it as it is.
    Hand,
    /// A latch that somebody asked for: it comes and goes with the latch (L-115 to L-118). Of rules only.
    Latch,
}
