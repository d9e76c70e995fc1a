//! What a gateway says of itself: the answers, as programs read them with `--json`. Never a key (T40).
//!
//! Moments are milliseconds since 1970-01-01T00:00Z; `idle` and `age` are milliseconds before the answer. What is
//! missing is null: not known, or not there.

mod alert;
mod drops;
mod event;
mod explain;
mod flow;
mod inquiry;
mod latch;
mod mtu;
mod peer;
mod policy;
mod reload;
mod sa;
mod status;
mod whois;

pub use alert::{AlertKind, AlertView};
pub use drops::{DropRow, Drops, Severity};
pub use event::{EventKind, EventView};
pub use explain::{Explanation, SaUsed, Verdict};
pub use flow::{FlowRow, Flows};
pub use inquiry::{HeldView, IdentityView, LatchDetail, LatchNamed, OwnerKind, OwnerView, TunnelView};
pub use latch::{LatchRow, LatchState, Latches, TagView};
pub use mtu::{DiscoverySpec, FragmentSpec, MtuPart, MtuRow, MtuView, PartKind};
pub use peer::{CertificateView, PeerRow, Peers, ProvenRow, Traffic};
pub use policy::{LatchTermsView, Policies, PolicyRow};
pub use reload::{ChangeKind, ChangeRow, Reloaded};
pub use sa::{HeaderView, LifetimeView, Origin, PathView, SaRow, SaUsage, Sas};
pub use status::{
    LatchCounts, Mode, ReloadHistory, ReloadOutcome, StateHealth, StatusView, StreetView, TunView,
};
pub use whois::{Bond, WhoisAnswer, WhoisRow};

/// An answer that is a list, of which a call without `more` gets the first rows only, and one with `more` gets all, a
/// page per reply: a gateway may have a million latches, and no reply shall grow with them.
pub trait Page {
    /// A row.
    type Row;

    /// How many rows it holds.
    fn rows(&self) -> usize;

    /// Whether rows are missing that no later page brings.
    fn is_truncated(&self) -> bool;

    /// Says whether rows are missing.
    fn set_truncated(&mut self, truncated: bool);

    /// Takes over the rows of the next page.
    fn append(&mut self, next: Self);
}

/// Declares a list: its rows, and that it is a [`Page`].
macro_rules! page {
    ($(#[$doc:meta])* $name:ident { $(#[$rows_doc:meta])* $rows:ident: $row:ty }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        pub struct $name {
            $(#[$rows_doc])*
            pub $rows: Vec<$row>,
            /// Whether there are more rows than these: call with `more` to get all of them.
            pub truncated: bool,
        }

        impl $crate::view::Page for $name {
            type Row = $row;

            fn rows(&self) -> usize {
                self.$rows.len()
            }

            fn is_truncated(&self) -> bool {
                self.truncated
            }

            fn set_truncated(&mut self, truncated: bool) {
                self.truncated = truncated;
            }

            fn append(&mut self, mut next: Self) {
                self.$rows.append(&mut next.$rows);
                self.truncated = next.truncated;
            }
        }

        impl From<Vec<$row>> for $name {
            fn from($rows: Vec<$row>) -> Self {
                Self { $rows, truncated: false }
            }
        }
    };
}

pub(crate) use page;
