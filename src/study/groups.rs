//! Which runs are looked at together: those of one configuration with several seeds, or those under one name.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use clap::ValueEnum;

use super::FinishedRun;
use crate::Result;
use crate::text::visible;
use crate::train::{RateSchedule, Recipe, TrainConfig};

/// Most differences in a name; more would make it a paragraph.
const MOST_DIFFERENCES: usize = 3;

/// Runs that are looked at together.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its name; no other group has it.
    pub name: String,
    /// Its runs, one or more, in the order in which they were given.
    pub runs: Vec<FinishedRun>,
}

impl Group {
    /// Two of its runs that differ in nothing, not even in the seed: the second is no further sample.
    pub fn repeated(&self) -> Option<[&FinishedRun; 2]> {
        let pairs = self
            .runs
            .iter()
            .enumerate()
            .flat_map(|(at, second)| self.runs[..at].iter().map(move |first| [first, second]));
        pairs.into_iter().find(|[first, second]| {
            first.config.seed == second.config.seed && differ_in_seed_at_most(first, second)
        })
    }
}

/// Puts runs into groups: those with a name into the group of that name, the others with those from which they differ in
/// the seed at most. The groups are in the order of their first runs.
///
/// A group without a name gets that of its runs' folders without their numbers, or of its network where these differ. To
/// groups that would have the same name, what they differ in is added.
///
/// # Errors
///
/// [`crate::Error::Layer`] for an impossible network.
pub fn group(runs: Vec<(Option<String>, FinishedRun)>) -> Result<Vec<Group>> {
    let mut groups: Vec<(Option<String>, Vec<FinishedRun>)> = Vec::new();
    for (name, run) in runs {
        let own = groups.iter_mut().find(|(other, runs)| match (&name, other) {
            (None, None) => differ_in_seed_at_most(&runs[0], &run),
            (name, other) => *name == *other,
        });
        match own {
            Some((_, runs)) => runs.push(run),
            None => groups.push((name, vec![run])),
        }
    }
    named(groups)
}

fn differ_in_seed_at_most(one: &FinishedRun, other: &FinishedRun) -> bool {
    let config = TrainConfig { seed: other.config.seed, ..one.config.clone() };
    config == other.config && one.train_images == other.train_images
}

/// Gives every group a name of its own.
fn named(groups: Vec<(Option<String>, Vec<FinishedRun>)>) -> Result<Vec<Group>> {
    let given = groups.iter().filter_map(|(name, _)| name.clone());
    let mut taken: HashSet<String> = given.map(|name| visible(&name)).collect();
    let unnamed = groups.iter().filter(|(name, _)| name.is_none()).map(|(_, runs)| runs);
    let mut own = own_names(&unnamed.map(Vec::as_slice).collect::<Vec<_>>())?.into_iter();
    let groups = groups.into_iter().map(|(name, runs)| {
        let name = match name {
            Some(name) => visible(&name),
            None => unique(own.next().unwrap_or_default(), &mut taken),
        };
        Group { name, runs }
    });
    Ok(groups.collect())
}

/// The name, with a number if another group has it already.
fn unique(name: String, taken: &mut HashSet<String>) -> String {
    let numbered = (2..).map(|number| format!("{name} ({number})"));
    let mut names = std::iter::once(name.clone()).chain(numbered);
    let free = names.find(|name| taken.insert(name.clone()));
    free.unwrap_or(name)
}

/// Names by folder or network, with what tells those apart that would have the same.
fn own_names(groups: &[&[FinishedRun]]) -> Result<Vec<String>> {
    let bases = groups.iter().map(|runs| base(runs)).collect::<Result<Vec<_>>>()?;
    let facts = groups.iter().map(|runs| facts(&runs[0])).collect::<Result<Vec<_>>>()?;
    let names = bases.iter().zip(&facts).map(|(base, own)| {
        let alike = || bases.iter().zip(&facts).filter(|(other, _)| *other == base);
        let differs = |fact: &&String| !alike().all(|(_, facts)| facts.contains(*fact));
        let differences = own.iter().filter(differs).take(MOST_DIFFERENCES).cloned();
        let parts: Vec<String> = [base.clone()].into_iter().chain(differences).collect();
        parts.join(", ")
    });
    Ok(names.collect())
}

/// The name of the folders of all runs without their numbers, else the network.
fn base(runs: &[FinishedRun]) -> Result<String> {
    let first = stem(&runs[0].folder);
    if !first.is_empty() && runs.iter().all(|run| stem(&run.folder) == first) {
        return Ok(visible(&first));
    }
    runs[0].config.network.title()
}

