//! The letters of the kernels, and the operands as a kernel sees them.
//!
//! The layer is written in `j l m n k` (input modes, output modes, bond). Kernels use a second alphabet,
//! because both orders of contraction, `grad_x`, and the gradients by both cores are one computation with other
//! names. With `F` the core that meets the input first and `G` the other one,
//!
//! ```text
//! U[s,k,v] = Σ_r X[s,r] F[r,k,v]          Y[w,v] = Σ_{s,k} G[w,k,s] U[s,k,v]
//!
//!                F   G   r   s   v   w
//! C first        C   A   l   j   n   m
//! A first        A   C   j   l   m   n
//! ```
//!
//! so a kernel is written once, in these letters, and a [`View`] tells it the extents and the strides:
//!
//! - `grad_x[j,l] = Σ A[m,k,j] C[l,k,n] D[m,n]` is the contraction of the transposed layer with `D` as its
//!   input ([`View::transposed`]).
//! - `grad_G[w,k,s] = Σ_{b,v} D[w,v] U[s,k,v]`, and `grad_F` is the same of the reversed view, in which `D` takes
//!   the place of `X`, and `G` that of `F` ([`View::reversed`]).

use super::MpsSpec;

/// Numbers in a row of the CPU's kernels: one register of AVX-512, two of AVX2, four of NEON.
pub const CPU_LANES: usize = 16;

/// Which core the input meets first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// `U[j,k,n] = Σ_l X C`, then `Y = Σ_jk A U`.
    CFirst,
    /// `T[m,k,l] = Σ_j A X`, then `Y = Σ_lk T C`.
    AFirst,
}

impl Order {
    /// The order with fewer multiply-adds; C first where they are equal.
    pub fn cheaper(spec: &MpsSpec) -> Self {
        let cost = |order| Self::multiply_adds(order, spec);
        if cost(Self::AFirst) < cost(Self::CFirst) { Self::AFirst } else { Self::CFirst }
    }

    /// The order that takes the CPU's kernels less: their rows are of whole registers, so that an output mode of 4 costs as
    /// much as one of 16. The same as [`Order::cheaper`] where both output modes are multiples of 16.
    pub fn cheaper_in_lanes(spec: &MpsSpec) -> Self {
        let cost = |order| Self::multiply_adds_in_lanes(order, spec);
        if cost(Self::AFirst) < cost(Self::CFirst) { Self::AFirst } else { Self::CFirst }
    }

    /// [`Order::multiply_adds`] of whole registers, the output mode along them being rounded up.
    pub fn multiply_adds_in_lanes(self, spec: &MpsSpec) -> usize {
        let MpsSpec { m, n, .. } = *spec;
        match self {
            Self::CFirst => {
                self.multiply_adds(&MpsSpec { n: n.next_multiple_of(CPU_LANES), ..*spec })
            }
            Self::AFirst => {
                self.multiply_adds(&MpsSpec { m: m.next_multiple_of(CPU_LANES), ..*spec })
            }
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::CFirst => Self::AFirst,
            Self::AFirst => Self::CFirst,
        }
    }

    /// Multiply-adds per sample: `K (JLN + MJN)` with C first, `K (MJL + MNL)` with A first.
    pub fn multiply_adds(self, spec: &MpsSpec) -> usize {
        let MpsSpec { m, n, j, l, k } = *spec;
        match self {
            Self::CFirst => k * (j * l * n + m * j * n),
            Self::AFirst => k * (m * j * l + m * n * l),
        }
    }
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::CFirst => "C first",
            Self::AFirst => "A first",
        })
    }
}

/// Where a core's elements lie: `out`, `bond` and `input` are the strides of its output mode, of
/// the bond and of its input mode, in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CoreStrides {
    out: usize,
    bond: usize,
    input: usize,
}

/// Extents and strides of one contraction in the letters of this module.
///
/// Strides are in elements; the batch strides of `X` and `Y` are `s·r` and `w·v`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Extent of the input mode summed last.
    pub s: usize,
    /// Extent of the input mode summed first.
    pub r: usize,
    /// Extent of the output mode of `F`.
    pub v: usize,
    /// Extent of the output mode of `G`.
    pub w: usize,
    /// Extent of the bond.
    pub k: usize,
    /// Strides `[s, r]` of the input of one sample.
    pub x: [usize; 2],
    /// Strides `[r, k, v]` of `F`.
    pub f: [usize; 3],
    /// Strides `[w, k, s]` of `G`.
    pub g: [usize; 3],
    /// Strides `[w, v]` of the output of one sample.
    pub y: [usize; 2],
}

