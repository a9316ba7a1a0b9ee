//! From mono samples at a device's rate to what is heard, row by row.
//!
//! ```text
//! mono -> resampler -> 22,050 Hz --+-> windows at hop 6,561 -> logits -> probabilities --+-> Steady -> Lines
//!                                  |                        -> embedding -> NoiseMeter ---|--> how noisy it is
//!                                  +-> SilenceGate, TonalityMeter -> Presence -----------+
//! ```
//!
//! Time is the timeline of the session, in seconds: samples advance it, and so do gaps.

use super::session::rounded;
use crate::audio::{AudioError, Resampler, TonalityMeter};
use crate::engine::{Engine, EngineError, Hop, NoiseMeter, WindowResult, WindowStream};
use crate::tags::{Audible, LineState, Lines, Presence, Segment, SilenceGate, Steady, TagVocabulary, sigmoid};
use crate::{SAMPLE_RATE_HZ, WINDOW_SAMPLES};

/// Longest gap over which windows reach, in seconds: they go on where the sound goes on. After a longer one the next
/// window begins anew, 2.7 s of sound later.
const MAX_SPLICE_SECS: f64 = 2.0;

/// Input samples per block of the resampler: half of what files are read with. The filter is as clean where it passes;
/// its edge is twice as wide, and it waits half as long.
const RESAMPLER_BLOCK: usize = 512;

/// Time constant of the noise meter's smoothing in seconds: quick enough for a door that opens, slow enough to be read.
const NOISE_SMOOTHING_SECS: f64 = 1.5;

/// What one window adds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    /// End of the window on the timeline.
    pub end_s: f64,
    /// Last sample of the window, counted at 22,050 Hz since [`Hearing::restart`].
    pub end_sample: u64,
    /// `[num_tags]`, zeros where the window is silent.
    pub probabilities: &'a [f32],
}

/// Listens to one stream of samples after the other.
pub(super) struct Hearing<'e> {
    stream: Box<dyn WindowStream + 'e>,
    meter: Option<&'e NoiseMeter>,
    noisiness: Option<f32>,
    resampler: Option<Resampler>,
    resampled: Vec<f32>,
    gate: SilenceGate,
    tonality: TonalityMeter,
    presence: Presence,
    steady: Steady,
    lines: Lines,
    line_states: Vec<LineState>,
    probabilities: Vec<f32>,
    /// Timeline of the stream's first sample.
    origin_s: f64,
    num_samples: u64,
}

impl<'e> Hearing<'e> {
    pub fn new(engine: &'e dyn Engine, vocabulary: &TagVocabulary) -> Self {
        let lines = Lines::new(vocabulary);
        Self {
            stream: engine.stream(Hop::DEFAULT),
            meter: engine.noise_meter(),
            noisiness: None,
            resampler: None,
            resampled: Vec::new(),
            gate: SilenceGate::new(),
            tonality: TonalityMeter::new(),
            presence: Presence::new(),
            steady: Steady::new(vocabulary),
            line_states: vec![LineState::default(); lines.lines().len()],
            lines,
            probabilities: vec![0.0; vocabulary.num_tags()],
            origin_s: 0.0,
            num_samples: 0,
        }
    }

    /// Begins anew with samples at `rate_hz`, the first of which is at `at_s`. What was certain ends.
    ///
    /// # Errors
    /// If the rate is not supported or the engine's device fails.
    pub fn restart(
        &mut self,
        rate_hz: u32,
        at_s: f64,
        ended: &mut dyn FnMut(usize, Segment),
    ) -> Result<(), HearingError> {
        self.interrupt(ended);
        self.stream.finish(&mut |_| {})?;
        if self.resampler.as_ref().is_none_or(|resampler| resampler.from_hz() != rate_hz) {
            self.resampler = Some(Resampler::with_block(rate_hz, SAMPLE_RATE_HZ, RESAMPLER_BLOCK)?);
        } else if let Some(resampler) = &mut self.resampler {
            // What it still holds belongs to the sound before.
            resampler.finish(&mut self.resampled);
        }
        self.gate = SilenceGate::new();
        self.tonality.reset();
        (self.origin_s, self.num_samples) = (at_s, 0);
        Ok(())
    }

    /// No sound for now: what was certain ends.
    pub fn interrupt(&mut self, ended: &mut dyn FnMut(usize, Segment)) {
        self.steady.interrupt(ended);
        self.presence.interrupt();
        self.noisiness = None;
        self.probabilities.fill(0.0);
        self.judge();
    }

    /// `secs` of sound are missing before the next sample. Whether windows may reach over the gap; if not, the caller
    /// [restarts](Self::restart).
    pub fn skip(&mut self, secs: f64) -> bool {
        let splices = secs <= MAX_SPLICE_SECS;
        if splices {
            self.origin_s += secs;
        }
        splices
    }

