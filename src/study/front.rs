//! What each number of parameters buys: the runs of each network together, the front of those that no other beats, and
//! which one to take.

use serde::Serialize;

use super::Spread;
use super::grid::Point;
use super::row::{Figures, Outcome, Row};

/// The runs of one network with one recipe, which differ in their seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The network and the recipe.
    #[serde(flatten)]
    pub point: Point,
    /// Its parameters.
    pub parameters: usize,
    /// Its multiply-adds for one image.
    pub multiply_adds: usize,
    /// Accuracy on the held-out images.
    pub validation_accuracy: Spread,
    /// Accuracy on the test images.
    pub test_accuracy: Spread,
    /// Microseconds of a training step.
    pub step_us: Spread,
    /// Microseconds of one image.
    pub latency_us: Spread,
    /// How many of its runs failed.
    pub failed: usize,
}

impl Summary {
    /// Accuracy on the held-out and on the test images, and microseconds of a step and of one image, as texts.
    pub fn texts(&self) -> [String; 4] {
        [
            self.validation_accuracy.text(4),
            self.test_accuracy.text(4),
            self.step_us.rounded(),
            self.latency_us.rounded(),
        ]
    }
}

/// The rows of each network together, in the order of their first.
pub fn summaries(rows: &[Row]) -> Vec<Summary> {
    let mut groups: Vec<(&Row, Vec<&Row>)> = Vec::new();
    for row in rows {
        match groups.iter_mut().find(|(first, _)| first.point == row.point) {
            Some((_, group)) => group.push(row),
            None => groups.push((row, vec![row])),
        }
    }
    groups.into_iter().map(|(first, group)| summary(first, &group)).collect()
}

fn summary(first: &Row, group: &[&Row]) -> Summary {
    let spread = |figure: fn(&Figures) -> f64| {
        Spread::of(group.iter().filter_map(|row| row.figures()).map(figure))
    };
    Summary {
        point: first.point.clone(),
        parameters: first.parameters,
        multiply_adds: first.multiply_adds,
        validation_accuracy: spread(|figures| figures.validation_accuracy),
        test_accuracy: spread(|figures| figures.test_accuracy),
        step_us: spread(|figures| figures.step_us),
        latency_us: spread(|figures| figures.latency_us),
        failed: group.iter().filter(|row| matches!(row.outcome, Outcome::Failed(_))).count(),
    }
}

/// Which points `(cost, value)` no other beats: none is as cheap and better, or as good and cheaper. In the order of
/// their costs; of equal ones the first.
pub fn front(points: &[(f64, f64)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len())
        .filter(|&at| points[at].0.is_finite() && points[at].1.is_finite())
        .collect();
    order.sort_by(|&one, &other| {
        let ((cost, value), (cost_other, value_other)) = (points[one], points[other]);
        cost.total_cmp(&cost_other).then(value_other.total_cmp(&value))
    });
    let mut best = f64::NEG_INFINITY;
    order.retain(|&at| {
        let better = points[at].1 > best;
        best = best.max(points[at].1);
        better
    });
    order
}

/// Which network to take, and what it was measured against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice<'a> {
    /// The one to take.
    pub taken: &'a Summary,
    /// The one with the best accuracy on the held-out images among those that the budget allows.
    pub best: &'a Summary,
}

/// The network with the fewest parameters whose held-out accuracy is within one standard error of the best one's (L.
/// Breiman et al. 1984, section 3.4.3), among those with at most `budget` parameters. The test images have no part in it.
pub fn choose(summaries: &[Summary], budget: Option<usize>) -> Option<Choice<'_>> {
    let allowed = summaries.iter().filter(|summary| {
        summary.validation_accuracy.count > 0
            && summary.validation_accuracy.mean.is_finite()
            && budget.is_none_or(|budget| summary.parameters <= budget)
    });
    let accuracy = |summary: &Summary| summary.validation_accuracy.mean;
    let best = allowed.clone().max_by(|one, other| {
        let fewer = other.parameters.cmp(&one.parameters);
        accuracy(one).total_cmp(&accuracy(other)).then(fewer)
    })?;
    let least = accuracy(best) - best.validation_accuracy.error();
    let taken = allowed
        .filter(|summary| accuracy(summary) >= least)
        .min_by_key(|summary| summary.parameters)?;
    Some(Choice { taken, best })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(network: &str, seed: u64, parameters: usize, accuracy: Option<f64>) -> Row {
        let outcome = match accuracy {
            None => Outcome::Failed("the loss is NaN".into()),
            Some(accuracy) => Outcome::Finished(Figures {
                epoch: 1,
                validation_accuracy: accuracy,
                test_accuracy: accuracy - 0.01,
                seconds: 1.0,
                step_us: 2.0,
                latency_us: 3.0,
            }),
        };
        let point = Point {
            network: network.into(),
            bond: "1".into(),
            factors: "2x2".into(),
            recipe: String::new(),
        };
        let (first_layer_parameters, multiply_adds) = (1, 2);
        Row { point, seed, parameters, first_layer_parameters, multiply_adds, outcome }
    }

    #[test]
    fn runs_of_a_network_are_put_together() {
        let rows = [
            row("a", 1, 10, Some(0.75)),
            row("b", 1, 20, Some(0.875)),
            row("a", 2, 10, Some(0.25)),
            row("a", 3, 10, None),
        ];
        let summaries = summaries(&rows);
        let names: Vec<&str> = summaries.iter().map(|summary| &summary.point.network[..]).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!((summaries[0].validation_accuracy.mean, summaries[0].failed), (0.5, 1));
        assert_eq!((summaries[0].test_accuracy.count, summaries[1].failed), (2, 0));
    }

    #[test]
    fn the_front_has_what_no_other_beats() {
        let points = [(3.0, 0.9), (1.0, 0.5), (2.0, 0.4), (4.0, 0.9), (1.0, 0.3), (5.0, 1.0)];
        assert_eq!(front(&points), [1, 0, 5]);
        assert_eq!(front(&[(1.0, f64::NAN), (2.0, 0.1)]), [1]);
        assert!(front(&[]).is_empty());
    }

    #[test]
    fn the_smallest_network_near_the_best_is_taken() {
        let rows = [
            row("best", 1, 30, Some(0.92)),
            row("best", 2, 30, Some(0.90)),
            row("near", 1, 20, Some(0.905)),
            row("near", 2, 20, Some(0.901)),
            row("far", 1, 10, Some(0.85)),
            row("failed", 1, 1, None),
        ];
        let summaries = summaries(&rows);
        let names = |budget| {
            let choice = choose(&summaries, budget);
            choice.map(|Choice { taken, best }| [taken, best].map(|one| one.point.network.clone()))
        };
        // The best has 0.91, with a standard error of 0.01.
        assert_eq!(names(None).unwrap(), ["near", "best"]);
        assert_eq!(names(Some(29)).unwrap(), ["near", "near"]);
        assert_eq!(names(Some(10)).unwrap(), ["far", "far"]);
        assert_eq!(names(Some(9)), None);
    }
}
