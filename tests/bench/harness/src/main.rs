//! Measures functions that do one job: an HTTP API's event asks for a program that is there; one row is read from DynamoDB; a
//! presigned URL is answered as a 302. Lambda's runtime API and DynamoDB are played here, over the same kernel and the
//! same processor, so that what differs is the function.
//!
//! ```text
//! binplz-bench-harness ROOT SCRATCH CANDIDATE…     ROOT: the repository; CANDIDATE: a directory with a `bootstrap`, and its .zip beside it
//! ```
//!
//! LIVES, WARM_LIVES and WARM_INVOCATIONS in the environment change the numbers, and BENCH_ROWS names a file for
//! `tests/bench/report`. Candidates take turns.

mod dynamo;
mod job;
mod life;
mod runtime;
mod sigv4;
mod table;

use std::{env, fs::OpenOptions, io::Write, path::PathBuf, str::FromStr};

use dynamo::Dynamo;
use job::Job;
use life::{Candidate, Life};
use runtime::Runtime;
use table::{Numbers, Sample, Warm};

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Invocations that warm a life up before its measured ones: what compiles while it runs has then seen the path.
const UNMEASURED: usize = 200;

/// What a life needs around it.
struct World {
    job: Job,
    dynamo: Dynamo,
    runtime: Runtime,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Fallible<()> {
    let mut paths = env::args_os().skip(1).map(PathBuf::from);
    let (root, scratch) = paths.next().zip(paths.next()).ok_or("ROOT SCRATCH CANDIDATE…")?;
    let candidates = paths.map(Candidate::open).collect::<Fallible<Vec<_>>>()?;
    let job = Job::read(&root)?;
    let (lives, warm_lives) = (number("LIVES", 30)?, number("WARM_LIVES", 5)?);
    let invocations = number("WARM_INVOCATIONS", 2000)?;
    let dynamo = Dynamo::start(&scratch, job.table()).await?;
    let mut world = World { dynamo, runtime: Runtime::start().await?, job };

    let mut samples: Vec<Sample> = candidates.iter().map(Sample::of).collect();
    for life in 1..=lives {
        for (candidate, sample) in candidates.iter().zip(&mut samples) {
            cold(&mut world, candidate, sample).await.map_err(|error| format!("{}: {error}", candidate.name))?;
        }
        eprintln!("bench: lambda: life {life} of {lives}");
    }
    for life in 1..=warm_lives {
        for (candidate, sample) in candidates.iter().zip(&mut samples) {
            let warm = warm(&mut world, candidate, invocations).await;
            sample.warm.push(warm.map_err(|error| format!("{}: {error}", candidate.name))?);
        }
        eprintln!("bench: lambda: warm {life} of {warm_lives}");
    }
    if let Some(file) = env::var_os("BENCH_ROWS") {
        OpenOptions::new().append(true).create(true).open(file)?.write_all(table::rows(&samples).as_bytes())?;
    }
    print!("{}", table::print(&samples, &Numbers { lives, warm_lives, invocations }));
    Ok(())
}

fn number<T: FromStr>(name: &str, default: T) -> Fallible<T> {
    let Ok(text) = env::var(name) else { return Ok(default) };
    text.parse().map_err(|_| format!("{name} is no number: {text}").into())
}

/// One life of one event.
async fn cold(world: &mut World, candidate: &Candidate, sample: &mut Sample) -> Fallible<()> {
    let mut life = Life::begin(world, candidate).await?;
    sample.init.push(life.init);
    sample.first.push(life.invoke().await?);
    sample.reads_before.push(life.end(1).await?);
    Ok(())
}

/// One life of many.
async fn warm(world: &mut World, candidate: &Candidate, invocations: usize) -> Fallible<Warm> {
    let mut life = Life::begin(world, candidate).await?;
    for _ in 0..UNMEASURED {
        life.invoke().await?;
    }
    let before = life.processor_time()?;
    let mut took = Vec::with_capacity(invocations);
    for _ in 0..invocations {
        took.push(life.invoke().await?);
    }
    let processor = life.processor_time()? - before;
    let resident = life.resident_bytes()?;
    life.end(UNMEASURED + invocations).await?;
    Ok(Warm::new(took, processor, resident))
}
