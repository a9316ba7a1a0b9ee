//! Where the WGSL kernels live: text only, so that they can be read, validated and reused without the rest.
//!
//! There are none yet. On a GPU the networks run on Burn's own kernels; a shader joins when it is measured to beat them.
