//! The extents of a layer, the shapes and counts that follow from them, and the checks of operands.

use serde::{Deserialize, Serialize};

use super::Order;
use crate::{Error, Result};

/// The extents of the two-core layer `Y[m,n] = Σ A[m,k,j] C[l,k,n] X[j,l] + B[m,n]`.
///
/// All are at least 1; [`MpsSpec::new`] checks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MpsSpec {
    /// Extent `M` of the first output mode `m`.
    pub m: usize,
    /// Extent `N` of the second output mode `n`.
    pub n: usize,
    /// Extent `J` of the first input mode `j`.
    pub j: usize,
    /// Extent `L` of the second input mode `l`.
    pub l: usize,
    /// Extent `K` of the bond.
    pub k: usize,
}

impl MpsSpec {
    /// A layer from `J · L` inputs to `M · N` outputs through a bond of size `bond`.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming the parameter when an extent is 0, or when a core, the input or the
    /// output of one sample has more than 2³¹ elements.
    pub fn new(in_factors: [usize; 2], out_factors: [usize; 2], bond: usize) -> Result<Self> {
        let [j, l] = in_factors;
        let [m, n] = out_factors;
        for (name, factors) in [("in_factors", [j, l]), ("out_factors", [m, n])] {
            if factors.contains(&0) {
                let [a, b] = factors;
                return Err(Error::argument(name, format!("{a},{b}: both must be at least 1")));
            }
        }
        if bond == 0 {
            return Err(Error::argument("bond", "0: the bond must be at least 1"));
        }
        let spec = Self { m, n, j, l, k: bond };
        let too_large = [[m, bond, j], [l, bond, n], [j, l, 1], [m, n, 1]]
            .into_iter()
            .any(|[a, b, c]| a.saturating_mul(b).saturating_mul(c) > 1 << 31);
        if too_large {
            return Err(Error::argument(
                "bond",
                format!("a layer of {spec} has a tensor of more than 2147483648 elements"),
            ));
        }
        Ok(spec)
    }

    /// Shape `[M, K, J]` of core `A`.
    pub fn a_shape(&self) -> [usize; 3] {
        [self.m, self.k, self.j]
    }

    /// Shape `[L, K, N]` of core `C`.
    pub fn c_shape(&self) -> [usize; 3] {
        [self.l, self.k, self.n]
    }

    /// Shape `[M, N]` of the bias.
    pub fn bias_shape(&self) -> [usize; 2] {
        [self.m, self.n]
    }

    /// Number of inputs of one sample, `J · L`.
    pub fn inputs(&self) -> usize {
        self.j * self.l
    }

    /// Number of outputs of one sample, `M · N`.
    pub fn outputs(&self) -> usize {
        self.m * self.n
    }

    /// Number of parameters of the layer with its bias: `MKJ + LKN + MN`.
    pub fn parameters(&self) -> usize {
        self.m * self.k * self.j + self.l * self.k * self.n + self.outputs()
    }

    /// Number of parameters of the dense layer of the same size: `JL · MN + MN`.
    pub fn dense_parameters(&self) -> usize {
        self.inputs() * self.outputs() + self.outputs()
    }

    /// The largest bond with no more parameters than the dense layer of the same size; 0 if there is none.
    pub fn break_even_parameters(&self) -> usize {
        let per_bond = self.m * self.j + self.l * self.n;
        self.inputs() * self.outputs() / per_bond
    }

    /// The largest bond with no more multiply-adds than the dense layer of the same size; 0 if there is none.
    pub fn break_even_multiply_adds(&self) -> usize {
        let one = Self { k: 1, ..*self };
        self.inputs() * self.outputs() / Order::cheaper(&one).multiply_adds(&one)
    }

    /// The smallest bond at which every `W` can be represented exactly: `min(MJ, LN)`.
    pub fn full_bond(&self) -> usize {
        (self.m * self.j).min(self.l * self.n)
    }

    /// The layer whose outputs are this one's inputs: `grad_x` is a contraction of that layer.
    pub fn transposed(&self) -> Self {
        Self { m: self.j, n: self.l, j: self.m, l: self.n, k: self.k }
    }

    /// The layer with every extent except the bond rounded up to a multiple of 4.
    pub fn padded(&self) -> Self {
        let [m, n, j, l] =
            [self.m, self.n, self.j, self.l].map(|extent| extent.next_multiple_of(4));
        Self { m, n, j, l, k: self.k }
    }

