//! `tidegate-bench report`.

use super::data::Results;
use super::{markdown, page, plot};
use crate::report;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// What to make of the results.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Folder of the results; report.html is written there
    #[arg(default_value = report::FOLDER)]
    folder: PathBuf,
    /// Only print the summary table for the README, as Markdown
    #[arg(long)]
    markdown: bool,
    /// Also write throughput.svg and latency.svg to this folder
    #[arg(long)]
    images: Option<PathBuf>,
}

impl Default for Args {
    fn default() -> Self {
        Self { folder: report::FOLDER.into(), markdown: false, images: None }
    }
}

/// Reads the results and writes what was asked for.
pub(crate) fn run(args: &Args) -> Result<()> {
    let results = Results::read(&args.folder)?;
    if let Some(folder) = &args.images {
        images(&results, folder)?;
    }
    if args.markdown {
        return report::print(&markdown::summary(&results));
    }
    let path = args.folder.join("report.html");
    write(&path, &page::render(&results)?)
}

fn images(results: &Results, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let plots = [("throughput", plot::throughput(results)?), ("latency", plot::latency(results)?)];
    for (name, svg) in plots {
        let path = folder.join(format!("{name}.svg"));
        match svg {
            Some(svg) => write(&path, &svg)?,
            None => report::progress(&format!("no {name}.svg: its figures are missing")),
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    report::progress(&format!("Written to {}.", path.display()));
    Ok(())
}
