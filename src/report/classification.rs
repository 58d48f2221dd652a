//! What a classifier's answers come to: accuracy, confusion matrix, precision and recall of each class and their
//! averages, how far its probabilities can be believed, and the mistakes.

use serde::Serialize;

use crate::net::Prediction;
use crate::{Error, Result};

/// Bins of a reliability diagram, as in C. Guo et al., "On Calibration of Modern Neural Networks" (2017).
pub const BINS: usize = 15;

/// Everything that follows from labels and predictions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Classification {
    /// Number of images.
    pub images: usize,
    /// Fraction of images classified correctly; 0 without images.
    pub accuracy: f64,
    /// How many images of each true class (rows) were taken for each class (columns).
    pub confusion: Vec<Vec<usize>>,
    /// Precision and recall of each class.
    pub classes: Vec<Scores>,
    /// Their averages.
    pub averages: Averages,
    /// The expected calibration error: [`expected_calibration_error`].
    pub ece: f64,
    /// The bins of the reliability diagram, of equal width, from probability 0 to 1.
    pub bins: Vec<Bin>,
    /// The wrong answers, those with the highest probability first; of equal ones the first image first.
    pub mistakes: Vec<Mistake>,
}

/// Precision, recall and F1 of a class, or their averages. What has the denominator 0 is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Scores {
    /// Of the images that were taken for the class, the fraction that is of it.
    pub precision: f64,
    /// Of the images of the class, the fraction that was taken for it.
    pub recall: f64,
    /// The harmonic mean of precision and recall.
    pub f1: f64,
    /// Number of images of the class.
    pub support: usize,
}

/// Averages over the classes that some image has or was taken for; others would lower them without saying anything of
/// the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Averages {
    /// Every class counts the same.
    #[serde(rename = "macro")]
    pub macro_average: Scores,
    /// Every class counts by its number of images.
    pub weighted: Scores,
}

/// The images whose answers have a probability in `(low, high]`; 0 is in the first bin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Bin {
    /// Where it begins.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
    /// Number of images.
    pub count: usize,
    /// Mean probability of their answers; 0 without images.
    pub probability: f64,
    /// Fraction of them classified correctly; 0 without images.
    pub accuracy: f64,
}

/// An image that was taken for another class than its own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mistake {
    /// Its position in the set, counted from 0.
    pub image: usize,
    /// Its class.
    #[serde(rename = "true")]
    pub class: usize,
    /// The class that it was taken for.
    pub predicted: usize,
    /// The probability of that one.
    pub probability: f32,
}

impl Classification {
    /// Compares predictions with the labels of the same images, in a set of so many classes.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming `labels` when there are more or fewer than predictions, and naming what holds a class
    /// that there is not.
    pub fn new(labels: &[u8], predictions: &[Prediction], classes: usize) -> Result<Self> {
        check(labels, predictions, classes)?;
        let mut confusion = vec![vec![0; classes]; classes];
        let mut mistakes = Vec::new();
        for (image, (&label, &prediction)) in labels.iter().zip(predictions).enumerate() {
            let Prediction { class: predicted, probability } = prediction;
            let class = usize::from(label);
            confusion[class][predicted] += 1;
            if class != predicted {
                mistakes.push(Mistake { image, class, predicted, probability });
            }
        }
        // The sort keeps the order of equal ones.
        mistakes.sort_by(|one, other| other.probability.total_cmp(&one.probability));
        let images = labels.len();
        let scores: Vec<Scores> = (0..classes).map(|class| scores(&confusion, class)).collect();
        let bins = bins(labels, predictions);
        Ok(Self {
            images,
            accuracy: ratio(images - mistakes.len(), images),
            averages: averages(&scores, &confusion),
            classes: scores,
            confusion,
            ece: expected_calibration_error(&bins),
            bins,
            mistakes,
        })
    }
}

fn check(labels: &[u8], predictions: &[Prediction], classes: usize) -> Result<()> {
    if labels.len() != predictions.len() {
        let expected = predictions.len();
        let problem = format!("{}: expected {expected}, one per prediction", labels.len());
        return Err(Error::argument("labels", problem));
    }
    let beyond = |class: &usize| *class >= classes;
    let label = labels.iter().map(|&label| usize::from(label)).find(beyond);
    let predicted = predictions.iter().map(|prediction| prediction.class).find(beyond);
    match label.map(|class| ("labels", class)).or(predicted.map(|class| ("predictions", class))) {
        Some((name, class)) => {
            let problem = format!("{class}: expected less than {classes}, the classes");
            Err(Error::argument(name, problem))
        }
        None => Ok(()),
    }
}

