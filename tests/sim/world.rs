//! Two ends, two pipes, and what chance does to them.

use std::time::{Duration, Instant};

use adit::frame::ErrorCode;
use adit::mux::limits::{WINDOW, WINDOW_MIN};
use adit::mux::{AbortStyle, Limits, Side};
use adit::pool::BLOCK_LEN;

use super::end::{End, Habits, Talk};
use super::pipe::Pipe;
use super::random::Random;

/// Something done wrong on purpose, to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    None,
    FlipByte,
    LoseCredit,
    ForgetWant,
    EndEarly,
}

/// How often things happened: a simulation in which they do not proves nothing.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) streams: usize,
    pub(crate) opens_refused: usize,
    pub(crate) grants: usize,
    pub(crate) ends: usize,
    pub(crate) resets: usize,
    pub(crate) resets_seen: usize,
    pub(crate) resets_after_end: usize,
    pub(crate) stalls: usize,
    pub(crate) cuts: usize,
    pub(crate) go_aways: usize,
    pub(crate) rests: usize,
    /// Streams seen with a window that was agreed on, that has grown, that shrinks.
    pub(crate) agreed: usize,
    pub(crate) grown: usize,
    pub(crate) shrinking: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, mut other: Self) {
        for (sum, n) in self.counts().into_iter().zip(other.counts()) {
            *sum += *n;
        }
    }

    fn counts(&mut self) -> [&mut usize; 14] {
        [
            &mut self.streams,
            &mut self.opens_refused,
            &mut self.grants,
            &mut self.ends,
            &mut self.resets,
            &mut self.resets_seen,
            &mut self.resets_after_end,
            &mut self.stalls,
            &mut self.cuts,
            &mut self.go_aways,
            &mut self.rests,
            &mut self.agreed,
            &mut self.grown,
            &mut self.shrinking,
        ]
    }

    pub(crate) fn assert_everything_happened(mut self) {
        assert!(self.counts().iter().all(|count| **count >= 20), "{self:#?}");
    }
}

/// How a run ends.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// The faults stop and everything comes to its end.
    Rest,
    /// The link breaks.
    Cut,
    /// One end says goodbye.
    GoAway,
}

pub(crate) struct World {
    random: Random,
    ends: [End; 2],
    /// From the first end to the second, and back.
    pipes: [Pipe; 2],
    talks: Vec<Talk>,
    tally: Tally,
    fate: Fate,
    /// Chance of a reset among the rarer things that users do, in percent.
    resets: usize,
    sabotage: Sabotage,
    now: Instant,
}

impl World {
    pub(crate) fn new(seed: u64, sabotage: Sabotage) -> Self {
        let mut random = Random::new(seed);
        let scarce = random.chance(25);
        let limits = |random: &mut Random| {
            let window = WINDOW_MIN + u32::try_from(random.below((WINDOW - WINDOW_MIN) as usize + 1)).unwrap_or(0);
            let credit_min = *[1, 1000, 32 * 1024, 128 * 1024].get(random.below(4)).unwrap_or(&1);
            if scarce {
                let memory_max = BLOCK_LEN * (20 + random.below(100));
                let streams_max = 2 + random.below(6);
                Limits { streams_max, open_max: 1 + random.below(streams_max), memory_max, credit_min, window }
            } else {
                Limits { credit_min, window, ..Limits::default() }
            }
        };
        let wakes = [random.chance(30), random.chance(30)];
        let mut ends = [(Side::Agent, 0), (Side::Gateway, 1)].map(|(side, who)| {
            let abort_style = if wakes[who] { AbortStyle::WakeThenReset } else { AbortStyle::Reset };
            let habits = Habits { limits: limits(&mut random), abort_style, scarce, peer_wakes: wakes[1 - who] };
            End::new(side, habits)
        });
        if random.chance(60) {
            let windows = ends.each_ref().map(|end| end.habits.limits.window);
            ends[0].mux.agree_windows(windows[1]);
            ends[1].mux.agree_windows(windows[0]);
        }
        let round_trip = Duration::from_millis(random.size(50_000) as u64);
        for end in &mut ends {
            end.mux.set_round_trip(round_trip);
        }
        ends[0].forget_want = sabotage == Sabotage::ForgetWant;
        ends[0].end_early = sabotage == Sabotage::EndEarly;
        let fate = match random.below(10) {
            0..6 => Fate::Rest,
            6..9 => Fate::Cut,
            _ => Fate::GoAway,
        };
        let resets = if random.chance(50) { 0 } else { random.below(40) };
        Self {
            random,
            ends,
            pipes: [Pipe::new(Side::Agent), Pipe::new(Side::Gateway)],
            talks: Vec::new(),
            tally: Tally::default(),
            fate,
            resets,
            sabotage,
            now: Instant::now(),
        }
    }

