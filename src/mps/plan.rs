//! The order of the two contractions, and the operands as a kernel sees them.
//!
//! Both orders, and `grad_x` too, are one computation with other names. With `F` the core that
//! meets the input first and `G` the other one,
//!
//! ```text
//! U[s,k,v] = Σ_r X[s,r] F[r,k,v]          Y[w,v] = Σ_{s,k} G[w,k,s] U[s,k,v]
//!
//!                F   G   r   s   v   w
//! C first        C   A   l   j   n   m
//! A first        A   C   j   l   m   n
//! ```
//!
//! so a kernel is written once, in these letters, and a [`View`] tells it the extents and the
//! strides. `grad_x[j,l] = Σ A[m,k,j] C[l,k,n] D[m,n]` is the contraction of the transposed layer
//! with `D` as its input ([`View::transposed`]).

use super::MpsSpec;

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

    /// Multiply-adds a sample: `K (JLN + MJN)` with C first, `K (MJL + MNL)` with A first.
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

/// How the layer is computed. All give the same numbers but for rounding; which is fastest depends on
/// extents, batch and device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// The readable kernels: on a GPU 16 outputs an invocation, on the CPU a library's matrix
    /// products over blocks of samples.
    Plain,
    /// Tiles of both contractions kept in registers: more text, fewer loads.
    Tiled,
    /// `W` rebuilt from the cores, then one matrix product, as a dense layer does.
    Rebuilt,
}

impl Strategy {
    /// Every strategy.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Tiled, Self::Rebuilt];

    /// Its name, as `TNET_STRATEGY` and the benchmark's rows have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tiled => "tiled",
            Self::Rebuilt => "rebuilt",
        }
    }
}

impl std::fmt::Display for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Strategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|strategy| strategy.name() == text);
        found.ok_or_else(|| format!("'{text}': expected plain, tiled or rebuilt"))
    }
}

/// What computes, as far as the choice of a strategy depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// The CPU device.
    Cpu,
    /// A rasterizer that runs shaders on the CPU: a barrier, a launch, and a load that differs
    /// between invocations cost much there.
    Software,
    /// A GPU.
    Gpu,
}

/// Most elements of a rebuilt `W`: 128 MiB, what WebGPU guarantees one binding may hold.
const MOST_REBUILT: f64 = (32 << 20) as f64;

/// Order and strategy of one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Plan {
    /// Which core the input meets first.
    pub order: Order,
    /// How it is computed.
    pub strategy: Strategy,
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.strategy {
            // W has no order.
            Strategy::Rebuilt => self.strategy.fmt(f),
            _ => write!(f, "{}, {}", self.strategy, self.order),
        }
    }
}

impl Plan {
    /// The plan of the forward pass of a layer, or, of the transposed layer, of `grad_x`.
    pub fn forward(spec: &MpsSpec, batch: usize, target: Target) -> Self {
        Self::of(spec, batch, target, 1)
    }

    /// The plan of the gradients by both cores and the bias.
    pub fn grads(spec: &MpsSpec, batch: usize, target: Target) -> Self {
        Self::of(spec, batch, target, 2)
    }

