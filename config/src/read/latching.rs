//! On which terms connections are latched, and how many, for how long.

use crate::document::{Entry, Problems, Scope};
use crate::model::{Applications, LatchTerms, Latches, Model, OnConflict, OnPolicyChange, Unlatchable};
use crate::reference::{Key, latches, latching, root};
use crate::value;

/// The terms of a table, and what they are where it says nothing. `None` is a problem.
pub fn terms(table: &Scope<'_>, usual: LatchTerms, problems: &mut Problems<'_>) -> Option<LatchTerms> {
    let model = table.read_or(&latching::MODEL, usual.model, problems, value::word(&MODELS));
    let conflict = (&latching::ON_CONFLICT, usual.on_conflict);
    let conflict = table.read_or(conflict.0, conflict.1, problems, value::word(&ON_CONFLICT));
    let change = (&latching::ON_POLICY_CHANGE, usual.on_policy_change);
    let change = table.read_or(change.0, change.1, problems, value::word(&ON_POLICY_CHANGE));
    let unlatchable = (&latching::UNLATCHABLE, usual.unlatchable);
    let unlatchable = table.read_or(unlatchable.0, unlatchable.1, problems, value::word(&UNLATCHABLE));
    let sticky = table.read_or(&latching::STICKY, usual.sticky, problems, Entry::flag);
    Some(LatchTerms {
        model: model?,
        on_conflict: conflict?,
        on_policy_change: change?,
        unlatchable: unlatchable?,
        sticky: sticky?,
    })
}

/// What applications may ask for. `None` is a problem.
pub fn applications(
    table: &Scope<'_>,
    usual: Applications,
    problems: &mut Problems<'_>,
) -> Option<Applications> {
    table.read_or(&latching::APPLICATIONS, usual, problems, value::word(&APPLICATIONS))
}

/// The keys that say nothing where nothing is latched.
pub static OF_LATCHES: [&Key; 5] = [
    &latching::MODEL,
    &latching::ON_CONFLICT,
    &latching::ON_POLICY_CHANGE,
    &latching::UNLATCHABLE,
    &latching::STICKY,
];

/// How many latches there may be, and for how long.
pub fn limits(file: &Scope<'_>, problems: &mut Problems<'_>) -> Latches {
    let Some(table) = file.entry(&root::LATCHES).and_then(|entry| entry.table(&latches::TABLE, problems))
    else {
        return Latches::default();
    };
    let mut count = |key: &'static Key, least, most: u32| {
        let number = table.read(key, problems, |e, problems| e.number(least..=u64::from(most), problems));
        number.and_then(|number| u32::try_from(number).ok())
    };
    let capacity = count(&latches::CAPACITY, LEAST_FLOWS, MOST_FLOWS);
    let half_open = count(&latches::HALF_OPEN, 1, capacity.unwrap_or(USUAL_FLOWS));
    let all = half_open.unwrap_or_else(|| capacity.unwrap_or(USUAL_FLOWS).div_ceil(4));
    let half_open_per_peer = count(&latches::HALF_OPEN_PER_PEER, 1, all);
    let mut seconds =
        |key: &'static Key, bounds| table.read(key, problems, |e, problems| e.number(bounds, problems));
    Latches {
        capacity,
        half_open,
        half_open_per_peer,
        udp_idle: seconds(&latches::UDP_IDLE, 120..=86_400),
        tcp_idle: seconds(&latches::TCP_IDLE, 7440..=2_592_000),
        larval: seconds(&latches::LARVAL, 5..=600),
    }
}

static MODELS: [(&str, Model); 2] = [("strict", Model::Strict), ("tag", Model::Tag)];
static ON_CONFLICT: [(&str, OnConflict); 4] = [
    ("terminate", OnConflict::Terminate),
    ("drop-newcomer", OnConflict::DropNewcomer),
    ("reject-newcomer", OnConflict::RejectNewcomer),
    ("wait", OnConflict::Wait),
];
static ON_POLICY_CHANGE: [(&str, OnPolicyChange); 2] =
    [("break", OnPolicyChange::Break), ("preserve", OnPolicyChange::Preserve)];
static UNLATCHABLE: [(&str, Unlatchable); 2] = [("refuse", Unlatchable::Refuse), ("pass", Unlatchable::Pass)];
static APPLICATIONS: [(&str, Applications); 3] =
    [("nothing", Applications::Nothing), ("more", Applications::More), ("bypass", Applications::Bypass)];
/// Fewer serve nobody.
const LEAST_FLOWS: u64 = 64;
/// What two and a half gibibytes hold.
const MOST_FLOWS: u32 = 1 << 24;
/// Where the file says nothing.
const USUAL_FLOWS: u32 = 65_536;
