//! Everything that is decided about a pass before anything is launched: in which order the cores are
//! contracted, by which strategy, on which extents, and in how many launches. A [`Plan`] is the whole of it, and
//! the backends execute it as it stands.

use super::strategy::{Strategy, Target};
use super::tiles::{ContractTiles, GradsTiles};
use super::{MpsSpec, Order, View};

/// Most loop iterations an invocation may be asked for. llvmpipe ends every loop of an invocation
/// once they have run 65,535 times altogether (found with bonds of 299 and 448, whose outputs
/// lacked most of their terms); a GPU's watchdog, too, prefers several short launches.
pub const MAX_ITERATIONS: usize = 60_000;

/// Invocations per workgroup of the tiled kernels: what llvmpipe computes at once on most CPUs; more would only
/// be harder to share out.
pub const SOFTWARE_LANES: u32 = 8;

/// Samples that one group of the tiled gradient kernel sums where the batch allows: a group's sums
/// are stored and added up once more.
const TILED_SAMPLES: usize = 8;

/// Samples per partial sum of the plain gradient kernel: few, so that a batch of 128 keeps a GPU busy.
const GROUP_SIZE: usize = 4;

/// Most partial sums of one gradient.
const MAX_GROUPS: usize = 1024;

/// Most bytes of partial sums, half of what WebGPU guarantees one binding may hold.
const MAX_PARTIAL_BYTES: usize = 64 << 20;

/// Most elements of a padded input or output, half of what WebGPU guarantees one binding may hold.
const MAX_PADDED: usize = 16 << 20;

/// Most elements of a rebuilt `W`: 128 MiB, what WebGPU guarantees one binding may hold.
const MAX_REBUILT: f64 = (32 << 20) as f64;

/// Part of the ranges `[begin, end]` of a kernel's three nested loops, the outermost first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Of the outermost loop.
    pub outer: [usize; 2],
    /// Of the loop within it.
    pub middle: [usize; 2],
    /// Of the innermost loop.
    pub inner: [usize; 2],
}

/// Cuts three nested loops, the outermost first, into pieces of at most [`MAX_ITERATIONS`].
pub(crate) fn pieces([outer, middle, inner]: [usize; 3]) -> Vec<Piece> {
    // A loop's end costs an iteration, so one of `n` counts as `n + 1`, and its body one more.
    let r = inner.min(MAX_ITERATIONS / 4);
    let k = middle.min(MAX_ITERATIONS / (r + 2)).max(1);
    let s = outer.min(MAX_ITERATIONS / (k * (r + 2) + 2)).max(1);
    let cut = |extent: usize, size: usize| {
        (0..extent).step_by(size).map(move |begin| [begin, extent.min(begin + size)])
    };
    let mut pieces = Vec::new();
    for outer in cut(outer, s) {
        for middle in cut(middle, k) {
            for inner in cut(inner, r) {
                pieces.push(Piece { outer, middle, inner });
            }
        }
    }
    pieces
}

/// `Y` from `X`: the forward pass, or `grad_x` from the gradient of the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contraction {
    /// The operands as the kernels see them.
    pub view: View,
    /// The launches of the plain kernel, one for each piece of its loops over `s`, `k` and `r`. The tiled
    /// kernel takes one launch.
    pub pieces: Vec<Piece>,
}

/// The gradients by both cores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gradients {
    /// The operands as the tiled CPU kernels see them.
    pub view: View,
    /// Of `A` and of `C`, as the WGSL kernels compute them; the CPU's and the rebuilt strategy have no use
    /// for them.
    pub partials: [Partials; 2],
}

/// The gradient by the core `G` of a view, as partial sums over groups of samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partials {
    /// The operands as the kernel sees them.
    pub view: View,
    /// Whether the view is reversed: `D` is its input and `X` its gradient of the output.
    pub reversed: bool,
    /// Number of partial sums.
    pub groups: usize,
    /// Samples per partial sum of the plain kernel. The tiled kernel's groups take every `groups`-th sample.
    pub group_size: usize,
    /// The launches: of the plain kernel's loops over the samples of a group, `v` and `r`; of the tiled
    /// kernel's loop over the samples, the outermost.
    pub pieces: Vec<Piece>,
}

