//! The parameters of a tagger, and of a domain classifier beside it, as plain `f32` vectors: what model files hold, engines
//! fold and Burn modules load.
//!
//! Layouts are PyTorch's (`[out, in, kernel]` for convolutions, `[out, in]` for fully connected layers), row-major.

use serde::{Deserialize, Serialize};

/// Convolution modules in SampleCNN (table 3.1).
pub const NUM_MODULES: usize = 11;

/// Output channels of the eleven modules at full width (table 3.1).
pub const FULL_WIDTHS: [usize; NUM_MODULES] = [128, 128, 128, 256, 256, 256, 256, 256, 256, 512, 512];

/// Largest width a model may declare for any layer; bounds what a hostile model file can make us allocate.
pub const MAX_WIDTH: usize = 4096;

/// The shape of a tagger: SampleCNN and the head on its embedding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Architecture {
    /// Output channels of each convolution module; the last is the embedding's length.
    pub widths: [usize; NUM_MODULES],
    /// Kernel of the last module: 3 (CLMR's code) or 1 (table 3.1).
    pub last_kernel: usize,
    /// Hidden units of the head: `None` is one fully connected layer (the supervised reference), `Some(n)` the thesis'
    /// label predictor, two layers with ReLU between.
    pub head_hidden: Option<usize>,
    /// Hidden units of stage 1's projector, where the head reads the projection instead of the embedding. The
    /// projector's second layer, behind which no ReLU follows, is then part of the head's next layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projector_hidden: Option<usize>,
    /// Outputs of the head.
    pub num_tags: usize,
}

impl Architecture {
    /// SampleCNN with every width multiplied by `width` (1.0 is table 3.1) and rounded to a multiple of 8.
    pub fn scaled(width: f64, last_kernel: usize, head_hidden: Option<usize>, num_tags: usize) -> Self {
        let widths = FULL_WIDTHS.map(|full| (((full as f64 * width) / 8.0).round() as usize).max(1) * 8);
        Self { widths, last_kernel, head_hidden, projector_hidden: None, num_tags }
    }

    /// Length of the embedding.
    pub fn embedding_len(&self) -> usize {
        self.widths[NUM_MODULES - 1]
    }

    /// `(in, out, kernel)` of module `index` (0-based).
    pub fn conv_shape(&self, index: usize) -> (usize, usize, usize) {
        let input = if index == 0 { 1 } else { self.widths[index - 1] };
        let kernel = if index == NUM_MODULES - 1 { self.last_kernel } else { 3 };
        (input, self.widths[index], kernel)
    }

    /// `(in, out)` of each fully connected layer of the head.
    pub fn head_shapes(&self) -> Vec<(usize, usize)> {
        let hidden = self.projector_hidden.into_iter().chain(self.head_hidden);
        let sizes: Vec<usize> = [self.embedding_len()].into_iter().chain(hidden).chain([self.num_tags]).collect();
        sizes.windows(2).map(|pair| (pair[0], pair[1])).collect()
    }

    /// Checks every size against what an engine can run.
    ///
    /// # Errors
    /// The rule that is broken, with the offending value.
    pub fn validate(&self) -> Result<(), String> {
        let in_range = |name: &str, value: usize| {
            (1..=MAX_WIDTH)
                .contains(&value)
                .then_some(())
                .ok_or_else(|| format!("{name} is {value}; it must be between 1 and {MAX_WIDTH}"))
        };
        for (index, &width) in self.widths.iter().enumerate() {
            in_range(&format!("width of module {}", index + 1), width)?;
        }
        if let Some(hidden) = self.head_hidden {
            in_range("head_hidden", hidden)?;
        }
        if let Some(hidden) = self.projector_hidden {
            in_range("projector_hidden", hidden)?;
        }
        in_range("num_tags", self.num_tags)?;
        if self.last_kernel != 1 && self.last_kernel != 3 {
            return Err(format!("last_kernel is {}; it must be 1 or 3", self.last_kernel));
        }
        Ok(())
    }
}

/// One convolution module: convolution and batch norm.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvWeights {
    /// `[out, in, kernel]`.
    pub weight: Vec<f32>,
    /// `[out]`.
    pub bias: Vec<f32>,
    /// Batch norm's scale, `[out]`.
    pub gamma: Vec<f32>,
    /// Batch norm's offset, `[out]`.
    pub beta: Vec<f32>,
    /// Batch norm's running mean, `[out]`.
    pub running_mean: Vec<f32>,
    /// Batch norm's running variance, `[out]`.
    pub running_var: Vec<f32>,
}

/// One fully connected layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearWeights {
    /// `[out, in]`.
    pub weight: Vec<f32>,
    /// `[out]`.
    pub bias: Vec<f32>,
}

/// Every parameter of a tagger. Vector lengths agree with the architecture they travel with.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// The eleven modules of the feature extractor.
    pub convs: Vec<ConvWeights>,
    /// The head: one or two fully connected layers with ReLU between.
    pub head: Vec<LinearWeights>,
}

