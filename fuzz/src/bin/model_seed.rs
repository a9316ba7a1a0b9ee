//! Writes the smallest model there is, the seed of the target `model_file`: `model_seed OUT`.

use earmark_core::model_file::{FORMAT_VERSION, Model, ModelMetadata};
use earmark_core::weights::{Architecture, ConvWeights, LinearWeights, Weights};
use earmark_core::{SAMPLE_RATE_HZ, WINDOW_SAMPLES};

fn main() {
    let path = std::env::args().nth(1).expect("usage: model_seed OUT");
    let architecture = Architecture { widths: [1; 11], last_kernel: 1, head_hidden: None, num_tags: 2 };
    let convs = (0..11)
        .map(|index| {
            let (inputs, outputs, kernel) = architecture.conv_shape(index);
            ConvWeights {
                weight: vec![0.5; inputs * outputs * kernel],
                bias: vec![0.1; outputs],
                gamma: vec![1.0; outputs],
                beta: vec![0.0; outputs],
                running_mean: vec![0.0; outputs],
                running_var: vec![1.0; outputs],
            }
        })
        .collect();
    let head = architecture
        .head_shapes()
        .into_iter()
        .map(|(inputs, outputs)| LinearWeights { weight: vec![0.25; inputs * outputs], bias: vec![0.0; outputs] })
        .collect();
    let metadata = ModelMetadata {
        format_version: FORMAT_VERSION,
        name: "seed".to_owned(),
        architecture,
        tags: vec!["rock".to_owned(), "piano".to_owned()],
        thresholds: vec![0.5; 2],
        sample_rate_hz: SAMPLE_RATE_HZ,
        window_samples: WINDOW_SAMPLES,
        training: serde_json::Value::Null,
        metrics: serde_json::Value::Null,
        licence: "CC0-1.0".to_owned(),
    };
    let model = Model { metadata, weights: Weights { convs, head } };
    let bytes = model.to_bytes().expect("the seed is a valid model");
    std::fs::write(path, bytes).expect("the seed can be written");
}
