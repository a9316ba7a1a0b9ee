//! The networks as Burn modules: the definition that every engine and kernel is compared with.
//!
//! ```text
//!                                      +-- LabelPredictor -> logits [batch, tags]
//! windows -> SampleCnn -> embedding ---+-- Projector -> [batch, 64]                (stage 1, NT-Xent)
//! [batch, 59049]         [batch, 512]  +-- gradient_reversal -> DomainClassifier -> [batch, 1]
//! ```
//!
//! [`Tagger`] joins the feature extractor and the label predictor, which is what inference needs and what model files
//! hold. The other networks take part in training only and are built beside it.
//!
//! Every convolution and fully connected layer starts with PyTorch's default, uniform in `±1/sqrt(fan_in)` for weights
//! and biases alike; batch norm starts at scale 1 and offset 0. [`Device::seed`](burn::tensor::Device::seed) fixes it.

mod heads;
pub mod import;
mod sample_cnn;
mod tagger;

pub use heads::{
    DomainClassifier, DomainClassifierConfig, LabelPredictor, LabelPredictorConfig, Projector, ProjectorConfig,
    gradient_reversal,
};
pub use sample_cnn::{ConvModule, SampleCnn, SampleCnnConfig};
pub use tagger::{Tagger, TaggerConfig, TaggerOutput};
