// Adds up the parts of a weight gradient (train_conv.wgsl), always in the same order, so that training is repeatable.
//
//   output[j] = sum over part of input[part, j]
//
// Shapes: input [parts, len]; output [len]. All f32 and contiguous.
// Bindings: 0 input, 1 output, 2 params.
// Dispatch: (ceil(len / 256), 1, 1) workgroups of 256.
// Limits: len at most 65,535 * 256; 3 storage buffers.
// Source: the definition.

struct Params {
    parts: u32,
    len: u32,
}

@group(0) @binding(0) var<storage, read_write> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;
@group(0) @binding(2) var<storage, read> params: Params;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) invocation: vec3<u32>) {
    let j = invocation.x;
    if j >= params.len {
        return;
    }
    var sum = 0.0;
    for (var part = 0u; part < params.parts; part++) {
        sum += input[part * params.len + j];
    }
    output[j] = sum;
}
