//! Whether there is music at all.
//!
//! ```text
//! tonality ---- smoothed, 1.2 s --+-- on: above 3 %, or a tag most certain - for 1 s --> music
//! probability of the surest tag --+-- off: below 2 %, and no tag so certain - for 4 s --> no music heard
//! silent window -----------------------------------------------------------------------> silence
//! ```
//!
//! A tagger names something whatever it hears: rain is "ambient, slow". Saying so would be a guess, and this says instead
//! that no music was heard. The state is as slow as a listener: breaks shorter than the hold do not change it.

/// Time constant of the smoothing in seconds.
const SMOOTHING_SECS: f64 = 1.2;
/// Tonal share of the energy from which on there is music, and under which there is none. `./dev bench presence` tells what
/// they are worth; chosen on the validation parts of the open corpus, where a lower limit lets more noise pass and a
/// higher one loses music under noise.
const TONAL_ON: f32 = 0.03;
const TONAL_OFF: f32 = 0.02;
/// Probability of a tag that makes music certain without any note: a drum solo is music too.
const SURE_ON: f32 = 0.7;
const SURE_OFF: f32 = 0.6;
/// How long the signs must speak for music, and against it, before the state follows, in seconds.
const ATTACK_SECS: f64 = 1.0;
const HOLD_SECS: f64 = 4.0;
/// A row never speaks for more time than this.
const MAX_STEP_SECS: f64 = 1.0;

/// What is heard at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Audible {
    /// Not enough yet to say anything: the first window is not full.
    #[default]
    Listening,
    /// Nothing is louder than -60 dB of full scale ([`super::SILENCE_PEAK`]).
    Silence,
    /// Sound, but no music.
    NoMusic,
    /// Music.
    Music,
}

/// Decides it, row by row. Does not allocate.
#[derive(Clone, Debug, Default)]
pub struct Presence {
    heard: Audible,
    tonality: f32,
    surest: f32,
    /// How long the signs have spoken against the state.
    against_secs: f64,
    last_s: Option<f64>,
}

impl Presence {
    /// Nothing heard yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a window's signs: its time, whether it is silent, the tonal share of the sound since the last one
    /// ([`crate::audio::TonalityMeter`]; `None` keeps the last) and the probability of its surest tag.
    pub fn push(&mut self, at_s: f64, is_silent: bool, tonality: Option<f32>, surest: f32) -> Audible {
        let secs = self.last_s.map_or(0.0, |last_s| (at_s - last_s).clamp(0.0, MAX_STEP_SECS));
        let share = if self.last_s.is_none() { 1.0 } else { (1.0 - (-secs / SMOOTHING_SECS).exp()) as f32 };
        self.last_s = Some(at_s);
        if is_silent {
            self.heard = Audible::Silence;
            (self.tonality, self.surest, self.against_secs) = (0.0, 0.0, 0.0);
            return self.heard;
        }
        let tonality = tonality.unwrap_or(self.tonality);
        self.tonality += share * (tonality - self.tonality);
        self.surest += share * (surest - self.surest);
        let is_music = match self.heard {
            Audible::Music => self.tonality >= TONAL_OFF || self.surest >= SURE_OFF,
            _ => self.tonality >= TONAL_ON || self.surest >= SURE_ON,
        };
        match (self.heard, is_music) {
            (Audible::Music, true) | (Audible::NoMusic, false) => self.against_secs = 0.0,
            (Audible::Music, false) => self.after(secs, HOLD_SECS, Audible::NoMusic),
            // Nothing was said yet that could flicker; a first window holds 2.7 s.
            (Audible::Listening, is_music) => self.heard = if is_music { Audible::Music } else { Audible::NoMusic },
            // Music after a silence need not prove itself as long as music after noise.
            (Audible::Silence, true) => self.heard = Audible::Music,
            (Audible::Silence, false) => self.after(secs, ATTACK_SECS, Audible::NoMusic),
            (Audible::NoMusic, true) => self.after(secs, ATTACK_SECS, Audible::Music),
        }
        self.heard
    }

    fn after(&mut self, secs: f64, patience_secs: f64, next: Audible) {
        self.against_secs += secs;
        if self.against_secs >= patience_secs {
            (self.heard, self.against_secs) = (next, 0.0);
        }
    }

    /// The state.
    pub fn heard(&self) -> Audible {
        self.heard
    }

    /// The smoothed tonal share, 0 to 1.
    pub fn tonality(&self) -> f32 {
        self.tonality
    }

    /// The sound is interrupted; the next row begins anew.
    pub fn interrupt(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// States over time for a tonality by the second.
    fn run(hop: f64, secs: f64, tonality: impl Fn(f64) -> Option<f32>) -> Vec<(f64, Audible)> {
        let mut presence = Presence::new();
        let mut states: Vec<(f64, Audible)> = Vec::new();
        for index in 0..(secs / hop) as usize {
            let at_s = index as f64 * hop;
            let tonality = tonality(at_s);
            let heard = presence.push(at_s, tonality.is_none(), tonality, 0.3);
            if states.last().is_none_or(|&(_, last)| last != heard) {
                states.push((at_s, heard));
            }
        }
        states
    }

    fn kinds(states: &[(f64, Audible)]) -> Vec<Audible> {
        states.iter().map(|&(_, heard)| heard).collect()
    }

    #[test]
    fn music_then_noise_then_silence() {
        let states = run(0.298, 60.0, |t| match t {
            t if t < 20.0 => Some(0.2),
            t if t < 40.0 => Some(0.005),
            _ => None,
        });
        assert_eq!(kinds(&states), [Audible::Music, Audible::NoMusic, Audible::Silence]);
        // Smoothing from 0.2 down to the limit takes 3.1 s, then the hold.
        assert!((24.0..30.0).contains(&states[1].0), "{states:?}");
        assert!((40.0..40.3).contains(&states[2].0), "silence is certain at once: {states:?}");
    }

    #[test]
    fn a_short_break_is_not_seen_and_a_clap_is_no_music() {
        assert_eq!(
            kinds(&run(0.1, 30.0, |t| Some(if (10.0..13.0).contains(&t) { 0.0 } else { 0.1 }))),
            [Audible::Music]
        );
        assert_eq!(
            kinds(&run(0.1, 30.0, |t| Some(if (10.0..10.5).contains(&t) { 0.1 } else { 0.0 }))),
            [Audible::NoMusic]
        );
    }

    #[test]
    fn a_most_certain_tag_is_music_without_notes() {
        let mut presence = Presence::new();
        let last = (0..40).map(|index| presence.push(f64::from(index) * 0.3, false, Some(0.0), 0.8)).last();
        assert_eq!(last, Some(Audible::Music));
    }

    proptest! {
        #[test]
        fn between_music_and_no_music_lies_time(tonality in prop::collection::vec(0.0f32..0.1, 2..300), hop in 0.03f64..0.5) {
            let states = run(hop, (tonality.len() as f64 - 1.0) * hop, |t| Some(tonality[(t / hop + 0.5) as usize]));
            for pair in states.windows(2).skip(1) {
                let least = if pair[0].1 == Audible::Music { HOLD_SECS } else { ATTACK_SECS };
                prop_assert!(pair[1].0 - pair[0].0 >= least - 1e-6, "{:?}", pair);
            }
        }
    }
}
