// One module of SampleCNN in inference: kernel-3 convolution with batch norm folded into it, ReLU and max-pool 3 in one
// pass: what lies between them never leaves the registers. Optionally module 1 (kernel and stride 3) is computed on the
// way in, from samples.
//
//   output[g, o] = max(0, max over p in 0..3 of  bias[o] + sum over tap, i of  row(g, p + tap)[i] * weight[tap, i, o])
//
// Output row g is a pool of three positions, which see five input rows, row(g, 0) .. row(g, 4). Which rows these are is
// the only difference between a batch of windows and windows that share their activations (core/src/engine/sliding.rs):
//
//   g <  shared_rows / 3   pool g of the first shared_rows rows, one sequence that all windows share
//   g >= shared_rows / 3   pool q of window t; g - shared_rows / 3 = t * window_pools + q
//
// Window t is window_len rows from row t * window_hop on. Its first and its last row are rows edges + 2 t and
// edges + 2 t + 1 instead, unless edges is NONE. It has window_pools = window_len / 3 pools, or two: the first and the
// last. Beyond the ends of a sequence rows are zero.
//
// Shapes: input [rows, IN_CHANNELS], or samples [3 rows] if FIRST_MODULE is 1; weight [3, IN_CHANNELS, OUT_CHANNELS];
//   bias [OUT_CHANNELS]; first [4, IN_CHANNELS], module 1's three taps and its bias, not read unless FIRST_MODULE is 1;
//   output [shared_rows / 3 + windows * window_pools, OUT_CHANNELS]. All f32 and contiguous.
// Bindings: 0 input, 1 weight, 2 bias, 3 first, 4 output, 5 params.
// Dispatch: (ceil(output rows / 64), ceil(OUT_CHANNELS / 64), 1) workgroups of 256.
// Limits: channels and the number of samples are multiples of 4, shared_rows and window_len of 3; 16,384 bytes of
//   workgroup memory, 6 storage buffers.
// Source: implicit GEMM as in "cuDNN: Efficient Primitives for Deep Learning" (Chetlur et al. 2014), with the pool's
//   positions kept in one invocation's registers. A workgroup computes 64 pools x 64 channels, an invocation 2 pools
//   (6 positions) x 8 channels. Eight input channels at a time pass through workgroup memory.

const IN_CHANNELS: u32 = 8u;
const OUT_CHANNELS: u32 = 8u;
const FIRST_MODULE: u32 = 0u;

const NONE: u32 = 0xffffffffu;

// Channels are counted in quads: everything moves as vec4.
const IN_QUADS: u32 = IN_CHANNELS / 4u;
const OUT_QUADS: u32 = OUT_CHANNELS / 4u;
const TILE_POOLS: u32 = 64u;
const TILE_OUT_QUADS: u32 = 16u;
const TILE_IN_QUADS: u32 = 2u;
const POOL_ROWS: u32 = 5u;

struct Params {
    shared_rows: u32,
    windows: u32,
    window_len: u32,
    window_hop: u32,
    window_pools: u32,
    edges: u32,
}

@group(0) @binding(0) var<storage, read_write> input: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> first: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> output: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> params: Params;

// [pool, row of its five, quad]
var<workgroup> input_tile: array<vec4<f32>, 640>;
// [tap, input quad, input channel of the quad, output quad]
var<workgroup> weight_tile: array<vec4<f32>, 384>;

// Input row that output row `g` sees at offset 0 .. 4, or NONE where it sees zeros.
fn input_row(g: u32, offset: u32) -> u32 {
    let shared_pools = params.shared_rows / 3u;
    if g < shared_pools {
        let row = 3u * g + offset; // one more than the row
        return select(NONE, row - 1u, row >= 1u && row <= params.shared_rows);
    }
    let window = (g - shared_pools) / params.window_pools;
    let pool = (g - shared_pools) % params.window_pools;
    if window >= params.windows {
        return NONE;
    }
    let start = select(3u * pool, params.window_len - 3u, pool + 1u == params.window_pools);
    let position = start + offset; // one more than the position in the window
    if position == 0u || position > params.window_len {
        return NONE;
    }
    if params.edges != NONE && position == 1u {
        return params.edges + 2u * window;
    }
    if params.edges != NONE && position == params.window_len {
        return params.edges + 2u * window + 1u;
    }
    return window * params.window_hop + position - 1u;
}

fn sample(index: u32) -> f32 {
    return input[index / 4u][index % 4u];
}

// Four channels of an input row.
fn input_quad(row: u32, quad: u32) -> vec4<f32> {
    if row == NONE || quad >= IN_QUADS {
        return vec4<f32>();
    }
    if FIRST_MODULE == 1u {
        var sum = first[3u * IN_QUADS + quad];
        sum = fma(vec4(sample(3u * row)), first[quad], sum);
        sum = fma(vec4(sample(3u * row + 1u)), first[IN_QUADS + quad], sum);
        sum = fma(vec4(sample(3u * row + 2u)), first[2u * IN_QUADS + quad], sum);
        return max(sum, vec4<f32>());
    }
    return input[row * IN_QUADS + quad];
}

