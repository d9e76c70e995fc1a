//! What one path takes, found out by asking: the search of RFC 8899 section 5, begun by doubt.
//!
//! Nothing that is not authenticated moves a size. A hint begins a doubt; the doubt asks with packets of the size in
//! force and with smaller ones. Where the large are answered, the hint was wrong (T18). Where only the small are, what they
//! prove is the new size, and the search goes on between the two. Where none are, nobody at the other end answers at
//! all: that is no proof, the size stays, and the doubt is shown.

use std::time::Duration;

use crate::pmtu::PathMtu;
use crate::time::Time;

/// The search on one path, in octets of outer packet.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    /// What the path is configured to take.
    ceiling: u16,
    /// Less is never believed.
    floor: u16,
    in_force: u16,
    suspected: bool,
    /// How long a path that was found to be in order is left alone, where time alone is reason to ask.
    confirm: Option<Duration>,
    /// When more than is in force is tried, where less than the ceiling is.
    raise: Option<Time>,
    /// Hints are not heeded before.
    deaf_until: Time,
    /// Doubts in a row that nobody answered.
    unanswered: u32,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing is asked before that time, if ever again.
    Rest { until: Option<Time> },
    /// Does the size in force still pass? If it does not, does `small`?
    Doubt { small: u16, proven: Option<u16>, asked: Asked },
    /// More may pass than is in force, but not `failed`: does `trial`?
    Between { trial: u16, failed: u32, asked: Asked },
}

/// How often the same was asked, and until when its answer is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asked {
    times: u8,
    until: Time,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// To wait.
    Wait,
    /// To ask with packets of these sizes.
    Ask { size: u16, also: Option<u16> },
}

/// MAX_PROBES of RFC 8899 section 5.1.2.
const TRIES: u8 = 3;

/// PROBE_TIMER of RFC 8899 section 5.1.1, its least.
const PATIENCE: Duration = Duration::from_secs(1);

/// PMTU_RAISE_TIMER of RFC 8899 section 5.1.1, and RFC 1191 section 6.3.
const RAISE: Duration = Duration::from_secs(600);

/// How often time alone is reason to ask, where that is wanted: CONFIRMATION_TIMER of RFC 8899 section 5.1.1.
pub(crate) const CONFIRM: Duration = Duration::from_secs(60);

/// How long nobody is listened to after a hint was found wrong: what forgers can make the gateway send is bounded by it.
const DEAF: Duration = Duration::from_secs(10);

/// A search ends where it could win less than this: suites pad by as much.
const CLOSE_ENOUGH: u32 = 8;

impl Search {
    /// A path of which no more is known than what it is configured to take. `confirm` has it asked about without a hint,
    /// too.
    pub(crate) fn new(ceiling: u16, floor: u16, confirm: Option<Duration>, now: Time) -> Self {
        let until = confirm.map(|_| now);
        Self {
            ceiling,
            floor: floor.min(ceiling),
            in_force: ceiling,
            suspected: false,
            confirm,
            raise: None,
            deaf_until: Time::default(),
            unanswered: 0,
            phase: Phase::Rest { until },
        }
    }

    /// The same path, as somebody else found it to be.
    pub(crate) fn knowing(mut self, in_force: u16, now: Time) -> Self {
        self.in_force = in_force.clamp(self.floor, self.ceiling);
        self.rest(now);
        self
    }

    /// The size in force, and whether it is in doubt.
    pub(crate) const fn finding(&self) -> PathMtu {
        PathMtu { in_force: self.in_force, suspected: self.suspected }
    }

    /// Whether nothing is asked at the moment.
    pub(crate) const fn is_resting(&self) -> bool {
        matches!(self.phase, Phase::Rest { .. })
    }

    /// Whether nothing is known that is worth being remembered.
    pub(crate) fn is_forgettable(&self, now: Time) -> bool {
        self.in_force == self.ceiling
            && !self.suspected
            && matches!(self.phase, Phase::Rest { until: None })
            && now >= self.deaf_until
    }

    /// When [`step`](Self::step) has something to do next.
    pub(crate) fn next(&self) -> Option<Time> {
        match self.phase {
            Phase::Rest { until: Some(until) } => Some(until),
            Phase::Rest { until: None } => (self.deaf_until > Time::default()).then_some(self.deaf_until),
            Phase::Doubt { asked, .. } | Phase::Between { asked, .. } => Some(asked.until),
        }
    }

