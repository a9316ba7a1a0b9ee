//! The passes that follow a matrix product, and the buffers of a tile.

use std::cell::RefCell;

/// `dst = max(0, max(rows 0, 1, 2 of y) + bias)`: bias, ReLU and max-pool 3 in one pass over `y` `[3 * groups, n]`.
pub(crate) fn bias_relu_pool3(y: &[f32], bias: &[f32], dst: &mut [f32]) {
    let n = bias.len();
    for (rows, dst) in y.chunks_exact(3 * n).zip(dst.chunks_exact_mut(n)) {
        let (first, rest) = rows.split_at(n);
        let (second, third) = rest.split_at(n);
        for ((((d, a), b), c), bias) in dst.iter_mut().zip(first).zip(second).zip(third).zip(bias) {
            *d = (a.max(*b).max(*c) + bias).max(0.0);
        }
    }
}

/// `y = max(0, y + bias)` on `y` `[rows, n]`.
pub(crate) fn bias_relu(y: &mut [f32], bias: &[f32]) {
    for row in y.chunks_exact_mut(bias.len()) {
        for (value, bias) in row.iter_mut().zip(bias) {
            *value = (*value + bias).max(0.0);
        }
    }
}

/// `y = y + bias` on `y` `[rows, n]`.
pub(crate) fn add_bias(y: &mut [f32], bias: &[f32]) {
    for row in y.chunks_exact_mut(bias.len()) {
        for (value, bias) in row.iter_mut().zip(bias) {
            *value += bias;
        }
    }
}

/// Two growing buffers of the calling thread: convolution input and output of one tile.
///
/// They keep their size between calls, so a stream that has warmed up does not allocate.
pub(crate) fn with_scratch<R>(
    input_len: usize,
    output_len: usize,
    body: impl FnOnce(&mut [f32], &mut [f32]) -> R,
) -> R {
    thread_local! {
        static SCRATCH: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
    }
    SCRATCH.with_borrow_mut(|(input, output)| {
        if input.len() < input_len {
            input.resize(input_len, 0.0);
        }
        if output.len() < output_len {
            output.resize(output_len, 0.0);
        }
        body(&mut input[..input_len], &mut output[..output_len])
    })
}

#[cfg(test)]
#[allow(clippy::float_cmp)]
mod tests {
    use super::*;

    #[test]
    fn pool_takes_the_largest_of_three_after_bias_and_relu() {
        let y = [1.0, -5.0, 3.0, -4.0, 2.0, -9.0];
        let mut dst = [f32::NAN; 2];
        bias_relu_pool3(&y, &[0.5, 1.0], &mut dst);
        assert_eq!(dst, [3.5, 0.0]);
    }
}
