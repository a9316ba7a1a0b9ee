//! The one matrix product that inference and training run on: a bounds-checked door to the `gemm` crate, which picks
//! AVX-512, AVX2 or NEON at run time.
//!
//! Activations are channels-last: a sequence is a matrix `[positions, channels]`, one position per contiguous row. A
//! kernel-3 convolution then needs no im2col: the three rows it reads for a position are one contiguous run, so the
//! operand is the activation itself, seen as overlapping rows of `3 * channels` values that start `channels` apart.
//!
//! ```text
//! x      [ .. | row p-1 | row p | row p+1 | row p+2 | .. ]
//! A[p]   =    [-----------------------------]
//! A[p+1] =              [-----------------------------]          y = A . W,   W [3 * channels, out]
//! ```

use gemm::Parallelism;

/// A matrix inside a slice: element `(row, column)` lies at `row * row_stride + column * column_stride`. Rows may
/// overlap in an operand that is only read, which is how a convolution becomes one product without copying its input.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    /// Storage; element (0, 0) first.
    pub(crate) data: &'a [f32],
    /// Distance between rows.
    pub(crate) row_stride: usize,
    /// Distance between columns.
    pub(crate) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `columns` numbers one after the other, each starting `row_stride` after the last.
    pub(crate) fn rows(data: &'a [f32], row_stride: usize) -> Self {
        Self { data, row_stride, column_stride: 1 }
    }

    /// The same numbers with rows and columns exchanged; the gradients need it.
    #[cfg(feature = "burn")]
    pub(crate) fn transposed(self) -> Self {
        Self { data: self.data, row_stride: self.column_stride, column_stride: self.row_stride }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0 || columns == 0 || (rows - 1) * self.row_stride + (columns - 1) * self.column_stride < self.data.len()
    }
}

/// `out = left * right`, or `out += left * right` with `accumulate`, on the calling thread.
///
/// # Shapes
///
/// - `left`: `[m, k]`, `right`: `[k, n]`, `out`: `[m, n]` row-major without gaps
pub(crate) fn multiply(out: &mut [f32], [m, n, k]: [usize; 3], left: Matrix<'_>, right: Matrix<'_>, accumulate: bool) {
    assert!(out.len() >= m * n, "output of {m} x {n} in {} numbers", out.len());
    assert!(left.holds(m, k), "left operand of {m} x {k} in {} numbers", left.data.len());
    assert!(right.holds(k, n), "right operand of {k} x {n} in {} numbers", right.data.len());
    // SAFETY: the three asserts above bound every address the product touches; `out` is borrowed mutably, so it
    // overlaps neither operand and its own rows do not overlap.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            left.data.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_rows_are_a_convolution() {
        let (channels, out, rows) = (5, 7, 11);
        let x: Vec<f32> = (0..(rows + 2) * channels).map(|i| ((i * 37 % 19) as f32 - 9.0) / 7.0).collect();
        let w: Vec<f32> = (0..3 * channels * out).map(|i| ((i * 23 % 17) as f32 - 8.0) / 5.0).collect();
        let mut y = vec![f32::NAN; rows * out];
        multiply(&mut y, [rows, out, 3 * channels], Matrix::rows(&x, channels), Matrix::rows(&w, out), false);
        for p in 0..rows {
            for o in 0..out {
                let mut expected = 0.0_f64;
                for tap in 0..3 {
                    for c in 0..channels {
                        expected +=
                            f64::from(x[(p + tap) * channels + c]) * f64::from(w[(tap * channels + c) * out + o]);
                    }
                }
                assert!((f64::from(y[p * out + o]) - expected).abs() < 1e-5, "p {p} o {o}");
            }
        }
    }

    #[cfg(feature = "burn")]
    #[test]
    fn overlapping_rows_and_accumulation() {
        // Left is [[1, 2], [2, 3], [3, 4]] out of four numbers; right transposed is [[1, 10], [100, 1000]].
        let left = Matrix::rows(&[1.0, 2.0, 3.0, 4.0], 1);
        let right = Matrix::rows(&[1.0, 100.0, 10.0, 1000.0], 2).transposed();
        let mut out = [1.0; 6];
        multiply(&mut out, [3, 2, 2], left, right, true);
        assert_eq!(out, [202.0, 2011.0, 303.0, 3021.0, 404.0, 4031.0]);
        multiply(&mut out, [3, 2, 2], left, right, false);
        assert_eq!(out[0], 201.0);
    }

    #[test]
    #[should_panic(expected = "left operand of 3 x 3")]
    fn an_operand_that_is_too_short_is_refused() {
        multiply(&mut [0.0; 3], [3, 1, 3], Matrix::rows(&[0.0; 4], 1), Matrix::rows(&[0.0; 3], 1), false);
    }
}