impl Weights {
    /// Seeded weights that have learnt nothing, batch norm's statistics included, at scales that keep activations alive
    /// through all modules: for benchmarks and tests, where only shapes matter.
    pub fn random(architecture: &Architecture, seed: u64) -> Self {
        let mut uniform = uniform(seed);
        let convs = (0..NUM_MODULES)
            .map(|index| {
                let (inputs, outputs, kernel) = architecture.conv_shape(index);
                let bound = (3.0 / (inputs * kernel) as f32).sqrt();
                ConvWeights {
                    weight: uniform(outputs * inputs * kernel, -bound, bound),
                    bias: uniform(outputs, -0.1, 0.1),
                    gamma: uniform(outputs, 0.8, 1.6),
                    beta: uniform(outputs, -0.2, 0.3),
                    running_mean: uniform(outputs, -0.1, 0.1),
                    running_var: uniform(outputs, 0.5, 1.5),
                }
            })
            .collect();
        let head = architecture
            .head_shapes()
            .into_iter()
            .map(|(inputs, outputs)| LinearWeights {
                weight: uniform(outputs * inputs, -0.3, 0.3),
                bias: uniform(outputs, -0.5, 0.5),
            })
            .collect();
        Self { convs, head }
    }

    /// `(1 - share) self + share other`, parameter by parameter. Between a network and what fine-tuning made of it lie
    /// networks that have some of what was gained and kept most of what was known (WiSE-FT; Wortsman et al. 2022).
    ///
    /// # Panics
    ///
    /// If `other` is of another architecture.
    #[must_use]
    pub fn toward(&self, other: &Self, share: f32) -> Self {
        let mut between = self.clone();
        assert!(between.vectors().map(Vec::len).eq(other.vectors().map(Vec::len)), "networks of one architecture");
        for (from, to) in between.vectors_mut().zip(other.vectors()) {
            from.iter_mut().zip(to).for_each(|(from, to)| *from = (1.0 - share) * *from + share * to);
        }
        between
    }

    /// Every vector, batch norm's statistics included, from the first convolution to the last layer.
    pub fn vectors(&self) -> impl Iterator<Item = &Vec<f32>> {
        let convs = self.convs.iter().flat_map(|conv| {
            [&conv.weight, &conv.bias, &conv.gamma, &conv.beta, &conv.running_mean, &conv.running_var]
        });
        convs.chain(self.head.iter().flat_map(|linear| [&linear.weight, &linear.bias]))
    }

    /// [`vectors`](Self::vectors), to be changed.
    pub fn vectors_mut(&mut self) -> impl Iterator<Item = &mut Vec<f32>> {
        let convs = self.convs.iter_mut().flat_map(|conv| {
            let ConvWeights { weight, bias, gamma, beta, running_mean, running_var } = conv;
            [weight, bias, gamma, beta, running_mean, running_var]
        });
        convs.chain(self.head.iter_mut().flat_map(|linear| [&mut linear.weight, &mut linear.bias]))
    }
}

/// Draws vectors of a length, uniform between two bounds.
fn uniform(seed: u64) -> impl FnMut(usize, f32, f32) -> Vec<f32> {
    // Xorshift; any odd constant keeps its state from being 0.
    let mut state = seed.wrapping_mul(2).wrapping_add(0x2545_F491_4F6C_DD1D);
    move |len, low, high| {
        (0..len)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                low + (high - low) * ((state >> 40) as f32 / (1_u64 << 24) as f32)
            })
            .collect()
    }
}

/// Every parameter of a domain classifier on the embedding: fully connected, batch norm, ReLU, fully connected.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainWeights {
    /// `[hidden, embedding_len]`.
    pub hidden: LinearWeights,
    /// Batch norm's scale, `[hidden]`.
    pub gamma: Vec<f32>,
    /// Batch norm's offset, `[hidden]`.
    pub beta: Vec<f32>,
    /// Batch norm's running mean, `[hidden]`.
    pub running_mean: Vec<f32>,
    /// Batch norm's running variance, `[hidden]`.
    pub running_var: Vec<f32>,
    /// `[1, hidden]`.
    pub output: LinearWeights,
}

impl DomainWeights {
    /// A classifier that has learnt nothing: PyTorch's default start, uniform in `±1/sqrt(fan_in)`, batch norm the identity.
    pub fn untrained(embedding_len: usize, hidden: usize, seed: u64) -> Self {
        let mut uniform = uniform(seed);
        let mut layer = |inputs: usize, outputs: usize| {
            let bound = 1.0 / (inputs.max(1) as f32).sqrt();
            LinearWeights { weight: uniform(outputs * inputs, -bound, bound), bias: uniform(outputs, -bound, bound) }
        };
        Self {
            hidden: layer(embedding_len, hidden),
            gamma: vec![1.0; hidden],
            beta: vec![0.0; hidden],
            running_mean: vec![0.0; hidden],
            running_var: vec![1.0; hidden],
            output: layer(hidden, 1),
        }
    }

    /// Hidden units.
    pub fn hidden_len(&self) -> usize {
        self.hidden.bias.len()
    }
}

/// Batch norm's epsilon, PyTorch's and Burn's default.
pub const BATCH_NORM_EPSILON: f32 = 1e-5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_networks_lies_every_share_of_the_way() {
        let architecture = Architecture::scaled(1.0 / 16.0, 3, Some(12), 5);
        let (from, to) = (Weights::random(&architecture, 1), Weights::random(&architecture, 2));
        assert_eq!((from.toward(&to, 0.0), from.toward(&to, 1.0)), (from.clone(), to.clone()));
        let quarter = from.toward(&to, 0.25);
        let expected = 0.75 * from.convs[3].weight[7] + 0.25 * to.convs[3].weight[7];
        assert!((quarter.convs[3].weight[7] - expected).abs() < 1e-7);
        let expected = 0.75 * from.head[1].bias[2] + 0.25 * to.head[1].bias[2];
        assert!((quarter.head[1].bias[2] - expected).abs() < 1e-7);
    }
}
