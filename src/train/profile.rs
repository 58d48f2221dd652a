//! How the time of a training step is spent.

use std::time::{Duration, Instant};

use burn::tensor::Device;

use crate::{Error, Result};

/// Times of the parts of a step, summed over the steps. Each part waits for the device, so a profiled
/// step is slower.
#[derive(Debug)]
pub struct Profile {
    device: Device,
    parts: Vec<(String, Duration)>,
    steps: usize,
    since: Instant,
}

impl Profile {
    /// An empty profile.
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone(), parts: Vec::new(), steps: 0, since: Instant::now() }
    }

    /// The parts, in the order in which a step runs them, with their times.
    pub fn parts(&self) -> &[(String, Duration)] {
        &self.parts
    }

    /// Number of steps measured.
    pub fn steps(&self) -> usize {
        self.steps
    }

    fn begin(&mut self) -> Result<()> {
        self.wait()?;
        self.steps += 1;
        self.since = Instant::now();
        Ok(())
    }

    fn end(&mut self, part: &str, suffix: &str) -> Result<()> {
        self.wait()?;
        let now = Instant::now();
        let time = now - self.since;
        let is = |name: &str| name.strip_prefix(part) == Some(suffix);
        match self.parts.iter_mut().find(|(name, _)| is(name)) {
            Some((_, total)) => *total += time,
            None => self.parts.push((format!("{part}{suffix}"), time)),
        }
        self.since = now;
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        self.device.sync().map_err(|error| Error::compute("waiting for the device", error))
    }
}

/// Times the parts of a step; a no-op when profiling is off.
#[derive(Debug)]
pub(super) struct Marks<'a>(Option<&'a mut Profile>);

impl<'a> Marks<'a> {
    /// Begins a step.
    pub(super) fn begin(profile: Option<&'a mut Profile>) -> Result<Self> {
        let mut marks = Self(profile);
        if let Some(profile) = &mut marks.0 {
            profile.begin()?;
        }
        Ok(marks)
    }

    /// Adds the time since the last mark to the part of this name and suffix.
    pub(super) fn end(&mut self, part: &str, suffix: &str) -> Result<()> {
        self.0.as_deref_mut().map_or(Ok(()), |profile| profile.end(part, suffix))
    }
}
