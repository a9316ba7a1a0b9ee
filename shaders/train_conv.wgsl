// A convolution in training and its gradients, kernel KERNEL, stride STRIDE, padding PAD:
//
//   0 forward          y[b, o, p]  = bias[o] + sum over i, t of weight[o, i, t] * x[b, i, p * STRIDE + t - PAD]
//   1 input gradient   dx[b, i, q] = sum over o, t of weight[o, i, t] * dy[b, o, p] where p * STRIDE + t - PAD = q
//   2 weight gradient  dw[o, i, t] = sum over b, p of dy[b, o, p] * x[b, i, p * STRIDE + t - PAD]
//
// b is the sample, i and o the input and output channel, t the tap, p and q the output and input position. All three
// are one matrix product, left [rows, depth] times right [depth, columns], with other readings of the indices:
//
//   PASS                rows   depth   columns   left      right   output
//   0 forward           o      i, t    b, p      weight    x       y
//   1 input gradient    i      o, t    b, q      weight    dy      dx
//   2 weight gradient   o      b, p    i, t      dy        x       dw, a part per workgroup in z
//
// Shapes: x, dx [batch, in_channels, len_in]; y, dy [batch, out_channels, len_out]; weight [out_channels, in_channels,
//   KERNEL]; dw [parts, out_channels, in_channels, KERNEL], to be added up over parts, each of which has depth_per_part
//   of the depth; bias [out_channels], read in pass 0 alone. All f32 and contiguous.
// Bindings: 0 left, 1 right, 2 bias, 3 output, 4 params.
// Dispatch: (ceil(columns / 128), ceil(rows / 64), parts) workgroups of 256; parts is 1 but in pass 2, where rows and
//   columns alone would not keep a GPU busy.
// Limits: at most 2^30 numbers per tensor, lengths below 2^28; 12,800 bytes of workgroup memory, 5 storage buffers.
// Source: implicit GEMM as in "cuDNN: Efficient Primitives for Deep Learning" (Chetlur et al. 2014). A workgroup
//   computes 64 rows x 128 columns, an invocation 4 x 8 of them, 16 of the depth at a time. The next 16 are on their way
//   from memory while the current 16 are multiplied.

const PASS: u32 = 0u;
const KERNEL: u32 = 3u;
const STRIDE: u32 = 1u;
const PAD: u32 = 1u;

const FORWARD: u32 = 0u;
const INPUT_GRADIENT: u32 = 1u;
const WEIGHT_GRADIENT: u32 = 2u;

const TILE_ROWS: u32 = 64u;
const TILE_COLUMNS: u32 = 128u;
const TILE_DEPTH: u32 = 16u;

// Four rows or columns travel as one vec4. They lie a quarter of the tile apart, so that neighbouring invocations read
// and write neighbouring positions.
const ROW_QUADS: u32 = 16u;
const COLUMN_QUADS: u32 = 32u;
const QUARTERS = vec4<u32>(0u, 1u, 2u, 3u);
// One quad more than there are, so that invocations that differ in depth store to different banks.
const LEFT_STRIDE: u32 = 17u;
const RIGHT_STRIDE: u32 = 33u;

// The inner index of what lies beyond the last column: no position comes of it that a tensor has.
const NOWHERE: u32 = 0x40000000u;

struct Params {
    batch: u32,
    in_channels: u32,
    out_channels: u32,
    len_in: u32,
    len_out: u32,
    depth_per_part: u32,
}

@group(0) @binding(0) var<storage, read_write> left: array<f32>;
@group(0) @binding(1) var<storage, read_write> right: array<f32>;
@group(0) @binding(2) var<storage, read_write> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;
@group(0) @binding(4) var<storage, read> params: Params;

// [depth, quad of rows] and [depth, quad of columns]
var<workgroup> left_tile: array<vec4<f32>, 272>;
var<workgroup> right_tile: array<vec4<f32>, 528>;

