//! Change of sample rate: rubato's FFT resampler behind an interface for streams of any piece size.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _};

use super::AudioError;

/// Lowest supported sample rate in Hz.
pub const MIN_RATE_HZ: u32 = 1_000;
/// Highest supported sample rate in Hz.
pub const MAX_RATE_HZ: u32 = 768_000;

/// Input samples that one FFT block should have. At 44.1 kHz this gives a residual 137 dB below the signal and aliases at
/// -143 dB; twice as much brings nothing that 22,050 Hz can carry.
const BLOCK: usize = 1024;

/// Mono resampler for a stream that arrives in pieces of any size.
///
/// The output is aligned with the input: output sample `k` is the signal at time `k / to_hz`, the delay of the filter is
/// cut off at the start and flushed at the end. `n` input samples give `ceil(n · to_hz / from_hz)` output samples. The
/// output does not depend on how the input was cut into pieces, not by one bit.
///
/// After construction nothing is allocated, except that `output` grows if its capacity does not suffice.
pub struct Resampler {
    from_hz: u32,
    to_hz: u32,
    /// `None` if the rates are equal: samples pass unchanged.
    fft: Option<Box<Blocks>>,
    /// Input samples since the start of the stream.
    consumed: u64,
    /// Output samples since the start of the stream.
    produced: u64,
}

/// The FFT resampler with the buffers around its fixed block size.
struct Blocks {
    fft: Fft<f32>,
    /// Input that does not fill a block yet; its length is the block size.
    input: Vec<f32>,
    filled: usize,
    output: Vec<f32>,
    /// Output samples of the filter's delay that are still to be dropped.
    to_drop: usize,
}

impl Blocks {
    /// Runs one block: the first `self.filled` samples of `self.input`, then silence.
    fn run(&mut self) -> &[f32] {
        self.input[self.filled..].fill(0.0);
        self.filled = 0;
        let (frames_in, frames_out) = (self.input.len(), self.output.len());
        let input = InterleavedSlice::new(&self.input, 1, frames_in).expect("input holds one block");
        let mut output = InterleavedSlice::new_mut(&mut self.output, 1, frames_out).expect("output holds one block");
        self.fft.process_into_buffer(&input, &mut output, None).expect("both buffers hold one block");
        let dropped = self.to_drop.min(frames_out);
        self.to_drop -= dropped;
        &self.output[dropped..]
    }

    fn reset(&mut self) {
        self.fft.reset();
        self.filled = 0;
        self.to_drop = self.fft.output_delay();
    }
}

impl Resampler {
    /// A resampler from `from_hz` to `to_hz`.
    ///
    /// Rates with a small common divisor need large blocks (44,101 Hz to 22,050 Hz: 44,101 samples); no usual rate does.
    ///
    /// # Errors
    /// [`AudioError::SampleRate`] if a rate lies outside of [`MIN_RATE_HZ`]`..=`[`MAX_RATE_HZ`].
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self, AudioError> {
        Self::with_block(from_hz, to_hz, BLOCK)
    }

