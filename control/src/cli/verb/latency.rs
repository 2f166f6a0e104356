//! `tidegate latency`: how long packets stayed.

use crate::admin::Client;
use crate::admin::report::LatencyReport;
use crate::cli::output::{print, print_on, to_json};
use crate::cli::view;
use crate::fault::{Exit, Fault};
use crate::latency::hlog::last_interval;
use clap::{Args, ValueEnum};
use core::time::Duration;

/// `--follow` looks for a new interval this often: twice in the shortest one.
const LOOK: Duration = Duration::from_millis(500);

/// Arguments of `tidegate latency`.
#[derive(Debug, Args)]
pub struct LatencyArgs {
    /// Begin anew: forget what was measured so far
    #[arg(long, conflicts_with_all = ["output", "stage", "kind", "window", "follow"])]
    reset: bool,
    /// Form of the answer
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: LatencyFormat,
    /// Stage of the percentile distribution or interval log
    #[arg(long, default_value = "total")]
    stage: StageName,
    /// Kind of packets of the percentile distribution or interval log
    #[arg(long, default_value = "all")]
    kind: KindName,
    /// Only what was measured in the last time, as 10s; the last 300 intervals are kept
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    window: Option<Duration>,
    /// Go on with every new interval, until interrupted
    #[arg(long, conflicts_with = "window")]
    follow: bool,
}

/// Forms of the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LatencyFormat {
    /// For people.
    Table,
    /// `HdrHistogram`'s percentile distribution of one stage, microseconds; plotters read it.
    Hgrm,
    /// `HdrHistogram`'s log of intervals, one line for each worker, nanoseconds.
    Hlog,
    /// JSON.
    Json,
}

/// Names of the stages, as the daemon takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StageName {
    /// XDP program to worker.
    QueueWait,
    /// Worker to transmit ring.
    Forwarding,
    /// Both.
    Total,
}

/// Names of the kinds of packets, as the daemon takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KindName {
    /// All of them.
    All,
    /// The first of each flow.
    NewFlow,
    /// Later ones from clients.
    Established,
    /// Those from backends.
    Reply,
}

/// Prints the figures, or begins anew.
///
/// # Errors
/// The daemon is not reachable, or a distribution is to be followed.
pub async fn run(client: &Client, args: LatencyArgs) -> Result<(), Fault> {
    if args.reset {
        return Ok(client.post("/api/v1/latency/reset").await?);
    }
    match args.output {
        LatencyFormat::Hgrm if args.follow => {
            let what = "a percentile distribution cannot be followed";
            Err(Fault::new(Exit::Usage, what).fix("tidegate latency --follow -o hlog, or json"))
        }
        LatencyFormat::Hgrm => print(&client.get_text(&path("hgrm", &args, None)).await?),
        LatencyFormat::Hlog => log(client, &args).await,
        LatencyFormat::Table | LatencyFormat::Json => figures(client, &args).await,
    }
}

fn path(form: &str, args: &LatencyArgs, after: Option<u64>) -> String {
    let word = |value: Option<clap::builder::PossibleValue>| {
        value.map(|value| value.get_name().to_owned()).unwrap_or_default()
    };
    let stage = word(args.stage.to_possible_value());
    let kind = word(args.kind.to_possible_value());
    let path = format!("/api/v1/latency.{form}?stage={stage}&kind={kind}");
    let window = args.window.map(|window| format!("&window={}ms", window.as_millis()));
    let after = after.map(|after| format!("&after={after}"));
    path + &window.unwrap_or_default() + &after.unwrap_or_default()
}

async fn figures(client: &Client, args: &LatencyArgs) -> Result<(), Fault> {
    let mut after = None;
    loop {
        let report: LatencyReport = client.get(&path("json", args, after)).await?;
        let is_new = after.is_none_or(|after| report.last_interval != after);
        let is_read = !is_new || print_on(&form(&report, args, after.is_some())?)?;
        // Where nothing is measured there is nothing to wait for.
        if !args.follow || !is_read || report.sampled_every == 0 {
            return Ok(());
        }
        after = Some(report.last_interval);
        tokio::time::sleep(LOOK).await;
    }
}

/// Followed JSON is one line for each interval.
fn form(report: &LatencyReport, args: &LatencyArgs, is_further: bool) -> Result<String, Fault> {
    match args.output {
        LatencyFormat::Json if args.follow => {
            let line = serde_json::to_string(report);
            let line = line.map_err(|e| Fault::from_error(Exit::Failed, "write JSON", &e))?;
            Ok(line + "\n")
        }
        LatencyFormat::Json => to_json(report),
        _ if is_further => Ok(format!("\n{}", view::latency::screen(report))),
        _ => Ok(view::latency::screen(report)),
    }
}

async fn log(client: &Client, args: &LatencyArgs) -> Result<(), Fault> {
    let mut after = None;
    loop {
        let text = client.get_text(&path("hlog", args, after)).await?;
        // Times count from the first interval of each answer: a head belongs to each.
        let last = last_interval(&text);
        let is_new = after.is_none() || last.is_some();
        if (is_new && !print_on(&text)?) || !args.follow {
            return Ok(());
        }
        after = last.or(after).or(Some(0));
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: LatencyArgs,
    }

    #[test]
    fn what_is_wanted_is_asked_for_in_the_daemons_words() {
        let words = ["latency", "--stage", "queue-wait", "--kind", "new-flow", "--window", "2s"];
        let args = Line::parse_from(words).args;
        let asked = path("hlog", &args, Some(7));
        let expected = "/api/v1/latency.hlog?stage=queue-wait&kind=new-flow&window=2000ms&after=7";
        assert_eq!(asked, expected);
        assert!(Line::try_parse_from(["latency", "--reset", "--follow"]).is_err());
    }
}