// Rows, depth and columns of the product.
fn extent() -> vec3<u32> {
    let positions_out = params.batch * params.len_out;
    if PASS == INPUT_GRADIENT {
        return vec3(params.in_channels, params.out_channels * KERNEL, params.batch * params.len_in);
    }
    if PASS == WEIGHT_GRADIENT {
        return vec3(params.out_channels, positions_out, params.in_channels * KERNEL);
    }
    return vec3(params.out_channels, params.in_channels * KERNEL, positions_out);
}

// How many values the second of the two indices has that make up the depth.
fn depth_inner() -> u32 {
    return select(KERNEL, params.len_out, PASS == WEIGHT_GRADIENT);
}

// The same for the columns.
fn column_inner() -> u32 {
    if PASS == INPUT_GRADIENT {
        return params.len_in;
    }
    return select(params.len_out, KERNEL, PASS == WEIGHT_GRADIENT);
}

fn left_value(row: u32, depth: u32, size: vec3<u32>, end: u32) -> f32 {
    if row >= size.x || depth >= end {
        return 0.0;
    }
    if PASS == FORWARD {
        return left[row * size.y + depth];
    }
    let outer = depth / depth_inner();
    let inner = depth % depth_inner();
    return left[(outer * size.x + row) * depth_inner() + inner];
}

// x[b, i, p * STRIDE + t - PAD], 0 in the padding. Positions before the first wrap around to large ones.
fn input_value(b: u32, i: u32, p: u32, t: u32) -> f32 {
    let position = p * STRIDE + t - PAD;
    if position >= params.len_in {
        return 0.0;
    }
    return right[(b * params.in_channels + i) * params.len_in + position];
}

// dy[b, o, p] where p * STRIDE + t - PAD = q, 0 if there is no such p.
fn output_gradient_value(b: u32, o: u32, q: u32, t: u32) -> f32 {
    let reach = q + PAD - t;
    if reach % STRIDE != 0u || reach / STRIDE >= params.len_out {
        return 0.0;
    }
    return right[(b * params.out_channels + o) * params.len_out + reach / STRIDE];
}

fn right_value(depth: u32, column: vec2<u32>, end: u32) -> f32 {
    if depth >= end {
        return 0.0;
    }
    let outer = depth / depth_inner();
    let inner = depth % depth_inner();
    if PASS == WEIGHT_GRADIENT {
        return input_value(outer, column.x, inner, column.y);
    }
    if PASS == INPUT_GRADIENT {
        return output_gradient_value(column.x, outer, column.y, inner);
    }
    return input_value(column.x, outer, column.y, inner);
}

// Four columns by their outer and inner index.
struct Columns {
    outer: vec4<u32>,
    inner: vec4<u32>,
}

fn columns_at(first: u32, size: vec3<u32>) -> Columns {
    let columns = first + COLUMN_QUADS * QUARTERS;
    let inner = columns % column_inner();
    return Columns(columns / column_inner(), select(vec4(NOWHERE), inner, columns < vec4(size.z)));
}

fn left_quad(first_row: u32, depth: u32, size: vec3<u32>, end: u32) -> vec4<f32> {
    return vec4(
        left_value(first_row, depth, size, end),
        left_value(first_row + ROW_QUADS, depth, size, end),
        left_value(first_row + 2u * ROW_QUADS, depth, size, end),
        left_value(first_row + 3u * ROW_QUADS, depth, size, end),
    );
}

fn right_quad(depth: u32, columns: Columns, end: u32) -> vec4<f32> {
    return vec4(
        right_value(depth, vec2(columns.outer.x, columns.inner.x), end),
        right_value(depth, vec2(columns.outer.y, columns.inner.y), end),
        right_value(depth, vec2(columns.outer.z, columns.inner.z), end),
        right_value(depth, vec2(columns.outer.w, columns.inner.w), end),
    );
}

// sums += a b^T: a column of the matrix per row of the product.
fn multiply_add(sums: ptr<function, mat4x4<f32>>, a: vec4<f32>, b: vec4<f32>) {
    (*sums)[0] = fma(vec4(a.x), b, (*sums)[0]);
    (*sums)[1] = fma(vec4(a.y), b, (*sums)[1]);
    (*sums)[2] = fma(vec4(a.z), b, (*sums)[2]);
    (*sums)[3] = fma(vec4(a.w), b, (*sums)[3]);
}