/// A pass as it is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan<P> {
    /// The layer that is computed: the one asked for, or one with extents rounded up to whole blocks, into
    /// which operands are copied and out of which results are copied.
    pub layer: MpsSpec,
    /// By which strategy.
    pub strategy: Strategy,
    /// Which core the input meets first.
    pub order: Order,
    /// What its kernels need to know.
    pub pass: P,
}

impl<P> std::fmt::Display for Plan<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.strategy {
            // W has no order.
            Strategy::Rebuilt => self.strategy.fmt(f),
            _ => write!(f, "{}, {}", self.strategy, self.order),
        }
    }
}

impl Plan<Contraction> {
    /// The plan of the forward pass. With `forced`, that strategy wherever it can compute the layer.
    pub fn forward(spec: &MpsSpec, batch: usize, target: Target, forced: Option<Strategy>) -> Self {
        let choice = Choice::of(spec, batch, target, Times::Once, forced);
        Self::contraction(choice, choice.layer, View::forward(&choice.layer, choice.order))
    }

    /// The plan of `grad_x`, the contraction of the transposed layer.
    pub fn grad_x(spec: &MpsSpec, batch: usize, target: Target, forced: Option<Strategy>) -> Self {
        let choice = Choice::of(&spec.transposed(), batch, target, Times::Once, forced);
        let layer = choice.layer.transposed();
        Self::contraction(choice, layer, View::transposed(&layer, choice.order))
    }

    fn contraction(choice: Choice, layer: MpsSpec, view: View) -> Self {
        let Choice { strategy, order, .. } = choice;
        let pieces = match strategy {
            Strategy::Plain => pieces([view.s, view.k, view.r]),
            Strategy::Tiled | Strategy::Rebuilt => Vec::new(),
        };
        Self { layer, strategy, order, pass: Contraction { view, pieces } }
    }
}

impl Plan<Gradients> {
    /// The plan of the gradients by both cores and the bias. With `forced`, that strategy wherever it can
    /// compute the layer.
    pub fn grads(spec: &MpsSpec, batch: usize, target: Target, forced: Option<Strategy>) -> Self {
        let Choice { layer, strategy, order } =
            Choice::of(spec, batch, target, Times::ForEachCore, forced);
        let view = View::forward(&layer, order);
        let partials = match strategy {
            Strategy::Tiled if target != Target::Cpu => {
                let by_g = Partials::tiled(view, false, batch);
                let by_f = Partials::tiled(view.reversed(), true, batch);
                match order {
                    Order::CFirst => [by_g, by_f],
                    Order::AFirst => [by_f, by_g],
                }
            }
            // Each gradient from the order in which its core is `G`.
            _ => [Order::CFirst, Order::AFirst]
                .map(|order| Partials::plain(View::forward(&layer, order), batch)),
        };
        Self { layer, strategy, order, pass: Gradients { view, partials } }
    }
}

impl Partials {
    fn plain(view: View, batch: usize) -> Self {
        let group_size = GROUP_SIZE.max(batch.div_ceil(view.most_groups()));
        let groups = batch.div_ceil(group_size);
        let pieces = pieces([group_size.min(batch), view.v, view.r]);
        Self { view, reversed: false, groups, group_size, pieces }
    }

    fn tiled(view: View, reversed: bool, batch: usize) -> Self {
        let lanes = SOFTWARE_LANES as usize;
        let groups = batch.div_ceil(TILED_SAMPLES).next_multiple_of(lanes);
        let groups = groups.min(view.most_groups()).min(batch);
        let per_launch = groups * (MAX_ITERATIONS / view.tiled_grad_iterations());
        let pieces = (0..batch).step_by(per_launch).map(|begin| Piece {
            outer: [begin, batch.min(begin + per_launch)],
            middle: [0, view.v],
            inner: [0, view.r],
        });
        Self { view, reversed, groups, group_size: 0, pieces: pieces.collect() }
    }
}

/// How often a pass contracts the batch.
#[derive(Debug, Clone, Copy)]
enum Times {
    /// Forward, and `grad_x`.
    Once,
    /// The gradients, one for each core: a recomputed intermediate and a contraction with it, as much as the
    /// forward pass, or, of the rebuilt strategy, one product of `W`'s size times the bond.
    ForEachCore,
}