/// `mps-bond1` of `runs/mps-bond1-3`, and `dense` of `dense-seed7`. A number that nothing parts from the name belongs to it.
fn stem(folder: &Path) -> String {
    const PARTS: [char; 4] = ['-', '_', '.', ' '];
    // `.` has no name, but stands for a folder that has one.
    let whole = || fs::canonicalize(folder).ok();
    let named = match folder.file_name() {
        Some(name) => Some(name.to_owned()),
        None => whole().and_then(|folder| folder.file_name().map(ToOwned::to_owned)),
    };
    let name = named.unwrap_or_default().to_string_lossy().into_owned();
    let without = name.trim_end_matches(|character: char| character.is_ascii_digit());
    let parted = without.trim_end_matches(PARTS);
    let stem = parted.strip_suffix("seed").or(parted.strip_suffix("-s")).unwrap_or(parted);
    let is_number =
        without.len() < name.len() && (parted.len() < without.len() || stem.len() < parted.len());
    let stem = stem.trim_end_matches(PARTS);
    if is_number && !stem.is_empty() { stem.to_owned() } else { name }
}

/// What a run is, in words of which some differ from those of every other configuration: its layers first, then how it was
/// trained. What is left at its default of no effect is not said.
fn facts(run: &FinishedRun) -> Result<Vec<String>> {
    let TrainConfig { epochs, batch_size, lr, validation, init, recipe, network, .. } = &run.config;
    let Recipe { schedule, warmup, weight_decay, label_smoothing, average, patience } = recipe;
    let layers = network.placed()?.into_iter().map(|placed| {
        let summary = placed.layer.kind().summary(placed.input);
        format!("{} {summary}", placed.name).trim_end().to_owned()
    });
    let plural = if *epochs == 1 { "" } else { "s" };
    let when = |is_used: bool, text: String| is_used.then_some(text);
    let others = [
        Some(format!("{epochs} epoch{plural}")),
        Some(format!("lr {lr}")),
        Some(format!("batch {batch_size}")),
        when(*schedule != RateSchedule::Constant, format!("{schedule} schedule")),
        when(*warmup > 0.0, format!("warm-up {warmup}")),
        when(*weight_decay > 0.0, format!("weight decay {weight_decay}")),
        when(*label_smoothing > 0.0, format!("label smoothing {label_smoothing}")),
        average.map(|average| format!("average {average}")),
        patience.map(|patience| format!("patience {patience}")),
        when(*validation > 0, format!("{validation} held out")),
        init.to_possible_value().map(|init| format!("init {}", init.get_name())),
        run.train_images.map(|count| format!("{count} training images")),
    ];
    Ok(layers.chain(others.into_iter().flatten()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mps::MpsInit;
    use crate::net::{Model, Preset};

    type Change = fn(&mut TrainConfig);

    /// A run in this folder.
    fn run(folder: &str, seed: u64, change: impl Fn(&mut TrainConfig)) -> FinishedRun {
        let network = Preset::default().stack([1, 28, 28], 10).unwrap();
        let mut config = TrainConfig {
            epochs: 50,
            batch_size: 128,
            lr: 1e-3,
            seed,
            validation: 0,
            init: MpsInit::He,
            recipe: Recipe::default(),
            network,
        };
        change(&mut config);
        FinishedRun {
            folder: folder.into(),
            config,
            history: Vec::new(),
            best: None,
            test: None,
            train_images: Some(60_000),
        }
    }

    fn preset(preset: &Preset) -> impl Fn(&mut TrainConfig) {
        move |config| config.network = preset.stack([1, 28, 28], 10).unwrap()
    }

    /// The groups of these runs, as names and folders.
    fn groups(runs: Vec<(Option<&str>, FinishedRun)>) -> Vec<(String, Vec<String>)> {
        let runs = runs.into_iter().map(|(name, run)| (name.map(str::to_owned), run)).collect();
        let groups = group(runs).unwrap().into_iter().map(|Group { name, runs }| {
            (name, runs.iter().map(|run| run.folder.to_str().unwrap().to_owned()).collect())
        });
        groups.collect()
    }

    fn names(runs: Vec<FinishedRun>) -> Vec<String> {
        let groups = groups(runs.into_iter().map(|run| (None, run)).collect());
        groups.into_iter().map(|(name, _)| name).collect()
    }

    fn expected(groups: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
        let owned = |runs: &[&str]| runs.iter().map(|&run| run.to_owned()).collect();
        groups.iter().map(|&(name, runs)| (name.to_owned(), owned(runs))).collect()
    }

    #[test]
    fn runs_that_differ_in_the_seed_alone_belong_together() {
        let dense = Preset { model: Model::Dense, ..Preset::default() };
        let found = groups(vec![
            (None, run("runs/mps-1", 1, |_| {})),
            (None, run("runs/dense-1", 1, preset(&dense))),
            (None, run("runs/mps-2", 2, |_| {})),
            (None, run("runs/dense-2", 2, preset(&dense))),
            (None, run("runs/mps-3", 3, |config| config.validation = 5000)),
        ]);
        let names = [
            ("mps", &["runs/mps-1", "runs/mps-2"][..]),
            ("dense", &["runs/dense-1", "runs/dense-2"]),
            ("mps, 5000 held out", &["runs/mps-3"]),
        ];
        assert_eq!(found, expected(&names));
    }

    #[test]
    fn every_option_of_training_parts_runs() {
        let changes: [(&str, Change); 11] = [
            ("20 epochs", |config| config.epochs = 20),
            ("lr 0.01", |config| config.lr = 0.01),
            ("batch 32", |config| config.batch_size = 32),
            ("cosine schedule", |config| config.recipe.schedule = RateSchedule::Cosine),
            ("warm-up 0.5", |config| config.recipe.warmup = 0.5),
            ("weight decay 0.1", |config| config.recipe.weight_decay = 0.1),
            ("label smoothing 0.2", |config| config.recipe.label_smoothing = 0.2),
            ("average 0.999", |config| config.recipe.average = Some(0.999)),
            ("patience 3", |config| config.recipe.patience = Some(3)),
            ("100 held out", |config| config.validation = 100),
            ("init article", |config| config.init = MpsInit::Article),
        ];
        for (fact, change) in changes {
            let found = names(vec![run("mps-1", 1, |_| {}), run("mps-2", 2, change)]);
            assert_eq!(found[1], format!("mps, {fact}"));
            assert_ne!(found[0], found[1]);
        }
        let fewer = FinishedRun { train_images: Some(6000), ..run("mps-2", 2, |_| {}) };
        assert_eq!(
            names(vec![run("mps-1", 1, |_| {}), fewer]),
            ["mps, 60000 training images", "mps, 6000 training images"]
        );
    }

    #[test]
    fn names_are_those_of_folders_else_of_networks_and_tell_groups_apart() {
        let network = "mps1 28x28 -> 32x16, bond 1; dense4 512 -> 512; dense7 512 -> 10";
        assert_eq!(names(vec![run("a", 1, |_| {}), run("b", 2, |_| {})]), [network]);
        assert_eq!(names(vec![run("a\nb-1", 1, |_| {})]), ["a\\nb"]);
        // What default folders are called does not tell the rate of dropout.
        let dropout = |rate| {
            let changed = Preset { dropout: rate, ..Preset::default() };
            run("runs/mps-bond1-1", 1, preset(&changed))
        };
        assert_eq!(
            names(vec![dropout(0.2), dropout(0.5)]),
            ["mps-bond1, dropout3 0.2, dropout6 0.2", "mps-bond1, dropout3 0.5, dropout6 0.5"]
        );
        // More than a name holds.
        let wide = |last: usize| {
            let preset =
                Preset { hidden: vec![8, 8, 8, last], model: Model::Dense, ..Preset::default() };
            run("n", 1, |config| config.network = preset.stack([1, 28, 28], 10).unwrap())
        };
        let found = names(vec![wide(4), wide(5), wide(6)]);
        assert_eq!(found.iter().collect::<HashSet<_>>().len(), 3, "{found:?}");
    }

    #[test]
    fn a_name_takes_what_it_is_given_and_no_other_group_has_it() {
        let found = groups(vec![
            (None, run("runs/mps-1", 1, |_| {})),
            (Some("mps"), run("x", 2, |_| {})),
            (Some("both"), run("y", 3, |_| {})),
            (Some("mps"), run("z", 4, |config| config.epochs = 2)),
            (None, run("runs/mps-2", 5, |_| {})),
        ]);
        let names = [
            ("mps (2)", &["runs/mps-1", "runs/mps-2"][..]),
            ("mps", &["x", "z"]),
            ("both", &["y"]),
        ];
        assert_eq!(found, expected(&names));
    }

    #[test]
    fn the_number_of_a_run_is_no_part_of_its_name() {
        for (folder, name) in [
            ("runs/mps-bond16-3", "mps-bond16"),
            ("runs/mps-bond16", "mps-bond16"),
            ("dense-seed7/", "dense"),
            ("dense_seed_7", "dense"),
            ("dense-s7", "dense"),
            ("wide.12", "wide"),
            ("7", "7"),
            ("seed7", "seed7"),
            ("runs-", "runs-"),
        ] {
            assert_eq!(stem(Path::new(folder)), name, "{folder}");
        }
        assert!(!stem(Path::new(".")).is_empty());
    }

    #[test]
    fn a_run_that_is_another_once_more_is_found() {
        let of = |runs| group(vec![runs]).unwrap().remove(0);
        let mut group = of((Some("x".to_owned()), run("a", 1, |_| {})));
        group.runs.push(run("b", 2, |_| {}));
        group.runs.push(run("c", 1, |config| config.epochs = 2));
        assert!(group.repeated().is_none());
        group.runs.push(run("d", 2, |_| {}));
        let folders = group.repeated().unwrap().map(|run| run.folder.to_str().unwrap());
        assert_eq!(folders, ["b", "d"]);
    }
}
