//! The command line's grammar.

use crate::cli::output::Format;
use crate::cli::verb::{completion, config, explain, explain_drop, get, latency, run};
use crate::demo;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// NodePort front end of a Kubernetes cluster, on `AF_XDP`.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, max_term_width = 100, propagate_version = false)]
pub struct Cli {
    /// What every command understands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Socket of the daemon to ask
    #[arg(long, global = true, value_name = "PATH", env = "TIDEGATE_SOCKET")]
    #[arg(default_value = "/run/tidegate/admin.sock")]
    pub socket: PathBuf,
    /// Say more: debug messages on stderr
    #[arg(short, long, global = true, env = "TIDEGATE_VERBOSE", conflicts_with = "quiet")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub verbose: bool,
    /// Say less: warnings and errors alone on stderr
    #[arg(short, long, global = true, env = "TIDEGATE_QUIET")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub quiet: bool,
}

/// How a report is shown.
#[derive(Debug, Args)]
pub struct Output {
    /// Form of the answer
    #[arg(short, long, value_name = "FORM", env = "TIDEGATE_OUTPUT", default_value = "table")]
    pub output: Format,
    /// Leave out the table's head
    #[arg(long)]
    pub no_headers: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon
    Run(run::RunArgs),
    /// Show it: namespaces, real servers, real traffic, and where every packet went
    Demo(demo::DemoArgs),
    /// One screen: ready, interfaces, sum of packets, warnings
    Status(StatusArgs),
    /// List what the daemon has
    Get(get::GetArgs),
    /// Percentiles of the time that packets spent in tidegate
    Latency(latency::LatencyArgs),
    /// Check the configuration file, show its defaults or its schema
    Config(config::ConfigArgs),
    /// What a packet would meet, and why: asked of the daemon, or of manifests
    Explain(explain::ExplainArgs),
    /// What a drop reason means, and what to do next
    ExplainDrop(explain_drop::ExplainDropArgs),
    /// Version of this binary, and of the daemon where one runs
    Version,
    /// A server of the demo's pods
    #[command(hide = true)]
    DemoPod(demo::PodArgs),
    /// Completions for a shell, to stdout
    Completion(completion::CompletionArgs),
}

/// Arguments of `tidegate status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Form of the answer
    #[arg(short, long, value_name = "FORM", env = "TIDEGATE_OUTPUT", default_value = "table")]
    pub output: StatusFormat,
}

/// Forms of the one screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum StatusFormat {
    /// For people.
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn kubectl_habits_parse() {
        for line in [
            "get svc -n shop -o json",
            "get services -A --no-headers",
            "get be -o wide",
            "get endpoints -A -o wide",
            "get ep -n shop",
            "get events -o yaml",
            "get fl --limit 5",
            "get if --socket /tmp/s",
            "get wk -o yaml",
            "get dr -o name -v",
            "latency --reset",
            "latency -o hgrm --stage queue-wait",
            "config check /etc/tidegate/config.yaml",
            "run --config /etc/tidegate/config.yaml -q",
            "explain-drop FLOW_TABLE_FULL",
            "explain tcp 198.51.100.7:41522 203.0.113.10:30080 -o json",
            "explain --state s --node n --node-ip ::1 UDP [2001:db8::1]:1 [2001:db8::2]:2",
            "explain --state s --node n --flows -",
        ] {
            let words = format!("tidegate {line}");
            let parsed = Cli::try_parse_from(words.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn quiet_and_verbose_exclude_each_other() {
        assert!(Cli::try_parse_from(["tidegate", "status", "-q", "-v"]).is_err());
    }
}
