//! The optimiser of all stages, and how it and a network are saved between two steps.

use burn::module::Module;
use burn::optim::{
    AdamW, AdamWConfig, AdamWState, LearningRate, ModuleOptimizer, Optimizer, OptimizerRecord, RecordState, StateSink,
    StateSource,
};
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Device, Tensor};

/// Why a network or an optimiser could not be saved or taken up again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {cause}")]
pub struct StateError {
    what: &'static str,
    cause: String,
}

fn failed<E: ToString>(what: &'static str) -> impl Fn(E) -> StateError {
    move |error| StateError { what, cause: error.to_string() }
}

/// A network's parameters, their identities (which the optimiser's state refers to) and batch norm's statistics.
///
/// # Errors
/// If Burn cannot write the record.
pub fn network_to_bytes<M: Module>(network: &M) -> Result<Vec<u8>, StateError> {
    // `valid` first: it folds pending batch norm statistics into what a record holds.
    let record = network.valid().into_record();
    Ok(record.into_bytes().map_err(failed("the network cannot be saved"))?.to_vec())
}

/// `network` with the parameters, identities and statistics that [`network_to_bytes`] saved.
///
/// # Errors
/// If the bytes hold another network.
pub fn network_from_bytes<M: Module>(network: M, bytes: Vec<u8>) -> Result<M, StateError> {
    ModuleRecord::from_bytes(Bytes::from_bytes_vec(bytes))
        .and_then(|record| network.try_load_record(record))
        .map_err(failed("network of the checkpoint"))
}

/// AdamW with PyTorch's epsilon (Burn's default is a thousand times larger); without decay it is Adam.
pub fn adam(weight_decay: f64) -> ModuleOptimizer {
    Adam(AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(weight_decay as f32).build()).into()
}

/// Burn's [`AdamW`], except for the device on which a saved state is loaded.
///
/// [`ModuleOptimizer::load_record`] loads on Burn's default device. That is a GPU wherever Burn is built with one, so a
/// run that is resumed on the CPU would start a graphics driver, and fail where there is none. Here it is the CPU; the
/// first step moves the state to where the parameters are.
#[derive(Clone)]
struct Adam(AdamW);

/// [`AdamWState`] that loads on the CPU.
#[derive(Clone)]
struct State<const D: usize>(AdamWState<D>);

impl<const D: usize> RecordState for State<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        self.0.state_flatten(prefix, out);
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, _default_device: &Device) -> Option<Self> {
        AdamWState::state_unflatten(prefix, source, &Device::flex()).map(Self)
    }
}

impl Optimizer for Adam {
    type State<const D: usize> = State<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<State<D>>,
    ) -> (Tensor<D>, Option<State<D>>) {
        let (parameter, state) = self.0.step(learning_rate, parameter, gradient, state.map(|state| state.0));
        (parameter, state.map(State))
    }

    fn to_device<const D: usize>(state: State<D>, device: &Device) -> State<D> {
        State(AdamW::to_device(state.0, device))
    }
}

/// The optimiser's state.
///
/// # Errors
/// If Burn cannot write the record.
pub fn optimiser_to_bytes(optimiser: &ModuleOptimizer) -> Result<Vec<u8>, StateError> {
    let record = optimiser.to_record().into_bytes();
    Ok(record.map_err(failed("the optimiser cannot be saved"))?.to_vec())
}

/// `optimiser` with the state that [`optimiser_to_bytes`] saved.
///
/// # Errors
/// If the bytes hold no optimiser's state.
pub fn optimiser_from_bytes(optimiser: ModuleOptimizer, bytes: Vec<u8>) -> Result<ModuleOptimizer, StateError> {
    OptimizerRecord::from_bytes(Bytes::from_bytes_vec(bytes))
        .map(|record| optimiser.load_record(record))
        .map_err(failed("optimiser of the checkpoint"))
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::GradientsParams;

    use super::*;

    /// One weight, started at 1.
    fn network() -> Linear {
        let device = Device::flex().autodiff();
        let mut network = LinearConfig::new(1, 1).with_bias(false).init(&device);
        network.weight = Param::from_tensor(Tensor::from_data([[1.0]], &device));
        network
    }

    /// A step down the gradient `slope`.
    fn step(optimiser: &mut ModuleOptimizer, network: Linear, slope: f32) -> Linear {
        let input = Tensor::<2>::from_data([[slope]], &Device::flex().autodiff());
        let gradients = GradientsParams::from_grads(network.forward(input).backward(), &network);
        optimiser.step(0.1, network, gradients)
    }

    fn weight(network: &Linear) -> f32 {
        network.weight.val().into_scalar()
    }

    /// Adam, PyTorch's form, in f64.
    fn reference(slopes: &[f64]) -> f64 {
        let (mut weight, mut first, mut second) = (1.0, 0.0, 0.0);
        for (index, slope) in slopes.iter().enumerate() {
            first = 0.9 * first + 0.1 * slope;
            second = 0.999 * second + 0.001 * slope * slope;
            let time = index as i32 + 1;
            let (m, v) = (first / (1.0 - 0.9_f64.powi(time)), second / (1.0 - 0.999_f64.powi(time)));
            weight -= 0.1 * m / (v.sqrt() + 1e-8);
        }
        weight
    }

    #[test]
    fn without_decay_it_is_adam() {
        let (mut optimiser, mut network) = (adam(0.0), network());
        for slope in [3.0, -1.0, 0.5] {
            network = step(&mut optimiser, network, slope);
        }
        let expected = reference(&[3.0, -1.0, 0.5]);
        assert!((f64::from(weight(&network)) - expected).abs() < 1e-5, "{} {expected}", weight(&network));
    }

    #[test]
    fn a_tiny_gradient_takes_a_whole_step() {
        // With Burn's default epsilon of 1e-5 this step would be a hundredth as long.
        let network = step(&mut adam(0.0), network(), 1e-7);
        assert!((weight(&network) - 0.91).abs() < 2e-3, "{}", weight(&network));
    }

    #[test]
    fn a_saved_state_continues_bit_for_bit_on_the_cpu() {
        let (mut optimiser, mut network) = (adam(1e-2), network());
        for slope in [3.0, -1.0] {
            network = step(&mut optimiser, network, slope);
        }
        let bytes = optimiser_to_bytes(&optimiser).expect("saved");
        let mut again = optimiser_from_bytes(adam(1e-2), bytes).expect("loaded");
        let (expected, found) = (step(&mut optimiser, network.clone(), 0.5), step(&mut again, network, 0.5));
        assert_eq!(weight(&expected).to_bits(), weight(&found).to_bits());
        assert!(optimiser_from_bytes(adam(0.0), vec![1, 2, 3]).is_err());
    }
}
