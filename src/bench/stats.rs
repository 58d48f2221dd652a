//! How a time is measured: warm-up, samples, median.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Result;

/// Shortest sample: work that takes less is repeated within one, so that waiting for the device
/// and reading the clock, some 10 µs, stay below a few percent.
const SHORTEST: Duration = Duration::from_millis(1);

/// Most repetitions within a sample.
const MOST_REPETITIONS: usize = 32;

/// A spread (median absolute deviation over median) that makes a figure doubtful.
pub const WIDE: f64 = 0.1;

/// How long to measure one row.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Untimed executions before the first sample, in which kernels are compiled and tuned.
    pub warmup: usize,
    /// Samples, or, where none is given, as many as fit into `seconds` (5 at least).
    pub samples: Option<usize>,
    /// Time to spend on samples where their number is not given.
    pub seconds: f64,
}

/// What the samples of one row say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Samples {
    /// How many.
    pub samples: usize,
    /// Median of the times of one execution, in seconds.
    pub median_s: f64,
    /// The shortest, in seconds.
    pub min_s: f64,
    /// Median absolute deviation from the median, in seconds.
    pub mad_s: f64,
}

impl Samples {
    /// From the time of each sample, in seconds; at least one.
    fn of(mut times: Vec<f64>) -> Self {
        let median_s = median(&mut times);
        let mut deviations: Vec<f64> = times.iter().map(|time| (time - median_s).abs()).collect();
        Self {
            samples: times.len(),
            median_s,
            min_s: times.iter().copied().fold(f64::INFINITY, f64::min),
            mad_s: median(&mut deviations),
        }
    }

    /// Whether the samples differ so much that the figure is doubtful.
    pub fn is_wide(&self) -> bool {
        self.mad_s > WIDE * self.median_s
    }
}

/// The middle of the sorted numbers, or the mean of the two in the middle.
fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers {
        [] => f64::NAN,
        _ if numbers.len() % 2 == 1 => numbers[middle],
        _ => (numbers[middle - 1] + numbers[middle]) / 2.0,
    }
}

/// Something that can be executed and timed.
pub trait Workload {
    /// Prepares `executions`, untimed, up to the point at which the device has done it.
    fn prepare(&mut self, executions: usize) -> Result<()>;

    /// Executes what was prepared and waits for the device.
    fn execute(&mut self) -> Result<()>;
}

/// Measures a workload.
///
/// # Errors
///
/// The workload's own.
pub fn measure(effort: &Effort, workload: &mut dyn Workload) -> Result<Samples> {
    let mut time = |executions: usize| -> Result<Duration> {
        workload.prepare(executions)?;
        let started = Instant::now();
        workload.execute()?;
        Ok(started.elapsed())
    };
    // At least one, so that nothing is compiled within a sample.
    for _ in 0..effort.warmup.max(1) {
        time(1)?;
    }
    let once = time(1)?.max(Duration::from_nanos(100));
    let repetitions = (SHORTEST.as_secs_f64() / once.as_secs_f64()).ceil() as usize;
    let repetitions = repetitions.clamp(1, MOST_REPETITIONS);
    let started = Instant::now();
    let mut times = Vec::new();
    let enough = |count: usize| match effort.samples {
        Some(samples) => count >= samples.max(1),
        None => count >= 5 && started.elapsed().as_secs_f64() >= effort.seconds,
    };
    while !enough(times.len()) {
        times.push(time(repetitions)?.as_secs_f64() / repetitions as f64);
    }
    Ok(Samples::of(times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_minimum_and_spread_are_those_of_the_samples() {
        let samples = Samples::of(vec![5.0, 1.0, 2.0, 9.0, 3.0]);
        assert_eq!((samples.samples, samples.median_s, samples.min_s), (5, 3.0, 1.0));
        // Deviations 2, 2, 1, 6, 0.
        assert_eq!(samples.mad_s, 2.0);
        assert!(samples.is_wide());
        assert_eq!(Samples::of(vec![1.0, 2.0]).median_s, 1.5);
        assert!(!Samples::of(vec![1.0, 1.01, 0.99]).is_wide());
    }

    /// Counts what it is asked for.
    #[derive(Default)]
    struct Counter {
        prepared: usize,
        executed: usize,
    }

    impl Workload for Counter {
        fn prepare(&mut self, executions: usize) -> Result<()> {
            self.prepared += executions;
            Ok(())
        }

        fn execute(&mut self) -> Result<()> {
            self.executed += 1;
            std::thread::sleep(Duration::from_micros(300));
            Ok(())
        }
    }

    #[test]
    fn samples_are_as_many_as_asked_for_and_warm_up_is_apart() {
        let mut counter = Counter::default();
        let effort = Effort { warmup: 3, samples: Some(4), seconds: 0.0 };
        let samples = measure(&effort, &mut counter).unwrap();
        assert_eq!(samples.samples, 4);
        // Three of warm-up, one to see how long it takes, four samples.
        assert_eq!(counter.executed, 3 + 1 + 4);
        // Work of 0.3 ms is repeated until a sample has 1 ms.
        assert!(counter.prepared > 3 + 1 + 4, "{}", counter.prepared);
    }
}