    /// Takes note of a claim that nobody vouches for. Returns whether it is heeded: only one of a size below the one in
    /// force and not below the floor is, and none soon after one that was wrong (T18).
    pub(crate) fn hint(&mut self, claimed: u16, now: Time) -> bool {
        if claimed >= self.in_force || claimed < self.floor || now < self.deaf_until {
            return false;
        }
        match &mut self.phase {
            // The way may narrow more than once.
            Phase::Doubt { small, proven: None, .. } => *small = claimed.min(*small),
            Phase::Doubt { .. } => {}
            Phase::Rest { .. } | Phase::Between { .. } => self.doubt(claimed, now),
        }
        true
    }

    /// Takes note that what was asked for `size` was answered, by an answer that is authenticated; the packet itself had
    /// `octets`, since padding leaves some sizes out.
    pub(crate) fn answered(&mut self, size: u16, octets: u16, now: Time) {
        self.unanswered = 0;
        let proven = if size >= self.ceiling { self.ceiling } else { octets };
        match &mut self.phase {
            Phase::Doubt { proven: least, .. } if size < self.in_force => {
                *least = Some(least.unwrap_or(0).max(proven));
            }
            // An answer that came late proves what it proves.
            Phase::Doubt { .. } | Phase::Rest { .. } if size >= self.in_force => {
                let refuted = self.suspected;
                self.in_force = proven.max(self.in_force);
                self.suspected = false;
                if refuted {
                    self.deaf_until = now + DEAF;
                }
                self.rest(now);
            }
            Phase::Between { failed, .. } if proven > self.in_force => {
                let failed = *failed;
                self.in_force = proven;
                self.between(failed, now);
            }
            Phase::Doubt { .. } | Phase::Between { .. } | Phase::Rest { .. } => {}
        }
    }

    /// What is to be done at `now`.
    pub(crate) fn step(&mut self, now: Time) -> Step {
        if let Phase::Rest { until } = self.phase {
            match until {
                Some(until) if now >= until => self.wake(now),
                _ => return Step::Wait,
            }
        }
        match self.phase {
            Phase::Doubt { asked, .. } | Phase::Between { asked, .. } if now >= asked.until => {
                if asked.times >= TRIES {
                    self.conclude(now);
                }
                self.ask(now)
            }
            _ => Step::Wait,
        }
    }

    /// Takes note that nothing could be asked: nobody is known who could answer. The doubt stays.
    pub(crate) fn unable(&mut self, now: Time) {
        if let Phase::Doubt { asked, .. } | Phase::Between { asked, .. } = &mut self.phase {
            *asked = Asked { times: asked.times.saturating_sub(1), until: now + PATIENCE };
        }
    }

    /// Takes note that others are asked from here on, who are asked as often.
    pub(crate) fn begin_again(&mut self, now: Time) {
        if let Phase::Doubt { asked, .. } | Phase::Between { asked, .. } = &mut self.phase {
            *asked = Asked { times: 0, until: now };
        }
    }

    fn doubt(&mut self, small: u16, now: Time) {
        self.suspected = true;
        self.phase = Phase::Doubt { small, proven: None, asked: Asked { times: 0, until: now } };
    }

    fn ask(&mut self, now: Time) -> Step {
        let (Phase::Doubt { asked, .. } | Phase::Between { asked, .. }) = &mut self.phase else {
            return Step::Wait;
        };
        *asked = Asked { times: asked.times + 1, until: now + PATIENCE };
        match self.phase {
            Phase::Doubt { small, .. } => {
                Step::Ask { size: self.in_force, also: (small < self.in_force).then_some(small) }
            }
            Phase::Between { trial, .. } => Step::Ask { size: trial, also: None },
            Phase::Rest { .. } => Step::Wait,
        }
    }

    /// It was asked often enough.
    fn conclude(&mut self, now: Time) {
        match self.phase {
            Phase::Doubt { proven: Some(proven), .. } => {
                let failed = self.in_force;
                self.in_force = proven;
                self.suspected = false;
                self.raise = Some(now + RAISE);
                self.between(failed.into(), now);
            }
            Phase::Doubt { small, .. } if small > self.floor => self.doubt_again(now),
            Phase::Doubt { .. } => self.give_up(now),
            Phase::Between { trial, .. } => self.between(trial.into(), now),
            Phase::Rest { .. } => {}
        }
    }

    /// Nobody answered packets of any size.
    fn give_up(&mut self, now: Time) {
        let later = CONFIRM * 2_u32.saturating_pow(self.unanswered.min(8));
        self.unanswered += 1;
        self.deaf_until = now + DEAF;
        self.phase = Phase::Rest { until: Some(now + later.min(RAISE)) };
    }

    /// Time itself is reason to ask.
    fn wake(&mut self, now: Time) {
        let raises = self.raise.is_some_and(|raise| now >= raise);
        if self.suspected || !raises {
            self.doubt_again(now);
        } else {
            self.raise = Some(now + RAISE);
            // First all of it: most often what made the path narrow is gone.
            let asked = Asked { times: 0, until: now };
            self.phase = Phase::Between { trial: self.ceiling, failed: u32::from(self.ceiling) + 1, asked };
        }
    }

