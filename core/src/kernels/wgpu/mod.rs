//! WGSL kernels on the tensors of Burn's wgpu backend.
//!
//! The text lies in the crate `earmark-shaders`. An operation is a trait with `#[backend_extension(Cube, Fusion)]`,
//! whose implementation for `CubeBackend` makes its operands [`contiguous`], [`allocate`]s the output and [`launch`]es
//! a shader; beside it stands a reference made of Burn's own operations, with the same signature. Wrong shapes are
//! programming errors and panic before anything is launched. What fails on the device surfaces when a result is read.

mod conv;
mod infer_block;
mod infer_dense;
mod mix;

use burn::{
    backend::{
        DispatchDevice,
        wgpu::{CubeTensor, KernelSource, SourceKernel, SourceTemplate, into_contiguous},
    },
    cubecl::{
        CubeCount, CubeDim, ExecutionMode,
        prelude::KernelId,
        server::{KernelArguments, MetadataBindingInfo},
    },
    prelude::*,
    tensor::DType,
};
use earmark_shaders::{MAX_WORKGROUPS, Shader};

pub(crate) use conv::conv_module;
pub use conv::{ConvChoice, ConvGradOps, ConvOps, ConvShape, conv, conv_input_grad, conv_weight_grad};
pub use infer_block::{InferBlock, InferBlockOps, RowLayout};
pub use infer_dense::{InferDense, InferDenseOps};
pub use mix::MixOps;
pub(crate) use mix::mix_snr;

/// Whether there are WGSL kernels for the device: for wgpu, without autodiff and with it.
pub fn supports(device: &Device) -> bool {
    matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Cube(burn::cubecl::Device::Wgpu(_)))
}

/// A shader with values for its constants: what is compiled once and then launched many times.
struct Instance {
    shader: Shader,
    constants: Vec<(&'static str, u32)>,
}

impl KernelSource for Instance {
    fn source(&self) -> SourceTemplate {
        SourceTemplate::new(self.shader.with(&self.constants))
    }

    fn id(&self) -> KernelId {
        let [x, y, z] = self.shader.workgroup_size;
        KernelId::new::<Self>()
            .info((self.shader, self.constants.clone()))
            .cube_dim(CubeDim::new_3d(x, y, z).into())
            // Checked mode would count the rounds of every loop; ours all end.
            .mode(ExecutionMode::Unchecked)
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

/// Enqueues `shader` with `constants` on `workgroups` of its workgroups. `tensors` are bindings 0, 1, ... in order;
/// `params` follow as the last binding, where there are any.
///
/// # Panics
///
/// If a tensor is not contiguous, a constant is unknown, or a dimension has more workgroups than WebGPU's default
/// limit.
pub(crate) fn launch(
    shader: Shader,
    constants: &[(&'static str, u32)],
    tensors: &[&CubeTensor],
    params: &[u32],
    workgroups: [usize; 3],
) {
    let name = shader.name;
    let [x, y, z] = workgroups.map(|count| {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        assert!(count <= MAX_WORKGROUPS, "{name}: {workgroups:?} workgroups, at most {MAX_WORKGROUPS} per dimension");
        count
    });
    let mut arguments = KernelArguments::new();
    for tensor in tensors {
        assert!(tensor.is_contiguous(), "{name}: {tensor:?} is not contiguous");
        arguments = arguments.with_buffer(tensor.handle.clone().binding());
    }
    if !params.is_empty() {
        let words =
            params.chunks(2).map(|pair| u64::from(pair[0]) | pair.get(1).map_or(0, |&high| u64::from(high) << 32));
        arguments = arguments.with_info(MetadataBindingInfo::custom(words.collect()));
    }
    let [dim_x, dim_y, dim_z] = shader.workgroup_size;
    let kernel =
        SourceKernel::new(Instance { shader, constants: constants.to_vec() }, CubeDim::new_3d(dim_x, dim_y, dim_z));
    let client = &tensors.first().expect("a kernel has at least one tensor").client;
    client.launch(Box::new(kernel), CubeCount::Static(x, y, z), arguments);
}

/// The tensor in row-major order without gaps, copied only if need be.
///
/// # Panics
///
/// If its values are not `f32`.
pub(crate) fn contiguous(tensor: CubeTensor) -> CubeTensor {
    assert_eq!(tensor.dtype, DType::F32, "the WGSL kernels compute in f32");
    into_contiguous(tensor)
}

/// An uninitialised `f32` tensor on the device of `like`.
pub(crate) fn allocate(like: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    let shape = shape.into();
    let handle = like.client.empty(shape.num_elements() * size_of::<f32>());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, DType::F32)
}
