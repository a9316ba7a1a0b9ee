// Mixes noises into music at a signal-to-noise ratio. Powers are measured here, over the whole window.
//
//   noise[s]     = sum over n of noises[b, n, s]
//   output[b, s] = clean[b, s] + noise[s] * sqrt(P_clean / P_noise) * 10^(-snr_db[b] / 20)
//
// with P the sum of squares over s. If either P is zero, output = clean. P is an f32 sum: samples may reach about 1e16,
// and below about 1e-19 they count as silence.
//
// Shapes: clean [batch, samples]; noises [batch, NUM_NOISES, samples]; snr_db [batch]; output [batch, samples]. All f32
//   and contiguous.
// Bindings: 0 clean, 1 noises, 2 snr_db, 3 output, 4 params.
// Dispatch: (batch, 1, 1) workgroups of 256: one workgroup measures a sample, then mixes it. It reads everything twice,
//   the second time mostly from the cache; next to a training step neither counts, and no second launch has to wait.
// Limits: batch at most 65,535; 2,048 bytes of workgroup memory, 5 storage buffers.
// Source: the definition of the ratio; a tree adds up the invocations' sums, always in the same order.

const NUM_NOISES: u32 = 1u;

struct Params {
    samples: u32,
}

@group(0) @binding(0) var<storage, read_write> clean: array<f32>;
@group(0) @binding(1) var<storage, read_write> noises: array<f32>;
@group(0) @binding(2) var<storage, read_write> snr_db: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;
@group(0) @binding(4) var<storage, read> params: Params;

const INVOCATIONS: u32 = 256u;

// Powers of the music (x) and of the noise (y), per invocation.
var<workgroup> powers: array<vec2<f32>, 256>;

// The sum of a sample's noises.
fn noise(item: u32, s: u32) -> f32 {
    var sum = 0.0;
    for (var n = 0u; n < NUM_NOISES; n++) {
        sum += noises[(item * NUM_NOISES + n) * params.samples + s];
    }
    return sum;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let item = group.x;
    var power = vec2<f32>();
    for (var s = invocation; s < params.samples; s += INVOCATIONS) {
        let pair = vec2(clean[item * params.samples + s], noise(item, s));
        power = fma(pair, pair, power);
    }
    powers[invocation] = power;
    workgroupBarrier();
    for (var width = INVOCATIONS / 2u; width > 0u; width /= 2u) {
        if invocation < width {
            powers[invocation] += powers[invocation + width];
        }
        workgroupBarrier();
    }

    // Roots before the ratio: the ratio of two powers may leave the range of f32, that of two amplitudes cannot.
    let amplitude = sqrt(powers[0]);
    var factor = 0.0;
    if amplitude.x > 0.0 && amplitude.y > 0.0 {
        factor = amplitude.x / amplitude.y * pow(10.0, -snr_db[item] / 20.0);
    }
    for (var s = invocation; s < params.samples; s += INVOCATIONS) {
        let at = item * params.samples + s;
        output[at] = fma(factor, noise(item, s), clean[at]);
    }
}
