//! The tiles of the GPU's kernels: what a workgroup computes, and what of it lies in workgroup memory at once.
//!
//! `gpu/contract.wgsl` and `gpu/grads.wgsl` in `shaders/` take any extents, `gpu/grads_whole.wgsl` those that it can take
//! whole; how they are cut is decided here, from the
//! extents and the batch alone, so that the same operands give the same bits.

use super::View;

/// Invocations of a workgroup.
const LANES: usize = 64;

/// Room for a tile of the input in workgroup memory, in vec4 as all of these, where the input does not come in runs of
/// four.
pub const CONTRACT_X: usize = 160;
/// Of F.
pub const CONTRACT_F: usize = 128;
/// Of G.
pub const CONTRACT_G: usize = 224;
/// Room for tiles of the input, then of the gradient of the output.
pub const GRADS_X: usize = 392;
/// Of F.
pub const GRADS_F: usize = 224;

/// Workgroups that a launch should have, where the batch is large enough: some for each of a large card's processors.
const ENOUGH: usize = 1024;

/// Workgroups below which a small batch is spread over more of them.
const FEW: usize = 32;

fn fours(extent: usize) -> usize {
    extent.div_ceil(4)
}

fn floor4(count: usize) -> usize {
    count / 4 * 4
}

/// Whether runs of four numbers, along what is contiguous in X and Y, come out even. A mode of extent 1 says nothing of
/// what is contiguous.
pub fn is_even(view: &View) -> bool {
    let contiguous = |[other, stride]: [usize; 2], [of_other, extent]: [usize; 2]| {
        if stride == 1 && (extent > 1 || other != 1) { extent } else { of_other }
    };
    let runs = [contiguous(view.x, [view.s, view.r]), contiguous(view.y, [view.w, view.v])];
    runs.iter().all(|run| run.is_multiple_of(4))
}

/// How `gpu/contract.wgsl` cuts a contraction. `tile_w` and `chunk_s` are counted in fours, `tile_v` in eights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContractTiles {
    /// Samples of a workgroup.
    pub samples: usize,
    /// Extent of `w` that a workgroup computes.
    pub tile_w: usize,
    /// Extent of `v` that a workgroup computes.
    pub tile_v: usize,
    /// Extent of `s` in workgroup memory.
    pub chunk_s: usize,
    /// Extent of `r` in workgroup memory.
    pub chunk_r: usize,
    /// Extent of the bond that a workgroup sums over.
    pub part_k: usize,
    /// Number of such parts.
    pub parts: usize,
    /// Workgroups of the launch.
    pub workgroups: usize,
}

impl ContractTiles {
    /// The tiles for a batch.
    pub fn of(view: &View, batch: usize) -> Self {
        let eights = view.v.div_ceil(8);
        let tile_v = eights.min(4);
        let tile_w = fours(view.w).min(LANES / tile_v).min(CONTRACT_G / 4);
        let room_for_x = if is_even(view) { usize::MAX } else { CONTRACT_X };
        let chunks = |samples: usize| {
            let lanes = LANES / (samples * tile_v);
            // So that four of r fit beside it.
            let of_x = room_for_x / (4 * samples);
            let chunk_s = fours(view.s).min(lanes).min(CONTRACT_G / (4 * tile_w)).min(of_x);
            let room = (room_for_x / (samples * chunk_s)).min(CONTRACT_F / (2 * tile_v));
            (chunk_s, view.r.next_multiple_of(4).min(floor4(room)))
        };
        // As many samples as there are lanes for, or half as many and so on, until all of a sample is taken at once.
        let fits = |samples: usize| {
            let (chunk_s, chunk_r) = chunks(samples);
            chunk_s == fours(view.s) && chunk_r >= view.r
        };
        let most = (LANES / (tile_v * tile_w)).min(batch).min(room_for_x / 4);
        let halved = |samples: &usize| Some(samples / 2).filter(|half| *half > 0);
        let halves = std::iter::successors(Some(most), halved);
        let mut samples = halves.into_iter().find(|samples| fits(*samples)).unwrap_or(most);
        let tiles = eights.div_ceil(tile_v) * fours(view.w).div_ceil(tile_w);
        while samples > 1 && batch.div_ceil(samples) * tiles < FEW {
            samples = samples.div_ceil(2);
        }
        let (chunk_s, chunk_r) = chunks(samples);
        // A small batch leaves most of a card idle, and a bond of 8 takes as long as two launches.
        let workgroups = batch.div_ceil(samples) * tiles;
        let parts = match view.k {
            0..8 => 1,
            bond => (4 * FEW).div_ceil(workgroups).min(bond / 4),
        };
        let part_k = view.k.div_ceil(parts);
        let parts = view.k.div_ceil(part_k);
        let workgroups = workgroups * parts;
        Self { samples, tile_w, tile_v, chunk_s, chunk_r, part_k, parts, workgroups }
    }

