//! The tagger's own CPU engine.

use super::folded::{Folded, Workspace};
use super::sliding::SlidingStream;
use super::windowed::{WindowForward, WindowedStream, each_window};
use super::{Engine, EngineError, Hop, NoiseMeter, WindowStream};
use crate::model_file::{Model, ModelError};

/// Folded weights, one matrix product per tile, exact sliding windows.
///
/// The instruction set (AVX-512, AVX2, NEON) is chosen at run time. With one thread nothing is handed to other threads;
/// several streams may then run side by side, one per thread of the caller. Streams reuse their buffers; what a push
/// takes from the allocator are the matrix product's packing buffers, returned within the call.
#[derive(Debug)]
pub struct CpuEngine {
    pub(crate) net: Folded,
    pub(crate) pool: Option<rayon::ThreadPool>,
    meter: Option<NoiseMeter>,
}

impl CpuEngine {
    /// Prepares `model` for `threads` threads (at least one).
    ///
    /// # Errors
    /// [`ModelError::Invalid`] if the weights do not fit the architecture or the threads cannot be started.
    pub fn new(model: &Model, threads: usize) -> Result<Self, ModelError> {
        model.validate()?;
        let pool = if threads > 1 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("engine-{i}"));
            Some(pool.build().map_err(|cause| ModelError::Invalid {
                origin: model.metadata.name.clone(),
                reason: format!("cannot start {threads} threads: {cause}; ask for fewer"),
            })?)
        } else {
            None
        };
        let net = Folded::new(&model.metadata.architecture, &model.weights);
        Ok(Self { net, pool, meter: NoiseMeter::of(model) })
    }
}

/// Name of the widest vector instructions that the matrix product will use here.
fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "AVX-512";
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            return "AVX2";
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        if std::arch::is_aarch64_feature_detected!("neon") {
            return "NEON";
        }
    }
    "scalar"
}

impl Engine for CpuEngine {
    fn device(&self) -> String {
        let threads = self.pool.as_ref().map_or(1, rayon::ThreadPool::current_num_threads);
        let plural = if threads == 1 { "" } else { "s" };
        format!("cpu ({}, {threads} thread{plural})", instruction_set())
    }

    fn embedding_len(&self) -> usize {
        self.net.embedding_len()
    }

    fn num_tags(&self) -> usize {
        self.net.num_tags()
    }

    fn noise_meter(&self) -> Option<&NoiseMeter> {
        self.meter.as_ref()
    }

    fn stream(&self, hop: Hop) -> Box<dyn WindowStream + '_> {
        match SlidingStream::new(self, hop.samples()) {
            Some(stream) => Box::new(stream),
            None => {
                Box::new(WindowedStream::new(Plain { engine: self, workspace: Workspace::default() }, hop.samples()))
            }
        }
    }

    fn plain_stream(&self, hop: Hop) -> Box<dyn WindowStream + '_> {
        Box::new(WindowedStream::new(Plain { engine: self, workspace: Workspace::default() }, hop.samples()))
    }
}

/// Every window from its own samples.
struct Plain<'e> {
    engine: &'e CpuEngine,
    workspace: Workspace,
}

impl WindowForward for Plain<'_> {
    fn batch(&self, _hop: usize) -> usize {
        1
    }

    fn forward(
        &mut self,
        samples: &[f32],
        hop: usize,
        windows: usize,
        each: &mut dyn FnMut(&[f32], &[f32]),
    ) -> Result<(), EngineError> {
        for window in each_window(samples, hop, windows) {
            self.engine.net.window(window, &mut self.workspace, self.engine.pool.as_ref());
            let net = &self.engine.net;
            each(&self.workspace.embedding[..net.embedding_len()], &self.workspace.logits[..net.num_tags()]);
        }
        Ok(())
    }
}