    /// The same with blocks of about `block` input samples. With fewer a live stream waits less, and the filter's edge is
    /// wider in the same measure.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_block(from_hz: u32, to_hz: u32, block: usize) -> Result<Self, AudioError> {
        let supported = MIN_RATE_HZ..=MAX_RATE_HZ;
        let rate_error = AudioError::SampleRate { from_hz, to_hz };
        if !supported.contains(&from_hz) || !supported.contains(&to_hz) {
            return Err(rate_error);
        }
        let fft = if from_hz == to_hz {
            None
        } else {
            // An even number of the smallest blocks makes both block sizes even, and with them the delay, half a block,
            // an integer on both sides: it can be cut off exactly.
            let smallest = (from_hz / gcd(from_hz, to_hz)) as usize;
            let block = block.max(1).div_ceil(smallest).next_multiple_of(2) * smallest;
            let fft = Fft::new(from_hz as usize, to_hz as usize, block, 1, FixedSync::Both).map_err(|_| rate_error)?;
            let mut blocks = Blocks {
                input: vec![0.0; fft.input_frames_max()],
                filled: 0,
                output: vec![0.0; fft.output_frames_max()],
                to_drop: 0,
                fft,
            };
            blocks.reset();
            Some(Box::new(blocks))
        };
        Ok(Self { from_hz, to_hz, fft, consumed: 0, produced: 0 })
    }

    /// Rate of the input in Hz.
    pub fn from_hz(&self) -> u32 {
        self.from_hz
    }

    /// Rate of the output in Hz.
    pub fn to_hz(&self) -> u32 {
        self.to_hz
    }

    /// Input samples that must follow a sample before its output is certain to have come out: what a live stream waits.
    pub fn latency_samples(&self) -> usize {
        self.fft.as_ref().map_or(0, |blocks| blocks.input.len() + blocks.input.len() / 2)
    }

    /// Most samples that one call of [`process`](Self::process) with `input_len` samples, or of
    /// [`finish`](Self::finish), appends.
    pub fn max_output(&self, input_len: usize) -> usize {
        self.fft.as_ref().map_or(input_len, |blocks| (input_len / blocks.input.len() + 2) * blocks.output.len())
    }

    /// Takes `input` and appends the output that is ready to `output`.
    pub fn process(&mut self, mut input: &[f32], output: &mut Vec<f32>) {
        self.consumed += input.len() as u64;
        let start = output.len();
        match &mut self.fft {
            None => output.extend_from_slice(input),
            Some(blocks) => {
                while !input.is_empty() {
                    let taken = input.len().min(blocks.input.len() - blocks.filled);
                    let (now, later) = input.split_at(taken);
                    blocks.input[blocks.filled..blocks.filled + taken].copy_from_slice(now);
                    blocks.filled += taken;
                    input = later;
                    if blocks.filled == blocks.input.len() {
                        output.extend_from_slice(blocks.run());
                    }
                }
            }
        }
        self.produced += (output.len() - start) as u64;
    }

    /// Ends the stream: appends what the filter still holds and makes the resampler ready for the next stream.
    pub fn finish(&mut self, output: &mut Vec<f32>) {
        if let Some(blocks) = &mut self.fft {
            let total = output_len(self.consumed, self.from_hz, self.to_hz);
            while self.produced < total {
                let ready = blocks.run();
                let taken = ready.len().min(usize::try_from(total - self.produced).unwrap_or(usize::MAX));
                output.extend_from_slice(&ready[..taken]);
                self.produced += taken as u64;
            }
            blocks.reset();
        }
        self.consumed = 0;
        self.produced = 0;
    }
}

/// Resamples a whole clip; see [`Resampler`] for length and alignment.
///
/// # Errors
/// [`AudioError::SampleRate`] if a rate lies outside of [`MIN_RATE_HZ`]`..=`[`MAX_RATE_HZ`].
pub fn resample(samples: &[f32], from_hz: u32, to_hz: u32) -> Result<Vec<f32>, AudioError> {
    let mut resampler = Resampler::new(from_hz, to_hz)?;
    let mut output = Vec::with_capacity(output_len(samples.len() as u64, from_hz, to_hz) as usize);
    resampler.process(samples, &mut output);
    resampler.finish(&mut output);
    Ok(output)
}