/// Strategy, order and extents of a pass.
#[derive(Debug, Clone, Copy)]
struct Choice {
    layer: MpsSpec,
    strategy: Strategy,
    order: Order,
}

impl Choice {
    fn of(
        spec: &MpsSpec,
        batch: usize,
        target: Target,
        times: Times,
        forced: Option<Strategy>,
    ) -> Self {
        // What the tiled kernels of software adapters compute, which move blocks of 4 x 4. Elsewhere nothing
        // is padded, nor where the copies would be too large.
        let blocks = spec.padded();
        let fits = batch.saturating_mul(blocks.inputs().max(blocks.outputs())) <= MAX_PADDED;
        let pads = target == Target::Software && fits;
        let tiled = if pads { blocks } else { *spec };
        let order = order_on(target, &tiled);
        let view = View::forward(&tiled, order);
        let tiles = match target {
            Target::Cpu => true,
            Target::Software => can_tile(&view, times),
            Target::Gpu => {
                MAX_ITERATIONS
                    >= match times {
                        Times::Once => ContractTiles::of(&view, batch).iterations(&view),
                        Times::ForEachCore => {
                            let groups = most_groups(spec.parameters());
                            GradsTiles::of(&view, batch, groups).iterations(&view)
                        }
                    }
            }
        };
        let strategy = match forced {
            Some(Strategy::Rebuilt) => Strategy::Rebuilt,
            Some(Strategy::Tiled) if tiles => Strategy::Tiled,
            Some(_) if Strategy::of(target).contains(&Strategy::Plain) => Strategy::Plain,
            _ => fastest(&tiled, order, (batch, times), target, (tiled != *spec, tiles)),
        };
        let layer = match strategy {
            Strategy::Plain => *spec,
            Strategy::Tiled => tiled,
            // The products over the bond move blocks, too.
            Strategy::Rebuilt if pads => MpsSpec { k: spec.k.next_multiple_of(4), ..blocks },
            Strategy::Rebuilt => *spec,
        };
        Self { layer, strategy, order }
    }
}

impl View {
    /// Loop iterations of one invocation of the tiled contraction kernel.
    fn tiled_iterations(&self) -> usize {
        self.k * (self.s / 4 * (self.r / 4 + 2) + 2)
    }

    /// Loop iterations per sample of one invocation of the tiled gradient kernel.
    fn tiled_grad_iterations(&self) -> usize {
        self.v / 4 * (self.r / 4 + 2) + 2
    }

    /// Most partial sums of the gradient by `G`.
    fn most_groups(&self) -> usize {
        most_groups(self.w * self.k * self.s)
    }
}

/// Most partial sums of so many numbers.
pub(crate) fn most_groups(numbers: usize) -> usize {
    (MAX_PARTIAL_BYTES / (numbers * size_of::<f32>())).clamp(1, MAX_GROUPS)
}

/// Whether the tiled WGSL kernels can compute this: blocks of 4 in every mode, and iterations that no driver
/// ends.
fn can_tile(view: &View, times: Times) -> bool {
    let View { s, r, v, w, .. } = *view;
    let iterations = match times {
        Times::Once => view.tiled_iterations(),
        Times::ForEachCore => {
            view.tiled_grad_iterations().max(view.reversed().tiled_grad_iterations())
        }
    };
    [s, r, v, w].iter().all(|extent| extent.is_multiple_of(4)) && iterations <= MAX_ITERATIONS
}

/// What the strategies are expected to take, in multiply-adds of the tiled kernels that take as long.
struct Work {
    contracted: f64,
    rebuilt: f64,
    plain: f64,
}