    /// Takes the extents from the shapes of `x[b,j,l]`, `a[m,k,j]` and `c[l,k,n]` and checks that the
    /// shapes agree. Returns the layer and the batch.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] naming the first operand that does not fit, before anything is computed.
    pub fn from_shapes(x: [usize; 3], a: [usize; 3], c: [usize; 3]) -> Result<(Self, usize)> {
        let [batch, j, l] = x;
        if x.contains(&0) {
            return Err(shape_error("x", "[batch, J, L] with every extent at least 1", &x));
        }
        let [m, k, _] = a;
        if a[2] != j || a.contains(&0) {
            return Err(shape_error("a", format!("[M, K, {j}] (the J of x, all at least 1)"), &a));
        }
        let n = c[2];
        if c[0] != l || c[1] != k || n == 0 {
            return Err(shape_error(
                "c",
                format!("[{l}, {k}, N] (the L of x, the K of a, N at least 1)"),
                &c,
            ));
        }
        Ok((Self { m, n, j, l, k }, batch))
    }

    /// Checks the shape of `bias` against the layer.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] naming `bias`.
    pub fn check_bias(&self, bias: [usize; 2]) -> Result<()> {
        if bias == self.bias_shape() {
            return Ok(());
        }
        let [m, n] = self.bias_shape();
        Err(shape_error("bias", format!("[{m}, {n}] (the M of a, the N of c)"), &bias))
    }
}

impl MpsSpec {
    /// Checks the shape of `grad_y` against the layer and the batch.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] naming `grad_y`.
    pub fn check_grad_y(&self, batch: usize, grad_y: [usize; 3]) -> Result<()> {
        let Self { m, n, .. } = *self;
        if grad_y == [batch, m, n] {
            return Ok(());
        }
        let expected = format!("[{batch}, {m}, {n}] (the batch of x, the M of a, the N of c)");
        Err(shape_error("grad_y", expected, &grad_y))
    }
}

impl std::fmt::Display for MpsSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { m, n, j, l, k } = self;
        write!(f, "{j}x{l} -> {m}x{n}, bond {k}")
    }
}

fn shape_error(operand: &'static str, expected: impl Into<String>, found: &[usize]) -> Error {
    Error::Shape { operand, expected: expected.into(), found: format!("{found:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn article(bond: usize) -> MpsSpec {
        MpsSpec::new([28, 28], [32, 16], bond).unwrap()
    }

    #[test]
    fn the_article_s_counts_are_right() {
        assert_eq!(article(1).parameters(), 1_856);
        assert_eq!(article(1).dense_parameters(), 401_920);
        assert_eq!(article(1).full_bond(), 448);
        // Smaller than dense up to K = 298: 1344 · 298 + 512 = 401,024 < 401,920.
        assert!(article(298).parameters() < article(298).dense_parameters());
        assert!(article(299).parameters() > article(299).dense_parameters());
        assert_eq!(article(1).break_even_parameters(), 298);
        // 784 · 512 / (28 · 28 · 16 + 32 · 28 · 16).
        assert_eq!(article(7).break_even_multiply_adds(), 14);
    }

    #[test]
    fn impossible_extents_name_the_parameter() {
        for (inputs, outputs, bond, name) in [
            ([0, 28], [32, 16], 1, "in_factors: "),
            ([28, 28], [32, 0], 1, "out_factors: "),
            ([28, 28], [32, 16], 0, "bond: "),
            ([28, 28], [32, 16], usize::MAX, "bond: "),
        ] {
            let message = MpsSpec::new(inputs, outputs, bond).unwrap_err().to_string();
            assert!(message.starts_with(name), "{message}");
        }
    }

    #[test]
    fn shapes_that_do_not_fit_name_the_operand() {
        let [x, a, c] = [[2, 3, 5], [7, 11, 3], [5, 11, 13]];
        let (spec, batch) = MpsSpec::from_shapes(x, a, c).unwrap();
        assert_eq!((spec, batch), (MpsSpec { m: 7, n: 13, j: 3, l: 5, k: 11 }, 2));
        for (x, a, c, operand) in [
            ([0, 3, 5], a, c, "x:"),
            (x, [7, 11, 4], c, "a:"),
            (x, [7, 0, 3], c, "a:"),
            (x, a, [4, 11, 13], "c:"),
            (x, a, [5, 12, 13], "c:"),
            (x, a, [5, 11, 0], "c:"),
        ] {
            let message = MpsSpec::from_shapes(x, a, c).unwrap_err().to_string();
            assert!(message.starts_with(operand), "{message}");
        }
        let message = spec.check_bias([13, 7]).unwrap_err().to_string();
        assert_eq!(message, "bias: expected shape [7, 13] (the M of a, the N of c), found [13, 7]");
    }
}