/// How many images were taken for a class.
fn predicted(confusion: &[Vec<usize>], class: usize) -> usize {
    confusion.iter().map(|row| row[class]).sum()
}

fn scores(confusion: &[Vec<usize>], class: usize) -> Scores {
    let right = confusion[class][class];
    let support = confusion[class].iter().sum();
    let predicted = predicted(confusion, class);
    Scores {
        precision: ratio(right, predicted),
        recall: ratio(right, support),
        // 2 p r / (p + r), without its 0 / 0 where both are 0.
        f1: ratio(2 * right, support + predicted),
        support,
    }
}

fn averages(scores: &[Scores], confusion: &[Vec<usize>]) -> Averages {
    let occurring: Vec<&Scores> = scores
        .iter()
        .enumerate()
        .filter(|(class, of_class)| of_class.support > 0 || predicted(confusion, *class) > 0)
        .map(|(_, of_class)| of_class)
        .collect();
    let support = scores.iter().map(|of_class| of_class.support).sum();
    let average = |weight: fn(&Scores) -> f64| {
        let total: f64 = occurring.iter().map(|of_class| weight(of_class)).sum();
        let mean = |score: fn(&Scores) -> f64| match occurring.len() {
            0 => 0.0,
            _ => occurring.iter().map(|one| weight(one) * score(one)).sum::<f64>() / total,
        };
        Scores {
            precision: mean(|one| one.precision),
            recall: mean(|one| one.recall),
            f1: mean(|one| one.f1),
            support,
        }
    };
    Averages { macro_average: average(|_| 1.0), weighted: average(|one| one.support as f64) }
}

fn bins(labels: &[u8], predictions: &[Prediction]) -> Vec<Bin> {
    let mut bins: Vec<Bin> = (0..BINS)
        .map(|at| Bin { low: ratio(at, BINS), high: ratio(at + 1, BINS), ..Bin::default() })
        .collect();
    for (&label, prediction) in labels.iter().zip(predictions) {
        let probability = f64::from(prediction.probability);
        // Bins have their upper end. A number that is none is counted in the first.
        let at = (probability * BINS as f64).ceil() as usize;
        let bin = &mut bins[at.saturating_sub(1).min(BINS - 1)];
        bin.count += 1;
        bin.probability += probability;
        bin.accuracy += f64::from(u8::from(usize::from(label) == prediction.class));
    }
    for bin in &mut bins {
        let count = bin.count.max(1) as f64;
        bin.probability /= count;
        bin.accuracy /= count;
    }
    bins
}

/// `Σ count / images · |accuracy − probability|` over the bins (Guo et al. 2017, equation 3): by how much probabilities
/// and accuracy differ on average.
pub fn expected_calibration_error(bins: &[Bin]) -> f64 {
    let images: usize = bins.iter().map(|bin| bin.count).sum();
    let gap = |bin: &Bin| bin.count as f64 * (bin.accuracy - bin.probability).abs();
    bins.iter().map(gap).sum::<f64>() / images.max(1) as f64
}

