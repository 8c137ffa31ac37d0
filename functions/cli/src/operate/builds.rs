//! `binplz list`, `show`, `why`, `log`, and the acts on one build.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    time::Duration,
};

use binplz_core::{
    build::{
        Attempt,
        failure::{Class, Failure, Kind},
        plan::about,
    },
    flow::operator::{
        inspect::{Current, Listing, Shown},
        orders::{Act, Named, Operator, Order},
    },
    id::{
        key::Product,
        target::Wanted,
        text::{bytes, span},
        time::Timestamp,
    },
};

use crate::{
    operate::{List, Log, One, OperateError, listed},
    site::Site,
};

/// The poll interval of `binplz log --follow`.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) async fn list(List { state, which, common }: List) -> Result<(), OperateError> {
    let filter = which.filter(state);
    let builds = listed(&common.which.find().await?, filter).await?;
    if common.json {
        println!("{}", serde_json::json!(builds));
    } else if builds.is_empty() {
        println!("No builds.");
    } else {
        print!("{}", table(&builds, binplz_clock::now()));
    }
    Ok(())
}

/// The shortest name that the commands accept for a build.
pub(crate) fn name(listing: &Listing) -> String {
    listing.target.clone().unwrap_or_else(|| listing.key.to_string())
}

/// The target of a product: `tree`, `-/bundle/tree`.
pub(crate) fn target(product: &Product) -> String {
    Wanted::of(product).map_or_else(|| product.to_string(), |wanted| wanted.to_string())
}

