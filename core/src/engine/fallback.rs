//! An engine whose device may fail: what it leaves undone, another engine does.
//!
//! ```text
//! push -> kept samples --> stream on the device -----> results 0, 1, 2
//!              |                  | fails
//!              +-- from the last window reported on --> stream on the fallback -> (2), 3, 4, ..
//! ```
//!
//! A stream keeps the samples from the start of the last window that it has reported. When the device fails, they go
//! through the fallback's stream, which so reports that window again (dropped here) and every later one. Beginning with
//! a window that is done makes the end of the waveform come out the same, too: whether a last, padded window is due
//! depends on how far the windows before it reach.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Engine, EngineError, Hop, NoiseMeter, Sink, WindowResult, WindowStream};
use crate::WINDOW_SAMPLES;

/// Samples that a stream takes at a time, which bounds what it keeps: sixteen windows side by side.
const PIECE: usize = 16 * WINDOW_SAMPLES;

/// Two engines of one model, the second for when the first one's device fails.
pub struct FallbackEngine {
    first: Box<dyn Engine>,
    fallback: Box<dyn Engine>,
    /// The first engine's device has failed; it is not asked again.
    lost: AtomicBool,
    on_loss: Box<dyn Fn(&str) + Send + Sync>,
}

impl FallbackEngine {
    /// Computes on `first` until its device fails, then on `fallback`; `on_loss` is told once, by whichever stream meets
    /// the failure first.
    pub fn new(
        first: Box<dyn Engine>,
        fallback: Box<dyn Engine>,
        on_loss: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        Self { first, fallback, lost: AtomicBool::new(false), on_loss: Box::new(on_loss) }
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    fn lose(&self, cause: &str) {
        if !self.lost.swap(true, Ordering::AcqRel) {
            let (first, fallback) = (self.first.device(), self.fallback.device());
            (self.on_loss)(&format!("device {first} failed: {cause}; going on with {fallback}, no result is lost"));
        }
    }

    fn streams(
        &self,
        hop: Hop,
        open: fn(&dyn Engine, Hop) -> Box<dyn WindowStream + '_>,
    ) -> Box<dyn WindowStream + '_> {
        if self.is_lost() {
            return open(&*self.fallback, hop);
        }
        Box::new(FallbackStream {
            engine: self,
            open,
            hop,
            stream: open(&*self.first, hop),
            on_fallback: false,
            kept: Vec::new(),
            base: 0,
            reported: 0,
        })
    }
}

impl Engine for FallbackEngine {
    fn device(&self) -> String {
        if self.is_lost() { self.fallback.device() } else { self.first.device() }
    }

    fn embedding_len(&self) -> usize {
        self.fallback.embedding_len()
    }

    fn num_tags(&self) -> usize {
        self.fallback.num_tags()
    }

    fn noise_meter(&self) -> Option<&NoiseMeter> {
        self.fallback.noise_meter()
    }

    fn stream(&self, hop: Hop) -> Box<dyn WindowStream + '_> {
        self.streams(hop, |engine, hop| engine.stream(hop))
    }

    fn plain_stream(&self, hop: Hop) -> Box<dyn WindowStream + '_> {
        self.streams(hop, |engine, hop| engine.plain_stream(hop))
    }
}

struct FallbackStream<'e> {
    engine: &'e FallbackEngine,
    open: fn(&dyn Engine, Hop) -> Box<dyn WindowStream + '_>,
    hop: Hop,
    stream: Box<dyn WindowStream + 'e>,
    on_fallback: bool,
    /// Samples from `base` on, for the fallback; empty once it is in use.
    kept: Vec<f32>,
    /// Start of the last window reported; where the fallback's stream begins.
    base: u64,
    /// Windows of this waveform that the sink has seen.
    reported: u64,
}