    /// `passes` is 1 forward and 2 for the gradients, one for each core: it takes a recomputed
    /// intermediate and a contraction with it, as much as the forward pass, or, of the rebuilt
    /// strategy, one product of `W`'s size times the bond.
    fn of(spec: &MpsSpec, batch: usize, target: Target, passes: usize) -> Self {
        // What the tiled kernels of software adapters compute, which move blocks of 4 x 4.
        let blocks = spec.padded();
        let padded = target == Target::Software && blocks != *spec;
        let computed = if padded { blocks } else { *spec };
        let order = Order::cheaper(&computed);
        let [images, times, bond] = [batch, passes, spec.k].map(|count| count as f64);
        let contracted = times * images * order.multiply_adds(&computed) as f64;
        let dense = computed.inputs() as f64 * computed.outputs() as f64;
        // Measured with `bench --variant all` at the article's extents: a multiply-add of the
        // rebuilt strategy takes this part of one of the tiled kernels', and permuting W as long as
        // this many samples.
        let (part, permuted) = match target {
            Target::Cpu => (0.9, 48.0),
            Target::Software => (0.75, 48.0),
            // A guess: no GPU has been at hand.
            Target::Gpu => (0.5, 16.0),
        };
        let rebuilt = dense * part * (images + permuted + times * bond);
        // The plain kernels take 18 times as long for a multiply-add there, and the six copies into other
        // extents and back as long as 4 million of the tiled ones' (0.5 ms).
        let plain = 18.0 * contracted;
        let strategy = match target {
            Target::Software if padded && plain < rebuilt.min(contracted) + 4e6 => Strategy::Plain,
            _ if rebuilt < contracted && dense <= MOST_REBUILT => Strategy::Rebuilt,
            Target::Gpu => Strategy::Plain,
            // One sample does not repay the packing of padded cores: plain takes 0.6 to 1.0 of the time.
            Target::Cpu if batch == 1 => Strategy::Plain,
            Target::Cpu | Target::Software => Strategy::Tiled,
        };
        Self { order, strategy }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As measured: see docs/benchmarks.md.
    #[test]
    fn the_plan_turns_to_the_rebuilt_matrix_where_the_bond_is_large() {
        let strategy = |bond, batch, target| {
            let spec = MpsSpec::new([28, 28], [32, 16], bond).unwrap();
            let [forward, grads] =
                [Plan::forward, Plan::grads].map(|plan| plan(&spec, batch, target).strategy);
            (forward, grads)
        };
        use Strategy::{Plain, Rebuilt, Tiled};
        assert_eq!(strategy(8, 128, Target::Cpu), (Tiled, Tiled));
        assert_eq!(strategy(16, 128, Target::Cpu), (Tiled, Rebuilt));
        assert_eq!(strategy(64, 512, Target::Cpu), (Rebuilt, Rebuilt));
        assert_eq!(strategy(298, 1, Target::Cpu), (Plain, Plain));
        assert_eq!(strategy(4, 128, Target::Software), (Tiled, Tiled));
        assert_eq!(strategy(8, 128, Target::Software), (Tiled, Tiled));
        assert_eq!(strategy(16, 128, Target::Software), (Tiled, Rebuilt));
        assert_eq!(strategy(32, 128, Target::Software), (Rebuilt, Rebuilt));
        assert_eq!(strategy(64, 128, Target::Software), (Rebuilt, Rebuilt));
        assert_eq!(strategy(298, 128, Target::Software), (Rebuilt, Rebuilt));
        assert_eq!(strategy(1, 65_536, Target::Gpu), (Plain, Plain));
        let odd = |bond, batch| {
            let spec = MpsSpec::new([27, 29], [31, 17], bond).unwrap();
            Plan::forward(&spec, batch, Target::Software).strategy
        };
        assert_eq!([odd(1, 1), odd(4, 128), odd(64, 128)], [Plain, Tiled, Rebuilt]);
        assert_eq!(strategy(298, 128, Target::Gpu), (Rebuilt, Rebuilt));
        // W of 65,536 x 65,536 would not fit.
        let large = MpsSpec::new([256, 256], [256, 256], 4096).unwrap();
        assert_eq!(Plan::forward(&large, 65_536, Target::Gpu).strategy, Plain);
    }

    #[test]
    fn the_cheaper_order_of_the_article_is_c_first() {
        let spec = MpsSpec::new([28, 28], [32, 16], 3).unwrap();
        assert_eq!(Order::CFirst.multiply_adds(&spec), 3 * 26_880);
        assert_eq!(Order::AFirst.multiply_adds(&spec), 3 * 39_424);
        assert_eq!(Order::cheaper(&spec), Order::CFirst);
        let turned = MpsSpec::new([28, 28], [16, 32], 3).unwrap();
        assert_eq!(Order::cheaper(&turned), Order::AFirst);
    }

    /// Every element of a core is reached exactly once, whatever the view calls its modes.
    #[test]
    fn strides_reach_each_element_once() {
        let spec = MpsSpec::new([3, 5], [7, 2], 4).unwrap();
        for order in [Order::CFirst, Order::AFirst] {
            for view in [View::forward(&spec, order), View::transposed(&spec, order)] {
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