/// Number of output samples whose time lies before the end of `input_len` input samples.
fn output_len(input_len: u64, from_hz: u32, to_hz: u32) -> u64 {
    let exact = (u128::from(input_len) * u128::from(to_hz)).div_ceil(u128::from(from_hz));
    u64::try_from(exact).unwrap_or(u64::MAX)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USUAL_RATES_HZ: [u32; 14] = [
        8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 37_800, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000,
    ];

    fn tone(freq_hz: f64, rate_hz: u32, len: usize) -> Vec<f32> {
        (0..len).map(|n| (std::f64::consts::TAU * freq_hz * n as f64 / f64::from(rate_hz)).sin() as f32).collect()
    }

    fn rms(samples: &[f32]) -> f64 {
        (samples.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / samples.len() as f64).sqrt()
    }

    /// Signal-to-residual ratio in dB of a resampled tone against the tone written at the output rate, without the edges
    /// where the filter sees the silence around the clip.
    fn tone_snr_db(freq_hz: f64, from_hz: u32, to_hz: u32) -> f64 {
        let output = resample(&tone(freq_hz, from_hz, from_hz as usize), from_hz, to_hz).expect("rates are supported");
        let expected = tone(freq_hz, to_hz, output.len());
        let edge = output.len() / 8;
        let residual: Vec<f32> = output.iter().zip(&expected).map(|(a, b)| a - b).collect();
        20.0 * (rms(&expected[edge..expected.len() - edge]) / rms(&residual[edge..residual.len() - edge])).log10()
    }

    #[test]
    fn tones_keep_amplitude_phase_and_frequency() {
        for from_hz in USUAL_RATES_HZ {
            let passband_hz = 0.4 * f64::from(from_hz.min(22_050));
            for freq_hz in [60.0, 997.0, passband_hz] {
                let snr_db = tone_snr_db(freq_hz, from_hz, 22_050);
                assert!(snr_db > 100.0, "{freq_hz} Hz from {from_hz} Hz: {snr_db:.1} dB");
            }
        }
    }

    #[test]
    fn delay_is_compensated_exactly() {
        // A band-limited pulse keeps its centre to a small part of a sample, wherever the FFT blocks fall.
        for (from_hz, centre) in [(48_000, 12_345.0), (44_100, 20_001.0), (32_000, 7_777.0), (96_000, 50_000.0)] {
            let width = 20.0 * f64::from(from_hz) / 22_050.0;
            let pulse: Vec<f32> =
                (0..from_hz).map(|n| (-((f64::from(n) - centre) / width).powi(2)).exp() as f32).collect();
            let output = resample(&pulse, from_hz, 22_050).expect("rates are supported");
            let mass: f64 = output.iter().map(|&x| f64::from(x)).sum();
            let mean = output.iter().enumerate().map(|(k, &x)| k as f64 * f64::from(x)).sum::<f64>() / mass;
            let expected = centre * 22_050.0 / f64::from(from_hz);
            assert!((mean - expected).abs() < 1e-2, "{from_hz} Hz: pulse at {mean}, expected {expected}");
        }
    }

    #[test]
    fn aliases_are_suppressed() {
        for (from_hz, freq_hz) in [(44_100, 13_000.0), (48_000, 12_500.0), (96_000, 30_000.0), (48_000, 20_000.0)] {
            let output = resample(&tone(freq_hz, from_hz, from_hz as usize), from_hz, 22_050).expect("supported");
            let level_db = 20.0 * (rms(&output[2_000..20_000]) * std::f64::consts::SQRT_2).log10();
            assert!(level_db < -110.0, "{freq_hz} Hz from {from_hz} Hz leaves {level_db:.1} dB");
        }
    }

    #[test]
    fn equal_rates_pass_unchanged() {
        let input = tone(440.0, 22_050, 1_000);
        assert_eq!(resample(&input, 22_050, 22_050).expect("supported"), input);
    }

    #[test]
    fn a_resampler_can_be_used_again() {
        let input = tone(440.0, 48_000, 5_000);
        let mut resampler = Resampler::new(48_000, 22_050).expect("supported");
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for output in [&mut first, &mut second] {
            resampler.process(&input, output);
            resampler.finish(output);
        }
        assert_eq!(first, second);
        let mut nothing = Vec::new();
        resampler.finish(&mut nothing);
        assert!(nothing.is_empty());
    }

    #[test]
    fn rates_outside_of_the_range_are_refused() {
        for (from_hz, to_hz) in [(0, 22_050), (999, 22_050), (768_001, 22_050), (44_100, 0), (u32::MAX, u32::MAX)] {
            let error = resample(&[0.0; 10], from_hz, to_hz).expect_err("refused");
            assert!(error.to_string().contains("768000"), "{error}");
        }
    }

    #[test]
    fn coprime_rates_work() {
        let snr_db = tone_snr_db(1_000.0, 44_101, 22_050);
        assert!(snr_db > 100.0, "{snr_db:.1} dB");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn pieces_make_no_difference(
            from_hz in prop::sample::select(USUAL_RATES_HZ.to_vec()),
            len in 0usize..12_000,
            cuts in prop::collection::vec(1usize..3_000, 1..20),
            seed in any::<u32>(),
        ) {
            let mut state = seed | 1;
            let input: Vec<f32> = (0..len).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state as f32 / u32::MAX as f32 - 0.5
            }).collect();
            let whole = resample(&input, from_hz, 22_050).expect("supported");
            prop_assert_eq!(whole.len() as u64, (len as u64 * 22_050).div_ceil(u64::from(from_hz)));

            let mut resampler = Resampler::new(from_hz, 22_050).expect("supported");
            let mut pieces = Vec::new();
            let mut rest = &input[..];
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*cut));
                let (before, bound) = (pieces.len(), resampler.max_output(now.len()));
                resampler.process(now, &mut pieces);
                prop_assert!(pieces.len() - before <= bound);
                rest = later;
                if rest.is_empty() { break; }
            }
            resampler.finish(&mut pieces);
            prop_assert!(whole.iter().map(|x| x.to_bits()).eq(pieces.iter().map(|x| x.to_bits())));
        }

        #[test]
        fn gain_is_one_in_the_passband(from_hz in prop::sample::select(USUAL_RATES_HZ.to_vec()), part in 0.01f64..0.4) {
            let freq_hz = part * f64::from(from_hz.min(22_050));
            let output = resample(&tone(freq_hz, from_hz, from_hz as usize), from_hz, 22_050).expect("supported");
            // Over a Hann window the energy of a tone does not depend on its phase at the edges.
            let inner = &output[2_000..20_000];
            let windowed: Vec<f32> = inner.iter().enumerate().map(|(n, &x)| {
                x * (std::f64::consts::PI * n as f64 / inner.len() as f64).sin().powi(2) as f32
            }).collect();
            let gain = rms(&windowed) / (0.375f64 / 2.0).sqrt();
            prop_assert!((gain - 1.0).abs() < 2e-3, "gain {} at {} Hz from {} Hz", gain, freq_hz, from_hz);
        }
    }
}