impl FallbackStream<'_> {
    /// Has the current stream do something, and lets through what is new of its results.
    fn step(
        &mut self,
        sink: &mut Sink<'_>,
        act: impl FnOnce(&mut dyn WindowStream, &mut Sink<'_>) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let hop = self.hop.samples() as u64;
        let begin = if self.on_fallback { self.base } else { 0 };
        let reported = &mut self.reported;
        act(&mut *self.stream, &mut |result: WindowResult<'_>| {
            let start = result.start + begin;
            if start >= *reported * hop {
                *reported += 1;
                sink(WindowResult { start, ..result });
            }
        })
    }

    /// Changes over to the fallback, which catches up, if `outcome` is a device's failure.
    fn rescued(&mut self, outcome: Result<(), EngineError>, sink: &mut Sink<'_>) -> Result<(), EngineError> {
        match outcome {
            Err(EngineError::Device { cause, .. }) if !self.on_fallback => {
                self.engine.lose(&cause);
                self.change_over(sink)
            }
            outcome => outcome,
        }
    }

    fn change_over(&mut self, sink: &mut Sink<'_>) -> Result<(), EngineError> {
        self.forget();
        self.stream = (self.open)(&*self.engine.fallback, self.hop);
        self.on_fallback = true;
        let kept = std::mem::take(&mut self.kept);
        self.step(sink, |stream, sink| stream.push(&kept, sink))
    }

    /// Drops the samples before the last window reported.
    fn forget(&mut self) {
        let base = self.reported.saturating_sub(1) * self.hop.samples() as u64;
        let done = ((base - self.base) as usize).min(self.kept.len());
        self.kept.drain(..done);
        self.base = base;
    }
}

