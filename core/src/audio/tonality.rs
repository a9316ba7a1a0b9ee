//! How tonal a sound is: what tells music from most other sounds, whatever a network thinks of it.
//!
//! ```text
//! samples -> spectrum every 46 ms -> peaks, 8 dB above their neighbourhood -> peaks that stay for 0.28 s
//!                                                                              |
//!                                                share of the energy that lies in them, 0 to 1
//! ```
//!
//! A note stands still in the spectrum; rain, wind, applause, engines and talk do not. A tagger was trained on music alone
//! and names something whatever it hears, so its own certainty tells the two apart far worse (`./dev bench presence`).

use std::sync::Arc;

use realfft::num_complex::Complex32;
use realfft::{RealFftPlanner, RealToComplex};

use crate::tags::SILENCE_PEAK;

/// Samples per spectrum: 186 ms, 5.4 Hz per bin, which separates a semitone from 100 Hz on.
const FRAME: usize = 4_096;
/// Samples between spectra: 46 ms.
const HOP: usize = 1_024;
/// Spectra in which a peak must lie in a row, each at most one bin from where it is now.
const STAYS: u32 = 6;
/// Bins looked at: 97 Hz to 5.4 kHz, where notes and their first partials lie.
const BINS: std::ops::Range<usize> = 18..1_000;
/// Bins around a peak that it is compared with, on each side.
const NEIGHBOURS: usize = 10;
/// How far a peak rises over the mean of its neighbourhood: 8 dB.
const PROMINENCE: f32 = 2.5;

/// Measures a stream at 22,050 Hz. Nothing is allocated after construction.
pub struct TonalityMeter {
    fft: Arc<dyn RealToComplex<f32>>,
    taper: Vec<f32>,
    /// The last samples, up to [`FRAME`].
    recent: Vec<f32>,
    windowed: Vec<f32>,
    spectrum: Vec<Complex32>,
    scratch: Vec<Complex32>,
    /// Of the bins in [`BINS`].
    magnitudes: Vec<f32>,
    /// Sums of `magnitudes` up to each bin.
    sums: Vec<f32>,
    /// One bit per spectrum: whether there was a peak; the last spectrum is the lowest bit.
    peaks: Vec<u32>,
    sum: f64,
    count: u32,
}

impl TonalityMeter {
    /// Nothing heard yet.
    pub fn new() -> Self {
        let fft = RealFftPlanner::new().plan_fft_forward(FRAME);
        let step = std::f32::consts::TAU / FRAME as f32;
        Self {
            // Hann, periodic.
            taper: (0..FRAME).map(|index| 0.5 - 0.5 * (index as f32 * step).cos()).collect(),
            recent: Vec::with_capacity(FRAME),
            windowed: vec![0.0; FRAME],
            spectrum: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            magnitudes: vec![0.0; BINS.len()],
            sums: vec![0.0; BINS.len() + 1],
            peaks: vec![0; BINS.len()],
            sum: 0.0,
            count: 0,
            fft,
        }
    }

    /// Takes the next samples.
    pub fn push(&mut self, mut samples: &[f32]) {
        while !samples.is_empty() {
            let (now, later) = samples.split_at(samples.len().min(FRAME - self.recent.len()));
            self.recent.extend_from_slice(now);
            samples = later;
            if self.recent.len() == FRAME {
                self.sum += f64::from(self.measure());
                self.count += 1;
                self.recent.copy_within(HOP.., 0);
                self.recent.truncate(FRAME - HOP);
            }
        }
    }

    /// The mean since the last call; `None` if too little has come since.
    pub fn take(&mut self) -> Option<f32> {
        let mean = (self.count > 0).then(|| (self.sum / f64::from(self.count)) as f32);
        (self.sum, self.count) = (0.0, 0);
        mean
    }

    /// Forgets what was heard: the sound is interrupted.
    pub fn reset(&mut self) {
        self.recent.clear();
        self.peaks.fill(0);
        (self.sum, self.count) = (0.0, 0);
    }

