//! What `--stage all` trains, in which order, and what each run starts from.
//!
//! ```text
//! OUT/experiment.toml        the configuration
//! OUT/seed-1/fe              stage 1, once for all runs that agree in what it reads of the configuration
//! OUT/seed-1/dc              stage 2, likewise, on what stage 3 will start from
//! OUT/seed-1/NAME            stage 3, with its evaluation; from stage 1, or from another run of stage 3
//! OUT/report                 tables and plots over all runs and seeds
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::config::{AllConfig, Config, DatConfig, DcConfig, Head, Method, RunConfig, SupervisedConfig};
use crate::run::Stage;

/// A run that is to be trained.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedRun {
    /// What is trained.
    pub stage: Stage,
    /// Name in tables, of a run of stage 3.
    pub name: String,
    /// Its folder, relative to that of the experiment.
    pub folder: PathBuf,
    /// Its configuration: for stages 1 and 2, what they do not read is left at its default.
    pub config: Config,
    /// Folder of the feature extractor that it starts from.
    pub fe: Option<PathBuf>,
    /// Folder of the domain classifier that it starts from.
    pub dc: Option<PathBuf>,
}

/// The runs of `config` in an order in which each finds what it starts from.
///
/// # Errors
/// Names the run whose name or values are not valid.
pub fn plan(config: &Config) -> Result<Vec<PlannedRun>> {
    let all = config.all.clone().unwrap_or_default();
    check_names(&all)?;
    let seeds = if all.seeds.is_empty() { vec![config.seed] } else { all.seeds.clone() };
    let mut seeds_of_runs: Vec<u64> =
        all.runs.iter().flat_map(|run| run.seeds.iter().copied()).chain(seeds.clone()).collect();
    seeds_of_runs.sort_unstable();
    seeds_of_runs.dedup();
    let mut planned: Vec<PlannedRun> = Vec::new();
    for seed in seeds_of_runs {
        let wanted =
            |run: &&RunConfig| if run.seeds.is_empty() { seeds.contains(&seed) } else { run.seeds.contains(&seed) };
        for run in all.runs.iter().filter(wanted) {
            let mut config = config.with(&run.set).with_context(|| format!("all.runs: '{}'", run.name))?;
            config.seed = seed;
            config.all = None;
            let folder = Path::new(&format!("seed-{seed}")).join(slug(&run.name));
            let fe = match &run.from {
                None => shared(&mut planned, Stage::Fe, &config, None, &folder),
                Some(from) => {
                    config.dat.label_predictor = Head::Keep;
                    before(&planned, &folder.with_file_name(slug(from)), run, seed)?
                }
            };
            let dc = (config.dat.method == Method::Proposed)
                .then(|| shared(&mut planned, Stage::Dc, &config, Some(&fe), &folder));
            planned.push(PlannedRun { stage: Stage::Dat, name: run.name.clone(), folder, config, fe: Some(fe), dc });
        }
    }
    Ok(planned)
}

/// Folder of the run of `stage` that reads the same of `config`; if there is none yet it is planned.
fn shared(planned: &mut Vec<PlannedRun>, stage: Stage, config: &Config, fe: Option<&Path>, of: &Path) -> PathBuf {
    let config = what_it_reads(stage, config);
    let same = |run: &&PlannedRun| run.stage == stage && run.config == config && run.fe.as_deref() == fe;
    if let Some(run) = planned.iter().find(same) {
        return run.folder.clone();
    }
    // The first one has the plain name; another is named after the run that needs it.
    let plain = of.with_file_name(stage.name());
    let taken = planned.iter().any(|run| run.folder == plain);
    let own = format!("{stage}-{}", of.file_name().unwrap_or_default().to_string_lossy());
    let folder = if taken { of.with_file_name(own) } else { plain };
    planned.push(PlannedRun {
        stage,
        name: stage.to_string(),
        folder: folder.clone(),
        config,
        fe: fe.map(Path::to_owned),
        dc: None,
    });
    folder
}

/// Folder of the run of stage 3 that `run` goes on with.
fn before(planned: &[PlannedRun], folder: &Path, run: &RunConfig, seed: u64) -> Result<PathBuf> {
    let found = planned.iter().find(|other| other.stage == Stage::Dat && other.folder == folder);
    let from = run.from.as_deref().unwrap_or_default();
    let rule = "no run of that name comes before it with that seed";
    let found =
        found.with_context(|| format!("all.runs: '{}' starts from '{from}' with seed {seed}: {rule}", run.name))?;
    Ok(found.folder.clone())
}

/// `config` with the sections that stage 1 or 2 does not read at their defaults.
fn what_it_reads(stage: Stage, config: &Config) -> Config {
    let config = Config { dat: DatConfig::default(), supervised: SupervisedConfig::default(), ..config.clone() };
    if stage == Stage::Fe { Config { dc: DcConfig::default(), augment: <_>::default(), ..config } } else { config }
}