    /// A doubt that comes from no hint is none that an operator should see before it is one.
    fn doubt_again(&mut self, now: Time) {
        let suspected = self.suspected;
        self.doubt(self.floor, now);
        self.suspected = suspected;
    }

    fn between(&mut self, failed: u32, now: Time) {
        let passed = u32::from(self.in_force);
        if passed + CLOSE_ENOUGH >= failed {
            return self.rest(now);
        }
        let trial = u16::try_from(passed.midpoint(failed)).unwrap_or(self.ceiling).min(self.ceiling);
        self.phase = Phase::Between { trial, failed, asked: Asked { times: 0, until: now } };
    }

    fn rest(&mut self, now: Time) {
        let narrowed = self.in_force < self.ceiling;
        self.raise = narrowed.then(|| self.raise.filter(|&raise| raise > now).unwrap_or(now + RAISE));
        let until = self.raise.into_iter().chain(self.confirm.map(|wait| now + wait)).min();
        self.phase = Phase::Rest { until };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::from_nanos(1_000_000_000_000);

    /// A path that takes so much, whose far end answers or does not; how many packets it was asked with.
    struct Path {
        takes: u16,
        answers: bool,
        asked: usize,
        now: Time,
    }

    impl Path {
        fn of(takes: u16) -> Self {
            Self { takes, answers: true, asked: 0, now: START }
        }

        /// Lets so much time pass.
        fn pass(&mut self, search: &mut Search, time: Duration) {
            let end = self.now + time;
            while let Some(next) = search.next().filter(|&next| next <= end) {
                self.now = self.now.max(next);
                let Step::Ask { size, also } = search.step(self.now) else { break };
                for size in [Some(size), also].into_iter().flatten() {
                    assert!((1300..=1500).contains(&size), "{size}");
                    self.asked += 1;
                    if self.answers && size <= self.takes {
                        search.answered(size, size, self.now);
                    }
                }
            }
            self.now = end;
        }
    }

    fn search() -> Search {
        Search::new(1500, 1300, None, START)
    }

    fn finding(in_force: u16, suspected: bool) -> PathMtu {
        PathMtu { in_force, suspected }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    /// T18: a forged hint has the path asked once, which disproves it, and more of them within ten seconds have no effect.
    #[test]
    fn t18_a_wrong_hint_changes_nothing_and_costs_two_packets_each_ten_seconds() {
        let (mut search, mut path) = (search(), Path::of(1500));
        for round in 1..=6 {
            for _ in 0..1000 {
                search.hint(1400, path.now);
                path.pass(&mut search, Duration::from_millis(10));
                assert_eq!(search.finding().in_force, 1500);
            }
            assert!(path.asked <= 2 * round, "{} packets in {} seconds", path.asked, 10 * round);
        }
        assert!(path.asked >= 8, "hints were heeded");
        path.pass(&mut search, MINUTE);
        assert!(search.is_forgettable(path.now) && search.finding() == finding(1500, false));
    }

    /// T18: what no path can be said to be.
    #[test]
    fn t18_hints_below_the_floor_or_not_below_what_is_in_force_are_not_heeded() {
        let mut search = search();
        for claimed in [0, 68, 576, 1280, 1299, 1500, 1501, u16::MAX] {
            assert!(!search.hint(claimed, START), "{claimed}");
        }
        assert_eq!((search.step(START), search.finding()), (Step::Wait, finding(1500, false)));
        assert!(search.hint(1300, START));
        assert_eq!(search.finding(), finding(1500, true));
    }

    /// RFC 8899 5.3: every size of path is found, whatever the router claims, and never more than passes.
    #[test]
    fn rfc_8899_5_3_every_path_is_found_from_any_claim() {
        for takes in 1300..=1499 {
            for claimed in [takes, 1300, 1499, takes - (takes - 1300) / 2] {
                let (mut search, mut path) = (search(), Path::of(takes));
                assert!(search.hint(claimed, path.now));
                path.pass(&mut search, MINUTE);
                let found = search.finding();
                assert!(!found.suspected && found.in_force <= takes, "{takes} {claimed}: {found:?}");
                assert!(takes - found.in_force < 8, "{takes} {claimed}: {found:?}");
                assert!(path.asked < 40, "{takes} {claimed}: {} packets", path.asked);
            }
        }
    }

    /// What is proven is in force as soon as the larger was asked three times, before the search is over.
    #[test]
    fn a_path_that_narrowed_is_adopted_within_three_seconds() {
        let (mut search, mut path) = (search(), Path::of(1400));
        assert!(search.hint(1400, path.now));
        path.pass(&mut search, Duration::from_millis(2999));
        assert_eq!(search.finding(), finding(1500, true), "three times");
        path.pass(&mut search, Duration::from_millis(1));
        assert_eq!(search.finding(), finding(1400, false));
    }

    /// Silence is no proof: of a far end that answers nothing, nothing is concluded, and it is asked ever more seldom.
    #[test]
    fn t18_where_nobody_answers_the_size_stays_and_is_suspected() {
        let (mut search, mut path) = (search(), Path::of(1400));
        path.answers = false;
        assert!(search.hint(1400, path.now));
        path.pass(&mut search, MINUTE);
        assert_eq!(search.finding(), finding(1500, true));
        let before = path.asked;
        path.pass(&mut search, 60 * MINUTE);
        assert_eq!(search.finding(), finding(1500, true));
        assert!(path.asked - before < 10 * 6, "{}", path.asked - before);
        path.answers = true;
        path.pass(&mut search, 20 * MINUTE);
        assert!(!search.finding().suspected && search.finding().in_force > 1392);
    }

    /// RFC 8899 5.1.1, RFC 1191 6.3: after ten minutes more is tried, up to what is configured and not beyond.
    #[test]
    fn rfc_8899_5_1_1_a_path_that_widens_is_used_ten_minutes_later() {
        for takes in [1400, 1450, 1500, 9000] {
            let (mut search, mut path) = (search(), Path::of(1350));
            assert!(search.hint(1350, path.now));
            path.pass(&mut search, MINUTE);
            let narrow = search.finding().in_force;
            path.takes = takes;
            path.pass(&mut search, 8 * MINUTE);
            assert_eq!(search.finding().in_force, narrow, "nobody asks so soon");
            path.pass(&mut search, 3 * MINUTE);
            let wide = search.finding().in_force;
            assert!(wide <= takes.min(1500) && takes.min(1500) - wide < 8, "{takes}: {wide}");
        }
    }

    /// A path may narrow twice: at a second router, or later.
    #[test]
    fn a_path_that_narrows_again_is_found_again() {
        let (mut search, mut path) = (search(), Path::of(1320));
        assert!(search.hint(1450, path.now));
        path.pass(&mut search, Duration::from_secs(1));
        assert!(search.hint(1320, path.now), "the next router");
        path.pass(&mut search, MINUTE);
        assert!((1313..=1320).contains(&search.finding().in_force));
        path.takes = 1305;
        assert!(search.hint(1305, path.now));
        path.pass(&mut search, MINUTE);
        assert!((1300..=1305).contains(&search.finding().in_force));
    }

    /// RFC 8899 4.3: where time is reason enough, a path that swallows what is too large is found without a hint.
    #[test]
    fn rfc_8899_4_3_a_black_hole_is_found_by_time_alone_where_that_is_wanted() {
        let mut search = Search::new(1500, 1300, Some(CONFIRM), START);
        let mut path = Path::of(1500);
        path.pass(&mut search, 10 * MINUTE);
        assert_eq!(search.finding(), finding(1500, false));
        for takes in [1450, 1350] {
            path.takes = takes;
            path.pass(&mut search, 2 * MINUTE);
            assert!(takes - search.finding().in_force < 8, "{takes}: {:?}", search.finding());
        }
        path.takes = 1500;
        path.pass(&mut search, 11 * MINUTE);
        assert_eq!(search.finding(), finding(1500, false));
        assert!(!search.is_forgettable(path.now));
    }

    /// Nobody to ask: no try is spent, and the doubt shows.
    #[test]
    fn where_nobody_is_known_who_could_answer_no_try_is_spent() {
        let mut search = search();
        assert!(search.hint(1400, START));
        for second in 0..100 {
            let now = START + Duration::from_secs(second);
            assert_eq!(search.step(now), Step::Ask { size: 1500, also: Some(1400) });
            search.unable(now);
            assert_eq!(search.step(now), Step::Wait);
        }
        assert_eq!(search.finding(), finding(1500, true));
    }

    /// Padding leaves sizes out: what is proven is what was sent, and not what was asked for; but the ceiling is the ceiling.
    #[test]
    fn what_is_proven_is_what_was_sent() {
        let mut search = search();
        assert!(search.hint(1400, START));
        let mut now = START;
        for _ in 0..3 {
            assert_eq!(search.step(now), Step::Ask { size: 1500, also: Some(1400) });
            search.answered(1400, 1388, now);
            now = now + PATIENCE;
        }
        assert!(matches!(search.step(now), Step::Ask { .. }));
        assert_eq!(search.finding().in_force, 1388);
        search.answered(1500, 1497, now);
        assert_eq!(search.finding().in_force, 1500);
    }
}