    /// # Errors
    /// The first violation of an invariant.
    pub(crate) fn run(mut self) -> Result<Tally, String> {
        for step in 0..self.random.below(STEPS_MAX) {
            self.step().and_then(|()| self.check()).map_err(|violation| format!("step {step}: {violation}"))?;
        }
        match self.fate {
            Fate::Rest => self.rest()?,
            Fate::Cut => self.cut()?,
            Fate::GoAway => self.go_away()?,
        }
        Ok(self.tally)
    }

    fn step(&mut self) -> Result<(), String> {
        let who = self.random.below(2);
        for pipe in &mut self.pipes {
            pipe.stalled = pipe.stalled.saturating_sub(1);
        }
        let Self { random, ends, pipes, talks, tally, .. } = self;
        match random.below(100) {
            0..10 if talks.len() < STREAMS_MAX => ends[who].open(random, talks, tally),
            0..35 => ends[who].act(random, talks, self.resets, tally)?,
            35..60 => {
                let room = if random.chance(30) { random.below(100) } else { random.size(ROOM_MAX) };
                self.transmit(who, room)?;
            }
            60..90 => {
                let n = random.size(100_000);
                self.deliver(who, n)?;
            }
            90..94 => {
                pipes[who].stalled = random.below(30);
                tally.stalls += 1;
            }
            94..96 => pipes[who].rate = if random.chance(50) { usize::MAX } else { random.size(5000) },
            // Otherwise events wait until something arrives.
            _ => ends[who].events(talks, tally)?,
        }
        self.ends[who].check()
    }

    /// Lets an end write, if its pipe is not full.
    fn transmit(&mut self, who: usize, room: usize) -> Result<(), String> {
        let Self { random, ends, pipes, talks, tally, .. } = self;
        let pipe = &mut pipes[who];
        if pipe.len() > PIPE_MAX {
            return Ok(());
        }
        pipe.lose_credit = self.sabotage == Sabotage::LoseCredit;
        ends[who].transmit(pipe, random, talks, room, tally)?;
        if self.sabotage == Sabotage::FlipByte {
            pipe.flip();
        }
        Ok(())
    }

    /// Gives an end up to `n` bytes of what is on its way to it.
    fn deliver(&mut self, who: usize, n: usize) -> Result<(), String> {
        let Self { random, ends, pipes, talks, tally, now, .. } = self;
        let ms = if random.chance(5) { random.below(2_000_000) } else { random.size(4000) };
        *now += Duration::from_millis(ms as u64);
        ends[who].mux.set_now(*now);
        let pipe = &mut pipes[1 - who];
        if pipe.stalled > 0 {
            return Ok(());
        }
        let bytes = pipe.read(n.min(pipe.rate));
        ends[who].receive(&bytes, random, talks)?;
        if random.chance(80) {
            ends[who].events(talks, tally)?;
        }
        Ok(())
    }

    /// Credit is neither made nor lost: for every stream that lives at both ends, in both directions.
    fn check(&mut self) -> Result<(), String> {
        let Self { ends: [a, b], pipes: [to_b, to_a], tally, .. } = self;
        for (sender, receiver, there, back) in [(&*a, &*b, &*to_b, &*to_a), (&*b, &*a, &*to_a, &*to_b)] {
            for from in sender.audit.iter().filter(|from| from.id != 0 && !from.is_dead) {
                let to = receiver.audit.binary_search_by_key(&from.id, |to| to.id);
                let Some(to) = to.ok().and_then(|at| receiver.audit.get(at)).filter(|to| !to.is_dead) else { continue };
                let data = there.on_its_way(from.id);
                let credit = back.on_its_way(from.id).credit;
                let sum = from.credit + data.data + to.unread + to.due + credit;
                let allowance = from.credit + data.unannounced + credit;
                tally.agreed += usize::from(to.window < WINDOW as usize);
                tally.grown += usize::from(to.growth > 0);
                tally.shrinking += usize::from(to.promised > to.window);
                if sum != to.promised || to.allowance != allowance {
                    let (from_id, from_credit) = (from.id, from.credit);
                    return Err(format!(
                        "credit is not conserved on stream {from_id}: sender has {from_credit}, {} bytes and {credit} of \
                         credit are on their way, {to:?}",
                        data.data
                    ));
                }
            }
        }
        Ok(())
    }