impl WindowStream for FallbackStream<'_> {
    fn push(&mut self, samples: &[f32], sink: &mut Sink<'_>) -> Result<(), EngineError> {
        for piece in samples.chunks(PIECE) {
            if !self.on_fallback {
                self.kept.extend_from_slice(piece);
                if self.engine.is_lost() {
                    // Another stream met the failure; there is no need to meet it again.
                    self.change_over(sink)?;
                    continue;
                }
            }
            let outcome = self.step(sink, |stream, sink| stream.push(piece, sink));
            self.rescued(outcome, sink)?;
            if !self.on_fallback {
                self.forget();
            }
        }
        Ok(())
    }

    fn finish(&mut self, sink: &mut Sink<'_>) -> Result<(), EngineError> {
        let mut outcome = self.step(sink, |stream, sink| stream.finish(sink));
        if !self.on_fallback && outcome.is_err() {
            self.rescued(outcome, sink)?;
            outcome = self.step(sink, |stream, sink| stream.finish(sink));
        }
        outcome?;
        self.kept.clear();
        (self.base, self.reported) = (0, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::super::{CpuEngine, test_model};
    use super::*;
    use crate::model_file::Model;

    /// When a device fails, counted over one stream.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fault {
        Never,
        /// In the call that would report one window more than these, after reporting them.
        AfterWindows(u64),
        /// In this call of push, from 0, before anything is computed.
        AtPush(usize),
        /// In finish, before anything is computed.
        BeforeFinish,
        /// In finish, after everything is reported.
        AfterFinish,
    }

    /// The CPU engine as a device that fails.
    struct Faulty {
        engine: CpuEngine,
        fault: Fault,
    }

    impl Engine for Faulty {
        fn device(&self) -> String {
            "wgpu:0 (faulty)".to_owned()
        }

        fn embedding_len(&self) -> usize {
            self.engine.embedding_len()
        }

        fn num_tags(&self) -> usize {
            self.engine.num_tags()
        }

        fn stream(&self, hop: Hop) -> Box<dyn WindowStream + '_> {
            let (stream, fault) = (self.engine.stream(hop), self.fault);
            Box::new(FaultyStream { stream, fault, windows: 0, pushes: 0, failed: false })
        }
    }

    struct FaultyStream<'e> {
        stream: Box<dyn WindowStream + 'e>,
        fault: Fault,
        windows: u64,
        pushes: usize,
        failed: bool,
    }

    impl FaultyStream<'_> {
        fn fail(&mut self, is_due: bool) -> Result<(), EngineError> {
            assert!(!self.failed, "a stream that failed is not to be used again");
            self.failed = is_due;
            let lost = EngineError::Device { device: "wgpu:0".to_owned(), cause: "it was lost".to_owned() };
            if is_due { Err(lost) } else { Ok(()) }
        }

        fn limited(
            &mut self,
            sink: &mut Sink<'_>,
            act: impl FnOnce(&mut dyn WindowStream, &mut Sink<'_>) -> Result<(), EngineError>,
        ) -> Result<(), EngineError> {
            let limit = if let Fault::AfterWindows(limit) = self.fault { limit } else { u64::MAX };
            let (mut over, windows) = (false, &mut self.windows);
            act(&mut *self.stream, &mut |result| {
                over |= *windows == limit;
                if !over {
                    *windows += 1;
                    sink(result);
                }
            })?;
            self.fail(over)
        }
    }

    impl WindowStream for FaultyStream<'_> {
        fn push(&mut self, samples: &[f32], sink: &mut Sink<'_>) -> Result<(), EngineError> {
            self.fail(self.fault == Fault::AtPush(self.pushes))?;
            self.pushes += 1;
            self.limited(sink, |stream, sink| stream.push(samples, sink))
        }

        fn finish(&mut self, sink: &mut Sink<'_>) -> Result<(), EngineError> {
            self.fail(self.fault == Fault::BeforeFinish)?;
            self.limited(sink, |stream, sink| stream.finish(sink))?;
            self.fail(self.fault == Fault::AfterFinish)
        }
    }

    /// Start, padded, and the bits of the logits.
    type Window = (u64, bool, Vec<u32>);

    /// The windows of `waveform`, pushed in `pieces` in turn.
    fn run(stream: &mut dyn WindowStream, waveform: &[f32], pieces: &[usize]) -> Vec<Window> {
        let mut windows = Vec::new();
        let mut sink = |result: WindowResult<'_>| {
            windows.push((result.start, result.padded, result.logits.iter().map(|logit| logit.to_bits()).collect()));
        };
        let mut rest = waveform;
        for &piece in pieces.iter().cycle() {
            let (now, later) = rest.split_at(piece.min(rest.len()));
            stream.push(now, &mut sink).expect("rescued");
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        stream.finish(&mut sink).expect("rescued");
        windows
    }

    fn noise(len: usize) -> Vec<f32> {
        let mut state = 7_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    /// Two models, so that results tell which engine gave them.
    fn models() -> (Model, Model) {
        let cpu = test_model(None, 3);
        let mut device = cpu.clone();
        device.weights.head[0].bias[0] += 1.0;
        (device, cpu)
    }

    struct Bench {
        engine: FallbackEngine,
        device: CpuEngine,
        cpu: CpuEngine,
        told: Arc<Mutex<Vec<String>>>,
    }

    impl Bench {
        fn new(fault: Fault) -> Self {
            let (device, cpu) = models();
            let engine = |model: &Model| CpuEngine::new(model, 1).expect("valid");
            let told = Arc::new(Mutex::new(Vec::new()));
            let listener = Arc::clone(&told);
            Self {
                engine: FallbackEngine::new(
                    Box::new(Faulty { engine: engine(&device), fault }),
                    Box::new(engine(&cpu)),
                    move |notice| listener.lock().expect("whole").push(notice.to_owned()),
                ),
                device: engine(&device),
                cpu: engine(&cpu),
                told,
            }
        }

        fn told(&self) -> Vec<String> {
            self.told.lock().expect("whole").clone()
        }
    }

    fn fault() -> impl Strategy<Value = Fault> {
        prop_oneof![
            1 => Just(Fault::Never),
            4 => (0..30_u64).prop_map(Fault::AfterWindows),
            2 => (0..6_usize).prop_map(Fault::AtPush),
            1 => Just(Fault::BeforeFinish),
            1 => Just(Fault::AfterFinish),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn no_result_is_lost_doubled_or_changed(
            fault in fault(),
            len in prop_oneof![0..2 * WINDOW_SAMPLES, Just(WINDOW_SAMPLES), 0..4 * WINDOW_SAMPLES],
            hop in prop_oneof![Just(6_561_usize), Just(19_683), Just(59_049), Just(20_000), Just(50_000), Just(90_000)],
            pieces in prop::collection::vec(1..70_000_usize, 1..5),
        ) {
            let bench = Bench::new(fault);
            let hop = Hop::new(hop).expect("positive");
            let waveform = noise(len);
            let got = run(&mut *bench.engine.stream(hop), &waveform, &pieces);
            let on_device = run(&mut *bench.device.stream(hop), &waveform, &pieces);
            let on_cpu = run(&mut *bench.cpu.stream(hop), &waveform, &pieces);

            let places = |windows: &[Window]| windows.iter().map(|(start, padded, _)| (*start, *padded)).collect::<Vec<_>>();
            prop_assert_eq!(places(&got), places(&on_cpu));
            let first = got.iter().zip(&on_device).take_while(|(got, device)| got == device).count();
            prop_assert_eq!(&got[first..], &on_cpu[first..]);
            if let Fault::AfterWindows(limit) = fault {
                prop_assert_eq!(first as u64, limit.min(got.len() as u64));
            }
            let failed = bench.engine.is_lost();
            prop_assert!(failed || first == got.len());
            prop_assert_eq!(bench.told().len(), usize::from(failed));
        }
    }

    #[test]
    fn the_failure_is_told_once_and_later_streams_use_the_fallback() {
        let bench = Bench::new(Fault::AfterWindows(2));
        assert_eq!(bench.engine.device(), "wgpu:0 (faulty)");
        let waveform = noise(3 * WINDOW_SAMPLES);
        // Two streams at a time, as two jobs have them: the second learns of the failure from the first.
        let (mut one, mut two) = (bench.engine.stream(Hop::DEFAULT), bench.engine.stream(Hop::DEFAULT));
        let mut begun = Vec::new();
        two.push(&waveform[..WINDOW_SAMPLES], &mut |result| begun.push(result.start))
            .expect("one window is no failure");
        run(&mut *one, &waveform, &[30_000]);
        two.push(&waveform[WINDOW_SAMPLES..], &mut |result| begun.push(result.start)).expect("rescued");
        two.finish(&mut |result| begun.push(result.start)).expect("rescued");
        let starts: Vec<u64> =
            run(&mut *bench.cpu.stream(Hop::DEFAULT), &waveform, &[30_000]).iter().map(|w| w.0).collect();
        assert_eq!(begun, starts);

        assert!(bench.engine.device().starts_with("cpu ("));
        let expected = run(&mut *bench.cpu.stream(Hop::DEFAULT), &waveform, &[30_000]);
        assert_eq!(run(&mut *bench.engine.stream(Hop::DEFAULT), &waveform, &[30_000]), expected);
        let told = bench.told();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("wgpu:0 (faulty) failed: it was lost; going on with cpu ("), "{told:?}");
    }

    #[test]
    fn a_stream_that_was_rescued_takes_another_waveform() {
        for fault in [Fault::AfterWindows(3), Fault::BeforeFinish, Fault::AfterFinish] {
            let bench = Bench::new(fault);
            let mut stream = bench.engine.stream(Hop::DEFAULT);
            run(&mut *stream, &noise(100_000), &[9_000]);
            let expected = run(&mut *bench.cpu.stream(Hop::DEFAULT), &noise(80_000), &[9_000]);
            assert_eq!(run(&mut *stream, &noise(80_000), &[9_000]), expected, "{fault:?}");
        }
    }

    #[test]
    fn what_is_kept_does_not_grow_with_the_waveform() {
        let bench = Bench::new(Fault::Never);
        for hop in [Hop::DEFAULT, Hop::NON_OVERLAPPING] {
            let mut stream = FallbackStream {
                engine: &bench.engine,
                open: |engine, hop| engine.stream(hop),
                hop,
                stream: bench.device.stream(hop),
                on_fallback: false,
                kept: Vec::new(),
                base: 0,
                reported: 0,
            };
            let waveform = noise(200_000);
            for _ in 0..20 {
                stream.push(&waveform, &mut |_| {}).expect("never fails");
                assert!(stream.kept.len() <= WINDOW_SAMPLES + hop.samples(), "{}", stream.kept.len());
            }
        }
    }
}
