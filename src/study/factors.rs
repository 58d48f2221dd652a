//! Which factors a width is folded into: `512 = 32 x 16 = 64 x 8 = 8 x 8 x 8 = …`.

use crate::net::{Kind, Mps};

/// Most proposals.
const MOST: usize = 4;

/// A factor is at most so many times another: a core of the smaller one would have next to nothing to say.
const BALANCE: usize = 8;

/// Up to four ways to fold a tensor layer's `width` into as many factors as its input has, those first with which it takes
/// the fewest multiply-adds per image, of equal ones those whose factors are closest to each other. A width that has none in
/// balance is folded into what it has.
pub fn propose(in_factors: &[usize], width: usize, bond: usize) -> Vec<Vec<usize>> {
    let mut ways = foldings(width, in_factors.len());
    let lean = |factors: &Vec<usize>| {
        let (most, least) = (factors.iter().max(), factors.iter().min());
        most.copied().unwrap_or(1).div_ceil(least.copied().unwrap_or(1).max(1))
    };
    let least = ways.iter().map(lean).min().unwrap_or(1);
    ways.retain(|factors| lean(factors) <= BALANCE.max(least));
    let input = [1, 1, in_factors.iter().product()];
    let work = |factors: &Vec<usize>| {
        let layer = Mps::new(in_factors, factors.clone(), bond);
        layer.multiply_adds(input).forward
    };
    ways.sort_by_cached_key(|factors| {
        (work(factors), lean(factors), std::cmp::Reverse(factors.clone()))
    });
    ways.truncate(MOST);
    ways
}

/// All ways to write a number as a product of so many, in any order.
fn foldings(width: usize, count: usize) -> Vec<Vec<usize>> {
    if count <= 1 {
        return vec![vec![width]];
    }
    let divisors = (1..=width).filter(|first| width.is_multiple_of(*first));
    let with = |first: usize| {
        let rest = foldings(width / first, count - 1).into_iter();
        rest.map(move |rest| [&[first], &rest[..]].concat())
    };
    divisors.flat_map(with).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposals_are_balanced_and_cheap() {
        for in_factors in [&[28, 28][..], &[4, 7, 4, 7]] {
            let ways = propose(in_factors, 512, 2);
            assert_eq!(ways.len(), MOST);
            let work = |factors: &Vec<usize>| {
                Mps::new(in_factors, factors.clone(), 2).multiply_adds([1, 28, 28]).forward
            };
            assert!(ways.windows(2).all(|two| work(&two[0]) <= work(&two[1])), "{ways:?}");
            for factors in &ways {
                assert_eq!(factors.iter().product::<usize>(), 512);
                let (most, least) = (factors.iter().max().unwrap(), factors.iter().min().unwrap());
                assert!(most / least <= BALANCE, "{ways:?}");
            }
        }
        // A prime width cannot be balanced.
        assert_eq!(propose(&[28, 28], 521, 1), [[521, 1], [1, 521]]);
        assert_eq!(propose(&[2, 3], 1, 1), [[1, 1]]);
    }
}