/// 0 where the denominator is.
fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(labels: &[u8], answers: &[(usize, f32)], classes: usize) -> Classification {
        let prediction = |&(class, probability): &(usize, f32)| Prediction { class, probability };
        let predictions: Vec<Prediction> = answers.iter().map(prediction).collect();
        Classification::new(labels, &predictions, classes).unwrap()
    }

    #[track_caller]
    fn near(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-12, "{got} is not {expected}");
    }

    /// Class 3 has no image and is predicted once, class 2 has one and is never predicted, class 4 has neither.
    #[test]
    fn figures_are_those_of_a_calculation_by_hand() {
        let labels = [0, 0, 0, 1, 1, 2];
        let answers = [(0, 0.9), (0, 0.8), (1, 0.6), (1, 0.7), (3, 0.5), (0, 0.8)];
        let found = of(&labels, &answers, 5);
        assert_eq!(found.images, 6);
        near(found.accuracy, 3.0 / 6.0);
        assert_eq!(found.confusion[0], [2, 1, 0, 0, 0]);
        assert_eq!(found.confusion[1], [0, 1, 0, 1, 0]);
        assert_eq!(found.confusion[2], [1, 0, 0, 0, 0]);
        assert_eq!((&found.confusion[3], &found.confusion[4]), (&vec![0; 5], &vec![0; 5]));
        let expected = [
            (2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0, 3),
            (1.0 / 2.0, 1.0 / 2.0, 1.0 / 2.0, 2),
            (0.0, 0.0, 0.0, 1),
            (0.0, 0.0, 0.0, 0),
            (0.0, 0.0, 0.0, 0),
        ];
        for (scores, (precision, recall, f1, support)) in found.classes.iter().zip(expected) {
            near(scores.precision, precision);
            near(scores.recall, recall);
            near(scores.f1, f1);
            assert_eq!(scores.support, support);
        }
        // Over the four classes that occur: (2/3 + 1/2 + 0 + 0) / 4, and (3 · 2/3 + 2 · 1/2 + 0) / 6.
        for (average, expected) in
            [(found.averages.macro_average, 7.0 / 24.0), (found.averages.weighted, 0.5)]
        {
            near(average.precision, expected);
            near(average.recall, expected);
            near(average.f1, expected);
            assert_eq!(average.support, 6);
        }
    }

    #[test]
    fn precision_and_recall_are_not_exchanged() {
        let found = of(&[0, 0, 0, 0, 1], &[(0, 0.9), (1, 0.9), (1, 0.9), (1, 0.9), (1, 0.9)], 2);
        let Scores { precision, recall, f1, support } = found.classes[0];
        assert_eq!((precision, recall, support), (1.0, 0.25, 4));
        near(f1, 0.4);
        assert_eq!((found.classes[1].precision, found.classes[1].recall), (0.25, 1.0));
        near(found.averages.weighted.precision, 0.85);
        near(found.averages.weighted.recall, 0.4);
    }

    #[test]
    fn all_right_all_wrong_and_no_image() {
        let right = of(&[0, 1], &[(0, 1.0), (1, 1.0)], 2);
        assert_eq!((right.accuracy, right.ece, right.mistakes.len()), (1.0, 0.0, 0));
        assert_eq!(right.averages.macro_average.f1, 1.0);
        let wrong = of(&[0, 1], &[(1, 1.0), (0, 1.0)], 2);
        assert_eq!((wrong.accuracy, wrong.ece, wrong.mistakes.len()), (0.0, 1.0, 2));
        assert_eq!(
            wrong.averages,
            Averages {
                macro_average: Scores { support: 2, ..Scores::default() },
                weighted: Scores { support: 2, ..Scores::default() },
            }
        );
        let none = of(&[], &[], 2);
        assert_eq!((none.accuracy, none.ece), (0.0, 0.0));
        assert_eq!(none.averages, Averages::default());
    }

    #[test]
    fn mistakes_begin_with_the_most_certain_and_ties_with_the_first_image() {
        let found = of(&[0; 5], &[(1, 0.5), (1, 0.9), (0, 0.95), (2, 0.5), (1, 0.7)], 3);
        let images: Vec<usize> = found.mistakes.iter().map(|mistake| mistake.image).collect();
        assert_eq!(images, [1, 4, 0, 3]);
        let first = Mistake { image: 1, class: 0, predicted: 1, probability: 0.9 };
        assert_eq!(found.mistakes[0], first);
    }

    #[test]
    fn bins_have_their_upper_end() {
        // 0.2 as f32 is above 3/15; 1/15 in f32, 0.06666667, is too; 1 is in the last and 0 in the first.
        let answers = [(0, 0.0), (0, 0.066), (0, 0.2), (0, 0.5), (1, 1.0), (0, 1.0), (0, f32::NAN)];
        let found = of(&[0; 7], &answers, 2);
        let counts: Vec<usize> = found.bins.iter().map(|bin| bin.count).collect();
        assert_eq!(counts, [3, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!((found.bins[0].low, found.bins[14].high), (0.0, 1.0));
        assert_eq!((found.bins[14].accuracy, found.bins[14].probability), (0.5, 1.0));
        assert!(found.bins.windows(2).all(|pair| pair[0].high == pair[1].low));
    }

    #[test]
    fn the_calibration_error_is_that_of_a_calculation_by_hand() {
        // Two in (14/15, 1]: accuracy 0.5, probability 0.97. One in (8/15, 9/15]: accuracy 1, probability 0.5625.
        let found = of(&[0, 0, 1], &[(0, 0.96), (1, 0.98), (1, 0.5625)], 2);
        let expected = (2.0 * 0.47 + 1.0 * 0.4375) / 3.0;
        assert!((found.ece - expected).abs() < 1e-7, "{} is not {expected}", found.ece);
    }

    #[test]
    fn classes_that_there_are_not_are_refused() {
        let prediction = Prediction { class: 2, probability: 1.0 };
        for (labels, predictions, with) in [
            (&[2][..], &[][..], "labels: 1: expected 0"),
            (&[2], &[prediction], "labels: 2: expected less than 2"),
            (&[1], &[prediction], "predictions: 2: expected less than 2"),
        ] {
            let line = Classification::new(labels, predictions, 2).unwrap_err().to_string();
            assert!(line.starts_with(with), "{line}");
        }
    }
}