    /// Faults stop: everything has to end, in a bounded number of rounds.
    fn rest(&mut self) -> Result<(), String> {
        for pipe in &mut self.pipes {
            (pipe.stalled, pipe.rate) = (0, usize::MAX);
        }
        for _ in 0..ROUNDS_MAX {
            let who = self.random.below(2);
            match self.random.below(4) {
                0 => self.transmit(who, usize::MAX >> 1)?,
                1 => self.deliver(who, usize::MAX)?,
                2 => self.ends[who].wind_up(&mut self.random, &mut self.talks)?,
                _ => self.ends[who].events(&mut self.talks, &mut self.tally)?,
            }
            self.ends[who].check()?;
            self.check()?;
            if self.ends.iter().all(End::is_idle) {
                return self.check_rest();
            }
        }
        let left = self.ends.iter().map(|end| end.audit.clone()).collect::<Vec<_>>();
        Err(format!("the ends did not come to rest: {left:?}"))
    }

    fn check_rest(&mut self) -> Result<(), String> {
        let end_may_lie = self.ends.iter().any(End::end_may_lie);
        for (tag, talk) in self.talks.iter().enumerate().filter(|(_, talk)| !talk.aborted && !end_may_lie) {
            for flow in &talk.flows {
                if flow.delivered != flow.plan {
                    return Err(format!("stream {tag} ended without {} of its bytes", flow.plan - flow.delivered));
                }
            }
        }
        if self.ends.iter().any(|end| end.mux.memory_used() > 0) {
            return Err("memory is held for nothing".to_owned());
        }
        self.tally.rests += 1;
        Ok(())
    }

    /// The link breaks in the middle of what is on its way, at any byte.
    fn cut(&mut self) -> Result<(), String> {
        for who in 0..2 {
            let n = self.random.below(self.pipes[1 - who].len() + 1);
            let bytes = self.pipes[1 - who].read(n);
            let Self { random, ends, talks, tally, .. } = self;
            ends[who].receive(&bytes, random, talks)?;
            ends[who].events(talks, tally)?;
            // What arrived before the cut may still be read.
            ends[who].wind_up(random, talks)?;
            ends[who].events(talks, tally)?;
            ends[who].check_cut(talks)?;
            ends[who].check()?;
        }
        self.tally.cuts += 1;
        Ok(())
    }

    /// One end says goodbye: the other gets everything that came before, then the goodbye, then nothing.
    fn go_away(&mut self) -> Result<(), String> {
        let who = self.random.below(2);
        self.ends[who].mux.go_away(ErrorCode::NO_ERROR, "no error");
        for pipe in &mut self.pipes {
            (pipe.stalled, pipe.rate) = (0, usize::MAX);
        }
        for _ in 0..3 {
            let Self { random, ends, pipes, talks, tally, .. } = self;
            ends[who].transmit(&mut pipes[who], random, talks, usize::MAX >> 1, tally)?;
            ends[who].wind_up(random, talks)?;
            let bytes = pipes[who].read(random.size(1000));
            ends[1 - who].receive(&bytes, random, talks)?;
            ends[1 - who].events(talks, tally)?;
        }
        let Self { random, ends, pipes, talks, tally, .. } = self;
        let rest = pipes[who].read(usize::MAX);
        ends[1 - who].receive(&rest, random, talks)?;
        ends[1 - who].events(talks, tally)?;
        if !ends[1 - who].gone_away {
            return Err("the goodbye did not arrive".to_owned());
        }
        ends[1 - who].wind_up(random, talks)?;
        ends[1 - who].check_cut(talks)?;
        self.tally.go_aways += 1;
        Ok(())
    }
}

/// Steps before a run comes to its fate.
const STEPS_MAX: usize = 300;
/// Streams of one run: enough for every kind of interplay.
const STREAMS_MAX: usize = 12;
/// Most bytes that an end writes in one step.
const ROOM_MAX: usize = 200_000;
/// An end does not write while more than this is on its way.
const PIPE_MAX: usize = 300_000;
/// Rounds of one action each, after the faults. The longest flow is forty of the smallest windows long, a window takes
/// four actions at either end, in the right order. The rest is for chance.
const ROUNDS_MAX: usize = 10_000;
