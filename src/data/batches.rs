//! The order of the images and the dropout seeds, as functions of seed and epoch.

use rand::Rng;

use crate::random::{Purpose, below, random};

/// The order in which an epoch, counted from 1, visits `count` images: every index once.
pub fn permutation(seed: u64, epoch: usize, count: usize) -> Vec<u32> {
    shuffled(&mut random(Purpose::Order, seed, epoch), count)
}

/// A seed for each of `layers` dropout layers in a step, counted from 0, of an epoch.
pub fn dropout_seeds(seed: u64, epoch: usize, step: usize, layers: usize) -> Vec<u64> {
    let mut random = random(Purpose::Dropout, seed, epoch);
    // Two words per seed, so a step's seeds do not depend on the steps before it.
    random.set_word_pos(2 * layers as u128 * step as u128);
    (0..layers).map(|_| random.next_u64()).collect()
}

/// The indices of the `held_out` of `count` images that are held out, in ascending order.
pub(super) fn held_out(seed: u64, count: usize, held_out: usize) -> Vec<u32> {
    let mut chosen = shuffled(&mut random(Purpose::HoldOut, seed, 0), count);
    chosen.truncate(held_out);
    chosen.sort_unstable();
    chosen
}

/// The indices of the images that become test images: of each class this share, rounded, but never all, chosen by seed.
/// In ascending order.
#[cfg(feature = "images")]
pub(super) fn test_part(seed: u64, labels: &[u8], share: f64) -> Vec<u32> {
    let mut chosen = Vec::new();
    for class in 0..=u8::MAX {
        let own = (0..labels.len() as u32).filter(|&index| labels[index as usize] == class);
        let own: Vec<u32> = own.collect();
        let count = (own.len() as f64 * share).round() as usize;
        let count = count.min(own.len().saturating_sub(1));
        let order = shuffled(&mut random(Purpose::Test, seed, class.into()), own.len());
        chosen.extend(order[..count].iter().map(|&at| own[at as usize]));
    }
    chosen.sort_unstable();
    chosen
}

/// The Fisher-Yates shuffle of `0..count` (R. Durstenfeld 1964).
fn shuffled(random: &mut impl Rng, count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    for last in (1..order.len()).rev() {
        order.swap(last, below(random, last as u32 + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_every_image_once() {
        for count in [0, 1, 2, 3, 1000] {
            let mut order = permutation(200, 1, count);
            order.sort_unstable();
            assert_eq!(order, (0..count as u32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn seed_epoch_and_purpose_all_count() {
        let order = permutation(200, 1, 100);
        assert_eq!(order, permutation(200, 1, 100));
        assert_ne!(order, permutation(201, 1, 100));
        assert_ne!(order, permutation(200, 2, 100));
        let seeds = [(200, 1, 0), (200, 1, 1), (200, 2, 0), (201, 1, 0)]
            .map(|(seed, epoch, step)| dropout_seeds(seed, epoch, step, 2));
        let distinct: std::collections::HashSet<_> = seeds.into_iter().flatten().collect();
        assert_eq!(distinct.len(), 8);
        assert_ne!(held_out(200, 100, 100 - 1), order[..100 - 1]);
    }

    /// A change here changes every training run and would have to be announced.
    #[test]
    fn orders_stay_what_they_were() {
        assert_eq!(permutation(200, 1, 8), [4, 7, 6, 0, 3, 2, 1, 5]);
        assert_eq!(dropout_seeds(200, 1, 0, 2)[0], 15_043_612_436_754_669_399);
        assert_eq!(dropout_seeds(200, 1, 3, 2), dropout_seeds(200, 1, 2, 3)[..2]);
        assert_eq!(held_out(200, 8, 3), [2, 5, 6]);
    }

    #[cfg(feature = "images")]
    #[test]
    fn of_every_class_a_share_becomes_test_images() {
        // 10 images of class 0, 5 of class 1, 1 of class 2, mixed.
        let labels: Vec<u8> = (0..16).map(|at| [0, 1, 0][at % 3]).collect();
        let labels: Vec<u8> = labels
            .iter()
            .enumerate()
            .map(|(at, &label)| if at == 15 { 2 } else { label })
            .collect();
        let of = |part: &[u32], class: u8| {
            part.iter().filter(|&&at| labels[at as usize] == class).count()
        };
        let part = test_part(1, &labels, 0.2);
        assert_eq!([0, 1, 2].map(|class| of(&part, class)), [2, 1, 0]);
        assert!(part.is_sorted());
        assert_eq!(part, test_part(1, &labels, 0.2));
        assert_ne!(part, test_part(2, &labels, 0.2));
        let most = test_part(1, &labels, 1.0);
        assert_eq!([0, 1, 2].map(|class| of(&most, class)), [9, 4, 0]);
    }

    /// Each of the 24 orders of 4 images is expected 1,000 times in 24,000, with a standard
    /// deviation of 31; the bound is five of these, 155.
    #[test]
    fn every_order_is_as_likely() {
        let mut seen = std::collections::HashMap::new();
        for seed in 0..24_000 {
            *seen.entry(permutation(seed, 1, 4)).or_insert(0_i32) += 1;
        }
        assert_eq!(seen.len(), 24);
        assert!(seen.values().all(|&count| (count - 1000).abs() < 155), "{seen:?}");
    }
}