impl Work {
    fn of(layer: &MpsSpec, order: Order, (batch, times): (usize, Times), target: Target) -> Self {
        let times = match times {
            Times::Once => 1.0,
            Times::ForEachCore => 2.0,
        };
        let [images, bond] = [batch, layer.k].map(|count| count as f64);
        let contracted = match target {
            Target::Cpu => order.multiply_adds_in_lanes(layer),
            Target::Software | Target::Gpu => order.multiply_adds(layer),
        };
        let contracted = times * images * contracted as f64;
        let dense = dense(layer);
        // Measured with `bench --variant all` at the article's extents: a multiply-add of the
        // rebuilt strategy takes this part of one of the tiled kernels', and permuting W as long as
        // this many samples.
        let (part, permuted) = match target {
            Target::Cpu => (0.9, 48.0),
            Target::Software => (0.75, 48.0),
            // A guess: no GPU has been at hand. Both kernels take as many multiply-adds for a load, tiles of a product
            // leave fewer lanes idle.
            Target::Gpu => (0.8, 16.0),
        };
        let rebuilt = dense * part * (images + permuted + times * bond);
        // On a GPU the launches count that it has more of: 4, or 9 for the gradients. One takes some 4 µs, in which a
        // card does 40 million multiply-adds.
        let launches = match target {
            Target::Gpu => 40e6 * (5.0 * times - 1.0),
            Target::Cpu | Target::Software => 0.0,
        };
        // The plain kernels take 18 times as long for a multiply-add there.
        Self { contracted, rebuilt: rebuilt + launches, plain: 18.0 * contracted }
    }
}

/// The order that takes the kernels of a target less.
fn order_on(target: Target, layer: &MpsSpec) -> Order {
    match target {
        Target::Cpu => Order::cheaper_in_lanes(layer),
        Target::Software | Target::Gpu => Order::cheaper(layer),
    }
}

/// Multiply-adds per sample of the dense layer.
fn dense(layer: &MpsSpec) -> f64 {
    layer.inputs() as f64 * layer.outputs() as f64
}

/// What the forward pass is expected to take, in multiply-adds of the tiled kernels that take as long.
pub(crate) fn expected_work(spec: &MpsSpec, batch: usize, target: Target) -> f64 {
    let work = Work::of(spec, order_on(target, spec), (batch, Times::Once), target);
    if dense(spec) <= MAX_REBUILT { work.contracted.min(work.rebuilt) } else { work.contracted }
}