/// One line per build.
fn table(builds: &[Listing], now: Timestamp) -> String {
    let names: Vec<_> = builds.iter().map(name).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for (build, name) in builds.iter().zip(names) {
        let line = format!("{:12}  {name:width$}  {:>10}  {}", build.state, span(now - build.since), build.told);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

pub(crate) async fn act(One { of, common }: One, act: Act) -> Result<(), OperateError> {
    let build = common.which.find().await?.carry_out(Order::Build { of, act }).await?.build()?;
    if common.json {
        println!("{}", serde_json::json!(build));
    } else {
        println!("{} {}", name(&build), done(act));
    }
    Ok(())
}

fn done(act: Act) -> &'static str {
    match act {
        Act::Retry => "is queued",
        Act::Rebuild => "is queued; its current programs are served until it is built",
        Act::Warm => "is queued, behind all requested builds",
        Act::Forget => "is forgotten; the next request starts a new build",
        Act::Cancel => "is cancelled; the next request starts a new build",
    }
}

pub(crate) async fn show(one: One) -> Result<(), OperateError> {
    tell(one, all).await
}

pub(crate) async fn why(one: One) -> Result<(), OperateError> {
    tell(one, reason).await
}

async fn tell(One { of, common }: One, told: fn(&Shown, Timestamp) -> String) -> Result<(), OperateError> {
    let shown = common.which.find().await?.carry_out(Order::Show(of)).await?.show()?;
    if common.json {
        println!("{}", serde_json::json!(shown));
    } else {
        print!("{}", told(&shown, binplz_clock::now()));
    }
    Ok(())
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{name:<10}{value}");
}

/// All details of a build, in lines.
fn all(shown: &Shown, now: Timestamp) -> String {
    let Shown { listing, current, estimate_seconds, allowed_seconds, history, cost, past, notes, log, .. } = shown;
    let mut text = String::new();
    line(&mut text, "build", &listing.key.to_string());
    let since = span(now - listing.since);
    line(&mut text, "state", &format!("{}, for {since}", listing.state));
    if !listing.told.is_empty() {
        line(&mut text, "", &listing.told);
    }
    if let Some(seconds) = estimate_seconds {
        line(&mut text, "ready in", &format!("about {}", about(Duration::from_secs(*seconds))));
    }
    if let Some(past) = past {
        let memory = past.memory.map_or(String::new(), |memory| format!(", {} of memory", bytes(memory)));
        let took = span(Duration::from_secs(past.seconds));
        line(&mut text, "last time", &format!("{took}, {} derivations built{memory}", past.derivations));
    }
    if let Some(plan) = current.as_ref().and_then(|current| current.plan).or(history.last().and_then(|last| last.plan))
    {
        line(&mut text, "plan", &plan.to_string());
    }
    if let Some(seconds) = allowed_seconds {
        line(&mut text, "limit", &format!("{} (binplz allow)", about(Duration::from_secs(*seconds))));
    }
    for attempt in history {
        line(&mut text, &format!("attempt {}", attempt.number), &ended(attempt, now));
    }
    if let Some(cost) = cost {
        line(&mut text, "cost", &cost.to_string());
    }
    if let Some(Current { attempt, size, claimed, task, .. }) = current {
        let task = task.as_ref().map_or(String::new(), |task| format!(", task {task}"));
        line(&mut text, &format!("attempt {attempt}"), &format!("for {} on {size}{task}", span(now - *claimed)));
    }
    for (program, note) in notes {
        line(&mut text, "note", &format!("{program}: {note}"));
    }
    if let Some(log) = log {
        line(&mut text, "log", log);
    }
    text
}

/// The result of an attempt.
fn ended(attempt: &Attempt, now: Timestamp) -> String {
    let how = match (&attempt.failure, &attempt.left, &attempt.seen_in) {
        (Some(failure), _, Some(other)) => format!("{}; {} had hit this failure before", failure.sentence(), other.key),
        (Some(failure), ..) if attempt.continued => {
            format!("{}; {} derivations built; continued", failure.sentence(), attempt.stats.built)
        }
        (Some(failure), ..) => failure.sentence(),
        (None, Some(_), _) => "followed another build of the same derivation".to_owned(),
        _ if attempt.awaited.is_some() => "waited for a dependency of another build".to_owned(),
        (None, None, _) => "ready".to_owned(),
    };
    let memory = attempt.stats.memory.map_or(String::new(), |memory| format!(", {} of memory", bytes(memory)));
    let task = attempt.task.as_ref().map_or(String::new(), |task| format!(", task {task}"));
    let (ago, took) = (span(now - attempt.ended), span(attempt.ended - attempt.claimed));
    format!("{how} ({ago} ago, after {took} on {}{memory}{task})", attempt.size)
}

/// Why a build failed, and what to do.
fn reason(shown: &Shown, now: Timestamp) -> String {
    let of = name(&shown.listing);
    let Some(failure) = &shown.failure else {
        return format!("{of} has not failed; its state is {}\n", shown.listing.state);
    };
    let mut text = format!("{of}: {}\n", failure.sentence());
    if !failure.lines.is_empty() {
        let whose = failure.derivation.as_ref().map_or(String::new(), |name| format!(" of {name}"));
        let _ = writeln!(text, "\nIts last lines{whose}:");
        failure.lines.iter().for_each(|line| text.push_str(&format!("    {line}\n")));
    }
    let _ = writeln!(text, "\n{}", advice(failure, shown, now));
    let _ = writeln!(text, "The whole log: binplz log '{of}'");
    text
}

fn advice(failure: &Failure, shown: &Shown, now: Timestamp) -> String {
    let of = name(&shown.listing);
    let again = format!("binplz retry '{of}'");
    match (failure.kind.class(), shown.until) {
        _ if shown.listing.state != "failed" && shown.until.is_none() => {
            format!("It is {} again: the retry is automatic.", shown.listing.state)
        }
        _ if failure.kind == Kind::TooLong => format!("To allow it more time: binplz allow '{of}' --hours N"),
        (Class::Permanent, _)
            if failure.kind == Kind::TimedOut && shown.history.last().is_some_and(|last| last.stats.built > 0) =>
        {
            format!(
                "The build is incomplete, and has reached a limit. To continue it, with higher limits or the same ones: {again}"
            )
        }
        (Class::Permanent, _) => {
            format!("A retry would fail again, so binplz does not retry it. If you have fixed the cause: {again}")
        }
        (Class::Transient | Class::TransientLarger | Class::Launcher, Some(until)) => {
            let rest = if until > now { format!("after {}", span(until - now)) } else { "now".to_owned() };
            format!("The failure may be temporary. A request {rest} starts the build again. To retry at once: {again}")
        }
        (Class::Transient | Class::TransientLarger | Class::Launcher, None) => {
            format!("The failure may be temporary. To retry: {again}")
        }
        (Class::Deployment, _) => format!("No builder can build it yet. Once there is one: {again}"),
        (Class::Operator, _) => {
            format!(
                "You have to fix the cause first. Then: {again}; if builds are paused (binplz status), also: binplz resume"
            )
        }
    }
}

/// Waits until the build has started: until then its log is that of the previous attempt. `false`: it was not queued.
async fn until_it_begins(site: &Site, of: &Named) -> Result<bool, OperateError> {
    let (mut told, mut waited) = (String::new(), false);
    loop {
        let build = site.carry_out(Order::Show(of.clone())).await?.show()?.listing;
        if build.state != "queued" {
            return Ok(waited);
        }
        waited = true;
        if build.told != told {
            eprintln!("binplz: {}", build.told);
            told = build.told;
        }
        tokio::time::sleep(LOOK).await;
    }
}

pub(crate) async fn log(Log { follow, one: One { of, common } }: Log) -> Result<(), OperateError> {
    let site = common.which.find().await?;
    if follow {
        until_it_begins(&site, &of).await?;
    }
    let mut from = 1;
    loop {
        let part = site.carry_out(Order::Log { of: of.clone(), from }).await?.log()?;
        if common.json && (!part.text.is_empty() || part.complete) {
            println!("{}", serde_json::json!(part));
        } else {
            print!("{}", part.text);
            io::stdout().flush()?;
        }
        let more = part.next > from;
        from = part.next;
        if part.complete && follow && until_it_begins(&site, &of).await? {
            // It was queued again: now the log is that of the next attempt.
            from = 1;
            continue;
        }
        if part.complete || !(more || follow) {
            return Ok(());
        }
        if !more {
            tokio::time::sleep(LOOK).await;
        }
    }
}
