//! From a tag's probability per window to stretches of time in which it sounds.

/// When a tag begins and ceases to sound, in probabilities and seconds, so that results do not depend on the hop.
///
/// ```text
/// probability   on  - - - /‾‾\- - - - - /‾\ - - - -
///               off - - -/- - \_ - - /\/- -\ - - -      begins at `on`, lasts while above `off`
///                       |    |  <bridge>   |
/// segment               [==================]            gaps up to `bridge_secs` are closed,
///                                                       what is shorter than `min_secs` is dropped
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hysteresis {
    /// Probability that begins a segment.
    pub on: f32,
    /// Probability under which it ends; at most `on`.
    pub off: f32,
    /// Shortest segment kept, in seconds. A clip shorter than this may still be one segment.
    pub min_secs: f64,
    /// Longest gap closed between two segments, in seconds.
    pub bridge_secs: f64,
}

impl Hysteresis {
    /// Around a tag's threshold: ends at 80 % of it, keeps half a second and more, closes gaps up to one second.
    pub fn around(threshold: f32) -> Self {
        Self { on: threshold, off: threshold * 0.8, min_secs: 0.5, bridge_secs: 1.0 }
    }
}

/// A stretch of time in which a tag sounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// Begin in seconds.
    pub start_s: f64,
    /// End in seconds.
    pub end_s: f64,
    /// Mean probability of its windows.
    pub confidence: f32,
}

/// A run of windows, `first..=last`.
#[derive(Clone, Copy)]
struct Run {
    first: usize,
    last: usize,
}

/// Merges windows into segments: `probabilities` of one tag `[num_windows]`, and `boundaries` `[num_windows + 1]` in
/// seconds, where window `t` speaks for the time from `boundaries[t]` to `boundaries[t + 1]`.
pub(super) fn segments(probabilities: &[f32], boundaries: &[f64], hysteresis: &Hysteresis) -> Vec<Segment> {
    debug_assert_eq!(probabilities.len() + 1, boundaries.len());
    let mut runs: Vec<Run> = Vec::new();
    let mut open: Option<Run> = None;
    for (t, &probability) in probabilities.iter().enumerate() {
        let limit = if open.is_some() { hysteresis.off.min(hysteresis.on) } else { hysteresis.on };
        if probability >= limit {
            open.get_or_insert(Run { first: t, last: t }).last = t;
        } else {
            runs.extend(open.take());
        }
    }
    runs.extend(open);

    let mut bridged: Vec<Run> = Vec::with_capacity(runs.len());
    for run in runs {
        match bridged.last_mut() {
            Some(before) if boundaries[run.first] - boundaries[before.last + 1] <= hysteresis.bridge_secs => {
                before.last = run.last;
            }
            _ => bridged.push(run),
        }
    }

    let clip_secs = boundaries.last().copied().unwrap_or(0.0);
    let min_secs = hysteresis.min_secs.min(clip_secs);
    bridged
        .into_iter()
        .map(|Run { first, last }| {
            let windows = &probabilities[first..=last];
            let sum: f64 = windows.iter().map(|&p| f64::from(p)).sum();
            Segment {
                start_s: boundaries[first],
                end_s: boundaries[last + 1],
                confidence: (sum / windows.len() as f64) as f32,
            }
        })
        .filter(|segment| segment.end_s - segment.start_s >= min_secs)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Windows that speak for one second each.
    fn spans(probabilities: &[f32], hysteresis: Hysteresis) -> Vec<(f64, f64)> {
        let boundaries: Vec<f64> = (0..=probabilities.len()).map(|t| t as f64).collect();
        segments(probabilities, &boundaries, &hysteresis).iter().map(|s| (s.start_s, s.end_s)).collect()
    }

    const PLAIN: Hysteresis = Hysteresis { on: 0.5, off: 0.5, min_secs: 0.0, bridge_secs: 0.0 };

    #[test]
    fn consecutive_windows_merge() {
        assert_eq!(spans(&[0.0, 0.6, 0.7, 0.0, 0.5], PLAIN), [(1.0, 3.0), (4.0, 5.0)]);
        assert_eq!(spans(&[0.0, 0.1], PLAIN), []);
        assert_eq!(spans(&[], PLAIN), []);
    }

    #[test]
    fn a_segment_lasts_until_the_lower_limit() {
        let hysteresis = Hysteresis { off: 0.3, ..PLAIN };
        assert_eq!(spans(&[0.4, 0.6, 0.4, 0.35, 0.2, 0.4], hysteresis), [(1.0, 4.0)]);
    }

    #[test]
    fn short_gaps_close_and_short_segments_go() {
        let bridge = Hysteresis { bridge_secs: 1.0, ..PLAIN };
        assert_eq!(spans(&[0.6, 0.0, 0.6, 0.0, 0.0, 0.6], bridge), [(0.0, 3.0), (5.0, 6.0)]);
        let both = Hysteresis { min_secs: 2.0, ..bridge };
        assert_eq!(spans(&[0.6, 0.0, 0.6, 0.0, 0.0, 0.6], both), [(0.0, 3.0)]);
        assert_eq!(spans(&[0.6], both), [(0.0, 1.0)], "a clip shorter than the limit may be one segment");
    }

    #[test]
    fn confidence_is_the_mean_of_the_windows() {
        let found = segments(&[0.6, 0.8], &[0.0, 1.0, 2.0], &PLAIN);
        assert!((found[0].confidence - 0.7).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn segments_are_ordered_apart_and_cover_every_certain_window(
            probabilities in prop::collection::vec(0.0f32..1.0, 0..200),
            on in 0.1f32..0.9,
            ratio in 0.1f32..1.0,
            bridge_secs in 0.0f64..5.0,
        ) {
            let hysteresis = Hysteresis { on, off: on * ratio, min_secs: 0.0, bridge_secs };
            let found = spans(&probabilities, hysteresis);
            for pair in found.windows(2) {
                prop_assert!(pair[1].0 - pair[0].1 > bridge_secs);
            }
            for (t, &p) in probabilities.iter().enumerate() {
                let covered = found.iter().any(|&(start, end)| start <= t as f64 && end >= (t + 1) as f64);
                prop_assert!(covered || p < on, "window {} with {} is in no segment", t, p);
            }
        }
    }
}