    /// Loop iterations of an invocation.
    pub fn iterations(&self, view: &View) -> usize {
        let Self { samples, tile_w, tile_v, chunk_s, chunk_r, .. } = *self;
        let loads = |count: usize| count.div_ceil(LANES) + 1;
        let r = loads(samples * chunk_r * chunk_s) + loads(chunk_r * 2 * tile_v) + chunk_r / 4 + 2;
        let s = view.r.div_ceil(chunk_r) * r + loads(4 * chunk_s * tile_w) + chunk_s + 2;
        self.part_k * (fours(view.s).div_ceil(chunk_s) * s + 2) + 20
    }
}

/// How `gpu/grads.wgsl` cuts the gradient by the `G` of a view. Tiles and `chunk_v` are counted in fours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GradTiles {
    /// Samples in workgroup memory.
    pub samples: usize,
    /// Extent of `w` that a workgroup computes.
    pub tile_w: usize,
    /// Extent of `s` that a workgroup computes.
    pub tile_s: usize,
    /// Extent of `v` in workgroup memory.
    pub chunk_v: usize,
    /// Extent of `r` in workgroup memory.
    pub chunk_r: usize,
    /// Tiles of the gradient side by side, which share the samples.
    pub slots: usize,
    /// Workgroups for one group of samples.
    pub workgroups: usize,
}

impl GradTiles {
    /// The tiles for groups of at most so many samples.
    pub fn of(view: &View, group_size: usize) -> Self {
        let tile_s = fours(view.s).min(8);
        let tile_w = fours(view.w).min(LANES / tile_s);
        let (whole_v, whole_r) = (fours(view.v), view.r.next_multiple_of(4));
        let most = (LANES / tile_s).min(group_size);
        // As many samples as fit with all of v and r; if not one does, chunks of these.
        let fits = |samples: usize| {
            samples * tile_s * whole_v <= LANES
                && samples * whole_r * tile_s <= GRADS_X
                && samples * 4 * whole_v * tile_w <= GRADS_X
                && whole_r * whole_v <= GRADS_F
        };
        let (samples, chunk_v, chunk_r) = match (1..=most).rev().find(|samples| fits(*samples)) {
            Some(samples) => (samples, whole_v, whole_r),
            None => {
                let chunk_v =
                    whole_v.min(LANES / tile_s).min(GRADS_X / (4 * tile_w)).min(GRADS_F / 4);
                let room = (GRADS_X / tile_s).min(GRADS_F / chunk_v);
                (1, chunk_v, whole_r.min(floor4(room)))
            }
        };
        let slots = (LANES / (tile_w * tile_s)).min(samples);
        let workgroups = view.k * fours(view.w).div_ceil(tile_w) * fours(view.s).div_ceil(tile_s);
        Self { samples, tile_w, tile_s, chunk_v, chunk_r, slots, workgroups }
    }