/// The name of a run as a folder: its words, joined by hyphens.
fn slug(name: &str) -> String {
    let lower = name.to_lowercase();
    lower
        .split(|c: char| !c.is_alphanumeric() && c != '.')
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

fn check_names(all: &AllConfig) -> Result<()> {
    if all.runs.is_empty() {
        bail!("all.runs is empty; name a run, or leave it out for baseline, supervised and proposed");
    }
    for (index, run) in all.runs.iter().enumerate() {
        let slug = slug(&run.name);
        if slug.is_empty()
            || slug.starts_with('.')
            || ["fe", "dc"].contains(&slug.as_str())
            || slug.starts_with("fe-")
            || slug.starts_with("dc-")
        {
            bail!(
                "all.runs: '{}' cannot name a folder beside those of the stages fe and dc; give it another name",
                run.name
            );
        }
        if let Some(other) = all.runs[..index].iter().find(|other| self::slug(&other.name) == slug) {
            bail!("all.runs: '{}' and '{}' would share a folder; name one of them differently", other.name, run.name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
seed = 7
[model]
width = 0.0625
last_kernel = 3
[data]
targets = "hard"
[noise]
train = "noise"
valid = "noise"
"#;

    fn planned(all: &str) -> Result<Vec<PlannedRun>> {
        plan(&Config::parse(&format!("{CONFIG}{all}"), &[]).expect("valid"))
    }

    fn folders(runs: &[PlannedRun]) -> Vec<String> {
        runs.iter().map(|run| run.folder.display().to_string()).collect()
    }

    #[test]
    fn the_three_methods_share_stages_1_and_2() {
        let runs = planned("").expect("a plan");
        assert_eq!(
            folders(&runs),
            ["seed-7/fe", "seed-7/baseline", "seed-7/supervised", "seed-7/dc", "seed-7/proposed"]
        );
        let fe = Some(PathBuf::from("seed-7/fe"));
        assert!(runs[1..].iter().all(|run| run.fe == fe));
        assert_eq!(runs[4].dc, Some("seed-7/dc".into()));
        assert!(runs.iter().all(|run| run.config.seed == 7 && run.config.all.is_none()));
        assert_eq!(runs[1].config.dat.method, Method::Baseline);
    }

    #[test]
    fn what_a_stage_reads_decides_whether_it_is_shared() {
        let all = r#"
[all]
seeds = [1, 2]
runs = [
    { name = "proposed" },
    { name = "proposed, alpha 1", set = ["dat.alpha=one"], seeds = [2] },
    { name = "two noises", set = ["noise.num_noises=2"], seeds = [2] },
    { name = "other classifier", set = ["dc.epochs=5"], seeds = [3] },
]
"#;
        let runs = planned(all).expect("a plan");
        let expected = [
            "seed-1/fe",
            "seed-1/dc",
            "seed-1/proposed",
            "seed-2/fe",
            "seed-2/dc",
            "seed-2/proposed",
            "seed-2/proposed-alpha-1",
            "seed-2/fe-two-noises",
            "seed-2/dc-two-noises",
            "seed-2/two-noises",
            "seed-3/fe",
            "seed-3/dc",
            "seed-3/other-classifier",
        ];
        assert_eq!(folders(&runs), expected);
        assert_eq!(runs[9].dc, Some("seed-2/dc-two-noises".into()));
        for (index, run) in runs.iter().enumerate() {
            let starts = run.fe.iter().chain(&run.dc);
            assert!(starts.into_iter().all(|start| runs[..index].iter().any(|earlier| earlier.folder == *start)));
        }
    }

    #[test]
    fn a_run_can_go_on_with_another() {
        let all = r#"
[all]
seeds = [1, 2]
runs = [
    { name = "The tagger", set = ["dat.method=baseline"] },
    { name = "supervised", set = ["dat.method=supervised"], from = "the tagger" },
    { name = "proposed", from = "The tagger" },
    { name = "proposed, alpha 1", set = ["dat.alpha=one"], from = "The tagger", seeds = [1] },
    { name = "from nothing" },
]
"#;
        let runs = planned(all).expect("a plan");
        let expected =
            ["fe", "the-tagger", "supervised", "dc", "proposed", "proposed-alpha-1", "dc-from-nothing", "from-nothing"];
        assert_eq!(folders(&runs)[..8], expected.map(|name| format!("seed-1/{name}")));
        assert_eq!(runs.len(), 8 + 7);
        let tagger = Some(PathBuf::from("seed-1/the-tagger"));
        assert!([2, 3, 4, 5].iter().all(|&run: &usize| runs[run].fe == tagger), "stage 2 reads the tagger's embedding");
        assert_eq!(runs[5].dc, Some("seed-1/dc".into()));
        assert!([2, 4, 5].iter().all(|&run: &usize| runs[run].config.dat.label_predictor == Head::Keep));
        assert_eq!((&runs[7].fe, runs[7].config.dat.label_predictor), (&Some("seed-1/fe".into()), Head::New));
    }

    #[test]
    fn the_shipped_experiment_begins_every_method_with_the_same_tagger() {
        let config = Config::parse(include_str!("../configs/ablation.toml"), &[]).expect("valid");
        let runs = plan(&config).expect("a plan");
        let later = runs.iter().filter(|run| run.stage == Stage::Dat && run.name != "tagger");
        assert!(later.clone().count() > 12);
        for run in later {
            assert_eq!(run.fe.as_deref(), Some(run.folder.with_file_name("tagger").as_path()), "{}", run.name);
        }
    }

    #[test]
    fn a_run_that_cannot_be_told_from_another_is_refused() {
        for (runs, rule) in [
            (r#"{ name = "a b" }, { name = "A-b" }"#, "share a folder"),
            (r#"{ name = "dc" }"#, "another name"),
            (r#"{ name = "--" }"#, "another name"),
            ("", "empty"),
            (r#"{ name = "x", set = ["dat.lambda=-1"] }"#, "dat.lambda is -1"),
            (r#"{ name = "x", from = "y" }, { name = "y" }"#, "'x' starts from 'y' with seed 7: no run"),
            (r#"{ name = "y", seeds = [8] }, { name = "x", from = "y" }"#, "with seed 7: no run"),
            (r#"{ name = "x", from = "fe" }"#, "no run"),
        ] {
            let error = planned(&format!("[all]\nruns = [{runs}]\n")).expect_err(rule);
            assert!(format!("{error:#}").contains(rule), "{error:#}");
        }
    }
}
