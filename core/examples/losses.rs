//! Writes the losses of [`earmark_core::adapt`] and their gradients on seeded tensors, for a comparison with another
//! framework on the same numbers: `losses DIR`.
//!
//! `DIR/CASE.NAME.f32` holds little-endian f32, row-major: the inputs, `loss` and one `NAME.gradient` for each input
//! that is differentiated. `DIR/cases.json` lists the cases with the shapes of their inputs.

use std::{error::Error, path::Path};

use burn::{prelude::*, tensor::Distribution};
use earmark_core::adapt::{Domain, binary_cross_entropy_with_logits, domain_loss, nt_xent};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: losses DIR")?;
    let folder = Path::new(&folder);
    let device = Device::flex().autodiff();
    device.seed(1);
    let mut cases = Vec::new();

    // Pairs of projections: CLMR's batch and small ones, long and short vectors, two temperatures.
    for (pairs, len, temperature, scale) in
        [(48, 64, 0.5, 1.0), (2, 64, 0.5, 1e-3), (7, 3, 0.1, 10.0), (1, 8, 0.5, 1.0)]
    {
        let name = format!("nt_xent-{pairs}x{len}");
        let random = || Tensor::<2>::random([pairs, len], Distribution::Normal(0.0, scale), &device).require_grad();
        let inputs = [("first", random()), ("second", random())];
        let loss = nt_xent(inputs[0].1.clone(), inputs[1].1.clone(), temperature);
        write_case(folder, &name, &inputs, &[], loss)?;
        cases.push(json!({ "name": name, "kind": "nt_xent", "shape": [pairs, len], "temperature": temperature }));
    }
    // Logits near and far from zero against soft tags, as in stage 3.
    for (batch, scale) in [(48, 1.0), (24, 30.0)] {
        let name = format!("tags-{batch}");
        let logits = Tensor::<2>::random([batch, 50], Distribution::Normal(0.0, scale), &device).require_grad();
        let targets = Tensor::<2>::random([batch, 50], Distribution::Uniform(0.0, 1.0), &device);
        let loss = binary_cross_entropy_with_logits(logits.clone(), targets.clone());
        write_case(folder, &name, &[("logits", logits)], &[("targets", targets)], loss)?;
        cases.push(json!({ "name": name, "kind": "bce", "shape": [batch, 50] }));
    }
    // Half clean, half noisy.
    let logits = Tensor::<2>::random([48, 1], Distribution::Normal(0.0, 3.0), &device).require_grad();
    let domains = [[Domain::Source; 24], [Domain::Target; 24]].concat();
    let labels: Vec<f32> = domains.iter().map(|domain| domain.label()).collect();
    let labels = Tensor::<2>::from_data(TensorData::new(labels, [48, 1]), &device);
    let loss = domain_loss(logits.clone(), &domains);
    write_case(folder, "domain", &[("logits", logits)], &[("targets", labels)], loss)?;
    cases.push(json!({ "name": "domain", "kind": "bce", "shape": [48, 1] }));

    std::fs::write(folder.join("cases.json"), serde_json::to_vec_pretty(&cases)?)?;
    Ok(())
}

fn write_case(
    folder: &Path,
    case: &str,
    inputs: &[(&str, Tensor<2>)],
    constants: &[(&str, Tensor<2>)],
    loss: Tensor<1>,
) -> Result<(), Box<dyn Error>> {
    let write = |name: &str, values: TensorData| {
        let bytes: Vec<u8> = values.iter::<f32>().flat_map(f32::to_le_bytes).collect();
        std::fs::write(folder.join(format!("{case}.{name}.f32")), bytes)
    };
    let gradients = loss.backward();
    write("loss", loss.into_data())?;
    for (name, input) in inputs {
        write(name, input.to_data())?;
        let gradient = input.grad(&gradients).ok_or_else(|| format!("{case}: {name} has no gradient"))?;
        write(&format!("{name}.gradient"), gradient.into_data())?;
    }
    for (name, constant) in constants {
        write(name, constant.to_data())?;
    }
    Ok(())
}