    /// Takes the next samples.
    ///
    /// # Errors
    /// If the engine's device fails.
    pub fn push(
        &mut self,
        mono: &[f32],
        ended: &mut dyn FnMut(usize, Segment),
        on_row: &mut dyn FnMut(Row<'_>),
    ) -> Result<(), HearingError> {
        self.resampled.clear();
        match &mut self.resampler {
            Some(resampler) => resampler.process(mono, &mut self.resampled),
            None => return Ok(()),
        }
        self.gate.push(&self.resampled);
        self.tonality.push(&self.resampled);
        self.num_samples += self.resampled.len() as u64;
        let Self {
            stream, resampled, gate, tonality, presence, steady, probabilities, origin_s, meter, noisiness, ..
        } = self;
        let share = (1.0 - (-Hop::DEFAULT.duration().as_secs_f64() / NOISE_SMOOTHING_SECS).exp()) as f32;
        let secs = |sample: u64| *origin_s + sample as f64 / f64::from(SAMPLE_RATE_HZ);
        let mut sink = |window: WindowResult<'_>| {
            let is_silent = gate.window_is_silent(window.start);
            for (probability, &logit) in probabilities.iter_mut().zip(window.logits) {
                let value = sigmoid(logit);
                *probability = if is_silent || value.is_nan() { 0.0 } else { value };
            }
            // In silence there is nothing to be noisy.
            *noisiness = meter.filter(|_| !is_silent).map(|meter| {
                let found = meter.noisiness(window.embedding);
                noisiness.map_or(found, |before| before + share * (found - before))
            });
            let centre_s = secs(window.start + WINDOW_SAMPLES as u64 / 2);
            let surest = probabilities.iter().copied().fold(0.0, f32::max);
            let heard = presence.push(centre_s, is_silent, tonality.take(), surest);
            steady.push(probabilities, centre_s, heard == Audible::Music, &mut *ended);
            let end_sample = window.start + WINDOW_SAMPLES as u64;
            on_row(Row { end_s: secs(end_sample), end_sample, probabilities: &*probabilities });
        };
        stream.push(resampled, &mut sink)?;
        self.judge();
        Ok(())
    }

    fn judge(&mut self) {
        self.lines.judge(self.steady.smoothed(), self.steady.certain(), &mut self.line_states);
    }

    pub fn heard(&self) -> Audible {
        self.presence.heard()
    }

    pub fn tonality(&self) -> f32 {
        self.presence.tonality()
    }

    /// How noisy the sound is, where the model can tell and there is any.
    pub fn noisiness(&self) -> Option<f32> {
        self.noisiness
    }

    pub fn steady(&self) -> &Steady {
        &self.steady
    }

    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    pub fn line_states(&self) -> &[LineState] {
        &self.line_states
    }

    /// Of the last window, `[num_tags]`.
    pub fn probabilities(&self) -> &[f32] {
        &self.probabilities
    }

    /// A segment's tag, rounded for writing.
    pub fn rounded(segment: Segment) -> Segment {
        Segment {
            start_s: rounded(segment.start_s, 3),
            end_s: rounded(segment.end_s, 3),
            confidence: rounded(f64::from(segment.confidence), 4) as f32,
        }
    }
}

/// Why listening cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum HearingError {
    /// The device delivers at a rate that no resampler here takes.
    #[error(transparent)]
    Rate(#[from] AudioError),
    /// The engine's device failed, and there was no other.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{CpuEngine, test_model};
    use crate::model_file::{MeterMetadata, Model};
    use crate::weights::DomainWeights;

    /// How noisy `secs` of a sound are.
    fn heard(model: &Model, secs: f64, sound: impl Fn(usize) -> f32) -> Option<f32> {
        let engine = CpuEngine::new(model, 1).expect("valid");
        let vocabulary = TagVocabulary::new(model.metadata.tags.clone(), model.metadata.thresholds.clone());
        let mut hearing = Hearing::new(&engine, &vocabulary.expect("valid"));
        hearing.restart(SAMPLE_RATE_HZ, 0.0, &mut |_, _| {}).expect("a rate");
        let samples: Vec<f32> = (0..(secs * f64::from(SAMPLE_RATE_HZ)) as usize).map(sound).collect();
        hearing.push(&samples, &mut |_, _| {}, &mut |_| {}).expect("heard");
        hearing.noisiness()
    }

    #[test]
    fn the_noise_meter_is_the_models_own() {
        let hiss = |index: usize| ((index * 7_919) % 2_003) as f32 / 2_003.0 - 0.5;
        let mut model = test_model(None, 3);
        assert_eq!(heard(&model, 5.0, hiss), None);
        // A classifier that answers 2 to everything, read as 2 * 2 - 1.
        let mut classifier = DomainWeights::untrained(model.metadata.architecture.embedding_len(), 3, 1);
        classifier.output.weight.fill(0.0);
        classifier.output.bias = vec![2.0];
        model.set_noise_meter(classifier, MeterMetadata { hidden: 3, scale: 2.0, offset: -1.0, accuracy: None });
        let found = heard(&model, 5.0, hiss).expect("a meter");
        assert!((found - sigmoid(3.0)).abs() < 1e-6, "{found}");
        assert_eq!(heard(&model, 5.0, |_| 0.0), None, "silence is not noisy");
        assert_eq!(heard(&model, 1.0, hiss), None, "the first window is not full");
    }
}
