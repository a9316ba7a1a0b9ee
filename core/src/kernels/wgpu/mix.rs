//! Mixing at a signal-to-noise ratio: `shaders/mix_snr.wgsl`. The reference is
//! [`mix_snr_plain`](crate::kernels::mix_snr_plain).

use burn::{
    backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor, wgpu::CubeBackend},
    prelude::*,
};
use earmark_shaders::MIX_SNR;

use super::{allocate, contiguous, launch};

/// The kernel behind [`kernels::mix_snr`](crate::kernels::mix_snr), which has checked the shapes.
pub(crate) fn mix_snr(clean: Tensor<2>, noises: Tensor<3>, snr_db: Tensor<1>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::mix_snr(clean.into_dispatch(), noises.into_dispatch(), snr_db.into_dispatch()))
}

/// The operation behind [`kernels::mix_snr`](crate::kernels::mix_snr).
#[backend_extension(Cube, Fusion)]
pub trait MixOps: Backend {
    /// Shapes as in `shaders/mix_snr.wgsl`.
    #[fusion(dtype = clean, shape = clean)]
    fn mix_snr(clean: FloatTensor<Self>, noises: FloatTensor<Self>, snr_db: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl MixOps for CubeBackend {
    fn mix_snr(clean: FloatTensor<Self>, noises: FloatTensor<Self>, snr_db: FloatTensor<Self>) -> FloatTensor<Self> {
        let [clean, noises, snr_db] = [clean, noises, snr_db].map(contiguous);
        let [batch, num_noises, samples] = noises.meta.shape().dims();
        let output = allocate(&clean, [batch, samples]);
        let constants = [("NUM_NOISES", num_noises as u32)];
        launch(MIX_SNR, &constants, &[&clean, &noises, &snr_db, &output], &[samples as u32], [batch, 1, 1]);
        output
    }
}