    /// Loop iterations of an invocation for a group of so many samples.
    pub fn iterations(&self, view: &View, group_size: usize) -> usize {
        let Self { samples, tile_w, tile_s, chunk_v, chunk_r, .. } = *self;
        let loads = |count: usize| count.div_ceil(LANES) + 1;
        let r = loads(samples * chunk_r * tile_s) + loads(chunk_r * chunk_v) + chunk_r / 4 + 2;
        let v = view.r.div_ceil(chunk_r) * r
            + loads(samples * 4 * chunk_v * tile_w)
            + samples.div_ceil(self.slots) * (chunk_v + 2)
            + 2;
        group_size.div_ceil(samples) * (fours(view.v).div_ceil(chunk_v) * v + 2) + 80
    }
}

/// Workgroup memory of `gpu/grads_whole.wgsl`, in vec4: what WebGPU grants.
pub const WHOLE_ROOM: usize = 1024;

/// How `gpu/grads_whole.wgsl` shares out the gradients by both cores, where it can compute them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WholeTiles {
    /// Number of partial sums.
    pub groups: usize,
    /// Samples of each.
    pub group_size: usize,
    /// Tiles of a gradient side by side, by `G` and by `F`, which share the sum over `v` or `s`.
    pub slots: [usize; 2],
    /// Workgroups of the launch.
    pub workgroups: usize,
}

impl WholeTiles {
    /// The tiles for a batch, with at most `most_groups` partial sums; none if the operands of a sample at one k do not
    /// fit into workgroup memory, or the gradients into the registers of a workgroup.
    pub fn of(view: &View, batch: usize, most_groups: usize) -> Option<Self> {
        let [s, r, v, w] = [view.s, view.r, view.v, view.w].map(fours);
        let room: usize = Self::matrices(view).iter().map(|[rows, row]| rows * (4 * row + 1)).sum();
        let [by_g, by_f] = [w.div_ceil(2) * s, v.div_ceil(2) * r];
        if room > WHOLE_ROOM || by_g + by_f > LANES {
            return None;
        }
        // One more slot for whichever takes longer, while there are invocations for it.
        let mut slots = [1, 1];
        loop {
            let [takes_g, takes_f] = [v.div_ceil(slots[0]), s.div_ceil(slots[1])];
            let (slower, most) = if takes_g >= takes_f { (0, v) } else { (1, s) };
            let mut more = slots;
            more[slower] += 1;
            if more[slower] > most || more[0] * by_g + more[1] * by_f > LANES {
                break;
            }
            slots = more;
        }
        // A workgroup does what takes two of `gpu/grads.wgsl`. With one sample it would load the cores, and store the
        // sums, as often as its input.
        let wanted = ENOUGH.div_ceil(2 * view.k).min(most_groups);
        let group_size = batch.div_ceil(wanted).max(2).min(batch);
        let groups = batch.div_ceil(group_size);
        Some(Self { groups, group_size, slots, workgroups: groups * view.k })
    }

    /// Rows, and the length of a row, both in fours, of what lies in workgroup memory: X, D, F, G, U and T.
    fn matrices(view: &View) -> [[usize; 2]; 6] {
        let [s, r, v, w] = [view.s, view.r, view.v, view.w].map(fours);
        [[s, r], [w, v], [r, v], [s, w], [v, s], [v, s]]
    }

    /// Loop iterations of an invocation.
    pub fn iterations(&self, view: &View) -> usize {
        let Self { group_size, slots: [by_g, by_f], .. } = *self;
        let [s, r, v, w] = [view.s, view.r, view.v, view.w].map(fours);
        let loads = |blocks: usize| blocks.div_ceil(LANES) + 1;
        let products = (2 * s * v.div_ceil(2)).div_ceil(LANES) * (r.max(w) + 2) + 1;
        let sums = v.div_ceil(by_g).max(s.div_ceil(by_f)) + 2;
        let sample = loads(s * r) + loads(w * v) + products + sums;
        let bias = (view.w * view.v).div_ceil(4 * LANES) * (group_size + 2) + 1;
        loads(r * v) + loads(s * w) + group_size * sample + by_g.max(by_f) + bias + 2
    }
}

