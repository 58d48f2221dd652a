//! Which factors a width is folded into: `512 = 32 x 16 = 64 x 8 = …`.

use crate::net::{Kind, Mps, features};

/// Most proposals.
const MOST: usize = 4;

/// A factor is at most so many times the other: a core of the smaller one would have next to nothing to say.
const BALANCE: usize = 8;

/// Up to four pairs of factors `[M, N]` of a tensor layer's `width`, those first with which it takes the fewest
/// multiply-adds per image, of equal ones those that are closest to each other. A width that has none in balance is
/// folded into what it has.
pub fn propose(in_factors: [usize; 2], width: usize, bond: usize) -> Vec<[usize; 2]> {
    let pairs = (1..=width).filter(|first| width.is_multiple_of(*first));
    let pairs: Vec<[usize; 2]> = pairs.map(|first| [first, width / first]).collect();
    let lean = |[m, n]: &[usize; 2]| m.max(n).div_ceil(*m.min(n));
    let least = pairs.iter().map(lean).min().unwrap_or(1);
    let work = |&out_factors: &[usize; 2]| {
        let layer = Mps { in_factors, out_factors, bond, bias: true };
        let [j, l] = in_factors;
        layer.multiply_adds([1, j, l]).forward
    };
    let mut pairs: Vec<[usize; 2]> =
        pairs.into_iter().filter(|pair| lean(pair) <= BALANCE.max(least)).collect();
    pairs.sort_by_key(|pair| (work(pair), lean(pair), std::cmp::Reverse(pair[0])));
    pairs.truncate(MOST);
    debug_assert!(pairs.iter().all(|pair| features([1, pair[0], pair[1]]) == width));
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposals_are_balanced_and_cheap() {
        let pairs = propose([28, 28], 512, 1);
        assert_eq!(pairs.len(), MOST);
        let work = |out_factors: [usize; 2]| {
            Mps { in_factors: [28, 28], out_factors, bond: 1, bias: true }
                .multiply_adds([1, 28, 28])
                .forward
        };
        assert!(pairs.windows(2).all(|two| work(two[0]) <= work(two[1])), "{pairs:?}");
        for pair in &pairs {
            assert_eq!(pair[0] * pair[1], 512);
            assert!(pair[0].max(pair[1]) / pair[0].min(pair[1]) <= BALANCE, "{pairs:?}");
        }
        // A prime width cannot be balanced.
        assert_eq!(propose([28, 28], 521, 1), [[521, 1], [1, 521]]);
        assert_eq!(propose([2, 3], 1, 1), [[1, 1]]);
    }
}
