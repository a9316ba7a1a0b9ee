//! Where the WGSL kernels live: text only, so that they can be read, validated and reused without the rest.
//!
//! Each file opens with its operation, shapes, bindings, dispatch size and limits. Sizes that a kernel is specialised
//! for are `const NAME: u32 = value;` lines at the start of a line, with values small enough to validate;
//! [`Shader::with`] replaces the values, and nothing else. Sizes that change from call to call arrive in the last
//! binding, `params`.
//!
//! What all of them keep to, checked by this crate's tests:
//!
//! - WebGPU's default limits: 256 invocations and 16,384 bytes of shared memory per workgroup, 8 storage buffers, so
//!   that they run wherever WebGPU does;
//! - one entry point, `main`;
//! - tensors are `var<storage, read_write>` even where they are only read: several may lie in one buffer of the
//!   runtime's pool, which may not be bound in two ways at once. `params` comes from another pool and is `read`.
//!
//! The runtime adds no bounds checks: a kernel guards every access itself.

/// A kernel: its text, and what must be known of it to launch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shader {
    /// File name without the extension.
    pub name: &'static str,
    /// WGSL, with the constants' default values.
    pub source: &'static str,
    /// Invocations per workgroup, as in the text's `@workgroup_size`.
    pub workgroup_size: [u32; 3],
}

/// Convolution, batch norm, ReLU and max-pool of one module, for inference.
pub const INFER_BLOCK: Shader =
    Shader { name: "infer_block", source: include_str!("../infer_block.wgsl"), workgroup_size: [256, 1, 1] };

/// A fully connected layer, for inference.
pub const INFER_DENSE: Shader =
    Shader { name: "infer_dense", source: include_str!("../infer_dense.wgsl"), workgroup_size: [256, 1, 1] };

/// Noises mixed into music at a signal-to-noise ratio.
pub const MIX_SNR: Shader =
    Shader { name: "mix_snr", source: include_str!("../mix_snr.wgsl"), workgroup_size: [256, 1, 1] };

/// The sum of a weight gradient's parts.
pub const SUM_PARTS: Shader =
    Shader { name: "sum_parts", source: include_str!("../sum_parts.wgsl"), workgroup_size: [256, 1, 1] };

/// A convolution in training, or one of its gradients.
pub const TRAIN_CONV: Shader =
    Shader { name: "train_conv", source: include_str!("../train_conv.wgsl"), workgroup_size: [256, 1, 1] };

/// Every kernel.
pub const ALL: &[Shader] = &[INFER_BLOCK, INFER_DENSE, MIX_SNR, SUM_PARTS, TRAIN_CONV];

/// Most workgroups that one dimension of a dispatch may have, by WebGPU's default limits.
pub const MAX_WORKGROUPS: u32 = 65_535;

impl Shader {
    /// The text with other values for its constants.
    ///
    /// # Panics
    ///
    /// If there is no `const NAME: u32 = ...;` line for a name.
    pub fn with(&self, constants: &[(&str, u32)]) -> String {
        let mut lines: Vec<String> = self.source.lines().map(str::to_owned).collect();
        for (name, value) in constants {
            let declaration = format!("const {name}: u32 = ");
            let line = lines.iter_mut().find(|line| line.starts_with(&declaration));
            let line = line.unwrap_or_else(|| panic!("{} has no constant '{name}: u32'", self.name));
            *line = format!("{declaration}{value}u;");
        }
        lines.join("\n")
    }
}
