//! Samples that may enter a network: finite, bounded, mono.

/// Largest magnitude a sample may have; full scale is 1.
///
/// Honest lossy files overshoot full scale, up to about 1.5 for loud Vorbis, and float WAVs made with some headroom reach
/// 2 or 3. Corrupt MP3 frames give values in the thousands, which would poison every window that contains them. 4 (12 dB
/// above full scale) touches none of the former and tames the latter.
pub const CLAMP: f32 = 4.0;

/// Counts what had to be repaired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sanitizer {
    /// NaN or infinite samples set to 0.
    pub non_finite: u64,
    /// Samples beyond ±[`CLAMP`].
    pub clamped: u64,
}

impl Sanitizer {
    /// Returns `sample` if it is sound, otherwise its repair.
    #[inline]
    pub fn repair(&mut self, sample: f32) -> f32 {
        // One comparison on the common path: it is false for NaN too.
        if sample.abs() <= CLAMP { sample } else { self.repair_unsound(sample) }
    }

    #[cold]
    fn repair_unsound(&mut self, sample: f32) -> f32 {
        if sample.is_finite() {
            self.clamped += 1;
            sample.clamp(-CLAMP, CLAMP)
        } else {
            self.non_finite += 1;
            0.0
        }
    }

    /// Appends the mean of each frame's channels to `mono`; each sample is repaired first. `interleaved` holds whole
    /// frames of `channels` samples.
    #[cfg(feature = "live")]
    pub fn downmix_interleaved(&mut self, interleaved: &[f32], channels: usize, mono: &mut Vec<f32>) {
        let scale = 1.0 / channels.max(1) as f32;
        for frame in interleaved.chunks_exact(channels.max(1)) {
            mono.push(frame.iter().map(|&sample| self.repair(sample)).sum::<f32>() * scale);
        }
    }

    /// Appends the mean of the channels to `mono`; each channel is repaired first, so one broken channel does not spoil
    /// the others. `planes` are the channels, all of one length.
    pub fn downmix_planar(&mut self, planes: &[Vec<f32>], mono: &mut Vec<f32>) {
        let Some((first, rest)) = planes.split_first() else { return };
        let start = mono.len();
        mono.extend(first.iter().map(|&sample| self.repair(sample)));
        if rest.is_empty() {
            return;
        }
        for plane in rest {
            for (sum, &sample) in mono[start..].iter_mut().zip(plane) {
                *sum += self.repair(sample);
            }
        }
        let scale = 1.0 / planes.len() as f32;
        mono[start..].iter_mut().for_each(|sample| *sample *= scale);
    }

    /// Appends the channels to two sides: one channel to both, two to one each, and of more their mean to both, which is
    /// what a network hears.
    pub fn downmix_stereo(&mut self, planes: &[Vec<f32>], sides: &mut [Vec<f32>; 2]) {
        if let [left, right] = planes {
            for (side, plane) in sides.iter_mut().zip([left, right]) {
                side.extend(plane.iter().map(|&sample| self.repair(sample)));
            }
        } else {
            let start = sides[0].len();
            self.downmix_planar(planes, &mut sides[0]);
            let [left, right] = sides;
            right.extend_from_slice(&left[start..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_and_counts() {
        let mut sanitizer = Sanitizer::default();
        let input = [0.5, -1.5, f32::NAN, f32::INFINITY, -8024.0, 4.0, f32::NEG_INFINITY];
        let output: Vec<f32> = input.iter().map(|&sample| sanitizer.repair(sample)).collect();
        assert_eq!(output, [0.5, -1.5, 0.0, 0.0, -4.0, 4.0, 0.0]);
        assert_eq!(sanitizer, Sanitizer { non_finite: 3, clamped: 1 });
    }

    #[test]
    fn downmix_is_the_mean_and_a_broken_channel_stays_alone() {
        let mut sanitizer = Sanitizer::default();
        let mut mono = vec![9.0];
        sanitizer.downmix_planar(&[vec![1.0, 0.5], vec![0.0, f32::NAN], vec![0.5, 1.0]], &mut mono);
        assert_eq!(mono, [9.0, 0.5, 0.5]);
        assert_eq!(sanitizer.non_finite, 1);
        sanitizer.downmix_planar(&[], &mut mono);
        assert_eq!(mono.len(), 3);
    }

    #[cfg(feature = "live")]
    #[test]
    fn frames_and_planes_have_the_same_mean() {
        let mut sanitizer = Sanitizer::default();
        let mut mono = vec![9.0];
        sanitizer.downmix_interleaved(&[1.0, 0.0, 0.5, 0.5, f32::NAN, 1.0], 3, &mut mono);
        assert_eq!(mono, [9.0, 0.5, 0.5]);
        assert_eq!(sanitizer.non_finite, 1);
    }
}
