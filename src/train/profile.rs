//! Where the time of a training step goes.

use std::time::{Duration, Instant};

use burn::tensor::Device;

use crate::{Error, Result};

/// Times of the parts of a step, summed over the steps. The device is waited for after each part, so
/// the whole is slower than without.
#[derive(Debug)]
pub struct Profile {
    device: Device,
    parts: Vec<(&'static str, Duration)>,
    steps: usize,
    since: Instant,
}

impl Profile {
    /// Nothing measured yet.
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone(), parts: Vec::new(), steps: 0, since: Instant::now() }
    }

    /// Every part in the order of a step, with its time.
    pub fn parts(&self) -> &[(&'static str, Duration)] {
        &self.parts
    }

    /// How many steps were measured.
    pub fn steps(&self) -> usize {
        self.steps
    }

    fn begin(&mut self) -> Result<()> {
        self.wait()?;
        self.steps += 1;
        self.since = Instant::now();
        Ok(())
    }

    fn end(&mut self, part: &'static str) -> Result<()> {
        self.wait()?;
        let now = Instant::now();
        let time = now - self.since;
        match self.parts.iter_mut().find(|(name, _)| *name == part) {
            Some((_, total)) => *total += time,
            None => self.parts.push((part, time)),
        }
        self.since = now;
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        self.device.sync().map_err(|error| Error::compute("waiting for the device", error))
    }
}

/// A step that is profiled or, for nothing, is not.
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

    /// What was done since the last mark was `part`.
    pub(super) fn end(&mut self, part: &'static str) -> Result<()> {
        self.0.as_deref_mut().map_or(Ok(()), |profile| profile.end(part))
    }
}
