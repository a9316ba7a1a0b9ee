//! The Burn modules as an engine: the definition of the network, on whatever device Burn drives.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};

use super::windowed::{WindowForward, WindowedStream};
use super::{Engine, EngineError, Hop, WindowStream, adapters};
use crate::WINDOW_SAMPLES;
use crate::model::Tagger;
use crate::model_file::{Model, ModelError};

/// Windows that a Burn device computes at once.
const BATCH: usize = 16;

/// Runs the Burn modules window by window.
pub struct BurnEngine {
    tagger: Mutex<Tagger>,
    device: Device,
    name: String,
    embedding_len: usize,
    num_tags: usize,
}

impl BurnEngine {
    /// The modules on Burn's CPU backend: slow, and the reference for everything else.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] if the weights do not fit the architecture.
    pub fn flex(model: &Model) -> Result<Self, ModelError> {
        Self::on(model, Device::flex(), "flex (Burn on the CPU)".into())
    }

    /// The modules on a device that is already initialised; `name` is shown to the user.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] if the weights do not fit the architecture.
    pub fn on(model: &Model, device: Device, name: String) -> Result<Self, ModelError> {
        model.validate()?;
        let architecture = &model.metadata.architecture;
        Ok(Self {
            tagger: Mutex::new(Tagger::from_weights(architecture, &model.weights, &device)),
            device,
            name,
            embedding_len: architecture.embedding_len(),
            num_tags: architecture.num_tags,
        })
    }

    /// The modules on the GPU with number `index`, or with `None` on the first ([`adapters`]).
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

    fn stream(&self, hop: Hop) -> Box<dyn WindowStream + '_> {
        Box::new(WindowedStream::new(Forward(self), hop.samples()))
    }
}

struct Forward<'e>(&'e BurnEngine);

impl WindowForward for Forward<'_> {
    fn batch(&self) -> usize {
        BATCH
    }

    fn forward(&mut self, windows: &[f32], each: &mut dyn FnMut(&[f32], &[f32])) -> Result<(), EngineError> {
        let engine = self.0;
        let failed = |cause: String| EngineError::Device { device: engine.name.clone(), cause };
        let count = windows.len() / WINDOW_SAMPLES;
        let data = TensorData::new(windows.to_vec(), [count, WINDOW_SAMPLES]);
        // A lost device reaches us as a panic of the runtime; it must not take the batch down.
        let computed = catch_unwind(AssertUnwindSafe(|| {
            let tagger = engine.tagger.lock().unwrap_or_else(PoisonError::into_inner);
            let output = tagger.forward(Tensor::<2>::from_data(data, &engine.device));
            (output.embedding.try_into_data(), output.logits.try_into_data())
        }));
        let (embeddings, logits) = match computed {
            Ok((Ok(embeddings), Ok(logits))) => (embeddings, logits),
            Ok((Err(cause), _) | (_, Err(cause))) => return Err(failed(format!("{cause:?}"))),
            Err(_) => return Err(failed("it stopped answering".into())),
        };
        let embeddings: Vec<f32> = embeddings.iter().collect();
        let logits: Vec<f32> = logits.iter().collect();
        for (embedding, logits) in
            embeddings.chunks_exact(engine.embedding_len).zip(logits.chunks_exact(engine.num_tags))
        {
            each(embedding, logits);
        }
        Ok(())
    }
}