    /// Share of tonal energy in `recent`.
    fn measure(&mut self) -> f32 {
        // In silence every bit of rounding would be a peak.
        if self.recent.iter().all(|sample| sample.abs() < SILENCE_PEAK) {
            self.peaks.fill(0);
            return 0.0;
        }
        for ((windowed, sample), taper) in self.windowed.iter_mut().zip(&self.recent).zip(&self.taper) {
            *windowed = sample * taper;
        }
        self.fft
            .process_with_scratch(&mut self.windowed, &mut self.spectrum, &mut self.scratch)
            .expect("the buffers were made by this plan");
        let mut sum = 0.0;
        for (index, value) in self.spectrum[BINS].iter().enumerate() {
            self.magnitudes[index] = value.norm();
            sum += self.magnitudes[index];
            self.sums[index + 1] = sum;
        }
        let len = self.magnitudes.len();
        for index in 0..len {
            let magnitude = self.magnitudes[index];
            let (from, to) = (index.saturating_sub(NEIGHBOURS), (index + NEIGHBOURS + 1).min(len));
            let mean = (self.sums[to] - self.sums[from]) / (to - from) as f32;
            let is_peak = index > 0
                && index + 1 < len
                && magnitude > self.magnitudes[index - 1]
                && magnitude >= self.magnitudes[index + 1]
                && magnitude > PROMINENCE * mean;
            self.peaks[index] = self.peaks[index] << 1 | u32::from(is_peak);
        }
        let all = (1 << STAYS) - 1;
        let (mut tonal, mut total) = (0.0, 1e-12);
        for index in 0..len {
            let energy = self.magnitudes[index] * self.magnitudes[index];
            total += energy;
            let near = self.peaks[index.saturating_sub(1)] | self.peaks[index] | self.peaks[(index + 1).min(len - 1)];
            if self.peaks[index] & 1 == 1 && near & all == all {
                tonal += energy;
            }
        }
        tonal / total
    }
}

impl Default for TonalityMeter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use super::*;
    use crate::SAMPLE_RATE_HZ;

    fn tonality(sample: impl Fn(f32) -> f32) -> f32 {
        let samples: Vec<f32> = (0..3 * SAMPLE_RATE_HZ).map(|n| sample(n as f32 / SAMPLE_RATE_HZ as f32)).collect();
        let mut meter = TonalityMeter::new();
        samples.chunks(331).for_each(|piece| meter.push(piece));
        let mut whole = TonalityMeter::new();
        whole.push(&samples);
        let mean = meter.take().expect("three seconds");
        assert_eq!(Some(mean), whole.take(), "pieces do not matter");
        assert_eq!(meter.take(), None);
        mean
    }

    fn noise(t: f32) -> f32 {
        // A hash of the time as white noise (MurmurHash3's finaliser).
        let mut bits = (t * SAMPLE_RATE_HZ as f32).round() as u32;
        bits = (bits ^ (bits >> 16)).wrapping_mul(0x85eb_ca6b);
        bits = (bits ^ (bits >> 13)).wrapping_mul(0xc2b2_ae35);
        ((bits ^ (bits >> 16)) as f32 / u32::MAX as f32) * 2.0 - 1.0
    }

    #[test]
    fn notes_are_tonal_and_noise_is_not() {
        let chord = |t: f32| [220.0, 277.2, 329.6].iter().map(|f| 0.1 * (TAU * f * t).sin()).sum::<f32>();
        assert!(tonality(chord) > 0.2, "{}", tonality(chord));
        assert!(tonality(|t| 0.3 * noise(t)) < 0.01, "{}", tonality(|t| 0.3 * noise(t)));
        let both = tonality(|t| chord(t) + 0.2 * noise(t));
        assert!(both > 0.05, "{both}");
        assert!(tonality(|_| 0.0).abs() < f32::EPSILON);
    }

    #[test]
    fn what_glides_is_no_note() {
        // Two octaves per second, as a siren.
        let glide = tonality(|t| 0.3 * (TAU * 200.0 * (2.0_f32.powf(2.0 * t) - 1.0) / (2.0 * 2.0_f32.ln())).sin());
        assert!(glide < 0.02, "{glide}");
    }
}