// One column of four rows.
fn store(first_row: u32, column: vec2<u32>, values: vec4<f32>, size: vec3<u32>, part: u32) {
    if column.y == NOWHERE {
        return;
    }
    for (var quarter = 0u; quarter < 4u; quarter++) {
        let row = first_row + ROW_QUADS * quarter;
        if row >= size.x {
            return;
        }
        if PASS == WEIGHT_GRADIENT {
            output[(part * size.x + row) * size.z + column.x * KERNEL + column.y] = values[quarter];
        } else {
            var value = values[quarter];
            if PASS == FORWARD {
                value += bias[row];
            }
            output[(column.x * size.x + row) * column_inner() + column.y] = value;
        }
    }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let size = extent();
    let first_column = group.x * TILE_COLUMNS;
    let first_row = group.y * TILE_ROWS;
    let begin = group.z * params.depth_per_part;
    let end = min(begin + params.depth_per_part, size.y);

    // What this invocation loads of every tile: neighbours along that index which is contiguous in memory.
    let left_depth = select(invocation % TILE_DEPTH, invocation / ROW_QUADS, PASS == INPUT_GRADIENT);
    let left_row = select(invocation / TILE_DEPTH, invocation % ROW_QUADS, PASS == INPUT_GRADIENT);
    let right_depth = select(invocation / COLUMN_QUADS, invocation % TILE_DEPTH, PASS == WEIGHT_GRADIENT);
    let right_column = select(invocation % COLUMN_QUADS, invocation / TILE_DEPTH, PASS == WEIGHT_GRADIENT);
    // It loads two quads on the right, half a tile apart.
    let depth_apart = select(TILE_DEPTH / 2u, 0u, PASS == WEIGHT_GRADIENT);
    let column_apart = select(0u, COLUMN_QUADS / 2u, PASS == WEIGHT_GRADIENT);
    let columns0 = columns_at(first_column + right_column, size);
    let columns1 = columns_at(first_column + right_column + column_apart, size);

    // What it computes: the quad of rows `row`, and of columns `column` and `column + 16`.
    let row = invocation / 16u;
    let column = invocation % 16u;
    var sums0 = mat4x4<f32>();
    var sums1 = mat4x4<f32>();

    var next_left = left_quad(first_row + left_row, begin + left_depth, size, end);
    var next_right0 = right_quad(begin + right_depth, columns0, end);
    var next_right1 = right_quad(begin + right_depth + depth_apart, columns1, end);
    for (var depth = begin; depth < end; depth += TILE_DEPTH) {
        workgroupBarrier();
        left_tile[left_depth * LEFT_STRIDE + left_row] = next_left;
        right_tile[right_depth * RIGHT_STRIDE + right_column] = next_right0;
        right_tile[(right_depth + depth_apart) * RIGHT_STRIDE + right_column + column_apart] = next_right1;
        workgroupBarrier();

        let next = depth + TILE_DEPTH;
        next_left = left_quad(first_row + left_row, next + left_depth, size, end);
        next_right0 = right_quad(next + right_depth, columns0, end);
        next_right1 = right_quad(next + right_depth + depth_apart, columns1, end);
        for (var k = 0u; k < TILE_DEPTH; k++) {
            let a = left_tile[k * LEFT_STRIDE + row];
            multiply_add(&sums0, a, right_tile[k * RIGHT_STRIDE + column]);
            multiply_add(&sums1, a, right_tile[k * RIGHT_STRIDE + column + COLUMN_QUADS / 2u]);
        }
    }

    // A column of the product over this invocation's four rows.
    let by_column0 = transpose(sums0);
    let by_column1 = transpose(sums1);
    let stored0 = columns_at(first_column + column, size);
    let stored1 = columns_at(first_column + column + COLUMN_QUADS / 2u, size);
    for (var quarter = 0u; quarter < 4u; quarter++) {
        store(first_row + row, vec2(stored0.outer[quarter], stored0.inner[quarter]), by_column0[quarter], size, group.z);
        store(first_row + row, vec2(stored1.outer[quarter], stored1.inner[quarter]), by_column1[quarter], size, group.z);
    }
}
