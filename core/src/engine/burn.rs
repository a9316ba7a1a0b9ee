//! The network on whatever device Burn drives: on WGSL kernels where there are any, else the Burn modules themselves.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use burn::tensor::{Device, Tensor, TensorData, Transaction};

use super::folded::Folded;
use super::wgpu::WgpuNetwork;
use super::windowed::{WindowForward, WindowedStream, each_window};
use super::{Engine, EngineError, Hop, NoiseMeter, WindowStream, adapters};
use crate::WINDOW_SAMPLES;
use crate::kernels;
use crate::model::Tagger;
use crate::model_file::{Model, ModelError};

/// Windows that the Burn modules compute at once.
const BATCH: usize = 16;

/// Runs the network on a Burn device: with exact sliding windows on a GPU, window by window elsewhere.
pub struct BurnEngine {
    network: Network,
    device: Device,
    name: String,
    embedding_len: usize,
    num_tags: usize,
    meter: Option<NoiseMeter>,
}

enum Network {
    /// The definition.
    Modules(Box<Mutex<Tagger>>),
    /// The same from WGSL kernels.
    Kernels(Box<WgpuNetwork>),
}

impl BurnEngine {
    /// The modules on Burn's CPU backend: slow, and the reference for everything else.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] if the weights do not fit the architecture.
    pub fn flex(model: &Model) -> Result<Self, ModelError> {
        Self::on(model, Device::flex(), "flex (Burn on the CPU)".into())
    }

    /// The network on a device that is already initialised; `name` is shown to the user.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] if the weights do not fit the architecture.
    pub fn on(model: &Model, device: Device, name: String) -> Result<Self, ModelError> {
        if !kernels::wgpu::supports(&device) {
            return Self::modules_on(model, device, name);
        }
        model.validate()?;
        let device = device.without_autodiff();
        let folded = Folded::new(&model.metadata.architecture, &model.weights);
        Ok(Self::with(Network::Kernels(Box::new(WgpuNetwork::new(&folded, &device))), model, device, name))
    }

    /// The Burn modules on a device that is already initialised, also where there are kernels: what these are measured
    /// against.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] if the weights do not fit the architecture.
    pub fn modules_on(model: &Model, device: Device, name: String) -> Result<Self, ModelError> {
        model.validate()?;
        let tagger = Tagger::from_weights(&model.metadata.architecture, &model.weights, &device);
        Ok(Self::with(Network::Modules(Box::new(Mutex::new(tagger))), model, device, name))
    }

    fn with(network: Network, model: &Model, device: Device, name: String) -> Self {
        let architecture = &model.metadata.architecture;
        let (embedding_len, num_tags) = (architecture.embedding_len(), architecture.num_tags);
        Self { network, device, name, embedding_len, num_tags, meter: NoiseMeter::of(model) }
    }

    /// The kernels on the GPU with number `index`, or with `None` on the first ([`adapters`]).
    ///
    /// # Errors
    /// [`EngineError::NoDevice`] if there is none, [`EngineError::Device`] if its driver fails.
    pub fn wgpu(model: &Model, index: Option<usize>) -> Result<Self, EngineError> {
        let adapter = adapters::find(index)?;
        Self::on(model, adapter.open()?, adapter.to_string()).map_err(EngineError::Model)
    }
}

impl Engine for BurnEngine {
    fn device(&self) -> String {
        self.name.clone()
    }

    fn embedding_len(&self) -> usize {
        self.embedding_len
    }

    fn num_tags(&self) -> usize {
        self.num_tags
    }

    fn noise_meter(&self) -> Option<&NoiseMeter> {
        self.meter.as_ref()
    }

    fn stream(&self, hop: Hop) -> Box<dyn WindowStream + '_> {
        Box::new(WindowedStream::new(Forward { engine: self, sharing: true }, hop.samples()))
    }

    fn plain_stream(&self, hop: Hop) -> Box<dyn WindowStream + '_> {
        Box::new(WindowedStream::new(Forward { engine: self, sharing: false }, hop.samples()))
    }
}

struct Forward<'e> {
    engine: &'e BurnEngine,
    /// Whether windows may share their activations.
    sharing: bool,
}

impl WindowForward for Forward<'_> {
    fn batch(&self, hop: usize) -> usize {
        match &self.engine.network {
            Network::Modules(_) => BATCH,
            Network::Kernels(network) => network.batch(if self.sharing { hop } else { WINDOW_SAMPLES }),
        }
    }

    fn forward(
        &mut self,
        samples: &[f32],
        hop: usize,
        windows: usize,
        each: &mut dyn FnMut(&[f32], &[f32]),
    ) -> Result<(), EngineError> {
        let engine = self.engine;
        let failed = |cause: String| EngineError::Device { device: engine.name.clone(), cause };
        let side_by_side = || each_window(samples, hop, windows).flatten().copied().collect::<Vec<f32>>();
        // A lost device reaches us as a panic of the runtime; it must not take the batch down.
        let computed = catch_unwind(AssertUnwindSafe(|| {
            let (embedding, logits) = match &engine.network {
                Network::Modules(tagger) => {
                    let data = TensorData::new(side_by_side(), [windows, WINDOW_SAMPLES]);
                    let tagger = tagger.lock().unwrap_or_else(PoisonError::into_inner);
                    let output = tagger.forward(Tensor::from_data(data, &engine.device));
                    (output.embedding, output.logits)
                }
                Network::Kernels(network) if self.sharing => network.forward(samples, hop, windows),
                Network::Kernels(network) => network.forward(&side_by_side(), WINDOW_SAMPLES, windows),
            };
            // One wait for both.
            Transaction::default().register(embedding).register(logits).try_execute()
        }));
        let data = match computed {
            Ok(Ok(data)) => data,
            Ok(Err(cause)) => return Err(failed(format!("{cause:?}"))),
            Err(_) => return Err(failed("it stopped answering".into())),
        };
        let [embeddings, logits] = &data[..] else {
            return Err(failed(format!("it returned {} results instead of 2", data.len())));
        };
        let [embeddings, logits] = [embeddings, logits].map(|data| data.iter().collect::<Vec<f32>>());
        // Kernels round the widths up.
        let per_window = |values: &[f32]| values.len() / windows;
        let embeddings = embeddings.chunks_exact(per_window(&embeddings));
        for (embedding, logits) in embeddings.zip(logits.chunks_exact(per_window(&logits))) {
            each(&embedding[..engine.embedding_len], &logits[..engine.num_tags]);
        }
        Ok(())
    }
}