impl View {
    /// The layer itself: `X[j,l]` in, `Y[m,n]` out.
    pub fn forward(spec: &MpsSpec, order: Order) -> Self {
        let a = CoreStrides { out: spec.k * spec.j, bond: spec.j, input: 1 };
        let c = CoreStrides { out: 1, bond: spec.n, input: spec.k * spec.n };
        Self::new(spec, a, c, order)
    }

    /// The transposed layer: `D[m,n]` in, `grad_x[j,l]` out, over the same buffers of `A` and `C`.
    pub fn transposed(spec: &MpsSpec, order: Order) -> Self {
        let a = CoreStrides { out: 1, bond: spec.j, input: spec.k * spec.j };
        let c = CoreStrides { out: spec.k * spec.n, bond: spec.n, input: 1 };
        Self::new(&spec.transposed(), a, c, order)
    }

    fn new(spec: &MpsSpec, a: CoreStrides, c: CoreStrides, order: Order) -> Self {
        let MpsSpec { m, n, j, l, k } = *spec;
        match order {
            Order::CFirst => Self {
                s: j,
                r: l,
                v: n,
                w: m,
                k,
                x: [l, 1],
                f: [c.input, c.bond, c.out],
                g: [a.out, a.bond, a.input],
                y: [n, 1],
            },
            Order::AFirst => Self {
                s: l,
                r: j,
                v: m,
                w: n,
                k,
                x: [1, l],
                f: [a.input, a.bond, a.out],
                g: [c.out, c.bond, c.input],
                y: [1, n],
            },
        }
    }

    /// The view in which the gradient by `F` is what the gradient by `G` is in this one: the gradient `D` of
    /// the output takes the place of `X`, and `G` that of `F`.
    pub fn reversed(&self) -> Self {
        let Self { s, r, v, w, k, x: [x_s, x_r], f, g, y: [y_w, y_v] } = *self;
        Self { s: v, r: w, v: s, w: r, k, x: [y_v, y_w], f: g, g: f, y: [x_r, x_s] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheaper_order_of_the_article_is_c_first() {
        let spec = MpsSpec::new([28, 28], [32, 16], 3).unwrap();
        assert_eq!(Order::CFirst.multiply_adds(&spec), 3 * 26_880);
        assert_eq!(Order::AFirst.multiply_adds(&spec), 3 * 39_424);
        assert_eq!(Order::cheaper(&spec), Order::CFirst);
        let transposed = MpsSpec::new([28, 28], [16, 32], 3).unwrap();
        assert_eq!(Order::cheaper(&transposed), Order::AFirst);
    }

    /// An output mode of 4 costs the CPU's kernels as much as one of 16.
    #[test]
    fn the_order_on_the_cpu_fills_registers() {
        let spec = MpsSpec::new([28, 28], [16, 4], 1).unwrap();
        assert_eq!(Order::cheaper(&spec), Order::CFirst);
        assert_eq!(Order::CFirst.multiply_adds_in_lanes(&spec), 28 * 28 * 16 + 16 * 28 * 16);
        assert_eq!(Order::AFirst.multiply_adds_in_lanes(&spec), 16 * 28 * 28 + 16 * 28 * 4);
        assert_eq!(Order::cheaper_in_lanes(&spec), Order::AFirst);
        let article = MpsSpec::new([28, 28], [32, 16], 3).unwrap();
        assert_eq!(Order::cheaper_in_lanes(&article), Order::CFirst);
    }

    /// Every element of a core is reached exactly once, whatever the view calls its modes.
    #[test]
    fn strides_reach_each_element_once() {
        let spec = MpsSpec::new([3, 5], [7, 2], 4).unwrap();
        for order in [Order::CFirst, Order::AFirst] {
            let [forward, transposed] =
                [View::forward, View::transposed].map(|view| view(&spec, order));
            for view in [forward, transposed, forward.reversed(), transposed.reversed()] {
                let cover = |extents: [usize; 3], strides: [usize; 3]| {
                    let mut seen = vec![0; extents.iter().product()];
                    for i in 0..extents[0] {
                        for j in 0..extents[1] {
                            for k in 0..extents[2] {
                                seen[i * strides[0] + j * strides[1] + k * strides[2]] += 1;
                            }
                        }
                    }
                    assert!(seen.iter().all(|&count| count == 1), "{view:?}");
                };
                cover([view.r, view.k, view.v], view.f);
                cover([view.w, view.k, view.s], view.g);
                cover([view.s, view.r, 1], [view.x[0], view.x[1], 0]);
                cover([view.w, view.v, 1], [view.y[0], view.y[1], 0]);
            }
        }
    }
}
