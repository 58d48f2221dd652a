//! How times are measured: warm-up, samples, median.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Result;

/// Shortest sample: shorter work is repeated within one sample, so that waiting for the device and
/// reading the clock, some 10 µs, stay below a few percent.
const SHORTEST: Duration = Duration::from_millis(1);

/// Most repetitions within a sample.
const MOST_REPETITIONS: usize = 32;

/// The spread (median absolute deviation over median) above which a figure is doubtful.
pub const WIDE: f64 = 0.1;

/// How much to measure for one row.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Untimed executions before the first sample, during which kernels are compiled and tuned.
    pub warmup: usize,
    /// Number of samples; if none is given, as many as fit into `seconds`, at least 5.
    pub samples: Option<usize>,
    /// Time to spend on samples if their number is not given.
    pub seconds: f64,
}

/// Statistics of the samples of one row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Samples {
    /// Number of samples.
    pub samples: usize,
    /// Median time of one execution, in seconds.
    pub median_s: f64,
    /// Shortest time, in seconds.
    pub min_s: f64,
    /// Median absolute deviation from the median, in seconds.
    pub mad_s: f64,
}

impl Samples {
    /// From the time of each sample in seconds; there must be at least one.
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

    /// Whether the samples vary so much that the figure is doubtful.
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
    /// Prepares `executions`, untimed, and waits until the device has finished.
    fn prepare(&mut self, executions: usize) -> Result<()>;

    /// Executes what has been prepared and waits for the device.
    fn execute(&mut self) -> Result<()>;
}

/// Measures a workload.
///
/// # Errors
///
/// The workload's own.
pub fn measure(effort: &Effort, workload: &mut dyn Workload) -> Result<Samples> {
    let begun = Instant::now();
    measure_by(&|| begun.elapsed(), effort, workload)
}

/// [`measure`], with `now` as the clock: the time since some fixed moment.
fn measure_by(
    now: &dyn Fn() -> Duration,
    effort: &Effort,
    workload: &mut dyn Workload,
) -> Result<Samples> {
    let mut time = |executions: usize| -> Result<Duration> {
        workload.prepare(executions)?;
        let started = now();
        workload.execute()?;
        Ok(now() - started)
    };
    // At least one, so that no sample includes compilation.
    for _ in 0..effort.warmup.max(1) {
        time(1)?;
    }
    let once = time(1)?.max(Duration::from_nanos(100));
    let repetitions = (SHORTEST.as_secs_f64() / once.as_secs_f64()).ceil() as usize;
    let repetitions = repetitions.clamp(1, MOST_REPETITIONS);
    let started = now();
    let mut times = Vec::new();
    let enough = |count: usize| match effort.samples {
        Some(samples) => count >= samples.max(1),
        None => count >= 5 && (now() - started).as_secs_f64() >= effort.seconds,
    };
    while !enough(times.len()) {
        times.push(time(repetitions)?.as_secs_f64() / repetitions as f64);
    }
    Ok(Samples::of(times))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

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

    /// Work that takes `each` per execution on a clock of its own, and counts what it is asked for.
    struct Fake<'a> {
        clock: &'a Cell<Duration>,
        each: Duration,
        pending: usize,
        prepared: usize,
        executed: usize,
    }

    impl Workload for Fake<'_> {
        fn prepare(&mut self, executions: usize) -> Result<()> {
            // Preparation takes time too, which must not be counted.
            self.clock.set(self.clock.get() + Duration::from_secs(1));
            self.prepared += executions;
            self.pending = executions;
            Ok(())
        }

        fn execute(&mut self) -> Result<()> {
            self.executed += 1;
            self.clock.set(self.clock.get() + self.each * self.pending as u32);
            Ok(())
        }
    }

    /// Samples, executions prepared and executed of work that takes so many microseconds.
    fn measured(effort: &Effort, micros: u64) -> (Samples, usize, usize) {
        let clock = Cell::new(Duration::ZERO);
        let each = Duration::from_micros(micros);
        let mut work = Fake { clock: &clock, each, pending: 0, prepared: 0, executed: 0 };
        let samples = measure_by(&|| clock.get(), effort, &mut work).unwrap();
        (samples, work.prepared, work.executed)
    }

    #[test]
    fn warm_up_and_samples_are_as_many_as_asked_for() {
        let effort = Effort { warmup: 3, samples: Some(4), seconds: 0.0 };
        let (samples, prepared, executed) = measured(&effort, 300);
        assert_eq!(samples.samples, 4);
        assert!((samples.median_s - 300e-6).abs() < 1e-9, "{samples:?}");
        assert!((samples.min_s - 300e-6).abs() < 1e-9 && samples.mad_s < 1e-9, "{samples:?}");
        // Three of warm-up, one to see how long it takes, four samples.
        assert_eq!(executed, 3 + 1 + 4);
        // Work of 0.3 ms is repeated 4 times, so that a sample has at least 1 ms.
        assert_eq!(prepared, 3 + 1 + 4 * 4);
    }

    #[test]
    fn work_is_repeated_within_bounds() {
        let effort = Effort { warmup: 0, samples: Some(1), seconds: 0.0 };
        // One of warm-up all the same, and one to see how long it takes.
        for (micros, repetitions) in [(0, MOST_REPETITIONS), (1, MOST_REPETITIONS), (5000, 1)] {
            let (_, prepared, executed) = measured(&effort, micros);
            assert_eq!((prepared, executed), (2 + repetitions, 3), "{micros} µs");
        }
    }

    /// Each sample takes 1 s of preparation and 10 ms of work on the clock.
    #[test]
    fn samples_fill_the_time_and_are_at_least_five() {
        for (seconds, count) in [(0.0, 5), (10.0, 10), (20.0, 20)] {
            let effort = Effort { warmup: 1, samples: None, seconds };
            assert_eq!(measured(&effort, 10_000).0.samples, count, "{seconds} s");
        }
    }
}
