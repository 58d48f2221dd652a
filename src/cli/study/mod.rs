//! The training of many runs, as `sweep` and `table` carry it out.

mod options;
mod progress;
mod runs;
mod saved;
mod shard;

use std::path::Path;

pub use options::StudyArgs;
pub use runs::{Material, Runs, State};
pub use saved::Saved;
pub use shard::Shard;

use super::paths::quoted;
use super::{introduce, say};
use crate::Result;
use crate::files::write_whole;
use crate::study::{Outcome, PlannedRun, Row};
use crate::text::shown;
use progress::StudyProgress;

impl Runs {
    /// Trains what is not over, of all runs or of a part of them, and gives what every run came to. Meanwhile
    /// `results.csv` has what is over, unless it is one process of several that writes there. `command` is the one that
    /// goes on in the folder `out`.
    pub fn train_all(
        &self,
        material: &Material,
        shard: Option<Shard>,
        command: &str,
        out: &Path,
    ) -> Result<Vec<Option<Outcome>>> {
        let mut outcomes: Vec<Option<Outcome>> =
            self.planned.iter().map(|planned| self.state(planned).over()).collect();
        let is_mine = |at: usize| shard.is_none_or(|shard| shard.has(at));
        let mine: Vec<usize> = (0..self.planned.len()).filter(|&at| is_mine(at)).collect();
        let steps = |planned: &PlannedRun| {
            let images = material.train_images.saturating_sub(planned.config.validation);
            (images.div_ceil(planned.config.batch_size) * planned.config.epochs) as u64
        };
        let open: Vec<usize> = mine.iter().copied().filter(|&at| outcomes[at].is_none()).collect();
        introduce(&self.opened);
        let part = shard.map_or_else(String::new, |shard| format!(" in part {shard}"));
        let over = mine.len() - open.len();
        say!("{} runs{part}, {over} of them over, in {}", mine.len(), shown(out));
        let all_steps = open.iter().map(|&at| steps(&self.planned[at])).sum();
        let mut progress = StudyProgress::new(open.len(), all_steps);
        for at in open {
            let planned = &self.planned[at];
            progress.next();
            let state = self.train(planned, material, &mut progress).inspect_err(|_| {
                progress.end();
                say!("go on with: tnet-gpu {command} --out {}", quoted(out));
            });
            match state? {
                State::Over(outcome) => {
                    progress.end_of_run(planned, steps(planned), &outcome);
                    outcomes[at] = Some(outcome);
                }
                State::Open { .. } | State::Taken => progress.taken(planned, steps(planned)),
            }
            if shard.is_none() {
                write_results(out, &self.rows(&outcomes)?.0)?;
            }
        }
        progress.end();
        Ok(outcomes)
    }
}

/// Writes `results.csv`.
pub fn write_results(folder: &Path, rows: &[Row]) -> Result<()> {
    write_whole(&folder.join("results.csv"), Row::file(rows).as_bytes()).map(drop)
}