/// The strategy that is expected to take the least time: `layer` with its extents as the tiled kernels get
/// them, whether these are padded, and whether those kernels can compute it.
fn fastest(
    layer: &MpsSpec,
    order: Order,
    pass: (usize, Times),
    target: Target,
    (padded, tiles): (bool, bool),
) -> Strategy {
    let Work { contracted, rebuilt, plain } = Work::of(layer, order, pass, target);
    match target {
        // The six copies into other extents and back take as long as 4 million multiply-adds (0.5 ms).
        Target::Software if padded && plain < rebuilt.min(contracted) + 4e6 => Strategy::Plain,
        _ if rebuilt < contracted && dense(layer) <= MAX_REBUILT => Strategy::Rebuilt,
        _ if tiles => Strategy::Tiled,
        _ => Strategy::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As measured: see docs/benchmarks.md.
    #[test]
    fn the_matrix_is_rebuilt_where_the_bond_is_large() {
        let strategy = |bond, batch, target| {
            let spec = MpsSpec::new([28, 28], [32, 16], bond).unwrap();
            let forward = Plan::forward(&spec, batch, target, None).strategy;
            (forward, Plan::grads(&spec, batch, target, None).strategy)
        };
        use Strategy::{Plain, Rebuilt, Tiled};
        assert_eq!(strategy(8, 128, Target::Cpu), (Tiled, Tiled));
        assert_eq!(strategy(16, 128, Target::Cpu), (Tiled, Rebuilt));
        assert_eq!(strategy(64, 512, Target::Cpu), (Rebuilt, Rebuilt));
        assert_eq!(strategy(298, 1, Target::Cpu), (Tiled, Tiled));
        assert_eq!(strategy(4, 128, Target::Software), (Tiled, Tiled));
        assert_eq!(strategy(8, 128, Target::Software), (Tiled, Tiled));
        assert_eq!(strategy(16, 128, Target::Software), (Tiled, Rebuilt));
        assert_eq!(strategy(32, 128, Target::Software), (Rebuilt, Rebuilt));
        assert_eq!(strategy(64, 128, Target::Software), (Rebuilt, Rebuilt));
        assert_eq!(strategy(298, 128, Target::Software), (Rebuilt, Rebuilt));
        assert_eq!(strategy(1, 65_536, Target::Gpu), (Tiled, Tiled));
        assert_eq!(strategy(16, 128, Target::Gpu), (Tiled, Tiled));
        assert_eq!(strategy(64, 4096, Target::Gpu), (Rebuilt, Rebuilt));
        let odd = |bond, batch| {
            let spec = MpsSpec::new([27, 29], [31, 17], bond).unwrap();
            Plan::forward(&spec, batch, Target::Software, None).strategy
        };
        assert_eq!([odd(1, 1), odd(4, 128), odd(64, 128)], [Plain, Tiled, Rebuilt]);
        assert_eq!(strategy(298, 128, Target::Gpu), (Rebuilt, Rebuilt));
        // W of 65,536 x 65,536 would not fit.
        let large = MpsSpec::new([256, 256], [256, 256], 4096).unwrap();
        assert_eq!(Plan::forward(&large, 65_536, Target::Gpu, None).strategy, Plain);
    }

    #[test]
    fn pieces_cover_every_iteration_once_and_none_is_too_long() {
        let length = |[begin, end]: [usize; 2]| end - begin;
        for extents in [[1, 1, 1], [28, 1, 28], [28, 448, 28], [3, 70_000, 2], [2, 3, 100_000]] {
            let mut covered = 0;
            for Piece { outer, middle, inner } in pieces(extents) {
                let (s, k, r) = (length(outer), length(middle), length(inner));
                covered += s * k * r;
                assert!(s * (k * (r + 2) + 2) <= 65_535, "{extents:?}: {s} {k} {r}");
            }
            assert_eq!(covered, extents.iter().product::<usize>(), "{extents:?}");
        }
        assert_eq!(pieces([28, 16, 28]).len(), 1, "the article's layer needs one launch");
    }

    /// A plan says tiled only where the tiled kernels compute it, and pads only where they need it.
    #[test]
    fn a_plan_is_what_can_be_executed() {
        let forced = Some(Strategy::Tiled);
        let odd = MpsSpec::new([27, 29], [3, 1], 1).unwrap();
        let even = MpsSpec::new([28, 28], [32, 16], 1).unwrap();
        let padded = MpsSpec { j: 28, l: 32, m: 4, n: 4, k: 1 };
        let plan = |spec: &MpsSpec, batch, target| {
            let forward = Plan::forward(spec, batch, target, forced);
            let grads = Plan::grads(spec, batch, target, forced);
            let grad_x = Plan::grad_x(spec, batch, target, forced);
            assert_eq!(forward.layer, grad_x.layer);
            assert_eq!((forward.layer, forward.strategy), (grads.layer, grads.strategy));
            (forward.layer, forward.strategy)
        };
        assert_eq!(plan(&even, 19_000, Target::Software), (even, Strategy::Tiled));
        assert_eq!(plan(&odd, 128, Target::Software), (padded, Strategy::Tiled));
        // 19,000 · 28 · 32 is more than 16 million elements.
        assert_eq!(plan(&odd, 19_000, Target::Software), (odd, Strategy::Plain));
        assert_eq!(plan(&odd, 128, Target::Gpu), (odd, Strategy::Tiled));
        assert_eq!(plan(&odd, 128, Target::Cpu), (odd, Strategy::Tiled));
        // 20,000 / 4 iterations, twelve times and more: the driver would end the loop.
        let long = MpsSpec::new([48, 20_000], [4, 4], 1).unwrap();
        assert_eq!(Plan::forward(&long, 4, Target::Software, forced).strategy, Strategy::Plain);
        // The products of the rebuilt strategy sum over the bond.
        let bond_298 = MpsSpec { k: 298, ..even };
        let rebuilt = Plan::forward(&bond_298, 128, Target::Software, Some(Strategy::Rebuilt));
        assert_eq!(rebuilt.layer, MpsSpec { k: 300, ..even });
        // There are no plain kernels on the CPU device.
        let plain = Plan::forward(&even, 128, Target::Cpu, Some(Strategy::Plain));
        assert_eq!(plain.strategy, Strategy::Tiled);
    }
}