/// The gradients by both cores: of the view's `G`, and of its `F`, which is the `G` of the reversed view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GradsTiles {
    /// Number of partial sums.
    pub groups: usize,
    /// Samples of each.
    pub group_size: usize,
    /// Of `G` and of `F`.
    pub cores: [GradTiles; 2],
}

impl GradsTiles {
    /// The tiles for a batch, with at most `most_groups` partial sums.
    pub fn of(view: &View, batch: usize, most_groups: usize) -> Self {
        let cores =
            |group_size| [*view, view.reversed()].map(|view| GradTiles::of(&view, group_size));
        let [by_g, by_f] = cores(batch);
        let wanted = ENOUGH.div_ceil(by_g.workgroups + by_f.workgroups).min(most_groups);
        // No fewer samples than one iteration takes.
        let group_size = batch.div_ceil(wanted).max(by_g.samples.min(2)).min(batch);
        Self { groups: batch.div_ceil(group_size), group_size, cores: cores(group_size) }
    }

    /// Loop iterations of an invocation.
    pub fn iterations(&self, view: &View) -> usize {
        let [by_g, by_f] = &self.cores;
        by_g.iterations(view, self.group_size)
            .max(by_f.iterations(&view.reversed(), self.group_size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mps::{MpsSpec, Order};

    /// Both passes of layers of many extents, in both orders.
    fn views() -> Vec<View> {
        let mut views = Vec::new();
        for [j, l, m, n, k] in [
            [28, 28, 32, 16, 1],
            [28, 28, 32, 16, 16],
            [28, 28, 16, 32, 4],
            [27, 29, 31, 17, 3],
            [1, 1, 1, 1, 1],
            [1, 300, 2, 300, 2],
            [300, 1, 300, 2, 2],
            [4, 400, 4, 400, 1],
            [64, 64, 64, 64, 8],
            [256, 256, 256, 256, 300],
            [5, 7, 1000, 3, 2],
            [1000, 3, 5, 7, 2],
        ] {
            let spec = MpsSpec::new([j, l], [m, n], k).unwrap();
            for order in [Order::CFirst, Order::AFirst] {
                views.extend([View::forward(&spec, order), View::transposed(&spec, order)]);
            }
        }
        views.iter().flat_map(|view| [*view, view.reversed()]).collect()
    }

    #[test]
    fn tiles_fit_into_workgroup_memory() {
        for view in views() {
            for batch in [1, 2, 7, 128, 4096, 65_536] {
                let tiles = ContractTiles::of(&view, batch);
                let ContractTiles { samples, tile_w, tile_v, chunk_s, chunk_r, .. } = tiles;
                assert!(samples * tile_w * tile_v <= LANES, "{view:?} {tiles:?}");
                assert!(samples * chunk_s * tile_v <= LANES, "{view:?} {tiles:?}");
                let of_x = samples * chunk_r * chunk_s;
                assert!(of_x <= CONTRACT_X || is_even(&view), "{view:?} {tiles:?}");
                assert!(chunk_r * 2 * tile_v <= CONTRACT_F, "{view:?} {tiles:?}");
                assert!(4 * chunk_s * tile_w <= CONTRACT_G, "{view:?} {tiles:?}");
                assert!(chunk_r.is_multiple_of(4) && chunk_r > 0 && chunk_s > 0 && samples > 0);
                assert!(
                    tiles.part_k * tiles.parts >= view.k
                        && tiles.part_k * (tiles.parts - 1) < view.k
                );

                let GradsTiles { groups, group_size, cores } = GradsTiles::of(&view, batch, 1024);
                assert!(groups * group_size >= batch && (groups - 1) * group_size < batch);
                assert!(groups <= 1024);
                for tiles in cores {
                    let GradTiles { samples, tile_w, tile_s, chunk_v, chunk_r, slots, .. } = tiles;
                    assert!(slots * tile_w * tile_s <= LANES && slots > 0, "{view:?} {tiles:?}");
                    assert!(samples * tile_s * chunk_v <= LANES, "{view:?} {tiles:?}");
                    assert!(samples * chunk_r * tile_s <= GRADS_X, "{view:?} {tiles:?}");
                    assert!(samples * 4 * chunk_v * tile_w <= GRADS_X, "{view:?} {tiles:?}");
                    assert!(chunk_r * chunk_v <= GRADS_F, "{view:?} {tiles:?}");
                    assert!(chunk_r.is_multiple_of(4) && chunk_r > 0 && chunk_v > 0 && samples > 0);
                }
            }
        }
    }

    /// Two samples at once, all of them in workgroup memory, most lanes busy.
    #[test]
    fn the_article_s_layer_is_not_cut() {
        let spec = MpsSpec::new([28, 28], [32, 16], 1).unwrap();
        let forward = View::forward(&spec, Order::CFirst);
        let tiles = ContractTiles::of(&forward, 4096);
        assert_eq!((tiles.samples, tiles.chunk_s, tiles.chunk_r), (4, 7, 28));
        assert_eq!(ContractTiles::of(&forward, 128).workgroups, 32);
        let GradsTiles { group_size, groups, cores: [by_a, by_c] } =
            GradsTiles::of(&forward, 128, 1024);
        assert_eq!((group_size, groups), (2, 64));
        assert_eq!((by_a.samples, by_a.slots, by_c.samples, by_c.slots), (2, 1, 2, 2));
        let bond_16 = View { k: 16, ..forward };
        assert_eq!(GradsTiles::of(&bond_16, 128, 1024).groups, 32);
        assert_eq!(ContractTiles::of(&bond_16, 1).parts, 4);
    }

    /// Where the whole of a sample does not fit, there is no such launch; where there is one, all of it fits.
    #[test]
    fn whole_samples_fit_into_workgroup_memory() {
        let mut fitting = 0;
        for view in views() {
            for batch in [1, 2, 7, 128, 4096, 65_536] {
                let Some(tiles) = WholeTiles::of(&view, batch, 1024) else { continue };
                fitting += 1;
                let WholeTiles { groups, group_size, slots: [by_g, by_f], workgroups } = tiles;
                assert!(groups * group_size >= batch && (groups - 1) * group_size < batch);
                assert!(groups <= 1024 && workgroups == groups * view.k);
                let room = WholeTiles::matrices(&view).map(|[rows, row]| rows * (4 * row + 1));
                assert!(room.iter().sum::<usize>() <= WHOLE_ROOM, "{view:?}");
                // The slots' sums take the place of the operands.
                const { assert!(8 * LANES <= WHOLE_ROOM) };
                let [s, r, v, w] = [view.s, view.r, view.v, view.w].map(fours);
                let lanes = by_g * w.div_ceil(2) * s + by_f * v.div_ceil(2) * r;
                assert!(lanes <= LANES && (1..=v).contains(&by_g) && (1..=s).contains(&by_f));
            }
        }
        assert!(fitting > 0);
    }

    /// Two samples a workgroup at a batch of 128, as many groups as the kernel that cuts, and most invocations busy.
    #[test]
    fn the_article_s_samples_fit_whole() {
        let spec = MpsSpec::new([28, 28], [32, 16], 1).unwrap();
        let forward = View::forward(&spec, Order::CFirst);
        let tiles = WholeTiles::of(&forward, 128, 1024).unwrap();
        assert_eq!(tiles, WholeTiles { groups: 64, group_size: 2, slots: [1, 2], workgroups: 64 });
        let bond_16 = View { k: 16, ..forward };
        assert_eq!(WholeTiles::of(&bond_16, 128, 1024).unwrap().groups, 32);
        assert_eq!(WholeTiles::of(&View::forward(&spec, Order::AFirst), 128, 1024), None);
        let turned = MpsSpec::new([28, 28], [16, 32], 1).unwrap();
        assert!(WholeTiles::of(&View::forward(&turned, Order::AFirst), 128, 1024).is_some());
    }
}