// A quad of output channels for four input channels.
fn weight_quads(i: u32) -> array<vec4<f32>, 4> {
    return array<vec4<f32>, 4>(weight_tile[i], weight_tile[i + 16u], weight_tile[i + 32u], weight_tile[i + 48u]);
}

// sum + x . w, for four input channels and four output channels.
fn multiply_add(x: vec4<f32>, w: array<vec4<f32>, 4>, sum: vec4<f32>) -> vec4<f32> {
    return fma(vec4(x.w), w[3], fma(vec4(x.z), w[2], fma(vec4(x.y), w[1], fma(vec4(x.x), w[0], sum))));
}

fn output_rows() -> u32 {
    return params.shared_rows / 3u + params.windows * params.window_pools;
}

// Max-pool, bias and ReLU: the bias is the same at all three positions and ReLU monotone, so both may follow the pool.
fn store(g: u32, out_quad: u32, y0: vec4<f32>, y1: vec4<f32>, y2: vec4<f32>) {
    if g < output_rows() && out_quad < OUT_QUADS {
        output[g * OUT_QUADS + out_quad] = max(max(max(y0, y1), y2) + bias[out_quad], vec4<f32>());
    }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let first_pool = group.x * TILE_POOLS;
    let first_quad = group.y * TILE_OUT_QUADS;
    // This invocation's two pools and two quads of output channels in the tile.
    let pool = invocation / 8u;
    let quad = invocation % 8u;

    // What this invocation loads of every input tile: 640 quads, neighbours in a row side by side.
    let load_quad = invocation % 2u;
    let slot = invocation / 2u;
    let row0 = input_row(first_pool + slot / POOL_ROWS, slot % POOL_ROWS);
    let row1 = input_row(first_pool + (slot + 128u) / POOL_ROWS, (slot + 128u) % POOL_ROWS);
    let row2 = input_row(first_pool + (slot + 256u) / POOL_ROWS, (slot + 256u) % POOL_ROWS);

    // In the last tile whole subgroups may have no pool; the late blocks of a lone window are little else.
    let busy = first_pool + pool < output_rows() && first_quad + quad < OUT_QUADS;

    // Two pools of three positions, each with quads `quad` (a) and `quad + 8` (b).
    var a00 = vec4<f32>();
    var a01 = vec4<f32>();
    var a02 = vec4<f32>();
    var a10 = vec4<f32>();
    var a11 = vec4<f32>();
    var a12 = vec4<f32>();
    var b00 = vec4<f32>();
    var b01 = vec4<f32>();
    var b02 = vec4<f32>();
    var b10 = vec4<f32>();
    var b11 = vec4<f32>();
    var b12 = vec4<f32>();

    for (var block = 0u; block < IN_QUADS; block += TILE_IN_QUADS) {
        workgroupBarrier();
        input_tile[invocation] = input_quad(row0, block + load_quad);
        input_tile[invocation + 256u] = input_quad(row1, block + load_quad);
        if invocation < 128u {
            input_tile[invocation + 512u] = input_quad(row2, block + load_quad);
        }
        for (var i = invocation; i < 384u; i += 256u) {
            let tap = i / 128u;
            let channel = 4u * block + (i / TILE_OUT_QUADS) % 8u;
            let out_quad = first_quad + i % TILE_OUT_QUADS;
            var value = vec4<f32>();
            if channel < IN_CHANNELS && out_quad < OUT_QUADS {
                value = weight[(tap * IN_CHANNELS + channel) * OUT_QUADS + out_quad];
            }
            weight_tile[i] = value;
        }
        workgroupBarrier();

        if busy {
            for (var k = 0u; k < 6u; k++) {
                let tap = k % 3u;
                let in_quad = k / 3u;
                let x = (pool * POOL_ROWS + tap) * TILE_IN_QUADS + in_quad;
                let x00 = input_tile[x];
                let x01 = input_tile[x + TILE_IN_QUADS];
                let x02 = input_tile[x + 2u * TILE_IN_QUADS];
                let x10 = input_tile[x + 320u];
                let x11 = input_tile[x + 320u + TILE_IN_QUADS];
                let x12 = input_tile[x + 320u + 2u * TILE_IN_QUADS];
                let w = (tap * 8u + in_quad * 4u) * TILE_OUT_QUADS + quad;
                let wa = weight_quads(w);
                a00 = multiply_add(x00, wa, a00);
                a01 = multiply_add(x01, wa, a01);
                a02 = multiply_add(x02, wa, a02);
                a10 = multiply_add(x10, wa, a10);
                a11 = multiply_add(x11, wa, a11);
                a12 = multiply_add(x12, wa, a12);
                let wb = weight_quads(w + 8u);
                b00 = multiply_add(x00, wb, b00);
                b01 = multiply_add(x01, wb, b01);
                b02 = multiply_add(x02, wb, b02);
                b10 = multiply_add(x10, wb, b10);
                b11 = multiply_add(x11, wb, b11);
                b12 = multiply_add(x12, wb, b12);
            }
        }
    }

    store(first_pool + pool, first_quad + quad, a00, a01, a02);
    store(first_pool + pool, first_quad + quad + 8u, b00, b01, b02);
    store(first_pool + pool + 32u, first_quad + quad, a10, a11, a12);
    store(first_pool + pool + 32u, first_quad + quad + 8u, b10, b11, b12);
}
