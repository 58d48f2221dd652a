//! Which part of a study's runs a process takes.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// The `part`-th of `parts`, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    part: usize,
    parts: usize,
}

impl Shard {
    /// Whether the run at this place is its own. Neighbours go to different parts, since runs of one network take as long
    /// as each other.
    pub fn has(self, at: usize) -> bool {
        at % self.parts == self.part - 1
    }

    /// That of a task of a Slurm job array, if this process is one.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when the tasks are not numbered in equal steps.
    pub fn of_slurm() -> Result<Option<Self>> {
        Self::of_array(|name| std::env::var(format!("SLURM_ARRAY_TASK_{name}")).ok())
    }

    fn of_array(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let number = |name| variable(name).and_then(|text| text.parse::<usize>().ok());
        let (Some(id), Some(parts)) = (number("ID"), number("COUNT")) else { return Ok(None) };
        let (first, step) = (number("MIN").unwrap_or(1), number("STEP").unwrap_or(1).max(1));
        let at = id.checked_sub(first).filter(|at| at % step == 0).map(|at| at / step);
        match at.filter(|&at| at < parts) {
            Some(at) => Ok(Some(Self { part: at + 1, parts })),
            None => Err(Error::argument(
                "shard",
                format!(
                    "task {id} of {parts} from {first} on: the numbers of the job array have gaps; type the part as I/N"
                ),
            )),
        }
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(part, parts)| {
            Some((part.trim().parse().ok()?, parts.trim().parse().ok()?))
        });
        match numbers {
            Some((part, parts)) if (1..=parts).contains(&part) => Ok(Self { part, parts }),
            _ => Err("expected a part and how many there are, from 1/4 to 4/4".into()),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.part, self.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_is_in_one_part() {
        let shards: Vec<Shard> = ["1/3", "2/3", "3/3"].map(|text| text.parse().unwrap()).into();
        for at in 0..10 {
            assert_eq!(shards.iter().filter(|shard| shard.has(at)).count(), 1);
        }
        assert_eq!(shards[1].to_string(), "2/3");
        for wrong in ["0/3", "4/3", "1", "1/", "a/b", "1/0"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn tasks_of_an_array_are_parts() {
        let shard =
            |id: &'static str, count: &'static str, min: &'static str, step: &'static str| {
                Shard::of_array(|name| {
                    let text = match name {
                        "ID" => id,
                        "COUNT" => count,
                        "MIN" => min,
                        _ => step,
                    };
                    (!text.is_empty()).then(|| text.to_owned())
                })
            };
        let part = |part, parts| Some(Shard { part, parts });
        assert_eq!(shard("1", "4", "1", "").unwrap(), part(1, 4));
        assert_eq!(shard("3", "4", "0", "1").unwrap(), part(4, 4));
        assert_eq!(shard("7", "4", "1", "2").unwrap(), part(4, 4));
        assert_eq!(shard("", "", "", "").unwrap(), None);
        for gaps in [shard("7", "3", "1", "1"), shard("4", "4", "1", "2")] {
            assert!(gaps.unwrap_err().to_string().starts_with("shard: task"));
        }
    }
}
