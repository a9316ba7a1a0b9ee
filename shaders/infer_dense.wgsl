// A fully connected layer in inference, with ReLU or without: SampleCNN's last module, which sees one position, and the
// layers of the head.
//
//   output[r, o] = f(bias[o] + sum over i of input[r, i] * weight[i, o]),  f(y) = max(0, y) if RELU is 1, else y
//
// Shapes: input [rows, IN_CHANNELS]; weight [IN_CHANNELS, OUT_CHANNELS]; bias [OUT_CHANNELS];
//   output [rows, OUT_CHANNELS]. All f32 and contiguous.
// Bindings: 0 input, 1 weight, 2 bias, 3 output, 4 params.
// Dispatch: (ceil(rows / 16), ceil(OUT_CHANNELS / 64), 1) workgroups of 256.
// Limits: channels are multiples of 4; 10,240 bytes of workgroup memory, 5 storage buffers.
// Source: the tiled matrix product of any textbook. A workgroup computes 16 rows x 64 channels, an invocation 4 of
//   them; 32 input channels at a time pass through workgroup memory. It is a hundredth of the network's work, so it
//   stays simple; it is here because the backend's own product would be tuned anew for every number of windows.

const IN_CHANNELS: u32 = 8u;
const OUT_CHANNELS: u32 = 8u;
const RELU: u32 = 1u;

const IN_QUADS: u32 = IN_CHANNELS / 4u;
const OUT_QUADS: u32 = OUT_CHANNELS / 4u;
const TILE_ROWS: u32 = 16u;
const TILE_OUT_QUADS: u32 = 16u;
const TILE_IN_QUADS: u32 = 8u;

struct Params {
    rows: u32,
}

@group(0) @binding(0) var<storage, read_write> input: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> params: Params;

// [row, input quad]
var<workgroup> input_tile: array<vec4<f32>, 128>;
// [input channel, output quad]
var<workgroup> weight_tile: array<vec4<f32>, 512>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let first_row = group.x * TILE_ROWS;
    let row = invocation / TILE_OUT_QUADS;
    let out_quad = group.y * TILE_OUT_QUADS + invocation % TILE_OUT_QUADS;

    var sum = vec4<f32>();
    for (var block = 0u; block < IN_QUADS; block += TILE_IN_QUADS) {
        workgroupBarrier();
        if invocation < 128u {
            let load_row = first_row + invocation / TILE_IN_QUADS;
            let in_quad = block + invocation % TILE_IN_QUADS;
            var value = vec4<f32>();
            if load_row < params.rows && in_quad < IN_QUADS {
                value = input[load_row * IN_QUADS + in_quad];
            }
            input_tile[invocation] = value;
        }
        for (var i = row; i < 32u; i += TILE_ROWS) {
            let channel = 4u * block + i;
            var value = vec4<f32>();
            if channel < IN_CHANNELS && out_quad < OUT_QUADS {
                value = weight[channel * OUT_QUADS + out_quad];
            }
            weight_tile[i * TILE_OUT_QUADS + invocation % TILE_OUT_QUADS] = value;
        }
        workgroupBarrier();

        for (var k = 0u; k < TILE_IN_QUADS; k++) {
            let x = input_tile[row * TILE_IN_QUADS + k];
            let w = 4u * k * TILE_OUT_QUADS + invocation % TILE_OUT_QUADS;
            sum = fma(vec4(x.x), weight_tile[w], sum);
            sum = fma(vec4(x.y), weight_tile[w + 16u], sum);
            sum = fma(vec4(x.z), weight_tile[w + 32u], sum);
            sum = fma(vec4(x.w), weight_tile[w + 48u], sum);
        }
    }

    if first_row + row < params.rows && out_quad < OUT_QUADS {
        sum += bias[out_quad];
        output[(first_row + row) * OUT_QUADS + out_quad] = select(sum, max(sum, vec4<f32>()), RELU == 1u);
    }
}
