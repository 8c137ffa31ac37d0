//! Commands for many builds at once, with a progress bar.

use std::{collections::BTreeMap, io::Read, path::Path, time::Duration};

use binplz_core::{
    build::plan::about,
    flow::operator::{
        forecast::Forecast,
        inspect::Listing,
        orders::{Act, Declined, Named, Operator, Order, Outcome},
    },
    id::{
        money::Micros,
        target::{BadTarget, PinRef, Target, Wanted},
    },
};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    operate::{Common, OperateError, Seed, State, Warm, Whose, builds, listed, overview},
    site::Site,
};

/// The poll interval of `--wait`.
const LOOK: Duration = Duration::from_secs(2);

/// A progress bar on stderr, shown only in a terminal.
fn bar(of: usize, what: &'static str) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(of as u64).with_style(style).with_message(what)
}

/// Acts on each build, and returns the listings of those that accepted. For the others it prints the reason.
async fn each(site: &Site, all: Vec<Named>, act: Act) -> Vec<Listing> {
    let bar = bar(all.len(), "queueing");
    let mut done = Vec::new();
    for of in all {
        match site.carry_out(Order::Build { of, act }).await.and_then(Outcome::build) {
            Ok(build) => done.push(build),
            Err(Declined(why)) => bar.suspend(|| eprintln!("binplz: {why}")),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    done
}

/// Retries all builds that failed for one reason.
pub(crate) async fn retry(which: Whose, common: Common) -> Result<(), OperateError> {
    let site = common.which.find().await?;
    let mut failed = listed(&site, which.filter(Some(State::Failed))).await?;
    // Queued ones would be retried after their delay: this retries them now.
    failed.extend(listed(&site, which.filter(Some(State::Queued))).await?);
    let reason = which.reason.map_or("", |kind| kind.name());
    if !failed.is_empty() {
        common.confirm.that(|| format!("retries {} that failed with {reason}", builds_told(failed.len())))?;
    }
    let queued = each(&site, failed.into_iter().map(|build| Named::Key(build.key)).collect(), Act::Retry).await;
    match common.json {
        true => println!("{}", serde_json::json!(queued)),
        false if queued.is_empty() => println!("No build has failed for this reason."),
        false => println!("{} queued; watch: binplz list --state building", builds_told(queued.len())),
    }
    Ok(())
}

fn builds_told(count: usize) -> String {
    if count == 1 { "1 build".to_owned() } else { format!("{count} builds") }
}

/// Packages whose builds fill the builders' cache with what most packages need.
const SEED: &str = include_str!("../../../../infra/seed.txt");
/// The time whose downloads count for `--top`.
const USED: Duration = Duration::from_secs(30 * 24 * 3600);

/// The programs that people most want as single files.
const POPULAR: &str = include_str!("../../../../infra/popular.txt");

/// Queues all packages of a list.
pub(crate) async fn warm(Warm { file, popular: _, wait, common }: Warm) -> Result<(), OperateError> {
    let site = common.which.find().await?;
    let Some(file) = file else { return warm_popular(&site, wait, common).await };
    warm_all(&site, read(&file)?, wait, common).await
}

/// Queues the popular programs that are not built and that this nixpkgs has, after the operator has seen what that costs.
async fn warm_popular(site: &Site, wait: bool, common: Common) -> Result<(), OperateError> {
    let targets = parse(&single_files()).map_err(|(line, why)| OperateError::Line(line, why))?;
    let forecast = site.carry_out(Order::Forecast(targets.clone())).await?.forecast()?;
    eprintln!("{}", foretold(&forecast));
    common.confirm.that(|| format!("queues {}", builds_told(forecast.known + forecast.unknown)))?;
    let queued = each(site, targets.into_iter().map(Named::Target).collect(), Act::Warm).await;
    finish(site, queued, wait, common).await
}

/// The list without its lines with a comment.
fn single_files() -> String {
    POPULAR.lines().filter(|line| !line.contains('#')).map(|line| format!("{line}\n")).collect()
}

/// "212 programs: 3 built, 9 not in this nixpkgs. …"
fn foretold(all: &Forecast) -> String {
    let count = all.ready + all.missing + all.known + all.unknown;
    let cost = |cost: Micros| if cost == Micros(0) { String::new() } else { format!(" and {cost}") };
    let mut text = format!("{count} packages: {} built, {} not in this nixpkgs.", all.ready, all.missing);
    if all.known > 0 {
        let (time, cost) = (about(Duration::from_secs(all.known_seconds)), cost(all.known_cost));
        text.push_str(&format!(" {} were built before, and take about {time}{cost}, one after the other.", all.known));
    }
    match (all.unknown, all.mean_seconds) {
        (0, _) => {}
        (unknown, None) => text.push_str(&format!(" {unknown} were never built: their duration is unknown.")),
        (unknown, Some(mean)) => {
            let mean_cost = all.mean_cost.unwrap_or(Micros(0));
            let (time, cost) = (
                about(Duration::from_secs(mean.saturating_mul(unknown as u64))),
                cost(Micros(mean_cost.0.saturating_mul(unknown as u64))),
            );
            text.push_str(&format!(
                " {unknown} were never built: at the average of the others, they take about {time}{cost}."
            ));
        }
    }
    text
}

/// Queues the packages that bring compilers with them.
pub(crate) async fn seed(Seed { list, top, pin, wait, common }: Seed) -> Result<(), OperateError> {
    let mut targets = match list {
        Some(file) => read(&file)?,
        None => parse(SEED).map_err(|(line, why)| OperateError::Line(line, why))?,
    };
    let site = common.which.find().await?;
    if top > 0 {
        let used = overview::counted(&site, USED, top).await?;
        let target = |wanted| Target { wanted, system: None, pin: None };
        targets.extend(used.iter().filter_map(|used| Wanted::of(&used.package)).map(target));
    }
    let of = |target: Target| Target { pin: pin.clone().map(PinRef::Name).or(target.pin), ..target };
    warm_all(&site, targets.into_iter().map(of).collect(), wait, common).await
}

async fn warm_all(site: &Site, targets: Vec<Target>, wait: bool, common: Common) -> Result<(), OperateError> {
    let wanted = targets.len();
    let warmed = each(site, targets.into_iter().map(Named::Target).collect(), Act::Warm).await;
    let refused = wanted - warmed.len();
    finish(site, warmed, wait, common).await?;
    match refused {
        0 => Ok(()),
        _ => Err(OperateError::Some(format!("{refused} of these cannot be built"))),
    }
}

/// Prints what was queued, or with `wait` what came of it.
async fn finish(site: &Site, mut warmed: Vec<Listing>, wait: bool, common: Common) -> Result<(), OperateError> {
    if wait {
        wait_for(site, &mut warmed).await?;
    }
    if common.json {
        println!("{}", serde_json::json!(warmed));
    } else {
        println!("{}", counted(&warmed));
    }
    Ok(())
}

/// Polls until none of them is queued or running.
async fn wait_for(site: &Site, builds: &mut [Listing]) -> Result<(), OperateError> {
    let bar = bar(builds.len(), "building");
    bar.enable_steady_tick(Duration::from_millis(200));
    loop {
        let mut open = 0;
        for build in builds.iter_mut().filter(|build| is_open(build)) {
            *build = site.carry_out(Order::Show(Named::Key(build.key.clone()))).await?.show()?.listing;
            open += usize::from(is_open(build));
        }
        bar.set_position((builds.len() - open) as u64);
        if open == 0 {
            bar.finish_and_clear();
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn is_open(build: &Listing) -> bool {
    matches!(build.state.as_str(), "queued" | "building")
}

/// "3 ready, 1 failed", then each failed build with its reason.
fn counted(builds: &[Listing]) -> String {
    let mut states = BTreeMap::<&str, usize>::new();
    builds.iter().for_each(|build| *states.entry(&build.state).or_default() += 1);
    let counts: Vec<_> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let failed = builds.iter().filter(|build| !is_open(build) && build.state != "ready");
    let failed = failed.map(|build| format!("\n{}: {}", builds::name(build), build.told));
    if counts.is_empty() { "nothing to build".to_owned() } else { counts.join(", ") + &failed.collect::<String>() }
}

fn read(file: &Path) -> Result<Vec<Target>, OperateError> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        let told = |error: std::io::Error| std::io::Error::new(error.kind(), format!("{}: {error}", file.display()));
        text = std::fs::read_to_string(file).map_err(told)?;
    }
    parse(&text).map_err(|(line, why)| OperateError::Line(line, why))
}

/// The targets of a list, or the number of its first invalid line. A line may begin with a count, as those of `binplz top` do.
fn parse(text: &str) -> Result<Vec<Target>, (usize, BadTarget)> {
    let lines = text.lines().map(|line| without_count(line.split('#').next().unwrap_or("").trim()));
    let wanted = lines.enumerate().filter(|(_, line)| !line.is_empty());
    wanted.map(|(number, line)| line.parse().map_err(|why| (number + 1, why))).collect()
}

fn without_count(line: &str) -> &str {
    match line.split_once(char::is_whitespace) {
        Some((count, target)) if count.bytes().all(|digit| digit.is_ascii_digit()) => target.trim_start(),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_comments_and_empty_lines_and_its_first_bad_line_is_named() {
        let text = "# what people use\ntree\n\n  procps/ps  # by its program\ntree?sys=aarch64-linux\n      12  -/bundle/7zz?full\n";
        let targets = parse(text).expect("a list");
        assert_eq!(
            targets.iter().map(Target::to_string).collect::<Vec<_>>(),
            ["tree", "procps/ps", "tree?sys=aarch64-linux", "-/bundle/7zz?full"]
        );
        assert!(parse(SEED).is_ok_and(|targets| !targets.is_empty()));
        assert_eq!(parse("tree\nnot a name\n").map_err(|(line, _)| line), Err(2));
    }

    #[test]
    fn the_cost_of_popular_programs_is_told_by_what_is_known_and_what_is_not() {
        let known = Forecast { ready: 3, missing: 9, known: 100, known_seconds: 36_000, ..Forecast::default() };
        assert_eq!(
            foretold(&Forecast {
                known_cost: Micros(1_500_000),
                unknown: 100,
                mean_seconds: Some(600),
                mean_cost: Some(Micros(20_000)),
                ..known
            }),
            "212 packages: 3 built, 9 not in this nixpkgs. 100 were built before, and take about 10 hours and $1.50, one after the other. \
             100 were never built: at the average of the others, they take about 17 hours and $2.00."
        );
        assert_eq!(
            foretold(&Forecast { unknown: 2, ..Forecast::default() }),
            "2 packages: 0 built, 0 not in this nixpkgs. 2 were never built: their duration is unknown."
        );
        assert!(parse(&single_files()).is_ok_and(|targets| (200..250).contains(&targets.len())));
    }
}
